"""Which architecture suits a shape, and what a network of one's own must map."""

import math
from collections.abc import Sequence
from typing import Any

import keras

ARCHITECTURES = ("auto", "linear", "dense", "conv", "residual", "sequence")
CONVOLUTIONAL = ("conv", "residual", "sequence")


def resolve(
    image_shape: Sequence[int],
    architecture: str = "auto",
    widths: Sequence[int] | None = None,
) -> tuple[str, tuple[int, ...]]:
    """Chooses what `"auto"` and missing widths stand for.

    Args:
        image_shape: Shape of one example, without the batch.
        architecture: `"auto"` is `"conv"` for pictures and volumes of at least 16
            pixels on every side, and `"dense"` for everything else. `"sequence"` is
            `"conv"` along time, for series, which look like grey pictures.
        widths: Units of each dense layer, or filters of each stage of stride 2.
            Defaults to `(512, 256)` for `"dense"`, and to as many stages as reduce the
            picture to about 4 pixels for convolutions, from 32 filters doubling up to
            256.

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
    sides = with_channels(image_shape, architecture)[:-1]
    if architecture == "auto":
        big = len(sides) in (2, 3) and min(sides) >= 16
        architecture = "conv" if big else "dense"
    if architecture == "sequence" and len(image_shape) != 2:
        one = ", or `x[..., None]` for one channel" if len(image_shape) == 1 else ""
        raise ValueError(
            "`architecture='sequence'` needs series (time, channels). Received "
            f"examples of shape {tuple(image_shape)}; use 'auto'{one}."
        )
    if architecture in ("conv", "residual") and len(sides) not in (2, 3):
        raise ValueError(
            f"`architecture='{architecture}'` needs pictures (height, width) or "
            "(height, width, channels), or volumes (depth, height, width, channels). "
            f"Received examples of shape {tuple(image_shape)}; use 'dense' or 'linear'."
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
            stages = max(1, int(math.log2(max(min(sides) / 4, 2))))
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


def head_dims(heads: Sequence[str] | dict[str, int], latent_dim: int) -> dict[str, int]:
    """Returns how many numbers each output of an encoder has, by name."""
    return heads if isinstance(heads, dict) else dict.fromkeys(heads, latent_dim)


def with_channels(
    image_shape: Sequence[int], architecture: str = "auto"
) -> tuple[int, ...]:
    """Returns the shape of one example with channels, which grey pictures lack."""
    is_grey = len(image_shape) == 2 and architecture != "sequence"
    return (*image_shape, 1) if is_grey else tuple(image_shape)


def grid(
    image_shape: Sequence[int], widths: Sequence[int], architecture: str = "auto"
) -> tuple[int, ...]:
    """Returns the sides of a picture after a stage of stride 2 for each width.

    Of a volume there are three, of a series, with `architecture="sequence"`, one.
    """
    sides = with_channels(image_shape, architecture)[:-1]
    return tuple(math.ceil(side / 2 ** len(widths)) for side in sides)


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
