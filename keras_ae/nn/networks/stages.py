"""The stages that convolutional networks are made of."""

import functools
import math

from keras import layers

from keras_ae.nn.layers import (
    BatchNormalization,
    DepthToSpace,
    ResidualBlock,
    SpectralNormalization,
    convolution,
)
from keras_ae.nn.networks.shapes import grid, with_channels


def _downsampled(
    x, architecture, widths, activation, dtype, spectral_norm=False, remat=False
):
    """The stages of an encoder's convolutions: each halves the picture."""
    normalized = SpectralNormalization if spectral_norm else _unchanged
    shape = with_channels(x.shape[1:], architecture)
    rank = len(shape) - 1
    if shape != x.shape[1:]:
        x = layers.Reshape(shape, dtype=dtype)(x)
    for width in widths:
        if architecture == "residual":
            x = normalized(_convolution(rank, width, 3, 2, dtype, use_bias=True))(x)
            x = ResidualBlock(width, activation, spectral_norm, remat, dtype=dtype)(x)
        else:
            x = normalized(_convolution(rank, width, 4, 2, dtype))(x)
            x = BatchNormalization(momentum=0.9, dtype=dtype)(x)
            x = layers.Activation(activation, dtype=dtype)(x)
    return x


def _upsampled(
    x,
    image_shape,
    architecture,
    widths,
    activation,
    dtype,
    spectral_norm=False,
    remat=False,
):
    """The stages of a decoder's convolutions, up to a picture of `image_shape`."""
    normalized = SpectralNormalization if spectral_norm else _unchanged
    block = functools.partial(
        ResidualBlock,
        activation=activation,
        spectral_norm=spectral_norm,
        remat=remat,
        dtype=dtype,
    )
    shape = with_channels(image_shape, architecture)
    rank = len(shape) - 1
    # Each stage doubles the picture and leaves the filters of the next wider one.
    for stage in reversed(range(len(widths))):
        if architecture == "residual":
            x = block(x.shape[-1])(x)
        # As many weights as a 4x4 transposed convolution, and as fast on TensorFlow;
        # on JAX's CPU compiler it is 3 times faster.
        filters = widths[max(stage - 1, 0)]
        x = normalized(_convolution(rank, 2**rank * filters, 2, 1, dtype))(x)
        x = DepthToSpace(dtype=dtype)(x)
        x = _crop(x, grid(image_shape, widths[:stage], architecture), dtype)
        if architecture != "residual":
            x = BatchNormalization(momentum=0.9, dtype=dtype)(x)
            x = layers.Activation(activation, dtype=dtype)(x)
    if architecture == "residual":
        x = block(x.shape[-1])(x)
        x = layers.Activation(activation, dtype=dtype)(x)
    x = normalized(_convolution(rank, shape[-1], 3, 1, "float32", use_bias=True))(x)
    if shape != tuple(image_shape):
        x = layers.Reshape(image_shape, dtype="float32")(x)
    return x


def _judged(x, architecture, widths, activation, dtype, spectral_norm=False):
    """The stages of a critic's convolutions, each of stride 2, named by number."""
    normalized = SpectralNormalization if spectral_norm else _unchanged
    shape = with_channels(x.shape[1:], architecture)
    if shape != x.shape[1:]:
        x = layers.Reshape(shape, dtype=dtype)(x)
    size = 3 if architecture == "residual" else 4
    for number, width in enumerate(widths, 1):
        x = normalized(
            _convolution(len(shape) - 1, width, size, 2, dtype, use_bias=True)
        )(x)
        options = {"dtype": dtype, "name": f"stage_{number}"}
        if architecture == "residual":
            x = ResidualBlock(width, activation, spectral_norm, **options)(x)
        else:
            x = layers.Activation(activation, **options)(x)
    return x


def _attended(x, dtype):
    """Each place of a grid with what it has looked up at all others."""
    *sides, channels = x.shape[1:]
    groups = next(n for n in (8, 4, 2, 1) if channels % n == 0)
    y = layers.GroupNormalization(groups, dtype=dtype)(x)
    y = layers.Reshape((math.prod(sides), channels), dtype=dtype)(y)
    y = layers.MultiHeadAttention(1, channels, dtype=dtype)(y, y)
    return layers.Add(dtype=dtype)(
        [x, layers.Reshape((*sides, channels), dtype=dtype)(y)]
    )


def _unchanged(layer):
    return layer


def _convolution(rank, filters, kernel_size, strides, dtype, use_bias=False, **kwargs):
    return convolution(
        rank,
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=use_bias,
        data_format="channels_last",
        dtype=dtype,
        **kwargs,
    )


def _crop(x, size, dtype):
    """Cuts the last row and column where the picture of `size` has an odd one."""
    excess = tuple(
        (0, side - wanted) for side, wanted in zip(x.shape[1:-1], size, strict=True)
    )
    if not any(after for _, after in excess):
        return x
    if len(size) == 1:
        return layers.Cropping1D(*excess, dtype=dtype)(x)
    cropping = layers.Cropping2D if len(size) == 2 else layers.Cropping3D
    return cropping(excess, data_format="channels_last", dtype=dtype)(x)
