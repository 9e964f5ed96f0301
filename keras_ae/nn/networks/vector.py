"""Encoders, decoders and critics of code vectors."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_ae.checks import check_activation
from keras_ae.nn.layers import SpectralNormalization
from keras_ae.nn.networks.shapes import CONVOLUTIONAL, grid, head_dims, resolve
from keras_ae.nn.networks.stages import (
    _downsampled,
    _judged,
    _unchanged,
    _upsampled,
)


def encoder(
    image_shape: Sequence[int],
    latent_dim: int,
    architecture: str = "auto",
    widths: Sequence[int] | None = None,
    activation: str = "relu",
    heads: Sequence[str] | dict[str, int] = ("z",),
    dtype=None,
    spectral_norm: bool = False,
    planes: int = 0,
) -> keras.Model:
    """Builds an encoder.

    Args:
        image_shape: Shape of one example: `(features,)`, `(height, width)`,
            `(height, width, channels)`, `(depth, height, width, channels)` or, with
            `"sequence"`, `(time, channels)`.
        latent_dim: Numbers in a code.
        architecture: `"auto"`, `"linear"`, `"dense"`, `"conv"`, `"residual"` or
            `"sequence"`.
        widths: See `resolve`.
        activation: Activation of the hidden layers.
        heads: Names of the outputs, each `(batch, latent_dim)` in float32, or a dict of
            names and how many numbers each has.
        dtype: Dtype policy of the hidden layers.
        spectral_norm: Whether dense layers and convolutions are spectrally normalised.
        planes: How many of the last channels of pictures are constant over a picture,
            such as its one-hot label; dense layers are given one number of each.

    Returns:
        A model from `(batch, *image_shape)` to one tensor, or to a dict by name where
        `heads` has several names.

    Raises:
        ValueError: If an argument is out of range, or the architecture not one for such
            examples.

    Example:

    >>> network = encoder((28, 28, 1), 16, heads=("mean", "log_var"))
    >>> network(images)["mean"].shape
    (64, 16)
    """
    architecture, widths = resolve(image_shape, architecture, widths)
    check_activation("activation", activation)
    normalized = SpectralNormalization if spectral_norm else _unchanged
    inputs = keras.Input(image_shape, name="x")
    x = inputs
    if architecture in CONVOLUTIONAL:
        x = _downsampled(x, architecture, widths, activation, dtype, spectral_norm)
        x = layers.Flatten(dtype=dtype)(x)
    else:
        constant = None
        if planes and len(image_shape) > 1:
            constant = x[:, *[0] * (len(image_shape) - 1), -planes:]
        if constant is not None:
            x = x[..., :-planes]
        x = layers.Flatten(dtype=dtype)(x)
        if constant is not None:
            x = layers.Concatenate(dtype=dtype)([x, constant])
        for width in widths:
            x = normalized(layers.Dense(width, activation, dtype=dtype))(x)
    # Codes and posteriors are float32 under every dtype policy.
    outputs = {
        name: normalized(layers.Dense(units, dtype="float32", name=name))(x)
        for name, units in head_dims(heads, latent_dim).items()
    }
    if len(outputs) == 1:
        (outputs,) = outputs.values()
    return keras.Model(inputs, outputs, name="encoder")


def decoder(
    image_shape: Sequence[int],
    latent_dim: int,
    architecture: str = "auto",
    widths: Sequence[int] | None = None,
    activation: str = "relu",
    dtype=None,
    spectral_norm: bool = False,
) -> keras.Model:
    """Builds a decoder, the mirror image of `encoder` with the same arguments.

    Returns:
        A model from `(batch, latent_dim)` to the likelihood's parameters
        `(batch, *image_shape)`, in float32 and without an activation.

    Raises:
        ValueError: If an argument is out of range, or the architecture not one for such
            examples.
    """
    architecture, widths = resolve(image_shape, architecture, widths)
    check_activation("activation", activation)
    normalized = SpectralNormalization if spectral_norm else _unchanged
    inputs = keras.Input((latent_dim,), name="z")
    x = inputs
    if architecture in CONVOLUTIONAL:
        shape = (*grid(image_shape, widths, architecture), widths[-1])
        x = normalized(layers.Dense(math.prod(shape), activation, dtype=dtype))(x)
        x = layers.Reshape(shape, dtype=dtype)(x)
        x = _upsampled(
            x, image_shape, architecture, widths, activation, dtype, spectral_norm
        )
    else:
        for width in reversed(widths):
            x = normalized(layers.Dense(width, activation, dtype=dtype))(x)
        x = normalized(layers.Dense(math.prod(image_shape), dtype="float32"))(x)
        if len(image_shape) > 1:
            x = layers.Reshape(image_shape, dtype="float32")(x)
    return keras.Model(inputs, x, name="decoder")


def critic(
    image_shape: Sequence[int],
    architecture: str = "auto",
    widths: Sequence[int] | None = None,
    activation: str = "leaky_relu",
    dtype=None,
    spectral_norm: bool = False,
    code_dim: int = 0,
) -> keras.Model:
    """Builds a critic, or discriminator: one number for each example.

    It has the layers of `encoder` without batch normalisation, whose statistics would
    differ between real and generated batches, and tie examples together where a
    gradient penalty wants them apart.

    Args:
        image_shape: Shape of one example.
        architecture: `"auto"`, `"linear"`, `"dense"`, `"conv"`, `"residual"` or
            `"sequence"`.
        widths: See `resolve`.
        activation: Activation of the hidden layers.
        dtype: Dtype policy of the hidden layers.
        spectral_norm: Whether dense layers and convolutions are spectrally normalised.
        code_dim: Numbers in a code that is judged together with the example; 0 for
            none.

    Returns:
        A model from `(batch, *image_shape)`, or from a list of that and
        `(batch, code_dim)`, to `(batch, 1)`, in float32. Its stages of stride 2 end in
        the layers `"stage_1"`, `"stage_2"` ..., its dense ones are `"dense_1"` ..., and
        `"features"` is the last hidden one.

    Raises:
        ValueError: If an argument is out of range, or the architecture not one for such
            examples.
    """
    architecture, widths = resolve(image_shape, architecture, widths)
    check_activation("activation", activation)
    normalized = SpectralNormalization if spectral_norm else _unchanged
    inputs = [keras.Input(image_shape, name="x")]
    x = inputs[0]
    if len(image_shape) > 1 and architecture != "sequence":
        # Pictures in [0, 1] would push all units of a layer the same way.
        x = layers.Rescaling(2.0, -1.0, dtype=dtype)(x)
    if architecture in CONVOLUTIONAL:
        x = _judged(x, architecture, widths, activation, dtype, spectral_norm)
        widths = widths[-1:] if code_dim else ()
    x = layers.Flatten(dtype=dtype)(x)
    if code_dim:
        inputs.append(keras.Input((code_dim,), name="z"))
        x = layers.Concatenate(dtype=dtype)([x, inputs[1]])
    for number, width in enumerate(widths, 1):
        name = f"dense_{number}"
        x = normalized(layers.Dense(width, activation, dtype=dtype, name=name))(x)
    x = layers.Identity(dtype=dtype, name="features")(x)
    x = normalized(layers.Dense(1, dtype="float32", name="logits"))(x)
    return keras.Model(inputs if code_dim else inputs[0], x, name="critic")
