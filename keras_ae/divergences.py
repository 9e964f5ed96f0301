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
