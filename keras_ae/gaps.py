"""What stands for nothing in arrays of numbers and of anything else."""

import numpy as np


def missing_of(values):
    """Which values are missing, booleans `(n,)`."""
    if values.dtype.kind in "biu":
        return np.zeros(len(values), bool)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([_is_missing(value) for value in values])


def _is_missing(value):
    if value is None:
        return True
    if np.ndim(value):
        return False
    try:
        return bool(value != value)
    except TypeError:
        # pandas' own mark of a gap is neither equal to itself nor not.
        return True
