"""What the three have in common: structures of steps, and the rest of an update."""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

# Of a model's steps, roughly and rather too low: what their cost goes by.
CPU_FLOPS = 1e11
ACCELERATOR_FLOPS = 5e12
SMALLEST_STEP = 2e-5  # seconds


class Block(NamedTuple):
    """What the steps of one dispatch are given, in the structure of a batch.

    Attributes:
        count: How many steps there are. What is cut may hold more of them, zeros, so
            that all blocks have one shape.
        data: Batches `(steps, batch, ...)`, or with `rows` whole arrays `(n, ...)` on
            the device.
        rows: None, or which rows of `data` are in each batch: int32 `(steps, batch)`.
        keys: None, or of what each batch is drawn in black and white: uint32
            `(steps, 2)`.
    """

    count: int  # type: ignore[assignment]
    data: Any
    rows: Any = None
    keys: Any = None

    @property
    def parts(self):
        """What is cut along its first axis, a part a step."""
        return self.data if self.rows is None else (self.rows, self.keys)


class Execution(NamedTuple):
    """The steps between two calls of Keras' callbacks."""

    blocks: tuple[Block, ...]


class Cost(NamedTuple):
    """What a step costs: about how many seconds, and whether a loop of steps pays."""

    seconds: float
    loops_well: bool


def chosen_devices(devices: Any, found: Sequence[str]) -> list[int]:
    """Returns the numbers of the devices that a user has chosen, or refuses them."""
    asked, count, whole = devices, len(found), int | np.integer
    if isinstance(devices, str) and devices == "all":
        return [*range(count)]
    if isinstance(devices, whole) and not isinstance(devices, bool):
        devices = [*range(devices)] if 1 <= devices <= count else None
    is_list = isinstance(devices, Sequence) and not isinstance(devices, str)
    if (
        is_list
        and devices
        and all(isinstance(index, whole) and 0 <= index < count for index in devices)
        and len({*devices}) == len(devices)
    ):
        return [*devices]
    raise ValueError(
        "`devices` must be 'all', a number from 1, or distinct numbers from 0 in a "
        f"list, of the {count} that there are: {', '.join(found)}. Received: "
        f"devices={asked!r}"
    )


def norm(gradients):
    """Euclidean norm of all gradients together, in float32."""
    squares = [
        ops.sum(ops.square(ops.cast(gradient, "float32")))
        for gradient in gradients
        if gradient is not None
    ]
    return ops.sqrt(sum(squares, ops.zeros(())))


def black_and_white(grey, key, numpy):
    """Draws pixels, 0 or 1, with the grey value as the probability of white.

    The same pixels come of the same key wherever they are drawn, in memory or on a
    device: the bits are a hash of the key and the pixel's place.

    Args:
        grey: Array of integers in 0-255 or of floats in [0, 1].
        key: uint32 `(2,)`.
        numpy: The array's module, `numpy` or `jax.numpy`.

    Returns:
        float32 array of the shape of `grey`.

    Reference: Wellons, hash-prospector, 2018 (the hash `lowbias32`).
    """
    bits = numpy.arange(grey.size, dtype="uint32").reshape(grey.shape)
    for part in (key[0], key[1]):
        bits = (bits ^ part) * np.uint32(0x9E3779B1)
        bits = (bits ^ (bits >> 16)) * np.uint32(0x7FEB352D)
        bits = (bits ^ (bits >> 15)) * np.uint32(0x846CA68B)
        bits = bits ^ (bits >> 16)
    fraction = bits >> 8  # of 2**24
    if np.dtype(grey.dtype).kind in "ui":
        # 255 equally likely thresholds: P(threshold < grey) is grey / 255.
        threshold = (fraction * np.uint32(255)) >> 24
    else:
        threshold = fraction.astype("float32") * np.float32(2**-24)
    return (threshold < grey).astype("float32")


def is_adam(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether this is Keras' Adam, not what is derived from it."""
    # What is derived may update in another way.
    kinds = (keras.optimizers.Adam, keras.optimizers.AdamW)
    known = type(optimizer) in (type(kind.__new__(kind)) for kind in kinds)
    return known and not optimizer.amsgrad


@contextlib.contextmanager
def replaced(optimizer: keras.optimizers.Optimizer, name: str, method):
    """Inside the block, an optimizer has another method of that name."""
    # Not by Keras' own `__setattr__`, which tracks and saves what it is given.
    vars(optimizer)[name] = method
    try:
        yield
    finally:
        # tf.distribute comes here once a replica, after all have updated.
        vars(optimizer).pop(name, None)


@contextlib.contextmanager
def kept_unless(condition, variables):
    """After the block, variables are as before it where `condition` is false.

    Args:
        condition: None, which always holds, or a boolean scalar.
        variables: What the block assigns.
    """
    if condition is None:
        yield
        return
    # Copies, because optimizers update in place.
    before = [ops.copy(variable.value) for variable in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.assign(ops.where(condition, variable.value, value))
