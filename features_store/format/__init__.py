"""What stands in a shard, and how it lies there."""
