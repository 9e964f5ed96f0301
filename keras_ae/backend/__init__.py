"""What TensorFlow, JAX and PyTorch do each in its own way."""
