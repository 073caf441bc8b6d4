"""The training loop and what it is told."""
