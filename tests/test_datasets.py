"""Data sets: from names, folders and odd files to arrays of pixels."""

import io
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
from PIL import Image

from keras_ae import datasets, runs
from keras_ae.cli.commands import reading
from keras_ae.datasets import (
    cache,
    celeba,
    decoding,
    folders,
    moon,
    pictures,
    plane,
    splits,
)

pytestmark = pytest.mark.once


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_AE_DATA", raising=False)
    monkeypatch.setattr(folders, "_said", set())
    return tmp_path / "cache"


def encoded(image, kind="PNG", **options):
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(value, size=(12, 10)):
    return np.full(size, value, "uint8")


def colour(value, size=(12, 10)):
    return np.stack([grey(value, size), grey(255 - value, size), grey(7, size)], -1)


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def numbered(count):
    """Pictures that can be told apart: the n-th is of colour n."""
    return {f"{n:03}.png": encoded(colour(n)) for n in range(count)}


# Names, arguments


def test_importing_datasets_imports_no_keras():
    code = (
        "import sys; from keras_ae import datasets; datasets.names(); "
        "datasets.load('moon-phases', limit=2); "
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_found_whatever_their_case():
    assert list(datasets.names()) == ["moon-phases", "mnist", "fashion-mnist", "celeba"]
    a = datasets.load("Moon_Phases", limit=3)
    np.testing.assert_array_equal(a, datasets.load("moon-phases", limit=3))
    assert datasets.find("moon-phases") is None
    assert datasets.find("CelebA") is None
    with pytest.raises(ValueError, match="`name` must be one of 'moon-phases'"):
        datasets.find("cifar")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["mnits"], {}, "one of 'moon-phases', 'mnist', 'fashion-mnist', 'celeba'"),
        (["mnist", "tset"], {}, "`split` must be .* Received: split='tset'"),
        (["mnist", "train+train"], {}, "`split` must be"),
        (["moon-phases"], {"limit": 0}, "`limit` must be .* Received: limit=0"),
        (["moon-phases"], {"limit": 2.5}, "`limit` must be"),
        (["moon-phases"], {"image_size": 0}, "`image_size` must be"),
        (["moon-phases"], {"image_size": (3, 4, 3)}, "`image_size` must be"),
        (["moon-phases"], {"image_size": "big"}, "`image_size` must be"),
        (["moon-phases"], {"seed": -1}, "`seed` must be"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(*arguments, **options)


def test_missing_data_says_where_to_put_it(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no folder or zip at"):
        datasets.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no folder or zip at"):
        datasets.load("some/where")
    with pytest.raises(
        FileNotFoundError, match="celeba is not on this .*KERAS_AE_DATA"
    ):
        datasets.load("celeba")
    with pytest.raises(FileNotFoundError, match=f"celeba is not in {tmp_path}"):
        datasets.load("celeba", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="`data_dir` must name an existing"):
        datasets.load("mnist", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("KERAS_AE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="variable KERAS_AE_DATA must name"):
        datasets.load("celeba")


# Moon phases


def test_moon_phases_are_deterministic_and_split():
    images, factors = datasets.load("moon-phases", labels=True, limit=50)
    assert images.shape == (50, 32, 32, 1) and images.dtype == "uint8"
    assert list(factors) == ["phase", "tilt", "size", "x", "y"]
    again = moon.render(**factors)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(images, datasets.load("moon-phases", limit=50))
    other = datasets.load("moon-phases", limit=50, seed=1)
    assert (images != other).any()
    _, training = datasets.load("moon-phases", labels=True, image_size=4)
    _, rest = datasets.load("moon-phases", "validation+test", labels=True, image_size=4)
    assert len(training["phase"]) == 10_000 and len(rest["phase"]) == 2_000
    assert not set(training["phase"].tolist()) & set(rest["phase"][:100].tolist())


def test_moons_are_lit_as_their_phase_says():
    new, waxing, full, waning = moon.render([0, 0.25, 0.5, 0.75], image_size=64)[..., 0]
    earthshine = round(255 * moon.EARTHSHINE)
    assert new.max() <= earthshine and np.count_nonzero(new == earthshine) > 1000
    assert np.count_nonzero(full == 255) > 1000
    assert waxing[32, 45] == 255 and waxing[32, 18] == earthshine
    np.testing.assert_array_equal(waning, waxing[:, ::-1])
    area = np.pi * (0.35 * 64) ** 2
    assert full.sum() / 255 == pytest.approx(area, rel=0.01)
    assert new.sum() / earthshine == pytest.approx(area, rel=0.01)
    for phase in np.linspace(0, 1, 21):
        lit = (1 - np.cos(2 * np.pi * phase)) / 2
        light = moon.render(phase, tilt=0.3, image_size=64).sum() / 255 / area
        expected = moon.EARTHSHINE + (1 - moon.EARTHSHINE) * lit
        assert light == pytest.approx(expected, abs=0.01)


def test_moon_factors_move_the_moon():
    image = moon.render(0.5, size=0.2, x=0.25, y=-0.1, image_size=(40, 80))[0, :, :, 0]
    rows, columns = np.nonzero(image > 127)
    assert columns.mean() + 0.5 == pytest.approx(0.75 * 80, abs=0.1)
    assert rows.mean() + 0.5 == pytest.approx(0.4 * 40, abs=0.1)
    assert np.ptp(rows) + 1 == pytest.approx(16, abs=1)
    # Turned counter-clockwise, the light of a waxing moon comes from above.
    tilted = moon.render(0.25, tilt=np.pi / 2)[0, :, :, 0]
    assert tilted[10, 16] == 255 and tilted[22, 16] < 127


@pytest.mark.parametrize("blur", [0, 1])
def test_measured_phase_is_the_lit_fraction(blur):
    images, factors = datasets.load("moon-phases", labels=True, limit=200)
    images = images / np.float32(255)
    for axis in (1, 2) if blur else ():
        images = sum(np.roll(images, shift, axis) for shift in (-1, 0, 1)) / 3
    noise = np.random.default_rng(0).normal(0, 0.01, images.shape)
    measured = moon.measure_phase(images + noise)
    expected = (1 - np.cos(2 * np.pi * factors["phase"])) / 2
    assert measured.shape == (200,)
    assert np.abs(measured - expected).mean() < 0.05
    assert np.abs(measured - expected).max() < 0.2


def test_measured_factors_are_those_that_were_rendered():
    rng = np.random.default_rng(0)
    factors = rng.uniform(moon.LOW, moon.HIGH, (500, 5)).astype("float32")
    found = moon.measure(moon.render(*factors.T))
    assert list(found) == list(moon.FACTORS)
    apart = dict(zip(moon.FACTORS, factors.T, strict=True))
    error = {name: np.abs(found[name] - apart[name]) for name in found}
    # A new moon that waxes looks like one that wanes.
    error["phase"] = np.minimum(error["phase"], 1 - error["phase"])
    told = ~np.isnan(error["tilt"])
    assert 0.5 < told.mean() < 0.9
    limits = {"phase": 0.01, "tilt": 0.02, "size": 0.002, "x": 0.003, "y": 0.001}
    for name, limit in limits.items():
        assert np.nanmean(error[name]) < limit, name
    nothing = moon.measure(np.zeros((1, 32, 32), "uint8"))
    assert np.isnan([*nothing.values()]).all()


def test_measured_phase_tells_a_half_moon_from_a_blend():
    new, half, full = moon.render([0, 0.25, 0.5])
    assert moon.measure_phase(half) == pytest.approx(0.5, abs=0.03)
    assert moon.measure_phase(new[..., 0]) == 0
    assert moon.measure_phase(full) == pytest.approx(1, abs=0.02)
    blend = (new / 255 + full / 255) / 2
    assert abs(moon.measure_phase(blend) - 0.5) > 0.4
    assert np.isnan(moon.measure_phase(np.zeros((8, 8))))
    with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
        moon.measure_phase(half.astype("float32"))
    with pytest.raises(ValueError, match="one grey picture"):
        moon.measure_phase(np.zeros((2, 8, 8, 3)))


# MNIST


@pytest.fixture
def small_mnist(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (5_020, 28, 28), "uint8"),
        "y_train": np.arange(5_020) % 10,
        "x_test": rng.integers(0, 256, (30, 28, 28), "uint8"),
        "y_test": np.arange(30) % 10,
    }
    np.savez(tmp_path / "mnist.npz", **arrays)
    return arrays


def test_mnist_splits(tmp_path, small_mnist, monkeypatch):
    monkeypatch.setenv("KERAS_AE_DATA", str(tmp_path))
    assert datasets.find("mnist") == tmp_path / "mnist.npz"
    images, labels = datasets.load("mnist", labels=True)
    np.testing.assert_array_equal(images[..., 0], small_mnist["x_train"][:20])
    np.testing.assert_array_equal(labels["label"], small_mnist["y_train"][:20])
    images = datasets.load("mnist", "validation")
    np.testing.assert_array_equal(images[..., 0], small_mnist["x_train"][20:])
    images = datasets.load("mnist", "train + validation")
    np.testing.assert_array_equal(images[..., 0], small_mnist["x_train"])
    images = datasets.load("mnist", "test", limit=7)
    np.testing.assert_array_equal(images[..., 0], small_mnist["x_test"][:7])
    assert len(datasets.load("mnist", "all")) == 5_050
    assert datasets.load("mnist", "test", image_size=(20, 30)).shape == (30, 20, 30, 1)


def test_mnist_that_cannot_be_had_is_explained(tmp_path, monkeypatch):
    def refuse():
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", refuse)
    with pytest.raises(FileNotFoundError, match=r"get fashion_mnist\.npz .*`data_dir`"):
        datasets.load("fashion-mnist", data_dir=tmp_path)
    (tmp_path / "mnist.npz").write_text("not an npz")
    with pytest.raises(ValueError, match="must be an npz file with the arrays x_train"):
        datasets.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "train", "test"),
    [
        ("mnist", "mnist.npz", 33.318, 33.791),
        ("fashion-mnist", "fashion_mnist.npz", 72.940, 73.147),
    ],
)
def test_real_mnist(name, file, train, test):
    if not (SHARED / file).exists():
        pytest.skip(f"{file} is not in {SHARED}")
    images = datasets.load(name, "train+validation", data_dir=SHARED)
    assert images.shape == (60_000, 28, 28, 1)
    assert images.mean() == pytest.approx(train, abs=1e-3)
    images = datasets.load(name, "test", data_dir=SHARED)
    assert images.mean() == pytest.approx(test, abs=1e-3)


# CelebA


def face(number, size=(218, 178)):
    """A picture whose central square of 148/178 of the width is of one colour."""
    height, width = size
    side = round(width * 148 / 178)
    pixels = np.zeros((height, width, 3), "uint8")
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = (number, 255 - number, 90)
    return encoded(pixels, "JPEG", quality=95, subsampling=0)


def celeba_files(count=10, folder="img_align_celeba", kind="txt", split=True):
    names = [f"{n:06}.jpg" for n in range(1, count + 1)]
    files = {f"{folder}/{name}": face(20 * n % 256) for n, name in enumerate(names)}
    signs = [1 if n % 3 == 0 else -1 for n in range(count)]
    partition = [(2 if n >= 9 else 1 if n == 8 else 0) * split for n in range(count)]
    if kind == "txt":
        rows = [f"{a}  {s}  {-s}" for a, s in zip(names, signs, strict=True)]
        attributes = [str(count), "Male Young ", *rows]
        rows = [f"{a} {s}" for a, s in zip(names, partition, strict=True)]
    else:
        rows = [f"{a},{s},{-s}" for a, s in zip(names, signs, strict=True)]
        attributes = ["image_id,Male,Young", *rows]
        rows = [f"{a},{s}" for a, s in zip(names, partition, strict=True)]
        rows = ["image_id,partition", *rows]
    files[f"list_attr_celeba.{kind}"] = "\r\n".join(attributes).encode()
    files[f"list_eval_partition.{kind}"] = "\n".join(rows).encode()
    return files


def lay_out(tmp_path, layout):
    """Returns a `data_dir` with CelebA in one of the layouts that it comes in."""
    if layout == "folder":
        return write(tmp_path / "faces", celeba_files())
    if layout == "kaggle":
        files = celeba_files(folder="img_align_celeba/img_align_celeba", kind="csv")
        return write(tmp_path / "faces", files)
    files = celeba_files()
    if layout == "one zip":
        (tmp_path / "faces").mkdir()
        write_zip(tmp_path / "faces" / "my_celeba.zip", files)
        return tmp_path / "faces"
    images = {name: data for name, data in files.items() if "/" in name}
    lists = {name: data for name, data in files.items() if "/" not in name}
    if layout == "zip beside lists":
        write(tmp_path / "faces", lists)
        write_zip(tmp_path / "faces" / "img_align_celeba.zip", images)
    else:
        for name, data in lists.items():
            place = "Eval" if "eval" in name else "Anno"
            write(tmp_path / "faces" / "CelebA" / place, {name: data})
        write(tmp_path / "faces" / "CelebA" / "Img", {})
        (tmp_path / "faces" / "CelebA" / "Img").mkdir()
        write_zip(
            tmp_path / "faces" / "CelebA" / "Img" / "img_align_celeba.zip", images
        )
    return tmp_path / "faces"


@pytest.mark.parametrize(
    "layout", ["folder", "kaggle", "one zip", "zip beside lists", "official download"]
)
def test_celeba_layouts(tmp_path, layout, capsys):
    data_dir = lay_out(tmp_path, layout)
    images, attributes = datasets.load("celeba", data_dir=data_dir, labels=True)
    assert images.shape == (8, 64, 64, 3)
    # Nothing of the black border is left: the crop is the central square.
    expected = [(20 * n, 255 - 20 * n, 90) for n in range(8)]
    found = images[:, 1:-1, 1:-1].astype(int)
    assert np.abs(found - np.array(expected)[:, None, None]).max() < 6
    assert attributes["Male"].dtype == bool
    assert attributes["Male"].tolist() == [n % 3 == 0 for n in range(8)]
    assert (attributes["Young"] == ~attributes["Male"]).all()
    for split, count in (("validation", 1), ("test", 1), ("all", 10)):
        assert len(datasets.load("celeba", split, data_dir=data_dir)) == count
    last = datasets.load("celeba", "test", data_dir=data_dir)
    assert abs(int(last[0, 32, 32, 0]) - 180) < 6
    assert capsys.readouterr().err == ""


def test_tiles_lie_beside_each_other():
    images = np.arange(2 * 7 * 9).reshape(2, 7, 9, 1)
    tiles, of = datasets.cut_tiles(images, 3)
    assert tiles.shape == (12, 3, 3, 1) and of.tolist() == [0] * 6 + [1] * 6
    places = [(top, left) for top in (0, 4) for left in (0, 3, 6)]
    for tile, (top, left) in zip(tiles[6:], places, strict=True):
        np.testing.assert_array_equal(tile, images[1, top : top + 3, left : left + 3])
    some, of_some = datasets.cut_tiles(images, 3, most=5, seed=2)
    assert len(some) == len(np.unique(some, axis=0)) == 5
    assert (np.diff(of_some) >= 0).all() and set(of_some) == {0, 1}
    assert all((tile == tiles).all(axis=(1, 2, 3)).any() for tile in some)
    np.testing.assert_array_equal(datasets.cut_tiles(images, 3, 99)[0], tiles)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((5, 8)), 2), "`images` must be"),
        ((np.zeros((1, 8, 6, 1)), 7), "`side` must be at most 6"),
        ((np.zeros((1, 8, 6, 1)), 0), "`side` must be"),
        ((np.zeros((1, 8, 6, 1)), 2, 0), "`most` must be"),
        ((np.zeros((1, 8, 6, 1)), 2, 1, -1), "`seed` must be"),
    ],
)
def test_tiles_that_can_not_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.cut_tiles(*arguments)


