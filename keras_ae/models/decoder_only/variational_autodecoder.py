"""The variational auto-decoder: a posterior of its own for every training sample."""

import functools
from typing import Any

import numpy as np
from keras import ops

from keras_ae import backend, checks, progress
from keras_ae.models.base import latent_search
from keras_ae.models.base.verbs import padded
from keras_ae.models.decoder_only.autodecoder import AutoDecoder
from keras_ae.models.decoder_only.samples import observed_values, with_missing
from keras_ae.models.variational.vae import LOG_VAR_RANGE
from keras_ae.nn.layers import GaussianSampling
from keras_ae.probability import distributions, divergences
from keras_ae.training import inputs

# A wide posterior would drown what its mean is to learn.
FIRST_LOG_VAR = -6.0
# Noises that the steps of a search take in turns, each with its negative.
_NOISES = 16


class VariationalAutoDecoder(AutoDecoder):
    """Variational auto-decoder: a VAE whose every sample owns its posterior.

        ELBO(x_i) = E_q_i [log p(x_i | z)] - beta KL(q_i(z) || p(z)),
        q_i(z) = N(mean_i, exp(log_var_i))

    Where a VAE's encoder computes mean and log-variance, here they are learned for each
    sample, by gradients through the reparameterised sample as there. A posterior need
    not be one that a network can compute from x, and a value that is missing from x
    just does not count, where an encoder would have to be shown something in its place.

    Everything else, such as missing values, `extend` and `remove`, is as in
    `AutoDecoder`. `encode` returns the posterior's mean; `sample` draws from the prior.

    Args:
        latent_dim: Numbers in a code.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of the
            optimal scale.
        prior: Distribution of codes, as for `VAE`. Defaults to N(0, I).
        beta: Weight of the KL, >= 0; 1 is the ELBO.
        **kwargs: As for `AutoDecoder`, without `code_weight`.

    Raises:
        ValueError: If an argument is out of range, or the decoder of the wrong shape.

    Example:

    ```python
    model = keras_ae.VariationalAutoDecoder(latent_dim=16)
    model.fit(x_train, mask=observed, epochs=50)
    filled = model.reconstruct(x_test, mask=observed_test)
    ```

    Reference:
        Zadeh et al., Variational Auto-Decoder, 2019 (https://arxiv.org/abs/1903.00840).
    """

    has_posterior = True
    term_names: tuple[str, ...] = ("reconstruction", "kl")
    monitor_names: tuple[str, ...] = ("elbo", "mse")
    settled_arguments: tuple[str, ...] = ("encoder", "code_weight")
    search_turns = 2 * _NOISES

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        likelihood: Any = "gaussian",
        prior: Any = None,
        beta: float = 1.0,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "the KL to the prior keeps codes together")
        super().__init__(latent_dim, likelihood=likelihood, **kwargs)
        checks.check_weight("beta", beta)
        self.prior = distributions.get_prior(prior, latent_dim)
        self.beta = beta
        self.sampling = GaussianSampling()
        noise = np.random.default_rng(0).normal(size=(_NOISES, latent_dim))
        noise = _whitened(noise)
        self._noise = np.stack([noise, -noise], axis=1).astype("float32")
        self._noise = self._noise.reshape(2 * _NOISES, latent_dim)

    @property
    def row_width(self):
        return 2 * self.latent_dim

    def _start_rows(self, x):
        means = super()._start_rows(x)
        return np.concatenate([means, np.full_like(means, FIRST_LOG_VAR)], axis=1)

    def mean_codes(self, rows):
        return rows[:, : self.latent_dim]

    def constrain(self, rows):
        mean, log_var = rows[:, : self.latent_dim], rows[:, self.latent_dim :]
        return ops.concatenate([mean, ops.clip(log_var, *LOG_VAR_RANGE)], axis=1)

    def decoded(self, rows, training=False, step=None):
        rows = ops.cast(rows, "float32")
        mean, log_var = rows[:, : self.latent_dim], rows[:, self.latent_dim :]
        if step is None:
            z = self.sampling(mean, log_var)  # (batch, latent_dim)
        else:
            turn = step % (2 * _NOISES)
            noise = ops.take(ops.convert_to_tensor(self._noise), turn, axis=0)
            z = mean + ops.exp(0.5 * log_var) * noise
        return {
            "mean": mean,
            "log_var": log_var,
            "z": z,
            "parameters": self.decoder(z, training=training),  # (batch, *image_shape)
        }

    def terms(self, x, outputs, training=False):
        x, observed = observed_values(x)
        log_prob = self.likelihood.log_prob(
            x, outputs["parameters"], training, observed
        )
        return {"reconstruction": -log_prob, "kl": self.beta * self._kl(outputs)}

    def monitors(self, x, outputs, terms):
        elbo = -terms["reconstruction"] - self._kl(outputs)
        return {"elbo": elbo, **super().monitors(x, outputs, terms)}

    def _drawn_codes(self, rows, rng):
        mean, log_var = rows[:, : self.latent_dim], rows[:, self.latent_dim :]
        return mean + np.exp(0.5 * log_var) * rng.normal(size=mean.shape)

    def _kl(self, outputs):
        posterior = distributions.Normal.from_log_var(
            outputs["mean"], outputs["log_var"]
        )
        return divergences.kl(posterior, self.prior, outputs["z"])

    # Verbs

    def posteriors(self, sample_ids: Any = None) -> distributions.Normal:
        """Returns the posteriors of training samples: a `Normal`, `(n, latent_dim)`.

        Args:
            sample_ids: Integers `(n,)`. Defaults to all of them, in order.
        """
        rows = self._rows(sample_ids)
        return distributions.Normal.from_log_var(
            rows[:, : self.latent_dim], rows[:, self.latent_dim :]
        )

    def sample_posterior(
        self,
        x,
        mask: Any = None,
        steps: int = 100,
        step_size: float = 0.05,
        seed: int = 0,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Draws a code for each example from p(z | x), by Langevin dynamics.

        It starts from the Gaussian posterior that a search finds, whose variances also
        scale the steps; the draws are not bound to be Gaussian.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            mask: As in `encode`.
            steps: Steps after the search, >= 1.
            step_size: Step in variances of the Gaussian posterior, > 0.
            seed: Seed of the noise, >= 0; the same seed gives the same codes.
            batch_size: Examples at a time, for arrays.

        Returns:
            Codes, `(n, latent_dim)`.

        Raises:
            ValueError: If an argument is out of range.

        Reference:
            Roberts and Tweedie, Exponential Convergence of Langevin Distributions and
            Their Discrete Approximations, 1996 (https://doi.org/10.2307/3318418).
        """
        checks.check_count("steps", steps)
        checks.check_seed(seed)
        checks.check_count("batch_size", batch_size)
        if not 0 < step_size < 1:
            raise ValueError(
                "`step_size` must be between 0 and 1, in variances of the posterior. "
                f"Received: step_size={step_size}"
            )
        x = self.check_data(with_missing(x, mask), "x")
        function = functools.partial(self._langevin, step_size=step_size)
        draw = self.compiled_function(f"langevin {steps} {step_size}", function)
        # NumPy's, which moves on from one example to the next, whatever the batches.
        rng = np.random.default_rng(seed)
        codes, done = [], 0
        with progress.shown("langevin", inputs.count(x)) as advance:
            for batch in inputs.batches(x, batch_size):
                shape = (len(batch), steps + 1, self.latent_dim)
                noise = rng.standard_normal(shape, dtype="float32")
                size = backend.common_size(len(batch))
                parts = (padded(part, size) for part in (batch, noise))
                z = draw(*map(ops.convert_to_tensor, parts))
                codes.append(ops.convert_to_numpy(z)[: len(batch)])
                done += len(batch)
                advance(done)
        return np.concatenate(codes)

    def _langevin(self, x, noise, step_size):
        x, observed = observed_values(self.to_floats(x))
        rows = self._search(x, observed, self.search_steps).z
        mean, log_var = rows[:, : self.latent_dim], rows[:, self.latent_dim :]
        stddev = ops.exp(0.5 * log_var)
        noise = ops.swapaxes(noise, 0, 1)  # (steps + 1, batch, latent_dim)

        def objective(standardized):
            z = mean + stddev * standardized
            parameters = self.decoder(z, training=False)
            log_prob = self.likelihood.log_prob(x, parameters, observed=observed)
            return -log_prob - self.prior.log_prob(z)

        end = latent_search.langevin(
            backend.pure(self, objective), noise[0], noise[1:], step_size
        )
        return mean + stddev * end


def _whitened(noise):
    """Noise `(n, latent_dim)` whose second moments are the identity, if n allows it."""
    scale = np.sqrt(len(noise))
    if noise.shape[1] <= len(noise):
        return scale * np.linalg.qr(noise)[0]
    return noise / np.sqrt(np.mean(np.square(noise), axis=0))
