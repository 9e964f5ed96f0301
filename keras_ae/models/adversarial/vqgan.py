"""VQ-GAN: tokens whose pictures a discriminator judges."""

from typing import Any

from keras_ae.models.adversarial.patches import JudgedByPatches
from keras_ae.models.quantized.vqvae import VQVAE


class VQGAN(JudgedByPatches, VQVAE):
    """VQ-VAE whose reconstructions are sharp by a perceptual and an adversarial loss.

        autoencoder:   min -log p(x | e) + β Σ |z - sg(e)|²
                           + w_f λ_f ½ ||f(x) - f(x̂)||² + w_a λ_a s generator(D(x̂))
        discriminator: min real(D(x)) + fake(D(x̂))

    Codes are those of `VQVAE`, the two added terms and the discriminator those of
    `KLAutoencoder`. `sample` draws tokens from a `PixelCNN`.

    Args:
        latent_dim: Numbers in a vector of the codebook.
        num_codes: Vectors in the codebook.
        likelihood: Distribution of the data given a code. Defaults to a Laplace
            distribution of the optimal scale.
        codebook, commitment_weight, decay, reset_threshold, positions: As for `VQVAE`.
        perceptual, perceptual_weight: As for `KLAutoencoder`, also `architecture` and
            `widths`.
        adversarial_loss, adversarial_weight: Likewise.
        discriminator_start, ramp_steps, spectral_norm, discriminator: Likewise.
        attention, remat: Likewise.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.VQGAN(latent_dim=16, num_codes=512)
    model.fit(faces, epochs=40, batch_size=32)
    model.fit_sampler("pixelcnn", faces, epochs=30)
    new = model.sample(64, seed=0)  # (64, height, width, channels)
    ```

    Reference:
        Esser et al., Taming Transformers for High-Resolution Image Synthesis, 2021
        (https://arxiv.org/abs/2012.09841).
    """

    def __init__(
        self,
        latent_dim: int = 16,
        num_codes: int = 128,
        *,
        likelihood: Any = "laplace",
        **kwargs,
    ):
        super().__init__(
            latent_dim, num_codes=num_codes, likelihood=likelihood, **kwargs
        )
