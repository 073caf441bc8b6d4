"""Statistics over stores that are larger than memory: lazy arrays, mean, variance, PCA."""
