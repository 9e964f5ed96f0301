"""Many steps in a dispatch, and data that stay on the device, change no result."""

import keras
import numpy as np
import pytest
from numerics import to_numpy

import keras_ae
from keras_ae import backend
from keras_ae.datasets import Batches
from keras_ae.training import feeding

pytestmark = pytest.mark.skipif(
    backend.BACKEND == "torch", reason="PyTorch takes every step by itself"
)
FEEDS = backend.takes_feeds()


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    """Even epochs of two steps are fused."""
    monkeypatch.setattr(feeding, "FEWEST_STEPS", 2)


@pytest.fixture(params=["memory", "device"])
def lying(request, monkeypatch):
    """Where arrays lie: a CPU has no memory of its own."""
    if request.param == "device":
        if not FEEDS:
            pytest.skip("Keras' own trainer holds the data")
        monkeypatch.setattr(backend, "room_for_data", lambda: 10**9)
    return request.param


def train(x, *args, steps="auto", Model=keras_ae.VAE, **kwargs):
    """Returns the model, and its history, weights and optimizer's state."""
    keras.utils.set_random_seed(0)
    model = Model(2, architecture="dense", widths=(8,))
    model.compile(keras.optimizers.Adam(1e-2), steps_per_execution=steps)
    options = {"epochs": 2, "verbose": 0, **kwargs}
    history = model.fit(x, *args, **options).history
    state = [to_numpy(v) for v in (*model.weights, *model.optimizer.variables)]
    return model, (history, state)


def assert_same(mine, theirs):
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        mine,
        theirs,
    )


def alone(x, *args, **kwargs):
    """What Keras' own loop makes of the same: every step a dispatch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "fuses_steps", lambda model: False)
        return train(x, *args, steps=1, **kwargs)[1]


def test_arrays_with_all_that_fit_takes(images, lying):
    y, weight = np.arange(32), np.linspace(0.5, 2, 32)
    options = {"batch_size": 5, "validation_split": 0.2, "sample_weight": weight}
    expected = alone(images, y, **options)
    # 25 examples are five whole batches.
    for steps, taken in (("auto", 5), (2, 2)):
        model, result = train(images, y, steps=steps, **options)
        assert model.feeding == (taken, lying)
        assert model.steps_per_execution == (1 if steps == "auto" else steps)
        assert_same(result, expected)


@pytest.mark.skipif(not FEEDS, reason="TensorFlow does not log what it compiles")
def test_what_remains_of_an_epoch_is_not_compiled_again(images, lying, caplog):
    import jax

    with jax.log_compiles(), caplog.at_level("WARNING"):
        # Ten whole batches and a short one, in dispatches of 4, 4 and 3.
        model, result = train(images, batch_size=3, steps=4)
    compiled = [r.message for r in caplog.records if "XLA compilation" in r.message]
    assert sum("jit(loop)" in message for message in compiled) == 1
    assert model.feeding == (4, lying)
    assert_same(result, alone(images, batch_size=3))


@pytest.mark.thorough
@pytest.mark.parametrize("Model", [keras_ae.GAN, keras_ae.FactorVAE])
def test_several_players(Model, images, lying):
    options = {"Model": Model, "batch_size": 5, "validation_data": images[:7]}
    assert_same(train(images, **options)[1], alone(images, **options))


@pytest.mark.parametrize("binarize", [False, True])
def test_batches_keep_their_order_and_what_they_draw(images, monkeypatch, binarize):
    draws = not binarize or keras.backend.backend() == "jax"
    lies = "device" if FEEDS and draws else "stream"
    monkeypatch.setattr(backend, "room_for_data", lambda: 10**9)

    labels = np.arange(len(images))

    def data():
        return Batches(images, 5, seed=3, binarize=binarize, targets=labels, epoch=4)

    held_back = Batches(images[:8], 4, shuffle=False)
    options = {"shuffle": False, "validation_data": held_back, "initial_epoch": 1}
    batches = data()
    model, result = train(batches, **options)
    assert model.feeding == (6, lies)
    assert batches.epoch == 5
    assert_same(result, alone(data(), **options))


def test_tensors_stay_where_they_are(images):
    tensor = keras.ops.convert_to_tensor(images)
    model, result = train(tensor, batch_size=8)
    assert model.feeding == (4, "device" if FEEDS else "memory")
    assert_same(result, train(images, batch_size=8)[1])


@pytest.mark.skipif(not FEEDS, reason="JAX's compiler alone is slow at them")
def test_convolutions_are_stepped_through_singly_on_a_cpu(images):
    cpu = "cpu" in keras.distribution.list_devices()[0]
    found = []
    for steps in ("auto", 4):
        keras.utils.set_random_seed(0)
        model = keras_ae.AE(2, architecture="conv", widths=(4,))
        model.compile(keras.optimizers.Adam(1e-2), steps_per_execution=steps)
        model.fit(images, batch_size=8, verbose=0)
        assert model.feeding.steps_per_execution == (
            1 if cpu and steps == "auto" else 4
        )
        found.append(model.get_weights())
    assert_same(*found)


class Unbuilt(keras.layers.Layer):
    def call(self, mean, log_var):
        return mean


def test_a_layer_of_ones_own_is_built_before_it_is_trained(images):
    model = keras_ae.VAE(2, architecture="dense", widths=(8,))
    model.sampling = Unbuilt()
    model.fit(images, batch_size=8, verbose=0)
    assert model.feeding.steps_per_execution == 4


class Sequence(keras.utils.PyDataset):
    """Batches of two sizes, one of them in the middle."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return self.images[4 * index : 4 * index + (3 if index == 2 else 4)]


