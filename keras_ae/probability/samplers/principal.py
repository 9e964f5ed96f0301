"""Densities of codes of many numbers, by the principal components of these."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.probability.distributions import LOG_2_PI, Seed, float32
from keras_ae.probability.samplers.density import Wrapping
from keras_ae.probability.samplers.mixture import _FLOOR, _check_codes, fit_mixture

# Codes of more numbers have covariances that few of them tell, and that fill a file.
MANY = 128
# Share of the variance that components hold, if so many do.
_SHARE = 0.99
# Steps by which the components are found, and how many are looked for beside them.
_POWER_STEPS, _BESIDE = 4, 8


class Principal(Wrapping):
    """A density of the principal components of codes; what is left is normal noise.

        z = mean + axes y + ε,  y ~ q(y),  ε ~ N(0, stddev²) across the axes

    Args:
        density: q, a distribution of codes of `components` numbers.
        components: Number of principal components.

    Reference:
        Tipping and Bishop, Probabilistic Principal Component Analysis, 1999
        (https://doi.org/10.1111/1467-9868.00196).
    """

    def __init__(self, density: Any, components: int, **kwargs):
        super().__init__(density, **kwargs)
        self.components = components

    def build(self, input_shape):
        dim = input_shape[-1]

        def weight(name, *shape):
            return self.add_weight(
                name=name, shape=shape, initializer="zeros", trainable=False
            )

        self._latent_dim = dim
        self.mean = weight("mean", dim)
        self.axes = weight("axes", dim, self.components)
        self.stddev = weight("stddev")
        self.built = True

    def log_prob(self, z):
        z = float32(z) - float32(self.mean)
        y = ops.matmul(z, float32(self.axes))
        left = ops.sum(ops.square(z), axis=-1) - ops.sum(ops.square(y), axis=-1)
        stddev = float32(self.stddev)
        each = ops.log(stddev) + 0.5 * LOG_2_PI
        noise = -0.5 * left / ops.square(stddev) - self._across * each
        return self.density.log_prob(y) + noise

    def sample(self, shape: Sequence[int], seed: Seed = None):
        if not isinstance(seed, keras.random.SeedGenerator):
            # Two draws from one integer would be correlated.
            seed = keras.random.SeedGenerator(seed)
        y = self.density.sample((*shape[:-1], self.components), seed)
        axes = float32(self.axes)
        noise = keras.random.normal(shape, dtype="float32", seed=seed)
        noise = noise - ops.matmul(ops.matmul(noise, axes), ops.transpose(axes))
        drawn = ops.matmul(y, ops.transpose(axes)) + float32(self.stddev) * noise
        return float32(self.mean) + drawn

    @property
    def _across(self):
        """Number of dimensions that are noise."""
        return self._latent_dim - self.components

    def get_config(self):
        return {**super().get_config(), "components": self.components}


def fit_principal(
    codes: Any, components: int = 1, seed: int = 0, **options
) -> Principal:
    """Fits a mixture of normal distributions to the principal components of codes.

    As many as hold 0.99 of the variance, but no more than 128 and than a quarter of the
    codes.

    Args:
        codes: Array `(n, latent_dim)` of more than 128 numbers a code.
        components: Of the mixture, as all other arguments are `fit_mixture`'s.
        seed: Integer >= 0.
        **options: As for `fit_mixture`.

    Returns:
        The fitted distribution.

    Raises:
        ValueError: As `fit_mixture`.
    """
    codes = _check_codes(codes)
    mean = codes.mean(axis=0)
    centred = codes - mean
    axes = _axes(centred, max(1, min(MANY, len(codes) // 4)))
    held = np.square(centred @ axes).mean(axis=0)  # (components,)
    total = np.square(centred).mean(axis=0).sum()
    enough = np.searchsorted(np.cumsum(held), _SHARE * total) + 1
    axes, held = axes[:, :enough], held[:enough]
    mixture = fit_mixture(centred @ axes, components, seed, **options)
    fitted = Principal(mixture, axes.shape[1])
    fitted.build((None, codes.shape[1]))
    fitted.mean.assign(mean)
    fitted.axes.assign(axes)
    left = max(total - held.sum(), 0.0) / fitted._across
    fitted.stddev.assign(np.sqrt(left + _FLOOR * total / codes.shape[1]))
    return fitted


def _axes(centred, count):
    """The directions of most variance, `(latent_dim, count)`, by subspace iteration."""
    noise = np.random.default_rng(0).normal(size=(len(centred), count + _BESIDE))
    axes = centred.T @ noise
    for _ in range(_POWER_STEPS):
        axes = np.linalg.qr(axes)[0]
        axes = centred.T @ (centred @ axes)
    axes = np.linalg.qr(axes)[0]
    # Within the subspace, exactly.
    _, _, turn = np.linalg.svd(centred @ axes, full_matrices=False)
    return (axes @ turn.T)[:, :count]
