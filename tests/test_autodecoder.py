"""Auto-decoders: whose codes move, searches against ridge regression, missing values.

The contract of all models is in test_contract.py.
"""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae import backend
from keras_ae.datasets import Batches
from keras_ae.probability.likelihoods import Gaussian

SMALL = {
    "latent_dim": 2,
    "architecture": "dense",
    "widths": (8,),
    "activation": "tanh",
}
COUNT = 32


def make(**options):
    keras.utils.set_random_seed(1)
    return keras_ae.AutoDecoder(**{**SMALL, **options})


def fit(model, x, epochs=2, **options):
    options = {"batch_size": 8, "verbose": 0, **options}
    return model.fit(x, epochs=epochs, **options).history


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((COUNT, 5), dtype="float32")


@pytest.fixture(scope="module")
def new():
    return np.random.default_rng(7).random((6, 5), dtype="float32")


@pytest.fixture(scope="module")
def observed():
    """Which of 32 examples' values were observed, one at least of each."""
    observed = np.random.default_rng(1).random((COUNT, 5)) < 0.6
    observed[:, 2] = True
    return observed


@pytest.fixture(scope="module")
def saved(x, tmp_path_factory):
    """Where a model lies that has trained for five epochs."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model = make()
    fit(model, x, epochs=5)
    model.save(path)
    return path


@pytest.fixture
def trained(saved):
    return keras.saving.load_model(saved)


@pytest.fixture(scope="module")
def refusing(saved):
    """The same for tests that leave it as it is."""
    return keras.saving.load_model(saved)


def state(table):
    names = ("rows", "first_moments", "second_moments", "steps")
    return {
        name: np.array(ops.convert_to_numpy(getattr(table, name))) for name in names
    }


def values(variables):
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def assert_same(before, after):
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


# Training


@pytest.mark.parametrize("codes", [None, keras.optimizers.SGD])
def test_a_step_moves_the_codes_of_its_batch_only(x, codes):
    model = make()
    model.compile({} if codes is None else {"codes": codes(0.1)})
    fit(model, x, epochs=1)
    for batch in ([3, 17, 30], [17, 0, 31], [31, 17, 2]):
        before = state(model.table)
        model.train_on_batch(x[batch], sample_ids=batch)
        others = np.setdiff1d(np.arange(COUNT), batch)
        for name, value in state(model.table).items():
            np.testing.assert_array_equal(value[others], before[name][others], name)
            if codes is None or name == "rows":
                assert (value[batch] != before[name][batch]).all()
    assert int(model.optimizer["codes"].iterations) == COUNT / 8 + 3


def numpy_loss(arrays, x, codes, code_weight):
    """Loss of a decoder of one hidden layer, of the arrays of its weights."""
    kernel, bias, last_kernel, last_bias = arrays
    mean = np.tanh(codes @ kernel + bias) @ last_kernel + last_bias
    nll = np.sum(0.5 * (x - mean) ** 2 + 0.5 * np.log(2 * np.pi), axis=1)
    return np.mean(nll + 0.5 * code_weight * np.sum(codes**2, axis=1))


def slope(function, array, step=1e-5):
    """Gradient by central differences, in float64."""
    result = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        moved = [array.copy(), array.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        result[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return result


def test_a_step_follows_the_gradients_of_decoder_and_codes(x):
    model = make(image_shape=(5,), code_weight=0.7)
    model.compile(
        {"decoder": keras.optimizers.SGD(1.0), "codes": keras.optimizers.SGD(0.0)}
    )
    fit(model, x[:4], epochs=1, batch_size=4)
    model.table.rows.assign(np.random.default_rng(0).normal(size=(4, 2)))
    model.optimizer["codes"].learning_rate = 1.0
    arrays = [np.float64(array) for array in values(model.decoder.trainable_weights)]
    codes = np.float64(model.codes())
    logs = model.train_on_batch(x[:4], return_dict=True)
    np.testing.assert_allclose(
        logs["loss"], numpy_loss(arrays, x[:4], codes, 0.7), rtol=1e-5
    )
    gradient = slope(lambda codes: numpy_loss(arrays, x[:4], codes, 0.7), codes)
    np.testing.assert_allclose(model.codes(), codes - gradient, atol=1e-5)
    for index, weight in enumerate(model.decoder.trainable_weights):

        def loss(array, index=index):
            moved = [*arrays[:index], array, *arrays[index + 1 :]]
            return numpy_loss(moved, x[:4], codes, 0.7)

        expected = arrays[index] - slope(loss, arrays[index])
        np.testing.assert_allclose(to_numpy(weight), expected, atol=1e-5)


def test_codes_follow_plain_adam_on_their_own_gradients(x):
    """With a linear decoder that stays, a code's gradients are known."""
    model, kernel, bias = linear(code_weight=0.3)
    codes_optimizer = keras.optimizers.Adam(0.05, beta_2=0.99)
    model.compile({"decoder": keras.optimizers.SGD(0.0), "codes": codes_optimizer})
    model.train_on_batch(x)
    start = state(model.table)
    z, first, second = (
        np.float64(start[name]) for name in ("rows", "first_moments", "second_moments")
    )
    steps = start["steps"].copy()
    for batch in ([0, 5], [5, 9], [7, 0], [11, 5]):
        gradient = (z[batch] @ kernel + bias - x[batch]) @ kernel.T + 0.3 * z[batch]
        gradient /= len(batch)
        steps[batch] += 1
        first[batch] = 0.9 * first[batch] + 0.1 * gradient
        second[batch] = 0.99 * second[batch] + 0.01 * gradient**2
        unbiased = first[batch] / (1 - 0.9 ** steps[batch])[:, None]
        variance = second[batch] / (1 - 0.99 ** steps[batch])[:, None]
        z[batch] -= 0.05 * unbiased / (np.sqrt(variance) + 1e-7)
        model.train_on_batch(x[batch], sample_ids=batch)
        np.testing.assert_allclose(model.codes(), z, atol=2e-5)
    np.testing.assert_array_equal(
        state(model.table)["steps"][[0, 5, 9, 1]], [3, 4, 2, 1]
    )


