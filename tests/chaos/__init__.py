"""Extraction by many workers while processes are killed, stopped and cut off at random."""