def test_own_size_of_pictures_is_bounded_by_what_holds_them_all(tmp_path):
    folder = write(tmp_path / "large", {f"{n}.jpg": face(0, (300, 200)) for n in "abc"})
    assert datasets.folders.own_size(folder, 10**9) == (300, 200)
    assert datasets.folders.own_size(folder, 3 * 3 * 150 * 100) == (150, 100)
    assert datasets.folders.own_size(folder, 1) == (96, 64)


def test_what_data_are_is_told_by_name_or_layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces = write_zip(tmp_path / "half.zip", celeba_files(3))
    whole = write(tmp_path / "whole", celeba_files(3))
    own = write(tmp_path / "own", {"a.jpg": face(0)})
    write(tmp_path / "table", {"rows.csv": b"a,b"})
    found = [faces, whole, "half.zip", "whole", "CelebA", "Moon_Phases"]
    named = ["celeba"] * 5 + ["moon-phases"]
    assert [datasets.recognise(data) for data in found] == named
    for data in (own, "own", "table/rows.csv", "absent", "absent.zip"):
        assert datasets.recognise(data) is None


def test_celeba_is_recognised_by_its_content_and_split_where_needed(tmp_path, capsys):
    path = write_zip(tmp_path / "half.zip", celeba_files(20, split=False))
    parts = [datasets.load(path, part) for part in splits.NAMES]
    assert [len(part) for part in parts] == [16, 2, 2]
    found = np.concatenate(parts)[:, 32, 32, 0]
    whole = datasets.load(path, "all")[:, 32, 32, 0]
    np.testing.assert_array_equal(np.sort(found), np.sort(whole))
    assert capsys.readouterr().err.count("80/10/10") == 1
    other = datasets.load(path, "train", seed=1)
    assert (other != parts[0]).any()
    # The same crop of a picture of half the size.
    small = pictures.decode(face(100, (109, 89)), (32, 32), 3, celeba.CROP)
    assert np.abs(small[1:-1, 1:-1].astype(int) - (100, 155, 90)).max() < 6


