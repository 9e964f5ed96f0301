"""Variational autoencoders that differ from `VAE` in what they minimise."""

import math
from typing import Any

from keras import ops

from keras_ae import checks
from keras_ae.models.variational.vae import VAE
from keras_ae.nn.layers import PriorSampling
from keras_ae.probability import distributions, divergences
from keras_ae.probability.likelihoods import Gaussian


class BetaVAE(VAE):
    """β-VAE: a VAE that pays β times for its KL, or for its distance to a capacity.

        loss(x) = -log p(x | z) + β KL(q(z | x) || p(z))
        loss(x) = -log p(x | z) + β |KL(q(z | x) || p(z)) - C|

    A β above 1 asks for codes that say less, in dimensions that are independent. With a
    capacity C, which the callback `CapacityIncrease` raises, codes may say more and
    more. The KL that is held to C is the mean over the batch.

    Args:
        latent_dim: Numbers in a code.
        beta: β, >= 0. With a capacity the paper's γ, of the order of 100 to 1,000.
        capacity: C in nats, >= 0, or None for none.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.BetaVAE(latent_dim=10, beta=100.0, capacity=25.0)
    callback = keras_ae.callbacks.CapacityIncrease(epochs=50)
    model.fit(x_train, epochs=60, callbacks=[callback])
    ```

    Reference:
        Higgins et al., β-VAE, 2017 (https://openreview.net/forum?id=Sy2fzU9gl);
        Burgess et al., Understanding Disentangling in β-VAE, 2018
        (https://arxiv.org/abs/1804.03599), for the capacity.
    """

    def __init__(
        self,
        latent_dim: int = 10,
        *,
        beta: float = 4.0,
        capacity: float | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, beta=beta, **kwargs)
        self.capacity = capacity

    @property
    def capacity(self) -> float | None:
        """C in nats, which a change sets, also between two calls of `fit`; or None."""
        return self._capacity

    @capacity.setter
    def capacity(self, value: float | None) -> None:
        if value is not None:
            checks.check_weight("capacity", value)
        if self.built and (value is None) != (self.capacity is None):
            raise ValueError(
                "`capacity` of a model that is built must stay a number, or None. "
                f"Received: capacity={value!r} instead of {self.capacity!r}"
            )
        self._capacity = value
        if self.built and value is not None:
            self.current_capacity.assign(value)

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        if self.capacity is not None:
            self.current_capacity = self.add_number("current_capacity", self.capacity)

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        if self.capacity is not None:
            above = self.kl(outputs, self.free_bits) - self.current_capacity
            # Its mean over the batch is the absolute value of the mean.
            terms["kl"] = self.kl_weight * ops.sign(ops.mean(above)) * above
        return terms


