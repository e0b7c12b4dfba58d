"""Importers: data sets of other programs become trajectory shards. One file each, see `base`.

Importing this package imports no library that reads those data sets.
"""
