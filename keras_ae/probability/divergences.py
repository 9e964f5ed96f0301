"""Divergences between distributions over codes, and distances between pictures.

Pure functions; divergences are in nats.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_ae.checks import check_count
from keras_ae.probability.distributions import MultivariateNormal, Normal, Prior


def kl_normal(posterior: Normal | MultivariateNormal, prior: Normal):
    """Closed-form KL divergence KL(q(z|x) ‖ p(z)) of each latent dimension.

    Where those are correlated it is that of each one given those before it, in
    expectation: by the chain rule they still add up to the KL of the code.

    Args:
        posterior: `Normal` with mean and log-variance `(batch, latent_dim)`, or
            `MultivariateNormal`.
        prior: `Normal` with numbers, vectors `(latent_dim,)` or tensors of that shape.

    Returns:
        Tensor `(batch, latent_dim)`.
    """
    log_ratio = posterior.log_var - prior.log_var
    distance = (posterior.mean - prior.mean) * ops.exp(-0.5 * prior.log_var)
    # expm1 keeps its digits where the variances agree, as in a collapsed dimension.
    kl = 0.5 * (ops.expm1(log_ratio) - log_ratio + ops.square(distance))
    if isinstance(posterior, MultivariateNormal):
        # The mean given the dimensions before varies with them.
        spread = ops.sum(ops.square(posterior.lower), axis=-1)  # (batch, latent_dim)
        kl = kl + 0.5 * spread * ops.exp(-prior.log_var)
    return kl


def kl_monte_carlo(posterior: Normal | MultivariateNormal, prior: Prior, z):
    """Single-sample estimate log q(z|x) - log p(z) of the KL divergence.

    Args:
        posterior: `Normal` with mean and log-variance `(batch, latent_dim)`, or
            `MultivariateNormal`.
        prior: Any distribution over codes.
        z: Codes drawn from the posterior, `(batch, latent_dim)`.

    Returns:
        Tensor `(batch,)`; single values may be negative, their mean is not.
    """
    return posterior.log_prob(z) - prior.log_prob(z)


def kl(posterior: Normal | MultivariateNormal, prior: Prior, z):
    """KL divergence, in closed form where there is one, else from the sample `z`.

    Args:
        posterior: `Normal` with mean and log-variance `(batch, latent_dim)`, or
            `MultivariateNormal`.
        prior: Any distribution over codes.
        z: Codes drawn from the posterior, `(batch, latent_dim)`.

    Returns:
        Tensor `(batch,)`.
    """
    if isinstance(prior, Normal):
        return ops.sum(kl_normal(posterior, prior), axis=-1)
    return kl_monte_carlo(posterior, prior, z)


def kl_parts(posterior: Normal, prior: Normal, z):
    """Splits the KL divergence into what it says about codes as a whole.

        mutual information   log q(z|x) - log q(z)
        total correlation    log q(z) - log Π_j q(z_j)
        dimension-wise KL    log Π_j q(z_j) - log p(z)

    q(z), the mean of q(z|x) over all x, is taken to be that over the batch. So the
    first is at most the logarithm of the batch size; with the factor 1 / (number of
    examples) that Chen et al. put there it would be a constant more, the second that
    constant less. Gradients are the same.

    Args:
        posterior: `Normal` with mean and log-variance `(batch, latent_dim)`.
        prior: `Normal`, whose latent dimensions are independent.
        z: Codes drawn from the posterior, `(batch, latent_dim)`.

    Returns:
        Three tensors `(batch,)`, whose sum is log q(z|x) - log p(z), in nats.

    Reference:
        Chen et al., Isolating Sources of Disentanglement in Variational Autoencoders,
        2018 (https://arxiv.org/abs/1802.04942), minibatch-weighted sampling.
    """
    every = Normal.from_log_var(posterior.mean[None], posterior.log_var[None])
    pairs = every.elementwise_log_prob(z[:, None])  # (batch, batch, latent_dim)
    log_count = ops.log(ops.cast(ops.shape(z)[0], "float32"))
    log_q = ops.logsumexp(ops.sum(pairs, axis=-1), axis=1) - log_count
    marginals = ops.logsumexp(pairs, axis=1) - log_count  # (batch, latent_dim)
    log_product = ops.sum(marginals, axis=-1)
    return (
        posterior.log_prob(z) - log_q,
        log_q - log_product,
        log_product - prior.log_prob(z),
    )


def free_bits(kl_per_dimension, nats: Any):
    """Stops rewarding a latent dimension whose KL divergence is below `nats`.

    Latent dimension j contributes max(nats, mean of KL_j over the batch): below `nats`
    it is a constant without gradient, so that the dimension may stay informative.

    Args:
        kl_per_dimension: Tensor `(batch, latent_dim)`.
        nats: Free nats of each latent dimension, >= 0.

    Returns:
        Tensor `(batch, latent_dim)`.

    Reference:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow,
        2016 (https://arxiv.org/abs/1606.04934).
    """
    mean = ops.mean(kl_per_dimension, axis=0, keepdims=True)
    return ops.where(mean > nats, kl_per_dimension, nats)


# Of squared distances relative to the expected one between two codes.
KERNELS = {
    "inverse_multiquadratic": lambda squares: sum(
        factor / (factor + squares) for factor in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    ),
    "rbf": lambda squares: ops.exp(-squares),
}


def mmd(x, y, kernel: str = "inverse_multiquadratic", scale: float = 1.0):
    """Unbiased estimate of the squared maximum mean discrepancy of two samples.

        mmd = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j)

    | kernel | k(x, y), where C = 2 latent_dim scale² |
    |---|---|
    | `"inverse_multiquadratic"` | Σ_s s C / (s C + ||x - y||²), s from 0.1 to 10 |
    | `"rbf"` | exp(-||x - y||² / C) |

    C is the expected squared distance between two codes from N(0, scale² I). The
    estimate is 0 in expectation for equal distributions, and so may be negative.

    Args:
        x: Codes `(n, latent_dim)`.
        y: Codes `(m, latent_dim)`.
        kernel: `"inverse_multiquadratic"` or `"rbf"`.
        scale: Standard deviation of the codes' coordinates, > 0.

    Returns:
        A scalar; 0 where x or y has a single row, which has no neighbour.

    Raises:
        ValueError: For an unknown kernel, or unless `x` and `y` are codes of one
            dimension.

    Reference:
        Gretton et al., A Kernel Two-Sample Test, 2012
        (https://jmlr.org/papers/v13/gretton12a.html); Tolstikhin et al., Wasserstein
        Auto-Encoders, 2018 (https://arxiv.org/abs/1711.01558), for the first kernel.
    """
    function = get_kernel(kernel)
    x, y = ops.cast(x, "float32"), ops.cast(y, "float32")
    shapes = tuple(x.shape), tuple(y.shape)
    if {len(shape) for shape in shapes} != {2} or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "`x` and `y` must be codes (n, latent_dim) and (m, latent_dim) of one "
            f"`latent_dim`. Received: shapes {shapes[0]} and {shapes[1]}"
        )
    constant = 2.0 * x.shape[-1] * scale**2

    def similarities(a, b):
        squares = ops.sum(ops.square(a), -1)[:, None] + ops.sum(ops.square(b), -1)
        # Rounding may leave a little less than 0.
        squares = ops.maximum(squares - 2.0 * ops.matmul(a, ops.transpose(b)), 0.0)
        return function(squares / constant)

    def mean_among(a):
        n = ops.cast(ops.shape(a)[0], "float32")
        others = 1.0 - ops.eye(ops.shape(a)[0])
        total = ops.sum(similarities(a, a) * others)
        return total / ops.maximum(n * (n - 1.0), 1.0), n > 1.0

    among_x, x_suffices = mean_among(x)
    among_y, y_suffices = mean_among(y)
    estimate = among_x + among_y - 2.0 * ops.mean(similarities(x, y))
    return ops.where(ops.logical_and(x_suffices, y_suffices), estimate, 0.0)


def get_kernel(name: Any):
    """Returns a kernel of `mmd` by name, or raises `ValueError` for an unknown one."""
    if not isinstance(name, str) or name not in KERNELS:
        raise ValueError(
            f"`kernel` must be one of {', '.join(map(repr, KERNELS))}. "
            f"Received: kernel={name!r}"
        )
    return KERNELS[name]


# Weights of the scales of `ms_ssim`, from fine to coarse, and its constants for values
# of 0 to 1, all from the paper.
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LUMINANCE_CONSTANT, CONTRAST_CONSTANT = 0.01**2, 0.03**2
WINDOW = 11


def ms_ssim(x, y):
    """Multi-scale structural similarity of pictures, differentiable.

        MS-SSIM = l_M^w_M Π_j (c_j s_j)^w_j

    where l compares the brightness and c s the contrast and structure of all windows
    of 11 pixels (Gaussian, of standard deviation 1.5) at scale j, of which each has
    half the pixels of the one before on a side. Pictures of 176 pixels or more have the
    five scales of the paper; smaller ones have as many as leave a window's room, and
    the weights of these, made to sum to 1. Below 11 pixels the window shrinks to the
    picture.

    Args:
        x: Pictures `(batch, height, width, channels)` with values in [0, 1].
        y: Pictures of the same shape.

    Returns:
        Tensor `(batch,)`, from 0 to 1, the mean over channels; 1 where pictures agree.
        Windows of opposite structure count as 0.

    Raises:
        ValueError: If `x` and `y` are not pictures of one shape.

    Reference:
        Wang, Simoncelli and Bovik, Multi-Scale Structural Similarity for Image Quality
        Assessment, 2003 (https://doi.org/10.1109/ACSSC.2003.1292216).
    """
    x, y = _check_pictures(x, y)
    side = min(x.shape[1:3])
    window = min(WINDOW, side)
    scales = sum(side // 2**scale >= window for scale in range(len(SCALES)))
    weights = np.divide(SCALES[:scales], np.sum(SCALES[:scales]))
    similarity = 1.0
    for scale, weight in enumerate(weights):
        rows, columns = (_windows(size, window) for size in x.shape[1:3])

        def means(pictures, rows=rows, columns=columns):
            return _along_sides(rows, columns, pictures)

        mean_x, mean_y = means(x), means(y)
        variances = means(x * x + y * y) - ops.square(mean_x) - ops.square(mean_y)
        covariance = means(x * y) - mean_x * mean_y
        similar = (2.0 * covariance + CONTRAST_CONSTANT) / (
            variances + CONTRAST_CONSTANT
        )
        if scale == scales - 1:
            similar = (
                similar
                * (2.0 * mean_x * mean_y + LUMINANCE_CONSTANT)
                / (ops.square(mean_x) + ops.square(mean_y) + LUMINANCE_CONSTANT)
            )
        # A power of 0 would have no gradient.
        mean = ops.maximum(ops.mean(similar, axis=(1, 2)), 1e-6)  # (batch, channels)
        similarity = similarity * mean ** float(weight)
        if scale < scales - 1:
            x, y = (ops.average_pool(pictures, 2, 2) for pictures in (x, y))
    return ops.mean(similarity, axis=-1)


def gaussian_window(size: int) -> np.ndarray:
    """Returns weights `(size,)` of a Gaussian of standard deviation 1.5, of sum 1."""
    weights = np.exp(-0.5 * np.square((np.arange(size) - (size - 1) / 2) / 1.5))
    return weights / weights.sum()


def _windows(size: int, window: int) -> np.ndarray:
    """Returns the matrix `(places, size)` of the windows in a row of pixels."""
    weights = gaussian_window(window)
    places = size - window + 1
    windows = np.zeros((places, size), "float32")
    for place in range(places):
        windows[place, place : place + window] = weights
    return windows


def _check_pictures(x, y):
    """Returns two batches of pictures in float32, or refuses what is none."""
    x, y = ops.cast(x, "float32"), ops.cast(y, "float32")
    if len(x.shape) != 4 or tuple(x.shape[1:]) != tuple(y.shape[1:]):
        raise ValueError(
            "`x` and `y` must have one shape (batch, height, width, channels). "
            f"Received: shapes {tuple(x.shape)} and {tuple(y.shape)}"
        )
    return x, y


# Binomial, close to a Gaussian of standard deviation 1.
BLUR = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0


def _blur(size: int) -> np.ndarray:
    """Returns the matrix `(size, size)` that blurs a row of pixels."""
    # Reflected about the outermost pixels: what is even stays even beyond the edge, so
    # that a constant picture remains constant when it is doubled.
    padded = np.pad(np.eye(size), ((2, 2), (0, 0)), "reflect")
    blurred = sum(weight * padded[i : i + size] for i, weight in enumerate(BLUR))
    return blurred.astype("float32")


def _halvings(side: int, smallest: int) -> int:
    """Returns how often a side of at least `smallest` pixels can be halved."""
    return 0 if side < smallest else 1 + _halvings((side + 1) // 2, smallest)


def _along_sides(rows: np.ndarray, columns: np.ndarray, x):
    """Multiplies the columns and the rows of pictures with a matrix each."""
    # Several times faster than a depthwise convolution on CPU, on every backend.
    x = ops.einsum("ih,bhwc->biwc", rows, x)
    return ops.einsum("jw,biwc->bijc", columns, x)


def laplacian_pyramid(x, levels: int | None = None) -> list:
    """Splits pictures into bands of detail, from fine to coarse.

    Each level is the picture less what is left of it after it was blurred with the
    filter [1, 4, 6, 4, 1] / 16, halved and doubled again; the next level is made from
    the half. The last level is the blurred rest. The pyramid is linear in `x` and loses
    nothing: doubling the rest and adding the level before it, again and again, restores
    the picture.

    Args:
        x: Pictures `(batch, height, width, channels)`.
        levels: Number of levels, >= 1, the rest included. Defaults to halving while the
            smaller side has at least 8 pixels: 3 levels for 28 x 28, 5 for 64 x 64.

    Returns:
        List of float32 tensors `(batch, height_j, width_j, channels)`; the sides of one
        level are half the sides of the level before, rounded up.

    Raises:
        ValueError: If `x` is not a batch of pictures, or too small for `levels`.

    Reference:
        Burt and Adelson, The Laplacian Pyramid as a Compact Image Code, 1983
        (https://doi.org/10.1109/TCOM.1983.1095851).
    """
    x = ops.cast(x, "float32")
    if len(x.shape) != 4:
        raise ValueError(
            "`x` must have shape (batch, height, width, channels). "
            f"Received: shape {tuple(x.shape)}"
        )
    height, width = x.shape[1:3]
    if levels is None:
        levels = 1 + _halvings(min(height, width), smallest=8)
    most = 1 + _halvings(min(height, width), smallest=2)
    if check_count("levels", levels) > most:
        raise ValueError(
            f"`levels` must be <= {most} for pictures of {height} x {width} pixels. "
            f"Received: levels={levels}"
        )
    pyramid = []
    for _ in range(levels - 1):
        blur_rows, blur_columns = _blur(x.shape[1]), _blur(x.shape[2])
        half = _along_sides(blur_rows[::2], blur_columns[::2], x)
        # Doubled: zeros put between the pixels, blurred, and twice as bright each way.
        doubled = _along_sides(2 * blur_rows[:, ::2], 2 * blur_columns[:, ::2], half)
        pyramid.append(x - doubled)
        x = half
    return [*pyramid, x]


def laplacian_distance(x, y, levels: int | None = None):
    """Distance of pictures that counts each scale of detail alike.

        distance = Σ_j 2^(2j) ||L_j(x) - L_j(y)||_1

    L_j is level j of the Laplacian pyramid, j = 0 the finest. It has about 2^(2j) times
    fewer pixels than the picture, which the factor makes up for. Edges weigh more than
    in a squared error of pixels, so that pictures learnt with it are less blurred.

    Args:
        x: Pictures `(batch, height, width, channels)`.
        y: Pictures of the same shape.
        levels: Number of levels, >= 1. Defaults to halving while the smaller side has
            at least 8 pixels.

    Returns:
        Tensor `(batch,)`, summed over pixels and channels.

    Raises:
        ValueError: If `x` and `y` are not pictures of one shape, or too small for
            `levels`.

    Example:

    >>> x = np.zeros((4, 28, 28, 1))
    >>> keras_ae.divergences.laplacian_distance(x, x + 0.1).shape
    (4,)

    Reference:
        Bojanowski et al., Optimizing the Latent Space of Generative Networks, 2018
        (https://arxiv.org/abs/1707.05776), equation of Lap1.
    """
    x, y = _check_pictures(x, y)
    # The pyramid is linear: that of the difference is the difference of the two.
    pyramid = laplacian_pyramid(x - y, levels)
    return sum(
        4.0**j * ops.sum(ops.abs(level), axis=(1, 2, 3))
        for j, level in enumerate(pyramid)
    )
