"""Divergences between distributions over codes: pure functions, in nats."""

from typing import Any

from keras import ops

from keras_ae.distributions import Normal, Prior


def kl_normal(posterior: Normal, prior: Normal):
    """Closed-form KL divergence KL(q(z|x) ‖ p(z)) of each latent dimension.

    Args:
        posterior: `Normal` with mean and log-variance `(batch, latent_dim)`.
        prior: `Normal` with numbers, vectors `(latent_dim,)` or tensors of that shape.

    Returns:
        Tensor `(batch, latent_dim)`.
    """
    log_ratio = posterior.log_var - prior.log_var
    distance = (posterior.mean - prior.mean) * ops.exp(-0.5 * prior.log_var)
    # expm1 keeps its digits where the variances agree, as in a collapsed dimension.
    return 0.5 * (ops.expm1(log_ratio) - log_ratio + ops.square(distance))


def kl_monte_carlo(posterior: Normal, prior: Prior, z):
    """Single-sample estimate log q(z|x) - log p(z) of the KL divergence.

    Args:
        posterior: `Normal` with mean and log-variance `(batch, latent_dim)`.
        prior: Any distribution over codes.
        z: Codes drawn from the posterior, `(batch, latent_dim)`.

    Returns:
        Tensor `(batch,)`; single values may be negative, their mean is not.
    """
    return posterior.log_prob(z) - prior.log_prob(z)


def kl(posterior: Normal, prior: Prior, z):
    """KL divergence, in closed form where there is one, else from the sample `z`.

    Args:
        posterior: `Normal` with mean and log-variance `(batch, latent_dim)`.
        prior: Any distribution over codes.
        z: Codes drawn from the posterior, `(batch, latent_dim)`.

    Returns:
        Tensor `(batch,)`.
    """
    if isinstance(prior, Normal):
        return ops.sum(kl_normal(posterior, prior), axis=-1)
    return kl_monte_carlo(posterior, prior, z)


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
        ValueError: For an unknown kernel.

    Reference:
        Gretton et al., A Kernel Two-Sample Test, 2012
        (https://jmlr.org/papers/v13/gretton12a.html); Tolstikhin et al., Wasserstein
        Auto-Encoders, 2018 (https://arxiv.org/abs/1711.01558), for the first kernel.
    """
    function = get_kernel(kernel)
    x, y = ops.cast(x, "float32"), ops.cast(y, "float32")
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
