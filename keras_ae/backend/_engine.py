"""The backend that Keras uses, and what is written for it."""

import importlib
from typing import Any

import keras

BACKEND = keras.backend.backend()

if BACKEND not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "keras-ae trains on the Keras backends 'tensorflow', 'jax' and 'torch'. "
        f"Received: KERAS_BACKEND='{BACKEND}'"
    )

engine: Any = importlib.import_module(f"keras_ae.backend._{BACKEND}")
