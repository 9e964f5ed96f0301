"""Wasserstein autoencoders: codes that as a whole follow a prior."""

from typing import Any

import keras

from keras_ae import checks
from keras_ae.models.adversarial.aae import AAE
from keras_ae.probability import divergences
from keras_ae.training.steps import Player

# Weights for -log p(x | z) of a Gaussian of scale 1, half the squared error.
PENALTIES = {"mmd": 500.0, "gan": 10.0}


class WAE(AAE):
    """Wasserstein autoencoder: restores x, while its codes as a whole follow a prior.

        loss = reconstruction + mmd
             = E_x [-log p(x | z)] + λ MMD²(q(z), p(z)),  z = encoder(x)

    where q(z) is the distribution of the codes of all x, of which a batch is a sample.
    A VAE holds the posterior of every single x to the prior, and so blurs; this holds
    only their mixture to it. `penalty="gan"` leaves the distance to a discriminator:

        autoencoder:   min E_x [-log p(x | z)] + λ E_x [generator(D(z))]
        discriminator: min E_prior [real(D(z'))] + E_x [fake(D(z))],  z' ~ p(z)

    This is an `AAE` whose first and last player are one, so that λ balances them.

    `prior_mmd`, the unweighted distance of the codes to the prior, is logged with both
    penalties, and with `"gan"` what `AAE` logs about the discriminator. The loss of
    `"mmd"` tells which weights are best; that of `"gan"` is a contest's, and training
    keeps the last weights.

    Args:
        latent_dim: Numbers in a code. The prior can be matched where it has about as
            many dimensions as the data vary in; with many more, samples suffer.
        image_shape: Shape of one example; see `Autoencoder`, also for `architecture`,
            `widths` and `activation`.
        penalty: `"mmd"` or `"gan"`. The estimate of the former wants batches of about
            64 or more; see `divergences.mmd`.
        penalty_weight: λ, >= 0. Defaults to 500 for `"mmd"` and 10 for `"gan"`. The
            reconstruction is a sum over pixels: larger pictures want a larger λ, such
            as 2,000 for the MMD on 64 by 64 pixels in colour.
        kernel: Kernel of the MMD, `"inverse_multiquadratic"` or `"rbf"`.
        prior: Distribution of codes: None for N(0, I), or as for `VAE`.
        adversarial_loss, gradient_penalty, discriminator: As for `AAE`, for `"gan"`.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.WAE(latent_dim=64)
    model.fit(faces, epochs=30, batch_size=64)
    pictures = model.sample(64, seed=0)  # (64, height, width, channels)
    ```

    Reference:
        Tolstikhin et al., Wasserstein Auto-Encoders, 2018
        (https://arxiv.org/abs/1711.01558).
    """

    term_names: tuple[str, ...] = ("reconstruction", "mmd")
    monitor_names: tuple[str, ...] = ("mse", "prior_mmd")
    player_names: tuple[str, ...] = ()
    score_name: str | None = "loss"
    settled_arguments: tuple[str, ...] = ("num_classes",)

    def __init__(
        self,
        latent_dim: int = 64,
        *,
        penalty: str = "mmd",
        penalty_weight: float | None = None,
        kernel: str = "inverse_multiquadratic",
        adversarial_loss: str = "non_saturating",
        gradient_penalty: float | None = None,
        discriminator: keras.Model | None = None,
        **kwargs: Any,
    ):
        self.refuse_settled(kwargs, "a WAE has no classes; an AAE has")
        if not isinstance(penalty, str) or penalty not in PENALTIES:
            raise ValueError(
                f"`penalty` must be one of {', '.join(map(repr, PENALTIES))}. "
                f"Received: penalty={penalty!r}"
            )
        if penalty_weight is not None:
            checks.check_weight("penalty_weight", penalty_weight)
        divergences.get_kernel(kernel)
        if penalty == "mmd":
            for name, value, default in (
                ("adversarial_loss", adversarial_loss, "non_saturating"),
                ("gradient_penalty", gradient_penalty, None),
                ("discriminator", discriminator, None),
            ):
                if value != default:
                    raise ValueError(
                        f"`{name}` must be left out: `penalty='mmd'` has no "
                        f"discriminator. Received: {name}={value!r}"
                    )
        super().__init__(
            latent_dim,
            adversarial_loss=adversarial_loss,
            gradient_penalty=gradient_penalty,
            discriminator=discriminator,
            **kwargs,
        )
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.kernel = kernel
        self._weight = PENALTIES[penalty] if penalty_weight is None else penalty_weight
        if penalty == "gan":
            # Behind the terms of the class may be that of the gradient penalty.
            more = self.term_names[len(type(self).term_names) :]
            self.term_names = (*AAE.term_names, *more)
            self.monitor_names = AAE.monitor_names
            self.player_names = ("autoencoder", "discriminator")
            self.score_name = None

    def default_optimizers(self):
        # With more momentum the codes swing around those that the discriminator wants.
        return {
            name: keras.optimizers.Adam(1e-3, beta_1=0.5) for name in self.player_names
        }

    def players(self):
        if self.penalty == "mmd":
            return [Player(self.terms, self.trainable_variables, self.monitors)]
        # The first has the terms of the encoder besides its own.
        return [p for p in super().players() if p.name in self.player_names]

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        if self.penalty == "gan":
            fooling = self.adversarial_terms(x, outputs, training)["adversarial"]
            return {**terms, "adversarial": self._weight * fooling}
        distance = self._mmd(outputs["z"], self.prior_sampling(x))
        return {**terms, "mmd": self._weight * distance, "prior_mmd": distance}
