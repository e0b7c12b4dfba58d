"""Data sets with dense labels, each in the layout in which it is published."""
