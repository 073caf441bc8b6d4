"""What this machine computes with: devices, compiling, calibration, the golden clip."""
