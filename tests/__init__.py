"""Tests of hyperscale and analysis."""