class BetaTCVAE(VAE):
    """β-TCVAE: a VAE that weighs the three parts of its KL, each for itself.

        loss = -log p(x | z) + α I(x; z) + β TC(z) + γ Σ_j KL(q(z_j) || p(z_j))

    the mutual information of data and codes, the total correlation
    KL(q(z) || Π_j q(z_j)) of the codes, and each latent dimension's distance to the
    prior. With α = β = γ = 1 this is a VAE, its KL estimated from the sampled codes.
    The parts are estimated within the batch (see `divergences.kl_parts`), which should
    not be small: the mutual information is at most the logarithm of its size.

    Args:
        latent_dim: Numbers in a code.
        alpha: α, >= 0.
        beta: β, >= 0. `BetaWarmUp` raises it from 0.
        gamma: γ, >= 0.
        **kwargs: As for `VAE`, without `free_bits`; the prior is a `Normal`.

    Raises:
        ValueError: If an argument is out of range, or the prior another.

    Example:

    ```python
    model = keras_ae.BetaTCVAE(latent_dim=10, beta=6.0, likelihood="bernoulli")
    model.fit(x_train, epochs=50, batch_size=256)
    ```

    Reference:
        Chen et al., Isolating Sources of Disentanglement in Variational Autoencoders,
        2018 (https://arxiv.org/abs/1802.04942).
    """

    term_names: tuple[str, ...] = (
        "reconstruction",
        "mutual_information",
        "total_correlation",
        "dimension_kl",
    )
    settled_arguments: tuple[str, ...] = ("free_bits",)

    def __init__(
        self,
        latent_dim: int = 10,
        *,
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "the KL is estimated for a batch as a whole")
        super().__init__(latent_dim, beta=beta, **kwargs)
        for name, value in (("alpha", alpha), ("gamma", gamma)):
            checks.check_weight(name, value)
        if not isinstance(self.prior, distributions.Normal):
            raise ValueError(
                "`prior` must be a `Normal`, whose latent dimensions are independent. "
                f"Received: prior={self.prior}"
            )
        self.alpha = alpha
        self.gamma = gamma

    def terms(self, x, outputs, training=False):
        log_prob = self.likelihood.log_prob(x, outputs["parameters"], training)
        mutual_information, total_correlation, dimension_kl = divergences.kl_parts(
            self.posterior_of(outputs), self.prior, outputs["z"]
        )
        return {
            "reconstruction": -log_prob,
            "mutual_information": self.alpha * mutual_information,
            "total_correlation": self.kl_weight * total_correlation,
            "dimension_kl": self.gamma * dimension_kl,
        }


class DIPVAE(VAE):
    """DIP-VAE: a VAE whose codes have the prior's covariance, as a whole.

        loss = reconstruction + kl
               + off_diagonal_weight Σ_{i≠j} C_ij² + diagonal_weight Σ_i (C_ii - 1)²

    where C is the covariance over the batch of the posteriors' means (DIP-VAE-I), or
    that of the codes, Cov(mean) + E[diag(variance)] (DIP-VAE-II). The squares of its
    off-diagonal are estimated without the bias of a small batch, which would charge
    independent codes too; so their sum may be a little below 0.

    Args:
        latent_dim: Numbers in a code.
        covariance: Whose covariance, `"means"` (DIP-VAE-I) or `"codes"` (DIP-VAE-II).
        off_diagonal_weight: λ_od, >= 0.
        diagonal_weight: λ_d, >= 0. Defaults to ten times λ_od for `"means"` and to λ_od
            for `"codes"`, as in the paper.
        **kwargs: As for `VAE`; the prior is N(0, I).

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.DIPVAE(latent_dim=10, likelihood="bernoulli")
    model.fit(x_train, epochs=50, batch_size=256)
    ```

    Reference:
        Kumar et al., Variational Inference of Disentangled Latent Concepts from
        Unlabeled Observations, 2018 (https://arxiv.org/abs/1711.00848).
    """

    term_names: tuple[str, ...] = (*VAE.term_names, "covariance_penalty")
    settled_arguments: tuple[str, ...] = ("prior",)

    def __init__(
        self,
        latent_dim: int = 10,
        *,
        covariance: str = "codes",
        off_diagonal_weight: float = 10.0,
        diagonal_weight: float | None = None,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "the covariance is held to that of N(0, I)")
        super().__init__(latent_dim, **kwargs)
        if covariance not in ("means", "codes"):
            raise ValueError(
                "`covariance` must be 'means' or 'codes'. "
                f"Received: covariance={covariance!r}"
            )
        checks.check_weight("off_diagonal_weight", off_diagonal_weight)
        if diagonal_weight is not None:
            checks.check_weight("diagonal_weight", diagonal_weight)
        self.covariance = covariance
        self.off_diagonal_weight = off_diagonal_weight
        self.diagonal_weight = diagonal_weight

    def terms(self, x, outputs, training=False):
        mean = outputs["mean"]  # (batch, latent_dim)
        centred = mean - ops.mean(mean, axis=0)
        batch = ops.cast(ops.shape(mean)[0], "float32")
        # (latent_dim, latent_dim). Nothing is changed in place: PyTorch's gradients
        # need what it was.
        covariance = ops.matmul(ops.transpose(centred), centred) / batch
        variance = ops.diagonal(covariance)
        # Less what a square is too large by, on average, in a batch of this size:
        # independent codes would pay for it.
        squares = ops.square(centred)
        fourth = ops.matmul(ops.transpose(squares), squares) / batch
        unbiased = ops.square(covariance) - (fourth - ops.square(covariance)) / batch
        off_diagonal = ops.sum(unbiased) - ops.sum(ops.diagonal(unbiased))
        diagonal_weight = self.diagonal_weight
        if self.covariance == "codes":
            variance = variance + ops.mean(ops.exp(outputs["log_var"]), axis=0)
        if diagonal_weight is None:
            factor = 10.0 if self.covariance == "means" else 1.0
            diagonal_weight = factor * self.off_diagonal_weight
        diagonal = ops.sum(ops.square(variance - 1.0))
        penalty = self.off_diagonal_weight * off_diagonal + diagonal_weight * diagonal
        return {
            **super().terms(x, outputs, training),
            "covariance_penalty": ops.broadcast_to(penalty, (ops.shape(mean)[0],)),
        }


