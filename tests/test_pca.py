"""PCA against scikit-learn, exact and iterative, and the linear autoencoder."""

import csv
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from command import keras_ae_command
from contract import few_everywhere
from PIL import Image
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA as Oracle

import keras_ae
from keras_ae.datasets import Batches
from keras_ae.models.deterministic import pca

SHAPE = (4, 5, 2)


def data(n=150, values=40, seed=0):
    """Rows whose variances fall fast in turned directions, about a mean of 0.5."""
    rng = np.random.default_rng(seed)
    scales = 0.3 * 0.75 ** np.arange(values)
    turn = np.linalg.qr(rng.normal(size=(values, values)))[0]
    return (0.5 + rng.normal(size=(n, values)) * scales @ turn).astype("float32")


def pictures(n=150):
    return data(n).reshape(-1, *SHAPE)


def fitted(x, latent_dim=6, **kwargs):
    model = keras_ae.PCA(latent_dim)
    model.fit(x, verbose=0, **kwargs)
    return model


@pytest.fixture(params=["exact", "iterative"])
def path(request, monkeypatch):
    """Runs a test on each way to the components."""
    if request.param == "iterative":
        monkeypatch.setattr(pca, "_EXACT", 0)


# More examples than values, and fewer.
@pytest.mark.parametrize("n", [2500, 25])
def test_agrees_with_scikit_learn(path, n):
    x, new = pictures(n), data(30, seed=1).reshape(-1, *SHAPE)
    oracle = Oracle(6, svd_solver="full").fit(x.reshape(n, -1).astype("float64"))
    model = fitted(x)
    mine = model.components.reshape(6, -1)
    assert np.degrees(subspace_angles(mine.T, oracle.components_.T)).max() < 0.1
    np.testing.assert_allclose(mine @ mine.T, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(model.mean.ravel(), oracle.mean_, atol=1e-6)
    np.testing.assert_allclose(
        model.explained_variance_ratio, oracle.explained_variance_ratio_, rtol=1e-4
    )
    flat = new.reshape(30, -1)
    codes = oracle.transform(flat)
    expected = oracle.inverse_transform(codes).reshape(new.shape)
    np.testing.assert_allclose(model.reconstruct(new), expected, atol=2e-4)
    np.testing.assert_allclose(model.decode(model.encode(new)), expected, atol=2e-4)
    signs = np.sign(np.sum(mine * oracle.components_, axis=1))
    np.testing.assert_allclose(model.encode(new), signs * codes, atol=2e-3)


def test_codes_are_centred_uncorrelated_and_in_order(path):
    x = pictures()
    codes = fitted(x).encode(x)
    covariance = np.cov(codes.T)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-5)
    assert (np.diff(np.diag(covariance)) < 0).all()
    np.testing.assert_allclose(
        covariance, np.diag(np.diag(covariance)), atol=1e-3 * covariance[0, 0]
    )


def test_signs_are_settled(path):
    for x in (data(), 1 - data()):
        components = fitted(x).components
        largest = np.abs(components).argmax(axis=1)
        assert (components[np.arange(6), largest] > 0).all()


def test_the_loss_is_the_error_of_reconstruction(path):
    x, new = pictures(), pictures(40)[::-1]
    model = keras_ae.PCA(6)
    history = model.fit(x, validation_data=new, verbose=0).history
    names = {"loss", "reconstruction", "mse"}
    assert set(history) == names | {f"val_{name}" for name in names}
    assert all(len(values) == 1 for values in history.values())
    for prefix, some in (("", x), ("val_", new)):
        mse = keras_ae.metrics.mse(some, model.reconstruct(some))
        nats = 0.5 * some[0].size * (mse + np.log(2 * np.pi))
        assert history[prefix + "mse"][0] == pytest.approx(mse, rel=1e-3)
        assert history[prefix + "loss"][0] == pytest.approx(nats, rel=1e-5)
        logs = model.evaluate(some, verbose=0, return_dict=True)
        assert logs == pytest.approx(
            {name: history[prefix + name][0] for name in names}, rel=1e-5
        )


def test_components_are_found_where_variance_is_small_beside_the_mean():
    x = np.random.default_rng(0).normal(90, 1, (500, 3)) * [0.01, 1, 0.1]
    model = fitted(x.astype("float32"), 1)
    oracle = Oracle(1).fit(x)
    angle = subspace_angles(model.components.T, oracle.components_.T)[0]
    assert np.degrees(angle) < 0.01


