"""VQ-GAN: tokens whose pictures a discriminator judges."""

import inspect
from typing import Any

import keras

from keras_ae.models.adversarial.patches import JudgedByPatches
from keras_ae.models.quantized.rounding import Quantizer
from keras_ae.models.quantized.vqvae import VQVAE

# What describes a codebook, and its defaults.
CODEBOOK = {
    name: parameter.default
    for name, parameter in inspect.signature(VQVAE.__init__).parameters.items()
    if parameter.default is not parameter.empty
}


class VQGAN(JudgedByPatches, VQVAE):
    """VQ-VAE whose reconstructions are sharp by a perceptual and an adversarial loss.

        autoencoder:   min -log p(x | e) + β Σ |z - sg(e)|²
                           + w_f λ_f ½ ||f(x) - f(x̂)||² + w_a λ_a s generator(D(x̂))
        discriminator: min real(D(x)) + fake(D(x̂))

    Codes are those of `VQVAE`, or of another quantizer, which brings terms of its own;
    the two added terms and the discriminator are those of `KLAutoencoder`.

    Args:
        latent_dim: Numbers in a vector of the codebook.
        num_codes: Vectors in the codebook.
        quantizer: A quantizer that takes the codebook's place, from
            `keras_ae.quantizers`: `ResidualQuantizer`, `ScalarQuantizer`,
            `LookupFreeQuantizer`. It says itself what the arguments of the codebook
            say, which are then left out.
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
        ValueError: If an argument is out of range or is the quantizer's to say, or a
            network of the wrong shape.

    Example:

    ```python
    model = keras_ae.VQGAN(latent_dim=16, num_codes=512)
    model.fit(faces, epochs=40, batch_size=32)
    model.fit_sampler("pixelcnn", faces, epochs=30)
    new = model.sample(64, seed=0)  # (64, height, width, channels)
    bits = keras_ae.VQGAN(quantizer=keras_ae.quantizers.LookupFreeQuantizer(12))
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
        quantizer: keras.Layer | None = None,
        likelihood: Any = "laplace",
        **kwargs,
    ):
        if quantizer is not None:
            given = {"latent_dim": latent_dim, "num_codes": num_codes, **kwargs}
            latent_dim, num_codes = _settled(quantizer, given)
        # Keras would save it a second time.
        object.__setattr__(self, "_asked_quantizer", quantizer)
        super().__init__(
            latent_dim, num_codes=num_codes, likelihood=likelihood, **kwargs
        )
        self._given["quantizer"] = quantizer is not None

    def make_quantizer(self):
        if self._asked_quantizer is None:
            return super().make_quantizer()
        return self._asked_quantizer


def _settled(quantizer, given):
    """Returns `latent_dim` and `num_codes` as a quantizer has them."""
    if not isinstance(quantizer, Quantizer):
        raise ValueError(
            "`quantizer` must be a layer of `keras_ae.quantizers`. "
            f"Received: quantizer={quantizer!r}"
        )
    settled = {**CODEBOOK, "num_codes": quantizer.num_codes}
    settled["latent_dim"] = quantizer.dim or given["latent_dim"]
    for name, value in settled.items():
        if given.get(name, value) not in (value, CODEBOOK[name]):
            raise ValueError(
                f"`{name}` must be left out: the quantizer has its own. "
                f"Received: {name}={given[name]!r}"
            )
    return settled["latent_dim"], settled["num_codes"]
