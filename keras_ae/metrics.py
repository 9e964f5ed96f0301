"""Measures of pictures and codes, on NumPy arrays."""

from __future__ import annotations

import numpy as np

# Enough rows to keep a matrix product busy, few enough to stay within memory.
_CHUNK = 1024
# Weights of the window in which structural similarity is measured.
_WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_WINDOW /= _WINDOW.sum()


def mse(x: np.ndarray, y: np.ndarray) -> float:
    """Mean squared error per value.

    Args:
        x: Array of pictures, integers (read as 0-255) or floats in [0, 1].
        y: Array of the same shape.

    Returns:
        The mean of the squared differences, on the [0, 1] scale.

    Raises:
        ValueError: If the shapes differ or there are no pictures.

    Example:

    ```python
    keras_ae.metrics.mse(test, model.reconstruct(test))
    ```
    """
    x, y = _pair(x, y)
    total = sum(
        np.square(_unit(a) - _unit(b), dtype="float64").sum() for a, b in _chunks(x, y)
    )
    return float(total / x.size)


def psnr(x: np.ndarray, y: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels, averaged over the pictures.

    Args:
        x: Array of pictures, `(pictures, ...)`, integers (read as 0-255) or floats in
            [0, 1].
        y: Array of the same shape.

    Returns:
        The mean over pictures of `-10 log10(mse)`; `inf` where pictures agree
        exactly.

    Raises:
        ValueError: If the shapes differ or there are no pictures.
    """
    x, y = _pair(x, y)
    axes = tuple(range(1, x.ndim))
    each = np.concatenate(
        [
            np.square(_unit(a) - _unit(b), dtype="float64").mean(axis=axes)
            for a, b in _chunks(x, y)
        ]
    )
    with np.errstate(divide="ignore"):
        return float(np.mean(-10.0 * np.log10(each)))


def ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Structural similarity, averaged over the pictures.

    Local means, variances and covariances are weighed by a Gaussian window of 11
    pixels, of standard deviation 1.5, wherever it lies wholly within the picture.

    Args:
        x: Array of pictures, `(pictures, height, width, channels)` or `(pictures,
            height, width)`, of at least 11 by 11 pixels; integers (read as 0-255) or
            floats in [0, 1].
        y: Array of the same shape.

    Returns:
        The mean over places, channels and pictures, at most 1; 1 where pictures agree
        exactly.

    Raises:
        ValueError: If the shapes differ, there are no pictures or they are too small.

    Reference:
        Wang, Bovik, Sheikh and Simoncelli 2004, "Image Quality Assessment: From Error
        Visibility to Structural Similarity".
    """
    x, y = _pair(x, y)
    if x.ndim not in (3, 4) or min(x.shape[1:3]) < len(_WINDOW):
        raise ValueError(
            f"Expected pictures of at least {len(_WINDOW)} by {len(_WINDOW)} pixels, "
            "(pictures, height, width) or (pictures, height, width, channels). "
            f"Received: arrays of shape {x.shape}"
        )
    # Half a dozen arrays of the size of a chunk are at work at a time.
    rows = max(1, 2**20 // x[0].size)
    total = 0.0
    for a, b in _chunks(x, y, rows=rows):
        a, b = _unit(a).astype("float64"), _unit(b).astype("float64")
        mean_a, mean_b = _windowed(a), _windowed(b)
        variances = _windowed(a * a + b * b) - mean_a**2 - mean_b**2
        covariance = _windowed(a * b) - mean_a * mean_b
        # The constants are those of the paper, for values of 0 to 1.
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        total += len(a) * float(np.mean(luminance * structure))
    return total / len(x)


def _windowed(pictures):
    """Weighted means of all windows within `(pictures, height, width, ...)`."""
    for axis in (1, 2):
        places = pictures.shape[axis] - len(_WINDOW) + 1
        pictures = np.moveaxis(pictures, axis, 0)
        pictures = sum(
            weight * pictures[start : start + places]
            for start, weight in enumerate(_WINDOW)
        )
        pictures = np.moveaxis(pictures, 0, axis)
    return pictures


def active_units(means: np.ndarray, threshold: float = 0.01) -> int:
    """Number of latent dimensions that carry information about the data.

    Args:
        means: Posterior means, `(pictures, latent_dim)`.
        threshold: A dimension is active when the variance of its posterior mean
            over the data exceeds this.

    Returns:
        The number of active dimensions, 0 to `latent_dim`.

    Raises:
        ValueError: If `means` is not two-dimensional or holds one row only.

    Reference:
        Burda, Grosse, Salakhutdinov 2016, "Importance Weighted Autoencoders".
    """
    means = np.asarray(means)
    if means.ndim != 2 or len(means) < 2:
        raise ValueError(
            "`means` must have shape (pictures, latent_dim) with at least two "
            f"pictures. Received: means of shape {means.shape}"
        )
    return int(np.sum(means.var(axis=0, dtype="float64") > threshold))


def _unit(x):
    x = np.asarray(x)
    if x.dtype.kind in "iu":
        return x.astype("float32") / 255.0
    return x.astype("float32") if x.dtype == bool else x


def _chunks(*arrays, rows=_CHUNK):
    for start in range(0, len(arrays[0]), rows):
        yield tuple(array[start : start + rows] for array in arrays)


def _pair(x, y):
    x, y = np.asanyarray(x), np.asanyarray(y)
    if x.shape != y.shape or x.size == 0:
        raise ValueError(
            "Expected two arrays of one shape, with at least one picture. "
            f"Received: shapes {x.shape} and {y.shape}"
        )
    return x, y
