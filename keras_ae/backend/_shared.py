"""What the three have in common: structures of steps, and the rest of an update."""

import contextlib
from typing import Any, NamedTuple

import keras
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
    """

    count: int  # type: ignore[assignment]
    data: Any
    rows: Any = None

    @property
    def parts(self):
        """What is cut along its first axis, a part a step."""
        return self.data if self.rows is None else self.rows


class Execution(NamedTuple):
    """The steps between two calls of Keras' callbacks."""

    blocks: tuple[Block, ...]


class Cost(NamedTuple):
    """What a step costs: about how many seconds, and whether a loop of steps pays."""

    seconds: float
    loops_well: bool


def norm(gradients):
    """Euclidean norm of all gradients together, in float32."""
    squares = [
        ops.sum(ops.square(ops.cast(gradient, "float32")))
        for gradient in gradients
        if gradient is not None
    ]
    return ops.sqrt(sum(squares, ops.zeros(())))


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
