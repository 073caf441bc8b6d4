"""`extract` and `plan`: from a source to a store."""
