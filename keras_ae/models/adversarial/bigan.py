"""BiGAN: a generative adversarial network that learns its encoder beside itself."""

import functools

import keras
import numpy as np
from keras import ops

from keras_ae.models.adversarial import losses
from keras_ae.models.adversarial.gan import GAN
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.base.verbs import Verbs
from keras_ae.nn import networks


class BiGAN(GAN):
    """Bidirectional GAN: a discriminator of pairs (x, z) teaches an encoder as well.

        discriminator: min E_x [real(D(x, E(x)))] + E_z [fake(D(G(z), z))],  z ~ p(z)
        generator:     min E_z [generator(D(G(z), z))] + E_x [encoder(D(x, E(x)))]

    Encoder E and generator G learn jointly, as the player `generator`. When the
    discriminator can't tell the pairs apart E has become the inverse of G, though no
    pixel was ever compared. The losses are those of `GAN`; that of the encoder is the
    generator's with the parts of real and fake exchanged:

    | adversarial_loss | generator(d) | encoder(d) |
    |---|---|---|
    | `"non_saturating"` | softplus(-d) | softplus(d) |
    | `"least_squares"` | (d - 1)² / 2 | d² / 2 |
    | `"hinge"`, `"wasserstein"` | -d | d |

    The gradient penalty is taken with respect to the pair, between (x, E(x)) and
    (G(z), z). The verbs use the encoder, whose reconstructions are alike in kind rather
    than in detail; `project` still searches for the code of a picture.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example; see `GAN`, also for all other arguments.
            `architecture`, `widths` and `activation` are the encoder's too.
        encoder: Your own Keras model from x to codes `(batch, latent_dim)`.
        discriminator: Your own Keras model from a list of examples and codes to
            `(batch, 1)`, without an activation.
        **kwargs: As for `GAN`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.BiGAN(latent_dim=64)
    model.fit(x_train, epochs=50)
    codes = model.encode(x_test)  # (n, 64)
    pictures = model.sample(64, seed=0)  # (64, height, width, channels)
    ```

    Reference:
        Donahue et al., Adversarial Feature Learning, 2017
        (https://arxiv.org/abs/1605.09782); Dumoulin et al., Adversarially Learned
        Inference, 2017 (https://arxiv.org/abs/1606.00704); Donahue and Simonyan, Large
        Scale Adversarial Representation Learning, 2019
        (https://arxiv.org/abs/1907.02544), for the encoder's hinge loss.
    """

    has_encoder = True
    term_names: tuple[str, ...] = (*GAN.term_names, "encoder_adversarial")
    settled_arguments: tuple[str, ...] = ("decoder",)
    SAMPLERS: tuple[str, ...] = Autoencoder.SAMPLERS
    keeps_to_prior = True

    def __init__(
        self,
        latent_dim: int = 64,
        *,
        encoder: keras.Model | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, encoder=encoder, **kwargs)

    def build_networks(self, image_shape):
        if self.encoder is None:
            self.encoder = networks.encoder(**self.network_options(image_shape))
        networks.check("encoder", self.encoder, image_shape, (self.latent_dim,))
        super().build_networks(image_shape)

    def build_discriminator(self, image_shape, code_dim=0):
        super().build_discriminator(image_shape, self.latent_dim)

    def players(self):
        *discriminator, generator = super().players()
        learned = (self.encoder, self.decoder)
        variables = [v for network in learned for v in network.trainable_variables]
        return [*discriminator, generator._replace(variables=variables)]

    def call(self, x, training=False):
        code = self.encoder(x, training=training)  # (batch, latent_dim)
        return {**super().call(x, training), "code": ops.cast(code, "float32")}

    def terms(self, x, outputs, training=False):
        """Returns the losses of generator and encoder."""
        judge = functools.partial(losses.logits, self.discriminator, training=training)
        fake = judge(outputs["fake"], outputs["z"])
        # What counts as real for the discriminator is 1 for least squares, of 0 and 1.
        mirror = 1.0 if self.adversarial_loss == "least_squares" else 0.0
        real = mirror - judge(x, outputs["code"])
        return {
            "adversarial": self._loss.generator(fake),
            "encoder_adversarial": self._loss.generator(real),
        }

    def discriminator_terms(self, x, outputs, training=False):
        """Returns the discriminator's losses, and how the contest stands."""
        real = (x, ops.stop_gradient(outputs["code"]))
        fake = (outputs["fake"], outputs["z"])
        return losses.critic_terms(self, self.discriminator, real, fake, training)

    # Verbs

    def encode(self, x, batch_size: int = 256) -> np.ndarray:
        """Returns the encoder's codes of `x`.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, latent_dim)`.
        """
        return Verbs.encode(self, x, batch_size)

    def encode_batch(self, x):
        return Verbs.encode_batch(self, x)
