"""FactorVAE: a variational autoencoder whose latent dimensions are independent."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_ae import checks
from keras_ae.models.adversarial import losses
from keras_ae.models.variational.vae import VAE
from keras_ae.nn import networks
from keras_ae.nn.layers import Seeded
from keras_ae.training.steps import Player


@keras.saving.register_keras_serializable(package="keras_ae")
class PermutedDimensions(Seeded):
    """Shuffles each latent dimension over the batch, independently of the others.

    Codes `(batch, latent_dim)` drawn from q(z) become codes drawn from the product of
    its marginals, Π_j q(z_j).

    Args:
        seed: Integer seed of the permutations.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(seed, **{"dtype": "float32", **kwargs})

    def call(self, z):
        noise = keras.random.uniform(
            ops.shape(z), dtype="float32", seed=self.seed_generator
        )
        return ops.take_along_axis(z, ops.argsort(noise, axis=0), axis=0)

    def compute_output_shape(self, input_shape):
        return input_shape


class FactorVAE(VAE):
    """FactorVAE: a VAE that pays for the total correlation of its codes.

        loss(x) = reconstruction + kl + total_correlation
                = -log p(x | z) + β KL(q(z | x) || p(z)) + γ d(z),  z ~ q(z | x)

    where d(z) is the output of a discriminator that tells codes z from codes z' whose
    dimensions were shuffled over the batch, each on its own:

        discriminator: min (softplus(-d(z)) + softplus(d(z'))) / 2

    At its best d(z) = log q(z) / Π_j q(z_j), whose mean is the total correlation
    KL(q(z) || Π_j q(z_j)): 0 when the latent dimensions are independent. A larger β
    also asks for independence, but at the price of what the code says about x.

    z' are made from the batch of z; the paper takes a second batch, which makes no
    difference in expectation but for a share of 1 / batch of values that stay in place.
    Batches should not be small.

    Logged beside the losses: `elbo`, `mse` and `discriminator_accuracy`, the share of
    pairs (z, z') that the discriminator ranks rightly, 0.5 for independent dimensions.
    See `metrics.mutual_information_gap` for a score where the true factors are known.

    Args:
        latent_dim: Numbers in a code.
        gamma: Weight γ of the total correlation, >= 0. The paper uses 5 to 100.
        discriminator_widths: Units of the discriminator's dense layers, with leaky
            ReLU. The paper has six layers of 1,000.
        discriminator: Your own Keras model from codes `(batch, latent_dim)` to
            `(batch, 1)`, without an activation, instead of dense layers.
        **kwargs: As for `VAE`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.FactorVAE(latent_dim=10, gamma=35.0, likelihood="bernoulli")
    model.fit(x_train, epochs=100, batch_size=64)
    codes = model.encode(x_test)  # (n, 10)
    ```

    Reference:
        Kim and Mnih, Disentangling by Factorising, 2018
        (https://arxiv.org/abs/1802.05983).
    """

    term_names: tuple[str, ...] = (
        *VAE.term_names,
        "total_correlation",
        "discriminator_codes",
        "discriminator_permuted",
    )
    monitor_names: tuple[str, ...] = (*VAE.monitor_names, "discriminator_accuracy")
    player_names: tuple[str, ...] = ("vae", "discriminator")
    score_name: str | None = None

    def __init__(
        self,
        latent_dim: int = 10,
        *,
        gamma: float = 10.0,
        discriminator_widths: Sequence[int] = (256, 256, 256),
        discriminator: keras.Model | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        self._given["discriminator"] = discriminator is not None
        checks.check_weight("gamma", gamma)
        self.gamma = gamma
        self.discriminator_widths = checks.check_counts(
            "discriminator_widths", discriminator_widths
        )
        self.discriminator = discriminator
        self.permutation = PermutedDimensions()

    def default_optimizers(self):
        # The paper's own.
        return {
            "vae": keras.optimizers.Adam(1e-4),
            "discriminator": keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.9),
        }

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        code_shape = (self.latent_dim,)
        if self.discriminator is None:
            self.discriminator = networks.critic(
                code_shape,
                "dense" if self.discriminator_widths else "linear",
                self.discriminator_widths or None,
                dtype=self.dtype_policy,
            )
        networks.check("discriminator", self.discriminator, code_shape, (1,))
        self.total_correlation_weight = self.add_number(
            "total_correlation_weight", self.gamma
        )

    def players(self):
        learned = (self.encoder, self.decoder, self.likelihood)
        return [
            Player(
                self.terms,
                [v for part in learned for v in part.trainable_variables],
                self.monitors,
                "vae",
            ),
            Player(
                self.discriminator_terms,
                self.discriminator.trainable_variables,
                name="discriminator",
            ),
        ]

    def terms(self, x, outputs, training=False):
        """Returns the losses of encoder and decoder."""
        log_ratio = losses.logits(self.discriminator, outputs["z"], training=training)
        return {
            **super().terms(x, outputs, training),
            "total_correlation": self.total_correlation_weight * log_ratio,
        }

    def discriminator_terms(self, x, outputs, training=False):
        """Returns the discriminator's losses, and how often it is right."""
        z = ops.stop_gradient(outputs["z"])
        codes, permuted = (
            losses.logits(self.discriminator, codes, training=training)
            for codes in (z, self.permutation(z))
        )
        loss = losses.get_loss("non_saturating")
        return {
            "discriminator_codes": 0.5 * loss.real(codes),
            "discriminator_permuted": 0.5 * loss.fake(permuted),
            "discriminator_accuracy": losses.accuracy(codes, permuted),
        }
