"""The stages that convolutional networks are made of."""

import functools

from keras import layers

from keras_ae.nn.layers import (
    BatchNormalization,
    Conv2D,
    DepthToSpace,
    ResidualBlock,
    SpectralNormalization,
)
from keras_ae.nn.networks.shapes import grid


def _downsampled(x, architecture, widths, activation, dtype, spectral_norm=False):
    """The stages of an encoder's convolutions: each halves the picture."""
    normalized = SpectralNormalization if spectral_norm else _unchanged
    if len(x.shape) == 3:
        x = layers.Reshape((*x.shape[1:], 1), dtype=dtype)(x)
    for width in widths:
        if architecture == "conv":
            x = normalized(_convolution(width, 4, 2, dtype))(x)
            x = BatchNormalization(momentum=0.9, dtype=dtype)(x)
            x = layers.Activation(activation, dtype=dtype)(x)
        else:
            x = normalized(_convolution(width, 3, 2, dtype, use_bias=True))(x)
            x = ResidualBlock(width, activation, spectral_norm, dtype=dtype)(x)
    return x


def _upsampled(
    x, image_shape, architecture, widths, activation, dtype, spectral_norm=False
):
    """The stages of a decoder's convolutions, up to a picture of `image_shape`."""
    normalized = SpectralNormalization if spectral_norm else _unchanged
    block = functools.partial(
        ResidualBlock, activation=activation, spectral_norm=spectral_norm, dtype=dtype
    )
    # Each stage doubles the picture and leaves the filters of the next wider one.
    for stage in reversed(range(len(widths))):
        if architecture == "residual":
            x = block(x.shape[-1])(x)
        # As many weights as a 4x4 transposed convolution, and as fast on TensorFlow;
        # on JAX's CPU compiler it is 3 times faster.
        filters = widths[max(stage - 1, 0)]
        x = normalized(_convolution(4 * filters, 2, 1, dtype))(x)
        x = DepthToSpace(dtype=dtype)(x)
        x = _crop(x, grid(image_shape, widths[:stage]), dtype)
        if architecture == "conv":
            x = BatchNormalization(momentum=0.9, dtype=dtype)(x)
            x = layers.Activation(activation, dtype=dtype)(x)
    if architecture == "residual":
        x = block(x.shape[-1])(x)
        x = layers.Activation(activation, dtype=dtype)(x)
    channels = image_shape[2] if len(image_shape) == 3 else 1
    x = normalized(_convolution(channels, 3, 1, "float32", use_bias=True))(x)
    if len(image_shape) == 2:
        x = layers.Reshape(image_shape, dtype="float32")(x)
    return x


def _unchanged(layer):
    return layer


def _convolution(filters, kernel_size, strides, dtype, use_bias=False, **kwargs):
    return Conv2D(
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
    rows, columns = x.shape[1] - size[0], x.shape[2] - size[1]
    if not rows and not columns:
        return x
    return layers.Cropping2D(
        ((0, rows), (0, columns)), data_format="channels_last", dtype=dtype
    )(x)
