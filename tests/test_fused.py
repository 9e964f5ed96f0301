"""Many steps in a dispatch, and data that stay on the device, change no result."""

import keras
import numpy as np
import pytest
from numerics import to_numpy

import keras_ae
from keras_ae import autodiff

pytestmark = pytest.mark.skipif(
    autodiff.BACKEND != "jax", reason="only JAX leaves something to do"
)


@pytest.fixture(params=["memory", "device"])
def lying(request, monkeypatch):
    """Where arrays lie: a CPU has no memory of its own."""
    if request.param == "device":
        monkeypatch.setattr(autodiff, "room_for_data", lambda: 10**9)
    return request.param


def train(x, y=None, steps="auto", Model=keras_ae.VAE, **kwargs):
    """Trains; returns the history and the weights."""
    keras.utils.set_random_seed(0)
    model = Model(2, architecture="dense", widths=(8,))
    model.compile(keras.optimizers.Adam(1e-2), steps_per_execution=steps)
    kwargs = {"batch_size": 5, "epochs": 3, "verbose": 0, **kwargs}
    history = model.fit(x, y, **kwargs).history
    return (
        model,
        history,
        [to_numpy(v) for v in (*model.weights, *model.optimizer.variables)],
    )


def assert_same(one, other):
    for mine, theirs in zip(one[1:], other[1:], strict=True):
        keras.tree.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            mine,
            theirs,
        )


@pytest.mark.parametrize("steps", ["auto", 2, 4, 6, 50])
@pytest.mark.parametrize("Model", [keras_ae.VAE, keras_ae.GAN, keras_ae.FactorVAE])
def test_arrays(Model, steps, lying, images):
    held_back = images[:11]
    options = {"Model": Model, "validation_data": held_back}
    fused = train(images, steps=steps, **options)
    assert_same(fused, train(images, steps=1, **options))
    chosen = fused[0].feeding
    assert chosen.data == lying
    assert chosen.steps_per_execution == {"auto": 6}.get(steps, steps)
