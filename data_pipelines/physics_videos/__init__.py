"""Possible and impossible videos: made with a physics engine, or read from the usual benchmarks."""
