"""What `fit` takes, and what it refuses on the first batch."""

import warnings

import keras
import numpy as np
import pytest

import keras_ae
from keras_ae import datasets

BACKEND = keras.backend.backend()


def make(**kwargs):
    return keras_ae.VAE(2, architecture="dense", widths=(8,), **kwargs)


class Sequence(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.images[8 * index : 8 * index + 8], np.arange(8)


def test_numpy_with_and_without_labels(images):
    model = make()
    labels = np.arange(len(images))
    model.fit(images, labels, validation_data=(images, labels), verbose=0)
    model.fit(images, validation_split=0.25, verbose=0)
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["loss"] > 0


def test_pydataset(images):
    model = make()
    model.fit(Sequence(images), validation_data=Sequence(images), verbose=0)
    np.testing.assert_allclose(
        model.encode(Sequence(images)), model.encode(images), atol=1e-5
    )


def test_generator_is_not_consumed_by_looking_at_it(images):
    seen = []

    def generator():
        for start in range(0, 32, 8):
            seen.append(start)
            yield images[start : start + 8]

    class Count(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1

    count = Count()
    make().fit(generator(), callbacks=[count], verbose=0)
    assert seen == [0, 8, 16, 24]
    assert count.steps == 4


def test_tf_data(images):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(32))).batch(8)
    model = make()
    model.fit(dataset, validation_data=dataset, verbose=0)
    np.testing.assert_allclose(model.encode(dataset), model.encode(images), atol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch builds no graph")
def test_encode_and_decode_are_tensors_in_a_graph(images):
    model = keras_ae.VAE(2, image_shape=images.shape[1:], architecture="dense")
    codes = model.encode(images)
    if BACKEND == "tensorflow":
        tf = pytest.importorskip("tensorflow")
        data = tf.data.Dataset.from_tensor_slices(images).batch(8)
        mapped = data.map(model.encode)
        restored = np.concatenate([*mapped.map(model.decode).as_numpy_iterator()])
        mapped = np.concatenate([*mapped.as_numpy_iterator()])
        with pytest.raises(ValueError, match="must know its `image_shape`"):
            data.map(keras_ae.VAE(2).encode)
    else:
        jax = pytest.importorskip("jax")
        mapped = jax.jit(model.encode)(images)
        restored = jax.jit(model.decode)(mapped)
    np.testing.assert_allclose(mapped, codes, atol=1e-5)
    np.testing.assert_allclose(restored, model.decode(codes), atol=1e-5)


def test_tf_data_of_unknown_shape(images):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_generator(
        lambda: (images[start : start + 8] for start in range(0, 32, 8)),
        output_signature=tf.TensorSpec((None, None, None, None), "uint8"),
    )
    model = keras_ae.VAE(2, architecture="conv", widths=(4,))
    model.fit(dataset, epochs=2, validation_data=dataset, verbose=0)
    assert model.predict(dataset, verbose=0).shape == images.shape
    np.testing.assert_allclose(model.encode(dataset), model.encode(images), atol=1e-5)


def test_torch_data_loader(images):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.arange(32))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    model = make()
    model.fit(loader, validation_data=loader, verbose=0)
    np.testing.assert_allclose(model.encode(loader), model.encode(images), atol=1e-5)


def test_grain(images):
    grain = pytest.importorskip("grain")
    loader = grain.MapDataset.source(list(images)).batch(8)
    model = make()
    model.fit(loader, validation_data=loader, verbose=0)
    np.testing.assert_allclose(model.encode(loader), model.encode(images), atol=1e-5)


def test_backend_tensors(images):
    model = make()
    model.fit(keras.ops.convert_to_tensor(images), verbose=0)
    assert model.encode(keras.ops.convert_to_tensor(images)).shape == (32, 2)


def test_integers_are_read_as_0_to_255(images):
    model = make(image_shape=images.shape[1:])
    floats = images.astype("float32") / 255
    z = model.encode(floats)
    np.testing.assert_allclose(model.encode(images), z, atol=1e-5)
    np.testing.assert_allclose(model.encode(images.astype(int)), z, atol=1e-5)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model.reconstruct(floats), atol=1e-6
    )


def test_booleans_and_float64(images):
    for x in (images > 127, images / 255):
        model = make(likelihood="bernoulli")
        model.fit(x, verbose=0)
        assert model.encode(x).dtype == "float32"


