"""Pictures in shards: tars, Parquet and TFRecord files."""

import io
import json
import os
import tarfile
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import keras_ae
from keras_ae import datasets
from keras_ae.datasets import folders, shard_files, shards


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "_said", set())


def png(value, mode="L"):
    """A file of 8 x 6 pixels of one grey value."""
    buffer = io.BytesIO()
    Image.new("L", (6, 8), value).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def write_tars(folder, files=4, each=10, name="{:03}.tar"):
    """Tars whose pictures are as bright as their number, with its last digit."""
    for number in range(files):
        members = {}
        for value in range(number * each, (number + 1) * each):
            members[f"{value:04}.png"] = png(value)
            members[f"{value:04}.cls"] = b"%d" % (value % 10)
        write_tar(folder / name.format(number), members)
    return folder


def write_parquet(folder, nested=True, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    for number in range(4):
        values = range(number * 10, (number + 1) * 10)
        files = [png(value) for value in values]
        if nested:
            files = [{"bytes": data, "path": "x.png"} for data in files]
        labels = [value % 10 for value in values]
        table = pyarrow.table({"image": files, "label": labels, **columns})
        parquet.write_table(table, folder / f"{number}.parquet", row_group_size=4)
    return folder


def write_tfrecord(folder, **features):
    tf = pytest.importorskip("tensorflow")
    folder.mkdir()

    def feature(data):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))

    for number in range(4):
        path = folder / f"x.tfrecord-{number:05}-of-00004"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for value in range(number * 10, (number + 1) * 10):
                parts = {"image/encoded": png(value), "text": b"a", **features}
                found = {name: feature(data) for name, data in parts.items()}
                example = tf.train.Example(features=tf.train.Features(feature=found))
                writer.write(example.SerializeToString())
    return folder


WRITERS = {"tar": write_tars, "parquet": write_parquet, "tfrecord": write_tfrecord}


def values(images):
    """The grey value of each picture."""
    return np.asarray(images)[:, 0, 0, 0].tolist()


# What is in them


@pytest.mark.once
@pytest.mark.parametrize("kind", WRITERS)
def test_shards_are_data_like_a_folder_of_pictures(tmp_path, kind):
    folder = WRITERS[kind](tmp_path / "data")
    images, labels = datasets.load(folder, "all", labels=True)
    assert images.shape == (40, 8, 6, 1) and values(images) == [*range(40)]
    streamed = datasets.load(folder, "all", stream=True)
    assert type(streamed) is datasets.LazyImages and streamed.shape == images.shape
    np.testing.assert_array_equal(streamed, images)
    assert len({*labels["path"]}) == 40
    if kind != "tfrecord":
        assert labels["label"].tolist() == 4 * [*range(10)]
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(folder / "0.parquet")
        at, gap = table.column_names.index("label"), [[None, *range(9)]]
        path = tmp_path / "gap.parquet"
        parquet.write_table(table.set_column(at, "label", gap), path)
        assert "label" not in datasets.load(path, "all", labels=True)[1]
    parts = [values(datasets.load(folder, split)) for split in datasets.splits.NAMES]
    assert [*map(len, parts)] == [32, 4, 4] and sorted(sum(parts, [])) == [*range(40)]


@pytest.mark.once
@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*.tar", [*range(40)]),
        ("00[13].tar", [*range(10, 20), *range(30, 40)]),
        ("{001..002}.tar", [*range(10, 30)]),
        ("0{02,00}.tar", [*range(20, 30), *range(10)]),
        ("{0..0}0{0..1}.tar", [*range(20)]),
        ("001.tar", [*range(10, 20)]),
    ],
)
def test_a_pattern_names_shards(tmp_path, pattern, expected):
    write_tars(tmp_path / "data")
    assert values(datasets.load(f"{tmp_path}/data/{pattern}", "all")) == expected


