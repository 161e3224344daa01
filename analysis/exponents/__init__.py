"""Exponents of envelopes: estimators, intervals, calibration, decisions on rates."""