def test_every_integer_is_looked_at(images):
    x = np.tile(images, (50, 1, 1, 1)).astype("int64")
    x[-1, 0, 0] = 300
    with pytest.raises(ValueError, match="Received integers from 0 to 300"):
        make().fit(x, verbose=0)


@pytest.mark.once
@pytest.mark.parametrize("shape", [(1, 22, 40), (3, 8, 8), (4, 5, 6, 2)])
def test_a_shape_that_is_said_is_obeyed(shape):
    x = np.random.default_rng(0).random((6, *shape), dtype="float32")
    model = keras_ae.AE(2, architecture="dense", widths=(8,), image_shape=shape)
    model.fit(x, verbose=0)
    assert model.reconstruct(x).shape == x.shape
    assert keras_ae.AE(2, image_shape=(3, 64, 64)).image_shape == (3, 64, 64)
    with pytest.raises(ValueError, match="channels last"):
        keras_ae.AE(2).fit(np.zeros((4, 3, 32, 32), "float32"), verbose=0)


@pytest.mark.once
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_are_their_numeric_columns(library, tmp_path):
    frames = pytest.importorskip(library)
    x = np.random.default_rng(0).random((40, 3))
    flags = np.arange(40) % 2 == 0
    frame = frames.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "d": flags})
    model, whole = make(), np.column_stack([x, flags])
    model.fit(frame, frame, validation_data=frame, verbose=0)
    assert model.evaluate(frame, verbose=0, return_dict=True)["loss"] > 0
    for verb in (model.encode, model.reconstruct, model.predict):
        np.testing.assert_allclose(verb(frame), verb(whole), atol=1e-6)
    # Columns are known by their names, also by a model that was saved.
    model.save(tmp_path / "rows.keras")
    loaded = keras.saving.load_model(tmp_path / "rows.keras")
    turned = frame[["d", "b", "a", "c"]]
    np.testing.assert_allclose(loaded.encode(turned), model.encode(whole), atol=1e-6)
    with pytest.raises(ValueError, match=r"without \['b'\], and with \['e'\]"):
        others = {"b": "e"}
        pandas = library == "pandas"
        model.encode(frame.rename(**{"columns" if pandas else "mapping": others}))
    named = frames.DataFrame({"a": x[:, 0], "b": ["x"] * 40})
    with pytest.raises(ValueError, match="numeric columns. Received: 'b'"):
        make().fit(named, verbose=0)
    labelled = keras_ae.ConditionalVAE(2, num_classes=2, widths=(8,))
    labelled.fit(frame, frame["d"], verbose=0)


NETWORKS = {"architecture": "dense", "widths": (8,)}
DENSE = {"latent_dim": 2, **NETWORKS}
NAMED = {
    "AE": DENSE,
    "AutoDecoder": DENSE,
    "FSQVAE": {**NETWORKS, "levels": (5, 4)},
    "GLO": DENSE,
    "PCA": {"latent_dim": 2},
    "ResidualVQVAE": {**DENSE, "num_codes": 4},
    "VQGAN": {**DENSE, "num_codes": 4},
    "VQVAE": {**DENSE, "num_codes": 4},
    "VariationalAutoDecoder": DENSE,
}


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "learning"),
    # PCA does not learn from single batches.
    [(name, "fit") for name in NAMED]
    + [(name, "train_on_batch") for name in NAMED if name != "PCA"],
)
def test_every_model_knows_columns_by_their_names(name, learning):
    frames = pytest.importorskip("pandas")
    x = np.random.default_rng(0).random((40, 4), dtype="float32") * [1, 0.6, 0.4, 0.2]
    frame = frames.DataFrame(dict(zip("abcd", x.T, strict=True)))
    turned = frame[["d", "b", "a", "c"]]
    model = getattr(keras_ae, name)(**NAMED[name])
    if learning == "fit":
        model.fit(frame, validation_split=0.25, verbose=0)
    else:
        model.train_on_batch(frame)
    assert model.column_names == tuple("abcd")
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(model.encode(turned), model.encode(frame), **close)
    ends = model.interpolate(turned, turned[::-1], steps=2)
    expected = model.interpolate(frame, frame[::-1], steps=2)
    np.testing.assert_allclose(ends, expected, **close)