def test_integers_are_read_as_0_to_255():
    x = np.uint8(255 * np.clip(pictures(), 0, 1))
    np.testing.assert_allclose(
        fitted(x).components, fitted(x / np.float32(255)).components, atol=1e-5
    )


class Sequence(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return -(-len(self.x) // 40)

    def __getitem__(self, index):
        batch = self.x[40 * index : 40 * index + 40]
        return batch, np.zeros(len(batch))


def memory_map(x, folder):
    written = np.memmap(folder / "x.bin", x.dtype, "w+", shape=x.shape)
    written[:] = x
    written.flush()
    return np.memmap(folder / "x.bin", x.dtype, "r", shape=x.shape)


def tf_data(x, folder):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(40)


def data_loader(x, folder):
    torch = pytest.importorskip("torch")
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(x))
    return torch.utils.data.DataLoader(tensors, batch_size=40, shuffle=True)


@pytest.mark.once
@pytest.mark.parametrize(
    "stream",
    [
        memory_map,
        tf_data,
        data_loader,
        lambda x, folder: Batches(x, 64),
        lambda x, folder: Sequence(x),
        lambda x, folder: keras.ops.convert_to_tensor(x),
    ],
    ids=["memmap", "tf.data", "DataLoader", "Batches", "PyDataset", "tensor"],
)
def test_streams_equal_the_array(path, stream, tmp_path):
    x = pictures(1500)
    streamed = stream(x, tmp_path)
    model, expected = fitted(streamed, validation_data=streamed), fitted(x)
    for name in ("mean", "components", "explained_variance_ratio"):
        np.testing.assert_allclose(
            getattr(model, name), getattr(expected, name), atol=1e-3
        )
    np.testing.assert_allclose(model.reconstruct(x), expected.reconstruct(x), atol=1e-4)


def test_a_validation_split_is_held_back():
    x = pictures()
    model = keras_ae.PCA(6)
    history = model.fit(x, np.zeros(150), validation_split=0.2, verbose=0).history
    expected = fitted(x[:120])
    np.testing.assert_array_equal(model.components, expected.components)
    error = keras_ae.metrics.mse(x[120:], expected.reconstruct(x[120:]))
    assert history["val_mse"][0] == pytest.approx(error, rel=1e-3)


def test_callbacks_are_called_as_in_one_epoch(path):
    class Count(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.calls = []

        def on_train_begin(self, logs=None):
            self.calls.append("train")

        def on_epoch_begin(self, epoch, logs=None):
            self.calls.append(epoch)

        def on_train_batch_end(self, batch, logs=None):
            self.calls.append("batch")

        def on_test_end(self, logs=None):
            self.calls.append("test")

        def on_epoch_end(self, epoch, logs=None):
            # What a callback does with the model, it does with a fitted one.
            assert np.isfinite(self.model.encode(pictures(3))).all()
            self.calls.append(sorted(logs))

    count, x = Count(), pictures()
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-4)
    history = keras_ae.PCA(6).fit(
        Batches(x, 75),
        validation_data=Batches(x, 75),
        shuffle=False,
        epochs=9,
        initial_epoch=2,
        verbose=0,
        callbacks=[count, keras_ae.callbacks.EpochSeeds(0), rate],
    )
    logged = sorted([*history.history.keys() - {"learning_rate"}])
    assert count.calls == ["train", 2, "batch", "batch", "test", logged]
    assert history.epoch == [2]


@pytest.mark.parametrize(
    "optimizer", few_everywhere([None, "sgd", keras.optimizers.Adam(0.1)], ["sgd"])
)
def test_saving_keeps_everything(optimizer, tmp_path):
    x = pictures()
    model = keras_ae.PCA(6, name="mine")
    model.compile(optimizer)
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is keras_ae.PCA
    assert type(again.optimizer) is type(model.optimizer)
    for name in ("mean", "components", "explained_variance_ratio"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    np.testing.assert_array_equal(again.encode(x), model.encode(x))
    np.testing.assert_array_equal(again.reconstruct(x), model.reconstruct(x))
    other = pictures(40)
    again.fit(other, verbose=0)
    np.testing.assert_array_equal(again.components, fitted(other).components)
    np.testing.assert_array_equal(again.encode(x), fitted(other).encode(x))
    model.encoder.save(tmp_path / "encoder.keras")
    encoder = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_allclose(
        encoder.predict(x, verbose=0), model.encode(x), rtol=1e-5, atol=1e-6
    )


def test_config_is_what_the_constructor_takes():
    model = keras_ae.PCA(7, image_shape=SHAPE, name="mine", trainable=False)
    config = json.loads(json.dumps(model.get_config()))
    assert config.keys() == {"name", "trainable", "dtype", "latent_dim", "image_shape"}
    again = keras_ae.PCA.from_config(config)
    assert (again.latent_dim, again.image_shape) == (7, SHAPE)
    assert (again.name, again.trainable) == ("mine", False)


def test_subclasses_keep_their_arguments(tmp_path):
    class Scaled(keras_ae.PCA):
        def __init__(self, factor: float = 1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

    model = Scaled(factor=2.0, latent_dim=3)
    model.fit(data(), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is Scaled
    assert (again.factor, again.latent_dim) == (2.0, 3)


@pytest.mark.parametrize("image_shape", [(40,), (5, 8), (5, 4, 2)])
def test_any_shape(path, image_shape):
    x = data().reshape(-1, *image_shape)
    model = keras_ae.PCA(4, image_shape=image_shape)
    model.fit(x, verbose=0)
    assert model.mean.shape == image_shape
    assert model.components.shape == (4, *image_shape)
    assert model.encode(x).shape == (150, 4)
    assert model.reconstruct(x).shape == x.shape
    with pytest.raises(ValueError, match="examples of shape"):
        model.fit(x[:, :3], verbose=0)


def test_many_steps_an_execution():
    model = keras_ae.PCA(4)
    if keras.backend.backend() == "torch":
        pytest.skip("Keras takes one step at a time on PyTorch")
    model.compile(steps_per_execution=3)
    losses = model.fit(data(), batch_size=20, verbose=0).history["loss"]
    expected = keras_ae.PCA(4).fit(data(), batch_size=20, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.thorough
def test_a_model_of_one_backend_loads_in_another(tmp_path):
    x = pictures()
    model = fitted(x)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "x.npz", x=x, y=model.reconstruct(x))
    script = f"""
import keras, numpy as np
import keras_ae.models
model = keras.saving.load_model(r"{tmp_path / "model.keras"}")
data = np.load(r"{tmp_path / "x.npz"}")
np.testing.assert_allclose(model.reconstruct(data["x"]), data["y"], atol=1e-5)
"""
    other = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
    other = other[keras.backend.backend()]
    pytest.importorskip(other)
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": other},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_nothing_is_left_to_train():
    model = fitted(data())
    assert model.trainable_variables == []
    components = model.components
    model.fit(data(), epochs=5, verbose=0)
    np.testing.assert_array_equal(model.components, components)


def test_half_precision_is_not_used():
    x = data()
    model = keras_ae.PCA(6, dtype="mixed_bfloat16")
    model.fit(x, verbose=0)
    expected = fitted(x)
    np.testing.assert_array_equal(model.encode(x), expected.encode(x))
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), expected.predict(x, verbose=0)
    )


def test_verbs():
    x = pictures()
    model = fitted(x)
    row = model.interpolate(x[0], x[1], steps=3)
    np.testing.assert_allclose(row[[0, 2]], model.reconstruct(x[:2]), atol=1e-5)
    np.testing.assert_allclose(row[1], row[[0, 2]].mean(axis=0), atol=1e-5)
    grid = model.traverse(x[0], dims=[2], steps=3, span=1.5)[0]
    np.testing.assert_allclose(grid[2] - grid[1], 1.5 * model.components[2], atol=1e-5)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), model.reconstruct(x), atol=1e-6
    )