def test_sample_weights_weigh(x):
    weight = np.random.default_rng(0).random(COUNT).astype("float32")
    weight[3] = 0.0
    codes = []
    for given in (None, weight):
        model = make(image_shape=(5,))
        model.compile(
            {"decoder": keras.optimizers.SGD(0.0), "codes": keras.optimizers.SGD(0.0)}
        )
        fit(model, x, epochs=1)
        start = model.codes()
        model.optimizer["codes"].learning_rate = 10.0
        fit(model, x, epochs=1, sample_weight=given)
        codes.append(model.codes() - start)
    assert np.abs(codes[0]).max() > 1e-2
    np.testing.assert_allclose(codes[1], weight[:, None] * codes[0], atol=1e-5)


class Labelled(keras.utils.PyDataset):
    """Batches of examples, labels and, where there are any, weights."""

    def __init__(self, x, labels, weight=None, batch_size=8):
        super().__init__()
        self.arrays = (x, labels) if weight is None else (x, labels, weight)
        self.batch_size = batch_size

    def __len__(self):
        return len(self.arrays[0]) // self.batch_size

    def __getitem__(self, index):
        start = index * self.batch_size
        return tuple(array[start : start + self.batch_size] for array in self.arrays)


def codes_after(method, *args, **options):
    """Codes of a new model that has learned by a method, in an order that is given."""
    model = make(image_shape=(5,))
    if method == "fit":
        options = {"epochs": 2, "verbose": 0, "shuffle": False, **options}
    getattr(model, method)(*args, **options)
    return model.codes()


def test_classes_weigh_their_samples(x):
    labels = np.arange(COUNT) % 3
    given = {0: 1.0, 1: 20.0}
    weight = np.array([1.0, 20.0, 1.0], "float32")[labels]
    expected = codes_after("fit", x, batch_size=8, sample_weight=weight)
    plain = codes_after("fit", x, batch_size=8)
    assert np.abs(expected - plain).max() > 1e-2
    for y in (labels, labels.tolist(), labels[:, None], np.eye(3)[labels]):
        found = codes_after("fit", x, y, batch_size=8, class_weight=given)
        np.testing.assert_array_equal(found, expected)
    found = codes_after("fit", Labelled(x, labels), class_weight=given)
    np.testing.assert_array_equal(found, expected)


def test_classes_do_not_weigh_what_is_held_back(x):
    labels = np.arange(COUNT) % 3
    options = {"epochs": 2, "batch_size": 8, "verbose": 0, "class_weight": {1: 20.0}}
    split = make().fit(x, labels, validation_split=0.25, **options).history
    held_back = {"validation_data": x[24:]}
    assert split == make().fit(x[:24], labels[:24], **held_back, **options).history


def test_classes_weigh_a_single_batch(x):
    labels = np.arange(COUNT) % 3
    weight = np.where(labels == 1, 20.0, 1.0).astype("float32")
    expected = codes_after("train_on_batch", x, sample_weight=weight)
    found = codes_after("train_on_batch", x, labels, class_weight={1: 20.0})
    np.testing.assert_array_equal(found, expected)


def test_weights_in_a_data_set_weigh(x):
    plain = codes_after("fit", x, batch_size=8)
    weight = np.linspace(0.2, 3.0, COUNT).astype("float32")
    of_values = np.random.default_rng(0).random(x.shape, dtype="float32")
    for given in (weight, of_values):
        found = codes_after("fit", Labelled(x, np.zeros(COUNT), given))
        expected = codes_after("fit", x, batch_size=8, sample_weight=given)
        np.testing.assert_array_equal(found, expected)
        assert np.abs(plain - expected).max() > 1e-3


