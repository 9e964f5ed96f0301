"""Distributions of TensorFlow Probability as priors."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.probability.distributions.normal import Seed, _check_sample_shape


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
        backend.require("tensorflow", "A TensorFlow Probability prior")
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
        backend.require("tensorflow", "A TensorFlow Probability prior")
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
