"""Images that are read a batch at a time: memory maps, and what is decoded then."""

from typing import Any

import numpy as np

from keras_ae.datasets import Batches, LazyImages


def is_streamed(data: Any, y: Any = None) -> bool:
    """Whether data are better read a batch at a time than taken as an array.

    Args:
        data: Training data.
        y: What was passed beside them.
    """
    return isinstance(data, LazyImages) or (isinstance(data, np.memmap) and y is None)


def streamed(images, options):
    """Batches of images of which Keras would hold several copies in memory."""
    options = dict(options)
    if options.get("validation_split"):
        return images, options
    _refuse_weight(images, options.get("sample_weight"))
    shuffle = options.pop("shuffle", True)
    batch_size = options.pop("batch_size", None) or 32
    # Like Keras' own order, it follows `keras.utils.set_random_seed`.
    seed = int(np.random.randint(2**31))
    targets = options.get("y")
    if targets is not None:
        options["y"] = None
    streamed = Batches(images, batch_size, shuffle=shuffle, seed=seed, targets=targets)
    return streamed, {**options, "shuffle": False}


def served(data: Any, batch_size: int | None = None) -> Any:
    """Returns batches in order, where pictures are decoded as they are read.

    Args:
        data: Data as `evaluate` takes them, or a tuple `(x, y, sample_weight)`.
        batch_size: Pictures in a batch.
    """
    parts = data if isinstance(data, tuple) else (data,)
    if not isinstance(parts[0], LazyImages):
        return data
    x, y, weight = (*parts, None, None)[:3]
    _refuse_weight(x, weight)
    return Batches(x, batch_size or 32, shuffle=False, targets=y)


def _refuse_weight(images, weight):
    if weight is not None and isinstance(images, LazyImages):
        raise ValueError(
            "`sample_weight` needs an array. Received: a LazyImages; load the pictures "
            "without `stream=True`."
        )
