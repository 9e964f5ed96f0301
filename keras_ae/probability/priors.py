"""Priors over codes that are learned together with a model.

Each is given to a `VAE` as its `prior`, which learns its weights, saves them, and
estimates the KL from sampled codes.
"""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.probability.distributions import (
    LearnedPrior,
    Normal,
    Seed,
    draw_mixture,
    float32,
    mixture_log_prob,
)
from keras_ae.probability.flows import MaskedNetwork

# A number is scaled by at most exp of it in one step of a flow.
MAX_LOG_SCALE = 3.0


class LearnedMixture(LearnedPrior):
    """Mixture of normal distributions with diagonal covariances, learned.

        p(z) = Σ_k π_k N(z; mean_k, diag(variance_k))

    Args:
        components: Number of components, >= 1.

    Raises:
        ValueError: If `components` is below 1.

    Example:

    ```python
    prior = keras_ae.priors.LearnedMixture(components=10)
    model = keras_ae.VAE(latent_dim=16, prior=prior)
    ```

    Reference:
        Dilokthanakul et al., Deep Unsupervised Clustering with Gaussian Mixture
        Variational Autoencoders, 2016 (https://arxiv.org/abs/1611.02648).
    """

    def __init__(self, components: int = 10, **kwargs):
        super().__init__(**kwargs)
        self.components = checks.check_count("components", components)

    def build(self, input_shape):
        shape = (self.components, input_shape[-1])
        # Apart from one another, or they would stay equal.
        apart = keras.initializers.RandomNormal(stddev=0.5)
        self.means = self.add_weight(name="means", shape=shape, initializer=apart)
        self.log_vars = self.add_weight(
            name="log_vars", shape=shape, initializer="zeros"
        )
        self.logits = self.add_weight(
            name="logits", shape=(self.components,), initializer="zeros"
        )
        self.built = True

    def log_prob(self, z):
        log_weights = ops.log_softmax(float32(self.logits))
        return mixture_log_prob(
            z, float32(self.means), float32(self.log_vars), log_weights
        )

    def sample(self, shape: Sequence[int], seed: Seed = None):
        weights = ops.softmax(float32(self.logits))
        means, log_vars = float32(self.means), float32(self.log_vars)
        return draw_mixture(shape, means, log_vars, weights, seed)

    def get_config(self):
        return {**super().get_config(), "components": self.components}


class VampPrior(LearnedPrior):
    """Variational mixture of posteriors: the posteriors of learned pseudo-examples.

        p(z) = 1/K Σ_k q(z | u_k)

    with u_1 … u_K of the shape of an example, learned together with encoder and
    decoder, and kept within the likelihood's range. `fit` starts them from examples of
    the training data, unless they were learned or set before; what lacks starts from
    noise.

    Args:
        components: K, number of pseudo-examples, >= 1.

    Raises:
        ValueError: If `components` is below 1.

    Example:

    ```python
    prior = keras_ae.priors.VampPrior(components=500)
    model = keras_ae.VAE(latent_dim=40, likelihood="bernoulli", prior=prior)
    ```

    Reference:
        Tomczak and Welling, VAE with a VampPrior, 2018
        (https://arxiv.org/abs/1705.07120).
    """

    def __init__(self, components: int = 500, **kwargs):
        super().__init__(**kwargs)
        self.components = checks.check_count("components", components)

    def connect(self, model):
        # A function, because the model owns the encoder and saves it.
        self._posterior_of = model.posterior
        self._range = (model.likelihood.low, model.likelihood.high)
        self._example_shape = model.built_image_shape
        posterior = model.posterior(ops.zeros((1, *self._example_shape)))
        if not isinstance(posterior, Normal):
            raise ValueError(
                "`prior` must be another than a `VampPrior`, a mixture of `Normal` "
                f"posteriors, which {type(model).__name__} does not have."
            )
        super().connect(model)

    def build(self, input_shape):
        self.pseudo_examples = self.add_weight(
            name="pseudo_examples",
            shape=(self.components, *self._example_shape),
            initializer=keras.initializers.RandomUniform(0.0, 1.0),
        )
        self._noise = ops.convert_to_numpy(self.pseudo_examples)
        self.built = True

    @property
    def is_fresh(self) -> bool:
        """Whether the pseudo-examples are still the noise that they were built with."""
        return np.array_equal(ops.convert_to_numpy(self.pseudo_examples), self._noise)

    def start(self, examples) -> None:
        """Takes examples as the first pseudo-examples, `(n, *image_shape)`, n <= K."""
        rest = self._noise[len(examples) :]
        self.pseudo_examples.assign(np.concatenate([examples, rest]))

    def examples(self):
        """Returns u_1 … u_K as the encoder sees them, `(components, *image_shape)`."""
        return ops.clip(float32(self.pseudo_examples), *self._range)

    def _posterior(self) -> Normal:
        """q(z | u), `(components, latent_dim)`."""
        return self._posterior_of(self.examples())

    def log_prob(self, z):
        posterior = self._posterior()
        return mixture_log_prob(
            z, posterior.mean, posterior.log_var, -math.log(self.components)
        )

    def sample(self, shape: Sequence[int], seed: Seed = None):
        posterior = self._posterior()
        weights = np.full(self.components, 1.0 / self.components)
        return draw_mixture(shape, posterior.mean, posterior.log_var, weights, seed)

    def get_config(self):
        return {**super().get_config(), "components": self.components}


