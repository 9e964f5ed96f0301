"""Tokens drawn by a density of the vectors that they stand for."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_ae.probability.distributions import LearnedPrior, Seed
from keras_ae.probability.samplers.density import Wrapping


@keras.saving.register_keras_serializable(package="keras_ae")
class NearestTokens(Wrapping):
    """Draws vectors from a density, and takes the token nearest to each.

    `fit_sampler` of a `VQVAE` and its kin makes it of `"gaussian"`, `"mixture"` and
    `"flow"`. All places are drawn at once, where a `PixelCNN` draws one after another.

    Args:
        density: A distribution of codes, the vectors of all places in a row.
    """

    def connect(self, model):
        if not model.has_tokens:
            raise ValueError(
                "`NearestTokens` needs a model whose codes are tokens, such as a "
                f"`VQVAE`. Received: {type(model).__name__}"
            )
        self._vectors = (*model.grid, model.latent_dim)
        # It is the model's, and is saved with that.
        object.__setattr__(self, "_quantizer", model.quantizer)
        if isinstance(self.density, LearnedPrior) and not self.density.built:
            self.density.connect(model)
        super().connect(model)

    def sample(self, shape: Sequence[int], seed: Seed = None, **options):
        """Draws tokens of shape `shape`, `(n, *token_shape)`.

        Args:
            shape: Shape of what is drawn.
            seed: As for the density.
            **options: What the density's `sample` takes: of a flow `steps`, `labels`
                and `guidance`.
        """
        count = (shape[0], math.prod(self._vectors))
        vectors = self.density.sample(count, seed, **options)
        vectors = ops.reshape(vectors, (-1, *self._vectors))
        return self._quantizer(vectors, training=False)["tokens"]