def test_equal_examples_are_their_mean(path):
    x = np.full((6, *SHAPE), 51, "uint8")
    model = fitted(x, 3)
    np.testing.assert_allclose(model.reconstruct(x[:1]), 0.2, atol=1e-6)
    np.testing.assert_array_equal(model.explained_variance_ratio, 0)


def test_as_many_components_as_values_lose_nothing():
    x = data(100, values=8)
    np.testing.assert_allclose(fitted(x, 8).reconstruct(x), x, atol=1e-5)


with_nan = pictures(3000)
with_nan[-1, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("latent_dim", "x", "message"),
    [
        (6, pictures(6), "at most 5, the number of examples less 1.*latent_dim=6 and"),
        (1, pictures(1), "at most 0.*1 example of 40 values"),
        (41, pictures(), "at most 40, the number of values in an example"),
        (2, iter([pictures()]), "more than once. Received: a generator.*`tf.data"),
        (2, Batches(with_nan, 40, shuffle=False), "must be finite"),
        (2, 255 * pictures(), "divide them by 255"),
        (2, None, "must be given"),
    ],
)
def test_bad_data_are_refused(path, latent_dim, x, message):
    model = keras_ae.PCA(latent_dim)
    with pytest.raises(ValueError, match=message):
        model.fit(x, verbose=0)
    with pytest.raises(ValueError, match="PCA must be fitted before `encode`"):
        model.encode(pictures())


