"""One shard: written, sealed, read, copied."""
