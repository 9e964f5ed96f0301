"""Denoising autoencoders: restore what was spoilt."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.models.base.any_size import AnySize
from keras_ae.models.deterministic.autoencoder import AE
from keras_ae.nn import networks, seeds
from keras_ae.nn.layers import check_corruption, get_corruption
from keras_ae.training import inputs

# Pixels by which the sizes of pictures that are denoised at one go differ.
_STEP = 32


class DenoisingAE(AnySize, AE):
    """Denoising autoencoder: restores x from a spoilt copy of it.

        loss(x) = -log p(x | z),  z = encoder(x̃),  x̃ ~ corruption(x)

    The corruption is active in training only. `fit(noisy, clean)`, or a data set of
    such pairs, learns from noise of your own instead: nothing is spoilt then. Two noisy
    takes of each picture will do where there is no clean one. So that validation
    measures denoising too, give it pairs: `model.corrupt` makes them.

    Pictures of at least 16 by 16 pixels get convolutions without a bottleneck: what
    restores must let through all that is not noise, and the noise keeps it from
    copying. The code of each square of 2 by 2 pixels is those pixels and `latent_dim`
    features, from which the decoder tells what to add to them. `denoise` takes pictures
    of any size then. Every other `architecture`, and networks of your own, squeeze an
    example through a code of `latent_dim` numbers, for what it can tell about them.

    Args:
        latent_dim: Numbers in a code, or features of each square of pixels.
        corruption: `"gaussian"`, `"clipped_gaussian"` (noise as it is in picture
            files, where it ends at black and white), `"masking"`, `"salt_and_pepper"`,
            a layer from `keras_ae.layers`, or any Keras layer that keeps the shape.
        noise_level: Level of a corruption given by name: the standard deviation of
            Gaussian noise (default 0.3), or the probability that a value is masked
            (0.25) or set to 0 or 1 (0.1). A pair `(low, high)` draws a level for each
            example.
        architecture: `"auto"` as above, or as for `AE`.
        widths: As for `AE`; of convolutions without a bottleneck `(32, 48, 64)`: the
            filters within residual blocks, from the scale of the squares on, each half
            as fine as the one before.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If the corruption is unknown or its level out of range.

    Example:

    ```python
    model = keras_ae.DenoisingAE(noise_level=0.5)
    noisy = model.corrupt(x_test, seed=0)
    model.fit(x_train, validation_data=(noisy, x_test), epochs=10)
    restored = model.denoise(noisy)  # (n, height, width, channels)
    ```

    Reference:
        Vincent et al., Stacked Denoising Autoencoders: Learning Useful Representations
        in a Deep Network with a Local Denoising Criterion, 2010
        (https://jmlr.org/papers/v11/vincent10a.html).
    """

    denoises = True
    takes_targets = True
    WIDTHS = (32, 48, 64)

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        corruption: Any = "gaussian",
        noise_level: float | Sequence[float] | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        self.corruption = get_corruption(corruption, noise_level)
        # A layer says its level itself, also when the model is saved.
        self.noise_level = None

    # Building

    @property
    def code_dim(self) -> int:
        if not self.keeps_pixels:
            return self.latent_dim
        return networks.denoising_code(self.built_image_shape, self.latent_dim)

    def build_networks(self, image_shape):
        architecture, _ = networks.resolve(image_shape, "auto")
        restores = architecture == "conv" and len(image_shape) < 4
        own = self.architecture != "auto" or any(self._given.values())
        # The noisy picture is added to the mean, to which its pixels belong.
        one = self.likelihood.numbers_per_value == 1
        self.keeps_pixels = restores and not own and one
        if self.keeps_pixels:
            self.SAMPLERS = ()
        super().build_networks(image_shape)
        check_corruption(self.corruption, image_shape)

    def build_encoder(self, *, heads, **options):
        if not self.keeps_pixels:
            return super().build_encoder(heads=heads, **options)
        return networks.denoising_encoder(**self._without_bottleneck(options))

    def build_decoder(self, **options):
        if not self.keeps_pixels:
            return super().build_decoder(**options)
        return networks.denoising_decoder(**self._without_bottleneck(options))

    def _without_bottleneck(self, options):
        del options["architecture"]
        widths = self.widths or self.WIDTHS
        return {**options, "latent_dim": self.latent_dim, "widths": widths}

    # Sampling

    no_samplers = (
        "keeps all of a picture in its code, and has nothing to draw new ones from; "
        "architecture='conv' has a code vector"
    )

    # Verbs

    def call(self, x, training=False, noisy=None):
        if noisy is None:
            noisy = self._corrupted(x) if training else x
        return super().call(noisy, training)

    @property
    def tile_step(self) -> int:
        # Sizes in steps, since each one is built and compiled by itself.
        return max(_STEP, 2 ** len(self.widths or self.WIDTHS))

    def denoise(
        self,
        x,
        batch_size: int = 256,
        *,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> np.ndarray:
        """Returns clean versions of noisy examples.

        Args:
            x: Noisy array `(n, *image_shape)`, or a data set of such batches. Where
                there is no bottleneck, an array of pictures of any height and width.
            batch_size: Examples of `image_shape` at a time, for arrays; of larger ones
                fewer.
            tile: Side in pixels of the square tiles in which pictures are restored,
                which bounds the memory, a multiple of 32. By default they are restored
                whole.
            overlap: Pixels that neighbouring tiles share at least, a multiple of 32,
                where they are blended. Defaults to a quarter of a tile.

        Returns:
            Array of the shape of x, pictures in [0, 1].

        Raises:
            ValueError: If `tile` or `overlap` is out of range, or there is a
                bottleneck.
        """
        shape = tuple(getattr(x, "shape", ()))[1:]
        known = self.image_shape or ()
        is_other = shape != known and len(shape) == len(known)
        if tile is None:
            if not (self.keeps_pixels and is_other and shape[2:] == known[2:]):
                return self.reconstruct(x, batch_size)
            # No larger than the larger side needs.
            step = self.tile_step
            tile, overlap = -(-max(shape[:2]) // step) * step, 0
        self.require_built("denoise")
        if not self.keeps_pixels:
            raise ValueError(
                "`tile` needs networks without a bottleneck. Received: "
                f"tile={tile} with architecture='{self.architecture}' and examples of "
                f"shape {known}"
            )
        tile, overlap = self.check_tile(tile, overlap)
        x, step = self.check_pictures(x), self.tile_step
        restored = self.in_tiles(
            "denoise", "reconstruct_batch", x, tile, overlap, batch_size, step, step
        )
        return restored[:, : shape[0], : shape[1]]

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
        x = self.check_data(x, "x")
        with seeds.repeatable(self.corruption, seed):
            return self.in_batches("corrupt", self._corrupted, x, batch_size)

    def _corrupted(self, x):
        noisy = self.corruption(self.to_floats(x), training=True)
        return ops.cast(noisy, "float32")

    def unpack_batch(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if not _is_pair(x, y):
            return super().unpack_batch(data)
        return self.check_batch(y), {"noisy": self.check_batch(x)}, weight

    def check_values(self, x, y, restored):
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