def test_celeba_of_several_zips_says_which(tmp_path, capsys):
    write_zip(tmp_path / "celeba_a.zip", celeba_files(10))
    write_zip(tmp_path / "celeba_b.zip", celeba_files(12))
    write_zip(tmp_path / "celeba_c.zip", {"readme.txt": b"no faces"})
    assert datasets.find("celeba", tmp_path) == tmp_path / "celeba_b.zip"
    assert "(there are also celeba_a.zip)" in capsys.readouterr().err
    assert datasets.find("celeba", tmp_path / "celeba_a.zip").name == "celeba_a.zip"


def test_celeba_without_attributes(tmp_path, capsys):
    files = celeba_files()
    short = files["list_attr_celeba.txt"].splitlines()[:-1]
    files["list_attr_celeba.txt"] = b"\n".join(short)
    path = write_zip(tmp_path / "short.zip", files)
    assert datasets.load(path, "all", labels=True)[1].keys() == {"path"}
    assert "list_attr_celeba lacks 1 pictures" in capsys.readouterr().err
    del files["list_attr_celeba.txt"]
    path = write_zip(tmp_path / "celeba.zip", files)
    assert datasets.load(path, labels=True)[1].keys() == {"path"}


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("celeba_10k_89x109.zip", (8_000, 1_000, 1_000)),
        ("celeba_8k_178x218.zip", (6_000, 1_000, 1_000)),
    ],
)
def test_real_celeba(file, counts):
    if not (SHARED / file).exists():
        pytest.skip(f"{file} is not in {SHARED}")
    listed = celeba._pictures(SHARED / file)
    names = [name.rsplit("/", 1)[-1] for name in listed.names]
    split_of = celeba._official_split(listed, names)
    if split_of is None:
        split_of = splits.seeded(len(names), 0)
    assert tuple(np.bincount(split_of)) == counts
    images = datasets.load(SHARED / file, "test", limit=20, image_size=32)
    assert images.shape == (20, 32, 32, 3)
    assert 60 < images.mean() < 160


