"""Encoders, decoders and critics, sized to the shape of the data.

Each is a plain Keras model that can be called, saved and exported on its own. Data may
be vectors `(features,)`, grey pictures `(height, width)` or pictures
`(height, width, channels)`, of any size, odd ones and non-square ones included.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_ae.nn.layers import (
    BatchNormalization,
    Conv2D,
    DepthToSpace,
    ResidualBlock,
    SpaceToDepth,
    SpectralNormalization,
)

ARCHITECTURES = ("auto", "linear", "dense", "conv", "residual")


def resolve(
    image_shape: Sequence[int],
    architecture: str = "auto",
    widths: Sequence[int] | None = None,
) -> tuple[str, tuple[int, ...]]:
    """Chooses what `"auto"` and missing widths stand for.

    Args:
        image_shape: Shape of one example, without the batch.
        architecture: `"auto"` is `"conv"` for pictures of at least 16 by 16 pixels and
            `"dense"` for everything else.
        widths: Units of each dense layer, or filters of each stage of stride 2.
            Defaults to `(512, 256)` for `"dense"`, and to as many stages as reduce the
            picture to about 4 pixels for `"conv"` and `"residual"`, from 32 filters
            doubling up to 256.

    Returns:
        The architecture's name and the widths.

    Raises:
        ValueError: For an unknown architecture, widths that are not positive, or
            convolutions on what is no picture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"`architecture` must be one of {', '.join(map(repr, ARCHITECTURES))}. "
            f"Received: architecture={architecture!r}"
        )
    is_picture = len(image_shape) in (2, 3)
    if architecture == "auto":
        big = is_picture and min(image_shape[:2]) >= 16
        architecture = "conv" if big else "dense"
    if architecture in ("conv", "residual") and not is_picture:
        raise ValueError(
            f"`architecture='{architecture}'` needs pictures (height, width) or "
            "(height, width, channels). Received examples of shape "
            f"{tuple(image_shape)}; use 'dense' or 'linear'."
        )
    if architecture == "linear":
        if widths:
            raise ValueError(
                "`architecture='linear'` has no hidden layers, so `widths` must be "
                f"None. Received: widths={widths!r}"
            )
        return architecture, ()
    if widths is None:
        if architecture == "dense":
            widths = (512, 256)
        else:
            stages = max(1, int(math.log2(max(min(image_shape[:2]) / 4, 2))))
            widths = tuple(min(32 * 2**stage, 256) for stage in range(stages))
    if (
        not isinstance(widths, tuple | list)
        or not widths
        or any(not isinstance(width, int) or not 1 <= width < 2**31 for width in widths)
    ):
        raise ValueError(
            "`widths` must be a list of one or more integers >= 1. "
            f"Received: widths={widths!r}"
        )
    return architecture, tuple(widths)


