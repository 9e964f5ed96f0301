"""Sparsity against NumPy: KL of batch and running average, L1, k-sparse."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import gradient, to_numpy

import keras_ae
from keras_ae.nn.layers import KLSparsity, KSparse, L1Sparsity


def kl(target, mean):
    return np.sum(
        target * np.log(target / mean)
        + (1 - target) * np.log((1 - target) / (1 - mean))
    )


@pytest.fixture
def activations():
    return np.random.default_rng(0).uniform(0.02, 0.9, (6, 4)).astype("float32")


def test_kl_of_the_batch(activations):
    penalty = to_numpy(KLSparsity(weight=2.0, target=0.1).penalty(activations))
    expected = 2.0 * kl(0.1, activations.astype("float64").mean(axis=0))
    np.testing.assert_allclose(penalty, np.full(6, expected), rtol=1e-4)


def test_kl_gradient(activations):
    layer = KLSparsity(weight=2.0, target=0.1)
    found = gradient(lambda z: layer.penalty(z)[:1], activations)
    mean = activations.astype("float64").mean(axis=0)
    slope = 2.0 * (-0.1 / mean + 0.9 / (1 - mean)) / len(activations)
    np.testing.assert_allclose(found, np.tile(slope, (6, 1)), rtol=1e-4)


def test_kl_of_a_running_average(activations):
    layer = KLSparsity(weight=1.0, target=0.2, momentum=0.75)
    layer.build((None, 4))
    running = np.full(4, 0.2)
    for step in range(3):
        batch = activations * (1 - 0.2 * step)
        mean = batch.astype("float64").mean(axis=0)
        running = 0.75 * running + 0.25 * mean
        penalty = to_numpy(layer.penalty(ops.convert_to_tensor(batch), training=True))
        np.testing.assert_allclose(penalty, np.full(6, kl(0.2, running)), rtol=1e-3)
    for _ in range(2):
        held_back = to_numpy(layer.penalty(activations, training=False))
        np.testing.assert_allclose(held_back, np.full(6, kl(0.2, running)), rtol=1e-3)


def test_gradient_of_a_running_average_is_that_of_the_batch(activations):
    def slope(momentum, mean):
        layer = KLSparsity(weight=1.0, target=0.2, momentum=momentum)
        layer.build((None, 4))
        layer.running_mean.assign(mean)
        # The average must not move, or the gradient could not assign it on JAX.
        layer.running_mean.assign = lambda value: None
        return gradient(lambda z: layer.penalty(z, training=True)[:1], activations)

    mean = activations.mean(axis=0)
    batch = gradient(
        lambda z: KLSparsity(weight=1.0, target=0.2).penalty(z)[:1], activations
    )
    np.testing.assert_allclose(slope(0.9, mean), batch, rtol=1e-4)


def test_dead_and_always_active_units_are_pulled_back():
    z = np.array([[0.0, 1.0], [0.0, 1.0]], "float32")
    layer = KLSparsity()
    assert np.isfinite(to_numpy(layer.penalty(z))).all()
    slope = gradient(layer.penalty, z)
    assert np.isfinite(slope).all()
    assert (slope[:, 0] < 0).all() and (slope[:, 1] > 0).all()
    assert (gradient(lambda x: layer.penalty(layer(x)), z - 15) < 0).all()


def test_l1():
    layer = L1Sparsity(weight=0.5)
    x = np.array([[-1.0, 2.0, 0.5], [3.0, -4.0, 0.0]], "float32")
    z = layer(x)
    np.testing.assert_allclose(to_numpy(z), np.maximum(x, 0))
    np.testing.assert_allclose(to_numpy(layer.penalty(z)), [1.25, 1.5])


def test_k_sparse_keeps_the_largest():
    x = np.random.default_rng(0).normal(size=(5, 9)).astype("float32")
    z = to_numpy(KSparse(3)(x))
    for row, kept in zip(x, z, strict=True):
        largest = np.argsort(row)[-3:]
        expected = np.zeros(9)
        expected[largest] = row[largest]
        np.testing.assert_array_equal(kept, expected.astype("float32"))
    np.testing.assert_array_equal(to_numpy(KSparse(20)(x)), x)


def test_sparsity_holds_activations_to_the_target(images):
    model = keras_ae.SparseAE(
        20, architecture="linear", sparsity=KLSparsity(5.0, target=0.15)
    )
    model.compile(keras.optimizers.Adam(2e-2))
    history = model.fit(images, epochs=60, verbose=0).history
    assert abs(history["mean_activation"][-1] - 0.15) < 0.03
    assert abs(model.encode(images).mean() - 0.15) < 0.03


def test_logged_activity_is_that_of_the_codes(images):
    model = keras_ae.SparseAE(
        12, architecture="linear", sparsity="k_sparse", image_shape=(12, 10, 1)
    )
    scores = model.evaluate(images, batch_size=32, verbose=0, return_dict=True)
    z = model.encode(images)
    np.testing.assert_allclose(scores["mean_activation"], z.mean(), rtol=1e-4)
    dead = np.mean(np.abs(z).max(axis=0) < 0.01)
    np.testing.assert_allclose(scores["dead_units"], dead, atol=1e-6)
    assert model.term_names == ("reconstruction",)


def test_a_sparsity_layer_can_serve_several_models(images):
    sparsity = KLSparsity(momentum=0.9)
    for units in (5, 7):
        model = keras_ae.SparseAE(units, architecture="linear", sparsity=sparsity)
        model.fit(images, verbose=0)
        assert model.encode(images).shape == (32, units)
    assert not sparsity.built


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KLSparsity(weight=-1), "`weight` must be >= 0. Received: weight=-1"),
        (lambda: KLSparsity(target=0), "`target` must be within 0 and 1"),
        (lambda: KLSparsity(target=1.0), "`target` must be within 0 and 1"),
        (lambda: KLSparsity(momentum=1.0), "`momentum` must be None or"),
        (lambda: L1Sparsity(weight="a"), "`weight` must be"),
        (lambda: KSparse(0), "`k` must be an integer >= 1"),
        (lambda: keras_ae.SparseAE(sparsity="l2"), "`sparsity` must be 'kl'.*'l2'"),
        (lambda: keras_ae.SparseAE(sparsity=["kl"]), "`sparsity` must be"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
