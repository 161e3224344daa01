"""Tests of stores at URLs."""