def check_channels_last(image_shape: Sequence[int], architecture: str = "auto") -> None:
    """Raises `ValueError` for examples that look like pictures with channels first.

    Dense networks would not mind.

    Args:
        image_shape: Shape of one example.
        architecture: As for `resolve`.
    """
    if len(image_shape) != 3 or architecture in ("dense", "linear"):
        return
    channels, height, width = image_shape
    if channels in (1, 3) and min(height, width) > 4:
        raise ValueError(
            "Pictures must be (height, width, channels), channels last. Received "
            f"examples of shape {tuple(image_shape)}, which looks like channels first; "
            "move the axis, with `numpy.moveaxis(x, 1, -1)` for a batch, or say "
            f"`image_shape={tuple(image_shape)}` if that is what they are."
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
        image_shape: Shape of one example: `(features,)`, `(height, width)` or
            `(height, width, channels)`.
        latent_dim: Numbers in a code.
        architecture: `"auto"`, `"linear"`, `"dense"`, `"conv"` or `"residual"`.
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

    Example:

    >>> network = encoder((28, 28, 1), 16, heads=("mean", "log_var"))
    >>> network(images)["mean"].shape
    (64, 16)
    """
    architecture, widths = resolve(image_shape, architecture, widths)
    normalized = SpectralNormalization if spectral_norm else _unchanged
    inputs = keras.Input(image_shape, name="x")
    x = inputs
    if architecture in ("conv", "residual"):
        x = _downsampled(x, architecture, widths, activation, dtype, spectral_norm)
        x = layers.Flatten(dtype=dtype)(x)
    else:
        constant = x[:, 0, 0, -planes:] if planes and len(image_shape) > 1 else None
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


def head_dims(heads: Sequence[str] | dict[str, int], latent_dim: int) -> dict[str, int]:
    """Returns how many numbers each output of an encoder has, by name."""
    return heads if isinstance(heads, dict) else dict.fromkeys(heads, latent_dim)


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
    """
    architecture, widths = resolve(image_shape, architecture, widths)
    normalized = SpectralNormalization if spectral_norm else _unchanged
    inputs = keras.Input((latent_dim,), name="z")
    x = inputs
    if architecture in ("conv", "residual"):
        height, width = grid(image_shape, widths)
        units = height * width * widths[-1]
        x = normalized(layers.Dense(units, activation, dtype=dtype))(x)
        x = layers.Reshape((height, width, widths[-1]), dtype=dtype)(x)
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


def grid(image_shape: Sequence[int], widths: Sequence[int]) -> tuple[int, int]:
    """Returns height and width of a picture after a stage of stride 2 a width."""
    return tuple(math.ceil(size / 2 ** len(widths)) for size in image_shape[:2])


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
            `(height, width, channels)`.
        latent_dim: Numbers in the code of one place.
        architecture: `"conv"` or `"residual"`.
        widths: Filters of each stage of stride 2.
        activation: Activation of the hidden layers.
        dtype: Dtype policy of the hidden layers.

    Returns:
        A model from `(batch, *image_shape)` to `(batch, rows * columns * latent_dim)`,
        in float32, where `rows, columns = grid(image_shape, widths)`.
    """
    inputs = keras.Input(image_shape, name="x")
    x = _downsampled(inputs, architecture, widths, activation, dtype)
    x = _convolution(latent_dim, 1, 1, "float32", use_bias=True)(x)
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
    rows, columns = grid(image_shape, widths)
    inputs = keras.Input((rows * columns * latent_dim,), name="z")
    x = layers.Reshape((rows, columns, latent_dim), dtype=dtype)(inputs)
    x = _convolution(widths[-1], 3, 1, dtype, use_bias=True)(x)
    x = layers.Activation(activation, dtype=dtype)(x)
    x = _upsampled(x, image_shape, architecture, widths, activation, dtype)
    return keras.Model(inputs, x, name="decoder")


def denoising_encoder(
    image_shape: Sequence[int],
    latent_dim: int,
    widths: Sequence[int],
    activation: str = "relu",
    dtype=None,
) -> keras.Model:
    """Builds an encoder of noisy pictures, whose code has all that is in them.

    Squares of 2 by 2 pixels are one place of a grid, where residual blocks find the
    features that tell noise from picture; they do without normalisation, which would
    change the brightness. The code of a place is its pixels and its features. The
    weights fit pictures of any size.

    Args:
        image_shape: Shape of one picture, `(height, width)` or
            `(height, width, channels)`.
        latent_dim: Features in the code of one place.
        widths: Filters within each residual block.
        activation: Activation of the hidden layers.
        dtype: Dtype policy of the hidden layers.

    Returns:
        A model from `(batch, *image_shape)` to a code of `denoising_code(image_shape,
        latent_dim)` numbers, in float32.

    Reference:
        Zhang et al., FFDNet: Toward a Fast and Flexible Solution for CNN based Image
        Denoising, 2018 (https://arxiv.org/abs/1710.04026).
    """
    inputs = keras.Input(image_shape, name="x")
    x = inputs
    if len(image_shape) == 2:
        x = layers.Reshape((*image_shape, 1), dtype="float32")(x)
    odd = [(0, size % 2) for size in image_shape[:2]]
    if odd != [(0, 0), (0, 0)]:
        x = layers.ZeroPadding2D(odd, "channels_last", dtype="float32")(x)
    pixels = SpaceToDepth(dtype="float32")(x)
    x = _convolution(
        latent_dim, 3, 1, dtype, use_bias=True, kernel_initializer="he_normal"
    )(pixels)
    for width in widths:
        x = _residual(x, width, activation, dtype)
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
    """
    rows, columns = grid(image_shape, (2,))
    channels = 4 * math.prod(image_shape[2:])
    inputs = keras.Input((denoising_code(image_shape, latent_dim),), name="z")
    code = layers.Reshape((rows, columns, channels + latent_dim), dtype="float32")(
        inputs
    )
    x = code[..., channels:]
    for width in reversed(widths):
        x = _residual(x, width, activation, dtype)
    # No activation here: what is linear in the noisy pixels is most of what it takes.
    x = _convolution(
        channels, 3, 1, "float32", use_bias=True, kernel_initializer="zeros"
    )(x)
    x = layers.Add(dtype="float32")([x, code[..., :channels]])
    x = DepthToSpace(dtype="float32")(x)
    x = _crop(x, image_shape, "float32")
    if len(image_shape) == 2:
        x = layers.Reshape(image_shape, dtype="float32")(x)
    return keras.Model(inputs, x, name="decoder")


def denoising_code(image_shape: Sequence[int], latent_dim: int) -> int:
    """Returns the numbers in a code of `denoising_encoder`."""
    places = math.prod(grid(image_shape, (2,)))
    return places * (4 * math.prod(image_shape[2:]) + latent_dim)


def _residual(x, width, activation, dtype):
    """x + f(x) of two plain convolutions, which starts as x."""
    h = layers.Activation(activation, dtype=dtype)(x)
    h = _convolution(width, 3, 1, dtype, use_bias=True, kernel_initializer="he_normal")(
        h
    )
    h = layers.Activation(activation, dtype=dtype)(h)
    h = _convolution(
        x.shape[-1], 3, 1, dtype, use_bias=True, kernel_initializer="zeros"
    )(h)
    return layers.Add(dtype=dtype)([x, h])


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
        architecture: `"auto"`, `"linear"`, `"dense"`, `"conv"` or `"residual"`.
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
    """
    architecture, widths = resolve(image_shape, architecture, widths)
    normalized = SpectralNormalization if spectral_norm else _unchanged
    inputs = [keras.Input(image_shape, name="x")]
    x = inputs[0]
    if len(image_shape) > 1:
        # Pictures in [0, 1] would push all units of a layer the same way.
        x = layers.Rescaling(2.0, -1.0, dtype=dtype)(x)
    if architecture in ("conv", "residual"):
        if len(image_shape) == 2:
            x = layers.Reshape((*image_shape, 1), dtype=dtype)(x)
        for number, width in enumerate(widths, 1):
            size = 4 if architecture == "conv" else 3
            x = normalized(_convolution(width, size, 2, dtype, use_bias=True))(x)
            options = {"dtype": dtype, "name": f"stage_{number}"}
            if architecture == "residual":
                x = ResidualBlock(width, activation, spectral_norm, **options)(x)
            else:
                x = layers.Activation(activation, **options)(x)
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


def check(name: str, network: Any, input_shape: Any, expected: Any) -> None:
    """Raises `ValueError` unless a network maps `input_shape` to `expected` shapes.

    Args:
        name: The argument that the network was passed as.
        network: What was passed.
        input_shape: Shape of one example, without the batch; a list of the shapes of
            several inputs.
        expected: Shape of one output, or a dict of them by name.
    """
    several = isinstance(input_shape, list)
    shapes = input_shape if several else [input_shape]
    given = " and ".join(f"(batch, {_join(shape)})" for shape in shapes)
    requirement = (
        f"`{name}` must be a Keras model that maps "
        + (f"a list of {given}" if several else given)
        + " to "
        + (
            " and ".join(f"'{k}' (batch, {_join(v)})" for k, v in expected.items())
            + ", as a dict"
            if isinstance(expected, dict)
            else f"(batch, {_join(expected)})"
        )
    )
    if not isinstance(network, keras.Layer):
        raise ValueError(f"{requirement}. Received: {network!r}")
    try:
        tensors = [keras.KerasTensor((None, *shape)) for shape in shapes]
        outputs = network(tensors if several else tensors[0])
    # Keras refuses a list in either way.
    except (TypeError, ValueError) as error:
        raise ValueError(f"{requirement}. It refused that shape: {error}") from error
    received = keras.tree.map_structure(lambda tensor: tuple(tensor.shape)[1:], outputs)
    if received != expected:
        raise ValueError(f"{requirement}. Received one that gives {received}")


def _join(shape):
    return ", ".join(map(str, shape))
