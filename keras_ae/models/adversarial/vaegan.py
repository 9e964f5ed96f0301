"""VAE-GAN: a variational autoencoder whose reconstructions a discriminator judges."""

import numbers
from typing import Any

import keras
from keras import ops

from keras_ae import checks
from keras_ae.models.adversarial import losses
from keras_ae.models.adversarial.judge import (
    Judged,
    feature_distance,
    ratio,
    with_features,
)
from keras_ae.models.variational.vae import VAE
from keras_ae.nn import networks
from keras_ae.nn.layers import PriorSampling
from keras_ae.probability.likelihoods import Gaussian
from keras_ae.training.steps import Player


class VAEGAN(Judged, VAE):
    """VAE-GAN: a VAE that reconstructs what a discriminator looks at, not pixels.

        encoder:       min ½ ||f(x) - f(x̂)||² + β KL(q(z | x) || p(z))
        decoder:       min γ ½ ||f(x) - f(x̂)||² + generator(D(x̂)) + generator(D(x̃))
        discriminator: min real(D(x)) + ½ fake(D(x̂)) + ½ fake(D(x̃))

    where x̂ is decoded from z ~ q(z | x), x̃ from z ~ p(z), f(x) are the features in a
    hidden layer of the discriminator D, and `generator`, `real` and `fake` are those of
    `GAN`. Features are divided by the root mean square of f(x) over the batch, so that
    the first term is -log N(f(x); f(x̂), I) but for a constant, in nats and summed over
    features, whatever scale the discriminator gives them. With a `pixel_weight` w,
    encoder and decoder add -w log p(x | z), the decoder's times γ. The three players
    take turns within each step, and each learns from its own terms alone: the
    discriminator never learns to make reconstructing easy. Its two kinds of fakes count
    half each, and not whole as in the paper, so that fakes weigh as much as examples
    and a draw is a draw.

    The model is p(z) p(x | z), as of a VAE, with the pixels' `likelihood`. So `elbo`,
    logged beside the terms, and `log_likelihood` are what they say and can be compared
    with a VAE's; without a `pixel_weight` nothing maximises them, and they will be
    lower. `reconstruction` is measured with features that change as the discriminator
    learns: its values of two epochs can't be compared, nor can the loss. No logged
    figure says how good the pictures are, so that the last weights count as the best.

    Also logged are `real_score`, `fake_score`, `discriminator_accuracy` and `diversity`
    as in `GAN`, of samples from the prior, and an adaptive `gamma`.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example; see `Autoencoder`, also for `architecture`,
            `widths` and `activation`. The discriminator mirrors the encoder with leaky
            ReLU and without batch normalisation.
        likelihood: Distribution of the data given a code. Its mean is what the
            discriminator is shown. Defaults to a Gaussian of the optimal scale within
            [0, 1]; for other data pass `"gaussian"`.
        prior: As for `VAE`, also `beta` and `free_bits`.
        gamma: γ, a number >= 0. Defaults to an adaptive one: the ratio of the norms of
            the gradients of the adversarial and of the feature loss with respect to the
            reconstructed pictures, so that both pull at them alike; a running average.
        pixel_weight: Weight of -log p(x | z), >= 0. Without it the likelihood may have
            no learned scale, which nothing would learn.
        adversarial_loss: One of the losses of `GAN`.
        feature_layer: Name of the discriminator's layer to take the features from.
            Defaults to the end of the middle stage of convolutions (of four the third,
            as in the paper), or to the middle hidden layer where there are none.
        discriminator_start: Number of epochs, >= 0, before the discriminator learns and
            adversarial terms count. Until then the features are random ones, which
            keep distances well: encoder and decoder warm up on the loss that they go
            on with. Epochs are numbered by `fit`: go on with `initial_epoch`.
        equilibrium: None, or a pair (loss, margin), such as (0.68, 0.4), that keeps the
            contest even. After a step in which the discriminator's mean loss on real
            or on fake examples was below loss - margin, it sits out the next; after one
            in which either was above loss + margin, the decoder does. When both would,
            neither does. The loss of a draw is log 2, 0.69, for `"non_saturating"`.
        spectral_norm: Whether the discriminator's layers are spectrally normalised.
        encoder: Your own encoder, as for `VAE`.
        decoder: Your own decoder, as for `VAE`.
        discriminator: Your own Keras model from examples to `(batch, 1)`, without an
            activation, functional or `Sequential`.
        **kwargs: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument is out of range, a network of the wrong shape, or the
            discriminator has no such layer.

    Example:

    ```python
    model = keras_ae.VAEGAN(latent_dim=128)
    model.fit(x_train, validation_data=x_test, epochs=30)
    pictures = model.sample(64, seed=0)  # (64, height, width, channels)
    sharp = model.reconstruct(x_test)  # (n, height, width, channels)
    ```

    Reference:
        Larsen et al., Autoencoding beyond Pixels Using a Learned Similarity Metric,
        2016 (https://arxiv.org/abs/1512.09300); for the adaptive weight, Esser et al.,
        Taming Transformers for High-Resolution Image Synthesis, 2021
        (https://arxiv.org/abs/2012.09841).
    """

    takes_value_weights = False
    term_names: tuple[str, ...] = (
        "reconstruction",
        "kl",
        "decoder_reconstruction",
        "adversarial_reconstruction",
        "adversarial_sample",
        "discriminator_real",
        "discriminator_reconstruction",
        "discriminator_sample",
    )
    monitor_names: tuple[str, ...] = (
        *VAE.monitor_names,
        "real_score",
        "fake_score",
        "discriminator_accuracy",
        "diversity",
    )
    player_names: tuple[str, ...] = ("encoder", "decoder", "discriminator")
    score_name: str | None = None

    def __init__(
        self,
        latent_dim: int = 128,
        *,
        likelihood: Any = None,
        gamma: float | None = None,
        pixel_weight: float = 0.0,
        adversarial_loss: str = "non_saturating",
        feature_layer: str | None = None,
        discriminator_start: int = 0,
        equilibrium: tuple[float, float] | None = None,
        spectral_norm: bool = False,
        discriminator: keras.Model | None = None,
        **kwargs,
    ):
        if likelihood is None:
            likelihood = Gaussian(activation="sigmoid")
        super().__init__(latent_dim, likelihood=likelihood, **kwargs)
        self._loss = losses.get_loss(adversarial_loss)
        self.adversarial_loss = adversarial_loss
        self._given["discriminator"] = discriminator is not None
        if gamma is not None:
            checks.check_weight("gamma", gamma)
        checks.check_pixel_weight(pixel_weight, self.likelihood)
        self.gamma = gamma
        self.pixel_weight = pixel_weight
        self.feature_layer = feature_layer
        self.discriminator_start = checks.check_count(
            "discriminator_start", discriminator_start, minimum=0
        )
        self.equilibrium = _check_equilibrium(equilibrium)
        self.spectral_norm = checks.check_flag("spectral_norm", spectral_norm)
        self.discriminator = discriminator
        self.prior_sampling = PriorSampling(self.prior, self.latent_dim)
        if pixel_weight:
            self.term_names = (*self.term_names, "pixels", "decoder_pixels")
        if gamma is None:
            self.monitor_names = (*self.monitor_names, "gamma")

    def default_optimizers(self):
        # A slower discriminator is fooled by blurred pictures already: its accuracy on
        # faces stays at 0.5, and it teaches the decoder nothing.
        adam = keras.optimizers.Adam
        return {
            "encoder": adam(1e-3),
            "decoder": adam(5e-4, beta_1=0.5),
            "discriminator": adam(1e-3, beta_1=0.5),
        }

    # Building

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        if self.discriminator is None:
            self.discriminator = networks.critic(
                image_shape,
                self.architecture,
                self.widths,
                dtype=self.dtype_policy,
                spectral_norm=self.spectral_norm,
            )
        networks.check("discriminator", self.discriminator, image_shape, (1,))
        judge = with_features(self.discriminator, self.feature_layer)
        # Keras would save its layers, which are the discriminator's, a second time.
        object.__setattr__(self, "_judge", judge)
        self.epoch = self.add_state("epoch", (), "zeros")
        if self.gamma is None:
            self.gradient_norms = self.add_state("gradient_norms", (2,), "zeros")
        if self.equilibrium is not None:
            self.gates = self.add_state("gates", (2,), "ones")

    # Training

    def players(self):
        waits, keeps_even = bool(self.discriminator_start), self.equilibrium is not None
        decoder_variables = [
            *self.decoder.trainable_variables,
            *self.likelihood.trainable_variables,
        ]
        return [
            Player(
                self.terms,
                self.encoder.trainable_variables,
                self.monitors,
                name="encoder",
            ),
            Player(
                self.decoder_terms,
                decoder_variables,
                name="decoder",
                plays=self._decoder_plays if keeps_even else None,
            ),
            Player(
                self.discriminator_terms,
                self.discriminator.trainable_variables,
                name="discriminator",
                plays=self._discriminator_plays if waits or keeps_even else None,
            ),
        ]

    def _decoder_plays(self):
        gate = ops.convert_to_tensor(self.gates)[0] > 0.5
        return ops.logical_or(gate, ops.logical_not(self.started()))

    def _discriminator_plays(self):
        started = self.started()
        if self.equilibrium is None:
            return started
        return ops.logical_and(ops.convert_to_tensor(self.gates)[1] > 0.5, started)

    def terms(self, x, outputs, training=False):
        """Returns the encoder's losses, and the ELBO."""
        terms = super().terms(x, outputs, training)
        if self.pixel_weight:
            terms["pixels"] = self.pixel_weight * terms["reconstruction"]
        features, _ = self._look(self.likelihood.mean(outputs["parameters"]), training)
        distance = feature_distance(self._real_features(x, training), features)
        return {**terms, "reconstruction": distance}

    def decoder_terms(self, x, outputs, training=False):
        """Returns the decoder's losses, and an adaptive weight."""
        reconstructed = self.likelihood.mean(outputs["parameters"])
        sampled = self._sample(x, training)
        real_features = self._real_features(x, training)
        if training and self.gamma is None:
            self._balance(reconstructed, real_features)
        features, logits = self._look(reconstructed, training)
        _, sample_logits = self._look(sampled, training)
        gamma = self._current_gamma()
        started = ops.cast(self.started(), "float32")
        terms = {
            "decoder_reconstruction": gamma * feature_distance(real_features, features),
            "adversarial_reconstruction": started * self._loss.generator(logits),
            "adversarial_sample": started * self._loss.generator(sample_logits),
        }
        if self.pixel_weight:
            log_prob = self.likelihood.log_prob(x, outputs["parameters"], training)
            terms["decoder_pixels"] = -gamma * self.pixel_weight * log_prob
        if self.gamma is None:
            terms["gamma"] = ops.broadcast_to(gamma, (ops.shape(x)[0],))
        return terms

    def discriminator_terms(self, x, outputs, training=False):
        """Returns the discriminator's losses, and how the contest stands."""
        reconstructed = self.likelihood.mean(outputs["parameters"])
        sampled = self._sample(x, training)
        real, reconstruction, sample = (
            self._look(ops.stop_gradient(shown), training)[1]
            for shown in (x, reconstructed, sampled)
        )
        terms = {
            "discriminator_real": self._loss.real(real),
            "discriminator_reconstruction": 0.5 * self._loss.fake(reconstruction),
            "discriminator_sample": 0.5 * self._loss.fake(sample),
        }
        if training and self.equilibrium is not None:
            self._set_gates(*terms.values())
        return {
            **terms,
            **losses.contest(self._loss, real, sample),
            "diversity": losses.diversity(x, sampled),
        }

    def _sample(self, x, training):
        """Pictures from the prior, as many as there are examples."""
        parameters = self.decoder(self.prior_sampling(x), training=training)
        return self.likelihood.mean(parameters)

    def _look(self, x, training):
        """Features `(batch, features)` and logits `(batch,)` of pictures."""
        features, logits = self._judge(x, training=training)
        features = ops.cast(ops.reshape(features, (ops.shape(x)[0], -1)), "float32")
        return features, ops.cast(logits[:, 0], "float32")

    def _real_features(self, x, training):
        return ops.stop_gradient(self._look(x, training)[0])

    def _current_gamma(self):
        if self.gamma is not None:
            return self.gamma
        adversarial, reconstruction = ops.unstack(
            ops.convert_to_tensor(self.gradient_norms)
        )
        return ratio(adversarial, reconstruction)

    def _balance(self, reconstructed, real_features):
        """Updates the norms of both losses' gradients at the reconstructed pictures."""

        def adversarial_loss(x):
            return self._loss.generator(self._look(x, True)[1])

        def distance(x):
            return feature_distance(real_features, self._look(x, True)[0])

        # What an untrained discriminator says is no loss yet.
        self.follow_norms(
            self.gradient_norms,
            (adversarial_loss, distance),
            reconstructed,
            self.started(),
        )

    def _set_gates(self, real, reconstruction, sample):
        """Decides who plays the next step, from the discriminator's losses."""
        loss, margin = self.equilibrium
        scores = ops.stack([ops.mean(real), ops.mean(reconstruction + sample)])
        decoder = ops.logical_not(ops.any(scores > loss + margin))
        discriminator = ops.logical_not(ops.any(scores < loss - margin))
        gates = ops.cast(ops.stack([decoder, discriminator]), "float32")
        self.gates.assign(ops.where(ops.any(gates > 0.5), gates, ops.ones(2)))


def _check_equilibrium(equilibrium):
    """Returns the pair (loss, margin) as a tuple, or None."""
    if equilibrium is None:
        return None
    pair = tuple(equilibrium) if isinstance(equilibrium, tuple | list) else ()
    if (
        len(pair) != 2
        or not all(isinstance(value, numbers.Real) for value in pair)
        or not 0 < pair[1] < float("inf")
        or not abs(pair[0]) < float("inf")
    ):
        raise ValueError(
            "`equilibrium` must be None or a pair (loss, margin) with a margin > 0. "
            f"Received: equilibrium={equilibrium!r}"
        )
    return pair