def test_data_sets(images):
    def endless():
        while True:
            yield from (images[start : start + 4] for start in range(0, 32, 4))

    for data, options, taken in (
        (lambda: Sequence(images), {"shuffle": False}, 7),
        (endless, {"steps_per_epoch": 6}, 1),
    ):
        model, result = train(data(), **options)
        assert model.feeding == (taken, "stream")
        assert_same(result, alone(data(), **options))
        if options.get("steps_per_epoch"):
            assert_same(train(data(), steps=3, **options)[1], result)


def test_data_whose_end_is_not_known(images, monkeypatch):
    # Of a generator it would be the mean of the first batch.
    monkeypatch.setattr(keras_ae.VAE, "starts_at_mean", False)

    def batches():
        yield from (images[start : start + 5] for start in range(0, 32, 5))

    _, expected = train(images, batch_size=5, epochs=1, shuffle=False)
    for steps in (1, 3):
        with pytest.warns(UserWarning, match="ran out of data"):
            model, result = train(batches(), steps=steps, epochs=1)
        assert_same(result, expected)
        assert int(model.optimizer.iterations) == 7


def test_an_evaluation_after_fit(images):
    model, _ = train(images, batch_size=4)
    assert model.feeding.steps_per_execution == 8
    expected = model.evaluate(images, batch_size=32, verbose=0)
    for batch_size in (4, 5):
        found = model.evaluate(images, batch_size=batch_size, verbose=0)
        # Other noise is drawn.
        np.testing.assert_allclose(found, expected, rtol=0.1)


def test_no_step_more_than_wanted(images):
    model, (history, _) = train(Sequence(images), steps_per_epoch=3, shuffle=False)
    assert model.feeding.steps_per_execution == 3
    assert int(model.optimizer.iterations) == 6


class Count(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        assert np.isfinite(logs["loss"])
        self.batches.append(batch)


def test_callbacks_of_batches_are_called_as_keras_does(images, tmp_path):
    count = Count()
    model, _ = train(images, batch_size=4, epochs=1, callbacks=[count])
    assert count.batches == [*range(8)]
    count = Count()
    train(images, batch_size=4, epochs=1, callbacks=[count], steps=3)
    assert count.batches == [2, 5, 8]
    each_epoch = [
        keras_ae.callbacks.Interrupt(),
        keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"),
    ]
    model, _ = train(images, batch_size=4, epochs=1, callbacks=each_epoch)
    assert model.feeding.steps_per_execution == 8


class Counting(keras.callbacks.ModelCheckpoint):
    """Keras' own, with something to do at each batch."""

    def __init__(self, path):
        super().__init__(path)
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)


def test_callbacks_derived_from_those_of_epochs_see_each_batch(images, tmp_path):
    counting = Counting(tmp_path / "model.keras")
    train(images, batch_size=4, epochs=1, callbacks=[counting])
    assert counting.batches == [*range(8)]


def test_a_callback_can_evaluate_and_predict(images):
    found = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            reconstructions = self.model.predict(images, batch_size=4, verbose=0)
            scores = self.model.evaluate(images, batch_size=4, verbose=0)
            found.append((reconstructions, scores))

    model, _ = train(images, batch_size=4, epochs=1, callbacks=[Look()])
    assert model.feeding.steps_per_execution == 8
    reconstructions, _ = found[0]
    assert reconstructions.shape == images.shape
    np.testing.assert_allclose(reconstructions, model.reconstruct(images), atol=1e-5)


def test_a_step_at_a_time_where_nothing_is_compiled(images):
    keras.utils.set_random_seed(0)
    model = keras_ae.AE(2, architecture="dense", widths=(8,))
    model.compile(run_eagerly=True)
    model.fit(images, verbose=0)
    assert model.feeding == (1, "memory")


def test_steps_are_a_number_or_auto():
    with pytest.raises(ValueError, match="`steps_per_execution` must be"):
        keras_ae.AE(2).compile(steps_per_execution=0)
