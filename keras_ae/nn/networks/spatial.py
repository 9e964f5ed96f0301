"""Networks whose code has a vector for each place of a grid."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_ae.nn.networks.shapes import grid
from keras_ae.nn.networks.stages import _convolution, _downsampled, _upsampled


def spatial_encoder(
    image_shape: Sequence[int],
    latent_dim: int,
    architecture: str,
    widths: Sequence[int],
    activation: str = "relu",
    dtype=None,
) -> keras.Model:
    """Builds an encoder that gives a code for each place of a grid.

    Args:
        image_shape: Shape of one picture, `(height, width)` or
            `(height, width, channels)`, of one volume or of one series.
        latent_dim: Numbers in the code of one place.
        architecture: `"conv"`, `"residual"` or `"sequence"`.
        widths: Filters of each stage of stride 2.
        activation: Activation of the hidden layers.
        dtype: Dtype policy of the hidden layers.

    Returns:
        A model from `(batch, *image_shape)` to `(batch, rows * columns * latent_dim)`,
        in float32, where `rows, columns = grid(image_shape, widths, architecture)`.
    """
    inputs = keras.Input(image_shape, name="x")
    x = _downsampled(inputs, architecture, widths, activation, dtype)
    x = _convolution(len(x.shape) - 2, latent_dim, 1, 1, "float32", use_bias=True)(x)
    x = layers.Flatten(dtype="float32", name="z")(x)
    return keras.Model(inputs, x, name="encoder")


def spatial_decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    architecture: str,
    widths: Sequence[int],
    activation: str = "relu",
    dtype=None,
) -> keras.Model:
    """Builds a decoder, the mirror image of `spatial_encoder` with the same arguments.

    Returns:
        A model from `(batch, rows * columns * latent_dim)` to the likelihood's
        parameters `(batch, *image_shape)`, in float32 and without an activation.
    """
    sides = grid(image_shape, widths, architecture)
    inputs = keras.Input((math.prod(sides) * latent_dim,), name="z")
    x = layers.Reshape((*sides, latent_dim), dtype=dtype)(inputs)
    x = _convolution(len(sides), widths[-1], 3, 1, dtype, use_bias=True)(x)
    x = layers.Activation(activation, dtype=dtype)(x)
    x = _upsampled(x, image_shape, architecture, widths, activation, dtype)
    return keras.Model(inputs, x, name="decoder")
