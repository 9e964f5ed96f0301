"""Layers that a backend computes in a way of its own give what Keras' give."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae import backend
from keras_ae.nn import networks


def trained(Layer, x, **options):
    """Returns the outputs, the averages, the gradients and those of a penalty."""
    layer = Layer(momentum=0.9, **options)
    layer.build((None, *x.shape[1:]))
    layer.gamma.assign(np.linspace(0.5, 2, x.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, x.shape[-1]))
    x = ops.convert_to_tensor(x)

    def slope(x):
        return backend.gradient(lambda x: ops.sin(layer(x, training=True)), x)

    found = [
        layer(x, training=True),
        layer(x, training=True),
        layer(x, training=False),
        slope(x),
        backend.gradient(lambda x: ops.square(slope(x)), x),
        layer.moving_mean,
        layer.moving_variance,
    ]
    return [to_numpy(ops.cast(part, "float32")) for part in found]


@pytest.mark.parametrize("shape", [(5, 4, 3, 6), (7, 1, 1, 2), (3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "float64"])
def test_as_keras(shape, dtype):
    if backend.BACKEND == "jax":
        pytest.skip("JAX takes Keras' own")
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, shape).astype("float32")
    layers = (keras_ae.layers.BatchNormalization, keras.layers.BatchNormalization)
    mine, theirs = (trained(Layer, x, dtype=dtype) for Layer in layers)
    # bfloat16 keeps eight bits, and the outputs are rounded to it.
    tolerance = 0.05 if dtype == "mixed_bfloat16" else 1e-4
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
    np.testing.assert_allclose(
        *(to_numpy(n(x)) for n in (network, again)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kernel_size", [3, (1, 4), (2, 5)])
def test_one_filter_as_keras(kernel_size):
    rng = np.random.default_rng(0)
    x = ops.convert_to_tensor(rng.normal(size=(3, 7, 6, 5)).astype("float32"))
    found = []
    for Layer in (keras_ae.layers.Conv2D, keras.layers.Conv2D):
        keras.utils.set_random_seed(0)
        layer = Layer(1, kernel_size, padding="same", data_format="channels_last")
        layer.build(x.shape)
        kernel = layer.kernel.value

        def total(kernel, layer=layer):
            return ops.sin(layer.convolution_op(x, kernel))

        def slope(x, layer=layer):
            return backend.gradient(lambda x: ops.sin(layer(x)), x)

        found.append(
            [
                layer(x),
                backend.gradient(total, kernel),
                slope(x),
                backend.gradient(lambda x, slope=slope: ops.square(slope(x)), x),
            ]
        )
    for mine, theirs in zip(*found, strict=True):
        mine, theirs = to_numpy(mine), to_numpy(theirs)
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
