"""Measures of pictures, one by one or beside those that they should equal."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from keras_ae import checks
from keras_ae.metrics import arrays
from keras_ae.probability import divergences

# Weights of the window in which structural similarity is measured.
_WINDOW = divergences.gaussian_window(divergences.WINDOW)
# Side of the blocks in which noise is looked for.
_BLOCK = 8


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
        np.square(_unit(a) - _unit(b), dtype="float64").sum()
        for a, b in arrays.chunks(x, y)
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
        ValueError: If the shapes differ, there are no pictures, or neither array of
            floats lies in [0, 1].
    """
    x, y = _pair(x, y)
    _check_peak(x, y)
    axes = tuple(range(1, x.ndim))
    each = np.concatenate(
        [
            np.square(_unit(a) - _unit(b), dtype="float64").mean(axis=axes)
            for a, b in arrays.chunks(x, y)
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
        ValueError: If the shapes differ, there are no pictures, they are too small, or
            neither array of floats lies in [0, 1].

    Reference:
        Wang, Bovik, Sheikh and Simoncelli 2004, "Image Quality Assessment: From Error
        Visibility to Structural Similarity".
    """
    x, y = _pair_of_pictures(x, y, len(_WINDOW))
    _check_peak(x, y)
    total = 0.0
    for a, b in arrays.chunks(x, y, rows=_rows(x)):
        luminance, structure = _similarities(*_doubles(a, b))
        total += len(a) * float(np.mean(luminance * structure))
    return total / len(x)


def ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Multi-scale structural similarity, averaged over the pictures.

        MS-SSIM = l_5^w_5 Π_j (c_j s_j)^w_j

    where l compares brightness and c s contrast and structure, as in `ssim`, at five
    scales j, of which each has half the pixels of the one before on a side: means of
    two by two, without the last of an odd number. Means below 0, of pictures that are
    each other's negative, count as 0. `divergences.ms_ssim` is what a model can be
    trained on; it makes do with fewer scales where pictures are small.

    Args:
        x: Array of pictures, `(pictures, height, width, channels)` or `(pictures,
            height, width)`, of at least 176 by 176 pixels; integers (read as 0-255) or
            floats in [0, 1].
        y: Array of the same shape.

    Returns:
        The mean over channels and pictures, from 0 to 1; 1 where pictures agree
        exactly.

    Raises:
        ValueError: If the shapes differ, there are no pictures, they are too small, or
            neither array of floats lies in [0, 1].

    Reference:
        Wang, Simoncelli and Bovik 2003, "Multi-Scale Structural Similarity for Image
        Quality Assessment".
    """
    *finer, coarsest = divergences.SCALES
    x, y = _pair_of_pictures(x, y, len(_WINDOW) * 2 ** len(finer))
    _check_peak(x, y)
    total = 0.0
    for a, b in arrays.chunks(x, y, rows=_rows(x)):
        a, b = _doubles(a, b)
        similarity = 1.0  # (pictures, channels)
        for weight in finer:
            _, structure = _similarities(a, b)
            similarity = similarity * _power(structure, weight)
            a, b = _halved(a), _halved(b)
        luminance, structure = _similarities(a, b)
        similarity = similarity * _power(luminance * structure, coarsest)
        total += len(a) * float(np.mean(similarity))
    return total / len(x)


def _pair_of_pictures(x, y, side):
    x, y = _pair(x, y)
    if x.ndim not in (3, 4) or min(x.shape[1:3]) < side:
        raise ValueError(
            f"Expected pictures of at least {side} by {side} pixels, "
            "(pictures, height, width) or (pictures, height, width, channels). "
            f"Received: arrays of shape {x.shape}"
        )
    return x, y


def in_unit_interval(x: np.ndarray) -> bool:
    """Whether an array is one of integers or booleans, or of floats in [0, 1]."""
    # Rounding may go beyond.
    return x.dtype.kind != "f" or not (x.min() < -1e-3 or x.max() > 1.001)


def _check_peak(x, y):
    """Refuses floats whose peak is not 1; one of both may go beyond, as noise does."""
    if not (in_unit_interval(x) or in_unit_interval(y)):
        raise ValueError(
            "Floats are read as values in [0, 1]. Received: floats from "
            f"{x.min():.4g} to {x.max():.4g}; scale both arrays to [0, 1]."
        )


def _rows(pictures):
    """How many to compare at a time: half a dozen arrays of their size are at work."""
    return max(1, 2**20 // pictures[0].size)


def _doubles(*pictures):
    return [_unit(x).astype("float64") for x in pictures]


def _similarities(a, b):
    """Similarity of brightness, and of contrast and structure, of all windows."""
    mean_a, mean_b = _windowed(a), _windowed(b)
    variances = _windowed(a * a + b * b) - mean_a**2 - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    first, second = divergences.LUMINANCE_CONSTANT, divergences.CONTRAST_CONSTANT
    luminance = (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)
    return luminance, (2 * covariance + second) / (variances + second)


def _power(similarity, weight):
    return np.maximum(similarity.mean(axis=(1, 2)), 0.0) ** weight


def _halved(pictures):
    """Means of two by two pixels of `(pictures, height, width, ...)`."""
    height, width = (2 * (size // 2) for size in pictures.shape[1:3])
    pictures = pictures[:, :height, :width]
    rows = pictures[:, ::2] + pictures[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4.0


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


def noise_level(images: np.ndarray) -> float:
    """Estimates the standard deviation of white noise in pictures, on the [0, 1] scale.

    Of what a mask leaves that takes away all that varies smoothly, the flattest tenth
    of blocks of 8 by 8 pixels counts, where there is hardly anything but noise.

    Args:
        images: Array `(pictures, height, width)` or `(pictures, height, width,
            channels)`, of at least 10 by 10 pixels; integers (read as 0-255) or floats
            in [0, 1].

    Returns:
        The estimate, about 0 for pictures without noise.

    Raises:
        ValueError: If there are no pictures, or they are too small.

    Reference:
        Immerkær 1996, "Fast Noise Variance Estimation"
        (https://doi.org/10.1006/cviu.1996.0060).
    """
    images, _ = _pair_of_pictures(images, images, _BLOCK + 2)
    squares = []
    for (chunk,) in arrays.chunks(images, rows=_rows(images)):
        x = _unit(chunk).astype("float64")
        for axis in (1, 2):
            x = np.moveaxis(x, axis, 0)
            # [1, -2, 1] down and across leaves noise of six times its deviation.
            x = np.moveaxis(x[:-2] - 2 * x[1:-1] + x[2:], 0, axis)
        count, height, width = len(x), *(size // _BLOCK for size in x.shape[1:3])
        x = x[:, : height * _BLOCK, : width * _BLOCK].reshape(
            count, height, _BLOCK, width, _BLOCK, -1
        )
        squares.append(np.square(x).mean(axis=(2, 4)).ravel())
    return float(np.sqrt(np.quantile(np.concatenate(squares), 0.1)) / 6.0)


def sharpness(images: np.ndarray) -> float:
    """Variance of the Laplacian, averaged over the pictures: higher is sharper.

    Channels are averaged to grey. The Laplacian is the sum of the four neighbours less
    four times the pixel itself, wherever all four lie within the picture. Noise counts
    as sharp, so compare with the sharpness of the data.

    Args:
        images: Array of pictures, `(pictures, height, width, channels)` or `(pictures,
            height, width)`, of at least 3 by 3 pixels; integers (read as 0-255) or
            floats in [0, 1].

    Returns:
        The mean over pictures of the variance over pixels, on the [0, 1] scale.

    Raises:
        ValueError: If there are no pictures or they are too small.

    Example:

    ```python
    metrics.sharpness(model.reconstruct(test)) / metrics.sharpness(test)
    ```

    Reference:
        Pech-Pacheco, Cristóbal, Chamorro-Martínez and Fernández-Valdivia 2000, "Diatom
        autofocusing in brightfield microscopy: a comparative study".
    """
    images = arrays.array("images", images)
    if images.ndim not in (3, 4) or min(images.shape[1:3]) < 3 or not images.size:
        raise ValueError(
            "Expected one picture or more of at least 3 by 3 pixels, (pictures, "
            "height, width) or (pictures, height, width, channels). Received: an array "
            f"of shape {images.shape}"
        )
    total = 0.0
    for (chunk,) in arrays.chunks(images):
        grey = _unit(chunk).astype("float64")
        if grey.ndim == 4:
            grey = grey.mean(axis=-1)
        laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] - 4.0 * grey[:, 1:-1, 1:-1]
        laplacian += grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        total += float(laplacian.var(axis=(1, 2)).sum())
    return total / len(images)


def _unit(x):
    """Values from 0 to 1, as floats."""
    if x.dtype.kind not in "biuf":
        raise ValueError(f"Pictures must be numbers. Received: dtype={x.dtype}")
    if x.dtype.kind in "iu":
        if x.dtype != np.uint8 and not 0 <= x.min() <= x.max() <= 255:
            raise ValueError(
                "Integers are read as 0-255. Received: integers from "
                f"{x.min()} to {x.max()}; scale them to [0, 1]."
            )
        return x.astype("float32") / 255.0
    return x.astype("float32") if x.dtype == bool else x


def _pair(x, y):
    x, y = arrays.array("x", x), arrays.array("y", y)
    if x.shape != y.shape or x.size == 0 or x.ndim == 0:
        raise ValueError(
            "Expected two arrays of one shape, with at least one picture. "
            f"Received: shapes {x.shape} and {y.shape}"
        )
    return x, y


def blur(
    pictures: np.ndarray, width: float, axes: Iterable[int] = (1, 2)
) -> np.ndarray:
    """Blurs by a Gaussian; the margins go on as they end.

    Args:
        pictures: Floats `(n, height, width, ...)`.
        width: Its standard deviation, in pixels, > 0.
        axes: Along which to blur.

    Returns:
        An array of the same shape.

    Raises:
        ValueError: If the width is not positive.
    """
    checks.check_positive("width", width)
    pictures = arrays.array("pictures", pictures)
    reach = math.ceil(3 * width)
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / width))
    weights = (weights / weights.sum()).astype("float32")
    for axis in axes:
        x = np.moveaxis(pictures, axis, 0)
        padded = np.pad(x, [(reach, reach)] + [(0, 0)] * (x.ndim - 1), "edge")
        x = sum(
            weight * padded[start : start + len(x)]
            for start, weight in enumerate(weights)
        )
        pictures = np.moveaxis(x, 0, axis)
    return pictures
