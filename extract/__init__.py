"""Stage 1: video to cubes. Decodes, runs a frozen backbone, writes to a feature store."""