@pytest.mark.once
def test_words_in_their_names_decide_splits(tmp_path, capsys):
    folder = write_tars(tmp_path / "train", name="set-train-{:03}.tar")
    write_tar(folder / "set-val-000.tar", {"a/x.png": png(99), "b/y.png": png(98)})
    write_tar(folder / "spare.tar", {"z.png": png(7)})
    images, labels = datasets.load(folder, "validation", labels=True)
    assert values(images) == [99, 98] and labels["folder"].tolist() == ["a", "b"]
    assert len(datasets.load(folder)) + len(datasets.load(folder, "test")) == 40
    said = capsys.readouterr().err
    assert "no test shard: a tenth of its training pictures" in said
    assert "1 pictures" in said and "test shards and are left out" in said


@pytest.mark.once
def test_key_names_one_of_several_pictures(tmp_path):
    members = {}
    for value in range(3):
        members[f"{value}.jpg.txt"] = b"no picture"
        members[f"{value}.seg.png"] = png(100 + value)
        members[f"{value}.png"] = png(value)
    path = write_tar(tmp_path / "x.tar", members)
    assert values(datasets.load(path, "all", key="png")) == [0, 1, 2]
    assert values(datasets.load(path, "all", key="seg.png")) == [100, 101, 102]
    images = datasets.read_pictures(path, (8, 6), key="seg.png")
    assert images[:, 0, 0].tolist() == [100, 101, 102]
    with pytest.raises(ValueError, match=r"Received: 'seg.png' and 'png' of 0 in .*"):
        datasets.load(path, "all")
    members = {f"{i}.{'PNG' if i % 2 else 'png'}": png(i) for i in range(6)}
    path = write_tar(tmp_path / "y.tar", members)
    for key in ("png", "PNG", None):
        assert values(datasets.load(path, "all", key=key)) == [*range(6)]
    folder = write_parquet(tmp_path / "p", nested=False, mask=10 * [png(3)])
    assert values(datasets.load(folder, "all", key="mask")) == 40 * [3]
    with pytest.raises(ValueError, match="one of the columns of pictures .*: image, m"):
        datasets.load(folder, "all")
    folder = write_tfrecord(tmp_path / "t", mask=png(3))
    assert values(datasets.load(folder, "all", key="mask")) == 40 * [3]
    assert values(datasets.load(folder, "all"))[:3] == [0, 1, 2]


@pytest.mark.once
@pytest.mark.parametrize(
    "names, message",
    [
        (
            ["22.000.png", "22.001.png", "23.000.png"],
            r"no dot .*'000.png' and '001.png'"
            r" of 22 in .*rename them \(22_000.png\), unpack the tar into a folder",
        ),
        (["a/x 1.5 m.png", "a/x 1.6 m.PNG"], r"rename them \(x 1_5 m.png\), unpack"),
        (["0.seg.png", "0.png"], "`key` must say which picture of a sample is wanted"),
    ],
)
def test_names_with_dots_are_one_sample(tmp_path, names, message):
    path = write_tar(tmp_path / "x.tar", {name: png(1) for name in names})
    with pytest.raises(ValueError, match=message):
        datasets.load(path, "all")


@pytest.mark.once
def test_modes_may_differ_and_what_is_no_picture_is_left_alone(tmp_path):
    members = {"a.png": png(1), "b.png": png(2, "RGB"), "c.png": png(3, "RGBA")}
    others = {"._a.png": b"x", "notes.txt": b"x", "d.json": b"{}"}
    folder = write_tar(tmp_path / "data" / "x.tar", {**members, **others}).parent
    write_tar(folder / "empty.tar", {})
    (folder / "README.md").write_text("# Shards")
    assert values(datasets.load(folder, "all")) == [1, 2, 3]


