"""`bench` and `doctor`."""
