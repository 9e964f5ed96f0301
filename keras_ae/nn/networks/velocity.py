"""Networks of a velocity: which way a code on its way from noise goes, at some time."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from keras_ae.nn.layers import DepthToSpace
from keras_ae.nn.networks.stages import _attended, _convolution, _crop

# Times in (0, 1) are given to the network as waves of so many frequencies, from one
# wave in four up to so many.
_FREQUENCIES, _HIGHEST = 32, 64.0
# Numbers that time and class are told by to each block.
_GIVEN = 128


def velocity(
    code_shape: Sequence[int], width: int, blocks: int, num_classes: int | None = None
) -> keras.Model:
    """Builds a network of codes, time and class whose blocks begin as the identity.

    Codes `(latent_dim,)` have residual dense layers. A grid of vectors has residual
    convolutions, the middle ones at half its size and twice the width, where places
    also look at each other. Time and class shift and scale what goes into each block.

    Args:
        code_shape: `(latent_dim,)`, or a grid's sides and the numbers of one place.
        width: Units of each dense layer, or filters.
        blocks: Residual blocks, of a grid before, in and after the middle.
        num_classes: Number of classes, or None.

    Returns:
        A model from a dict of `"z"`, codes `(batch, code_dim)`, `"time"` `(batch, 1)`
        and with classes `"label"` `(batch,)`, `num_classes` standing for any, to
        velocities `(batch, code_dim)`.
    """
    code_dim = math.prod(code_shape)
    inputs = {
        "z": keras.Input((code_dim,), name="z"),
        "time": keras.Input((1,), name="time"),
    }
    given = layers.Dense(_GIVEN, "silu")(Waves()(inputs["time"]))
    if num_classes is not None:
        inputs["label"] = keras.Input((), name="label", dtype="int32")
        given = given + layers.Embedding(num_classes + 1, _GIVEN)(inputs["label"])
    given = layers.Dense(_GIVEN, "silu")(given)
    if len(code_shape) == 1:
        outputs = _of_vectors(inputs["z"], given, width, blocks)
    else:
        outputs = _of_grids(inputs["z"], given, code_shape, width, blocks)
    return keras.Model(inputs, outputs, name="velocity")


def _of_vectors(z, given, width, blocks):
    x = layers.Dense(width)(z)
    for _ in range(blocks):
        change = layers.LayerNormalization(center=False, scale=False)(x)
        scale = layers.Dense(width, kernel_initializer="zeros")(given)
        shift = layers.Dense(width, kernel_initializer="zeros")(given)
        change = layers.Dense(width, "silu")(change * (1.0 + scale) + shift)
        x = x + layers.Dense(width, kernel_initializer="zeros")(change)
    x = layers.LayerNormalization()(x)
    return layers.Dense(z.shape[-1], kernel_initializer="zeros")(x)


def _of_grids(z, given, code_shape, width, blocks):
    *sides, channels = code_shape
    rank = len(sides)
    x = layers.Reshape(code_shape)(z)
    x = _convolution(rank, width, 3, 1, None, use_bias=True)(x)
    for _ in range(blocks):
        x = _block(x, given, width)
    if min(sides) >= 4:
        outer = x
        x = _convolution(rank, 2 * width, 3, 2, None, use_bias=True)(x)
        for _ in range(blocks):
            x = _block(x, given, 2 * width)
        x = _attended(x, None)
        x = _convolution(rank, 2**rank * width, 1, 1, None, use_bias=True)(x)
        x = _crop(DepthToSpace()(x), sides, None)
        x = layers.Concatenate()([x, outer])
    for _ in range(blocks):
        x = _block(x, given, width)
    x = layers.Activation("silu")(_normalized(x))
    x = _convolution(
        rank, channels, 3, 1, None, use_bias=True, kernel_initializer="zeros"
    )(x)
    return layers.Flatten()(x)


def _block(x, given, filters):
    rank, channels = len(x.shape) - 2, x.shape[-1]
    told = (*[1] * rank, channels)
    scale = layers.Dense(channels, kernel_initializer="zeros")(given)
    shift = layers.Dense(channels, kernel_initializer="zeros")(given)
    change = _normalized(x, center=False, scale=False)
    change = change * (1.0 + layers.Reshape(told)(scale)) + layers.Reshape(told)(shift)
    change = layers.Activation("silu")(change)
    change = _convolution(rank, filters, 3, 1, None, use_bias=True)(change)
    change = layers.Activation("silu")(_normalized(change))
    change = _convolution(
        rank, filters, 3, 1, None, use_bias=True, kernel_initializer="zeros"
    )(change)
    if channels != filters:
        x = _convolution(rank, filters, 1, 1, None, use_bias=True)(x)
    return x + change


def _normalized(x, **options):
    groups = next(n for n in (8, 4, 2, 1) if x.shape[-1] % n == 0)
    return layers.GroupNormalization(groups, **options)(x)


@keras.saving.register_keras_serializable(package="keras_ae")
class Waves(layers.Layer):
    """Sines and cosines of times `(batch, 1)`, `(batch, 2 * frequencies)`."""

    def call(self, time):
        exponents = np.linspace(0.0, 1.0, _FREQUENCIES)
        turns = 0.25 * (_HIGHEST / 0.25) ** exponents
        turns = ops.convert_to_tensor(2.0 * math.pi * turns, "float32")
        angles = ops.cast(time, "float32") * turns
        return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
