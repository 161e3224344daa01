"""Benchmarks: each writes a table, with the machine and the command, beside its script. Timings are never asserted."""
