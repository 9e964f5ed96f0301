"""Whatever happens to a run or a file: nothing lost, nothing endless, one sentence."""

import csv
import os

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_ae
from keras_ae import cli, datasets, evaluation, plots, runs

SHAPE = (8, 6, 1)


def make(Model=keras_ae.VAE, **kwargs):
    return Model(2, image_shape=SHAPE, architecture="dense", widths=(8,), **kwargs)


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
    return CliRunner().invoke(cli.main, [str(part) for part in arguments])


def assert_one_sentence(result, *parts):
    assert result.exit_code != 0
    assert result.stderr.startswith("Error: ")
    for part in parts:
        assert part in result.stderr


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


def test_a_lost_row_of_the_history_comes_back(tmp_path, pictures):
    def train(epochs, resume):
        run = runs.Run(tmp_path / "run", resume=resume)
        model = run.model(make)
        run.fit(model, pictures[:16], pictures[16:], epochs=epochs, batch_size=8)
        run.finish()

    train(3, resume=False)
    path = tmp_path / "run" / "history.csv"
    whole = path.read_text()
    # A kill between the last checkpoint and the last row.
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    train(3, resume=True)
    with open(path, newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert path.read_text() == whole


@pytest.mark.once
def test_no_command_writes_over_what_it_read(saved, photos):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    first = photos / "00.png"
    row = invoke("interpolate", saved, photos, photos / "01.png", "--output", first)
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
