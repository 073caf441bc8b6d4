"""Which frames are kept; pure arithmetic on times. A kind of sampling is the file of its name."""
