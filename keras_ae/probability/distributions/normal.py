"""Normal distributions, and what all distributions share."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_ae.checks import check_numbers
from keras_ae.probability.distributions.registered import Registered

Seed: TypeAlias = int | keras.random.SeedGenerator | None
LOG_2_PI = math.log(2.0 * math.pi)


def _is_plain(value) -> bool:
    return isinstance(value, int | float | list | tuple | np.ndarray | np.generic)


def _plain(value):
    """Numbers and nested lists of what may be, or hold, arrays or tensors."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if not _is_plain(value):
        value = ops.convert_to_numpy(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def float32(value):
    if _is_plain(value):
        value = np.asarray(value, "float32")
    return ops.cast(value, "float32")


def _check_positive(name: str, value) -> None:
    numbers = check_numbers(name, value)
    if not np.all((numbers > 0) & np.isfinite(numbers)):
        raise ValueError(f"`{name}` must be > 0 and finite. Received: {name}={value}")


def _check_finite(name: str, value) -> None:
    if not np.all(np.isfinite(check_numbers(name, value))):
        raise ValueError(f"`{name}` must be finite. Received: {name}={value}")


def _check_sample_shape(shape: Sequence[int], latent_dim: int | None) -> None:
    if latent_dim is not None and (
        len(shape) == 0 or (isinstance(shape[-1], int) and shape[-1] != latent_dim)
    ):
        raise ValueError(
            f"`shape` must end in latent_dim={latent_dim}. Received: shape={shape}"
        )


class Normal(Registered):
    """Normal distribution with diagonal covariance.

    Args:
        mean: Number, list (one mean per latent dimension) or tensor
            `(batch, latent_dim)`.
        stddev: Standard deviation, > 0, in any of these forms.

    Raises:
        ValueError: If `mean` and `stddev` are no numbers, not finite, or of shapes that
            do not agree, or a standard deviation is not > 0.

    Example:

    >>> prior = keras_ae.distributions.Normal(mean=0.0, stddev=0.01)
    >>> z = prior.sample((5, 2), seed=0)
    >>> prior.log_prob(z).shape
    (5,)
    """

    def __init__(self, mean: Any = 0.0, stddev: Any = 1.0):
        # The values of a tensor may not be known yet.
        if _is_plain(mean) or not hasattr(mean, "shape"):
            _check_finite("mean", mean)
        if _is_plain(stddev) or not hasattr(stddev, "shape"):
            _check_positive("stddev", stddev)
        if _is_plain(mean) and _is_plain(stddev):
            try:
                np.broadcast_shapes(np.shape(mean), np.shape(stddev))
            except ValueError:
                raise ValueError(
                    "`mean` and `stddev` must have one value per latent dimension. "
                    f"Received: shapes {np.shape(mean)} and {np.shape(stddev)}"
                ) from None
        self._mean = mean
        self._stddev = stddev
        self._log_var = None

    @classmethod
    def from_log_var(cls, mean: Any, log_var: Any) -> "Normal":
        """Makes a normal distribution from its log-variance, as an encoder gives it."""
        normal = cls(mean)
        normal._stddev = None
        normal._log_var = log_var
        return normal

    @property
    def mean(self):
        return float32(self._mean)

    @property
    def stddev(self):
        if self._stddev is None:
            return ops.exp(0.5 * self.log_var)
        return float32(self._stddev)

    @property
    def log_var(self):
        if self._log_var is not None:
            return float32(self._log_var)
        if _is_plain(self._stddev):
            return float32(2.0 * np.log(np.asarray(self._stddev, "float64")))
        return 2.0 * ops.log(self.stddev)

    @property
    def latent_dim(self) -> int | None:
        """Number of latent dimensions, or `None` for one distribution on all."""
        spread = self._stddev if self._log_var is None else self._log_var
        shapes = [
            np.shape(value) if _is_plain(value) else tuple(value.shape)
            for value in (self._mean, spread)
        ]
        return max((shape[-1] for shape in shapes if len(shape)), default=None)

    def log_prob(self, z):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        return ops.sum(self.elementwise_log_prob(z), axis=-1)

    def elementwise_log_prob(self, z):
        """Returns log p(z_j) of each latent dimension, of the shape of z, in nats."""
        z = float32(z)
        log_var = self.log_var
        # The square comes last: exp(-log_var) would overflow at half the range.
        standardized = (z - self.mean) * ops.exp(-0.5 * log_var)
        return -0.5 * (ops.square(standardized) + log_var + LOG_2_PI)

    def sample(self, shape: Sequence[int] | None = None, seed: Seed = None):
        """Draws mean + stddev ε with ε ~ N(0, I), so that gradients pass through.

        Args:
            shape: Shape of the result, `(..., latent_dim)`. Defaults to the shape of
                `mean` and `stddev`, one code for each.
            seed: Integer or `keras.random.SeedGenerator`.
        """
        mean, stddev = self.mean, self.stddev
        if shape is None:
            shape = ops.shape(mean + stddev)
        else:
            _check_sample_shape(shape, self.latent_dim)
        return mean + stddev * keras.random.normal(shape, dtype="float32", seed=seed)

    def draw(self, noise):
        """Returns the codes of given standard normal noise, and their log-density.

        Args:
            noise: Tensor `(..., latent_dim)`.

        Returns:
            mean + stddev noise, `(..., latent_dim)`, and its log q, `(...)`, in nats.
        """
        z = self.mean + self.stddev * noise
        return z, self.log_prob(z)

    def get_config(self) -> dict:
        stddev = self.stddev if self._stddev is None else self._stddev
        return {"mean": _plain(self._mean), "stddev": _plain(stddev)}

    @classmethod
    def from_config(cls, config: dict) -> "Normal":
        return cls(**config)


class MultivariateNormal:
    """Normal distributions with full covariance L Lᵀ, of one code an example.

    Args:
        mean: Tensor `(batch, latent_dim)`.
        log_var: Logarithms of the squares of the diagonal of L, of the same shape: the
            log-variance of each number given those before it.
        lower: What L has below its diagonal, `(batch, latent_dim, latent_dim)`, 0
            elsewhere.
    """

    def __init__(self, mean: Any, log_var: Any, lower: Any):
        self.mean = float32(mean)
        self.log_var = float32(log_var)
        self.lower = float32(lower)

    def log_prob(self, z):
        """Returns log p(z) in nats, `(..., batch)`."""
        residuals = float32(z) - self.mean  # (..., batch, latent_dim)
        shape = ops.shape(residuals)
        # All codes of an example side by side, (batch, latent_dim, codes)
        columns = ops.transpose(ops.reshape(residuals, (-1, *shape[-2:])), (1, 2, 0))
        noise = ops.solve_triangular(self._factor(), columns, lower=True)
        noise = ops.reshape(ops.transpose(noise, (2, 0, 1)), shape)
        return self._log_prob_of_noise(noise)

    def draw(self, noise):
        """Returns the codes mean + L noise and their log-density: see `Normal.draw`."""
        moved = ops.einsum("bij,...bj->...bi", self._factor(), noise)
        return self.mean + moved, self._log_prob_of_noise(noise)

    def sample(self, shape: Sequence[int] | None = None, seed: Seed = None):
        """Draws codes of shape `shape`, by default one for each mean."""
        shape = ops.shape(self.mean) if shape is None else shape
        return self.draw(keras.random.normal(shape, dtype="float32", seed=seed))[0]

    def _factor(self):
        """L, `(batch, latent_dim, latent_dim)`."""
        identity = ops.eye(self.mean.shape[-1], dtype="float32")
        stddev = ops.exp(0.5 * self.log_var)
        return self.lower + ops.expand_dims(stddev, -1) * identity

    def _log_prob_of_noise(self, noise):
        squares = ops.square(noise) + self.log_var + LOG_2_PI
        return -0.5 * ops.sum(squares, axis=-1)
