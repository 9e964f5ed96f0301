"""The autoencoder of latent diffusion: small Gaussian grids, and a judge that looks."""

import math
from typing import Any

from keras_ae.models.adversarial.patches import JudgedByPatches
from keras_ae.models.base.sampling import Choice
from keras_ae.models.variational.vae import VAE

# What the flow takes that is fitted by itself.
STEPS, BATCH_SIZE = 2_000, 256


class KLAutoencoder(JudgedByPatches, VAE):
    """VAE of a small grid of codes, sharp by a perceptual and an adversarial loss.

        autoencoder:   min -log p(x | z) + β KL(q(z | x) || p(z))
                           + w_f λ_f ½ ||f(x) - f(x̂)||² + w_a λ_a s generator(D(x̂))
        discriminator: min real(D(x)) + fake(D(x̂)),  z ~ q(z | x)

    A code is a grid of Gaussian vectors, such as 8 by 8 of `latent_dim` numbers, so
    that a picture keeps its places and the networks are convolutions throughout:
    residual blocks with group normalisation. f(x) are features, and D tells patches of
    pictures from patches of reconstructions; `real`, `fake` and `generator` are those
    of `GAN`. λ brings the gradient of a term, with respect to the decoder's output, to
    the norm of that of the likelihood, and s rises from 0 to 1 when the discriminator
    starts, so that it does not wreck what was learned.

    β is small: it keeps codes together and smooth, and does not make them follow the
    prior. So `sample` draws from a flow that is fitted to a few thousand of them, in a
    minute or so, when it is first asked; `model.fit_sampler("flow", x)` takes all of
    them and its time, and draws better.

    `elbo`, logged beside the terms, and `log_likelihood` are of the model p(z) p(x | z)
    as of any VAE, and are lower than those of one that maximises nothing else. Also
    logged are λ as `perceptual_ratio` and `adversarial_ratio`, and, means over patches,
    `real_score`, `fake_score` and `discriminator_accuracy` as in `GAN`. No logged
    figure says how good the pictures are, so that the last weights count as the best.

    Args:
        latent_dim: Numbers in the code of one place.
        image_shape: Shape of one example; see `Autoencoder`.
        architecture: As for `Autoencoder`; `"auto"` is `"residual"` where there are
            convolutions.
        widths: Filters of each stage of stride 2: a picture's sides are divided by 4
            with two of them, by 8 with three, by 16 with four. Defaults to as many as
            leave a grid of about 8 places a side.
        positions: Vectors of a code, where the networks are dense or linear. Defaults
            to 1.
        likelihood: Distribution of the data given a code. Defaults to a Laplace
            distribution of the optimal scale.
        beta: Weight of the KL, >= 0.
        free_bits: As for `VAE`.
        perceptual: What gives the features f: `"discriminator"`, whose features they
            are, as in a VAE-GAN; or your own Keras model from pictures in [0, 1]
            `(batch, *image_shape)` to features, one tensor or several, which is frozen:
            such as `keras_ae.features.stages(network)`.
        perceptual_weight: w_f, >= 0. With 1 it pulls as hard as the likelihood.
        adversarial_loss: One of the losses of `GAN`.
        adversarial_weight: w_a, >= 0, likewise.
        discriminator_start: Number of epochs, >= 0, before the discriminator learns and
            is heard. Epochs are numbered by `fit`: go on with `initial_epoch`.
        ramp_steps: Steps of the discriminator, >= 1, in which s rises.
        spectral_norm: Whether the discriminator's layers are spectrally normalised.
        attention: Whether the places of the grid look at each other, in the encoder and
            in the decoder; convolutions only.
        remat: Whether training computes again, on the way back, what residual blocks
            would keep: less memory for more time, the same losses. Residual networks
            only.
        encoder: Your own Keras model from x to a dict of `"mean"` and `"log_var"`, each
            `(batch, code_dim)`, the vectors of all places in a row.
        decoder: Your own Keras model from codes to the likelihood's parameters.
        discriminator: Your own Keras model from examples to logits, `(batch, ..., 1)`,
            functional or `Sequential`.
        **kwargs: `activation`, `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.KLAutoencoder(latent_dim=8)
    model.fit(faces, epochs=40, batch_size=32)
    model.fit_sampler("flow", faces)
    new = model.sample(64, seed=0)  # (64, height, width, channels)
    ```

    Reference:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models,
        2022 (https://arxiv.org/abs/2112.10752); Esser et al., Taming Transformers for
        High-Resolution Image Synthesis, 2021 (https://arxiv.org/abs/2012.09841), for
        the discriminator and its weight.
    """

    settled_arguments: tuple[str, ...] = ("prior",)
    learns_choice = True

    def __init__(
        self,
        latent_dim: int = 4,
        *,
        likelihood: Any = "laplace",
        beta: float = 0.01,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "the codes of all places are held to N(0, I)")
        super().__init__(latent_dim, likelihood=likelihood, beta=beta, **kwargs)

    def _choose(self, codes):
        epochs = min(math.ceil(STEPS / math.ceil(len(codes) / BATCH_SIZE)), 400)
        options = {"epochs": epochs, "patience": max(1, epochs // 4)}
        flow = self._fit_sampler("flow", codes, 0, batch_size=BATCH_SIZE, **options)
        self._fitted.by_name["flow"] = flow
        return Choice("flow", None)

    @property
    def noise_dim(self) -> int:
        return self.code_dim
