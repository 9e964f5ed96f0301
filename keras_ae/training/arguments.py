"""Arguments of Keras' `fit`, `evaluate` and `predict`, looked at before the data."""

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_ae import arrays, checks
from keras_ae.datasets import LazyImages

# Of `fit`, `evaluate` and `predict`: the smallest value of each count.
_COUNTS = {
    "batch_size": 1,
    "initial_epoch": 0,
    "epochs": 0,
    "steps": 1,
    "steps_per_epoch": 1,
    "validation_batch_size": 1,
    "validation_freq": 1,
    "validation_steps": 1,
}
_VERBOSE = ("auto", 0, 1, 2)


def settings_of(model: Any) -> str:
    """Returns what a model's arguments are now, but for those that set a variable.

    A step that is traced keeps the numbers that it was traced with.
    """
    found = []
    for name in _followed(model.__class__):
        value = getattr(model, name, None)
        is_plain = isinstance(value, bool | int | float | str | tuple | None)
        found.append(f"{name}={value!r}" if is_plain else f"{name}={id(value)}")
    return ", ".join(found)


@functools.cache
def _followed(kind):
    return [
        name
        for name in inspect.signature(kind).parameters
        if not isinstance(getattr(kind, name, None), property)
    ]


def bound(method: Callable, *args, **kwargs) -> dict[str, Any]:
    """Returns by name what a method of `keras.Model` is given, all of it checked.

    Args:
        method: The method, as a function.
        *args, **kwargs: What it is called with, but for the model itself.

    Raises:
        ValueError: If a number is out of its range.
    """
    found = dict(inspect.signature(method).bind(None, *args, **kwargs).arguments)
    del found["self"]
    found |= found.pop("kwargs", {})
    for name, minimum in _COUNTS.items():
        # `validation_freq` may be a list of epochs.
        if not isinstance(found.get(name), list | None):
            checks.check_count(name, found[name], minimum)
    verbose = found.get("verbose", "auto")
    if str(verbose) not in (*map(str, _VERBOSE), "True", "False"):
        raise ValueError(
            f"`verbose` must be 'auto', 0, 1 or 2. Received: verbose={verbose!r}"
        )
    return found


def check_split(share: float, x: Any) -> None:
    """Raises `ValueError` where `validation_split` leaves nothing, or can't be made.

    Args:
        share: What the user passed, not 0.
        x: The training data.
    """
    checks.check_share("validation_split", share)
    if not hasattr(x, "shape") or isinstance(x, LazyImages):
        raise ValueError(
            "`validation_split` needs an array. Received: a "
            f"{type(x).__name__}; pass `validation_data`."
        )
    if int(x.shape[0] * (1.0 - share)) < 1:
        raise ValueError(
            "`validation_split` must leave examples to train on. Received: "
            f"validation_split={share} of {x.shape[0]} examples"
        )


def check_class_weight(weights: Any, x: Any, y: Any) -> None:
    """Raises `ValueError` for a `class_weight` that weighs nothing, or wrongly.

    Args:
        weights: What the user passed.
        x: The training data.
        y: What was passed beside them.
    """
    fits = isinstance(weights, Mapping) and all(
        isinstance(label, numbers.Integral)
        and isinstance(weight, numbers.Real)
        and 0 <= weight < math.inf
        for label, weight in weights.items()
    )
    if not fits:
        raise ValueError(
            "`class_weight` must be a dict from labels, integers, to finite weights "
            f">= 0. Received: class_weight={weights!r}"
        )
    if not hasattr(x, "shape"):
        return
    received = None
    if y is None:
        received = "no labels"
    elif np.shape(y) == tuple(x.shape):
        received = "examples as `y`"
    elif not arrays.is_numeric(y):
        received = f"labels of dtype {y.dtype}"
    if received:
        raise ValueError(
            "`class_weight` needs labels `y`, an integer an example. Received: "
            f"{received}; pass the labels, or `sample_weight`."
        )


def weights_of_classes(weights: Mapping[int, float], y: Any) -> np.ndarray:
    """Returns what a `class_weight` is for each example, as Keras has it, `(n,)`.

    Args:
        weights: Weights by label; that of a label without one is 1.
        y: Labels, `(n,)`, `(n, 1)` or one-hot, which `check_class_weight` has passed.
    """
    labels = ops.convert_to_numpy(y)
    if labels.ndim > 1:
        one_hot = labels.shape[-1] > 1
        labels = labels.argmax(axis=-1) if one_hot else labels[..., 0]
    labels = np.round(labels).astype("int32")
    return np.array([weights.get(int(label), 1.0) for label in labels], "float32")
