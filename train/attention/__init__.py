"""Attention looked for instead of computed."""