def test_endless_data_are_refused():
    tf = pytest.importorskip("tensorflow")
    endless = tf.data.Dataset.from_tensor_slices(pictures()).batch(40).repeat()
    with pytest.raises(ValueError, match="without an end.*`repeat`"):
        fitted(endless)


@pytest.mark.parametrize(
    "arguments",
    [
        {"architecture": "conv"},
        {"likelihood": "bernoulli"},
        {"encoder": keras.layers.Dense(3)},
    ],
)
def test_what_is_settled_is_no_argument(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be left out.*unlike `AE`"):
        keras_ae.PCA(3, **arguments)


def test_what_fit_can_not_do_is_refused():
    x = data()
    for name, value in (("sample_weight", np.ones(150)), ("steps_per_epoch", 2)):
        with pytest.raises(ValueError, match=f"`{name}` must be None"):
            fitted(x, **{name: value})
    with pytest.raises(ValueError, match="call `fit` with all"):
        keras_ae.PCA(3).train_on_batch(x)
    model = keras_ae.PCA(3, image_shape=(40,))
    for verb in (model.evaluate, model.predict, model.reconstruct):
        with pytest.raises(ValueError, match="must be fitted before"):
            verb(x)
    with pytest.raises(ValueError, match="must be fitted before `decode`"):
        model.decode(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="must be fitted before `components`"):
        _ = model.components


@pytest.mark.once
def test_train_on_pictures_leaves_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        pixels = rng.integers(0, 256, (9, 8, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index}.png")

    def invoke(*arguments):
        return keras_ae_command(*arguments)

    train = ("train", "pca", "photos", "--image-size", 8, "--run-dir", "run")
    result = invoke(*train, "--latent-dim", 3)
    assert result.exit_code == 0, result.output
    with open("run/history.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"loss", "mse", "val_loss", "val_mse"} <= row.keys()
    for name in ("reconstructions", "interpolation", "traversal", "latent_map"):
        assert (tmp_path / "run" / "pictures" / f"{name}.png").exists()
    assert (tmp_path / "run" / "report.html").exists()
    assert invoke("evaluate", "run", "photos").exit_code == 0
    model = keras.saving.load_model("run/model.keras")
    assert model.explained_variance_ratio.shape == (3,)
    other = (*train[:-1], "other")
    unknown = invoke(*other, "--set", "widths=3")
    assert "Error: Unknown setting: widths" in unknown.stderr
    many = invoke(*other, "--latent-dim", 99)
    assert many.exit_code == 1
    assert "Error: `latent_dim` must be at most" in many.stderr


def test_pca_of_30_on_mnist(real_data):
    with np.load(real_data("mnist.npz")) as mnist:
        train, test = mnist["x_train"], mnist["x_test"]
    model = fitted(train, 30, batch_size=1000)
    error = keras_ae.metrics.mse(test, model.reconstruct(test)) * 784
    assert error == pytest.approx(13.87, abs=0.05)  # Hinton and Salakhutdinov 2006


@pytest.mark.once
@pytest.mark.thorough
def test_linear_autoencoder_reaches_the_subspace():
    rng = np.random.default_rng(0)
    scales = np.where(np.arange(24) < 5, 2.0 * 0.8 ** np.arange(24), 0.3)
    turn = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    x = (0.5 + rng.normal(size=(512, 24)) * scales @ turn).astype("float32")
    model = keras_ae.AE(5, architecture="linear", image_shape=(24,))
    rate = keras.optimizers.schedules.CosineDecay(0.03, 800)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(x, batch_size=128, epochs=200, verbose=0)
    yardstick = fitted(x, 5)
    kernel = model.decoder.get_weights()[0]  # (latent_dim, values)
    angles = subspace_angles(kernel.T, yardstick.components.T)
    assert np.degrees(angles).max() < 2
    errors = [keras_ae.metrics.mse(x, m.reconstruct(x)) for m in (model, yardstick)]
    assert errors[1] <= errors[0] * (1 + 1e-6)
    assert errors[0] < 1.01 * errors[1]
