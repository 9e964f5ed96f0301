"""The random states of a model: found, set, and put back."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops


def states(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables that random numbers are drawn from, in a settled order."""
    return [
        variable
        for variable in layer.variables
        if variable.name == "seed_generator_state"
    ]


def assign(layer: keras.Layer, *numbers: int) -> None:
    """Sets every state by the numbers, each by itself."""
    for index, state in enumerate(states(layer)):
        seeds = np.random.SeedSequence([*numbers, index])
        # Within int32, the narrowest type that a backend keeps seeds in.
        state.assign(seeds.generate_state(2) & 0x3FFFFFFF)


@contextlib.contextmanager
def repeatable(layer: keras.Layer, seed: int | None) -> Iterator[None]:
    """Within the block draws are those of `seed`, after it as if there was no block.

    Nothing is done for a seed of None.
    """
    if seed is None:
        yield
        return
    before = [ops.convert_to_numpy(state) for state in states(layer)]
    assign(layer, seed)
    try:
        yield
    finally:
        for state, value in zip(states(layer), before, strict=True):
            state.assign(value)
