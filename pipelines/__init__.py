"""Command line and recipes: what puts `extract`, `features_store` and `train` together."""
