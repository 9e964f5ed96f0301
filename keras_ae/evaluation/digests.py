"""What tells data and models apart."""

from __future__ import annotations

import hashlib

import keras
import numpy as np

from keras_ae.evaluation.task import _CHUNK
from keras_ae.metrics import arrays


def weights_digest(model: keras.Model) -> str:
    """16 hexadecimal digits of a model's weights."""
    found = hashlib.sha256()
    for value in model.get_weights():
        found.update(np.ascontiguousarray(arrays.array("weights", value)).data)
    return found.hexdigest()[:16]


def digest(images: np.ndarray) -> str:
    """16 hexadecimal digits of pictures: equal where every value is equal.

    Args:
        images: Array of any shape and type.
    """
    found = hashlib.sha256(f"{images.dtype.str} {images.shape}".encode())
    for start in range(0, len(images), _CHUNK):
        found.update(np.ascontiguousarray(images[start : start + _CHUNK]).data)
    return found.hexdigest()[:16]
