"""Keeping what was computed: the journal is the truth, MLflow is its view."""
