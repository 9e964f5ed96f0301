"""Batch normalisation in one operation is that of Keras."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae import autodiff, networks


def trained(Layer, x, **options):
    """Returns the outputs, the averages, the gradients and those of a penalty."""
    layer = Layer(momentum=0.9, **options)
    layer.build((None, *x.shape[1:]))
    layer.gamma.assign(np.linspace(0.5, 2, x.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, x.shape[-1]))
    x = ops.convert_to_tensor(x)

    def slope(x):
        return autodiff.gradient(lambda x: ops.sin(layer(x, training=True)), x)

    found = [
        layer(x, training=True),
        layer(x, training=True),
        layer(x, training=False),
        slope(x),
        autodiff.gradient(lambda x: ops.square(slope(x)), x),
        layer.moving_mean,
        layer.moving_variance,
    ]
    return [to_numpy(ops.cast(part, "float32")) for part in found]


@pytest.mark.parametrize("shape", [(5, 4, 3, 6), (7, 1, 1, 2), (3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_as_keras(shape, dtype):
    if autodiff.BACKEND == "jax":
        pytest.skip("JAX takes Keras' own")
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, shape).astype("float32")
    layers = (keras_ae.layers.BatchNormalization, keras.layers.BatchNormalization)
    mine, theirs = (trained(Layer, x, dtype=dtype) for Layer in layers)
    # bfloat16 keeps eight bits, and the outputs are rounded to it.
    tolerance = 1e-4 if dtype == "float32" else 0.05
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_a_network_keeps_the_names_of_its_weights():
    network = networks.encoder((16, 16, 1), 2, "conv", (4, 8))
    layers = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert [type(layer) for layer in layers] == 2 * [keras_ae.layers.BatchNormalization]
    assert all(layer.name.startswith("batch_normalization") for layer in layers)
    again = keras.models.clone_model(network)
    again.set_weights(network.get_weights())
    x = np.random.default_rng(0).random((3, 16, 16, 1), dtype="float32")
    np.testing.assert_allclose(*(to_numpy(n(x)) for n in (network, again)), rtol=1e-6)
