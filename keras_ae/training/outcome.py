"""What a training has come to."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def warn_of_nan(history: keras.callbacks.History) -> None:
    """Warns where the loss ended as NaN or infinite: weights are NaN then, too.

    Args:
        history: What Keras' `fit` returns.
    """
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
        stacklevel=3,
    )


@contextlib.contextmanager
def failure_told(callbacks: Any) -> Iterator[None]:
    """A block that trains; if it raises, callbacks' `on_train_failed` is called.

    Keras tells them of the end of a training only where it comes to one.

    Args:
        callbacks: As `fit` takes them; those without such a method are left alone.
    """
    try:
        yield
    except BaseException as error:
        for callback in keras.tree.flatten(getattr(callbacks, "callbacks", callbacks)):
            if hasattr(callback, "on_train_failed"):
                callback.on_train_failed(error)
        raise
