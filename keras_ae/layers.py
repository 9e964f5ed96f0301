"""Layers that Keras does not have: sampling, resizing by pixels, residual blocks."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianSampling(keras.layers.Layer):
    """Draws z = mean + exp(log_var / 2) ε with ε ~ N(0, I), the reparameterised sample.

    Args:
        seed: Integer seed of the noise. Defaults to a random one, which
            `keras.utils.set_random_seed` fixes.

    Call arguments:
        mean: Tensor `(batch, latent_dim)`.
        log_var: Tensor of the same shape, the logarithm of the variance.

    Returns:
        Tensor of the same shape, in float32 whatever the dtype policy.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014
        (https://arxiv.org/abs/1312.6114).
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, mean, log_var):
        noise = keras.random.normal(
            ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator
        )
        return mean + ops.exp(0.5 * log_var) * noise

    def compute_output_shape(self, mean_shape, log_var_shape):
        return mean_shape

    def save_own_variables(self, store):
        # Keras does not save seeds; a resumed training should go on with fresh noise.
        store["seed_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed_state"][:])

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class DepthToSpace(keras.layers.Layer):
    """Turns channels into pixels: `(h, w, 4 c)` becomes `(2 h, 2 w, c)`.

    After a stride-1 convolution this is a transposed convolution of stride 2, which
    runs fast on every backend.

    Reference:
        Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient
        Sub-Pixel Convolutional Neural Network, 2016
        (https://arxiv.org/abs/1609.05158).
    """

    def call(self, x):
        return ops.depth_to_space(x, 2, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, 2 * height, 2 * width, channels // 4)


@keras.saving.register_keras_serializable(package="keras_ae")
class ResidualBlock(keras.layers.Layer):
    """Two normalised 3x3 convolutions around a skip connection: x + f(x).

    Group normalisation behaves alike in training and inference and for any batch size.

    Args:
        filters: Channels of the output. The skip connection is a 1x1 convolution where
            the input has another number of channels.
        activation: Activation before each convolution.

    Reference:
        He et al., Identity Mappings in Deep Residual Networks, 2016
        (https://arxiv.org/abs/1603.05027).
    """

    def __init__(self, filters: int, activation="swish", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        channels = input_shape[-1]

        def normalization(channels):
            groups = next(n for n in (8, 4, 2, 1) if channels % n == 0)
            return keras.layers.GroupNormalization(groups, dtype=self.dtype_policy)

        def convolution(kernel_size, **kwargs):
            return keras.layers.Conv2D(
                self.filters,
                kernel_size,
                padding="same",
                data_format="channels_last",
                dtype=self.dtype_policy,
                **kwargs,
            )

        self.first_normalization = normalization(channels)
        self.first_convolution = convolution(3)
        self.second_normalization = normalization(self.filters)
        # Starting from zero makes every block start as its skip connection.
        self.second_convolution = convolution(3, kernel_initializer="zeros")
        self.skip = convolution(1) if channels != self.filters else None

        hidden_shape = (*input_shape[:-1], self.filters)
        self.first_normalization.build(input_shape)
        self.first_convolution.build(input_shape)
        self.second_normalization.build(hidden_shape)
        self.second_convolution.build(hidden_shape)
        if self.skip is not None:
            self.skip.build(input_shape)

    def call(self, x):
        h = self.first_convolution(self.activation(self.first_normalization(x)))
        h = self.second_convolution(self.activation(self.second_normalization(h)))
        return h + (x if self.skip is None else self.skip(x))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
        }
