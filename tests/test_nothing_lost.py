"""Whatever happens to a run or a file: nothing lost, nothing endless, one sentence."""

import csv
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from command import keras_ae_command
from contract import few_everywhere
from PIL import Image

import keras_ae
from keras_ae import compression, datasets, evaluation, files, plots, runs

SHAPE = (8, 6, 1)


def make(Model=keras_ae.VAE, **kwargs):
    settings = {"latent_dim": 2, "image_shape": SHAPE, "architecture": "dense"}
    return Model(**{**settings, "widths": (8,), **kwargs})


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (24, *SHAPE)).astype("uint8")


@pytest.fixture
def photos(tmp_path, pictures):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, picture in enumerate(pictures):
        plots.picture(picture).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture
def saved(tmp_path):
    make().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def invoke(*arguments):
    return keras_ae_command(*arguments)


def assert_one_sentence(result, *parts):
    assert result.exit_code != 0
    # Warnings of packages that Python hides, and pytest does not, may stand before it.
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    for part in parts:
        assert part in line


@pytest.mark.parametrize("Model", [keras_ae.VAE, keras_ae.AAE])
def test_scores_of_the_objective_follow_the_seed(Model, pictures):
    model = make(Model)

    def loss(seed):
        found = evaluation.evaluate(model, pictures, ["objective"], seed=seed)
        return found.values["loss"]

    keras.utils.set_random_seed(0)
    first = loss(1)
    assert loss(1) == first != loss(2)
    # What training would have drawn next is not changed by it.
    expected = [keras.ops.convert_to_numpy(v) for v in model.non_trainable_variables]
    loss(3)
    for variable, value in zip(model.non_trainable_variables, expected, strict=True):
        if variable.name == "seed_generator_state":
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    script = Path(__file__).parent / "kills.py"
    done = subprocess.run(
        [sys.executable, script, "--tries", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same") == 2


def train(folder, pictures, epochs, resume=False):
    run = runs.Run(folder, resume=resume)
    model = run.model(make)
    run.fit(model, pictures[:16], pictures[16:], epochs=epochs, batch_size=8)
    run.finish()


@pytest.mark.once
def test_a_lost_row_of_the_history_comes_back(tmp_path, pictures):
    train(tmp_path / "run", pictures, 3)
    path = tmp_path / "run" / "history.csv"
    whole = path.read_text()
    # A kill between the last checkpoint and the last row.
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    train(tmp_path / "run", pictures, 3, resume=True)
    with open(path, newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert path.read_text() == whole


@pytest.mark.once
def test_no_command_writes_over_what_it_read(saved, photos):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    first = photos / "00.png"
    row = invoke("interpolate", saved, first, photos / "01.png", "--output", first)
    assert_one_sentence(row, "would be overwritten")
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in the way")
def test_pipes_and_loops_are_not_waited_for(saved, photos, tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for command in ("reconstruct", "decompress"):
        result = invoke(command, saved, pipe, "--output", tmp_path / "out")
        assert_one_sentence(result, "Expected a file", "pipe.png")
    assert_one_sentence(invoke("train", "vae", pipe), "Expected a file")
    (photos / "loop.png").symlink_to(photos / "loop.png")
    os.mkfifo(photos / "pipe.png")
    assert len(datasets.load(photos, split="all")) == 24


@pytest.mark.once
def test_names_that_are_not_utf8(saved, photos, tmp_path):
    name = os.fsdecode(b"\xff\xfe.png")
    Image.new("L", (6, 8)).save(photos / "other.png")
    try:
        (photos / "other.png").rename(photos / name)
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    codes = tmp_path / "codes.csv"
    result = invoke("embed", saved, photos, "--output", codes)
    assert result.exit_code == 0, result.output
    assert "\\udcff" in codes.read_text(encoding="utf-8")
    run = tmp_path / "run"
    options = ("--set", "architecture=dense", "--set", "widths=8", "--epochs", 1)
    result = invoke("train", "vae", photos, *options, "--run-dir", run)
    assert result.exit_code == 0, result.output
    assert (run / "report.html").exists()


@pytest.mark.once
def test_dollars_are_no_mathematics(tmp_path):
    codes = np.random.default_rng(0).normal(size=(8, 2))
    names = ["$_", "a$b$c"] * 4
    plots.latent_map(codes, names, "in $").savefig(tmp_path / "map.png")


@pytest.mark.once
def test_what_is_damaged_is_named(pictures, tmp_path):
    folder = tmp_path / "run"
    train(folder, pictures, 2)
    whole = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def damaged(name, content):
        for path in (folder / "scores.json", *whole):
            path.unlink(missing_ok=True)
        for path, before in whole.items():
            path.write_bytes(before)
        (folder / name).write_bytes(content)
        return name

    last = whole[folder / "last.keras"]
    for content in (b"", b"PK", last[: len(last) // 2], last[:-30]):
        damaged("last.keras", content)
        with pytest.raises(ValueError, match="last.keras .*Copy model.keras over"):
            train(folder, pictures, 3, resume=True)
    damaged("model.keras", last[:-30])
    with pytest.raises(ValueError, match="model.keras is damaged .* Remove it, and"):
        train(folder, pictures, 3, resume=True)
    (folder / "model.keras").unlink()
    train(folder, pictures, 3, resume=True)
    assert (folder / "model.keras").exists()
    for content in (b"{", b"[1]", bytes([0xFF, 0xFE])):
        damaged("settings.json", content)
        with pytest.raises(ValueError, match="settings.json is damaged"):
            train(folder, pictures, 3, resume=True)
        assert_one_sentence(invoke("report", folder), "settings.json is damaged")
        damaged("scores.json", content)
        assert_one_sentence(invoke("report", folder), "scores.json is damaged")
    for content in (b"epoch,loss\n1,x\n", b"epoch,loss\n1,2,3\n", b"\xff\x00"):
        damaged("history.csv", content)
        assert_one_sentence(invoke("report", folder), "history.csv is damaged")
    # What goes on with the run writes the history anew.
    train(folder, pictures, 3, resume=True)
    assert invoke("report", folder).exit_code == 0


@pytest.mark.once
def test_what_a_kill_left_is_removed(pictures, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    replacing = files.replacing(folder / "detector.zip")
    partial = replacing.__enter__()
    left = [partial, folder / f"{partial.stem}.keras"]
    own = [folder / ".notes", folder / ".notes-2024.md", folder / ".last-123.keras"]
    for path in (*left, *own):
        path.touch()
    train(folder, pictures, 1)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in own)


@pytest.mark.once
def test_two_processes_do_not_train_in_one_directory(pictures, tmp_path):
    pytest.importorskip("fcntl")
    folder = tmp_path / "run"
    folder.mkdir()
    code = (
        "import pathlib, sys; from keras_ae import files\n"
        f"files.hold(pathlib.Path({str(folder)!r}))\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    for resume in (False, True):
        with pytest.raises(ValueError, match="Another process trains in"):
            train(folder, pictures, 1, resume)
    other.communicate()
    train(folder, pictures, 1)


@pytest.mark.once
def test_long_names_are_names(tmp_path):
    path = tmp_path / ("é" * 120 + "x.keras")
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"


@pytest.mark.once
@pytest.mark.parametrize("number", [2**31, 10**19, -1, 0.5, True])
def test_seeds_and_sizes_are_of_31_bits(number, pictures):
    model = make()
    for refused in (
        lambda: model.sample(2, seed=number),
        lambda: model.sample(10**19),
        lambda: model.encode(pictures, batch_size=10**19),
        lambda: make(latent_dim=10**19),
        lambda: make(widths=(10**19,)),
        lambda: evaluation.evaluate(model, pictures, ["objective"], seed=number),
    ):
        with pytest.raises(ValueError, match="must be .*Received"):
            refused()
    assert model.sample(2, seed=2**31 - 1).shape == (2, *SHAPE)


@pytest.mark.once
def test_flags_are_flags():
    for Model in (keras_ae.GAN, keras_ae.VAEGAN):
        with pytest.raises(ValueError, match="`spectral_norm` must be True or False"):
            Model(2, spectral_norm="no")


def test_arrays_of_any_kind_are_right_or_refused(pictures):
    model = make()
    x = np.float32(pictures / 255)
    expected = model.encode(x)
    for same in (x.astype(">f4"), x.astype(">f8"), np.ma.MaskedArray(x)):
        np.testing.assert_allclose(model.encode(same), expected, rtol=1e-5, atol=1e-6)
    model.fit(x.astype(">f4"), verbose=0)
    masked = np.ma.masked_greater(x, 0.5)
    for refused in (model.encode, model.fit, model.evaluate):
        with pytest.raises(ValueError, match="must not be masked.*x.filled"):
            refused(masked)


@pytest.mark.once
def test_as_many_labels_as_pictures(tmp_path):
    arrays = {"x_train": np.zeros((5_010, 28, 28), "uint8"), "y_train": np.zeros(5_000)}
    arrays |= {"x_test": np.zeros((10, 28, 28), "uint8"), "y_test": np.zeros(10)}
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match="`y_train` .*5,000 labels for 5,010 pictures"):
        datasets.load("mnist", data_dir=str(tmp_path))


@pytest.mark.once
@pytest.mark.parametrize("step", [np.nan, np.inf, 0.0, -1.0])
def test_compressed_pictures_have_a_step(step, pictures):
    model = make()
    data = bytearray(compression.compress(model, pictures))
    struct.pack_into("<f", data, struct.calcsize("<4sB8sI"), step)
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(ValueError, match="multiples of a step > 0"):
        compression.decompress(model, bytes(data))


@pytest.mark.once
def test_no_file_fills_the_memory(saved, tmp_path, pictures):
    model = make()
    count = 2**26
    bomb = compression._deflate(bytes(2 * count))
    header = compression._HEADER.pack(
        compression._MAGIC,
        compression._VERSION,
        bytes.fromhex(compression.fingerprint(model)),
        count,
        1.0,
        1,
        0,
        len(bomb),
    )
    data = header + bomb
    with pytest.raises(ValueError, match="claims to hold 67,108,864 pictures"):
        compression.decompress(model, data + struct.pack("<I", zlib.crc32(data)))
    # As many equal ones as there may well be are restored.
    black = np.zeros((3_000, *SHAPE), "uint8")
    restored = compression.decompress(model, compression.compress(model, black))
    assert restored.shape == black.shape

    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("padding", bytes(200 * 2**20))
    for command in ("sample", "reconstruct"):
        given = () if command == "sample" else (tmp_path,)
        result = invoke(command, saved, *given, "--output", tmp_path / "out.png")
        assert_one_sentence(result, "claims to hold", "made to fill a memory")


@pytest.mark.once
def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = make()
    variable = model.decoder.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.nan, "float32"))
    model.save(tmp_path / "nan.keras")
    result = invoke("sample", tmp_path / "nan.keras", "--output", tmp_path / "a.png")
    assert_one_sentence(result, "weights that are NaN", "Train it anew")


@pytest.mark.thorough
@pytest.mark.parametrize("architecture", few_everywhere(["conv", "residual"], ["conv"]))
def test_one_small_picture_is_a_batch(architecture):
    x = np.random.default_rng(0).random((9, 16, 16, 1), dtype="float32")
    model = keras_ae.AE(2, architecture=architecture, widths=(4, 8))
    history = model.fit(x, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_any_number_of_examples_is_encoded_alike(pictures):
    model = make()
    codes = model.encode(pictures)
    for count in (1, 3, 5, 17, 24):
        for batch_size in (4, 256):
            some = model.encode(pictures[:count], batch_size=batch_size)
            np.testing.assert_allclose(some, codes[:count], rtol=1e-4, atol=1e-5)


def saved_and_loaded(model, path):
    model.save(path)
    return keras.saving.load_model(path)


def test_a_network_of_a_verb_and_what_is_built_on_it_are_saved(pictures, tmp_path):
    model = make()
    x = np.float32(pictures / 255)
    model.fit(x, verbose=0)
    network = model.network("reconstruct")
    again = saved_and_loaded(network, tmp_path / "network.keras")
    expected = model.reconstruct(x)
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, atol=1e-6)
    keras.models.clone_model(network)
    classifier = keras.Sequential([model.network("encode"), keras.layers.Dense(3)])
    found, expected = (
        each.predict(x, verbose=0)
        for each in (
            saved_and_loaded(classifier, tmp_path / "classifier.keras"),
            classifier,
        )
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_likelihoods_and_priors_of_ones_own_are_loaded(pictures, tmp_path):
    class Cauchy(keras_ae.likelihoods.Likelihood):
        def __init__(self, width=1.0, **kwargs):
            super().__init__(**kwargs)
            self.width = width

        def elementwise_log_prob(self, x, parameters, training, observed=None):
            distance = (x - parameters) / self.width
            return -keras.ops.log1p(keras.ops.square(distance))

        def mean(self, parameters):
            return parameters

    class Moved(keras_ae.distributions.LearnedPrior):
        def build(self, shape):
            self.mean = self.add_weight(name="mean", shape=(shape[-1],))
            self.built = True

        def log_prob(self, z):
            return -0.5 * keras.ops.sum(keras.ops.square(z - self.mean), axis=-1)

        def sample(self, shape, seed=None):
            return self.mean + keras.random.normal(shape, seed=seed)

    class Narrow(keras_ae.distributions.Normal):
        pass

    for prior in (Moved(), Narrow(0.0, 0.5)):
        model = make(likelihood=Cauchy(width=3.0), prior=prior)
        model.fit(pictures, verbose=0)
        model.save(tmp_path / "own.keras")
        loaded = keras.saving.load_model(tmp_path / "own.keras")
        assert type(loaded.prior) is type(prior) and loaded.likelihood.width == 3.0
        expected = model.sample(2, seed=0, sampler="prior")
        np.testing.assert_allclose(
            loaded.sample(2, seed=0, sampler="prior"), expected, atol=1e-6
        )


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_quantized_model_is_used_saved_and_loaded(pictures, tmp_path):
    model = make()
    x = np.float32(pictures / 255)
    model.fit(x, verbose=0)
    before = model.encode(x)
    model.quantize("int8")
    rounded = model.encode(x)
    assert 0 < np.abs(rounded - before).max() < 0.1
    again = saved_and_loaded(model, tmp_path / "model.keras")
    np.testing.assert_allclose(again.encode(x), rounded, atol=1e-6)
    assert again.decoder.layers[-2].quantization_mode == "int8"
