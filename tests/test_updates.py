"""Adam's update in one operation is Keras' own, whatever surrounds it."""

import keras
import numpy as np
import pytest
from numerics import to_numpy

import keras_ae
from keras_ae import backend

fused = pytest.mark.skipif(
    backend.BACKEND != "tensorflow", reason="Only TensorFlow's update is fused"
)


@keras.saving.register_keras_serializable("tests")
class OwnAdam(keras.optimizers.Adam):
    """The update of a subclass is left to Keras."""


@keras.saving.register_keras_serializable("tests")
class OwnAdamW(keras.optimizers.AdamW):
    """As above."""


def train(images, optimizer, **options):
    """Returns the losses, the weights and the optimizer's state after 12 steps."""
    keras.utils.set_random_seed(0)
    model = keras_ae.VAE(2, architecture="dense", widths=(8,))
    model.compile(optimizer, **options)
    history = model.fit(images, batch_size=16, epochs=6, verbose=0).history
    variables = (*model.weights, *model.optimizer.variables)
    return history["loss"], [*map(to_numpy, variables)]


def assert_same(mine, theirs):
    # Keras rounds 1 - beta_2, the operation beta_2: they differ by 1e-5 of a step.
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        mine,
        theirs,
    )


@fused
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clipnorm": 0.1, "weight_decay": 0.01},
        {"use_ema": True, "ema_overwrite_frequency": 5, "beta_1": 0.5},
        {"gradient_accumulation_steps": 3, "global_clipnorm": 1.0},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize(
    "Own", [OwnAdam, pytest.param(OwnAdamW, marks=pytest.mark.thorough)]
)
def test_adam(images, monkeypatch, Own, options):
    options = {"learning_rate": 1e-2, "epsilon": 1e-4, **options}
    expected = train(images, Own(**options))

    def refuse(*args):
        raise AssertionError("Keras' own update was taken")

    monkeypatch.setattr(keras.optimizers.Adam, "update_step", refuse)
    assert_same(train(images, Own.__base__(**options)), expected)


@pytest.mark.thorough
@fused
@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}])
def test_however_the_step_is_run(images, options):
    adam = {"learning_rate": 1e-2, "epsilon": 1e-4}
    expected = train(images, OwnAdam(**adam), **options)
    assert_same(train(images, keras.optimizers.Adam(**adam), **options), expected)


@pytest.mark.thorough
@fused
@pytest.mark.parametrize(
    "options", [{"amsgrad": True}, {"loss_scale": 64.0}, {"several": True}]
)
def test_what_is_not_plain(images, options):
    """AMSGrad, scaled losses, a player that sits out steps."""
    options = dict(options)
    scale, several = options.pop("loss_scale", None), options.pop("several", False)

    def run(Optimizer):
        optimizer = Optimizer(1e-2, epsilon=1e-4, **options)
        if several:
            keras.utils.set_random_seed(0)
            model = keras_ae.GAN(2, architecture="dense", widths=(8,), critic_steps=2)
            model.compile(optimizer)
            history = model.fit(images, batch_size=12, epochs=2, verbose=0).history
            return history, [*map(to_numpy, model.weights)]
        if scale:
            optimizer = keras.optimizers.LossScaleOptimizer(
                optimizer, initial_scale=scale
            )
        return train(images, optimizer)

    expected = run(OwnAdam)
    assert_same(run(keras.optimizers.Adam), expected)


@fused
def test_gradients_of_a_few_rows():
    import tensorflow as tf

    found = []
    for Optimizer in (keras.optimizers.Adam, OwnAdam):
        table = keras.Variable(np.ones((4, 2)))
        optimizer = Optimizer(1e-2)
        optimizer.build([table])
        rows = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([2]), (4, 2))
        backend.apply_gradients(optimizer, [rows], [table], None)
        found.append(table.numpy())
    np.testing.assert_allclose(*found)
    assert (found[0] < 1)[2].all() and (found[0] == 1)[[0, 1, 3]].all()
