"""Where a head looks, drawn."""