# A folder or zip of one's own pictures


def test_folder_is_split_at_random_without_overlap(tmp_path):
    folder = write(tmp_path / "mine", numbered(30))
    parts = [datasets.load(folder, part, image_size=8) for part in splits.NAMES]
    assert [len(part) for part in parts] == [24, 3, 3]
    found = np.concatenate(parts)[:, 0, 0, 0]
    assert sorted(found.tolist()) == list(range(30))
    everything = datasets.load(folder, "all", image_size=(4, 6))
    assert everything.shape == (30, 4, 6, 3)
    assert everything[:, 0, 0, 0].tolist() == list(range(30))
    summed = datasets.load(folder, "train+test", image_size=8)
    assert sorted(summed[:, 0, 0, 0].tolist()) == sorted(
        [*parts[0][:, 0, 0, 0].tolist(), *parts[2][:, 0, 0, 0].tolist()]
    )
    assert (datasets.load(folder, image_size=8, seed=3) != parts[0]).any()


def test_zip_of_pictures_is_like_the_folder(tmp_path):
    files = {f"album/{name}": data for name, data in numbered(10).items()}
    files["album/notes.txt"] = b"hello"
    files["__MACOSX/album/._000.png"] = b"rubbish"
    files["album/.hidden.png"] = b"rubbish"
    folder = write(
        tmp_path / "mine", {k: v for k, v in files.items() if "MAC" not in k}
    )
    path = write_zip(tmp_path / "mine.ZIP", files)
    for split in splits.NAMES:
        np.testing.assert_array_equal(
            datasets.load(path, split), datasets.load(folder, split)
        )


def test_a_zip_of_windows_has_folders(tmp_path):
    names = ["Train/cats/a", "Train/dogs/b", "val/cats/c", "test/d"]
    files = {f"photos/{name}.png": encoded(colour(n)) for n, name in enumerate(names)}
    files |= {"__MACOSX/a.png": b"rubbish", ".hidden/b.png": b"rubbish"}
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            member = zipfile.ZipInfo()
            member.filename = name.replace("/", "\\")
            file.writestr(member, data)
    images, labels = datasets.load(path, image_size=8, labels=True)
    assert images[:, 0, 0, 0].tolist() == [0, 1]
    assert labels["folder"].tolist() == ["cats", "dogs"]
    assert labels["path"].tolist() == [f"photos/{name}.png" for name in names[:2]]
    assert len(datasets.load(path, "all", image_size=8)) == 4


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_one_name_in_a_zip_counts(tmp_path):
    path = write_zip(tmp_path / "mine.zip", numbered(3))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr([*numbered(3)][0], encoded(colour(9)))
    images = datasets.load(path, "all", image_size=8)
    assert images[:, 0, 0, 0].tolist() == [9, 1, 2]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pictures_that_can_not_be_read_are_told(tmp_path, capsys, kind):
    files = {"a/1.HEIC": b"x", "a/2.heic": b"x", "3.dcm": b"x", "notes.txt": b"x"}
    put = write if kind == "folder" else write_zip
    with pytest.raises(FileNotFoundError, match=r"Received: 1 \.dcm, 2 \.heic"):
        datasets.load(put(tmp_path / f"none.{kind}", files))
    put(tmp_path / f"some.{kind}", {**files, **numbered(3)})
    assert len(datasets.load(tmp_path / f"some.{kind}", "all", image_size=8)) == 3
    assert "3 pictures" in (said := capsys.readouterr().err) and "2 .heic" in said


def test_several_paths_are_no_data_set(tmp_path):
    with pytest.raises(ValueError, match="must be a name or one path.*: a list"):
        datasets.load([write(tmp_path / "mine", numbered(3))])


@pytest.mark.parametrize("wrapper", ["", "photos/"])
def test_split_folders_decide(tmp_path, wrapper):
    names = ["Train/cats/a", "Train/dogs/b", "val/cats/c", "test/d", "other/e"]
    files = {f"{wrapper}{name}.png": encoded(colour(n)) for n, name in enumerate(names)}
    folder = write(tmp_path / "mine", files)
    images, labels = datasets.load(folder, image_size=8, labels=True)
    assert images[:, 0, 0, 0].tolist() == [0, 1]
    assert labels["folder"].tolist() == ["cats", "dogs"]
    assert [path.split("/")[-2] for path in labels["path"]] == ["cats", "dogs"]
    assert datasets.load(folder, "validation", image_size=8)[0, 0, 0, 0] == 2
    images, labels = datasets.load(folder, "test", image_size=8, labels=True)
    assert images[0, 0, 0, 0] == 3 and labels["folder"].tolist() == [""]
    assert len(datasets.load(folder, "all", image_size=8)) == 4


def test_missing_validation_folder_is_drawn_from_training(tmp_path, capsys):
    files = {f"train/{name}": data for name, data in numbered(10).items()}
    files["test/x.png"] = encoded(colour(99))
    folder = write(tmp_path / "mine", files)
    training, validation, test = (
        datasets.load(folder, part, image_size=8)[:, 0, 0, 0] for part in splits.NAMES
    )
    assert test.tolist() == [99] and len(validation) == 1
    assert sorted([*training, *validation]) == list(range(10))
    assert "no validation folder" in capsys.readouterr().err


def test_labels_are_sub_folders(tmp_path):
    files = {"cats/a.png": encoded(colour(1)), "b.png": encoded(colour(2))}
    folder = write(tmp_path / "mine", files)
    images, labels = datasets.load(folder, "all", image_size=8, labels=True)
    assert images[:, 0, 0, 0].tolist() == [2, 1]
    assert labels["folder"].tolist() == ["", "cats"]