def test_weights_of_new_samples_weigh(x, new, saved):
    weight = np.linspace(0.2, 9.0, 6).astype("float32")
    losses = []
    for data in (Labelled(new, np.zeros(6), weight, 3), new):
        model = keras.saving.load_model(saved)
        seen = keras.callbacks.History()
        model.extend(data, epochs=1, replay=0.5, callbacks=[seen], verbose=0)
        losses.append(seen.history["loss"][0])
    assert losses[0] > 1.2 * losses[1]


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        (None, {"class_weight": {1: 2.0}}, "needs labels `y`.* Received: no labels"),
        (
            np.full(COUNT, "a"),
            {"class_weight": {1: 2.0}},
            "needs labels `y`.* Received: labels of dtype <U1",
        ),
        (
            np.zeros(COUNT, int),
            {"class_weight": {1: 2.0}, "sample_weight": np.ones(COUNT)},
            "must be None where `sample_weight` weighs",
        ),
        (np.zeros(COUNT, int), {"class_weight": {1: -2.0}}, "finite weights >= 0"),
    ],
)
def test_bad_weights_of_classes(x, labels, arguments, message):
    with pytest.raises(ValueError, match=message):
        make().fit(x, labels, verbose=0, **arguments)


def test_weights_that_have_no_place_are_refused(x):
    labels = np.zeros(COUNT, int)
    with pytest.raises(ValueError, match="needs an array.* Received: a Batches"):
        make().fit(Batches(x, 8, targets=labels), class_weight={1: 2.0}, verbose=0)
    data = Labelled(x, labels, np.ones(COUNT))
    with pytest.raises(ValueError, match="must be None beside a data set that gives"):
        make().fit(data, sample_weight=np.ones(COUNT), verbose=0)


class Numbered(keras.utils.PyDataset):
    """Batches of eight, with labels to ignore."""

    def __init__(self, x, endless=False):
        super().__init__()
        self.x, self.endless = x, endless

    def __len__(self):
        return len(self.x) // 8

    @property
    def num_batches(self):
        return None if self.endless else len(self)

    def __getitem__(self, index):
        index %= len(self)
        return self.x[8 * index : 8 * index + 8], np.zeros(8)


def as_kind(kind, x, folder):
    if kind == "memmap":
        np.save(folder / "x.npy", x)
        return np.load(folder / "x.npy", mmap_mode="r"), {"batch_size": 8}
    if kind == "batches":
        return Batches(x, 8, shuffle=True, seed=5), {"shuffle": False}
    if kind == "pydataset":
        return Numbered(x), {}
    if kind == "tf.data":
        if keras.backend.backend() != "tensorflow":
            pytest.skip("tf.data is tested on TensorFlow")
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((x, x)).batch(8), {}
    return x, {"batch_size": 8}


@pytest.mark.once
@pytest.mark.parametrize("kind", ["array", "memmap", "batches", "pydataset", "tf.data"])
def test_samples_are_numbered_alike_in_data_of_any_kind(x, tmp_path, kind):
    """Only the order in which a code meets the others may differ: it hears none."""
    model, kernel, bias = linear(code_weight=0.3)
    model.compile(
        {"decoder": keras.optimizers.SGD(0.0), "codes": keras.optimizers.SGD(0.4)}
    )
    x = 5 * x
    data, options = as_kind(kind, x, tmp_path)
    history = model.fit(data, epochs=3, verbose=0, **options).history
    z = model._start_rows(x) * 0
    for _ in range(3):
        z -= 0.4 / 8 * ((z @ kernel + bias - x) @ kernel.T + 0.3 * z)
    np.testing.assert_array_equal(model.sample_ids, np.arange(COUNT))
    # The codes start near 0, not quite there.
    np.testing.assert_allclose(model.codes(), z, atol=0.05)
    assert np.std(z, axis=0).min() > 0.3
    assert history["loss"][-1] < history["loss"][0]
    assert int(model.optimizer["codes"].iterations) == 3 * COUNT / 8


def test_batches_are_of_the_epoch_that_they_would_be_of(x):
    batches = Batches(x, 8, seed=5)
    fit(make(), batches, epochs=2, batch_size=None, shuffle=False)
    assert batches.epoch == 2
    assert batches.targets is None


def test_further_epochs_may_be_on_a_part(x, trained):
    model = trained
    before = state(model.table)
    part = np.array([7, 2, 20])
    fit(model, x[part], sample_ids=part)
    others = np.setdiff1d(np.arange(COUNT), part)
    after = state(model.table)
    np.testing.assert_array_equal(after["rows"][others], before["rows"][others])
    np.testing.assert_array_equal(after["steps"][part], before["steps"][part] + 2)


@pytest.mark.once
def test_validation_split_holds_back_the_end(x, trained):
    weight = np.linspace(0.5, 2.0, COUNT).astype("float32")
    model = make()
    mine = fit(model, x, validation_split=0.25, sample_weight=weight)
    np.testing.assert_array_equal(model.sample_ids, np.arange(24))
    theirs = fit(
        make(),
        x[:24],
        validation_data=(x[24:], None, weight[24:]),
        sample_weight=weight[:24],
    )
    assert mine == theirs
    ids = np.arange(32)[::-1]
    model = trained
    before = state(model.table)["steps"]
    fit(model, x[ids], epochs=1, sample_ids=ids, validation_split=0.25)
    moved = state(model.table)["steps"] - before
    np.testing.assert_array_equal(moved, np.arange(32) >= 8)


