"""Statistics over stores of any size: lazy arrays, and what is computed on them."""
