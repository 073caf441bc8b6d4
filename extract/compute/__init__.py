"""Frames to cubes: batches, devices, precision, compiling."""
