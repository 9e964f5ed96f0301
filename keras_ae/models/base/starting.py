"""What learning starts from: the mean of the data."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.backend import keras_private
from keras_ae.training import inputs

# Their mean is near enough, and a slow reader soon has so many.
_EXAMPLES = 512


class StartsAtMean:
    """The part of `Autoencoder` that starts a new decoder at the mean of the data.

    The first `fit` sets the biases of its last layer to what the likelihood needs for
    the mean example. Otherwise the first epochs are spent on that, with gradients so
    large that many latent dimensions come out unused.

    Reference:
        Burda et al., Importance Weighted Autoencoders, 2016
        (https://arxiv.org/abs/1509.00519), which starts so.
    """

    # Whether it does so: not where nothing is reconstructed.
    starts_at_mean: bool = True

    def begin_fit(self, x: Any) -> Any:
        """Takes from training data what learning starts from; returns them, unread."""
        layer = self._last_layer()
        if layer is None:
            return x
        examples, x = self.examples_to_start(x, _EXAMPLES)
        examples = ops.convert_to_numpy(inputs.to_floats(examples))
        known = np.isfinite(examples)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, examples, 0.0).sum(axis=0, dtype="float64") / count
        # Of convolutions, a bias is of a channel: of the last axes.
        shape = self.likelihood.parameters_shape(mean.shape)
        size = layer.bias.shape[0]
        axes = next(
            (k for k in range(len(shape) + 1) if math.prod(shape[k:]) == size), None
        )
        if axes is None:
            return x
        over = tuple(range(min(axes, mean.ndim)))
        start = self.likelihood.parameters_at(
            np.broadcast_to(mean.mean(axis=over, keepdims=True), mean.shape)
        )
        if start is not None:
            start = np.reshape(start[(0,) * axes], -1)
            layer.bias.assign(start.astype("float32"))
        return x

    def examples_to_start(self, x: Any, count: int) -> tuple[np.ndarray, Any]:
        """Returns at most `count` examples, of several processes the first's, and x."""
        if isinstance(x, Iterator):
            (examples, _, _), x = inputs.first_batch(x)
            examples = ops.convert_to_numpy(examples)[:count]
        else:
            examples = inputs.some_examples(x, count)
        return backend.from_first(examples), x

    def _last_layer(self):
        """The decoder's layer that gives parameters, if its biases are still zero."""
        if not self.starts_at_mean or self.keeps_pixels or self.decoder is None:
            return None
        if self._given["decoder"]:
            return None
        layers = keras_private.layers(self.decoder)
        layer = next((each for each in reversed(layers) if each.weights), None)
        bias = getattr(layer, "bias", None)
        is_free = bias is not None and layer.trainable and bias.trainable
        if not is_free or layer.activation is not keras.activations.linear:
            return None
        return None if np.any(ops.convert_to_numpy(bias)) else layer
