"""A network that compares sets of pictures in its features."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import pathlib
import warnings
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_ae import checks
from keras_ae.files import replacing
from keras_ae.metrics import FeatureStatistics
from keras_ae.metrics.arrays import array
from keras_ae.training import inputs

# Pictures in memory at a time, and values in them.
_CHUNK, _VALUES = 4096, 2**26


class FeatureNetwork:
    """A network of pictures, such as a classifier, one layer of which are features.

    Pictures are rounded to 8 bits first, as files hold them, so that data and what a
    model draws differ in nothing but their content. One channel is repeated, with a
    warning, where the network sees three.

    Args:
        network: Keras model from integer pictures `(batch, *image_shape)` of 0-255 to
            what `predict` gives, the probabilities of a classifier. A layer called
            `"features"` gives `(batch, dimensions)`. `train`, `for_data`, `principal`
            and `inception` make it.

    Attributes:
        network: That model.
        name: What it tells apart, and at which size: `"classifier-10-classes-28px"`.
        digest: 16 hexadecimal digits of its weights; distances can be compared where
            the digests agree.
        resize: How it brings pictures to its size: `"none"`, or such as `"bilinear,
            antialiased, to 299 x 299"`.

    Reference:
        Salimans et al., Improved Techniques for Training GANs, 2016
        (https://arxiv.org/abs/1606.03498), for measuring in a classifier's features.
    """

    def __init__(self, network: keras.Model):
        self.network = network
        self._features = keras.Model(
            network.inputs, network.get_layer("features").output
        )
        self._warned = False

    @property
    def name(self) -> str:
        return self.network.name

    @functools.cached_property
    def digest(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for weight in self.network.get_weights():
            digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
        return digest.hexdigest()[:16]

    @property
    def resize(self) -> str:
        for layer in self.network.layers:
            if isinstance(layer, layers.Resizing):
                antialiased = ", antialiased" if layer.antialias else ""
                return (
                    f"{layer.interpolation}{antialiased}, "
                    f"to {layer.height} x {layer.width}"
                )
        return "none"

    def features(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Returns the features of pictures.

        Args:
            images: Array `(n, *image_shape)`, integers 0-255 or floats in [0, 1], which
                are clipped; or a data set or generator of batches of such pictures, all
                of one size.
            batch_size: Pictures at a time.

        Returns:
            float32 array `(n, dimensions)`.

        Raises:
            ValueError: If the pictures are of another shape or range, or of two sizes.
        """
        return np.concatenate(list(self._predict(self._features, images, batch_size)))

    def statistics(self, images: Any, batch_size: int = 64) -> FeatureStatistics:
        """Returns mean and covariance of the features, for `metrics.frechet_distance`.

        Args:
            images: As for `features`. Neither all pictures nor all features are in
                memory at a time.
            batch_size: Pictures at a time.

        Returns:
            The statistics, which may be updated with more features.

        Raises:
            ValueError: As for `features`.
        """
        statistics = FeatureStatistics()
        for features in self._predict(self._features, images, batch_size):
            statistics.update(features)
        return statistics

    def predict(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Returns a classifier's probability of each class, or of each attribute.

        Args:
            images: As for `features`.
            batch_size: Pictures at a time.

        Returns:
            float32 array `(n, classes)` whose rows sum to 1, or `(n, attributes)`.

        Raises:
            ValueError: As for `features`.
        """
        return np.concatenate(list(self._predict(self.network, images, batch_size)))

    def _predict(self, model, images, batch_size):
        """Yields what a model says of some pictures, and then of the next."""
        checks.check_count("batch_size", batch_size)
        if isinstance(images, list | tuple):
            images = array("images", images)
        size = None
        for batch in inputs.batches(images, rows_at_a_time(images)):
            batch = self._repeated(batch)
            if size not in (None, batch.shape[1:]):
                raise ValueError(
                    "`images` must be of one size. Received: pictures of shape "
                    f"{size} and then of {batch.shape[1:]}"
                )
            size = batch.shape[1:]
            yield model.predict(eight_bits(batch), batch_size=batch_size, verbose=0)
        if size is None:
            raise ValueError("`images` must hold one picture or more. Received: none")

    def _repeated(self, images):
        """Returns pictures as the network sees them: of its shape and channels."""
        expected = self.network.input_shape[1:]  # None where any size will do
        shape = images.shape[1:]
        grey = len(shape) == 2 or shape[2:] == (1,)
        if expected[2:] == (3,) and grey:
            if not self._warned:
                warnings.warn(
                    f"The pictures have one channel; {self.name} sees it three times.",
                    stacklevel=4,
                )
                self._warned = True
            images = images.reshape(*images.shape[:3], 1).repeat(3, axis=-1)
            shape = images.shape[1:]
        if len(shape) != len(expected) or any(
            size not in (None, received)
            for size, received in zip(expected, shape, strict=True)
        ):
            sizes = (str(size or "any") for size in expected)
            raise ValueError(
                f"`images` must have the shape (n, {', '.join(sizes)}). "
                f"Received: {images.shape}"
            )
        return images

    def save(self, path: str | os.PathLike) -> None:
        """Writes the network to a `.keras` file, which `load` reads on any backend."""
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            self.network.save(temporary)


def rows_at_a_time(images):
    """How many pictures of an array to look at a time."""
    values = math.prod(getattr(images, "shape", ())[1:])
    return max(1, min(_CHUNK, _VALUES // max(1, values)))


def checked_pictures(images):
    images = array("images", images)
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            "`images` must have the shape (n, height, width) or (n, height, width, "
            f"channels). Received: {images.shape}"
        )
    return images


def eight_bits(images):
    """Returns pictures in uint8; floats are read as [0, 1], clipped and rounded."""
    images = np.asanyarray(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype == bool:
        return np.uint8(255) * images
    inputs.check_values(images)
    if images.dtype.kind in "iu":
        return images.astype("uint8")
    outside = np.mean((images < -0.1) | (images > 1.1))
    if outside > 0.1:
        raise ValueError(
            "Floats must be in [0, 1], but for a few that are clipped. Received: "
            f"values from {images.min()} to {images.max()}, {outside:.0%} of them "
            "beyond"
        )
    return np.rint(255 * np.clip(images, 0, 1)).astype("uint8")