def test_links_to_folders_are_followed_once(tmp_path):
    write(tmp_path / "kept", {"x/a.png": encoded(grey(1)), "b.png": encoded(grey(2))})
    folder = write(tmp_path / "mine", {"dogs/c.png": encoded(grey(3))})
    links = {"cats": "../kept", "again": "dogs", "up": "..", "gone": "nowhere"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    (tmp_path / "kept" / "x" / "back").symlink_to("..")
    images, labels = datasets.load(folder, "all", image_size=8, labels=True)
    assert labels["path"].tolist() == ["cats/b.png", "cats/x/a.png", "dogs/c.png"]
    assert images[:, 0, 0, 0].tolist() == [2, 1, 3]


def test_what_runs_have_drawn_is_no_data(tmp_path):
    folder = write(tmp_path / "mine", numbered(4))
    drawn = {"settings.json": b"{}", "model.keras": b"", "pictures/x.png": b"?"}
    run = write(folder / "runs" / "vae-mine", drawn | numbered(3))
    _, labels = datasets.load(folder, "all", image_size=8, labels=True)
    assert labels["path"].tolist() == [*numbered(4)]
    # Whoever names a run is given its pictures.
    with pytest.warns(UserWarning, match="1 of 4 .* not be read"):
        assert len(datasets.load(run, "all", image_size=8)) == 3


def test_all_splits_have_the_same_channels(tmp_path):
    files = {f"train/{n}.png": encoded(grey(n)) for n in range(5)}
    files["val/v.png"] = encoded(np.dstack([grey(9)] * 3))
    folder = write(tmp_path / "mine", {**files, "test/t.png": encoded(grey(8))})
    assert datasets.load(folder, image_size=8).shape == (5, 8, 8, 1)
    write(folder, {"test/u.png": encoded(colour(8))})
    assert datasets.load(folder, image_size=8).shape == (5, 8, 8, 3)


def test_empty_and_wrong_places_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures in .*empty"):
        datasets.load(tmp_path / "empty")
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "a.zip").write_text("hello")
    for name in ("a.txt", "a.zip"):
        with pytest.raises(ValueError, match=f"Expected a folder or a zip .*{name}"):
            datasets.load(tmp_path / name)
    folder = write(tmp_path / "two", numbered(2))
    with pytest.raises(ValueError, match="no pictures in split 'test'"):
        datasets.load(folder, "test")


def test_broken_pictures_are_skipped_named_and_counted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), "uint8")
    files = numbered(6)
    files["001.png"] = b"this is a text file"
    files["003.png"] = encoded(noise, "JPEG")[:1500]
    folder = write(tmp_path / "mine", files)
    for _ in range(2):  # the cache remembers
        with pytest.warns(
            UserWarning, match="^2 of 6 pictures in .* skipped: "
        ) as seen:
            images, labels = datasets.load(folder, "all", image_size=8, labels=True)
        assert len(seen) == 1
        message = str(seen[0].message)
        assert "001.png (not a picture), 003.png (" in message
        assert seen[0].filename == __file__
        assert images[:, 0, 0, 0].tolist() == [0, 2, 4, 5]
        assert len(labels["folder"]) == 4
    with pytest.warns(UserWarning, match="1 of 3"):
        images = datasets.load(folder, "all", image_size=8, limit=3)
    assert images[:, 0, 0, 0].tolist() == [0, 2]


def test_nothing_readable_is_an_error(tmp_path, own_cache):
    files = {f"{n}.jpg": b"text" for n in range(9)}
    folder = write(tmp_path / "mine", files)
    with pytest.raises(ValueError, match=r"None of the 9 .*0\.jpg \(not .*and 4 more"):
        datasets.load(folder, "all")
    with pytest.raises(ValueError, match="None of the 1 .* make a split of the 9"):
        datasets.load(folder, "validation")
    assert list(own_cache.iterdir()) == []


def test_picture_too_large_to_be_true_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    files = {**numbered(3), "bomb.png": encoded(colour(5, (100, 100)))}
    with pytest.warns(UserWarning, match="bomb.png"):
        images = datasets.load(write(tmp_path / "mine", files), "all", image_size=8)
    assert len(images) == 3


# Kinds of pictures


def picture_16_bit():
    return Image.fromarray(np.full((12, 10), 200 * 257, "uint16"))


def transparent(mode):
    image = Image.new(mode, (10, 12), (0, 0) if mode == "LA" else (9, 9, 9, 0))
    return image


def palette():
    image = Image.new("P", (10, 12), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    return image


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(grey(70)), [70]),
        (encoded(colour(70)), [70, 185, 7]),
        (encoded(Image.new("1", (10, 12), 1)), [255]),
        (encoded(palette()), [10, 200, 30]),
        (encoded(palette(), "GIF"), [10, 200, 30]),
        (encoded(palette(), transparency=1), [255]),
        (encoded(transparent("LA")), [255]),
        (encoded(transparent("RGBA")), [255]),
        (encoded(Image.new("RGBA", (10, 12), (0, 100, 200, 255))), [0, 100, 200]),
        (encoded(picture_16_bit()), [200]),
        (encoded(picture_16_bit(), "TIFF"), [200]),
        (encoded(Image.new("I", (10, 12), 200 * 257), "PPM"), [200]),
        (encoded(Image.new("F", (10, 12), 0.4), "TIFF"), [102]),
        (encoded(Image.new("CMYK", (10, 12), (0, 255, 255, 0)), "TIFF"), [255, 0, 0]),
        (encoded(Image.new("LAB", (10, 12), (255, 128, 128)), "TIFF"), [255] * 3),
    ],
)
def test_every_mode_comes_out_right(data, expected):
    pixels = pictures.decode(data, (6, 5))
    assert pixels.shape == (6, 5, len(expected)) and pixels.dtype == "uint8"
    assert np.abs(pixels.astype(int) - expected).max() <= 2
    assert pictures.decode(data, (6, 5), 3).shape == (6, 5, 3)
    assert pictures.decode(data, (6, 5), 1).shape == (6, 5, 1)


@pytest.mark.parametrize("value", [-1.0, 1.5, 200.0, np.nan])
def test_float_pictures_out_of_range_are_refused(value):
    data = encoded(Image.new("F", (10, 12), value), "TIFF")
    with pytest.raises(ValueError, match="not 0 to 1"):
        pictures.decode(data, (6, 5))


def test_cmyk_jpeg():
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(pictures.decode(data, (8, 8)) - [255.0, 0, 0]).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright = np.zeros((40, 40), "uint8")
    upright[:20, :20], upright[:20, 20:] = 250, 120
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](upright))
    data = encoded(stored, "JPEG", quality=95, exif=exif)
    pixels = pictures.decode(data, (40, 40))[:, :, 0].astype(int)
    assert np.abs(pixels - upright).mean() < 2


def test_pictures_are_cropped_at_the_centre_and_antialiased():
    wide = np.zeros((20, 60), "uint8")
    wide[:, 20:40] = 200
    assert (pictures.decode(encoded(wide), (20, 20)) == 200).all()
    assert (pictures.decode(encoded(wide.T), (10, 10)) == 200).all()
    stripes = np.tile(np.uint8([0, 255]), (64, 32))
    assert np.abs(pictures.decode(encoded(stripes), (8, 8)) - 127.5).max() < 12
    # The shortcut for large JPEGs changes nothing that can be seen.
    rows, columns = np.mgrid[:800, :1200]
    smooth = 127 + 60 * np.sin(rows / 90) + 60 * np.cos(columns / 70)
    smooth = smooth.astype("uint8")
    jpeg = pictures.decode(encoded(smooth, "JPEG", quality=98), (32, 32))
    png = pictures.decode(encoded(smooth), (32, 32))
    assert np.abs(jpeg.astype(int) - png).max() <= 3


