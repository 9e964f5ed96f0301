"""Variational autoencoders: a code is a distribution."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import checks, progress
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.base.verbs import seed_generator
from keras_ae.nn.layers import GaussianSampling
from keras_ae.probability import distributions, divergences
from keras_ae.probability.priors import VampPrior
from keras_ae.training import inputs

LOG_VAR_RANGE = (-20.0, 20.0)


class VAE(Autoencoder):
    """Variational autoencoder: a Gaussian posterior, held to a prior by the KL.

        ELBO(x) = E_q(z|x) [log p(x | z)] - KL(q(z | x) || p(z)) <= log p(x)
        loss(x) = reconstruction + kl
                = -log p(x | z) + β KL(q(z | x) || p(z)),  z ~ q(z | x)

    where q(z | x) = N(mean(x), diag(exp(log_var(x)))). Sums run over pixels and latent
    dimensions, the mean over the batch; everything is in nats. `elbo` is logged beside
    the loss, always with β = 1 and without free bits, so that runs can be compared.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example; see `Autoencoder`, also for `architecture`,
            `widths` and `activation`. Defaults to the shape of the first batch.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian whose
            scale is the optimal one, which balances the two terms by itself.
        prior: Distribution of codes: a `Normal`, by default N(0, I), whose KL is in
            closed form; a `NormalMixture`, a `GaussianMixture`, a learned one of
            `keras_ae.priors`, or on the TensorFlow backend any TensorFlow Probability
            distribution, whose KL is estimated from the sampled code.
        beta: Weight of the KL, >= 0. The callback `BetaWarmUp` raises it from 0.
        free_bits: Nats of KL, per latent dimension and averaged over the batch, that
            cost nothing, >= 0. Needs a `Normal` prior. `kl` and `loss` then depend on
            the batch size; `elbo` does not.
        encoder: Your own Keras model from x to a dict of `"mean"` and `"log_var"`, each
            `(batch, latent_dim)`.
        decoder: Your own Keras model from codes to the likelihood's parameters.
        **kwargs: `name`, `dtype` and `trainable`.

    Example:

    ```python
    model = keras_ae.VAE(latent_dim=16, likelihood="bernoulli")
    model.fit(x_train, validation_data=x_test, epochs=10)
    pictures = model.sample(64, seed=0)  # (64, height, width, channels)
    nats = model.log_likelihood(x_test, samples=100)  # (n,)
    ```

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014
        (https://arxiv.org/abs/1312.6114); Higgins et al., β-VAE, 2017; Kingma et al.,
        Improving Variational Inference with Inverse Autoregressive Flow, 2016
        (https://arxiv.org/abs/1606.04934), for free bits.
    """

    has_posterior = True
    bounds_likelihood = True
    term_names: tuple[str, ...] = ("reconstruction", "kl")
    monitor_names: tuple[str, ...] = ("elbo", "mse")
    encoder_heads: tuple[str, ...] = ("mean", "log_var")
    learns_prior = True
    SAMPLERS: tuple[str, ...] = (*Autoencoder.SAMPLERS, "vampprior")

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        likelihood: Any = "gaussian",
        prior: Any = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
        **kwargs,
    ):
        super().__init__(latent_dim, likelihood=likelihood, **kwargs)
        # Where players take turns, none of them owns the prior.
        learned = self.learns_prior and not self.player_names
        self.prior: Any = distributions.get_prior(prior, latent_dim, learned)
        checks.check_weight("free_bits", free_bits)
        if free_bits and not isinstance(self.prior, distributions.Normal):
            raise ValueError(
                "`free_bits` needs a `Normal` prior, whose KL is known for each latent "
                f"dimension. Received: prior={prior}"
            )
        self.beta = beta
        self.free_bits = free_bits
        self.sampling = GaussianSampling()

    @property
    def beta(self) -> float:
        """Weight of the KL, which a change sets, also between two calls of `fit`."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        checks.check_weight("beta", value)
        self._beta = value
        if self.built:
            self.kl_weight.assign(value)

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        self.kl_weight = self.add_number("kl_weight", self.beta)
        if isinstance(self.prior, distributions.LearnedPrior):
            self.prior.connect(self)

    def begin_fit(self, x):
        x = super().begin_fit(x)
        if isinstance(self.prior, VampPrior) and self.prior.is_fresh:
            examples, x = self.examples_to_start(x, self.prior.components)
            self.prior.start(ops.convert_to_numpy(inputs.to_floats(examples)))
        return x

    def posterior(self, x, training=False) -> distributions.Normal:
        """Returns q(z | x): a `Normal`, `(batch, latent_dim)`."""
        return self.posterior_of(self.encoder(self.to_floats(x), training=training))

    def call(self, x, training=False, **others):
        posterior = self.posterior(x, training, **others)
        z = self.sampling(posterior.mean, posterior.log_var)  # (batch, latent_dim)
        code = self._code(z, **others)  # (batch, code_dim)
        return {
            "mean": posterior.mean,
            "log_var": posterior.log_var,
            "z": z,
            # (batch, *image_shape)
            "parameters": self.decoder(code, training=training),
        }

    def _code(self, z):
        """Returns what the decoder is given for z `(..., latent_dim)`."""
        return z

    def terms(self, x, outputs, training=False):
        log_prob = self.likelihood.log_prob(x, outputs["parameters"], training)
        kl = self.kl(outputs)
        paid = self.kl(outputs, self.free_bits) if self.free_bits else kl
        return {
            "reconstruction": -log_prob,
            "kl": self.kl_weight * paid,
            "elbo": log_prob - kl,
        }

    def monitors(self, x, outputs, terms):
        figures = super().monitors(x, outputs, terms)
        # A subclass may have terms of its own, which don't tell it.
        if "elbo" not in terms:
            figures["elbo"] = -terms["reconstruction"] - self.kl(outputs)
        return figures

    def kl(self, outputs, free_bits: float = 0.0):
        """Returns KL(q(z | x) || p(z)) of what `call` returned, `(batch,)`, in nats."""
        posterior = self.posterior_of(outputs)
        if free_bits:
            kl = divergences.kl_normal(posterior, self.prior)  # (batch, latent_dim)
            return ops.sum(divergences.free_bits(kl, free_bits), axis=-1)
        return divergences.kl(posterior, self.prior, outputs["z"])

    def posterior_of(self, outputs) -> distributions.Normal:
        """Returns q(z | x) of what the encoder or `call` returned."""
        return normal(outputs)

    def encode_batch(self, x):
        return self.posterior(x).mean

    def sample_posterior(
        self, x, seed: int | None = None, batch_size: int = 256
    ) -> np.ndarray:
        """Draws a code for each example from q(z | x).

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            seed: Integer; the same seed gives the same codes.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, latent_dim)`.
        """
        x = self.check_data(x, "x", restored=False)
        return self._posterior_draws(x, seed, batch_size)

    def _posterior_draws(self, data, seed, batch_size, labelled=False):
        checks.check_count("batch_size", batch_size)
        draw = self.compiled_function("sample_posterior", self._sample_posterior)
        seed = seed_generator(seed)
        codes = []
        for batch in inputs.batches(data, batch_size, labelled):
            parts = batch if isinstance(batch, tuple) else (batch,)
            shape = (len(parts[0]), self.noise_dim)
            noise = keras.random.normal(shape, dtype="float32", seed=seed)
            z = draw(noise, *map(ops.convert_to_tensor, parts))
            codes.append(ops.convert_to_numpy(z))
        return np.concatenate(codes)

    def _sample_posterior(self, noise, x, **others):
        return self.posterior(x, **others).draw(noise)[0]

    def codes_to_fit(self, x, seed):
        # What the decoder was trained on are draws, not means.
        return self.sample_posterior(x, seed)

    def log_likelihood(
        self, x, samples: int = 100, seed: int | None = None, chunk_size: int = 4096
    ) -> np.ndarray:
        """Estimates log p(x) by importance sampling from the posterior.

            log p(x) ≈ log 1/K Σ_k p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x)

        a lower bound in expectation, which tightens with K. With a likelihood of a
        discrete variable (Bernoulli on binary data, discretised logistic) it is a
        log-probability; otherwise a log-density, which may be positive.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            samples: K, codes drawn for each example, >= 1. Papers use 5,000.
            seed: Integer; the same seed gives the same estimate.
            chunk_size: At most this many codes are decoded at a time, fewer for large
                pictures, which bounds the memory.

        Returns:
            Array `(n,)`, in nats.

        Reference:
            Burda et al., Importance Weighted Autoencoders, 2016
            (https://arxiv.org/abs/1509.00519).
        """
        return self._log_likelihood(self.check_data(x, "x"), samples, seed, chunk_size)

    def _log_likelihood(self, data, samples, seed, chunk_size, labelled=False):
        checks.check_count("samples", samples)
        checks.check_count("chunk_size", chunk_size)
        pixels = math.prod(self.built_image_shape)
        rows = min(max(2**22 // pixels, 16), chunk_size)
        chunks = math.ceil(samples / rows)
        sizes = [len(part) for part in np.array_split(np.arange(samples), chunks)]
        batch_size = max(1, rows // sizes[0])
        log_weights = self.compiled_function("log_weights", self._log_weights)
        seed = seed_generator(seed)

        estimates, done = [], 0
        with progress.shown("log-likelihood", inputs.count(data)) as advance:
            for batch in inputs.batches(data, batch_size, labelled):
                batch = batch if isinstance(batch, tuple) else (batch,)
                batch = [ops.convert_to_tensor(part) for part in batch]
                total = -np.inf  # (batch,)
                for size in sizes:
                    noise = keras.random.normal(
                        (size, batch[0].shape[0], self.noise_dim),
                        dtype="float32",
                        seed=seed,
                    )
                    weights = log_weights(noise, *batch)
                    weights = ops.convert_to_numpy(weights).astype("float64")
                    total = np.logaddexp(total, np.logaddexp.reduce(weights, axis=0))
                estimates.append(total - math.log(samples))
                done += len(total)
                advance(done)
        return np.concatenate(estimates)

    @property
    def noise_dim(self) -> int:
        """Random numbers that a sampled code takes."""
        return self.latent_dim

    def _log_weights(self, noise, x, **others):
        """log p(x, z) - log q(z | x) for the codes of noise, (samples, batch)."""
        x = self.to_floats(x)
        posterior = self.posterior(x, **others)
        # (samples, batch, latent_dim) and (samples, batch)
        z, log_posterior = posterior.draw(noise)
        code = ops.reshape(self._code(z, **others), (-1, self.code_dim))
        parameters = self.decoder(code, training=False)
        return self.log_weights(x, z, log_posterior, parameters)

    def log_weights(self, x, z, log_posterior, parameters, training=False):
        """Returns log p(x, z) - log q(z | x) of several codes an example, in nats.

        Args:
            x: Examples `(batch, *image_shape)`.
            z: Codes `(samples, batch, latent_dim)`.
            log_posterior: Their log q(z | x), `(samples, batch)`.
            parameters: What they decode to, `(samples * batch, *image_shape)`.
            training: Whether the likelihood's scale may be fitted to this batch.

        Returns:
            Tensor `(samples, batch)`.
        """
        samples = ops.shape(z)[0]
        x = ops.broadcast_to(x, (samples, *ops.shape(x)))
        x = ops.reshape(x, (-1, *self.built_image_shape))
        log_likelihood = self.likelihood.log_prob(x, parameters, training)
        log_likelihood = ops.reshape(log_likelihood, (samples, -1))
        return log_likelihood + self.prior.log_prob(z) - log_posterior


def normal(heads) -> distributions.Normal:
    """Returns the `Normal` of a network's heads, `(batch, dim)`."""
    log_var = ops.clip(ops.cast(heads["log_var"], "float32"), *LOG_VAR_RANGE)
    mean = ops.cast(heads["mean"], "float32")
    return distributions.Normal.from_log_var(mean, log_var)
