"""Which frames are kept; pure arithmetic on times."""