def test_pictures_smaller_than_asked_for_are_enlarged():
    assert (pictures.decode(encoded(grey(33, (1, 1))), (5, 7)) == 33).all()


# The cache


def test_second_load_decodes_nothing(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", numbered(20))
    first = datasets.load(folder, "all", image_size=8)
    assert isinstance(first, np.memmap) and not first.flags.writeable

    def refuse(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "decode", refuse)
    monkeypatch.setattr(folders.Pictures, "read", refuse)
    again = datasets.load(folder, "all", image_size=8)
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(
        datasets.load(folder, "all", image_size=8, limit=5), first[:5]
    )


def test_limit_decodes_no_more_than_it_needs(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", numbered(20))
    decoded = []
    original = decoding._decode
    monkeypatch.setattr(
        decoding,
        "_decode",
        lambda pictures, positions, block, how: (
            decoded.extend(positions[row] for row in block)
            or original(pictures, positions, block, how)
        ),
    )
    images = datasets.load(folder, "all", image_size=8, limit=5)
    assert images[:, 0, 0, 0].tolist() == list(range(5))
    assert decoded == [*range(5)]


def test_changed_pictures_are_decoded_again(tmp_path):
    folder = write(tmp_path / "mine", numbered(5))
    path = write_zip(tmp_path / "mine.zip", numbered(5))
    for place in (folder, path):
        assert datasets.load(place, "all", image_size=8)[2, 0, 0, 0] == 2
    changed = {**numbered(5), "002.png": encoded(colour(200))}
    write(folder, changed)
    write_zip(path, changed)
    for place in (folder, path):
        assert datasets.load(place, "all", image_size=8)[2, 0, 0, 0] == 200


def test_pictures_of_one_name_size_and_time_are_told_apart(tmp_path):
    # As reproducible archives unpack them: every file is of the same moment.
    for value, place in enumerate(("first", "second")):
        (tmp_path / place).mkdir()
        path = tmp_path / place / "a.bmp"
        Image.new("RGB", (8, 8), (value, 9, 9)).save(path)
        os.utime(path, (0, 0))
        images = datasets.load(tmp_path / place, "all", image_size=8)
        assert images[0, 0, 0, 0] == value


def test_damaged_entry_is_made_anew(tmp_path, own_cache):
    folder = write(tmp_path / "mine", numbered(5))
    first = np.array(datasets.load(folder, "all", image_size=8))
    for name in (cache.PIXELS, cache.ABOUT):
        (entry,) = own_cache.iterdir()
        (entry / name).write_bytes(b"{")
        again = datasets.load(folder, "all", image_size=8)
        np.testing.assert_array_equal(again, first)


def test_file_that_could_not_be_opened_is_tried_again(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", numbered(5))
    original = folders.Pictures.read

    def fail(self, index):
        if index == 3:
            raise OSError("network gone")
        return original(self, index)

    with monkeypatch.context() as patched:
        patched.setattr(folders.Pictures, "read", fail)
        with pytest.warns(UserWarning, match=r"003\.png \(network gone\)"):
            assert len(datasets.load(folder, "all", image_size=8)) == 4
    assert len(datasets.load(folder, "all", image_size=8)) == 5


def test_cache_that_cannot_be_written_is_explained(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", numbered(3))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        OSError, match=r"can't be kept in .*\(Not a dir.*KERAS_AE_CACHE"
    ):
        datasets.load(folder)


def test_full_disk_is_explained_and_leaves_nothing(tmp_path, own_cache):
    resource = pytest.importorskip("resource", reason="needs a limit on file sizes")
    folder = write(tmp_path / "mine", numbered(12))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(OSError, match=r"can't be kept in .*KERAS_AE_CACHE"):
            datasets.load(folder, "all", image_size=256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(own_cache.iterdir()) == []
    assert len(datasets.load(folder, "all", image_size=256)) == 12


def test_lack_of_room_is_noticed_before_decoding(tmp_path, monkeypatch):
    usage = cache.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="MiB needed, 0 MiB free"):
        datasets.load(write(tmp_path / "mine", numbered(3)))


def test_interrupted_decoding_leaves_nothing(tmp_path, own_cache, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        datasets.load(write(tmp_path / "mine", numbered(3)))
    assert list(own_cache.iterdir()) == []


def test_two_processes_at_once(tmp_path, own_cache):
    folder = write(tmp_path / "mine", numbered(40))
    code = (
        "import sys; from keras_ae import datasets; "
        "images = datasets.load(sys.argv[1], 'all', image_size=64); "
        "assert images[:, 0, 0, 0].tolist() == list(range(40))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(list(own_cache.iterdir())) == 1


def test_processes_share_the_decoding_of_pictures(tmp_path, own_cache):
    folder = write(tmp_path / "mine", numbered(40))
    write(folder, {"007.png": b"no picture"})
    code = (
        "import sys, time; from keras_ae import datasets; "
        "from keras_ae.datasets import decoding; "
        "decoding.PIECE_BYTES, decode, seen = 1, decoding._decode, []\n"
        "def slow(pictures, positions, block, how):\n"
        "    seen.extend(block); time.sleep(0.3)\n"
        "    return decode(pictures, positions, block, how)\n"
        "decoding._decode, decoding._block_rows = slow, lambda how: 4\n"
        "images = datasets.load(sys.argv[1], 'all', image_size=64, white=255); "
        "print(len(images), images[:, 0, 0, 0].sum(), *seen)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    results = [process.communicate()[0].split() for process in processes]
    assert [result[:2] for result in results] == 2 * [["39", str(39 * 40 // 2 - 7)]]
    decoded = [int(row) for result in results for row in result[2:]]
    assert sorted(decoded) == [*range(40)]
    assert len(list(own_cache.iterdir())) == 1


def test_decoding_goes_on_where_it_stopped(tmp_path, own_cache, monkeypatch):
    folder = write(tmp_path / "mine", numbered(40))
    monkeypatch.setattr(decoding, "PIECE_BYTES", 1)
    monkeypatch.setattr(decoding, "_block_rows", lambda how: 4)
    original, decoded = decoding._decode, []

    def decode(pictures, positions, block, how):
        if 20 in block and len(decoded) < 24:
            raise KeyboardInterrupt
        decoded.extend(block)
        return original(pictures, positions, block, how)

    monkeypatch.setattr(decoding, "_decode", decode)
    with pytest.raises(KeyboardInterrupt):
        datasets.load(folder, "all", image_size=64)
    assert decoded == [*range(20)]
    (partial,) = own_cache.iterdir()
    # A process that was killed has not given back what it claimed.
    claim = partial / "5.claim"
    claim.touch()
    os.utime(claim, (0, 0))
    monkeypatch.setattr(decoding, "_decode", original)
    images = datasets.load(folder, "all", image_size=64)
    assert images[:, 0, 0, 0].tolist() == [*range(40)]
    (entry,) = own_cache.iterdir()
    assert sorted(path.name for path in entry.iterdir()) == [cache.ABOUT, cache.PIXELS]


def test_cache_directory(tmp_path, monkeypatch):
    assert cache.directory() == tmp_path / "cache"
    monkeypatch.delenv("KERAS_AE_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.directory() == tmp_path / "xdg" / "keras-ae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path.home() / ".cache" / "keras-ae"


# A few pictures for a model


def test_read_pictures_in_the_shape_of_a_model(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", {"b.png": encoded(grey(5)), **numbered(2)})
    single = write(tmp_path, {"z.jpg": encoded(grey(80), "JPEG")}) / "z.jpg"
    images, names = datasets.read_pictures([single, folder], (6, 8, 3), names=True)
    assert images.shape == (4, 6, 8, 3) and images.dtype == "uint8"
    assert [Path(name).name for name in names] == [
        "z.jpg",
        "000.png",
        "001.png",
        "b.png",
    ]
    assert images[:, 0, 0, 0].tolist() == [80, 0, 1, 5]
    assert datasets.read_pictures(str(single), (6, 8)).shape == (1, 6, 8)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.read_pictures(["~/z.jpg"], (6, 8, 1)).shape == (1, 6, 8, 1)


def test_read_pictures_names_what_it_cannot_read(tmp_path):
    folder = write(tmp_path, {"good.png": encoded(grey(5)), "bad.jpg": b"text"})
    good, bad = folder / "good.png", folder / "bad.jpg"
    with pytest.warns(UserWarning, match=r"1 of 3 .*bad\.jpg \(not a picture\)"):
        assert len(datasets.read_pictures([good, bad, good], (4, 4, 1))) == 2
    with pytest.raises(ValueError, match=r"None of the pictures .*bad\.jpg"):
        datasets.read_pictures([bad], (4, 4, 1))
    with pytest.raises(
        FileNotFoundError, match="no picture, folder or zip at .*nowhere"
    ):
        datasets.read_pictures([good, folder / "nowhere.png"], (4, 4, 1))
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures in .*empty"):
        datasets.read_pictures([good, folder / "empty"], (4, 4, 1))
    with pytest.raises(ValueError, match=r"Received: image_shape=\(4, 4, 2\)"):
        datasets.read_pictures([good], (4, 4, 2))


# Batches


def epoch_of(batches):
    return np.concatenate([batches[i] for i in range(len(batches))])


def test_batches_serve_every_image_once_in_a_new_order(tmp_path):
    images = np.arange(23, dtype="uint8")[:, None]
    path = tmp_path / "images.npy"
    np.save(path, images)
    batches = datasets.Batches(np.load(path, mmap_mode="r"), 5)
    assert len(batches) == 5 and batches[4].shape == (3, 1)
    assert type(batches[0]) is np.ndarray and batches[0].dtype == "uint8"
    first = epoch_of(batches)
    np.testing.assert_array_equal(np.sort(first, axis=0), images)
    assert (first != images).any()
    batches.on_epoch_begin()
    batches.on_epoch_end()
    second = epoch_of(batches)
    np.testing.assert_array_equal(np.sort(second, axis=0), images)
    assert (first != second).any()
    np.testing.assert_array_equal(
        epoch_of(datasets.Batches(images, 5, epoch=1)), second
    )
    assert (epoch_of(datasets.Batches(images, 5, seed=1)) != first).any()
    plain = datasets.Batches(images, 5, shuffle=False)
    np.testing.assert_array_equal(epoch_of(plain), images)


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_batches_of_a_memory_map_leave_memory_free(tmp_path, monkeypatch):
    def resident():
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0]) / 1024

    module = sys.modules[datasets.Batches.__module__]
    monkeypatch.setattr(module, "RELEASED_AT_ONCE", 2**23)
    path = tmp_path / "images.npy"
    np.save(path, np.ones((320, 2**18), "uint8"))
    served = datasets.Batches(np.load(path, mmap_mode="r")[:], 16)
    served[0]
    before = resident()
    highest = max([resident() for index in range(20) if served[index].all()])
    assert highest < before + 30  # of 80 MiB


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_binarized_batches_have_the_grey_values_as_mean(dtype):
    greys = np.array([0, 1, 64, 128, 254, 255], "uint8")
    images = np.broadcast_to(greys, (4000, 6))
    if dtype == "float32":
        images = images / np.float32(255)
    batches = datasets.Batches(images, 500, binarize=True)
    drawn = epoch_of(batches)
    assert drawn.dtype == "float32" and set(np.unique(drawn)) == {0, 1}
    assert (drawn[:, 0] == 0).all() and (drawn[:, 5] == 1).all()
    # Four standard errors of 4,000 draws.
    np.testing.assert_allclose(drawn.mean(0), greys / 255, atol=0.032)
    np.testing.assert_array_equal(epoch_of(batches), drawn)
    batches.epoch += 1
    assert (epoch_of(batches) != drawn).any()
    assert (batches[0] != batches[1]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"batch_size": 2.5}, "`batch_size` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"epoch": -1}, "`epoch` must be"),
        ({"images": np.zeros((0, 3))}, "at least one image"),
    ],
)
def test_batches_refuse_bad_arguments(options, message):
    arguments = {"images": np.zeros((4, 3)), "batch_size": 2, **options}
    with pytest.raises(ValueError, match=message):
        datasets.Batches(**arguments)


def write_12_bits(folder, highest=4095, count=3):
    folder.mkdir()
    values = np.tile(np.linspace(0, highest, 32), (32, 1)).astype("uint16")
    for index in range(count):
        Image.fromarray(values).save(folder / f"{index}.tiff")
    return folder


def test_12_bits_in_files_of_16_are_not_black(tmp_path, capsys):
    folder = write_12_bits(tmp_path / "scans")
    expected = np.rint(np.linspace(0, 255, 32))
    images = datasets.load(folder, "all")
    assert np.abs(images[0, 0, :, 0] - expected).max() <= 1
    assert "end below 4096" in capsys.readouterr().err
    read = datasets.read_pictures(folder, (32, 32))
    np.testing.assert_array_equal(read, images[..., 0])
    as_they_are = datasets.load(folder, "all", white=65535)
    assert as_they_are.max() == 16
    bright = write_12_bits(tmp_path / "bright", highest=60_000)
    assert datasets.load(bright, "all").max() == round(60_000 / 65535 * 255)
    # A picture that is brighter than those that were looked at is not cut.
    with pytest.warns(UserWarning, match="from 0 to 4095, not 0 to 1023"):
        _, labels = datasets.load(mixed(tmp_path), "all", white=1023, labels=True)
    assert labels["path"].tolist() == ["a.tiff"]


def png_16_bits(values, *chunks):
    """A PNG of 16 bits a channel, `(height, width, channels)`, which Pillow reads."""
    height, width, channels = values.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def tiff_16_bits(values, **options):
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    if values.shape[-1] == 4:
        options["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(buffer, values, photometric="rgb", **options)
    return buffer.getvalue()


def test_colour_of_16_bits_is_not_black(tmp_path, capsys):
    data = png_16_bits(np.full((12, 10, 3), 1000, "uint16"))
    folder = write(tmp_path / "scans", {f"{i}.png": data for i in range(20)})
    assert (datasets.load(folder, "all") == 249).all()
    assert "end below 1024" in capsys.readouterr().err
    assert (datasets.load(folder, "all", white=65535) == 4).all()


@pytest.mark.parametrize(
    ("write", "channels", "options"),
    [
        *[(png_16_bits, channels, {}) for channels in (2, 3, 4)],
        *[
            (tiff_16_bits, channels, options)
            for channels in (3, 4)
            for options in (
                {"byteorder": "<"},
                {"byteorder": ">", "rowsperstrip": 3},
                {"byteorder": ">", "compression": "zlib"},
            )
        ],
    ],
)
def test_all_bits_of_colour_are_read(write, channels, options):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (12, 10, channels)).astype("uint16")
    if channels != 3:
        values[..., -1] = np.where(rng.random((12, 10)) < 0.5, 65535, 0)
    colours = values[..., :3] if channels > 2 else values[..., [0, 0, 0]]
    expected = np.rint(colours * (255 / 4095))
    if channels != 3:
        expected = np.where(values[..., -1:], expected, 255)
    data = write(values, **options)
    np.testing.assert_array_equal(
        pictures.decode(data, (12, 10), 3, white=4095), expected
    )
    assert pictures.brightest(data) == colours.max()
    with pytest.raises(ValueError, match="not 0 to 1023"):
        pictures.decode(data, (12, 10), 3, white=1023)


def test_colour_of_16_bits_is_turned_upright():
    values = np.random.default_rng(0).integers(0, 1024, (12, 10, 3)).astype("uint16")
    exif = Image.Exif()
    exif[0x0112] = 3
    data = png_16_bits(values, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    expected = np.rint(values[::-1, ::-1] * (255 / 1023))
    np.testing.assert_array_equal(
        pictures.decode(data, (12, 10), 3, None, 1023), expected
    )


def test_what_is_transparent_in_16_bits_is_white_and_planes_are_refused():
    values = np.full((12, 10, 3), 1000, "uint16")
    values[0, 0] = 300, 2, 9
    data = png_16_bits(values, (b"tRNS", struct.pack(">HHH", 300, 2, 9)))
    found = pictures.decode(data, (12, 10), 3, white=1000)
    assert (found == 255).all()
    planes = np.moveaxis(values, -1, 0)
    with pytest.raises(ValueError, match="in planes"):
        pictures.decode(tiff_16_bits(planes, planarconfig="separate"), (12, 10))


@pytest.mark.once
def test_what_is_white_goes_with_the_model(invoke, tmp_path):
    write_12_bits(tmp_path / "scans", count=20)
    dark = write_12_bits(tmp_path / "dark", highest=500)
    for options, white in (((), 4095), (("--white", 65535), 65535)):
        run = tmp_path / f"run-{white}"
        train = ("train", "ae", "scans", "--epochs", 1, "--run-dir", run, *options)
        result = invoke(*train, "--set", "architecture=dense", "--set", "widths=4")
        assert result.exit_code == 0, result.output
        model = runs.load_model(run)
        assert model.white == white
        again = tmp_path / "again.keras"
        model.save(again)
        model = runs.load_model(again)
        found = [images.max() for _, images in reading._read(model, [*dark.iterdir()])]
        assert found == [round(500 / white * 255)]
        loaded, _ = reading.load_pictures(model, "", str(dark), "all", None, None)
        assert loaded.max() == found[0]
    assert datasets.find_white([dark]) == 511
    assert datasets.find_white([*dark.iterdir()]) == 511
    (tmp_path / "dark" / "grey.png").write_bytes(encoded(colour(3)))
    assert datasets.find_white([dark / "grey.png"]) is None


def mixed(tmp_path):
    folder = write_12_bits(tmp_path / "mixed", highest=1000, count=1)
    (folder / "0.tiff").rename(folder / "a.tiff")
    other = write_12_bits(tmp_path / "other", count=1)
    (other / "0.tiff").rename(folder / "b.tiff")
    return folder


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 20)] * 5, (28, 20)),
        ([(218, 178)] * 5, (78, 64)),
        ([(300, 400)] * 4 + [(400, 300)] * 2, (64, 85)),
        ([(60, 90), (62, 90), (58, 88), (90, 60)], (60, 90)),
    ],
)
def test_own_pictures_keep_the_shape_of_most(tmp_path, sizes, expected):
    for index, size in enumerate(sizes):
        Image.new("L", size[::-1], index).save(tmp_path / f"{index}.png")
    assert datasets.load(tmp_path, "all").shape[1:3] == expected
    assert datasets.load(tmp_path, "all", image_size=16).shape[1:3] == (16, 16)


@pytest.mark.once
def test_points_of_a_plane_repeat_by_seed_and_have_about_unit_variance():
    for shape in plane.SHAPES:
        x = plane.draw(shape, 20_000, seed=1)
        assert x.shape == (20_000, 2) and x.dtype == "float32"
        np.testing.assert_array_equal(x, plane.draw(shape, 20_000, seed=1))
        assert (x != plane.draw(shape, 20_000, seed=2)).all(axis=1).mean() > 0.9
        np.testing.assert_allclose(x.std(axis=0), 1.0, atol=0.15)
    with pytest.raises(ValueError, match="`shape` must be one of 'spiral'"):
        plane.draw("cross", 3)
