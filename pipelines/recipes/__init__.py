"""Whole jobs: the demo, the papers' numbers."""
