"""Probability distributions over codes: posteriors and priors.

Each has `log_prob(z)` and `sample(shape, seed)`. Everything is computed in float32,
whatever the dtype policy. Log-probabilities are in nats, summed over latent dimensions.

`seed` is an integer or a `keras.random.SeedGenerator` everywhere. `None` draws from
Keras' global generator and works outside compiled functions only.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.backend import autodiff

Seed = int | keras.random.SeedGenerator | None

LOG_2_PI = math.log(2.0 * math.pi)


def _is_plain(value) -> bool:
    return isinstance(value, int | float | list | tuple | np.ndarray | np.generic)


def _plain(value):
    """Numbers and nested lists of what may be an array or a tensor."""
    if not _is_plain(value):
        value = ops.convert_to_numpy(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def float32(value):
    if _is_plain(value):
        value = np.asarray(value, "float32")
    return ops.cast(value, "float32")


def _check_positive(name: str, value) -> None:
    numbers = np.asarray(value, "float64")
    if not np.all((numbers > 0) & np.isfinite(numbers)):
        raise ValueError(f"`{name}` must be > 0 and finite. Received: {name}={value}")


def _check_finite(name: str, value) -> None:
    if not np.all(np.isfinite(np.asarray(value, "float64"))):
        raise ValueError(f"`{name}` must be finite. Received: {name}={value}")


def _check_sample_shape(shape: Sequence[int], latent_dim: int | None) -> None:
    if latent_dim is not None and (
        len(shape) == 0 or (isinstance(shape[-1], int) and shape[-1] != latent_dim)
    ):
        raise ValueError(
            f"`shape` must end in latent_dim={latent_dim}. Received: shape={shape}"
        )


@keras.saving.register_keras_serializable(package="keras_ae")
class Normal:
    """Normal distribution with diagonal covariance.

    Args:
        mean: Number, list (one mean per latent dimension) or tensor
            `(batch, latent_dim)`.
        stddev: Standard deviation, > 0, in any of these forms.

    Example:

    >>> prior = keras_ae.distributions.Normal(mean=0.0, stddev=0.01)
    >>> z = prior.sample((5, 2), seed=0)
    >>> prior.log_prob(z).shape
    (5,)
    """

    def __init__(self, mean: Any = 0.0, stddev: Any = 1.0):
        if _is_plain(mean):
            _check_finite("mean", mean)
        if _is_plain(stddev):
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


def _component_means(means) -> np.ndarray:
    means = np.asarray(means, "float64")
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
    weights = np.asarray(weights, "float64")
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


@keras.saving.register_keras_serializable(package="keras_ae")
class NormalMixture:
    """Mixture of normal distributions with diagonal covariances.

    Args:
        means: Means of the components, `(components, latent_dim)`.
        stddevs: Standard deviations, > 0: a number, or an array that broadcasts to the
            shape of `means` (`(components, 1)` for one value per component).
        weights: Weights > 0 of the components, `(components,)`; their sum is scaled
            to 1. Defaults to equal weights.

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
        stddevs = np.asarray(self._config["stddevs"], "float64")
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


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianMixture:
    """Mixture of normal distributions with full covariances.

    `keras_ae.samplers.fit_mixture` fits one to codes.

    Args:
        means: Means of the components, `(components, latent_dim)`.
        covariances: Covariances of the components,
            `(components, latent_dim, latent_dim)`, symmetric and positive definite.
        weights: Weights > 0 of the components, `(components,)`; their sum is scaled
            to 1. Defaults to equal weights.

    Raises:
        ValueError: If the shapes do not agree, a number is not finite, a covariance is
            not symmetric and positive definite, or a weight is not > 0.

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
        covariances = np.asarray(self._config["covariances"], "float64")
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


@keras.saving.register_keras_serializable(package="keras_ae")
class TensorFlowProbability:
    """Any TensorFlow Probability distribution as a prior, on the TensorFlow backend.

    Args:
        distribution: A continuous distribution with event shape `(latent_dim,)`, or
            distributions of scalars with batch shape `()` or `(latent_dim,)`, one per
            latent dimension. To be saved it must consist of numbers, arrays and
            TensorFlow Probability's own distributions and bijectors.

    Raises:
        ValueError: If another backend is in use, or the shape is another.

    Example:

    >>> import tensorflow_probability as tfp
    >>> student = tfp.distributions.StudentT(df=3.0, loc=0.0, scale=1.0)
    >>> prior = keras_ae.distributions.TensorFlowProbability(student)
    """

    def __init__(self, distribution: Any):
        autodiff.require("tensorflow", "A TensorFlow Probability prior")
        if not _is_tfp(distribution):
            raise ValueError(
                "`distribution` must be a TensorFlow Probability distribution. "
                f"Received: {distribution!r}"
            )
        event_rank = getattr(distribution.event_shape, "rank", None)
        batch_rank = getattr(distribution.batch_shape, "rank", None)
        if (event_rank, batch_rank) not in ((1, 0), (0, 0), (0, 1)):
            raise ValueError(
                "`distribution` must have event shape (latent_dim,) and batch shape "
                "(), or event shape () and batch shape () or (latent_dim,). Received: "
                f"event shape {distribution.event_shape} and batch shape "
                f"{distribution.batch_shape}"
            )
        if not distribution.dtype.is_floating:
            raise ValueError(
                "`distribution` must be continuous. Received: dtype "
                f"'{distribution.dtype.name}'"
            )
        self.distribution = distribution

    @property
    def latent_dim(self) -> int | None:
        """Number of latent dimensions, or `None` for one distribution on all."""
        shape = self.distribution.batch_shape + self.distribution.event_shape
        return shape[0] if shape.rank else None

    def log_prob(self, z):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        z = ops.cast(z, self.distribution.dtype.name)
        log_prob = ops.cast(self.distribution.log_prob(z), "float32")
        if self.distribution.event_shape.rank == 0:
            log_prob = ops.sum(log_prob, axis=-1)
        return log_prob

    def sample(self, shape: Sequence[int], seed: Seed = None):
        """Draws codes of shape `shape`, `(..., latent_dim)`."""
        _check_sample_shape(shape, self.latent_dim)
        # TensorFlow Probability's stateless seed is two int32.
        if isinstance(seed, int):
            seed = ops.convert_to_tensor(divmod(seed, 2**31), "int32")
        elif seed is not None:
            seed = ops.cast(seed.next(), "int32")
        drawn = len(shape) if self.latent_dim is None else len(shape) - 1
        sample = self.distribution.sample(shape[:drawn], seed=seed)
        return ops.cast(sample, "float32")

    def get_config(self) -> dict:
        return {"distribution": _tfp_config(self.distribution)}

    @classmethod
    def from_config(cls, config: dict) -> "TensorFlowProbability":
        autodiff.require("tensorflow", "A TensorFlow Probability prior")
        return cls(_tfp_object(config["distribution"]))


def _is_tfp(value) -> bool:
    return hasattr(value, "log_prob") and any(
        base.__module__.startswith("tensorflow_probability")
        for base in type(value).__mro__
    )


def _tfp_class(name: str) -> type | None:
    import tensorflow_probability as tfp

    for module in (tfp.distributions, tfp.bijectors):
        found = getattr(module, name, None)
        if inspect.isclass(found):
            return found
    return None


def _tfp_config(value):
    """What `_tfp_object` makes the same argument, distribution or bijector from."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_tfp_config(item) for item in value]
    if isinstance(value, np.ndarray | np.generic) or ops.is_tensor(value):
        array = ops.convert_to_numpy(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    if hasattr(value, "parameters") and _tfp_class(type(value).__name__) is type(value):
        signature = inspect.signature(type(value).__init__).parameters
        return {
            "class_name": type(value).__name__,
            "parameters": {
                name: _tfp_config(argument)
                for name, argument in value.parameters.items()
                if name != "name" and argument is not signature[name].default
            },
        }
    raise ValueError(
        "A TensorFlow Probability prior can be saved if it consists of numbers, arrays "
        "and TensorFlow Probability's own distributions and bijectors. Received: "
        f"{value!r}"
    )


def _tfp_object(config):
    if isinstance(config, list):
        return [_tfp_object(item) for item in config]
    if not isinstance(config, dict):
        return config
    if "array" in config:
        return np.asarray(config["array"], config["dtype"])
    tfp_class = _tfp_class(config["class_name"])
    if tfp_class is None:
        raise ValueError(
            "The prior's class must be one of TensorFlow Probability's distributions "
            f"or bijectors. Received: class_name='{config['class_name']}'"
        )
    parameters = config["parameters"]
    return tfp_class(**{name: _tfp_object(parameters[name]) for name in parameters})


class LearnedPrior(keras.layers.Layer):
    """Base of priors that are learned together with a model: see `keras_ae.priors`.

    A subclass implements `build`, `log_prob(z)` and `sample(shape, seed)`, as the other
    distributions have them.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    @property
    def latent_dim(self) -> int | None:
        """Number of latent dimensions, or `None` before a model has built the prior."""
        return getattr(self, "_latent_dim", None)

    def get_build_config(self):
        # It is built by its model, loaded or new, and by nobody before.
        return None

    def connect(self, model: keras.Model) -> None:
        """Makes the weights; `model` calls it once it has its networks."""
        self._latent_dim = model.latent_dim
        self.build((None, model.latent_dim))

    def log_prob(self, z):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        raise NotImplementedError

    def sample(self, shape: Sequence[int], seed: Seed = None):
        """Draws codes of shape `shape`, `(..., latent_dim)`."""
        raise NotImplementedError


Prior = Normal | NormalMixture | GaussianMixture | TensorFlowProbability | LearnedPrior


def get_prior(
    identifier: Any = None, latent_dim: int | None = None, learned: bool = False
) -> Prior:
    """Makes a prior over codes from what a user may pass for it.

    Args:
        identifier: `None` for the standard normal distribution, one of this module's
            distributions over codes or its serialized configuration, or, on the
            TensorFlow backend, a TensorFlow Probability distribution.
        latent_dim: Numbers in a code, where they are known.
        learned: Whether a `LearnedPrior` may be passed.

    Raises:
        ValueError: If `identifier` is something else, or a prior of another dimension.
    """
    if identifier is None:
        return Normal()
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if _is_tfp(identifier):
        identifier = TensorFlowProbability(identifier)
    if isinstance(identifier, LearnedPrior) and not learned:
        raise ValueError(
            "`prior` must be one that stays as it is: nothing would learn it here. "
            f"Received: a {type(identifier).__name__}; a `VAE` learns its prior."
        )
    if isinstance(identifier, Prior):
        if None not in (latent_dim, identifier.latent_dim) and (
            identifier.latent_dim != latent_dim
        ):
            raise ValueError(
                f"`prior` must have latent_dim={latent_dim} dimensions, as the model. "
                f"Received: a prior of {identifier.latent_dim} dimensions"
            )
        return identifier
    raise ValueError(
        "`prior` must be None (standard normal), a `Normal`, `NormalMixture` or "
        "`GaussianMixture` of `keras_ae.distributions`, one of `keras_ae.priors` or, "
        "on the TensorFlow backend, a TensorFlow Probability distribution. Received: "
        f"{identifier!r}"
    )


def scale(prior: Prior, latent_dim: int) -> float:
    """Returns the root of a prior's mean variance.

    Args:
        prior: One of this module's distributions over codes.
        latent_dim: Numbers in a code.

    Returns:
        A number > 0; from 4096 draws where there is no formula.
    """
    if isinstance(prior, Normal):
        variances = np.square(ops.convert_to_numpy(prior.stddev))
    else:
        draws = ops.convert_to_numpy(prior.sample((4096, latent_dim), seed=0))
        variances = np.var(draws, axis=0)
    return float(np.sqrt(np.mean(variances)))
