"""Models whose code has a distribution."""