class InfoVAE(VAE):
    """InfoVAE: a VAE that holds its codes to the prior as a whole, too.

        loss = -log p(x | z) + β KL(q(z | x) || p(z)) + mmd_weight MMD²(q(z), p(z))

    With β below 1 a code may say more about its x than in a VAE, and the maximum mean
    discrepancy of a batch of codes to the prior keeps samples good. In the paper's
    letters β is 1 - α, and `mmd_weight` is α + λ - 1; β = 0 is the MMD-VAE.

    Args:
        latent_dim: Numbers in a code.
        beta: β, >= 0.
        mmd_weight: Weight of the MMD, >= 0. The reconstruction is a sum over pixels:
            larger pictures want a larger weight.
        kernel: Kernel of the MMD, `"inverse_multiquadratic"` or `"rbf"`; see
            `divergences.mmd`.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.InfoVAE(latent_dim=16, likelihood="bernoulli")
    model.fit(x_train, epochs=50, batch_size=256)
    ```

    Reference:
        Zhao et al., InfoVAE: Balancing Learning and Inference in Variational
        Autoencoders, 2019 (https://arxiv.org/abs/1706.02262).
    """

    term_names: tuple[str, ...] = (*VAE.term_names, "mmd")
    learns_prior = False

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        beta: float = 0.5,
        mmd_weight: float = 500.0,
        kernel: str = "inverse_multiquadratic",
        **kwargs,
    ):
        super().__init__(latent_dim, beta=beta, **kwargs)
        checks.check_weight("mmd_weight", mmd_weight)
        divergences.get_kernel(kernel)
        self.mmd_weight = mmd_weight
        self.kernel = kernel
        self.prior_sampling = PriorSampling(self.prior, self.latent_dim)
        self._prior_scale = distributions.scale(self.prior, self.latent_dim)

    def terms(self, x, outputs, training=False):
        z = outputs["z"]
        distance = divergences.mmd(
            z, self.prior_sampling(x), self.kernel, self._prior_scale
        )
        return {
            **super().terms(x, outputs, training),
            "mmd": ops.broadcast_to(self.mmd_weight * distance, (ops.shape(z)[0],)),
        }


