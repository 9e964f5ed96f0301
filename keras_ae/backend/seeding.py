"""Draws that go by a seed, and change nothing of what is drawn after them."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np

from keras_ae.backend import keras_private
from keras_ae.backend._engine import engine


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block all draws are as after `keras.utils.set_random_seed(seed)`.

    After it Python's, NumPy's, Keras' and the backend's go on as if there was no block.
    """
    ours, arrays = random.getstate(), np.random.get_state()
    with keras_private.global_seed(seed), engine.seeded(seed):
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(arrays)