@pytest.mark.once
def test_a_tar_is_listed_once_as_long_as_it_does_not_change(tmp_path, monkeypatch):
    path = write_tars(tmp_path / "data", files=1) / "000.tar"
    listed, original = [], shard_files._listed

    def count(path, key):
        listed.append(path)
        return original(path, key)

    monkeypatch.setattr(shard_files, "_listed", count)
    for _ in range(2):
        shards._open.cache_clear()  # as in another process
        images, labels = datasets.load(path, "all", labels=True)
        assert values(images) == labels["label"].tolist() == [*range(10)]
    assert len(listed) == 1
    write_tar(path, {"x.png": png(99)})
    assert values(datasets.load(path, "all")) == [99] and len(listed) == 2


@pytest.mark.once
def test_a_parquet_file_that_is_written_anew_is_read_anew(tmp_path):
    path = write_parquet(tmp_path / "data") / "0.parquet"
    assert values(datasets.load(path, "all")) == [*range(10)]
    path.write_bytes((tmp_path / "data" / "3.parquet").read_bytes())
    # A clock of the file system may be too coarse to tell.
    os.utime(path, ns=(1, 1))
    assert values(datasets.load(path, "all", stream=True)) == [*range(30, 40)]
    assert values(datasets.load(path, "all")) == [*range(30, 40)]


@pytest.mark.once
@pytest.mark.parametrize(
    "classes, expected",
    [
        (["01 02 03", "01 1a 03"], ["01", "02", "03", "01", "1a", "03"]),
        (["01 02", "1 10"], [1, 2, 1, 10]),
    ],
)
def test_classes_are_numbers_where_those_of_all_tars_are(tmp_path, classes, expected):
    for number, texts in enumerate(classes):
        members = {}
        for place, text in enumerate(texts.split()):
            members |= {f"{place}.png": png(place), f"{place}.cls": text.encode()}
        write_tar(tmp_path / "data" / f"{number}.tar", members)
    _, labels = datasets.load(tmp_path / "data", "all", labels=True)
    assert labels["label"].tolist() == expected


# What is wrong with them


def damaged(path):
    """What a download that was cut short, or went wrong, leaves."""
    whole = path.read_bytes()
    yield whole[: len(whole) // 3]
    yield b""
    yield b"<html>not found</html>" * 200


@pytest.mark.once
@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_shards_are_named(tmp_path, kind):
    folder = WRITERS[kind](tmp_path / "data")
    path = sorted(folder.iterdir())[2]
    for data in damaged(path):
        if kind == "tfrecord" and not data:
            continue  # a file of no records is whole
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"{path.name} must be a whole .* again"):
            datasets.load(folder)


@pytest.mark.once
def test_a_tar_with_a_damaged_header_is_not_taken_for_its_beginning(tmp_path):
    path = write_tars(tmp_path / "data", files=1) / "000.tar"
    data = bytearray(path.read_bytes())
    data[5 * 1024 + 148] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match="must be a whole tar"):
        datasets.load(path)


@pytest.mark.once
def test_pictures_that_cannot_be_read_are_named(tmp_path):
    members = {"a.png": png(1), "b.png": b"", "c.png": png(3), "d.png": b"no"}
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.warns(UserWarning, match=r"2 of 4 .*: x.tar/b.png \(not a picture\)"):
        assert values(datasets.load(path, "all")) == [1, 3]
    streamed = datasets.load(path, "all", stream=True)
    with pytest.warns(UserWarning, match="the next that can be read takes") as all:
        assert values(streamed) == [1, 3, 3, 1]
    assert len(all) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(streamed[1:2]) == [3]  # it is said once
    path = write_tar(tmp_path / "none.tar", {"a.png": b"no"})
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="None of the 1 pic"),
    ):
        datasets.load(path, "all", stream=True)[0]


