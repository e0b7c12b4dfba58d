"""The verbs of `jepa plan` and what they write."""
