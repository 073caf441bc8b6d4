"""Where and how long units run."""
