"""Mirror images: of what they help, and that training takes them where they do."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_ae import datasets
from keras_ae.datasets import mirrors

pytestmark = pytest.mark.once


def strokes(count, slope, seed):
    """Pictures of a line from lower left to upper right; `slope` -1 for either way."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:20, :18]
    sign = rng.choice([1, slope], (count, 1, 1))
    shift, tilt = rng.uniform(-4, 4, (count, 1, 1)), rng.uniform(0.5, 2, (count, 1, 1))
    distance = (rows - 10 + shift) + sign * tilt * (columns - 8.5)
    noise = rng.uniform(0, 60, distance.shape)
    return np.uint8(195 * np.exp(-np.square(distance) / 8) + noise)[..., None]


def test_they_are_behind_the_pictures():
    x = np.arange(24).reshape(2, 3, 4, 1)
    both = mirrors.mirrored(x)
    np.testing.assert_array_equal(both[:2], x)
    np.testing.assert_array_equal(both[2:, :, ::-1], x)


def test_they_are_as_likely_where_pictures_come_either_way_round():
    assert abs(mirrors.asymmetry(strokes(80, -1, 0))) < 0.1
    assert mirrors.asymmetry(strokes(80, 1, 0)) > 1
    assert mirrors.asymmetry(np.zeros((4, 5, 6), "uint8")) == 0


def test_real_digits_and_faces(real_data):
    with np.load(real_data("mnist.npz")) as file:
        digits = file["x_train"]
    assert mirrors.asymmetry(digits[:300]) > 0.3
    faces = real_data("celeba_10k_89x109.zip")
    faces = datasets.load(faces, "all", image_size=(54, 44), limit=300)
    assert abs(mirrors.asymmetry(faces)) < 0.1


def test_train_decides_and_says_so(invoke, tmp_path):
    for name, slope in (("either", -1), ("one", 1)):
        (tmp_path / name).mkdir()
        for index, picture in enumerate(strokes(80, slope, 0)[..., 0]):
            Image.fromarray(picture).save(tmp_path / name / f"{index:02d}.png")
    small = ("--set", "architecture=dense", "--set", "widths=8", "--epochs", 1)

    def trained(name, *options):
        result = invoke("train", "vae", name, *small, *options)
        assert result.exit_code == 0, result.output
        line = result.stdout.partition("Run directory: ")[2].partition("\n")[0]
        settings = json.loads((tmp_path / line / "settings.json").read_text())
        return settings["training"]["pictures"], result.stdout

    either, said = trained("either")
    one, silent = trained("one")
    assert either == 2 * one
    assert "mirror images" in said and "--set mirror=no" in said
    assert "mirror images" not in silent
    assert trained("either", "--set", "mirror=no")[0] == one
    assert trained("one", "--set", "mirror=yes")[0] == either
    resumed = invoke("train", "vae", "either", "--resume", "--epochs", 2)
    assert resumed.exit_code == 0, resumed.output
    wrong = invoke("train", "vae", "one", "--set", "mirror=up")
    assert wrong.exit_code == 1 and "`mirror` must be yes or no" in wrong.stderr