@pytest.mark.once
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_mask_beside_a_frame_leaves_its_columns_their_names(library):
    frames = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    x = rng.random((20, 3), dtype="float32") * [1, 0.5, 0.2]
    mask = rng.random(x.shape) < 0.7
    mask[:, 1] = True
    frame = frames.DataFrame(dict(zip("abc", x.T, strict=True)))
    model = keras_ae.AutoDecoder(**DENSE, search_steps=5)
    model.fit(frame, mask=mask, verbose=0)
    told = frames.DataFrame(dict(zip("abc", mask.T, strict=True)))
    for beside in (mask[:, [2, 0, 1]], told):
        found = model.encode(frame[["c", "a", "b"]], mask=beside)
        np.testing.assert_allclose(found, model.encode(x, mask=mask), atol=1e-5)


@pytest.mark.once
def test_frames_beside_examples_have_their_order():
    frames = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    clean = rng.random((40, 3), dtype="float32")
    noisy = clean + rng.normal(0, 0.1, clean.shape).astype("float32")
    weight = rng.random((40, 3), dtype="float32")
    order, losses = ["c", "a", "b"], []
    for named in (False, True):
        data = {"x": noisy, "y": clean, "sample_weight": weight}
        if named:
            data = {k: frames.DataFrame(v, columns=[*"abc"]) for k, v in data.items()}
            data["y"], data["sample_weight"] = (
                data["y"][order],
                data["sample_weight"][order],
            )
        keras.utils.set_random_seed(0)
        model = keras_ae.DenoisingAE(**DENSE)
        history = model.fit(**data, verbose=0).history
        if named:
            data["x"] = data["x"][order]
        found = model.evaluate(**data, verbose=0, return_dict=True)
        losses.append((history["loss"], found["loss"]))
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-5)
    np.testing.assert_allclose(losses[0][1], losses[1][1], rtol=1e-5)
    twice = frames.DataFrame(clean, columns=["a", "a", "b"])
    model = make()
    model.fit(twice, verbose=0)
    with pytest.raises(ValueError, match=r"different names.* several columns \['a'\]"):
        model.encode(frames.DataFrame(clean, columns=["b", "a", "a"]))


@pytest.mark.once
@pytest.mark.parametrize("name", ["AE", "VAE", "AutoDecoder", "GAN", "StackedSAE"])
def test_a_target_is_not_ignored(images, name):
    def new():
        widths = {"widths": (8,), "architecture": "dense", "latent_dim": 2}
        return getattr(keras_ae, name)(**({} if name == "StackedSAE" else widths))

    clean = images / 255.0
    noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    for data in ((noisy, clean), (Pairs(noisy, clean), None)):
        with pytest.raises(ValueError, match="DenoisingAE"):
            new().fit(*data, verbose=0)
    for target in (clean, clean.copy(), images):
        new().fit(clean, target, verbose=0)


class Pairs(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, index):
        half = slice(16 * index, 16 * index + 16)
        return self.x[half], self.y[half]


@pytest.mark.once
@pytest.mark.parametrize("name", ["VAE", "GAN", "VAEGAN", "AutoDecoder", "VQVAE"])
def test_lists_of_values_fit_their_names(images, name):
    options = {"architecture": "dense", "widths": (8,)}
    options |= {"num_codes": 4} if name == "VQVAE" else {}
    model = getattr(keras_ae, name)(2, **options)
    model.fit(images, verbose=0)
    expected = model.evaluate(images, verbose=0, return_dict=True)
    assert model.metrics_names[0] == "loss"
    assert {*model.metrics_names} == {*expected}
    for values in (
        model.evaluate(images, verbose=0),
        model.test_on_batch(images),
        model.train_on_batch(images),
    ):
        assert len(values) == len(model.metrics_names)
        named = dict(zip(model.metrics_names, values, strict=True))
        terms = sum(named[term] for term in model.term_names)
        np.testing.assert_allclose(named["loss"], terms, rtol=1e-5)


def test_batches_of_any_size(images):
    model = make(image_shape=images.shape[1:])
    for verb in (model.encode, model.reconstruct):
        whole = verb(images, batch_size=256)
        np.testing.assert_allclose(verb(images, batch_size=5), whole, atol=1e-5)


with_nan = np.full((4, 5), np.nan, "float32")
constant = np.full((4, 12, 10, 1), 128.0, "float32")


