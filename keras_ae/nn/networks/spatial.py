"""Networks whose code has a vector for each place of a grid."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_ae.checks import check_activation
from keras_ae.nn.layers import SpectralNormalization
from keras_ae.nn.networks.shapes import CONVOLUTIONAL, grid, resolve
from keras_ae.nn.networks.stages import (
    _attended,
    _convolution,
    _downsampled,
    _judged,
    _upsampled,
)
from keras_ae.nn.networks.vector import critic


def spatial_encoder(
    image_shape: Sequence[int],
    latent_dim: int,
    architecture: str,
    widths: Sequence[int],
    activation: str = "relu",
    heads: Sequence[str] = ("z",),
    dtype=None,
    attention: bool = False,
    remat: bool = False,
) -> keras.Model:
    """Builds an encoder that gives a code for each place of a grid.

    Args:
        image_shape: Shape of one picture, `(height, width)` or
            `(height, width, channels)`, of one volume or of one series.
        latent_dim: Numbers in the code of one place.
        architecture: `"conv"`, `"residual"` or `"sequence"`.
        widths: Filters of each stage of stride 2.
        activation: Activation of the hidden layers.
        heads: Names of the outputs.
        dtype: Dtype policy of the hidden layers.
        attention: Whether places look at each other once the picture is smallest.
        remat: Whether residual blocks compute again what they would keep for the way
            back: see `ResidualBlock`.

    Returns:
        A model from `(batch, *image_shape)` to `(batch, rows * columns * latent_dim)`,
        in float32, where `rows, columns = grid(image_shape, widths, architecture)`, or
        to a dict of them by name where `heads` has several names.

    Raises:
        ValueError: If `activation` is none of Keras'.
    """
    check_activation("activation", activation)
    inputs = keras.Input(image_shape, name="x")
    x = _downsampled(inputs, architecture, widths, activation, dtype, remat=remat)
    x = _attended(x, dtype) if attention else x
    outputs = {}
    for name in heads:
        head = _convolution(len(x.shape) - 2, latent_dim, 1, 1, "float32", True)(x)
        outputs[name] = layers.Flatten(dtype="float32", name=name)(head)
    if len(outputs) == 1:
        (outputs,) = outputs.values()
    return keras.Model(inputs, outputs, name="encoder")


def spatial_decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    architecture: str,
    widths: Sequence[int],
    activation: str = "relu",
    dtype=None,
    attention: bool = False,
    remat: bool = False,
) -> keras.Model:
    """Builds a decoder, the mirror image of `spatial_encoder` with the same arguments.

    Returns:
        A model from `(batch, rows * columns * latent_dim)` to the likelihood's
        parameters `(batch, *image_shape)`, in float32 and without an activation.

    Raises:
        ValueError: If `activation` is none of Keras'.
    """
    check_activation("activation", activation)
    sides = grid(image_shape, widths, architecture)
    inputs = keras.Input((math.prod(sides) * latent_dim,), name="z")
    x = layers.Reshape((*sides, latent_dim), dtype=dtype)(inputs)
    x = _convolution(len(sides), widths[-1], 3, 1, dtype, use_bias=True)(x)
    x = layers.Activation(activation, dtype=dtype)(x)
    x = _attended(x, dtype) if attention else x
    x = _upsampled(x, image_shape, architecture, widths, activation, dtype, remat=remat)
    return keras.Model(inputs, x, name="decoder")


def patch_critic(
    image_shape: Sequence[int],
    architecture: str = "auto",
    widths: Sequence[int] | None = None,
    activation: str = "leaky_relu",
    dtype=None,
    spectral_norm: bool = False,
) -> keras.Model:
    """Builds a critic, or discriminator, that judges each patch of a picture by itself.

    It has the convolutions of `critic`, and a last one of size 3 that gives a number
    for each place of the grid that is left.

    Args:
        image_shape: Shape of one example.
        architecture: `"auto"`, `"conv"`, `"residual"` or `"sequence"`; a critic of
            another architecture judges the whole example.
        widths: Filters of each stage of stride 2. Defaults to those of `resolve`, three
            at most: patches of 30 pixels and less are judged.
        activation: Activation of the hidden layers.
        dtype: Dtype policy of the hidden layers.
        spectral_norm: Whether the layers are spectrally normalised.

    Returns:
        A model from `(batch, *image_shape)` to `(batch, rows, columns, 1)`, or to
        `(batch, 1)` where there are no convolutions, in float32. Its layers are named
        as those of `critic`.

    Raises:
        ValueError: If an argument is out of range, or the architecture not one for such
            examples.

    Reference:
        Isola et al., Image-to-Image Translation with Conditional Adversarial Networks,
        2017 (https://arxiv.org/abs/1611.07004).
    """
    options = {"activation": activation, "dtype": dtype, "spectral_norm": spectral_norm}
    architecture, resolved = resolve(image_shape, architecture, widths)
    check_activation("activation", activation)
    if architecture not in CONVOLUTIONAL:
        return critic(image_shape, architecture, resolved or None, **options)
    inputs = keras.Input(image_shape, name="x")
    x = inputs
    if architecture != "sequence":
        # Pictures in [0, 1] would push all units of a layer the same way.
        x = layers.Rescaling(2.0, -1.0, dtype=dtype)(x)
    x = _judged(x, architecture, widths or resolved[:3], **options)
    x = layers.Identity(dtype=dtype, name="features")(x)
    last = _convolution(len(x.shape) - 2, 1, 3, 1, "float32", True, name="logits")
    x = (SpectralNormalization(last) if spectral_norm else last)(x)
    return keras.Model(inputs, x, name="critic")