def test_weights_beside_a_memory_map(x, tmp_path):
    weight = np.linspace(0.5, 2.0, COUNT).astype("float32")
    mapped, options = as_kind("memmap", x, tmp_path)
    options = {**options, "shuffle": False, "sample_weight": weight}
    assert fit(make(), mapped, **options) == fit(make(), x, **options)


def test_evaluation_searches(x, observed, trained):
    model = trained
    x = np.where(observed, x, np.float32("nan"))[:8]
    logs = model.evaluate(x, verbose=0, return_dict=True)
    found = model.infer(x)
    np.testing.assert_allclose(logs["mse"], found.error.mean(), rtol=1e-3)
    penalty = 0.5 * 1e-2 * np.sum(found.codes**2, axis=1).mean()
    np.testing.assert_allclose(logs["code_penalty"], penalty, rtol=1e-3)
    np.testing.assert_allclose(logs["loss"], logs["reconstruction"] + penalty, 1e-3)


# Refusals


def test_data_without_an_end_are_refused(x, refusing):
    def generator():
        while True:
            yield x[:8]

    endless = [Numbered(x, endless=True)]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        endless.append(tf.data.Dataset.from_tensor_slices(x).batch(8).repeat())
    for verb in (make().fit, refusing.fit, refusing.extend):
        with pytest.raises(ValueError, match="AutoDecoder reads.*a generator, which"):
            verb(generator())
        for data in endless:
            with pytest.raises(ValueError, match="AutoDecoder reads.*without an end"):
                verb(data)
    assert refusing.table.count == COUNT


