"""Experts: policies that know a way to the goal, from the true state."""
