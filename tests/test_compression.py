"""Compression: lossless where it must be, and refused in a sentence where it can't."""

import io
import struct
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

import keras_ae
from keras_ae import cli, compression

pytestmark = pytest.mark.once


SHAPE = (12, 10, 1)


def make(Model=keras_ae.AE, seed=1, **settings):
    keras.utils.set_random_seed(seed)
    settings = {"architecture": "dense", "widths": (8,), **settings}
    return Model(3, image_shape=SHAPE, **settings)


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def data(model):
    """Nine pictures with names, compressed."""
    return compression.compress(model, pictures(9), names=[f"p{i}" for i in range(9)])


def pictures(count, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype("uint8")


def signed(content):
    """The bytes with the checksum that belongs to them."""
    return content + struct.pack("<I", zlib.crc32(content))


@pytest.mark.parametrize("Model", [keras_ae.AE, keras_ae.VAE, keras_ae.PCA])
@pytest.mark.parametrize("step", [0.001, 0.3, 5])
def test_round_trip_is_the_decoding_of_the_rounded_codes(images, Model, step):
    model = Model(3, image_shape=SHAPE)
    if Model is keras_ae.PCA:
        model.fit(images)
    codes = model.encode(images).astype("float64")
    data = compression.compress(model, images, step)
    restored = compression.decompress(model, data)
    assert restored.dtype == "float32" and restored.shape == images.shape
    width = np.float32(step * codes.std()).astype("float64")
    rounded = np.float32(np.rint(codes / width) * width)
    np.testing.assert_array_equal(compression.read_codes(model, data), rounded)
    np.testing.assert_array_equal(restored, model.decode(rounded))
    assert np.abs(rounded - codes).max() <= 0.501 * width
    assert compression.read_names(data) is None


def test_codes_with_classes_round_trip(images):
    model = make(keras_ae.AAE, num_classes=4)
    data = compression.compress(model, images, 0.01)
    codes = compression.read_codes(model, data)
    assert codes.shape == (len(images), 3 + 4)
    np.testing.assert_allclose(codes, model.encode(images), atol=0.1)
    np.testing.assert_array_equal(
        compression.decompress(model, data), model.decode(codes)
    )


def test_size_falls_and_error_grows_with_the_step(model, images):
    images = np.concatenate([images, images[:, ::-1], images[:, :, ::-1]])
    sizes, errors = [], []
    for step in (0.001, 0.01, 0.1, 0.3, 1, 3):
        data = compression.compress(model, images, step)
        sizes.append(len(data))
        codes = compression.read_codes(model, data)
        errors.append(np.square(codes - model.encode(images)).mean())
    assert sizes == sorted(set(sizes), reverse=True)
    assert errors == sorted(set(errors))


def test_codes_without_spread_are_kept(model):
    one = model.encode(pictures(1))
    same = np.repeat(pictures(1), 4, axis=0)
    for images in (same[:1], same):
        data = compression.compress(model, images, 0.01)
        codes = compression.read_codes(model, data)
        np.testing.assert_allclose(codes, np.repeat(one, len(images), 0), atol=0.01)
    narrow = keras_ae.AE(1, image_shape=(4,), widths=(4,))
    for x in (np.zeros((1, 4), "float32"), np.full((3, 4), 0.5, "float32")):
        codes = compression.read_codes(narrow, compression.compress(narrow, x, 0.01))
        np.testing.assert_allclose(codes, narrow.encode(x), rtol=0.006, atol=1e-6)


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((1, 1)),
        np.full((50, 7), -3),
        np.arange(-128, 128).reshape(2, 128),
        np.arange(-129, 129).reshape(129, 2),
        np.array([[2**31 - 1, -(2**31)], [0, -1]]),
        RNG.integers(-4, 5, (1, 128)),
        RNG.integers(-40_000, 40_000, (33, 5)),
        np.rint(RNG.normal(0, 3, (500, 16))),
        np.rint(RNG.normal(0, 1, (16, 500)) * np.logspace(0, 8, 500)),
        np.rint(RNG.standard_cauchy((300, 3)).clip(-1e6, 1e6)),
    ],
    ids=lambda values: f"{values.shape} from {values.min():.0f} to {values.max():.0f}",
)
def test_the_entropy_coder_is_lossless(values):
    values = values.astype("int64")
    packed, size = compression._pack_integers(values)
    restored = compression._unpack_integers(packed, values.shape, size)
    np.testing.assert_array_equal(restored, values)
    # Little is added to what can't be compressed.
    assert len(packed) <= values.size * size + values.size // 100 + 16


