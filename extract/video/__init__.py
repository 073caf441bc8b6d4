"""One untrusted video file: packets, times, geometry, colours, frames."""
