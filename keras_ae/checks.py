"""Arguments: each check raises an error that says what was expected and received."""

import math
import numbers
from collections.abc import Callable

import keras
import numpy as np

# Of sizes and seeds: backends keep them in 32 bits.
LARGEST = 2**31 - 1


def check_count(name: str, value, minimum: int = 1) -> int:
    """Returns an integer argument, or raises `ValueError` if it is not one."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer >= {minimum}. Received: {name}={value!r}"
        )
    if value > LARGEST:
        raise ValueError(
            f"`{name}` must be at most {LARGEST}. Received: {name}={value}"
        )
    return int(value)


def check_seed(seed) -> int:
    """Returns an integer >= 0 that each backend takes as a seed, or raises."""
    return check_count("seed", seed, minimum=0)


def check_flag(name: str, value) -> bool:
    """Returns an argument that is True or False, or raises `ValueError`."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def check_counts(name: str, values) -> tuple[int, ...]:
    """Returns a list of integers >= 1 as a tuple, or raises `ValueError`."""
    if not isinstance(values, tuple | list):
        raise ValueError(
            f"`{name}` must be a list of integers >= 1. Received: {name}={values!r}"
        )
    return tuple(
        check_count(f"{name}[{index}]", value) for index, value in enumerate(values)
    )


def check_weight(name: str, value) -> None:
    """Raises `ValueError` unless `value` can weigh a term of the loss."""
    if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be >= 0. Received: {name}={value!r}")


def check_positive(name: str, value) -> None:
    """Raises `ValueError` unless `value` is a finite number > 0."""
    if not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be > 0 and finite. Received: {name}={value!r}")


def check_numbers(name: str, value) -> np.ndarray:
    """Returns a number, or nested lists or an array of numbers, in float64, or raises.

    Raises:
        ValueError: If something else is among them, or lists differ in length.
    """
    try:
        array = np.asarray(value)
        # NumPy would read numbers from texts.
        if array.dtype.kind not in "cSU":
            return array.astype("float64")
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"`{name}` must be a number, or an array of numbers. Received: {name}={value!r}"
    )


def check_activation(name: str, value) -> Callable:
    """Returns the function of an activation, or raises `ValueError` without one."""
    try:
        return keras.activations.get(value)
    except ValueError:
        raise ValueError(
            f"`{name}` must be the name of a Keras activation. "
            f"Received: {name}={value!r}"
        ) from None


def check_pixel_weight(weight, likelihood) -> None:
    """Raises `ValueError` unless `weight` can weigh -log p(x | z) beside other terms.

    Args:
        weight: What the user passed as `pixel_weight`.
        likelihood: p(x | z), whose scale nothing would learn at a weight of 0.
    """
    check_weight("pixel_weight", weight)
    if not weight and likelihood.trainable_variables:
        raise ValueError(
            "`likelihood` must have no learned scale where `pixel_weight` is 0: "
            "nothing would learn it. Received: "
            f"likelihood={type(likelihood).__name__}, pixel_weight=0; choose the scale "
            "'optimal' or a number."
        )


def check_share(name: str, value) -> float:
    """Returns an argument in [0, 1), or raises `ValueError` if it is not."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not 0 <= value < 1
    ):
        raise ValueError(
            f"`{name}` must be a number from 0 to below 1. Received: {name}={value!r}"
        )
    return float(value)