def test_other_samples_are_refused(x, refusing):
    model = refusing
    before = state(model.table)
    for call, message in (
        (lambda: model.fit(x[:9]), "codes of 32 samples. Received: 9 examples; pass"),
        (lambda: model.train_on_batch(x[:9]), "32 samples. Received: 9 examples"),
        (lambda: model.fit(x, sample_ids=[1, 2]), "one id an example. Received: 2 for"),
        (lambda: model.fit(x[:1], sample_ids=[32]), r"sample_ids.*Received: \[32\]"),
        (lambda: model.fit(x[:2], sample_ids=[5, 5]), r"\[5\] more than once"),
        (lambda: model.codes([40]), r"Received: \[40\]"),
        (lambda: model.remove([1, 40]), r"Received: \[40\]"),
        (lambda: model.remove(np.arange(32)), "leave a sample. Received: all 32"),
        (lambda: model.fit(Batches(x, 8), validation_split=0.5), "needs an array"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for name, value in state(model.table).items():
        np.testing.assert_array_equal(value, before[name])


def test_what_needs_samples_is_refused_before_fit(x):
    for model, message in (
        (make(), "must know its `image_shape` before"),
        (make(image_shape=(5,)), "must have learnt samples before .*call `fit` first"),
    ):
        for call in (
            lambda model=model: model.extend(x),
            lambda model=model: model.remove([0]),
            lambda model=model: model.codes(),
            lambda model=model: model.sample_ids,
            lambda model=model: model.sample(3),
        ):
            with pytest.raises(ValueError, match=message):
                call()
    for verb in ("fit", "train_on_batch"):
        with pytest.raises(ValueError, match="learnt samples before `sample_ids`"):
            getattr(make(), verb)(x, sample_ids=np.arange(COUNT))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code_weight": -1.0}, "`code_weight` must be >= 0. Received: code_weight=-1"),
        ({"search_steps": 0}, "`search_steps` must be an integer >= 1"),
        ({"encoder": None}, "`encoder` must be left out: there is none"),
        ({"decoder": 3, "image_shape": (5,)}, "`decoder` must be a Keras model"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_optimizers_are_of_decoder_and_codes():
    model = make(image_shape=(5,))
    model.compile(keras.optimizers.RMSprop(0.5))
    assert isinstance(model.optimizer["decoder"], keras.optimizers.RMSprop)
    assert isinstance(model.optimizer["codes"], keras.optimizers.Adam)
    with pytest.raises(ValueError, match="of 'codes' must be Keras' Adam or SGD"):
        model.compile({"codes": keras.optimizers.RMSprop()})
    with pytest.raises(ValueError, match="players decoder, codes.*for encoder"):
        model.compile({"encoder": "adam"})


def test_several_devices_are_refused(x, monkeypatch):
    monkeypatch.setattr(backend, "replicas", lambda model: 2)
    with pytest.raises(
        ValueError, match="AutoDecoder trains on one device.*2 replicas"
    ):
        fit(make(), x)


# Searches


def linear(**options):
    """A model with a decoder z @ kernel + bias."""
    rng = np.random.default_rng(3)
    kernel, bias = rng.normal(size=(2, 5)), rng.normal(size=5)
    options = {"likelihood": Gaussian(1.0), "image_shape": (5,), **options}
    model = make(architecture="linear", widths=None, **options)
    model.decoder.set_weights([kernel, bias])
    return model, kernel, bias


def ridge(kernel, bias, x, weight, observed):
    """Codes of the least penalised squared error of what was observed."""
    codes = []
    for values, known in zip(x, observed, strict=True):
        seen = kernel[:, known]
        normal = seen @ seen.T + weight * np.eye(len(kernel))
        codes.append(np.linalg.solve(normal, seen @ (values - bias)[known]))
    return np.array(codes)


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_encode_finds_the_solution_of_ridge_regression(x, observed, fitted, masked):
    model, kernel, bias = linear(code_weight=0.5)
    if fitted:
        model.compile({"decoder": keras.optimizers.SGD(0.0)})
        fit(model, x, epochs=20)
    known = observed if masked else np.ones_like(observed)
    found = model.infer(x, mask=known if masked else None, steps=500)
    expected = ridge(kernel, bias, x, 0.5, known)
    np.testing.assert_allclose(found.codes, expected, atol=2e-3)
    restored = expected @ kernel + bias
    error = np.sum(known * (restored - x) ** 2, axis=1) / known.sum(axis=1)
    np.testing.assert_allclose(found.error, error, rtol=1e-2, atol=1e-4)
    assert found.converged.all()
    few = {"mask": known if masked else None, "steps": 5}
    codes = model.infer(x, **few).codes
    np.testing.assert_array_equal(model.encode(x, **few), codes)
    np.testing.assert_allclose(
        model.reconstruct(x, **few), codes @ kernel + bias, rtol=1e-5, atol=1e-5
    )


def test_a_search_tells_whether_it_came_to_rest(x):
    model, kernel, bias = linear()
    # Far from 0, where the search starts.
    x = (4 * np.sign(x[:, :2] - 0.5) @ kernel + bias).astype("float32")
    assert not model.infer(x, steps=2).converged.any()
    assert model.infer(x, steps=300).converged.all()


def test_codes_do_not_depend_on_the_rest_of_the_batch(x, observed, trained):
    model = trained
    whole = model.infer(x, mask=observed)
    parts = model.infer(x, mask=observed, batch_size=5)
    np.testing.assert_allclose(parts.codes, whole.codes, atol=1e-3)
    np.testing.assert_allclose(parts.error, whole.error, rtol=1e-2, atol=1e-4)


class Curve(keras.layers.Layer):
    """A curve that comes near itself: two codes for about the same example."""

    def call(self, z):
        return ops.concatenate([ops.sin(3 * z), ops.cos(2 * z), 0.1 * z], axis=1)

    def compute_output_shape(self, shape):
        return (shape[0], 3)


def test_restarts_never_end_worse():
    decoder = keras.Sequential([keras.Input((1,)), Curve()])
    model = make(latent_dim=1, decoder=decoder, image_shape=(3,), code_weight=0.01)
    rng = np.random.default_rng(1)
    z = np.linspace(-3, 3, COUNT)[:, None].astype("float32")
    fit(model, np.zeros((COUNT, 3), "float32"), epochs=1)
    model.table.rows.assign(z)
    x = to_numpy(decoder(rng.uniform(-3, 3, (COUNT, 1)))).astype("float32")
    x += 0.1 * rng.normal(size=x.shape)

    def objective(**options):
        found = model.infer(x, steps=200, learning_rate=0.1, **options)
        error = np.sum((to_numpy(decoder(found.codes)) - x) ** 2, axis=1)
        np.testing.assert_allclose(found.error, error / 3, rtol=1e-3, atol=1e-5)
        return 0.5 * error + 0.005 * found.codes[:, 0] ** 2

    one, several = objective(candidates=4), objective(candidates=4, restarts=4)
    assert (several <= one + 1e-4).all()
    assert (several < one - 1e-2).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "`steps` must be an integer >= 1. Received: steps=0"),
        ({"restarts": 0}, "`restarts` must be an integer >= 1"),
        ({"restarts": 5, "candidates": 4}, "`candidates` must be an integer >= 5"),
        ({"restarts": 33}, "number of training samples, 32. Received: restarts=33"),
        ({"learning_rate": 0}, "`learning_rate` must be > 0"),
        ({"batch_size": 0}, "`batch_size` must be"),
    ],
)
def test_bad_searches(x, refusing, arguments, message):
    with pytest.raises(ValueError, match=message):
        refusing.infer(x, **arguments)


# Missing values


