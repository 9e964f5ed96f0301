"""What the measures share: looking at arrays, and going through them in parts."""

from __future__ import annotations

import numpy as np
from keras import ops

from keras_ae import arrays as foreign

# Enough rows to keep a matrix product busy, few enough to stay within memory.
_CHUNK = 1024
# Numbers in a matrix of pairs that is in memory at a time.
_PAIRS = 2**22


def array(name, values):
    """Returns an array, or raises `ValueError` if it is none, or values are masked."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"`{name}` must not be masked: the mask would be dropped. Received: "
            f"{np.ma.count_masked(values):,} masked values"
        )
    values = foreign.plain(values)
    try:
        is_tensor = ops.is_tensor(values)
        values = ops.convert_to_numpy(values) if is_tensor else np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be one array. Received a {type(values).__name__} of arrays "
            "of several shapes; bring pictures to one size first."
        ) from error
    # NumPy has no such type, and computes little with it.
    return values.astype("float32") if values.dtype.name == "bfloat16" else values


def matrix(name, values, least=1):
    """Returns finite numbers `(n, dimensions)` of at least so many rows, or refuses."""
    values = array(name, values)
    if values.ndim != 2 or len(values) < least or not values.size:
        raise ValueError(
            f"`{name}` must have the shape (n, dimensions), n >= {least}. "
            f"Received: an array of shape {values.shape}"
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` must be numbers. Received: dtype={values.dtype}")
    # NaN and infinity would be among these two.
    if not np.isfinite([values.min(), values.max()]).all():
        raise ValueError(f"`{name}` must be finite. Received: NaN or infinity in it")
    return values.astype("uint8") if values.dtype == bool else values


def check_dimensions(**matrices):
    """Raises `ValueError` unless two matrices have as many columns."""
    (name, x), (other, y) = matrices.items()
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"`{name}` and `{other}` must have the same number of dimensions. "
            f"Received: shapes {x.shape} and {y.shape}"
        )


def mean_and_scale(codes):
    """Mean and standard deviation of each column, 1 where it never varies."""
    scale = np.where(np.ptp(codes, axis=0) > 0, codes.std(axis=0), 1.0)
    return codes.mean(axis=0), scale


def chunks(*arrays, rows=_CHUNK):
    """Yields tuples of so many rows of each of the arrays."""
    for start in range(0, len(arrays[0]), rows):
        yield tuple(values[start : start + rows] for values in arrays)


def chunks_for_pairs(*arrays, columns):
    """Yields tuples of as many rows as can be paired with so many others at a time."""
    return chunks(*arrays, rows=max(1, _PAIRS // columns))


def squared_distances(x, y):
    """Yields squared distances of some rows of `x` to all of `y`, and then of others.

    Args:
        x: Array `(n, dimensions)`.
        y: Array `(m, dimensions)`.

    Yields:
        Arrays `(rows, m)` in float64, as many as cover `x`.
    """
    # Products of numbers about 0 lose the fewest digits.
    middle = y.mean(axis=0, dtype="float64")
    y = y - middle
    squares = np.square(y).sum(axis=1)
    for (rows,) in chunks_for_pairs(x, columns=len(y)):
        rows = rows - middle
        distances = np.square(rows).sum(axis=1)[:, None] + squares - 2.0 * rows @ y.T
        yield np.maximum(distances, 0.0)


def unbiased_discrepancy(among_x, among_y, between):
    """Squared maximum mean discrepancy of two samples, 0 in expectation if alike.

    Args:
        among_x: Kernel `(n, n)` of each pair of one sample, in parts `(rows, n)`.
        among_y: Kernel `(m, m)` of each pair of the other, in parts.
        between: Kernel `(n, m)` of each pair of both, in parts.

    Returns:
        mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j)
    """
    return _mean(among_x, True) + _mean(among_y, True) - 2.0 * _mean(between, False)


def _mean(parts, among):
    """Mean of a kernel over pairs, without those of a row with itself if `among`."""
    total, rows = 0.0, 0
    for part in parts:
        total += part.sum()
        if among:
            total -= np.trace(part, offset=rows)
        rows += len(part)
        columns = part.shape[1]
    return total / (rows * (columns - among))
