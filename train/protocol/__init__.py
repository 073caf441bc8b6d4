"""Splits, selection, results: from fits to honest numbers."""
