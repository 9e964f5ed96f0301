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
    images = np.asanyarray(images)
    if images.ndim not in (3, 4) or min(images.shape[1:3]) < 3 or not images.size:
        raise ValueError(
            "Expected one picture or more of at least 3 by 3 pixels, (pictures, "
            "height, width) or (pictures, height, width, channels). Received: an array "
            f"of shape {images.shape}"
        )
    total = 0.0
    for (chunk,) in _chunks(images):
        grey = _unit(chunk).astype("float64")
        if grey.ndim == 4:
            grey = grey.mean(axis=-1)
        laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] - 4.0 * grey[:, 1:-1, 1:-1]
        laplacian += grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        total += float(laplacian.var(axis=(1, 2)).sum())
    return total / len(images)


def frechet_distance(features: np.ndarray, other: np.ndarray) -> float:
    """Fréchet distance of two Gaussians fitted to features.

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    with means m and covariances C of the features. It grows as samples get fewer, and
    means nothing but within one feature space: compare distances of equal sample counts
    and features of one network (`features.train`), and name both.

    Args:
        features: Array `(n, dimensions)`, n > dimensions.
        other: Array of as many dimensions, of any number > dimensions of rows.

    Returns:
        The squared distance, >= 0; what is known as FID for the features of an
        Inception network.

    Raises:
        ValueError: If there are too few samples for the dimensions, dimensions differ
            or features are not finite.

    Example:

    ```python
    metrics.frechet_distance(network.features(test), network.features(samples))
    ```

    Reference:
        Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter 2017, "GANs Trained by a
        Two Time-Scale Update Rule Converge to a Local Nash Equilibrium".
    """
    features, other = (np.asarray(x, "float64") for x in (features, other))
    shapes = f"Received: features of shapes {features.shape} and {other.shape}"
    if features.ndim != 2 or other.ndim != 2 or features.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"Features must have the shape (n, dimensions), dimensions alike. {shapes}"
        )
    dimensions = features.shape[1]
    if min(len(features), len(other)) <= dimensions:
        raise ValueError(
            f"Gaussians of {dimensions} dimensions need at least {dimensions + 1} "
            f"samples each. {shapes}"
        )
    if not (np.isfinite(features).all() and np.isfinite(other).all()):
        raise ValueError("Features must be finite. Received: NaN or infinity")
    covariance, other_covariance = (
        np.atleast_2d(np.cov(x, rowvar=False)) for x in (features, other)
    )
    # tr (C1 C2)^(1/2) is that of the symmetric C1^(1/2) C2 C1^(1/2), whose eigenvalues
    # are real and, but for rounding, not negative.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ other_covariance @ root)
    distance = (
        np.sum((features.mean(axis=0) - other.mean(axis=0)) ** 2)
        + np.trace(covariance)
        + np.trace(other_covariance)
        - 2.0 * np.sqrt(np.maximum(product, 0.0)).sum()
    )
    return max(0.0, float(distance))


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


def mutual_information(
    codes: np.ndarray, factors: np.ndarray, bins: int = 20
) -> np.ndarray:
    """What each latent dimension says about each factor, as a share of all there is.

        I(z_j; v_k) / H(v_k)

    Dimensions and factors are cut into bins of equal counts, so that scales and curves
    do not matter; what takes at most `bins` values is left as it is.

    Args:
        codes: Codes drawn from the posterior, `(n, latent_dim)`. Posterior means would
            hide how little a collapsed dimension says.
        factors: The true factors behind the same examples, `(n, factors)`. A periodic
            factor should be cut open: an angle is no number.
        bins: Number of bins, >= 2. Take a hundred examples for each pair of bins, or
            chance counts as information.

    Returns:
        Array `(latent_dim, factors)`, from 0 to 1.

    Raises:
        ValueError: If the arrays do not fit each other, are not finite, or a factor
            never varies.
    """
    codes, factors = np.asarray(codes), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise ValueError(
            "Expected codes (n, latent_dim) and factors (n, factors) of the same "
            f"examples. Received: shapes {codes.shape} and {factors.shape}"
        )
    if bins < 2:
        raise ValueError(f"`bins` must be >= 2. Received: bins={bins}")
    for name, values in (("codes", codes), ("factors", factors)):
        if not values.size or not np.isfinite(values).all():
            raise ValueError(
                f"`{name}` must be one or more finite numbers. Received others or none"
            )
    constant = [k for k, factor in enumerate(factors.T) if np.ptp(factor) == 0]
    if constant:
        raise ValueError(
            "`factors` must vary, each of them. Received: the same value everywhere "
            f"in column {constant[0]}"
        )
    codes, factors = (
        [_binned(values, bins) for values in array.T] for array in (codes, factors)
    )

    def share(z, v):
        # I(z; v) = H(z) + H(v) - H(z, v); pairs are numbered by both of their bins.
        joint = _entropy(z * len(v) + v)
        return max(0.0, 1.0 + (_entropy(z) - joint) / _entropy(v))

    return np.array([[share(z, v) for v in factors] for z in codes])


def mutual_information_gap(
    codes: np.ndarray, factors: np.ndarray, bins: int = 20
) -> float:
    """Disentanglement: whether each factor is known to one latent dimension alone.

        MIG = mean_k (I(z_j; v_k) - I(z_j'; v_k)) / H(v_k)

    where z_j says most about the factor v_k, and z_j' most of the other dimensions.

    Args:
        codes: Codes drawn from the posterior, `(n, latent_dim)`, of at least two
            dimensions; see `mutual_information`.
        factors: The true factors behind the same examples, `(n, factors)`.
        bins: Number of bins for dimensions and for factors, >= 2.

    Returns:
        The score, from 0 (nothing is known, or what is known is spread over several
        dimensions) to 1 (a dimension of its own for each factor).

    Raises:
        ValueError: As for `mutual_information`.

    Example:

    ```python
    codes = model.sample_posterior(images, seed=0)
    metrics.mutual_information_gap(codes, factors)
    ```

    Reference:
        Chen, Li, Grosse and Duvenaud 2018, "Isolating Sources of Disentanglement in
        Variational Autoencoders".
    """
    shares = mutual_information(codes, factors, bins)
    if len(shares) < 2:
        raise ValueError(
            "`codes` must have at least two dimensions to tell a gap between. "
            f"Received: codes of shape {np.shape(codes)}"
        )
    *_, second, first = np.sort(shares, axis=0)
    return float(np.mean(first - second))


def _binned(values, bins):
    """Numbers of bins of equal counts, or of distinct values where these are few."""
    distinct, numbers = np.unique(values, return_inverse=True)
    if len(distinct) <= bins:
        return numbers
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(np.unique(edges), values, side="right")


def _entropy(numbers):
    """Entropy of whole numbers, in nats."""
    shares = np.unique(numbers, return_counts=True)[1] / len(numbers)
    return -np.sum(shares * np.log(shares))


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