@pytest.mark.once
@pytest.mark.parametrize(
    ("likelihood", "x", "message"),
    [
        ("gaussian", constant, r"Received: values from 128 to 128.*divide them by 255"),
        ("bernoulli", constant, r"\[0, 1\].*divide them by 255"),
        ("bernoulli", with_nan, "NaN"),
        ("gaussian", with_nan, "NaN"),
        ("bernoulli", np.full((4, 5), -0.5, "float32"), "Received: values from -0.5"),
        ("gaussian", np.full((4, 5), 300), "Integers are read as 0-255.*300"),
        ("gaussian", np.full((4, 5), 99), "Integers are read.*99.*standardised"),
        ("gaussian", np.full((4, 5, 5), 99), r"Received: int64 of shape \(4, 5, 5\)"),
        ("gaussian", np.full((4, 5, 5, 1), 300), "Received integers from 300 to 300"),
        ("bernoulli", np.eye(4, dtype="uint8"), "Integers are read as 0-255"),
        ("bernoulli", np.ones((4, 5, 5), "uint8"), "divided by 255"),
        ("gaussian", np.zeros((0, 5), "float32"), "must not be empty"),
        ("gaussian", np.zeros(5, "float32"), "must hold batches"),
        ("gaussian", np.zeros((4, 5), "complex64"), "integers 0-255 or floats"),
        ("gaussian", [np.zeros((4, 5)), np.zeros((4, 6))], "must be one array"),
        ("gaussian", None, "must be given"),
        ("gaussian", 3, "Data must be an array"),
        ("gaussian", iter([]), "empty"),
    ],
)
def test_bad_data_is_refused_before_training(likelihood, x, message):
    model = make(likelihood=likelihood)
    with pytest.raises(ValueError, match=message):
        model.fit(x, verbose=0)
    assert int(model.optimizer.iterations) == 0


@pytest.mark.once
def test_one_nan_among_many_is_found(images):
    x = np.tile(images / 255.0, (100, 1, 1, 1))
    x[-1, 3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make().fit(x, verbose=0)
    with pytest.raises(ValueError, match="NaN"):
        make().fit(images, validation_data=x, verbose=0)


@pytest.mark.once
def test_data_of_another_size_is_refused(images):
    model = make()
    model.fit(images, verbose=0)
    for verb in (model.fit, model.evaluate, model.predict, model.encode):
        with pytest.raises(ValueError, match=r"\(12, 10, 1\).*Received.*\(9, 10, 1\)"):
            verb(images[:, :9])
    with pytest.raises(ValueError, match="`z` must have the shape"):
        model.decode(np.zeros((3, 5)))


@pytest.mark.once
def test_other_losses_and_metrics_are_refused():
    for options in ({"loss": "mse"}, {"metrics": ["mae"]}):
        with pytest.raises(ValueError, match="must be None.*likelihood="):
            make().compile("adam", **options)
    with pytest.raises(ValueError, match="`loss` must be None"):
        make().compile("adam", "mse")


@pytest.mark.once
def test_one_dark_picture_is_no_binary_data(images):
    model = make(image_shape=images.shape[1:])
    assert model.reconstruct(np.uint8(images[:1] > 127)).shape == (1, 12, 10, 1)


def test_single_batches(images):
    model = make()
    losses = model.train_on_batch(images, return_dict=True)
    assert int(model.optimizer.iterations) == 1
    after = model.test_on_batch(images, return_dict=True)
    assert losses.keys() == after.keys()
    assert np.isfinite(list(after.values())).all()
    reconstructions = model.predict_on_batch(images)
    np.testing.assert_allclose(reconstructions, model.reconstruct(images), atol=1e-5)
    with pytest.raises(ValueError, match="NaN"):
        model.train_on_batch(np.full((4, 12, 10, 1), np.nan, "float32"))
    for call in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="`sample_weight` must be finite"):
            call(images, sample_weight=np.full(len(images), np.nan))
    # Built before its data, it learns from the first batch that they are in [0, 1].
    model = make(image_shape=images.shape[1:])
    model.train_on_batch(images)
    assert model.in_unit_range
    # Until one is not; no later one says otherwise.
    for batch in (np.float32(images) / 255 - 3, images):
        model.train_on_batch(batch)
        assert not model.in_unit_range


