"""Checkpoints in and out: foreign names stop at this door."""
