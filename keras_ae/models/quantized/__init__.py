"""Models whose code is of a codebook."""