def test_a_mask_and_nan_are_the_same_and_what_is_masked_does_not_matter(
    x, observed, trained
):
    results = []
    for data, mask in (
        (x, observed),
        (np.where(observed, x, np.float32(-50.0)), observed.astype("uint8")),
        (np.where(observed, x, np.float32("nan")), None),
    ):
        model = make(likelihood="gaussian")
        history = fit(model, data, epochs=3, mask=mask)
        found = trained.infer(data, mask=mask, steps=5)
        results.append((history, model.codes(), *found))
    for result in results[1:]:
        assert result[0] == results[0][0]
        assert_same(result[1:], results[0][1:])
    assert np.isfinite(results[0][0]["loss"]).all()


def test_what_was_observed_matters(x, observed, trained):
    codes = trained.encode(x, mask=observed, steps=5)
    others = trained.encode(np.where(observed, x, 0), steps=5)
    missing = ~observed.all(axis=1)
    np.testing.assert_array_equal((codes != others).any(axis=1), missing)


def test_integers_with_a_mask(images):
    mask = np.random.default_rng(0).random(images.shape) < 0.5
    missing = np.where(mask, images / 255.0, np.nan).astype("float32")
    model = make()
    mine = fit(model, images, mask=mask)
    other = make()
    theirs = fit(other, missing)
    np.testing.assert_allclose(mine["loss"], theirs["loss"], rtol=1e-5)
    np.testing.assert_allclose(model.codes(), other.codes(), atol=1e-5)
    np.testing.assert_allclose(
        model.encode(images, mask=mask, steps=5),
        model.encode(missing, steps=5),
        atol=1e-4,
    )


def test_the_optimal_scale_is_that_of_observed_values(x, observed):
    model = make(likelihood="gaussian")
    model.compile(
        {"decoder": keras.optimizers.SGD(0.0), "codes": keras.optimizers.SGD(0.0)}
    )
    history = fit(model, x, mask=observed, epochs=1, batch_size=COUNT)
    # Not `decode`, which keeps to the range of the data.
    decoded = to_numpy(model.decoder(model.codes()))
    residual = (decoded - x)[observed]
    scale = np.sqrt(np.mean(residual**2))
    np.testing.assert_allclose(
        to_numpy(model.likelihood.current_scale()), scale, rtol=1e-5
    )
    nll = 0.5 * (residual / scale) ** 2 + 0.5 * np.log(2 * np.pi) + np.log(scale)
    np.testing.assert_allclose(
        history["reconstruction"], [np.sum(nll) / COUNT], rtol=1e-4
    )
    error = np.where(observed, decoded - x, 0) ** 2
    error = np.mean(error.sum(axis=1) / observed.sum(axis=1))
    np.testing.assert_allclose(history["mse"], [error], rtol=1e-4)


