"""Targets y(x, I): what the methods are fitted to."""
