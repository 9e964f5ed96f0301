"""How a model is fed and trained."""
