"""Measures of pictures and codes, on NumPy arrays."""

from __future__ import annotations

import numpy as np

# Enough rows to keep a matrix product busy, few enough to stay within memory.
_CHUNK = 1024


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


def pca_reconstruction(
    train: np.ndarray, test: np.ndarray, components: int
) -> np.ndarray:
    """Reconstructs pictures by principal components: the linear yardstick.

    The components are found by subspace iteration over the pictures in chunks, so that
    neither a long memory-mapped `train` nor its covariance needs to fit in memory.

    Args:
        train: Pictures to fit, `(pictures, ...)`, integers (read as 0-255) or floats
            in [0, 1].
        test: Pictures to reconstruct, of the same shape apart from their number.
        components: Number of principal components, 1 to the number of values per
            picture.

    Returns:
        float32 array of the shape of `test`, on the [0, 1] scale.

    Raises:
        ValueError: If shapes disagree or `components` is out of range.

    Example:

    ```python
    linear = keras_ae.metrics.pca_reconstruction(train, test, components=128)
    keras_ae.metrics.mse(test, linear)
    ```
    """
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            "`train` and `test` must hold pictures of one shape. Received: "
            f"{train.shape[1:]} and {test.shape[1:]}"
        )
    values = int(np.prod(train.shape[1:]))
    most = min(values, len(train))
    if not 1 <= components <= most:
        raise ValueError(
            f"`components` must be 1 to {most} for {len(train)} pictures of "
            f"{values} values. Received: components={components}"
        )
    mean = sum(_rows(chunk).sum(axis=0, dtype="float64") for (chunk,) in _chunks(train))
    mean = (mean / len(train)).astype("float32")
    basis = _principal_axes(train, mean, components)
    restored = np.empty(test.shape, "float32")
    for start in range(0, len(test), _CHUNK):
        rows = _rows(test[start : start + _CHUNK]) - mean
        rows = rows @ basis @ basis.T + mean
        restored[start : start + _CHUNK] = rows.reshape(-1, *test.shape[1:])
    return restored


def _principal_axes(train, mean, components):
    """Leading eigenvectors of the covariance, `(values, components)` float32."""
    # Twice as many directions as are asked for: the further the last of them is from
    # the last one wanted, the faster the wanted ones settle.
    width = min(2 * components + 10, mean.size)
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(mean.size, width)))[0]
    captured = 0.0
    for _ in range(100):
        basis = basis.astype("float32")
        image = np.zeros(basis.shape)  # scatter matrix @ basis
        for (chunk,) in _chunks(train):
            rows = _rows(chunk) - mean
            image += rows.T @ (rows @ basis)
        values, turn = np.linalg.eigh(basis.T @ image)
        before, captured = captured, values[-components:].sum()
        if captured - before <= 1e-6 * captured:
            break
        basis = np.linalg.qr(image)[0]
    return (basis @ turn[:, -components:]).astype("float32")


def _rows(pictures):
    return _unit(pictures).reshape(len(pictures), -1).astype("float32")


def _unit(x):
    x = np.asarray(x)
    if x.dtype.kind in "iu":
        return x.astype("float32") / 255.0
    return x.astype("float32") if x.dtype == bool else x


def _chunks(*arrays):
    for start in range(0, len(arrays[0]), _CHUNK):
        yield tuple(array[start : start + _CHUNK] for array in arrays)


def _pair(x, y):
    x, y = np.asanyarray(x), np.asanyarray(y)
    if x.shape != y.shape or x.size == 0:
        raise ValueError(
            "Expected two arrays of one shape, with at least one picture. "
            f"Received: shapes {x.shape} and {y.shape}"
        )
    return x, y
