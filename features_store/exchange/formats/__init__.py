"""Layouts of others, one file each."""
