"""What an impossible video violates: one file each, with one function `matched_set`."""
