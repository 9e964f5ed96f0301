"""Layers whose kernels have a spectral norm of one."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ae")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides a layer's kernel by its largest singular value σ.

        y = activation(W x / σ + b),  σ = vᵀ W u

    where W is the kernel reshaped to a matrix of one column for each unit or filter.
    Its first singular vectors u and v come from the power method, one step at each
    training step; inference changes nothing.

    Args:
        layer: A `Dense`, `Conv1D`, `Conv2D` or `Conv3D` layer.

    Raises:
        ValueError: For any other layer.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018
        (https://arxiv.org/abs/1802.05957).
    """

    sees_each_by_itself = True

    # Keras' own layer overwrites the kernel whenever it is called. On JAX a training
    # step keeps no such update of a trainable variable: the kernel is never normalised.

    def __init__(self, layer: keras.layers.Layer, **kwargs):
        linear = ("Dense", "Conv1D", "Conv2D", "Conv3D")
        kinds = tuple(getattr(keras.layers, name) for name in linear)
        if not isinstance(layer, kinds):
            raise ValueError(
                f"`layer` must be one of {', '.join(linear)}. Received: layer={layer}"
            )
        # The wrapped layer keeps its name and its dtype policy.
        defaults = {"name": layer.name, "dtype": layer.dtype_policy}
        super().__init__(layer, **{**defaults, **kwargs})

    def build(self, input_shape):
        super().build(input_shape)
        self.u = self.add_weight(
            name="u",
            shape=(self.layer.kernel.shape[-1],),
            initializer="random_normal",
            trainable=False,
            dtype="float32",
            autocast=False,
            aggregation="mean",
        )
        self.built = True

    def call(self, x, training=False):
        kernel = ops.cast(self.layer.kernel, "float32")
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
        constant = ops.stop_gradient(matrix)
        u = _unit(ops.convert_to_tensor(self.u))
        v = _unit(ops.matmul(constant, u))
        if training:
            u = _unit(ops.matmul(v, constant))
            self.u.assign(u)
        # u and v are constants, so that the gradient of σ is v uᵀ.
        sigma = ops.sum(ops.matmul(v, matrix) * u)
        # The layer is linear up to its bias: (W x) / σ = W (x / σ).
        return self.layer(x / ops.cast(sigma, x.dtype))

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def _unit(vector):
    return vector / ops.maximum(ops.norm(vector), 1e-12)
