"""Generative latent optimisation: codes on a ball, and sharp pictures without a GAN."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.decoder_only.autodecoder import AutoDecoder
from keras_ae.models.decoder_only.samples import observed_values
from keras_ae.models.deterministic.pca import PCA
from keras_ae.probability import divergences
from keras_ae.probability.likelihoods import Gaussian

# Examples that the principal components of the start are computed from.
_PCA_EXAMPLES = 5000


class GLO(AutoDecoder):
    """Generative latent optimisation: an auto-decoder with codes in the unit ball.

        min  Σ_i Lap(x_i, g(z_i)) - pixel_weight log p(x_i | z_i)  with  ||z_i|| <= 1

    where g(z) is the likelihood's mean and Lap the distance of Laplacian pyramids, sums
    of absolute differences that count 4^j in level j: edges weigh as much as colours,
    so that pictures come out sharp though nothing plays against the decoder. Codes
    start from the examples' principal components and are pulled back into the ball
    after each step.

    Everything else, such as `encode`, missing values and `extend`, is as in
    `AutoDecoder`. Missing pixels are taken for what the decoder gives, so that they
    differ in no level.

    Args:
        latent_dim: Numbers in a code.
        pixel_weight: Weight of -log p(x | z), >= 0. Without it the likelihood may have
            no learned scale, which nothing would learn.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1 within [0, 1]; for other data pass `"gaussian"`.
        **kwargs: As for `AutoDecoder`, without `code_weight`.

    Raises:
        ValueError: If an argument is out of range, or the decoder of the wrong shape.

    Example:

    ```python
    model = keras_ae.GLO(latent_dim=64)
    model.fit(x_train, epochs=50)
    pictures = model.sample(64, seed=0)  # (64, height, width, channels)
    ```

    Reference:
        Bojanowski et al., Optimizing the Latent Space of Generative Networks, 2018
        (https://arxiv.org/abs/1707.05776).
    """

    takes_value_weights = False
    term_names: tuple[str, ...] = ("laplacian", "reconstruction")
    settled_arguments: tuple[str, ...] = ("encoder", "code_weight")

    def __init__(
        self,
        latent_dim: int = 64,
        *,
        pixel_weight: float = 1.0,
        likelihood: Any = None,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "codes have their place in the unit ball")
        if likelihood is None:
            likelihood = Gaussian(scale=1.0, activation="sigmoid")
        super().__init__(latent_dim, likelihood=likelihood, **kwargs)
        checks.check_pixel_weight(pixel_weight, self.likelihood)
        self.pixel_weight = pixel_weight

    def default_optimizers(self):
        # In a ball of radius 1, a number of a code is about 0.1.
        codes = keras.optimizers.Adam(1e-2, beta_2=0.9)
        return {**super().default_optimizers(), "codes": codes}

    def _start_rows(self, x):
        examples = np.asarray(x[: min(len(x), _PCA_EXAMPLES)])
        rows = super()._start_rows(x)
        values = math.prod(examples.shape[1:])
        components = min(self.latent_dim, len(examples) - 1, values)
        if not components:
            return rows
        pca = PCA(components)
        pca.fit(_without_missing(examples), verbose=0)
        for start in range(0, len(x), 1000):
            part = _without_missing(np.asarray(x[start : start + 1000]))
            rows[start : start + 1000, :components] += pca.encode(part)
        # Into the ball, in the proportions of the principal components.
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.maximum(norms, np.percentile(norms, 95))

    def constrain(self, rows):
        # Unlike a norm, this has a gradient at 0.
        squares = ops.sum(ops.square(rows), axis=1, keepdims=True)
        return rows / ops.sqrt(ops.maximum(squares, 1.0))

    def terms(self, x, outputs, training=False):
        x, observed = observed_values(x)
        log_prob = self.likelihood.log_prob(
            x, outputs["parameters"], training, observed
        )
        mean = self.likelihood.mean(outputs["parameters"])
        filled = ops.where(observed, x, mean)
        return {
            "laplacian": _laplacian_distance(filled, mean),
            "reconstruction": -self.pixel_weight * log_prob,
        }


def _laplacian_distance(x, y):
    """Distance of pyramids `(batch,)`; of vectors, which have none, that of values."""
    if len(x.shape) == 2:
        return ops.sum(ops.abs(x - y), axis=1)
    if len(x.shape) == 3:
        x, y = x[..., None], y[..., None]
    return divergences.laplacian_distance(x, y)


def _without_missing(x):
    """Examples with the mean of all observed values where one is missing."""
    if "float" not in keras.backend.standardize_dtype(x.dtype):
        return x
    missing = np.isnan(x)
    return np.where(missing, np.mean(x[~missing]), x) if missing.any() else x
