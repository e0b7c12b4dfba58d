"""Layouts of benchmarks of intuitive physics: one file each, with `is_layout` and `read`."""
