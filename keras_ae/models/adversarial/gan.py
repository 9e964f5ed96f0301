"""Generative adversarial networks: a generator that a discriminator can't catch."""

import functools
import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.adversarial import losses
from keras_ae.models.base import latent_search
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.nn import networks
from keras_ae.nn.layers import PriorSampling, UniformNoise
from keras_ae.probability import distributions
from keras_ae.probability.likelihoods import Gaussian
from keras_ae.training.steps import Player

# How `project` searches by default.
SEARCH: dict[str, Any] = {
    "steps": 200,
    "restarts": 2,
    "candidates": 256,
    "learning_rate": 0.05,
    "seed": 0,
}


class GAN(Autoencoder):
    """Generative adversarial network: a generator against a discriminator.

        discriminator: min E_x [real(D(x))] + E_z [fake(D(G(z)))],  z ~ p(z)
        generator:     min E_z [generator(D(G(z)))]

    | adversarial_loss | real(d) | fake(d) | generator(d) |
    |---|---|---|---|
    | `"non_saturating"` | softplus(-d) | softplus(d) | softplus(-d) |
    | `"least_squares"` | (d - 1)² / 2 | d² / 2 | (d - 1)² / 2 |
    | `"hinge"` | relu(1 - d) | relu(1 + d) | -d |
    | `"wasserstein"` | -d | d | -d |

    The Wasserstein critic also pays `gradient_penalty` (||∇_x D(x)|| - 1)² between real
    and generated examples. The two players take turns within each step. There is no
    encoder: `project` searches for the code of a picture, and the verbs that need codes
    (`encode`, `reconstruct`, `interpolate`) use it with its defaults.

    Logged beside the losses: `real_score` and `fake_score`, D(real) and D(fake), which
    are probabilities for the non-saturating loss; `discriminator_accuracy`, the share
    of pairs that the discriminator ranks rightly (0.5 is a draw); `diversity`, the mean
    squared distance between samples relative to that between real examples. No loss of
    a GAN tells how good its samples are: look at them.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example; see `Autoencoder`, also for `architecture`,
            `widths` and `activation`, which are the generator's; the discriminator
            mirrors it with leaky ReLU and without batch normalisation.
        adversarial_loss: One of the losses above.
        critic_steps: Steps of the discriminator for one of the generator, >= 1: on the
            same examples, with codes drawn anew. Its learning rate schedule runs that
            much faster.
        gradient_penalty: Weight of the gradient penalty, >= 0. Defaults to 10 for
            `"wasserstein"` and 0 otherwise.
        spectral_norm: Whether the discriminator's layers are spectrally normalised.
        ema_momentum: Share of itself, in [0, 1), that a running average of the
            generator keeps at each step, at step t at most (1 + t) / (10 + t), so that
            the start is soon forgotten. `sample` and the other verbs then use the
            average. Defaults to none.
        prior: Distribution of codes, as for `VAE`. Defaults to N(0, I).
        likelihood: What turns the generator's output into examples, its mean, and what
            `project` maximises. Defaults to a Gaussian of scale 0.1 within [0, 1]; for
            other data pass `keras_ae.likelihoods.Gaussian(0.1)`, of a scale that you
            would call close.
        generator: Your own Keras model from codes `(batch, latent_dim)` to the
            likelihood's parameters `(batch, *image_shape)`.
        discriminator: Your own Keras model from examples to `(batch, 1)`, without an
            activation.
        **kwargs: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.GAN(latent_dim=64)
    model.fit(x_train, epochs=20)
    pictures = model.sample(64, seed=0)  # (64, height, width, channels)
    codes = model.project(x_test[:16])  # (16, 64)
    ```

    Reference:
        Goodfellow et al., Generative Adversarial Networks, 2014
        (https://arxiv.org/abs/1406.2661); Radford et al., DCGAN, 2016
        (https://arxiv.org/abs/1511.06434); Gulrajani et al., Improved Training of
        Wasserstein GANs, 2017 (https://arxiv.org/abs/1704.00028).
    """

    has_encoder = False
    starts_at_mean = False
    takes_value_weights = False
    term_names: tuple[str, ...] = (
        "discriminator_real",
        "discriminator_fake",
        "adversarial",
    )
    monitor_names: tuple[str, ...] = (
        "real_score",
        "fake_score",
        "discriminator_accuracy",
        "diversity",
    )
    player_names: tuple[str, ...] = ("generator", "discriminator")
    score_name: str | None = None
    # There are no codes to fit one to.
    SAMPLERS: tuple[str, ...] = ()
    settled_arguments: tuple[str, ...] = ("encoder", "decoder")

    def __init__(
        self,
        latent_dim: int = 64,
        *,
        adversarial_loss: str = "non_saturating",
        critic_steps: int = 1,
        gradient_penalty: float | None = None,
        spectral_norm: bool = False,
        ema_momentum: float | None = None,
        prior: Any = None,
        likelihood: Any = None,
        generator: keras.Model | None = None,
        discriminator: keras.Model | None = None,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "a GAN has a `generator` and a `discriminator`")
        if likelihood is None:
            likelihood = Gaussian(scale=0.1, activation="sigmoid")
        super().__init__(latent_dim, likelihood=likelihood, decoder=generator, **kwargs)
        self._loss = losses.get_loss(adversarial_loss)
        self.adversarial_loss = adversarial_loss
        if isinstance(getattr(self.likelihood, "scale", None), str):
            raise ValueError(
                "`likelihood` must have a number for its scale, which a GAN has no way "
                "to learn: for example keras_ae.likelihoods.Gaussian(0.1). Received: "
                f"{type(self.likelihood).__name__} with scale="
                f"{self.likelihood.scale!r}"
            )
        self._given["generator"] = generator is not None
        self._given["discriminator"] = discriminator is not None
        self.critic_steps = checks.check_count("critic_steps", critic_steps)
        if ema_momentum is not None and not (
            isinstance(ema_momentum, numbers.Real) and 0 <= ema_momentum < 1
        ):
            raise ValueError(
                "`ema_momentum` must be None or a number from 0 to below 1. "
                f"Received: ema_momentum={ema_momentum!r}"
            )
        self.gradient_penalty = gradient_penalty
        self.spectral_norm = checks.check_flag("spectral_norm", spectral_norm)
        self.ema_momentum = ema_momentum
        self.prior = distributions.get_prior(prior, latent_dim)
        self.discriminator = discriminator
        self.prior_sampling = PriorSampling(self.prior, self.latent_dim)
        if losses.penalty_weight(gradient_penalty, adversarial_loss):
            self.mixing = UniformNoise()
            self.term_names = (*self.term_names, "gradient_penalty")

    @property
    def generator(self) -> keras.Model:
        """The network from codes to the likelihood's parameters."""
        return self.decoder

    def default_optimizers(self):
        # The papers' own: those of Radford et al., and of Gulrajani et al.
        if self.adversarial_loss == "wasserstein":
            rates = {"learning_rate": 1e-4, "beta_1": 0.0, "beta_2": 0.9}
        else:
            rates = {"learning_rate": 2e-4, "beta_1": 0.5}
        return {name: keras.optimizers.Adam(**rates) for name in self.player_names}

    def build_networks(self, image_shape):
        if self.decoder is None:
            self.decoder = self.make_decoder(image_shape)
        self.check_decoder(image_shape, "generator")
        self.build_discriminator(image_shape)
        if self.ema_momentum is not None:
            self.averaged_generator = keras.models.clone_model(self.decoder)
            self.averaged_generator.set_weights(self.decoder.get_weights())
            self.averaged_generator.trainable = False

    def build_discriminator(self, image_shape: tuple[int, ...], code_dim: int = 0):
        """Makes the discriminator of x, or of x and a code; checks one's own."""
        if self.discriminator is None:
            self.discriminator = networks.critic(
                image_shape,
                self.architecture,
                self.widths,
                dtype=self.dtype_policy,
                spectral_norm=self.spectral_norm,
                code_dim=code_dim,
            )
        judged = [image_shape, (code_dim,)] if code_dim else image_shape
        networks.check("discriminator", self.discriminator, judged, (1,))

    def players(self):
        discriminator = Player(
            self.discriminator_terms,
            self.discriminator.trainable_variables,
            self.monitors,
            "discriminator",
        )
        generator = Player(
            self.terms, self.decoder.trainable_variables, name="generator"
        )
        return [discriminator] * self.critic_steps + [generator]

    def call(self, x, training=False):
        z = self.prior_sampling(x)  # (batch, latent_dim)
        parameters = self.decoder(z, training=training)  # (batch, *image_shape)
        return {
            "z": z,
            "parameters": parameters,
            "fake": self.likelihood.mean(parameters),
        }

    def terms(self, x, outputs, training=False):
        """Returns the generator's loss."""
        fake = losses.logits(self.discriminator, outputs["fake"], training=training)
        return {"adversarial": self._loss.generator(fake)}

    def discriminator_terms(self, x, outputs, training=False):
        """Returns the discriminator's losses, and how the contest stands."""
        return losses.critic_terms(
            self, self.discriminator, (x,), (outputs["fake"],), training
        )

    def monitors(self, x, outputs, terms):
        return {"diversity": losses.diversity(x, outputs["fake"])}

    def end_step(self):
        if self.ema_momentum is None:
            return
        step = ops.cast(self.optimizer["generator"].iterations, "float32")
        momentum = ops.minimum(self.ema_momentum, (1 + step) / (10 + step))
        pairs = zip(self.averaged_generator.weights, self.decoder.weights, strict=True)
        for average, weight in pairs:
            if "float" in keras.backend.standardize_dtype(weight.dtype):
                kept = ops.cast(momentum, weight.dtype)
                weight = (1 - kept) * weight + kept * average
            average.assign(weight)

    # Verbs

    def project(
        self,
        x,
        steps: int = SEARCH["steps"],
        restarts: int = SEARCH["restarts"],
        candidates: int = SEARCH["candidates"],
        learning_rate: float = SEARCH["learning_rate"],
        seed: int = SEARCH["seed"],
        batch_size: int = 64,
    ) -> np.ndarray:
        """Searches for the codes from which the generator makes given examples.

            argmax_z log p(x | z) + log p(z)

        from the nearest of some samples, by Adam.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            steps: Steps of the search, >= 1.
            restarts: Nearest samples to start from, >= 1; the best end counts.
            candidates: Samples to choose the nearest from, >= `restarts`.
            learning_rate: Rate of the first step, > 0; it falls to 0.
            seed: Seed of the samples, >= 0.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, latent_dim)`.

        Raises:
            ValueError: If an argument is out of range.

        Reference:
            Lipton and Tripathi, Precise Recovery of Latent Vectors from Generative
            Adversarial Networks, 2017 (https://arxiv.org/abs/1702.04782).
        """
        checks.check_count("steps", steps)
        checks.check_count("restarts", restarts)
        checks.check_count("candidates", candidates, minimum=restarts)
        checks.check_positive("learning_rate", learning_rate)
        x = self.check_data(x, "x")
        settings = {
            "candidates": candidates,
            "restarts": restarts,
            "steps": steps,
            "learning_rate": learning_rate,
            "seed": checks.check_seed(seed),
        }
        search = functools.partial(self._search, **settings)
        return self.in_batches(f"project {settings}", search, x, batch_size)

    def encode(self, x, batch_size: int = 64) -> np.ndarray:
        """Returns the codes of `x` that `project` finds with its defaults."""
        return self.project(x, batch_size=batch_size)

    def encode_batch(self, x):
        return self._search(x, **SEARCH)

    def _search(self, x, candidates, restarts, steps, learning_rate, seed):
        def objective(x, z, observed, index):
            log_prob = self.likelihood.log_prob(x, self.parameters_batch(z))
            return -log_prob - self.prior.log_prob(z)

        return latent_search.search(
            self.to_floats(x),
            self.decode_batch,
            objective,
            self.prior.sample((candidates, self.latent_dim), seed=seed),
            restarts,
            steps,
            learning_rate,
        ).z

    def parameters_batch(self, z):
        averaged = self.ema_momentum is not None
        generator = self.averaged_generator if averaged else self.decoder
        return generator(z, training=False)