def test_few_bits_are_spent_on_small_numbers():
    values = np.rint(RNG.normal(0, 3, (1000, 32))).astype("int64")
    _, counts = np.unique(values, return_counts=True)
    share = counts / values.size
    entropy = -(share * np.log2(share)).sum() * values.size / 8
    packed, _ = compression._pack_integers(values)
    assert 0.98 * entropy < len(packed) < 1.05 * entropy


@pytest.mark.parametrize(
    "names",
    [
        ["a"],
        ["000001", "000002", "000010"],
        ["é ü 漢字", "a/b", "..", "x" * 300, "line\nbreak"],
        ["undecodable \udcff"],
    ],
)
def test_names_come_back(model, names):
    data = compression.compress(model, pictures(len(names)), names=names)
    assert compression.read_names(data) == names
    assert len(compression.read_codes(model, data)) == len(names)


def test_bad_arguments_are_refused(model):
    x = pictures(2)
    for step in (0, -1, float("nan"), float("inf"), "fine"):
        with pytest.raises(ValueError, match="`step` must be a number > 0. Received"):
            compression.compress(model, x, step)
    with pytest.raises(ValueError, match="`step` must be larger"):
        compression.compress(model, x, 1e-12)
    with pytest.raises(ValueError, match="must not be empty"):
        compression.compress(model, x[:0])
    with pytest.raises(ValueError, match="examples of shape"):
        compression.compress(model, x[:, :5])
    for step in (1e40, 10**40):
        with pytest.raises(ValueError, match="`step` must be smaller"):
            compression.compress(model, x, step)
    for names in (["a"], ["a", ""], ["a", "b\0c"], ["a", "b" * 70_000], [1, 2]):
        with pytest.raises(ValueError, match="`names` must be 2 strings"):
            compression.compress(model, x, names=names)
    with pytest.raises(ValueError, match="AE has no weights yet"):
        compression.compress(keras_ae.AE(3), x)
    broken = make()
    broken.encoder.set_weights([w * np.nan for w in broken.encoder.get_weights()])
    with pytest.raises(ValueError, match="codes must be finite"):
        compression.compress(broken, x)


def test_what_are_no_compressed_pictures_is_refused(model, data):
    for other in (b"\x89PNG and more", b"K", b"KAEX" + data[4:]):
        expected = "no compressed pictures" if other != b"K" else "cut short"
        with pytest.raises(ValueError, match=expected):
            compression.decompress(model, other)
    with pytest.raises(ValueError, match="`data` must be the bytes.* a str"):
        compression.decompress(model, "faces.kae")
    later = signed(data[:4] + b"\2" + data[5:-4])
    with pytest.raises(ValueError, match="of format 2, and this .* reads format 1"):
        compression.decompress(model, later)


