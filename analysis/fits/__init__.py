"""Curves through any data: models, fits, model choice, predictions."""
