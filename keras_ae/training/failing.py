"""What callbacks are told of a training that fails."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


@contextlib.contextmanager
def telling(callbacks: Any) -> Iterator[None]:
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
