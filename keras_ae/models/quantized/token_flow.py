"""A rectified flow of the vectors that tokens stand for."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_ae.probability.distributions import Seed
from keras_ae.probability.samplers import Standardized


@keras.saving.register_keras_serializable(package="keras_ae")
class TokenFlow(Standardized):
    """Draws vectors by a flow, and takes the token nearest to each.

    `fit_sampler("flow", x)` of a `VQVAE` and its kin makes it. All places are drawn at
    once, where a `PixelCNN` draws one after another.

    Args:
        density: A `RectifiedFlow` of codes, the vectors of all places in a row.
    """

    def connect(self, model):
        if not model.has_tokens:
            raise ValueError(
                "A `TokenFlow` needs a model whose codes are tokens, such as a "
                f"`VQVAE`. Received: {type(model).__name__}"
            )
        super().connect(model)
        self._vectors = (*model.grid, model.latent_dim)
        # It is the model's, and is saved with that.
        object.__setattr__(self, "_quantizer", model.quantizer)

    def sample(self, shape: Sequence[int], seed: Seed = None, **options):
        """Draws tokens of shape `shape`, `(n, *token_shape)`.

        Args:
            shape: Shape of what is drawn.
            seed: As for `RectifiedFlow.sample`.
            **options: As for `RectifiedFlow.sample`: `steps`, `labels`, `guidance`.
        """
        count = (shape[0], math.prod(self._vectors))
        vectors = super().sample(count, seed, **options)
        vectors = ops.reshape(vectors, (-1, *self._vectors))
        return self._quantizer(vectors, training=False)["tokens"]
