"""The models. `__all__` is the registry."""

from keras_ae.models.deterministic import AE
from keras_ae.models.variational import VAE

__all__ = ["AE", "VAE"]
