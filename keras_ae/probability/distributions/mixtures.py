"""Mixtures of normal distributions."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.checks import check_numbers
from keras_ae.probability.distributions.normal import (
    LOG_2_PI,
    Normal,
    Seed,
    _check_finite,
    _check_positive,
    _check_sample_shape,
    _plain,
    float32,
)
from keras_ae.probability.distributions.registered import Registered


def _component_means(means) -> np.ndarray:
    means = check_numbers("means", means)
    if means.ndim != 2 or 0 in means.shape:
        raise ValueError(
            "`means` must have shape (components, latent_dim). "
            f"Received: shape {means.shape}"
        )
    _check_finite("means", means)
    return means


def _component_weights(weights, components: int) -> np.ndarray:
    """Returns weights whose sum is 1, `(components,)`."""
    if weights is None:
        weights = np.ones(components)
    weights = check_numbers("weights", weights)
    _check_positive("weights", weights)
    if weights.shape != (components,):
        raise ValueError(
            f"`weights` must have one value for each of the {components} "
            f"components. Received: shape {weights.shape}"
        )
    return (weights / weights.sum()).astype("float32")


def _draw_components(weights, shape, latent_dim: int, seed: Seed):
    """Draws a component `(...)` and standard normal noise `(..., latent_dim)`."""
    # One draw for both choices, since two draws from one integer seed would be
    # correlated: the first number chooses the component, the others the code.
    noise = keras.random.normal(
        (*shape[:-1], latent_dim + 1), dtype="float32", seed=seed
    )
    uniform = 0.5 + 0.5 * ops.erf(noise[..., :1] / math.sqrt(2.0))
    thresholds = ops.cumsum(float32(weights))[:-1]
    component = ops.sum(ops.cast(uniform > thresholds, "int32"), axis=-1)
    return component, noise[..., 1:]


def mixture_log_prob(z, means, log_vars, log_weights):
    """Returns log p(z) of a mixture of normal distributions with diagonal covariances.

    Args:
        z: Codes `(..., latent_dim)`.
        means, log_vars: Means and log-variances, `(components, latent_dim)`.
        log_weights: Logarithms of weights of sum 1, `(components,)` or a number.

    Returns:
        Tensor `(...)`, in nats.
    """
    components = Normal.from_log_var(means, log_vars)
    # (..., 1, latent_dim) against (components, latent_dim)
    per_component = components.log_prob(ops.expand_dims(float32(z), -2))
    return ops.logsumexp(per_component + log_weights, axis=-1)


def draw_mixture(shape, means, log_vars, weights, seed: Seed = None):
    """Draws codes of shape `shape`, `(..., latent_dim)`, from such a mixture."""
    component, noise = _draw_components(weights, shape, shape[-1], seed)
    means = ops.take(means, component, axis=0)
    return means + ops.exp(0.5 * ops.take(log_vars, component, axis=0)) * noise


class NormalMixture(Registered):
    """Mixture of normal distributions with diagonal covariances.

    Args:
        means: Means of the components, `(components, latent_dim)`.
        stddevs: Standard deviations, > 0: a number, or an array that broadcasts to the
            shape of `means` (`(components, 1)` for one value per component).
        weights: Weights > 0 of the components, `(components,)`; their sum is scaled
            to 1. Defaults to equal weights.

    Raises:
        ValueError: If the shapes do not agree, a mean is not a finite number, or a
            standard deviation or a weight not one > 0.

    Example:

    >>> prior = keras_ae.distributions.NormalMixture([[-2.0, 0.0], [2.0, 0.0]], 0.5)
    >>> prior.sample((5, 2), seed=0).shape
    (5, 2)
    """

    def __init__(self, means: Any, stddevs: Any = 1.0, weights: Any = None):
        self._config = {
            "means": _plain(means),
            "stddevs": _plain(stddevs),
            "weights": None if weights is None else _plain(weights),
        }
        means = _component_means(self._config["means"])
        stddevs = check_numbers("stddevs", self._config["stddevs"])
        _check_positive("stddevs", stddevs)
        try:
            stddevs = np.broadcast_to(stddevs, means.shape)
        except ValueError:
            raise ValueError(
                f"`stddevs` must broadcast to the shape {means.shape} of `means`. "
                f"Received: shape {stddevs.shape}"
            ) from None
        self.means = means.astype("float32")
        self.stddevs = stddevs.astype("float32")
        self.weights = _component_weights(self._config["weights"], len(means))
        self._log_vars = (2.0 * np.log(stddevs)).astype("float32")

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions."""
        return self.means.shape[1]

    def log_prob(self, z):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        log_weights = float32(np.log(self.weights))
        return mixture_log_prob(z, self.means, self._log_vars, log_weights)

    def sample(self, shape: Sequence[int], seed: Seed = None):
        """Draws codes of shape `shape`, `(..., latent_dim)`."""
        _check_sample_shape(shape, self.latent_dim)
        return draw_mixture(shape, self.means, self._log_vars, self.weights, seed)

    def get_config(self) -> dict:
        return dict(self._config)

    @classmethod
    def from_config(cls, config: dict) -> "NormalMixture":
        return cls(**config)


