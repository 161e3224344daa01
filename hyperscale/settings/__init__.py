"""The kinds of setting: what a trial does."""
