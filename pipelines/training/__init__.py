"""`train`, `eval` and `predict`."""