class GaussianMixture(Registered):
    """Mixture of normal distributions with full covariances.

    `keras_ae.samplers.fit_mixture` fits one to codes.

    Args:
        means: Means of the components, `(components, latent_dim)`.
        covariances: Covariances of the components,
            `(components, latent_dim, latent_dim)`, symmetric and positive definite.
        weights: Weights > 0 of the components, `(components,)`; their sum is scaled
            to 1. Defaults to equal weights.

    Raises:
        ValueError: If the shapes do not agree, a number is not finite, or none, a
            covariance is not symmetric and positive definite, or a weight is not > 0.

    Example:

    >>> covariances = [[[1.0, 0.8], [0.8, 1.0]], [[1.0, -0.8], [-0.8, 1.0]]]
    >>> prior = keras_ae.distributions.GaussianMixture(
    ...     [[-2.0, 0.0], [2.0, 0.0]], covariances
    ... )
    >>> prior.sample((5, 2), seed=0).shape
    (5, 2)
    """

    def __init__(self, means: Any, covariances: Any, weights: Any = None):
        self._config = {
            "means": _plain(means),
            "covariances": _plain(covariances),
            "weights": None if weights is None else _plain(weights),
        }
        means = _component_means(self._config["means"])
        covariances = check_numbers("covariances", self._config["covariances"])
        if covariances.shape != (*means.shape, means.shape[1]):
            raise ValueError(
                "`covariances` must have shape (components, latent_dim, latent_dim) = "
                f"{(*means.shape, means.shape[1])}. Received: shape {covariances.shape}"
            )
        if not np.isfinite(covariances).all():
            raise ValueError("`covariances` must be finite. Received NaN or infinity")
        factors = [
            _cholesky(index, covariance) for index, covariance in enumerate(covariances)
        ]
        self.means = means.astype("float32")
        self.covariances = covariances.astype("float32")
        self.weights = _component_weights(self._config["weights"], len(means))
        # (components, latent_dim, latent_dim), lower triangular
        self._factors = np.stack(factors).astype("float32")
        diagonals = np.diagonal(factors, axis1=1, axis2=2)
        # Log-density of each component at its mean, (components,)
        self._peaks = (
            -np.log(diagonals).sum(axis=1) - 0.5 * means.shape[1] * LOG_2_PI
        ).astype("float32")

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions."""
        return self.means.shape[1]

    def log_prob(self, z):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        z = float32(z)
        rows = ops.reshape(z, (-1, self.latent_dim))
        # (components, latent_dim, n)
        residuals = ops.transpose(rows) - float32(self.means)[:, :, None]
        factors = float32(self._factors)
        standardized = ops.solve_triangular(factors, residuals, lower=True)
        per_component = -0.5 * ops.sum(ops.square(standardized), axis=1)
        peaks = float32(self._peaks + np.log(self.weights))
        log_prob = ops.logsumexp(per_component + peaks[:, None], axis=0)
        return ops.reshape(log_prob, ops.shape(z)[:-1])

    def sample(self, shape: Sequence[int], seed: Seed = None):
        """Draws codes of shape `shape`, `(..., latent_dim)`."""
        _check_sample_shape(shape, self.latent_dim)
        component, noise = _draw_components(self.weights, shape, self.latent_dim, seed)
        chosen = ops.one_hot(component, len(self.means), dtype="float32")
        # One matrix product, (..., components * latent_dim) with the stacked factors,
        # instead of a factor gathered for each code.
        spread = ops.expand_dims(chosen, -1) * ops.expand_dims(noise, -2)
        spread = ops.reshape(spread, (*shape[:-1], self._factors[..., 0].size))
        factors = np.swapaxes(self._factors, 1, 2).reshape(-1, self.latent_dim)
        means = ops.take(float32(self.means), component, axis=0)
        return means + ops.matmul(spread, float32(factors))

    def get_config(self) -> dict:
        return dict(self._config)

    @classmethod
    def from_config(cls, config: dict) -> "GaussianMixture":
        return cls(**config)


def _cholesky(index: int, covariance: np.ndarray) -> np.ndarray:
    """Returns the Cholesky factor of a component's covariance, lower triangular."""
    # Rounding to float32 may leave the two halves a little apart.
    apart = np.abs(covariance - covariance.T).max()
    if apart > 1e-5 * np.abs(covariance).max():
        raise ValueError(
            f"`covariances` must be symmetric. Received: covariances[{index}], whose "
            f"halves differ by up to {apart:.3g}"
        )
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"`covariances` must be positive definite. Received: covariances[{index}] "
            f"with the smallest eigenvalue {np.linalg.eigvalsh(covariance)[0]:.3g}"
        ) from None
    return factor
