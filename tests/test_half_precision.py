"""Layers of one's own network in half precision: what comes in goes out."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ae.models.quantized import quantizers
from keras_ae.nn import layers
from keras_ae.probability import flows

X = np.random.default_rng(0).random((8, 6), dtype="float32")

LAYERS = {
    "GaussianCorruption": lambda dtype: layers.GaussianCorruption(dtype=dtype),
    "MaskingCorruption": lambda dtype: layers.MaskingCorruption(dtype=dtype),
    "SaltAndPepper": lambda dtype: layers.SaltAndPepperCorruption(
        (0, 0.1), dtype=dtype
    ),
    "VectorQuantizer": lambda dtype: quantizers.VectorQuantizer(4, dtype=dtype),
    "by gradient": lambda dtype: quantizers.VectorQuantizer(
        4, codebook="gradient", dtype=dtype
    ),
    "ResidualQuantizer": lambda dtype: quantizers.ResidualQuantizer(2, 4, dtype=dtype),
    "LookupFreeQuantizer": lambda dtype: quantizers.LookupFreeQuantizer(6, dtype=dtype),
    "ScalarQuantizer": lambda dtype: quantizers.ScalarQuantizer([3] * 6, dtype=dtype),
    "KSparse": lambda dtype: layers.KSparse(dtype=dtype),
    "SpectralNormalization": lambda dtype: layers.SpectralNormalization(
        keras.layers.Dense(6, dtype=dtype)
    ),
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_the_dtype_of_what_they_are_given(name, dtype):
    layer = LAYERS[name](dtype)
    x = ops.cast(X, layer.compute_dtype)
    for training in (True, False):
        outputs = layer(x, training=training)
        if isinstance(outputs, dict):
            if training and hasattr(layer, "update"):
                layer.update(outputs)
            outputs = outputs["quantized"]
        assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
        assert np.isfinite(ops.convert_to_numpy(ops.cast(outputs, "float32"))).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
def test_masked_networks_and_boltzmann_machines(dtype):
    network = flows.MaskedNetwork(dtype=dtype)
    for output in network(ops.cast(X, network.compute_dtype)):
        assert keras.backend.standardize_dtype(output.dtype) == network.compute_dtype
    up, down = keras.layers.Dense(3), keras.layers.Dense(6)
    up.build((None, 6))
    down.build((None, 3))
    machine = layers.ContrastiveDivergence(dtype=dtype)
    outputs = machine(ops.cast(X, machine.compute_dtype), up=up, down=down)
    energies = ops.convert_to_numpy(outputs["contrastive_divergence"])
    assert energies.dtype == "float32" and np.isfinite(energies).all()
