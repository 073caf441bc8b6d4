"""What is done to whole stores: verify, repair, merge, convert, compare."""
