"""Executors that train packs, and the launch that feeds them and keeps what they return."""