class SigmaVAE(VAE):
    """σ-VAE: a VAE whose decoder's scale balances the loss by itself.

        -log p(x | z) = D/2 log σ² + ||x - mean(z)||² / 2σ² + D/2 log 2π

    with D values in x and one σ for all of them: the one that is optimal for the batch,
    σ² = mean of ||x - mean(z)||² / D, or one that is learned. It is what β stands for
    where σ is fixed, and needs no search. (`VAE` by default has the optimal one, too.)
    Or the decoder predicts a σ(z) for each value: see `decode_scale`.

    Args:
        latent_dim: Numbers in a code.
        scale: `"optimal"`, `"learned"` or `"predicted"`, as for
            `keras_ae.likelihoods.Gaussian`.
        **kwargs: As for `VAE`, without `likelihood`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.SigmaVAE(latent_dim=64)
    model.fit(x_train, epochs=50)
    ```

    Reference:
        Rybkin et al., Simple and Effective VAE Training with Calibrated Decoders, 2021
        (https://arxiv.org/abs/2006.13202).
    """

    settled_arguments: tuple[str, ...] = ("likelihood",)

    def __init__(self, latent_dim: int = 32, *, scale: str = "optimal", **kwargs):
        self.refuse_settled(kwargs, "it is a Gaussian, of the `scale` that is chosen")
        if scale not in ("optimal", "learned", "predicted"):
            raise ValueError(
                "`scale` must be 'optimal', 'learned' or 'predicted'. "
                f"Received: scale={scale!r}"
            )
        super().__init__(latent_dim, likelihood=Gaussian(scale=scale), **kwargs)
        self.scale = scale


class MSSSIMVAE(VAE):
    """A VAE that reconstructs what the eye compares: multi-scale structural similarity.

        loss(x) = weight (1 - MS-SSIM(x, x̂)) - pixel_weight log p(x | z) + β KL

    where x̂ is the likelihood's mean. The model is p(z) p(x | z) as of any VAE, so that
    `elbo`, logged beside the terms, and `log_likelihood` can be compared; without a
    `pixel_weight` nothing maximises them, and they will be lower.

    Args:
        latent_dim: Numbers in a code.
        weight: Weight of the structural dissimilarity, >= 0. Defaults to the number of
            values in x, so that it is a sum over pixels.
        pixel_weight: Weight of -log p(x | z), >= 0. Without it the likelihood may have
            no learned scale, which nothing would learn.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of the
            optimal scale within [0, 1].
        **kwargs: As for `VAE`. Examples are pictures.

    Raises:
        ValueError: If an argument is out of range, or examples are no pictures.

    Example:

    ```python
    model = keras_ae.MSSSIMVAE(latent_dim=64)
    model.fit(faces, epochs=50)
    ```

    Reference:
        Snell et al., Learning to Generate Images with Perceptual Similarity Metrics,
        2017 (https://arxiv.org/abs/1511.06409).
    """

    takes_value_weights = False
    term_names: tuple[str, ...] = ("structure", "pixels", "kl")

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        weight: float | None = None,
        pixel_weight: float = 0.0,
        likelihood: Any = None,
        **kwargs,
    ):
        if likelihood is None:
            likelihood = Gaussian(activation="sigmoid")
        super().__init__(latent_dim, likelihood=likelihood, **kwargs)
        if weight is not None:
            checks.check_weight("weight", weight)
        checks.check_pixel_weight(pixel_weight, self.likelihood)
        self.weight = weight
        self.pixel_weight = pixel_weight

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        if len(image_shape) not in (2, 3) or self.architecture == "sequence":
            raise ValueError(
                "MSSSIMVAE needs pictures (height, width) or (height, width, "
                f"channels). Received examples of shape {image_shape}, "
                f"architecture={self.architecture!r}"
            )

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        mean = self.likelihood.mean(outputs["parameters"])
        if len(self.built_image_shape) == 2:
            x, mean = x[..., None], mean[..., None]
        weight = math.prod(self.built_image_shape)
        if self.weight is not None:
            weight = self.weight
        return {
            "structure": weight * (1.0 - divergences.ms_ssim(x, mean)),
            "pixels": self.pixel_weight * terms["reconstruction"],
            "kl": terms["kl"],
            "elbo": terms["elbo"],
        }
