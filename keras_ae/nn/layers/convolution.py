"""Convolutions, what normalises them, and blocks of them."""

import itertools

import keras
from keras import ops

from keras_ae import backend
from keras_ae.checks import check_activation
from keras_ae.nn.layers.spectral import SpectralNormalization


@keras.saving.register_keras_serializable(package="keras_ae")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, which trains faster on TensorFlow and computes the same.

    Args:
        **kwargs: As for `keras.layers.BatchNormalization`.
    """

    sees_moments = True

    def build(self, input_shape):
        super().build(input_shape)
        self._is_plain = (
            len(input_shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not self.renorm
            and not self.synchronized
        )

    def call(self, inputs, training=None, mask=None):
        found = None
        if training and self.trainable and mask is None and self._is_plain:
            found = backend.normalized(inputs, self.gamma, self.beta, self.epsilon)
        if found is None:
            return super().call(inputs, training=training, mask=mask)
        outputs, *moments = found
        averages = (self.moving_mean, self.moving_variance)
        for average, value in zip(averages, moments, strict=True):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable(package="keras_ae")
class Conv2D(keras.layers.Conv2D):
    """Keras' layer, which makes grey pictures faster on TensorFlow's CPUs.

    On PyTorch's it takes a batch of one picture, which Keras' layer can fail on.

    Args:
        *args, **kwargs: As for `keras.layers.Conv2D`.
    """

    sees_each_by_itself = True

    def convolution_op(self, inputs, kernel):
        found = None
        kernel = backend.filters_in_order(inputs, kernel)
        if (
            self.filters == self.groups == 1
            and self.padding == "same"
            and self.data_format == "channels_last"
            and {*self.strides, *self.dilation_rate} == {1}
        ):
            found = backend.convolved_to_one(inputs, kernel)
        return super().convolution_op(inputs, kernel) if found is None else found


def convolution(rank: int, *args, **kwargs) -> keras.layers.Layer:
    """Returns a convolution over 1, 2 or 3 dimensions, given Keras' arguments."""
    kinds = {1: keras.layers.Conv1D, 2: Conv2D, 3: keras.layers.Conv3D}
    return kinds[rank](*args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_ae")
class DepthToSpace(keras.layers.Layer):
    """Turns channels into pixels: `(h, w, 4 c)` becomes `(2 h, 2 w, c)`.

    Likewise `(t, 2 c)` becomes `(2 t, c)`, and `(d, h, w, 8 c)` `(2 d, 2 h, 2 w, c)`.

    After a stride-1 convolution this is a transposed convolution of stride 2, which
    runs fast on every backend.

    Reference:
        Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient
        Sub-Pixel Convolutional Neural Network, 2016
        (https://arxiv.org/abs/1609.05158).
    """

    sees_each_by_itself = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, x):
        sides = x.shape[1:-1]
        if len(sides) == 2:
            return ops.depth_to_space(x, 2, data_format="channels_last")
        shape = self.compute_output_shape((-1, *x.shape[1:]))
        x = ops.reshape(x, (-1, *sides, *[2] * len(sides), shape[-1]))
        # Each side beside the two into which it is parted.
        pairs = [(side, side + len(sides)) for side in range(1, len(sides) + 1)]
        order = (0, *itertools.chain.from_iterable(pairs), 2 * len(sides) + 1)
        return ops.reshape(ops.transpose(x, order), shape)

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(2 * side for side in sides), channels // 2 ** len(sides))

    # Keras can't guess the config of a layer that was given a dtype policy.
    def get_config(self):
        return super().get_config()


@keras.saving.register_keras_serializable(package="keras_ae")
class SpaceToDepth(keras.layers.Layer):
    """Turns pixels into channels: `(2 h, 2 w, c)` becomes `(h, w, 4 c)`."""

    sees_each_by_itself = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, x):
        return ops.space_to_depth(x, 2, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height // 2, width // 2, 4 * channels)

    # Keras can't guess the config of a layer that was given a dtype policy.
    def get_config(self):
        return super().get_config()


@keras.saving.register_keras_serializable(package="keras_ae")
class ResidualBlock(keras.layers.Layer):
    """Two normalised convolutions of size 3 around a skip connection: x + f(x).

    Group normalisation behaves alike in training and inference and for any batch size.

    Args:
        filters: Channels of the output. The skip connection is a convolution of size 1
            where the input has another number of channels.
        activation: Activation before each convolution.
        spectral_norm: Whether the convolutions are spectrally normalised.
        remat: Whether training computes again, on the way back, what is inside each
            half of the block, instead of keeping it: less memory for more time.

    Raises:
        ValueError: If `activation` is none of Keras'.

    Reference:
        He et al., Identity Mappings in Deep Residual Networks, 2016
        (https://arxiv.org/abs/1603.05027).
    """

    sees_each_by_itself = True

    def __init__(
        self,
        filters: int,
        activation="swish",
        spectral_norm: bool = False,
        remat: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.activation = check_activation("activation", activation)
        self.spectral_norm = spectral_norm
        self.remat = remat

    def build(self, input_shape):
        channels = input_shape[-1]

        def normalization(channels):
            groups = next(n for n in (8, 4, 2, 1) if channels % n == 0)
            return keras.layers.GroupNormalization(groups, dtype=self.dtype_policy)

        def of_size(kernel_size, **kwargs):
            layer = convolution(
                len(input_shape) - 2,
                self.filters,
                kernel_size,
                padding="same",
                data_format="channels_last",
                dtype=self.dtype_policy,
                **kwargs,
            )
            return SpectralNormalization(layer) if self.spectral_norm else layer

        self.first_normalization = normalization(channels)
        self.first_convolution = of_size(3)
        self.second_normalization = normalization(self.filters)
        # Starting from zero makes every block start as its skip connection; a zero
        # kernel can't be normalised.
        start = "glorot_uniform" if self.spectral_norm else "zeros"
        self.second_convolution = of_size(3, kernel_initializer=start)
        self.skip = of_size(1) if channels != self.filters else None

        hidden_shape = (*input_shape[:-1], self.filters)
        self.first_normalization.build(input_shape)
        self.first_convolution.build(input_shape)
        self.second_normalization.build(hidden_shape)
        self.second_convolution.build(hidden_shape)
        if self.skip is not None:
            self.skip.build(input_shape)

    def call(self, x, training=False):
        halves = self._first_half, self._second_half
        if self.remat and training:
            halves = tuple(map(keras.remat, halves))
        h = x
        for half in halves:
            h = half(h)
        return h + (x if self.skip is None else self.skip(x))

    def _first_half(self, x):
        return self.first_convolution(self.activation(self.first_normalization(x)))

    def _second_half(self, h):
        return self.second_convolution(self.activation(self.second_normalization(h)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        config = {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
        }
        for name in ("spectral_norm", "remat"):
            if getattr(self, name):
                config[name] = True
        return config
