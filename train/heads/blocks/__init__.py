"""Parts that heads share; none is a head."""