@pytest.mark.once
def test_in_a_stream_one_of_the_same_labels_takes_the_place_of_another(tmp_path):
    members = {}
    for place, name in enumerate(["cat", "dog", "dog", "cat", "cow"]):
        data = b"no" if place in (0, 4) else png(place)
        members |= {f"{place}.png": data, f"{place}.cls": name.encode()}
    path = write_tar(tmp_path / "x.tar", members)
    images = datasets.load(path, "all", stream=True)
    message = "takes its place, if possible one of the same labels"
    with pytest.warns(UserWarning, match=message):
        # There is no other cow.
        assert values(images) == [3, 1, 2, 3, 1]
    for name, data in {"a/0": b"no", "a/2": png(2), "b/1": png(1)}.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / f"{name}.png").write_bytes(data)
    (tmp_path / "photos" / "b" / "3.png").write_bytes(b"no")
    images = datasets.load(tmp_path / "photos", "all", stream=True)
    with pytest.warns(UserWarning, match=message):
        assert values(images) == [2, 2, 1, 1]


@pytest.mark.once
@pytest.mark.parametrize(
    "name, options, message",
    [
        ("data/{000..004}.tar", {}, "There is no file .*004.tar"),
        ("data/*.parquet", {}, r"There is no file .*\*.parquet"),
        ("other/*.txt", {}, "No file that .* names is a shard"),
        (
            "data",
            {"key": "jpg"},
            "`key` must be what follows the first dot .* as 'cls'",
        ),
        ("other/*.zip", {}, r"There is no file .*\*.zip"),
        ("other", {}, "There are no pictures in .*other"),
        ("other/empty.tar", {}, "none of its shards holds any"),
        ("other/x.tar.gz", {}, "must be no compressed file"),
        ("photos", {"key": "jpg"}, "`key` is for shards"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, name, options, message):
    write_tars(tmp_path / "data")
    write_tar(tmp_path / "other" / "empty.tar", {})
    (tmp_path / "other" / "x.txt").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.png").write_bytes(png(1))
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        datasets.load(tmp_path / name, **options)


@pytest.mark.once
def test_a_table_of_numbers_and_missing_columns_are_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"age": [1, 2], "name": ["a", "b"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="a column of picture files.* age, name; a t"):
        datasets.load(tmp_path / "x.parquet")
    folder = write_parquet(tmp_path / "data")
    with pytest.raises(ValueError, match=r"`key` must be one .*: image. .*key='img'"):
        datasets.load(folder, key="img")
    folder = write_tfrecord(tmp_path / "records")
    with pytest.raises(ValueError, match=r"one of image/encoded, text. .*key='img'"):
        datasets.load(folder, key="img")


@pytest.mark.once
@pytest.mark.parametrize("kind", ["parquet", "tfrecord"])
def test_a_missing_package_is_named(tmp_path, kind, monkeypatch):
    folder = WRITERS[kind](tmp_path / "data")

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(shard_files.importlib, "import_module", missing)
    shards._open.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install '(keras-ae.par|tensor)"):
        datasets.load(folder)


@pytest.mark.once
def test_shards_beside_pictures_are_left_out_and_told_of(tmp_path, capsys):
    folder = write_tars(tmp_path / "data")
    (folder / "preview.png").write_bytes(png(200))
    assert values(datasets.load(folder, "all")) == [200]
    assert (
        "holds 1 pictures and 4 shards, which are left out" in capsys.readouterr().err
    )


# Streams


@pytest.mark.once
def test_streamed_shards_come_in_an_order_of_their_own_each_epoch(tmp_path):
    path = write_tars(tmp_path / "data", files=4, each=60)
    images = datasets.load(path, "all", stream=True)

    def epoch(number, seed=0):
        batches = datasets.Batches(images, 32, seed=seed, epoch=number)
        return [values(batches[index]) for index in range(len(batches))]

    first = epoch(0)
    assert sorted(sum(first, [])) == [*range(240)] == sorted(sum(epoch(1), []))
    assert first == epoch(0) != epoch(1) and first != epoch(0, seed=1)
    # A batch in the middle of an epoch is what it is, whatever was read before.
    assert values(datasets.Batches(images, 32, epoch=1)[5]) == epoch(1)[5]


@pytest.mark.once
def test_streamed_shards_are_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "BLOCK", 5)
    monkeypatch.setattr(shard_files.Shard, "buffer", 20)
    images = datasets.load(write_tars(tmp_path / "data"), stream=True)
    order = images.shuffled(np.random.default_rng(0))
    assert sorted(order) == [*range(32)]
    numbers = images._chosen[order] // 5
    span = [np.ptp(np.flatnonzero(numbers == block)) for block in range(8)]
    assert max(span) < 20 + 5
    assert len({*numbers[:8]}) > 2  # blocks are mixed
    monkeypatch.setattr(shard_files.Shard, "buffer", 1)
    images = datasets.load(tmp_path / "data" / "*.tar", stream=True)
    numbers = images._chosen[images.shuffled(np.random.default_rng(0))] // 5
    assert len({*numbers[:3]}) == 1


@pytest.mark.once
def test_a_stream_is_indexed_like_an_array(tmp_path):
    folder = write_tars(tmp_path / "data")
    images = datasets.load(folder, "all")
    streamed = datasets.load(folder, "all", stream=True)
    assert (streamed.ndim, streamed.nbytes) == (4, images.nbytes)
    for index in (
        *(3, slice(1, 9, 2), [5, 2], np.arange(40) > 30, (4, 0), (), [[1, 2], [3, 0]]),
        *(..., (..., 0), (..., slice(None, None, -1)), (3, ..., 0), (..., 1, 2, 3, 0)),
        *((slice(None), slice(None), slice(None, None, -1)), ([5, 2], ..., 0)),
        *(
            ([5, 2], [0, 1]),
            (4, slice(None), [0, 2]),
            (slice(9), images[0, ..., 0] > 0),
        ),
    ):
        found, expected = streamed[index], images[index]
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    for index in (40, None, (..., None), (..., 0, ...), (0, 0, 0, 0, 0)):
        with pytest.raises(IndexError):
            streamed[index]


@pytest.mark.once
def test_a_folder_and_a_zip_can_be_streamed_too(tmp_path):
    (tmp_path / "photos").mkdir()
    for value in range(12):
        (tmp_path / "photos" / f"{value:02}.png").write_bytes(png(value))
    streamed = datasets.load(tmp_path / "photos", "all", stream=True)
    assert values(streamed) == [*range(12)]
    assert sorted(values(datasets.Batches(streamed, 12)[0])) == [*range(12)]
    assert not (tmp_path / "cache").exists()


@pytest.mark.once
def test_fit_takes_a_stream_as_it_takes_an_array(tmp_path, monkeypatch):
    folder = write_tars(tmp_path / "data")
    # A buffer as large as the data gives another order than an array has.
    monkeypatch.setattr(
        datasets.LazyImages, "shuffled", lambda self, rng: rng.permutation(len(self))
    )
    results = []
    for stream in (False, True):
        train, held_back = (
            datasets.load(folder, split, image_size=8, stream=stream)
            for split in ("train", "validation")
        )
        keras.utils.set_random_seed(0)
        model = keras_ae.VAE(latent_dim=2, architecture="dense")
        served = datasets.Batches(train, 8, seed=0)
        history = model.fit(
            served, validation_data=held_back, epochs=2, shuffle=False, verbose=0
        ).history
        results.append((history["loss"], history["val_loss"], model.encode(held_back)))
    for array, stream in zip(*results, strict=True):
        np.testing.assert_allclose(array, stream, rtol=1e-5, atol=1e-6)
    keras.utils.set_random_seed(0)
    model.fit(train, epochs=1, batch_size=8, verbose=0)
    assert np.isfinite(model.evaluate(train, verbose=0)).all()
    assert model.predict(held_back, verbose=0).shape == held_back.shape
    with pytest.raises(ValueError, match="`validation_split` needs an array"):
        model.fit(train, validation_split=0.5, verbose=0)
    with pytest.raises(ValueError, match="`sample_weight` needs an array"):
        model.fit(train, sample_weight=np.ones(len(train)), verbose=0)


@pytest.mark.once
def test_labels_go_with_a_stream(tmp_path):
    folder = write_tars(tmp_path / "data")
    images, labels = datasets.load(folder, image_size=8, labels=True, stream=True)
    model = keras_ae.ConditionalVAE(2, num_classes=10, architecture="dense")
    history = model.fit(images, labels["label"], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(model.evaluate(images, labels["label"], verbose=0)).all()


@pytest.mark.once
@pytest.mark.parametrize(
    "name, options", [("AutoDecoder", {"latent_dim": 2}), ("StackedSAE", {})]
)
def test_models_that_feed_themselves_take_a_stream(tmp_path, name, options):
    folder = write_tars(tmp_path / "data")
    images = datasets.load(folder, image_size=8, stream=True)
    model = getattr(keras_ae, name)(**options)
    loss = model.fit(images, batch_size=16, epochs=1, verbose=0).history["loss"]
    assert np.isfinite(loss).all()


@pytest.mark.once
def test_shards_are_scored_as_a_run_has_learned_them(tmp_path, invoke):
    for folder, others in (("data", ("seg.png",)), ("more", ())):
        members = {}
        for value in range(40):
            members[f"{value:02}.cls"] = b"dog" if value % 3 else b"cat"
            for ending in ("png", *others):
                members[f"{value:02}.{ending}"] = png(value)
        write_tar(tmp_path / folder / "x.tar", members)
    small = ("--set", "architecture=dense", "--set", "widths=8", "--image-size", "8")
    options = ("--key", "seg.png", "--epochs", "1", "--run-dir", "run", *small)
    result = invoke("train", "vae", "data", *options)
    assert result.exit_code == 0, result.output
    report = (tmp_path / "run" / "report.html").read_text()
    assert "image_size=(8, 8), key=&#x27;seg.png&#x27;" in report
    result = invoke("map", "run", "data", "--output", "map.png")
    assert result.exit_code == 0, result.output
    result = invoke("embed", "run", "more", "--output", "codes.npz")
    assert result.exit_code == 0, result.output
    with np.load("codes.npz") as file:
        assert file["codes"].shape == (40, 8) and file["path"][1] == "x.tar/01.png"
        assert file["label"][:2].tolist() == ["cat", "dog"]
    scores = ("--scores", "codes", "--scores", "samples", "--samples", "8", "--json")
    result = invoke("evaluate", "run", "data", *scores)
    assert result.exit_code == 0, result.output
    found = {s["name"]: s["depends_on"] for s in json.loads(result.stdout)["scores"]}
    assert found["linear_probe"]["pictures"] == 4
    assert found["linear_probe"]["training_pictures"] == 32
    assert found["kernel_distance"]["features"].startswith("classifier-2-classes")
    # Of others all are scored, and none are left for a probe to learn from.
    result = invoke("evaluate", "run", "more", *scores)
    assert result.exit_code == 0, result.output
    left_out = json.loads(result.stdout)["left_out"]
    assert "that are not scored" in left_out["linear_probe"]


@pytest.mark.once
def test_a_run_streams_shards_and_goes_on(tmp_path, invoke):
    write_tars(tmp_path / "data", each=20)
    common = ("train", "ae", "data/*.tar", "--image-size", "8", "--run-dir", "run")
    options = ("--stream", "--batch-size", "16", "--set", "architecture=dense")
    run = invoke(*common, *options, "--epochs", "1")
    assert run.exit_code == 0, run.output
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lists"]
    run = invoke(*common, "--epochs", "2", "--resume")
    assert run.exit_code == 0 and "Going on after epoch 1" in run.output
    run = invoke("reconstruct", "run", "data/000.tar", "--output", "out")
    assert run.exit_code == 1 and "unpack it" in run.output
    run = invoke("train", "ae", "data/{000..009}.tar")
    assert run.exit_code == 1 and "There is no file data/004.tar." in run.output
    assert "Run directory: runs/ae-data\n" in run.output