class AutoregressiveFlow(LearnedPrior):
    """Masked autoregressive flow: noise that is shifted and scaled, step by step.

        u_j = (z_j - mean_j(z_1 … z_{j-1})) exp(-log_scale_j(z_1 … z_{j-1}))
        log p(z) = log N(u; 0, I) - Σ log_scale

    over several steps, between which the latent dimensions change their order. Each
    step's means and scales come from a masked network (MADE), in which number j sees
    only those before it. Before training it is N(0, I). Densities take one pass of each
    network, samples as many as there are latent dimensions.

    Args:
        steps: Number of steps, >= 0; without any it is N(0, I).
        widths: Units of each network's hidden layers.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    prior = keras_ae.priors.AutoregressiveFlow(steps=4)
    model = keras_ae.VAE(latent_dim=16, prior=prior)
    ```

    Reference:
        Papamakarios et al., Masked Autoregressive Flow for Density Estimation, 2017
        (https://arxiv.org/abs/1705.07057); Germain et al., MADE, 2015
        (https://arxiv.org/abs/1502.03509).
    """

    def __init__(self, steps: int = 4, widths: Sequence[int] = (64, 64), **kwargs):
        super().__init__(**kwargs)
        self.steps = checks.check_count("steps", steps, minimum=0)
        self.widths = checks.check_counts("widths", widths)

    def build(self, input_shape):
        self.networks = [MaskedNetwork(self.widths) for _ in range(self.steps)]
        for network in self.networks:
            network.build(input_shape)
        self.built = True

    def log_prob(self, z):
        z = float32(z)
        log_det = 0.0
        for step in range(self.steps):
            mean, log_scale = self._conditionals(step, z)
            z = ops.flip((z - mean) * ops.exp(-log_scale), axis=-1)
            log_det = log_det - ops.sum(log_scale, axis=-1)
        return Normal().log_prob(z) + log_det

    def sample(self, shape: Sequence[int], seed: Seed = None):
        z = keras.random.normal(shape, dtype="float32", seed=seed)
        for step in reversed(range(self.steps)):
            noise = ops.flip(z, axis=-1)
            z = ops.zeros_like(noise)
            # Each round gets one more number right.
            for _ in range(shape[-1]):
                mean, log_scale = self._conditionals(step, z)
                z = mean + ops.exp(log_scale) * noise
        return z

    def _conditionals(self, step, z):
        """Means and log-scales of each number given those before it, `(..., dim)`."""
        mean, log_scale = self.networks[step](z)
        return mean, MAX_LOG_SCALE * ops.tanh(log_scale / MAX_LOG_SCALE)

    def get_config(self):
        return {**super().get_config(), "steps": self.steps, "widths": self.widths}
