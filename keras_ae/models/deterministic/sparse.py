"""Sparse autoencoders: few units speak at a time."""

from typing import Any

from keras import ops

from keras_ae.models.deterministic.autoencoder import AE
from keras_ae.nn.layers import get_sparsity

# A unit that stays below this, in magnitude, says nothing.
ACTIVE = 0.01


class SparseAE(AE):
    """Sparse autoencoder: a code in which few units are active at a time.

        loss(x) = -log p(x | z) + sparsity(z),  z = s(encoder(x))

    `KLSparsity` holds the mean activation of sigmoid units to a target, `L1Sparsity`
    lets ReLU units pay for their activation, `KSparse` keeps the k largest units of
    each example. `mean_activation` is logged beside the loss, and `dead_units`, the
    fraction of units that no example of the batch activates (beyond 0.01).

    `model.encoder` gives the units' pre-activations, `model.encode` their activations.

    Args:
        latent_dim: Units of the code; there may be more than x has values.
        sparsity: `"kl"`, `"l1"`, `"k_sparse"`, or an instance of
            `keras_ae.layers.KLSparsity` (batch or running average), `L1Sparsity` or
            `KSparse` with arguments of its own.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If the sparsity is unknown.

    Example:

    ```python
    sparsity = keras_ae.layers.KLSparsity(weight=3.0, target=0.1)
    model = keras_ae.SparseAE(200, architecture="linear", sparsity=sparsity)
    model.fit(x_train, validation_data=x_test, epochs=10)
    activations = model.encode(x_test)  # (n, 200), in (0, 1)
    ```

    Reference:
        Ng, Sparse autoencoder, CS294A lecture notes, 2011
        (https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf); Makhzani and
        Frey, k-Sparse Autoencoders, 2014 (https://arxiv.org/abs/1312.5663).
    """

    term_names: tuple[str, ...] = ("reconstruction", "sparsity")
    monitor_names: tuple[str, ...] = ("mean_activation", "dead_units", "mse")

    def __init__(self, latent_dim: int = 128, *, sparsity: Any = "kl", **kwargs):
        super().__init__(latent_dim, **kwargs)
        self.sparsity = get_sparsity(sparsity)
        if not self.sparsity.has_penalty:
            self.term_names = ("reconstruction",)

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        self.sparsity.build((None, self.latent_dim))

    def code(self, x, training=False):
        return self.sparsity(super().code(x, training), training=training)

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        if self.sparsity.has_penalty:
            terms["sparsity"] = self.sparsity.penalty(outputs["z"], training)
        return terms

    def monitors(self, x, outputs, terms):
        return {
            **activity(outputs["z"]),
            **super().monitors(x, outputs, terms),
        }


def activity(z) -> dict[str, Any]:
    """Returns mean activation and fraction of dead units of codes, each `(batch,)`.

    The units of features `(batch, ..., filters)` are the filters, at every place.
    """
    places, features = tuple(range(z.ndim - 1)), tuple(range(1, z.ndim))
    dead = ops.cast(ops.max(ops.abs(z), axis=places) < ACTIVE, "float32")  # (units,)
    return {
        "mean_activation": ops.mean(z, axis=features),
        "dead_units": ops.broadcast_to(ops.mean(dead), (ops.shape(z)[0],)),
    }
