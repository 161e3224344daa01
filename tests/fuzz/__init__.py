"""Mutated inputs: every one ends in a right answer or a clear error. `make fuzz` runs ten thousand of them."""
