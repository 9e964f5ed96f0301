"""What every model is: its verbs, its samples, its training."""
