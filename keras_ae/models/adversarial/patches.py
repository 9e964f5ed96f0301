"""Autoencoders whose reconstructions are judged patch by patch."""

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
from keras_ae.models.base.grids import GridCodes
from keras_ae.nn import networks
from keras_ae.training.steps import Player


class JudgedByPatches(Judged, GridCodes):
    """What `KLAutoencoder` and `VQGAN` share: a perceptual and an adversarial loss.

    Terms added to those of the model that a subclass also is:

        perceptual  = w_f λ_f ½ ||f(x) - f(x̂)||² / mean(f(x)²)
        adversarial = w_a λ_a s generator(D(x̂))

    where λ is the ratio of the norms of the gradients of -log p(x | z) and of the term
    with respect to the decoder's output, a running average, so that with a weight w of
    1 the term pulls at the picture as hard as the likelihood does, and s rises from 0
    to 1.

    Args:
        latent_dim: Numbers in the code of one place.
        perceptual: What gives the features f: `"discriminator"`, whose features they
            are, as in a VAE-GAN; or your own Keras model from pictures in [0, 1]
            `(batch, *image_shape)` to features, one tensor or several, which is frozen.
        perceptual_weight: w_f, >= 0.
        adversarial_loss: One of the losses of `GAN`.
        adversarial_weight: w_a, >= 0.
        discriminator_start: Number of epochs, >= 0, before the discriminator learns and
            is heard. Epochs are numbered by `fit`: go on with `initial_epoch`.
        ramp_steps: Number of the discriminator's steps, >= 1, in which s rises.
        spectral_norm: Whether the discriminator's layers are spectrally normalised.
        attention: Whether the places of the grid look at each other, in the encoder and
            in the decoder; convolutions only.
        remat: Whether residual blocks compute again what they would keep for the way
            back: less memory for more time; residual networks only.
        discriminator: Your own Keras model from examples to logits, `(batch, ..., 1)`,
            functional or `Sequential`.
        **kwargs: As for `Autoencoder`, and `positions`.
    """

    takes_value_weights = False
    player_names: tuple[str, ...] = ("autoencoder", "discriminator")
    score_name: str | None = None
    spatial_architecture = "residual"

    def __init__(
        self,
        latent_dim: int = 4,
        *,
        perceptual: Any = "discriminator",
        perceptual_weight: float = 1.0,
        adversarial_loss: str = "hinge",
        adversarial_weight: float = 0.5,
        discriminator_start: int = 5,
        ramp_steps: int = 500,
        spectral_norm: bool = False,
        attention: bool = False,
        remat: bool = False,
        discriminator: keras.Model | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        if perceptual != "discriminator" and not isinstance(perceptual, keras.Layer):
            raise ValueError(
                "`perceptual` must be 'discriminator' or a Keras model from pictures "
                f"to features. Received: perceptual={perceptual!r}"
            )
        for name, value in (
            ("perceptual_weight", perceptual_weight),
            ("adversarial_weight", adversarial_weight),
        ):
            checks.check_weight(name, value)
        self._loss = losses.get_loss(adversarial_loss)
        self.adversarial_loss = adversarial_loss
        self.perceptual = perceptual
        if isinstance(perceptual, keras.Layer):
            perceptual.trainable = False
        self.perceptual_weight = perceptual_weight
        self.adversarial_weight = adversarial_weight
        self.discriminator_start = checks.check_count(
            "discriminator_start", discriminator_start, minimum=0
        )
        self.ramp_steps = checks.check_count("ramp_steps", ramp_steps)
        self.spectral_norm = checks.check_flag("spectral_norm", spectral_norm)
        self.attention = checks.check_flag("attention", attention)
        self.remat = checks.check_flag("remat", remat)
        self._given["discriminator"] = discriminator is not None
        self.discriminator = discriminator
        self.term_names = (
            *self.term_names,
            "perceptual",
            "adversarial",
            "discriminator_real",
            "discriminator_fake",
        )
        self.monitor_names = (
            *self.monitor_names,
            "perceptual_ratio",
            "adversarial_ratio",
            "real_score",
            "fake_score",
            "discriminator_accuracy",
        )

    def default_optimizers(self):
        return {
            "autoencoder": keras.optimizers.Adam(1e-3),
            "discriminator": keras.optimizers.Adam(5e-4, beta_1=0.5),
        }

    # Building

    def resolved(self, image_shape):
        architecture, widths = super().resolved(image_shape)
        if self.widths is None and architecture in networks.CONVOLUTIONAL:
            # A grid of about 8 places a side.
            sides = networks.with_channels(image_shape, architecture)[:-1]
            stages = round(min(sides) / 8).bit_length() - 1
            widths = (32, 64, 128, 256)[: max(1, min(stages, 4))]
        return architecture, widths

    def network_options(self, image_shape):
        options = super().network_options(image_shape)
        if not self.is_spatial and self.attention:
            raise ValueError(
                "`attention` needs convolutions. Received: attention=True with "
                f"architecture='{options['architecture']}'"
            )
        if self.remat and options["architecture"] != "residual":
            raise ValueError(
                "`remat` needs residual networks. Received: remat=True with "
                f"architecture='{options['architecture']}'"
            )
        wanted = {"attention": self.attention, "remat": self.remat}
        return {**options, **{name: True for name in wanted if wanted[name]}}

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        if self.discriminator is None:
            architecture, _ = self.resolved(image_shape)
            self.discriminator = networks.patch_critic(
                image_shape,
                "conv" if architecture == "residual" else architecture,
                self.widths,
                dtype=self.dtype_policy,
                spectral_norm=self.spectral_norm,
            )
        judge = with_features(self.discriminator, None)
        _check_logits(self.discriminator, image_shape)
        # Keras would save its layers, which are the discriminator's, a second time.
        object.__setattr__(self, "_judge", judge)
        self.epoch = self.add_state("epoch", (), "zeros")
        self.gradient_norms = self.add_state("gradient_norms", (3,), "zeros")
        self.discriminator_steps = self.add_state("discriminator_steps", (), "zeros")

    def config_for_size(self, image_shape):
        # Who judges is not asked, and may be a large network.
        judges = {"perceptual": "discriminator", "discriminator": None}
        return {**super().config_for_size(image_shape), **judges}

    # Training

    def players(self):
        judges = [*self.discriminator.variables]
        if isinstance(self.perceptual, keras.Layer):
            # `model.trainable = True` reaches it, too, and it is frozen all the same.
            judges += self.perceptual.variables
        of_judges = {id(variable) for variable in judges}
        return [
            Player(
                self.terms,
                [v for v in self.trainable_variables if id(v) not in of_judges],
                self.monitors,
                name="autoencoder",
            ),
            Player(
                self.discriminator_terms,
                self.discriminator.trainable_variables,
                name="discriminator",
                plays=self.started if self.discriminator_start else None,
            ),
        ]

    def terms(self, x, outputs, training=False):
        """Returns the autoencoder's losses."""
        parameters = outputs["parameters"]
        real = [ops.stop_gradient(features) for features in self._look(x, training)[0]]

        def distance(features):
            pairs = zip(real, features, strict=True)
            return sum(feature_distance(*pair) for pair in pairs) / len(real)

        def look(parameters):
            return self._look(self.likelihood.mean(parameters), training)

        def verdict(logits):
            return ops.mean(self._loss.generator(logits), axis=1)

        if training:
            pulls = (
                lambda shown: -self.likelihood.log_prob(x, shown, training),
                lambda shown: distance(look(shown)[0]),
                lambda shown: verdict(look(shown)[1]),
            )
            self.follow_norms(self.gradient_norms, pulls, parameters, True)
        features, logits = look(parameters)
        perceptual_ratio, adversarial_ratio = self._ratios()
        loudness = ops.cast(self.started(), "float32") * ops.minimum(
            1.0, ops.convert_to_tensor(self.discriminator_steps) / self.ramp_steps
        )
        adversarial_weight = self.adversarial_weight * adversarial_ratio * loudness
        return {
            **super().terms(x, outputs, training),
            "perceptual": self.perceptual_weight
            * perceptual_ratio
            * distance(features),
            "adversarial": adversarial_weight * verdict(logits),
        }

    def monitors(self, x, outputs, terms):
        names = "perceptual_ratio", "adversarial_ratio"
        ratios = {
            name: ops.broadcast_to(value, (ops.shape(x)[0],))
            for name, value in zip(names, self._ratios(), strict=True)
        }
        return {**super().monitors(x, outputs, terms), **ratios}

    def discriminator_terms(self, x, outputs, training=False):
        """Returns the discriminator's losses and the contest, means over patches."""
        restored = self.likelihood.mean(outputs["parameters"])
        real, fake = (
            self._look(ops.stop_gradient(shown), training)[1] for shown in (x, restored)
        )
        if training:
            steps = ops.convert_to_tensor(self.discriminator_steps)
            self.discriminator_steps.assign(steps + ops.cast(self.started(), "float32"))
        of_patches = {
            "discriminator_real": self._loss.real(real),
            "discriminator_fake": self._loss.fake(fake),
            **losses.contest(self._loss, real, fake),
        }
        return {name: ops.mean(value, axis=1) for name, value in of_patches.items()}

    def _ratios(self):
        wanted, *received = ops.unstack(ops.convert_to_tensor(self.gradient_norms))
        return [ratio(wanted, norm) for norm in received]

    def _look(self, x, training):
        """Features of pictures, a list of tensors, and logits `(batch, patches)`."""
        features, logits = self._judge(x, training=training)
        if self.perceptual != "discriminator":
            features = self.perceptual(x, training=False)
        logits = ops.cast(ops.reshape(logits, (ops.shape(x)[0], -1)), "float32")
        return keras.tree.flatten(features), logits


def _check_logits(discriminator, image_shape):
    shape = tuple(discriminator(keras.KerasTensor((None, *image_shape))).shape)
    if len(shape) < 2 or shape[-1] != 1 or None in shape[1:]:
        raise ValueError(
            "`discriminator` must be a Keras model that maps (batch, "
            f"{str(image_shape)[1:]} to logits (batch, ..., 1). Received one that "
            f"gives {shape}"
        )
