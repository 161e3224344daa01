"""Faults at random moments of a study whose outcomes are known, and what they cost."""