@pytest.mark.slow
def test_a_gap_in_the_data_is_filled_in(x):
    """Examples on a plane, half of whose values are known: the others follow."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200, 2)) @ rng.normal(size=(2, 8))).astype("float32")
    observed = rng.random(x.shape) < 0.6
    observed[:, :2] = True
    model = make(architecture="linear", widths=None, code_weight=1e-3)
    model.compile(keras.optimizers.Adam(0.03))
    fit(model, x, mask=observed, epochs=150, batch_size=50)
    restored = model.reconstruct(np.where(observed, x, 0), mask=observed, steps=200)
    error = np.mean((restored - x)[~observed] ** 2)
    assert error < 0.05 * np.var(x[~observed])


def test_masks_that_do_not_fit_are_refused(x, observed, refusing):
    nothing = observed.copy()
    nothing[7] = False
    nothing[9] = False
    shape = r"booleans of the shape of `x`, \(32, 5\).*Received: shape "
    for data, mask, message in (
        (x, observed[:, :3], shape + r"\(32, 3\)"),
        (x, observed[0], shape + r"\(5,\)"),
        (x, observed * 0.5, shape + r"\(32, 5\), dtype float64"),
        (x, nothing, "must have an observed value. Received: 2 of 32 .*position 7"),
        (np.where(nothing, x, np.nan), None, "2 of 32 .*at position 7; leave them out"),
        (np.where(observed, 200 * x, 0), observed, "divide them by 255"),
        (
            Numbered(x),
            observed,
            "`mask` needs `x` to be an array. Received: a Numbered",
        ),
    ):
        for verb in (make().fit, refusing.encode, refusing.extend):
            with pytest.raises(ValueError, match=message):
                verb(data, mask=mask)


# Samples that come and go


def test_extending_touches_nothing_else(x, new, trained):
    model = trained
    before = state(model.table)
    others = values([*model.decoder.variables, *model.optimizer.variables])
    codes = model.encode(new, steps=40)
    ids = model.extend(new, steps=40)
    np.testing.assert_array_equal(ids, np.arange(COUNT, COUNT + 6))
    np.testing.assert_array_equal(model.sample_ids, np.arange(COUNT + 6))
    for name, value in state(model.table).items():
        np.testing.assert_array_equal(value[:COUNT], before[name], name)
    assert_same(others, values([*model.decoder.variables, *model.optimizer.variables]))
    np.testing.assert_allclose(model.codes(ids), codes, atol=1e-6)
    np.testing.assert_array_equal(model.codes([33, 2]), model.codes()[[33, 2]])
    # They train on together, all of them or some.
    fit(model, np.concatenate([x, new]))
    fit(model, new, sample_ids=ids)
    assert (model.codes(ids) != codes).all()


def test_extending_with_a_mask_and_in_data_of_other_kinds(
    new, observed, tmp_path, trained
):
    mask = observed[:6]
    missing = np.where(mask, new, np.float32("nan"))
    codes = []
    for data, options in (
        (new, {"mask": mask}),
        (missing, {}),
        (Batches(missing, 2, shuffle=True, seed=3), {}),
        (as_kind("memmap", missing, tmp_path)[0], {}),
    ):
        first = COUNT + 6 * len(codes)
        ids = trained.extend(data, steps=20, **options)
        np.testing.assert_array_equal(ids, np.arange(first, first + 6))
        codes.append(trained.codes(ids))
        trained.remove(ids)
    for other in codes[1:]:
        np.testing.assert_allclose(other, codes[0], atol=1e-4)


@pytest.mark.slow
def test_replay_keeps_what_was_learnt(tmp_path):
    rng = np.random.default_rng(0)
    old, new = (
        (rng.normal(size=(48, 2)) @ rng.normal(size=(2, 8))).astype("float32")
        for _ in range(2)
    )
    model = make(latent_dim=4, widths=(32,))
    model.compile(keras.optimizers.Adam(1e-2))
    fit(model, old, epochs=50, batch_size=16)
    model.save(tmp_path / "model.keras")
    codes, before = model.codes(), model.decode(model.codes())
    start = np.mean((model.reconstruct(new) - new) ** 2)
    forgotten, learnt = {}, {}
    for replay in (0.0, 1.0):
        twin = keras.saving.load_model(tmp_path / "model.keras")
        ids = twin.extend(new, epochs=20, replay=replay, batch_size=16, verbose=0)
        after = twin.decode(twin.codes(np.arange(48)))
        forgotten[replay] = np.mean((after - before) ** 2)
        learnt[replay] = np.mean((twin.decode(twin.codes(ids)) - new) ** 2) / start
        for one, other in zip(twin.decoder.weights, model.decoder.weights, strict=True):
            assert (to_numpy(one) != to_numpy(other)).any()
        moved = (twin.codes(np.arange(48)) != codes).any(axis=1)
        assert moved.all() if replay else not moved.any()
    print("forgotten", forgotten, "error on the new, of that before", learnt)
    assert forgotten[1.0] < 0.3 * forgotten[0.0]
    assert max(learnt.values()) < 0.5


@pytest.mark.thorough
def test_replay_draws_a_part_of_the_old(x, new, saved):
    drawn = []
    for replay, seed, count in ((0.5, 0, 3), (0.5, 1, 3), (100.0, 0, COUNT)):
        model = keras.saving.load_model(saved)
        before = state(model.table)["steps"]
        options = {"epochs": 2, "replay": replay, "seed": seed, "steps": 2}
        ids = model.extend(new, **options, verbose=0)
        steps = state(model.table)["steps"]
        moved = steps[:COUNT] - before
        assert set(moved) == {0, 2} if count < COUNT else {2}
        assert np.sum(moved == 2) == count
        np.testing.assert_array_equal(steps[ids], 2)
        drawn.append(tuple(np.flatnonzero(moved)))
    assert len(set(drawn)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, "`epochs` must be an integer >= 0"),
        ({"replay": -1.0}, "`replay` must be >= 0"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"steps": 0}, "`steps` must be"),
        ({"restarts": 33}, "`restarts` must be at most"),
    ],
)
def test_bad_extensions(new, refusing, arguments, message):
    with pytest.raises(ValueError, match=message):
        refusing.extend(new, **arguments)
    assert refusing.table.count == COUNT


def test_removed_samples_are_gone_and_their_ids_with_them(x, new, trained):
    model = trained
    before = state(model.table)
    model.remove([0, 5, 31])
    kept = np.setdiff1d(np.arange(COUNT), [0, 5, 31])
    np.testing.assert_array_equal(model.sample_ids, kept)
    for name, value in state(model.table).items():
        np.testing.assert_array_equal(value, before[name][kept], name)
    np.testing.assert_array_equal(model.codes([30, 1]), before["rows"][[30, 1]])
    with pytest.raises(ValueError, match=r"\[5\], of samples that it never saw or"):
        model.codes([1, 5])
    np.testing.assert_array_equal(model.extend(new[:2], steps=2), [32, 33])
    model.remove([33])
    np.testing.assert_array_equal(model.extend(new[:1], steps=2), [34])
    part = [34, 1]
    steps = state(model.table)["steps"]
    fit(model, x[:2], sample_ids=part, epochs=1)
    moved = state(model.table)["steps"] - steps
    np.testing.assert_array_equal(np.flatnonzero(moved), [0, len(kept) + 1])
    fit(model, np.concatenate([x[kept], new[:2]]), epochs=1)


def test_a_saved_model_goes_on_as_if_nothing_had_happened(x, new, tmp_path):
    model = make()
    model.compile(
        {
            "decoder": keras.optimizers.Adam(3e-3),
            "codes": keras.optimizers.Adam(
                keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)
            ),
        }
    )
    fit(model, x, epochs=3)
    model.extend(new, steps=10)
    model.remove([3, 37])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.sample_ids, model.sample_ids)
    for name, value in state(model.table).items():
        np.testing.assert_array_equal(state(again.table)[name], value, name)
    np.testing.assert_array_equal(again.encode(x, steps=5), model.encode(x, steps=5))
    before = state(again.table)["rows"]
    histories = []
    everything = np.concatenate([x, new])[model.sample_ids]
    for twin in (model, again):
        np.testing.assert_array_equal(twin.extend(new[:1], steps=2), [38])
        keras.utils.set_random_seed(4)
        histories.append(fit(twin, np.concatenate([everything, new[:1]]), epochs=3))
        if twin is model:
            # They share nothing.
            np.testing.assert_array_equal(state(again.table)["rows"], before)
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)
    np.testing.assert_allclose(again.codes(), model.codes(), atol=1e-4)
    iterations = [int(twin.optimizer["codes"].iterations) for twin in (model, again)]
    assert iterations == [12 + 15, 12 + 15]


def test_weights_are_loaded_whatever_samples_a_model_had(x, new, tmp_path, trained):
    model = trained
    model.extend(new, steps=2)
    model.remove([3])
    model.save_weights(tmp_path / "model.weights.h5")
    other = make(image_shape=(5,))
    for trained in (False, True):
        if trained:
            fit(other, np.concatenate([x, new])[model.sample_ids], epochs=1)
            other.remove([0, 9])
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other.sample_ids, model.sample_ids)
        np.testing.assert_array_equal(other.codes(), model.codes())


@pytest.mark.filterwarnings("ignore:You are saving a model that has not")
def test_a_model_that_was_not_fitted_can_be_saved(x, tmp_path):
    for options in ({}, {"image_shape": (5,)}):
        model = make(**options)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.built == model.built
        fit(again, x)
        np.testing.assert_array_equal(again.sample_ids, np.arange(COUNT))
        again.save(tmp_path / "model.keras")
        third = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(third.codes(), again.codes())


# Sampling


@pytest.mark.parametrize("masked", [False, True])
def test_samples_are_drawn_from_codes_that_have_come_to_rest(x, observed, masked):
    model, kernel, bias = linear(code_weight=0.5)
    model.compile({"decoder": keras.optimizers.SGD(0.0)})
    known = observed if masked else np.ones_like(observed)
    fit(model, x, epochs=8, mask=known if masked else None)
    expected = ridge(kernel, bias, x, 0.5, known)
    lag = np.abs(model.codes() - expected).mean()
    assert np.abs(model.known_codes() - expected).mean() < 0.6 * lag
    # Of a part of the samples it is not known which they are.
    fit(model, x[:10], epochs=1, sample_ids=np.arange(10))
    codes = model.codes()
    np.testing.assert_array_equal(
        np.sort(model.known_codes(), axis=0), np.sort(codes, axis=0)
    )


def test_what_callbacks_draw_and_save_is_of_its_own_epoch(x, tmp_path):
    path = tmp_path / "model.keras"

    def draw(model):
        seed = keras.random.SeedGenerator(0)
        density = model.sampler(model.choose_sampler().sampler)
        return to_numpy(density.sample((2000, 2), seed=seed))

    def on_epoch_end(epoch, logs):
        model.sample(1)
        model.save(path)

    model = make()
    fit(
        model,
        x,
        epochs=8,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)],
    )
    for trained in (model, keras.saving.load_model(path)):
        codes = trained.known_codes()
        assert 0.7 < draw(trained).std() / codes.std() < 1.4


@pytest.mark.slow
def test_samples_are_drawn_like_the_codes(x):
    model, kernel, bias = linear()
    model.compile({"decoder": keras.optimizers.SGD(0.0)})
    fit(model, x, epochs=30)
    codes = np.float64(model.known_codes())
    pictures = model.sample(4000, seed=0)
    np.testing.assert_allclose(
        pictures.mean(axis=0), codes.mean(axis=0) @ kernel + bias, atol=0.03
    )
    covariance = kernel.T @ np.cov(codes.T, bias=True) @ kernel
    np.testing.assert_allclose(np.cov(pictures.T), covariance, rtol=0.15, atol=0.01)
    np.testing.assert_array_equal(model.sample(5, seed=3), model.sample(5, seed=3))
    assert (model.sample(5, seed=4) != model.sample(5, seed=3)).any()
    assert model.sample(5, sampler="mixture", seed=0).shape == (5, 5)
    with pytest.raises(ValueError, match="'glow'; fitted: 'gaussian', 'mixture'"):
        model.sample(5, sampler="glow")
