"""Networks that restore pictures of any size."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_ae.checks import check_activation
from keras_ae.nn.layers import DepthToSpace, SpaceToDepth
from keras_ae.nn.networks.shapes import grid
from keras_ae.nn.networks.stages import _convolution, _crop


def denoising_encoder(
    image_shape: Sequence[int],
    latent_dim: int,
    widths: Sequence[int],
    activation: str = "relu",
    dtype=None,
) -> keras.Model:
    """Builds an encoder of noisy pictures, whose code has all that is in them.

    Squares of 2 by 2 pixels are one place of a grid, for which residual blocks at
    coarser and coarser scales find the features that tell noise from picture: what
    reaches far costs little there. They do without normalisation, which would change
    the brightness. The code of a place is its pixels and its features. The weights fit
    pictures of any size.

    Args:
        image_shape: Shape of one picture, `(height, width)` or
            `(height, width, channels)`.
        latent_dim: Features in the code of one place.
        widths: Filters within each residual block: of the decoder's at the scale of the
            grid, and of the encoder's two at each further scale, half as fine as the
            one before.
        activation: Activation of the hidden layers.
        dtype: Dtype policy of the hidden layers.

    Returns:
        A model from `(batch, *image_shape)` to a code of `denoising_code(image_shape,
        latent_dim)` numbers, in float32.

    Raises:
        ValueError: If `activation` is none of Keras'.

    Reference:
        Zhang et al., FFDNet: Toward a Fast and Flexible Solution for CNN based Image
        Denoising, 2018 (https://arxiv.org/abs/1710.04026); Ronneberger et al., U-Net:
        Convolutional Networks for Biomedical Image Segmentation, 2015
        (https://arxiv.org/abs/1505.04597), for the scales.
    """
    check_activation("activation", activation)
    inputs = keras.Input(image_shape, name="x")
    x = inputs
    if len(image_shape) == 2:
        x = layers.Reshape((*image_shape, 1), dtype="float32")(x)
    x = _even(x, "float32")
    pixels = SpaceToDepth(dtype="float32")(x)
    x = _convolution(
        2, latent_dim, 3, 1, dtype, use_bias=True, kernel_initializer="he_normal"
    )(pixels)
    x = _coarser(x, widths[1:], activation, dtype)
    x = layers.Concatenate(dtype="float32")([pixels, x])
    x = layers.Flatten(dtype="float32", name="z")(x)
    return keras.Model(inputs, x, name="encoder")


def denoising_decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    widths: Sequence[int],
    activation: str = "relu",
    dtype=None,
) -> keras.Model:
    """Builds a decoder of the codes of `denoising_encoder`, given the same arguments.

    Returns:
        A model from codes to the likelihood's parameters `(batch, *image_shape)`, in
        float32 and without an activation: at first the noisy pixels of the code, to
        which is added what it learns.

    Raises:
        ValueError: If `activation` is none of Keras'.
    """
    check_activation("activation", activation)
    rows, columns = grid(image_shape, (2,))
    channels = 4 * math.prod(image_shape[2:])
    inputs = keras.Input((denoising_code(image_shape, latent_dim),), name="z")
    code = layers.Reshape((rows, columns, channels + latent_dim), dtype="float32")(
        inputs
    )
    x = _residual(code[..., channels:], widths[0], activation, dtype)
    # No activation here: what is linear in the noisy pixels is most of what it takes.
    x = _convolution(
        2, channels, 3, 1, "float32", use_bias=True, kernel_initializer="zeros"
    )(x)
    x = layers.Add(dtype="float32")([x, code[..., :channels]])
    x = DepthToSpace(dtype="float32")(x)
    x = _crop(x, image_shape[:2], "float32")
    if len(image_shape) == 2:
        x = layers.Reshape(image_shape, dtype="float32")(x)
    return keras.Model(inputs, x, name="decoder")


def denoising_code(image_shape: Sequence[int], latent_dim: int) -> int:
    """Returns the numbers in a code of `denoising_encoder`."""
    places = math.prod(grid(image_shape, (2,)))
    return places * (4 * math.prod(image_shape[2:]) + latent_dim)


def _coarser(x, widths, activation, dtype):
    """x, to which is added what blocks tell that see it at coarser scales."""
    if not widths:
        return x
    h = layers.AveragePooling2D(2, data_format="channels_last", dtype=dtype)(
        _even(x, dtype)
    )
    h = _residual(h, widths[0], activation, dtype)
    h = _coarser(h, widths[1:], activation, dtype)
    h = _residual(h, widths[0], activation, dtype)
    h = layers.Activation(activation, dtype=dtype)(h)
    h = _convolution(
        2, x.shape[-1], 1, 1, dtype, use_bias=True, kernel_initializer="zeros"
    )(h)
    h = layers.UpSampling2D(2, data_format="channels_last", dtype=dtype)(h)
    return layers.Add(dtype=dtype)([x, _crop(h, x.shape[1:3], dtype)])


def _even(x, dtype):
    """x with a row or a column more where it has an odd number of them."""
    odd = [(0, size % 2) for size in x.shape[1:3]]
    if odd == [(0, 0), (0, 0)]:
        return x
    return layers.ZeroPadding2D(odd, "channels_last", dtype=dtype)(x)


def _residual(x, width, activation, dtype):
    """x + f(x) of two plain convolutions, which starts as x."""
    h = layers.Activation(activation, dtype=dtype)(x)
    h = _convolution(
        2, width, 3, 1, dtype, use_bias=True, kernel_initializer="he_normal"
    )(h)
    h = layers.Activation(activation, dtype=dtype)(h)
    h = _convolution(
        2, x.shape[-1], 3, 1, dtype, use_bias=True, kernel_initializer="zeros"
    )(h)
    return layers.Add(dtype=dtype)([x, h])
