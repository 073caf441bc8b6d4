"""`manifest`: checks, splits, counts."""
