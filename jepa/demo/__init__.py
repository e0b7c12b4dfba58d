"""`jepa demo`: from nothing to goals reached, on a CPU, in a few minutes."""
