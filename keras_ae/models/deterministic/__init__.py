"""Models whose code is a point."""
