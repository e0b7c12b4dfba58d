"""Labelled data as clips to evaluate on: the same rows each time, whatever order they are asked in.

Importing this package imports no torch.
"""
