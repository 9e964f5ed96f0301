"""Layers that are trained one by one, each with the one that mirrors it."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_ae.nn.layers import DepthToSpace
from keras_ae.nn.networks.shapes import with_channels
from keras_ae.nn.networks.stages import _convolution, _crop


def stacked_layers(
    image_shape: Sequence[int],
    filters: Sequence[int],
    strides: Sequence[int],
    kernel_size: int,
    layer_dims: Sequence[int],
    dtype: keras.DTypePolicy,
) -> tuple[list[keras.Layer], list[keras.Layer], list[tuple[int, ...]]]:
    """Returns convolutions and dense layers on them, those that undo each, and shapes.

    Args:
        image_shape: Shape of one example.
        filters: Filters of each convolution, which come first.
        strides: 1 or 2 for each convolution.
        kernel_size: Side of their filters.
        layer_dims: Units of each dense layer.
        dtype: Precision of the layers; those that undo them compute in float32.

    Returns:
        Layers; layers from their features back to what they take; shapes of one
        example of what each layer takes, and of what the last one gives.
    """
    below = with_channels(image_shape) if filters else (math.prod(image_shape),)
    encoding, decoding, shapes = [], [], [below]
    for width, stride in zip(filters, strides, strict=True):
        name = f"encoding_{len(encoding) + 1}"
        encoding.append(
            _convolution(
                len(below) - 1, width, kernel_size, stride, dtype, True, name=name
            )
        )
        above = (*(math.ceil(side / stride) for side in below[:-1]), width)
        decoding.append(_undone(above, below, stride, kernel_size, len(encoding)))
        shapes.append(above)
        below = above
    for units in layer_dims:
        shapes[-1] = below = (math.prod(below),)
        number = len(encoding) + 1
        encoding.append(layers.Dense(units, name=f"encoding_{number}", dtype=dtype))
        decoding.append(
            layers.Dense(below[0], name=f"decoding_{number}", dtype="float32")
        )
        below = (units,)
        shapes.append(below)
    return encoding, decoding, shapes


def _undone(above, below, stride, kernel_size, number):
    """Network from the features of a convolution back to what it takes."""
    name = f"decoding_{number}"
    x = keras.Input(above)
    rank = len(below) - 1
    options = {"dtype": "float32", "use_bias": True}
    if stride == 1:
        y = _convolution(rank, below[-1], kernel_size, 1, **options)(x)
    else:
        y = _convolution(rank, 2**rank * below[-1], kernel_size, 1, **options)(x)
        y = _crop(DepthToSpace(dtype="float32")(y), below[:-1], "float32")
    return keras.Model(x, y, name=name)
