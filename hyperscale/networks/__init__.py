"""Fully connected networks in stacked form: many members at once, each with its own parameters."""
