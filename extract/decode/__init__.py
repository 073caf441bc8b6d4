"""Videos decoded in child processes: a crash or a hang costs one video."""
