"""What a training comes to: who is told if it fails, or has learned nothing."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def trained(model: keras.Model, options: dict[str, Any]) -> keras.callbacks.History:
    """Runs Keras' `fit` and returns its history.

    Args:
        model: The model.
        options: Arguments of `keras.Model.fit`.
    """
    with _failure_told(options.get("callbacks")):
        history = keras.Model.fit(model, **options)
    _warn_of_nan(history)
    return history


@contextlib.contextmanager
def _failure_told(callbacks: Any) -> Iterator[None]:
    """A block that trains; if it raises, callbacks' `on_train_failed` is called.

    Keras tells them of the end of a training only where it comes to one.
    """
    try:
        yield
    except BaseException as error:
        for callback in keras.tree.flatten(getattr(callbacks, "callbacks", callbacks)):
            if hasattr(callback, "on_train_failed"):
                callback.on_train_failed(error)
        raise


def _warn_of_nan(history):
    """Warns where the loss ended as NaN or infinite: weights are NaN then, too."""
    losses = history.history.get("loss", [])
    finite = [i for i, loss in enumerate(losses) if np.isfinite(loss)]
    first = finite[-1] + 1 if finite else 0
    if first == len(losses):
        return
    warnings.warn(
        f"The loss is {losses[-1]:g} since epoch {history.epoch[first] + 1}. Look for "
        "NaN, and for wrong labels, in the data, of which only the first batch is "
        "looked at where they are no array; or learn more slowly, with a lower "
        "learning rate or `clipnorm` of the optimizer.",
        stacklevel=4,
    )
