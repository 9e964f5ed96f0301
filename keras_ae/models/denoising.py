"""Denoising autoencoders: restore what was spoilt."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import inputs, seeds
from keras_ae.layers import check_corruption, get_corruption
from keras_ae.models.deterministic import AE


class DenoisingAE(AE):
    """Denoising autoencoder: restores x from a spoilt copy of it.

        loss(x) = -log p(x | z),  z = encoder(x̃),  x̃ ~ corruption(x)

    The corruption is active in training only. `fit(noisy, clean)`, or a data set of
    such pairs, learns from noise of your own instead: nothing is spoilt then. So that
    validation measures denoising too, give it pairs: `model.corrupt` makes them.

    Args:
        latent_dim: Numbers in a code.
        corruption: `"gaussian"`, `"masking"`, `"salt_and_pepper"`, a layer from
            `keras_ae.layers`, or any Keras layer that keeps the shape.
        noise_level: Level of a corruption given by name: the standard deviation of
            Gaussian noise (default 0.3), or the probability that a value is masked
            (0.25) or set to 0 or 1 (0.1). A pair `(low, high)` draws a level for each
            example.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If the corruption is unknown or its level out of range.

    Example:

    ```python
    model = keras_ae.DenoisingAE(latent_dim=128, noise_level=0.5)
    noisy = model.corrupt(x_test, seed=0)
    model.fit(x_train, validation_data=(noisy, x_test), epochs=10)
    restored = model.denoise(noisy)  # (n, height, width, channels)
    ```

    Reference:
        Vincent et al., Stacked Denoising Autoencoders: Learning Useful Representations
        in a Deep Network with a Local Denoising Criterion, 2010
        (https://jmlr.org/papers/v11/vincent10a.html).
    """

    takes_targets = True

    def __init__(
        self,
        latent_dim: int = 128,
        *,
        corruption: Any = "gaussian",
        noise_level: float | Sequence[float] | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        self.corruption = get_corruption(corruption, noise_level)
        # A layer says its level itself, also when the model is saved.
        self.noise_level = None

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        check_corruption(self.corruption, image_shape)

    def call(self, x, training=False, noisy=None):
        if noisy is None:
            noisy = self._corrupted(x) if training else x
        return super().call(noisy, training)

    def denoise(self, x, batch_size: int = 256) -> np.ndarray:
        """Returns clean versions of noisy examples.

        Args:
            x: Noisy array `(n, *image_shape)`, or a data set of such batches.
            batch_size: Examples at a time, for arrays.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].
        """
        return self.reconstruct(x, batch_size)

    def corrupt(self, x, seed: int | None = None, batch_size: int = 256) -> np.ndarray:
        """Returns examples spoilt as in training.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            seed: Integer; the same seed and batch size spoil alike, and leave the noise
                of training as it was.
            batch_size: Examples at a time, for arrays.

        Returns:
            float32 array `(n, *image_shape)`; Gaussian noise leaves [0, 1].
        """
        x = self._inspect(x, "x")
        with seeds.repeatable(self.corruption, seed):
            return self._in_batches("corrupt", self._corrupted, x, batch_size)

    def _corrupted(self, x):
        noisy = self.corruption(self.to_floats(x), training=True)
        return ops.cast(noisy, "float32")

    def _unpack(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if not _is_pair(x, y):
            return super()._unpack(data)
        return self._examples(y), {"noisy": self._examples(x)}, weight

    def _check_values(self, x, y, restored):
        if y is not None and len(y.shape) > 2 and not _is_pair(x, y):
            raise ValueError(
                "Noisy and clean examples must have the same shape. Received: noisy of "
                f"{tuple(x.shape[1:])}, clean of {tuple(y.shape[1:])}"
            )
        if not _is_pair(x, y):
            return inputs.check_values(x, self.likelihood if restored else None)
        inputs.check_values(x)
        return inputs.check_values(y, self.likelihood)


def _is_pair(x, y):
    """Whether `y` holds clean examples for `x`, not labels."""
    if y is None or not 1 < len(y.shape) == len(x.shape):
        return False
    # tf.data may know the size of one of the two only when it has decoded it.
    sizes = zip(x.shape[1:], y.shape[1:], strict=True)
    return all(None in pair or pair[0] == pair[1] for pair in sizes)
