"""Layers that spoil what a model learns to restore."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ae.nn.layers.noise import Seeded


class Corruption(Seeded):
    """Base of layers that spoil data in training and pass them on otherwise.

    A subclass implements `corrupt(x, level)`.

    Args:
        level: How much is spoilt: a number, or a pair `(low, high)` between which each
            example's level is drawn.
        seed: Integer seed of the noise.
        **kwargs: `name`, as for any Keras layer.

    Call arguments:
        x: Tensor `(batch, ...)`.
        training: Whether to spoil x.

    Raises:
        ValueError: If a level is not within `bounds`.
    """

    bounds = (0.0, 1.0)

    def __init__(
        self, level: float | Sequence[float], seed: int | None = None, **kwargs
    ):
        super().__init__(seed, **{"dtype": "float32", **kwargs})
        pair = tuple(level) if isinstance(level, tuple | list) else (level, level)
        low, high = self.bounds
        if (
            len(pair) != 2
            or any(isinstance(v, bool) or not isinstance(v, numbers.Real) for v in pair)
            or not low <= pair[0] <= pair[1] <= high
            or math.isinf(pair[1])
        ):
            limits = f">= {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise ValueError(
                f"The noise level of {type(self).__name__} must be a number {limits}, "
                f"or two of them as (low, high). Received: {level!r}"
            )
        self.level = pair if isinstance(level, tuple | list) else level
        self._pair = pair

    def call(self, x, training=False):
        if not training:
            return x
        low, high = self._pair
        level = low
        if low < high:
            shape = (ops.shape(x)[0], *(1 for _ in x.shape[1:]))
            level = keras.random.uniform(
                shape, low, high, dtype="float32", seed=self.seed_generator
            )
        return ops.cast(self.corrupt(ops.cast(x, "float32"), level), x.dtype)

    def corrupt(self, x, level):
        """Returns x spoilt, both in float32."""
        raise NotImplementedError

    def uniform(self, x):
        """Returns uniform numbers in [0, 1) of the shape of `x`."""
        return keras.random.uniform(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "level": self.level}


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianCorruption(Corruption):
    """Adds Gaussian noise: x + level ε with ε ~ N(0, I).

    Args:
        level: Standard deviation of the noise, >= 0, or a pair `(low, high)`.
        seed: Integer seed of the noise.
    """

    bounds = (0.0, math.inf)

    def __init__(self, level: float | Sequence[float] = 0.3, seed=None, **kwargs):
        super().__init__(level, seed, **kwargs)

    def corrupt(self, x, level):
        noise = keras.random.normal(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )
        return x + level * noise


@keras.saving.register_keras_serializable(package="keras_ae")
class ClippedGaussianCorruption(GaussianCorruption):
    """Adds Gaussian noise that ends at 0 and 1, as it does in picture files.

    Near black and white its mean is not 0: white paper gets darker.

    Args:
        level: Standard deviation before clipping, >= 0, or a pair `(low, high)`.
        seed: Integer seed of the noise.
    """

    def corrupt(self, x, level):
        return ops.clip(super().corrupt(x, level), 0.0, 1.0)


@keras.saving.register_keras_serializable(package="keras_ae")
class MaskingCorruption(Corruption):
    """Sets values to 0, each with the probability `level`.

    Unlike dropout it does not scale up the others.

    Args:
        level: Probability, 0 to 1, or a pair `(low, high)`.
        seed: Integer seed of the noise.

    Reference:
        Vincent et al., Stacked Denoising Autoencoders, 2010
        (https://jmlr.org/papers/v11/vincent10a.html).
    """

    def __init__(self, level: float | Sequence[float] = 0.25, seed=None, **kwargs):
        super().__init__(level, seed, **kwargs)

    def corrupt(self, x, level):
        return ops.where(self.uniform(x) < level, 0.0, x)


@keras.saving.register_keras_serializable(package="keras_ae")
class SaltAndPepperCorruption(Corruption):
    """Sets values to 0 or 1, evenly, each with the probability `level`.

    Args:
        level: Probability, 0 to 1, or a pair `(low, high)`.
        seed: Integer seed of the noise.

    Reference:
        Vincent et al., Stacked Denoising Autoencoders, 2010
        (https://jmlr.org/papers/v11/vincent10a.html).
    """

    def __init__(self, level: float | Sequence[float] = 0.1, seed=None, **kwargs):
        super().__init__(level, seed, **kwargs)

    def corrupt(self, x, level):
        pepper_and_salt = ops.cast(self.uniform(x) < 0.5, "float32")
        return ops.where(self.uniform(x) < level, pepper_and_salt, x)


CORRUPTIONS = {
    "gaussian": GaussianCorruption,
    "clipped_gaussian": ClippedGaussianCorruption,
    "masking": MaskingCorruption,
    "salt_and_pepper": SaltAndPepperCorruption,
}


def get_corruption(corruption: Any, level: Any = None) -> keras.layers.Layer:
    """Returns a corruption layer.

    Args:
        corruption: `"gaussian"`, `"clipped_gaussian"`, `"masking"`,
            `"salt_and_pepper"`, or any Keras layer that keeps the shape and heeds
            `training`.
        level: The level of a corruption given by name. Defaults to the layer's own.

    Raises:
        ValueError: For an unknown name, or a level beside a layer.
    """
    if isinstance(corruption, keras.layers.Layer):
        if level is not None:
            raise ValueError(
                "`noise_level` belongs to a corruption given by name; a layer has its "
                f"own. Received: noise_level={level!r} beside a "
                f"{type(corruption).__name__}"
            )
        return corruption
    if not isinstance(corruption, str) or corruption not in CORRUPTIONS:
        raise ValueError(
            f"`corruption` must be {', '.join(map(repr, CORRUPTIONS))} or a Keras "
            f"layer. Received: corruption={corruption!r}"
        )
    layer = CORRUPTIONS[corruption]
    return layer() if level is None else layer(level)


def check_corruption(corruption: keras.layers.Layer, shape: Sequence[int]) -> None:
    """Builds a corruption layer, and raises `ValueError` if it changes the shape."""
    received = corruption(keras.KerasTensor((None, *shape)), training=True).shape
    if tuple(received[1:]) != tuple(shape):
        raise ValueError(
            "`corruption` must be a layer that keeps the shape of its input. Received "
            f"one that turns {tuple(shape)} into {tuple(received[1:])}"
        )
