"""Variational autoencoders whose posterior is more than a diagonal normal one."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.variational.vae import VAE
from keras_ae.probability import flows
from keras_ae.probability.distributions import MultivariateNormal, Normal


class RichPosteriorVAE(VAE):
    """Base of VAEs whose encoder gives more than a mean and a log-variance.

    A subclass names the last of `encoder_heads`, how many numbers it has
    (`last_head_dim`; a `VAE` is what is left without any) and what they make of the
    diagonal normal distribution (`enriched`).
    """

    SAMPLERS: tuple[str, ...] = Autoencoder.SAMPLERS

    @property
    def last_head_dim(self) -> int:
        """Numbers that the encoder gives beside mean and log-variance."""
        raise NotImplementedError

    def enriched(self, base: Normal, numbers):
        """Returns q(z | x): an object with `draw`.

        Args:
            base: `Normal` with the encoder's mean and log-variance.
            numbers: The last of its heads, `(batch, last_head_dim)`.
        """
        raise NotImplementedError

    def encoder_options(self, image_shape):
        *others, last = self.encoder_heads
        heads = dict.fromkeys(others, self.latent_dim)
        if self.last_head_dim:
            heads[last] = self.last_head_dim
        return {**super().encoder_options(image_shape), "heads": heads}

    def posterior_of(self, outputs):
        base = super().posterior_of(outputs)
        if not self.last_head_dim:
            return base
        numbers = outputs[self.encoder_heads[-1]]
        return self.enriched(base, ops.cast(numbers, "float32"))

    def call(self, x, training=False):
        heads = self.encoder(self.to_floats(x), training=training)
        standard = self._no_noise(x)
        noise = self.sampling(standard, standard)  # (batch, latent_dim)
        z, log_posterior = self.posterior_of(heads).draw(noise)
        return {
            **heads,
            "z": z,
            "log_posterior": log_posterior,  # (batch,)
            "parameters": self.decoder(z, training=training),
        }

    def encode_batch(self, x):
        return self.posterior(x).draw(self._no_noise(x))[0]

    def _no_noise(self, x):
        return ops.zeros((ops.shape(x)[0], self.latent_dim), dtype="float32")


class FullCovarianceVAE(RichPosteriorVAE):
    """A VAE whose posterior is a normal distribution with full covariance.

        q(z | x) = N(mean, L Lᵀ),  z = mean + L ε,  ε ~ N(0, I)

    where the encoder gives the mean, `log_var`, of which the diagonal of L is
    exp(log_var / 2), and what L has below it, as multiples of the row's diagonal over
    `latent_dim`. The KL to a `Normal` prior is in closed form. `free_bits` counts for
    each latent dimension given those before it. `encode` returns the mean.

    Args:
        latent_dim: Numbers in a code.
        **kwargs: As for `VAE`; an `encoder` of your own gives `"lower"` in addition,
            the `latent_dim (latent_dim - 1) / 2` numbers below the diagonal, row by
            row (nothing for a `latent_dim` of 1).

    Example:

    ```python
    model = keras_ae.FullCovarianceVAE(latent_dim=16, likelihood="bernoulli")
    model.fit(x_train, epochs=50)
    nats = model.log_likelihood(x_test, samples=1000)  # (n,)
    ```

    Reference:
        Kingma and Welling, An Introduction to Variational Autoencoders, 2019
        (https://arxiv.org/abs/1906.02691), section 2.5.1.
    """

    encoder_heads: tuple[str, ...] = ("mean", "log_var", "lower")

    @property
    def last_head_dim(self):
        return self.latent_dim * (self.latent_dim - 1) // 2

    def enriched(self, base, numbers):
        # A place in `numbers` for each entry of L, 0 where there is none.
        places = np.zeros((self.latent_dim, self.latent_dim), "int32")
        places[np.tril_indices(self.latent_dim, -1)] = 1 + np.arange(self.last_head_dim)
        lower = ops.take(ops.pad(numbers, ((0, 0), (1, 0))), places, axis=1)
        # So many numbers would drown a code in noise before they are learned: they
        # count in standard deviations, and little at first.
        stddev = ops.exp(0.5 * ops.expand_dims(base.log_var, -1))
        lower = stddev * lower / self.latent_dim  # (batch, latent_dim, latent_dim)
        return MultivariateNormal(base.mean, base.log_var, lower)


class FlowVAE(RichPosteriorVAE):
    """Base of VAEs whose codes pass through a flow on their way from noise.

        z = step_K(… step_1(mean + exp(log_var / 2) ε))
        log q(z | x) = log N(z_0; mean, diag(exp(log_var))) - Σ_k log |∂z_k / ∂z_{k-1}|

    The KL is log q(z | x) - log p(z) of the sampled code, for every prior. Without
    steps it is a `VAE`, in every respect. A subclass says what its steps are made of
    (`last_head_dim`, `flow`). `encode` returns what becomes of the mean, where ε = 0;
    the posterior's own mean has no formula.

    Args:
        latent_dim: Numbers in a code.
        steps: K, >= 0.
        **kwargs: As for `VAE`, without `free_bits`; an `encoder` of your own gives
            `"flow"` in addition, `(batch, last_head_dim)`, unless there are no steps.
    """

    encoder_heads: tuple[str, ...] = ("mean", "log_var", "flow")
    settled_arguments: tuple[str, ...] = ("free_bits",)

    def __init__(self, latent_dim: int = 32, *, steps: int = 4, **kwargs):
        self.refuse_settled(kwargs, "the KL is known for a code as a whole")
        super().__init__(latent_dim, **kwargs)
        self.steps = checks.check_count("steps", steps, minimum=0)

    def flow(self, numbers) -> list[Callable]:
        """Returns the steps, functions of z that return z and a log-determinant."""
        raise NotImplementedError

    def enriched(self, base, numbers):
        return flows.FlowPosterior(base, self.flow(numbers))

    def kl(self, outputs, free_bits=0.0):
        if not self.steps:
            return super().kl(outputs, free_bits)
        return outputs["log_posterior"] - self.prior.log_prob(outputs["z"])


class PlanarFlowVAE(FlowVAE):
    """A VAE whose codes are pushed away from planes, or towards them.

        z <- z + û tanh(w·z + b),  w·û > -1

    where the encoder gives u, w and b of every step. Each step bends the posterior in
    one direction only: larger codes want more steps, or `SylvesterFlowVAE`.

    Args:
        latent_dim: Numbers in a code.
        steps: Number of steps, >= 0.
        **kwargs: As for `VAE`, without `free_bits`; an `encoder` of your own gives
            `"flow"` in addition, `(batch, steps * (2 * latent_dim + 1))`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.PlanarFlowVAE(latent_dim=16, steps=16, likelihood="bernoulli")
    callback = keras_ae.callbacks.BetaWarmUp(epochs=20)
    model.fit(x_train, epochs=100, callbacks=[callback])
    ```

    Reference:
        Rezende and Mohamed, Variational Inference with Normalizing Flows, 2015
        (https://arxiv.org/abs/1505.05770).
    """

    def __init__(self, latent_dim: int = 32, *, steps: int = 8, **kwargs):
        super().__init__(latent_dim, steps=steps, **kwargs)

    @property
    def last_head_dim(self):
        return self.steps * (2 * self.latent_dim + 1)

    def flow(self, numbers):
        steps = []
        for part in ops.split(numbers, self.steps, axis=1):
            places = [self.latent_dim, 2 * self.latent_dim]
            u, w, bias = ops.split(part, places, axis=1)
            steps.append(functools.partial(flows.planar, u=u, w=w, bias=bias))
        return steps


class SylvesterFlowVAE(FlowVAE):
    """A VAE whose codes are bent in all latent dimensions at once.

        z <- z + Q R tanh(R' Qᵀ z + b)

    where the encoder gives, for every step, the vectors of the Householder reflections
    whose product is the orthogonal Q, the upper triangular R and R', as multiples of
    1 / latent_dim, and b.

    Args:
        latent_dim: Numbers in a code.
        steps: Number of steps, >= 0.
        reflections: Householder reflections in each Q, >= 1; with `latent_dim` of them
            it can be any orthogonal matrix, up to the sign of its determinant.
        **kwargs: As for `VAE`, without `free_bits`; an `encoder` of your own gives
            `"flow"` in addition, `(batch, steps * latent_dim * (latent_dim +
            reflections + 2))`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.SylvesterFlowVAE(latent_dim=16, likelihood="bernoulli")
    model.fit(x_train, epochs=100)
    nats = model.log_likelihood(x_test, samples=1000)  # (n,)
    ```

    Reference:
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference, 2018
        (https://arxiv.org/abs/1803.05649), with Householder reflections.
    """

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        steps: int = 4,
        reflections: int = 8,
        **kwargs,
    ):
        super().__init__(latent_dim, steps=steps, **kwargs)
        self.reflections = checks.check_count("reflections", reflections)
        # So many numbers would drown a code in noise before they are learned.
        self._triangle_scale = 1.0 / self.latent_dim

    def get_build_config(self):
        config = super().get_build_config()
        # There is none before the model is built.
        return config and {**config, "triangle_scale": self._triangle_scale}

    def build_from_config(self, config):
        config = dict(config)
        # Models that were saved before have triangles that count in full.
        self._triangle_scale = config.pop("triangle_scale", 1.0)
        super().build_from_config(config)

    @property
    def last_head_dim(self):
        return self.steps * (self.latent_dim + self.reflections + 2) * self.latent_dim

    def flow(self, numbers):
        steps = []
        places = [self.latent_dim + 1, self.latent_dim + 1 + self.reflections]
        for part in ops.split(numbers, self.steps, axis=1):
            # (batch, latent_dim + 1 + reflections + 1, latent_dim)
            rows = ops.reshape(part, (-1, places[-1] + 1, self.latent_dim))
            triangles, reflections, bias = ops.split(rows, places, axis=1)
            triangles = self._triangle_scale * triangles
            steps.append(
                functools.partial(
                    flows.sylvester,
                    reflections=reflections,
                    # A square with a row more has two triangles, each with a diagonal.
                    right=triangles[:, :-1],
                    left=ops.swapaxes(triangles[:, 1:], 1, 2),
                    bias=bias[:, 0],
                )
            )
        return steps


class IAFVAE(FlowVAE):
    """A VAE whose codes pass through inverse autoregressive flows.

        z_j <- σ_j z_j + (1 - σ_j) mean_j,  σ_j = sigmoid(gate_j)

    where mean_j and gate_j come from a masked network (MADE), which sees z_1 … z_{j-1}
    and a context that the encoder gives. Each step has a network of its own, and
    reverses the order of the latent dimensions.

    Args:
        latent_dim: Numbers in a code.
        steps: Number of steps, >= 0.
        context_dim: Numbers that the encoder tells the networks, >= 1.
        flow_widths: Units of each network's hidden layers.
        **kwargs: As for `VAE`, without `free_bits`; an `encoder` of your own gives
            `"flow"` in addition, the context `(batch, context_dim)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.IAFVAE(latent_dim=16, likelihood="bernoulli")
    model.fit(x_train, epochs=100)
    nats = model.log_likelihood(x_test, samples=1000)  # (n,)
    ```

    Reference:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow,
        2016 (https://arxiv.org/abs/1606.04934).
    """

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        steps: int = 4,
        context_dim: int = 64,
        flow_widths: Sequence[int] = (128,),
        **kwargs,
    ):
        super().__init__(latent_dim, steps=steps, **kwargs)
        self.context_dim = checks.check_count("context_dim", context_dim)
        self.flow_widths = checks.check_counts("flow_widths", flow_widths)

    def build_networks(self, image_shape):
        self.flow_networks = [
            flows.MaskedNetwork(self.flow_widths) for _ in range(self.steps)
        ]
        for network in self.flow_networks:
            network.build((None, self.latent_dim), (None, self.context_dim))
        super().build_networks(image_shape)

    @property
    def last_head_dim(self):
        return self.context_dim if self.steps else 0

    def flow(self, numbers):
        return [
            functools.partial(
                flows.inverse_autoregressive, network=network, context=numbers
            )
            for network in self.flow_networks
        ]