def test_cut_short_or_damaged_is_refused_everywhere(model, data):
    for length in range(len(data)):
        with pytest.raises(ValueError, match="cut short or damaged"):
            compression.decompress(model, data[:length])
        with pytest.raises(ValueError, match="cut short or damaged"):
            compression.read_names(data[:length])
    for position in range(5, len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 16
        with pytest.raises(ValueError, match="cut short or damaged"):
            compression.decompress(model, flipped)
    with pytest.raises(ValueError, match="cut short or damaged"):
        compression.decompress(model, data + b"\0")


def test_a_forged_checksum_gives_a_sentence_too(model, data):
    # No damage, but whoever wants to: every byte after the fingerprint, all values
    # that change much.
    for position in range(13, len(data) - 4):
        for bits in (1, 128, 255):
            forged = bytearray(data[:-4])
            forged[position] ^= bits
            try:
                codes = compression.read_codes(model, signed(bytes(forged)))
                assert codes.shape[1] == 3
                compression.read_names(signed(bytes(forged)))
            except ValueError as error:
                assert "damaged" in str(error)


def test_another_model_is_refused(data):
    for other in (
        make(seed=2),
        make(activation="tanh"),
        make(likelihood="laplace"),
        make(likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid")),
        make(keras_ae.VAE),
        keras_ae.AE(3, image_shape=(10, 12, 1), architecture="dense", widths=(8,)),
    ):
        with pytest.raises(ValueError, match="compressed by another model"):
            compression.decompress(other, data)
    trained = make()
    assert len(compression.decompress(trained, data)) == 9
    trained.fit(pictures(32), verbose=0)
    with pytest.raises(ValueError, match="compressed by another model"):
        compression.decompress(trained, data)


@pytest.mark.parametrize("scale", [1.0, "learned", "optimal"])
def test_the_fingerprint_is_the_same_after_saving(tmp_path, images, scale):
    likelihood = keras_ae.likelihoods.Gaussian(scale, activation="sigmoid")
    model = keras_ae.AE(3, image_shape=SHAPE, likelihood=likelihood)
    model.fit(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert compression.fingerprint(loaded) == compression.fingerprint(model)
    data = compression.compress(model, images)
    np.testing.assert_allclose(
        compression.decompress(loaded, data),
        compression.decompress(model, data),
        atol=1e-6,
    )


def test_the_fingerprint_is_the_same_on_every_backend():
    # Written down once, so that each backend is compared with the others.
    model = make(likelihood="bernoulli")
    weights = model.decoder.get_weights()
    model.decoder.set_weights(
        [np.arange(w.size, dtype="float32").reshape(w.shape) / 7 for w in weights]
    )
    assert compression.fingerprint(model) == "a195c88735e4cf48"


@pytest.mark.parametrize("shape", [(5, 3, 20), (17, 16, 33, 3), (2, 16, 16, 1)])
def test_jpeg_keeps_to_its_size_at_the_best_quality(shape):
    x = np.linspace(0, 200, int(np.prod(shape))).reshape(shape).astype("uint8")
    lowest, highest = (compression.jpeg(x, size) for size in (0, 10**9))
    assert (lowest.quality, highest.quality) == (1, 100)
    assert highest.psnr > 40 > lowest.psnr and highest.size > lowest.size > 0
    middle = (lowest.size + highest.size) // 2
    found = compression.jpeg(x, middle)
    assert found.size <= middle and 1 <= found.quality < 100
    above = compression.jpeg(x, found.size)
    assert above.size == found.size and above.quality == found.quality


def test_jpeg_of_one_picture_is_that_of_pillow():
    x = pictures(1, (32, 48, 3))
    file = io.BytesIO()
    Image.fromarray(x[0]).save(file, "JPEG", quality=40, optimize=True)
    found = compression.jpeg(x, len(file.getvalue()))
    assert found.quality == 40 and found.size == len(file.getvalue())
    restored = np.asarray(Image.open(file))[None]
    assert found.psnr == keras_ae.metrics.psnr(x, restored)


def test_jpeg_does_not_mix_its_pictures():
    # A flat picture stays flat whatever its neighbours are, in one column or in more.
    flat = np.full((9, 20, 20), 128, "uint8")
    flat[::2] = pictures(5, (20, 20))
    alone = compression.jpeg(flat[::2], 0).psnr
    beside = compression.jpeg(flat, 0)
    assert beside.psnr == np.inf
    several = np.repeat(flat[::2], 900, axis=0)  # 4500 tiles of 32 pixels: 3 columns
    assert compression.jpeg(several, 0).psnr == pytest.approx(alone, rel=1e-3)


def test_jpeg_refuses_what_is_no_picture_and_what_does_not_fit():
    for x in (np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 2), "uint8"), pictures(0)):
        with pytest.raises(ValueError, match="`images` must be uint8"):
            compression.jpeg(x, 100)
    with pytest.raises(ValueError, match="65500 pixels a side"):
        compression.jpeg(np.zeros((1, 1, 66_000), "uint8"), 100)


# The command line


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Path of an autoencoder of 16 x 12 colour pictures, untrained."""
    path = tmp_path_factory.mktemp("models") / "ae.keras"
    keras_ae.AE(3, image_shape=(16, 12, 3), architecture="dense", widths=(8,)).save(
        path
    )
    return path


@pytest.fixture
def photos(tmp_path):
    """Folder of twelve pictures, in two sub-folders."""
    for index, pixels in enumerate(pictures(12, (20, 24, 3))):
        folder = tmp_path / "photos" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"photo-{index:02d}.png")
    return tmp_path / "photos"


def assert_one_sentence(result, *words):
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    for word in words:
        assert word in lines[0]


def test_the_command_compresses_and_restores(invoke, saved, photos, tmp_path):
    result = invoke("compress", saved, photos, "--output", "new/photos.kae")
    assert result.exit_code == 0, result.output
    data = (tmp_path / "new" / "photos.kae").read_bytes()
    table = [line.split() for line in result.stdout.splitlines()]
    assert table[0][:6] == ["12", "pictures", "of", "12", "x", "16"]
    name, size, bits, decibels = table[3]
    assert name == "photos.kae" and int(size) == len(data)
    assert float(bits) == pytest.approx(8 * len(data) / (12 * 16 * 12), abs=1e-4)

    model = keras.saving.load_model(saved)
    files = sorted(photos.rglob("*.png"))
    x = keras_ae.datasets.read_pictures(files, (16, 12, 3))
    restored = compression.decompress(model, data)
    expected = keras_ae.metrics.psnr(x, restored)
    assert float(decibels) == pytest.approx(expected, abs=0.006)
    # Noise: JPEG is larger at any quality, and the table says so.
    jpeg = compression.jpeg(x, len(data))
    assert table[4][:2] == ["JPEG", f"{jpeg.size:,}"] and jpeg.size > len(data)
    assert float(table[4][3]) == pytest.approx(jpeg.psnr, abs=0.006)
    assert "at quality 1: its lowest, and larger even so" in result.stdout

    result = invoke("decompress", saved, "new/photos.kae", "--output", "out")
    assert result.exit_code == 0, result.output
    assert "12 pictures restored in out" in result.stdout
    made = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert made.keys() == {path.name for path in files}
    for path, picture in zip(files, restored, strict=True):
        with Image.open(made[path.name]) as image:
            assert (image.size, image.mode) == ((12, 16), "RGB")
            shown = np.rint(np.clip(picture, 0, 1) * 255)
            np.testing.assert_allclose(np.asarray(image), shown, atol=1)


def test_jpeg_within_the_size_says_its_quality(invoke, saved, tmp_path):
    Image.new("RGB", (24, 32), "teal").save(tmp_path / "teal.png")
    for number in range(200):
        Image.new("RGB", (12, 16), (number, 9, 9)).save(tmp_path / f"{number:0150}.png")
    result = invoke("compress", saved, tmp_path, "--output", "f.kae", "--step", 1e-4)
    assert result.exit_code == 0, result.output
    assert "the best that is no larger" in result.stdout
    size = (tmp_path / "f.kae").stat().st_size
    assert int(result.stdout.split("JPEG")[1].split()[0].replace(",", "")) <= size


def test_nothing_is_overwritten(invoke, saved, photos, tmp_path):
    compress = ("compress", saved, photos, "--output", "photos.kae", "--limit", 4)
    assert invoke(*compress).exit_code == 0
    before = (tmp_path / "photos.kae").read_bytes()
    assert_one_sentence(invoke(*compress), "photos.kae exists already")
    assert (tmp_path / "photos.kae").read_bytes() == before
    assert_one_sentence(
        invoke("compress", saved, photos, "--output", "photos.png"), ".kae"
    )
    # The originals of the first folder are still there; none of them is touched, and
    # nothing is written beside them.
    originals = {path: path.read_bytes() for path in photos.rglob("*.png")}
    result = invoke("decompress", saved, "photos.kae", "--output", photos / "a")
    assert_one_sentence(result, "photo-00.png exists already")
    assert originals == {path: path.read_bytes() for path in photos.rglob("*.png")}


def test_pictures_of_one_name_are_refused(invoke, saved, photos, tmp_path):
    first = photos / "a" / "photo-00.png"
    (photos / "b" / "photo-00.png").write_bytes(first.read_bytes())
    result = invoke("compress", saved, photos, "--output", "f.kae")
    assert_one_sentence(result, "2 pictures would be written to photo-00.png")
    assert not (tmp_path / "f.kae").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/b", "..", "a/../../evil"])
def test_names_can_not_lead_out_of_the_folder(invoke, saved, tmp_path, name):
    model = keras.saving.load_model(saved)
    x = pictures(2, (16, 12, 3))
    data = compression.compress(model, x, names=["good", name])
    (tmp_path / "evil.kae").write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    result = invoke("decompress", saved, "evil.kae", "--output", "out/deep")
    if name == "..":  # a file named "...png", in the folder
        assert result.exit_code == 0
        made = sorted(path.name for path in (tmp_path / "out" / "deep").iterdir())
        assert made == ["...png", "good.png"]
    else:
        assert_one_sentence(result, "evil.kae", "not that of a file", name)
        assert sorted(tmp_path.rglob("*")) == before
    data = compression.compress(model, x, names=["same", "same"])
    (tmp_path / "same.kae").write_bytes(data)
    result = invoke("decompress", saved, "same.kae", "--output", "out")
    assert_one_sentence(result, "2 pictures would be written to")


def test_pictures_without_names_are_numbered(invoke, saved, tmp_path):
    model = keras.saving.load_model(saved)
    data = compression.compress(model, pictures(10, (16, 12, 3)))
    (tmp_path / "f.kae").write_bytes(data)
    assert invoke("decompress", saved, "f.kae", "--output", "out").exit_code == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made[0] == "01.png" and made[-1] == "10.png" and len(made) == 10


def test_what_can_not_be_restored_is_one_sentence(invoke, saved, photos, tmp_path):
    compress = ("compress", saved, photos, "--output", "f.kae")
    assert_one_sentence(invoke(*compress, "--step", 0), "`step` must be a number > 0")
    assert_one_sentence(invoke(*compress, "--step", "nan"), "`step` must be a number")
    assert not (tmp_path / "f.kae").exists()
    assert invoke(*compress).exit_code == 0
    data = (tmp_path / "f.kae").read_bytes()
    (tmp_path / "cut.kae").write_bytes(data[:-9])
    (tmp_path / "text.kae").write_text("hello")
    make(architecture="linear", widths=None).save(tmp_path / "other.keras")
    for model, file, words in (
        (saved, "cut.kae", ("cut.kae can't be restored", "cut short or damaged")),
        (saved, "text.kae", ("text.kae can't be restored", "no compressed pictures")),
        (saved, "none.kae", ("none.kae",)),
        ("other.keras", "f.kae", ("f.kae can't be restored", "another model")),
    ):
        result = invoke("decompress", model, file, "--output", "out")
        assert_one_sentence(result, *words)
    assert not (tmp_path / "out").exists()


def test_the_default_step_is_that_of_the_module():
    step = next(p for p in cli.main.commands["compress"].params if p.name == "step")
    assert step.default == compression.STEP
