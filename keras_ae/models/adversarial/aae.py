"""Adversarial autoencoders: codes that a discriminator takes for draws of a prior."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.adversarial import losses
from keras_ae.models.base.labels import UNLABELLED, TakesLabels
from keras_ae.models.deterministic.autoencoder import AE
from keras_ae.nn import networks
from keras_ae.nn.layers import PriorSampling, UniformNoise
from keras_ae.probability import distributions, divergences
from keras_ae.training.steps import Player


class AAE(TakesLabels, AE):
    """Adversarial autoencoder: codes that a discriminator can't tell from a prior.

        autoencoder:   min -log p(x | z),  z = encoder(x)
        discriminator: min E_prior [real(D(z'))] + E_x [fake(D(z))],  z' ~ p(z)
        encoder:       min E_x [generator(D(z))]

    The three take turns on each batch; `adversarial_loss` says what real, fake and
    generator are, as for `GAN`. The prior is any distribution that can be drawn from.

    With `num_classes` the encoder also gives the probabilities y of classes, the
    decoder takes both z and y, a second discriminator compares y with classes drawn
    evenly, one-hot, and a fourth player learns from what labels there are:

        code = [z, y],  [z, logits] = encoder(x),  y = softmax(logits)
        classifier:    min E_labelled [-log y_label]

    `fit(x, y)` then takes integer labels, -1 for an example without one. A code has
    `latent_dim + num_classes` numbers; z holds what the class does not tell, the style.

    Logged beside the losses: `real_score` and `fake_score`, D(z') and D(z);
    `discriminator_accuracy`, the share of pairs that the discriminator ranks rightly
    (0.5 is a draw); `prior_mmd`, the distance of the codes to the prior, 0 in
    expectation where they follow it (`divergences.mmd`); `mse`. With classes also
    `label_discriminator_accuracy`, and `accuracy` among labelled examples, NaN where
    there are none. The sum of the players' losses tells nothing, and the best
    reconstructions may be those of an epoch whose codes had left the prior: training
    keeps the last weights.

    Args:
        latent_dim: Numbers in z. With 32 grey faces, digits, moons and a table were
            restored better than with the 8 of the paper, and their samples were nearer
            to held-back ones.
        image_shape: Shape of one example; see `Autoencoder`, also for `architecture`,
            `widths` and `activation`. The discriminators are dense, of the encoder's
            widths where it is dense, and of 512 and 256 units elsewhere.
        prior: Distribution of z: None for N(0, I), or as for `VAE`.
        adversarial_loss: `"non_saturating"`, `"least_squares"`, `"hinge"` or
            `"wasserstein"`.
        gradient_penalty: Weight of the penalty on the discriminators' gradients, >= 0.
            Defaults to 10 for `"wasserstein"` and 0 otherwise.
        num_classes: Number of classes, >= 2. Defaults to none.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        encoder: Your own Keras model from x to codes `(batch, latent_dim)`; with
            classes to `(batch, latent_dim + num_classes)`, of which the last are
            logits.
        decoder: Your own Keras model from codes of as many numbers to the likelihood's
            parameters.
        discriminator: Your own Keras model from z `(batch, latent_dim)` to
            `(batch, 1)`, without an activation.
        **kwargs: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.AAE(latent_dim=10, num_classes=10)
    model.fit(x_train, y_train, epochs=50)  # y_train: 0-9, or -1 for no label
    probabilities = model.classify(x_test)  # (n, 10)
    sevens = model.sample(8, seed=0, labels=7)  # (8, height, width, channels)
    ```

    Reference:
        Makhzani et al., Adversarial Autoencoders, 2015
        (https://arxiv.org/abs/1511.05644).
    """

    term_names: tuple[str, ...] = (
        "reconstruction",
        "discriminator_real",
        "discriminator_fake",
        "adversarial",
    )
    monitor_names: tuple[str, ...] = (
        "mse",
        "real_score",
        "fake_score",
        "discriminator_accuracy",
        "prior_mmd",
    )
    player_names: tuple[str, ...] = ("autoencoder", "discriminator", "encoder")
    score_name: str | None = None
    # Of the distance to the prior.
    kernel = "inverse_multiquadratic"

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        prior: Any = None,
        adversarial_loss: str = "non_saturating",
        gradient_penalty: float | None = None,
        num_classes: int | None = None,
        discriminator: keras.Model | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        self._loss = losses.get_loss(adversarial_loss)
        self.adversarial_loss = adversarial_loss
        self.gradient_penalty = gradient_penalty
        has_penalty = losses.penalty_weight(gradient_penalty, adversarial_loss)
        if has_penalty:
            self.term_names = (*self.term_names, "gradient_penalty")
        self.num_classes = num_classes
        if num_classes is not None:
            checks.check_count("num_classes", num_classes, minimum=2)
            contest = [name for name in self.term_names if name != "reconstruction"]
            self.term_names = (
                *self.term_names,
                *(f"label_{name}" for name in contest),
                "classification",
            )
            self.monitor_names = (
                *self.monitor_names,
                "label_discriminator_accuracy",
                "accuracy",
            )
            self.partly_known = ("accuracy",)
            self.player_names = (*self.player_names, "classifier")
        self._given["discriminator"] = discriminator is not None
        self.prior = distributions.get_prior(prior, latent_dim)
        self.discriminator = discriminator
        self.prior_sampling = PriorSampling(self.prior, self.latent_dim)
        self._prior_scale = distributions.scale(self.prior, self.latent_dim)
        if num_classes is not None:
            self.label_sampling = UniformNoise()
        if has_penalty:
            self.mixing = UniformNoise()

    def default_optimizers(self):
        contest = {"learning_rate": 5e-4, "beta_1": 0.5}
        rates = {"discriminator": contest, "encoder": contest}
        return {
            name: keras.optimizers.Adam(**rates.get(name, {"learning_rate": 1e-3}))
            for name in self.player_names
        }

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        architecture, widths = networks.resolve(
            image_shape, self.architecture, self.widths
        )
        options = {
            "architecture": "dense",
            "widths": widths if architecture == "dense" else None,
            "dtype": self.dtype_policy,
        }
        code_shape = (self.latent_dim,)
        if "discriminator" in self.player_names:
            if self.discriminator is None:
                self.discriminator = networks.critic(code_shape, **options)
            networks.check("discriminator", self.discriminator, code_shape, (1,))
        if self.num_classes is not None:
            self.label_discriminator = networks.critic((self.num_classes,), **options)

    # The mathematics

    def players(self):
        encoder = self.encoder.trainable_variables
        discriminators = [*self.discriminator.trainable_variables]
        if self.num_classes is not None:
            discriminators += self.label_discriminator.trainable_variables
        # They have no need of the decoder.
        of_codes = functools.partial(Player, call=self.codes)
        players = [
            Player(self.terms, self._restoring, self.monitors, "autoencoder"),
            of_codes(self.discriminator_terms, discriminators, name="discriminator"),
            of_codes(self.adversarial_terms, encoder, name="encoder"),
        ]
        if self.num_classes is not None:
            players.append(
                of_codes(
                    self.classification_terms, encoder, self.accuracy, "classifier"
                )
            )
        return players

    @property
    def _restoring(self):
        """What learns to restore x: encoder, decoder and likelihood."""
        parts = (self.encoder, self.decoder, self.likelihood)
        return [variable for part in parts for variable in part.trainable_variables]

    def call(self, x, training=False, labels=None):
        outputs = self.codes(x, training, labels)
        parameters = self.decoder(outputs["code"], training=training)
        return {**outputs, "parameters": parameters}

    def codes(self, x, training=False, labels=None) -> dict[str, Any]:
        """Returns what `call` returns, but for the likelihood's parameters."""
        code = super().code(x, training)  # (batch, code_dim)
        if self.num_classes is None:
            return {"z": code, "code": code}
        z, logits = code[:, : self.latent_dim], code[:, self.latent_dim :]
        y = ops.softmax(logits)  # (batch, num_classes)
        if labels is None:
            labels = ops.full((ops.shape(x)[0],), UNLABELLED, dtype="int32")
        return {
            "z": z,
            "y": y,
            "code": ops.concatenate([z, y], axis=-1),
            "logits": logits,
            "labels": labels,
        }

    def code(self, x, training=False):
        """Returns the codes of a batch, `(batch, code_dim)`: z, or z and y."""
        return self.codes(x, training)["code"]

    def discriminator_terms(self, x, outputs, training=False):
        """Returns the discriminators' losses, and how the contest stands.

        Draws of the prior are the real ones.
        """
        prior = self.prior_sampling(x)  # (batch, latent_dim)
        terms = losses.critic_terms(
            self, self.discriminator, (prior,), (outputs["z"],), training
        )
        terms["prior_mmd"] = self._mmd(outputs["z"], prior)
        if self.num_classes is not None:
            drawn = ops.floor(self.num_classes * self.label_sampling(x))
            one_hot = ops.one_hot(ops.cast(drawn, "int32"), self.num_classes)
            of_labels = losses.critic_terms(
                self,
                self.label_discriminator,
                (ops.cast(one_hot, "float32"),),
                (outputs["y"],),
                training,
            )
            terms |= {
                f"label_{name}": value
                for name, value in of_labels.items()
                if name not in ("real_score", "fake_score")
            }
        return terms

    def adversarial_terms(self, x, outputs, training=False):
        """Returns what the encoder minimises to fool the discriminators."""

        def fooling(discriminator, fake):
            logits = losses.logits(discriminator, fake, training=training)
            return self._loss.generator(logits)

        terms = {"adversarial": fooling(self.discriminator, outputs["z"])}
        if self.num_classes is not None:
            terms["label_adversarial"] = fooling(self.label_discriminator, outputs["y"])
        return terms

    def classification_terms(self, x, outputs, training=False):
        """Returns the cross-entropy: its mean is that over labelled examples."""
        labels = outputs["labels"]
        one_hot = ops.one_hot(ops.maximum(labels, 0), self.num_classes)
        log_probabilities = ops.log_softmax(ops.cast(outputs["logits"], "float32"))
        cross_entropy = -ops.sum(one_hot * log_probabilities, axis=-1)  # (batch,)
        labelled = ops.cast(labels >= 0, "float32")
        share = ops.maximum(ops.mean(labelled), 1e-12)
        loss = self._nan_unless_valid(labels, cross_entropy * labelled / share)
        return {"classification": loss}

    def _mmd(self, z, prior):
        """Returns the distance of codes to as many draws of the prior, `(batch,)`."""
        distance = divergences.mmd(z, prior, self.kernel, scale=self._prior_scale)
        return ops.broadcast_to(distance, (ops.shape(z)[0],))

    def accuracy(self, x, outputs, terms) -> dict[str, Any]:
        """Returns 1 or 0 for examples told rightly or not, NaN for unlabelled ones."""
        labels = outputs["labels"]
        told = ops.cast(ops.argmax(outputs["logits"], axis=-1), "int32")
        right = ops.cast(ops.equal(told, labels), "float32")
        return {"accuracy": ops.where(labels >= 0, right, float("nan"))}

    # Verbs

    def classify(self, x, batch_size: int = 256) -> np.ndarray:
        """Returns the probabilities of the classes.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, num_classes)`, in [0, 1]; rows sum to 1.

        Raises:
            ValueError: If the model has no classes.
        """
        if self.num_classes is None:
            raise ValueError(
                "`classify` needs a model with classes. Received: num_classes=None; "
                "pass `num_classes` to the constructor, and labels to `fit`."
            )
        return self.encode(x, batch_size)[:, self.latent_dim :]