def test_a_memory_map_is_streamed(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    losses = []
    for x in (mapped, images):
        keras.utils.set_random_seed(0)
        model = make(image_shape=images.shape[1:])
        history = model.fit(x, batch_size=8, epochs=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
        assert history.params["steps"] == 4
    np.testing.assert_allclose(*losses, rtol=1e-5)
    model.fit(mapped, validation_data=mapped, shuffle=True, verbose=0)
    model.fit(mapped, np.arange(32), validation_split=0.25, verbose=0)


def test_interpolation_and_traversal(images):
    model = make()
    model.fit(images, verbose=0)
    path = model.interpolate(images[:3], images[3:6], steps=5)
    assert path.shape == (3, 5, 12, 10, 1)
    np.testing.assert_allclose(path[:, 0], model.reconstruct(images[:3]), atol=1e-5)
    np.testing.assert_allclose(path[:, -1], model.reconstruct(images[3:6]), atol=1e-5)
    z = model.encode(images[:6])
    np.testing.assert_allclose(
        path[0, 2], model.decode((z[:1] + z[3:4]) / 2)[0], atol=1e-5
    )
    single = model.interpolate(images[0], images[3], steps=3, spherical=True)
    assert single.shape == (3, 12, 10, 1)
    np.testing.assert_allclose(single[0], model.reconstruct(images[:1])[0], atol=1e-5)
    same = model.interpolate(images[0], images[0], steps=3, spherical=True)
    np.testing.assert_allclose(same[1], same[0], atol=1e-5)
    grid = model.traverse(images[0], dims=[1], steps=3, span=2.0)
    assert grid.shape == (1, 3, 12, 10, 1)
    moved = np.stack([[z[0, 0], value] for value in (-2, 0, 2)])
    np.testing.assert_allclose(grid[0], model.decode(moved), atol=1e-5)
    for call in (
        lambda: model.interpolate(images[0], images[0], steps=1),
        lambda: model.interpolate(images[0], images[:2]),
        lambda: model.traverse(images[0], dims=[2]),
    ):
        with pytest.raises(ValueError, match="must"):
            call()


def test_spherical_interpolation_keeps_the_norm():
    from keras_ae.models.base.verbs import _slerp

    a, b = np.array([[[3.0, 0.0]]]), np.array([[[0.0, 3.0]]])
    t = np.linspace(0, 1, 5)[:, None]
    path = _slerp(a, b, t)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 3.0, rtol=1e-6)
    np.testing.assert_allclose(path[0, 2], [3 / np.sqrt(2)] * 2, rtol=1e-6)


def test_fit_counts_epochs_and_can_be_resumed():
    class Recorder(datasets.Batches):
        def __getitem__(self, index):
            served.append((self.epoch, index))
            return super().__getitem__(index)

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return keras.ops.mean(y_pred**2)

    images = np.random.default_rng(0).random((12, 2), "float32")
    served = []
    model = Model()
    model.compile("sgd", "mse")
    batches = Recorder(images, 4, epoch=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            batches,
            validation_data=datasets.Batches(images, 4, shuffle=False),
            epochs=3,
            shuffle=False,
            verbose=0,
        )
    for epoch in (5, 6, 7):
        assert {index for e, index in served if e == epoch} == {0, 1, 2}
    assert batches.epoch == 8 and all(epoch <= 8 for epoch, _ in served)


@pytest.mark.parametrize("weights", [None, {0: 1.0, 1: 2.0}])
def test_each_epoch_has_an_order_of_its_own(weights):
    """Also once a seed was set, with which Keras' own is one for all on TensorFlow."""
    x = np.random.default_rng(0).random((40, 5), dtype="float32")
    y = np.arange(40) % 2

    def first_losses():
        keras.utils.set_random_seed(0)
        model = keras_ae.AE(2, architecture="dense", widths=(4,))
        model.compile(keras.optimizers.SGD(0.0))
        seen = []

        def look(batch, logs):
            if batch == 0:
                seen.append(float(logs["loss"]))

        callback = keras.callbacks.LambdaCallback(on_train_batch_end=look)
        options = {"batch_size": 8, "epochs": 4, "verbose": 0, "class_weight": weights}
        model.fit(x, y, callbacks=[callback], **options)
        return seen

    losses = first_losses()
    assert len({*losses}) == 4
    assert first_losses() == losses
