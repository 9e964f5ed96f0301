"""The feature network: it learns, repeats, is kept, and orders sets of pictures."""

import warnings
import zipfile

import keras
import numpy as np
import pytest
import sklearn.decomposition

import keras_ae
from keras_ae import datasets, metrics
from keras_ae.evaluation import feature_network, features

pytestmark = pytest.mark.once


RNG = np.random.default_rng(0)


def bars(count, noise=20):
    """Pictures (count, 16, 12, 3) of three classes: a row, a column or neither."""
    images = RNG.integers(0, noise, (count, 16, 12, 3)).astype("uint8")
    classes = RNG.integers(0, 3, count)
    for image, number in zip(images, classes, strict=True):
        if number == 0:
            image[RNG.integers(16)] = 250
        elif number == 1:
            image[:, RNG.integers(12)] = 250
    return images, classes


@pytest.fixture(scope="module")
def network():
    return features.train(*bars(600), batch_size=32)


def test_it_tells_classes_apart(network):
    images, classes = bars(150)
    probabilities = network.predict(images)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == classes) > 0.9
    found = network.features(images, batch_size=64)
    assert found.shape == (150, 64) and found.dtype == np.float32
    assert network.name == "classifier-3-classes-16x12px"
    # The features are all that the last layer is given.
    weights, bias = network.network.layers[-1].get_weights()
    logits = np.maximum(found, 0) @ weights + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_the_distance_grows_with_the_difference(network):
    images, classes = bars(400)
    found = network.features(images)
    alike = metrics.frechet_distance(found[:200], found[200:])
    noisy = network.features(bars(200, noise=200)[0])
    one_class = network.features(images[classes == 0])
    assert metrics.frechet_distance(found[:200], noisy) > 3 * alike
    assert metrics.frechet_distance(found[:200], one_class) > 3 * alike


def test_floats_are_rounded_to_eight_bits(network):
    images, _ = bars(8)
    expected = network.features(images)
    for same in (images / 255, images / 255 + 0.4 / 255, images.astype(int)):
        np.testing.assert_array_equal(network.features(same), expected)
    # Decoded pictures overshoot a little.
    black = images > 127
    np.testing.assert_array_equal(
        network.features(black), network.features(np.uint8(255 * black))
    )
    scaled = images / 255
    over = np.where(scaled == scaled.min(), -0.3, scaled)
    np.testing.assert_array_equal(
        network.features(over), network.features(np.clip(over, 0, 1))
    )
    for wrong in (2 * scaled - 1, images.astype("float32")):
        with pytest.raises(ValueError, match=r"Floats must be in \[0, 1\]"):
            network.features(wrong)
    with pytest.raises(ValueError, match="NaN"):
        network.features(np.full_like(scaled, np.nan))


def test_attributes_are_told_apart_one_by_one():
    images, classes = bars(600)
    attributes = np.stack([classes == 0, classes == 1], axis=1)
    network = features.train(images, attributes, batch_size=32)
    assert network.name == "classifier-2-attributes-16x12px"
    images, classes = bars(150)
    expected = np.stack([classes == 0, classes == 1], axis=1)
    found = network.predict(images)
    assert found.shape == (150, 2)
    assert np.mean((found > 0.5) == expected) > 0.9


def test_training_repeats_with_its_seed_whatever_was_drawn_before():
    images, classes = bars(64)
    digests = []
    for state, seed in ((1, 0), (2, 0), (2, 1)):
        keras.utils.set_random_seed(state)
        digests.append(features.train(images, classes, seed=seed, epochs=1).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_saved_network_is_the_same(network, tmp_path):
    network.save(tmp_path / "shared" / "features.keras")
    again = features.load(tmp_path / "shared" / "features.keras")
    assert (again.name, again.digest) == (network.name, network.digest)
    images, _ = bars(8)
    np.testing.assert_allclose(
        again.features(images), network.features(images), atol=1e-5
    )


def test_what_is_no_feature_network_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no feature network at .*none.keras"):
        features.load(tmp_path / "none.keras")
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(ValueError, match="text.keras is not a feature network"):
        features.load(tmp_path / "text.keras")
    with zipfile.ZipFile(tmp_path / "packed.keras", "w") as packed:
        packed.writestr("text", "hello")
    with pytest.raises(ValueError, match="packed.keras is not a feature network"):
        features.load(tmp_path / "packed.keras")
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="other.keras is not a feature network"):
        features.load(tmp_path / "other.keras")


@pytest.mark.parametrize(
    "shape, targets, message",
    [
        ((4, 8), [0, 1, 0, 1], "`images` must have the shape"),
        ((0, 8, 8), [], "`images` must have the shape"),
        ((4, 8, 8), [0, 1, 0], r"must be 4 integers.* and shape \(3,\)"),
        ((4, 8, 8), [0.5, 1, 0, 1], "must be 4 integers.*float64"),
        ((4, 8, 8), ["a", "b", "a", "b"], "must be 4 integers"),
        ((4, 8, 8), [-1, 1, 0, 1], "classes from 0.*from -1 to 1"),
        ((4, 8, 8), [1, 1, 1, 1], "at least two of them"),
        ((4, 8, 8), [[0, 2]] * 4, "0 or 1.*from 0 to 2"),
    ],
)
def test_bad_pictures_and_targets_are_named(shape, targets, message):
    with pytest.raises(ValueError, match=message):
        features.train(np.zeros(shape, "uint8"), np.array(targets))


def test_pictures_of_another_shape_are_refused(network):
    with pytest.raises(ValueError, match=r"\(n, 16, 12, 3\).*\(5, 12, 16, 3\)"):
        network.features(np.zeros((5, 12, 16, 3), "uint8"))
    with pytest.raises(ValueError, match="one picture or more"):
        network.predict(np.zeros((0, 16, 12, 3), "uint8"))
    with pytest.raises(ValueError, match="`epochs` must be an integer >= 1"):
        features.train(np.zeros((4, 8, 8), "uint8"), np.arange(4), epochs=0)


def test_statistics_are_gathered_from_arrays_and_batches_alike(network, monkeypatch):
    images, classes = bars(150)
    found = network.features(images)
    batches = datasets.Batches(images, 32, targets=classes)
    generated = (images[start : start + 40] for start in range(0, 150, 40))
    monkeypatch.setattr(feature_network, "_CHUNK", 64)
    for data in (images, batches, generated, list(images)):
        statistics = network.statistics(data)
        assert statistics.count == 150
        np.testing.assert_allclose(statistics.mean, found.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(
            statistics.covariance, np.cov(found, rowvar=False), atol=1e-2, rtol=1e-3
        )
    np.testing.assert_allclose(
        metrics.frechet_distance(network.statistics(images), found), 0, atol=1e-3
    )
    with pytest.raises(ValueError, match="one picture or more. Received: none"):
        network.statistics(iter([]))


def test_one_channel_is_repeated_and_said_once(network):
    grey = bars(6)[0][..., :1]
    with pytest.warns(UserWarning, match="one channel; classifier-3-cl.* three times"):
        found = network.features(grey)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        np.testing.assert_array_equal(network.features(grey[..., 0]), found)
        np.testing.assert_array_equal(network.features(grey.repeat(3, axis=3)), found)


def test_a_network_for_data_is_trained_once(network, tmp_path, monkeypatch):
    images, classes = bars(96)
    trained = []
    monkeypatch.setattr(
        features, "train", lambda *args: trained.append(args) or network
    )
    directory = tmp_path / "networks"

    def load(images=images, classes=classes, **options):
        found = features.for_data(images, classes, directory, **options)
        assert found.digest == network.digest

    load(epochs=1)
    images_given, classes_given, *settings = trained[0]
    np.testing.assert_array_equal(images_given, images)
    np.testing.assert_array_equal(classes_given, classes)
    assert settings == [0, 1, 64, 0]
    # The same content: as other integers, as floats, from a file.
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for same in (images.astype(int), images / 255, mapped):
        load(same, classes.astype("int64"), epochs=1)
    assert len(trained) == 1
    load(images[::-1], epochs=1)
    load(classes=classes[::-1], epochs=1)
    load(classes=np.eye(3, dtype=int)[classes], epochs=1)
    load(epochs=1, seed=1)
    load(epochs=1, batch_size=32)
    load()
    assert len(trained) == len(list(directory.iterdir())) == 7
    with pytest.raises(ValueError, match="`targets` must be 96 integers"):
        load(classes=None)
    with pytest.raises(ValueError, match="of several shapes; bring pictures to one"):
        load([images[0], images[0, 1:]])


@pytest.fixture
def small_inception(monkeypatch):
    """A network of the shape of InceptionV3, a thousandth of its size."""

    def build(weights):
        assert weights == "imagenet"
        x = keras.Input((299, 299, 3))
        y = keras.layers.Conv2D(8, 9, strides=9, activation="relu")(x)
        y = keras.layers.GlobalAveragePooling2D(name="avg_pool")(y)
        return keras.Model(x, keras.layers.Dense(5, "softmax", name="predictions")(y))

    monkeypatch.setattr(keras.applications, "InceptionV3", build)


def test_inception_sees_resized_pictures_of_any_size(small_inception, tmp_path):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = features.inception()
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.name == "inception-v3-imagenet"
    assert network.resize == "bilinear, antialiased, to 299 x 299"
    images, _ = bars(4)
    found = network.features(images)
    assert found.shape == (4, 8) and network.predict(images).shape == (4, 5)
    resized = keras.ops.image.resize(
        images.astype("float32"), (299, 299), "bilinear", antialias=True
    )
    seen = keras.applications.inception_v3.preprocess_input(
        keras.ops.convert_to_numpy(resized)
    )
    whole = network.network
    trunk = whole.layers[3]
    np.testing.assert_allclose(found, trunk.predict(seen, verbose=0), atol=1e-5)
    assert network.features(np.zeros((2, 350, 10, 3), "uint8")).shape == (2, 8)
    with pytest.raises(ValueError, match=r"of one size.*\(16, 12, 3\) and then of \(9"):
        network.statistics(iter([images, np.zeros((2, 9, 9, 3), "uint8")]))
    with pytest.raises(ValueError, match=r"\(n, any, any, 3\). Received: \(2, 9, 9, 4"):
        network.features(np.zeros((2, 9, 9, 4), "uint8"))
    network.save(tmp_path / "inception.keras")
    again = features.load(tmp_path / "inception.keras")
    assert (again.digest, again.resize) == (network.digest, network.resize)
    np.testing.assert_allclose(again.features(images), found, atol=1e-5)


def test_inception_without_its_weights_names_the_remedy(monkeypatch, tmp_path):
    def fail(weights):
        raise Exception("URL fetch failure")

    with pytest.raises(OSError, match="nowhere.h5' of InceptionV3 could not be had"):
        features.inception(tmp_path / "nowhere.h5")
    monkeypatch.setattr(keras.applications, "InceptionV3", fail)
    with pytest.raises(OSError, match="`keras_ae.features.for_data`. .URL fetch fail"):
        features.inception()


def test_a_classifier_resizes_nothing(network):
    assert network.resize == "none"


def test_stages_are_what_the_classifier_computes(network):
    shape = network.network.input_shape[1:]
    pictures = np.random.default_rng(0).integers(0, 256, (3, *shape), "uint8")
    stages = features.stages(network)
    found = stages(pictures.astype("float32") / 255, training=False)
    assert len({tuple(feature.shape) for feature in found}) == len(found) > 1
    encoder = network.network.get_layer("encoder")
    last = keras.ops.reshape(found[-1], (3, -1))
    again = keras.ops.convert_to_numpy(encoder.layers[-1](last))
    np.testing.assert_allclose(again, network.features(pictures), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="`network` must be one that .*another"):
        x = keras.Input((8, 8, 1), dtype="uint8")
        flat = keras.layers.Flatten(name="features")(x)
        other = keras.Model(x, keras.layers.Dense(2)(flat), name="another")
        features.stages(features.FeatureNetwork(other))


def test_a_kl_autoencoder_looks_at_stages(network):
    shape = network.network.input_shape[1:]
    x = np.random.default_rng(0).integers(0, 256, (8, *shape), "uint8")
    stages = features.stages(network)
    before = [np.array(weight) for weight in network.network.get_weights()]
    model = keras_ae.KLAutoencoder(2, widths=(4,), perceptual=stages)
    history = model.fit(x, epochs=2, batch_size=4, verbose=0).history
    assert np.all(np.array(history["perceptual"]) > 0)
    for old, new in zip(before, network.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_principal_components_need_no_labels(tmp_path):
    images, _ = bars(300)
    network = features.principal(images, 5)
    assert network.name == "principal-5-components-16x12px"
    flat = images.reshape(300, -1) / 255
    found = network.features(images)
    pca = sklearn.decomposition.PCA(5, svd_solver="full").fit(flat)
    np.testing.assert_allclose(
        np.abs(found), np.abs(pca.transform(flat)), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_array_equal(network.predict(images), found)
    alike, darker = (network.features(x) for x in (bars(300)[0], images // 2))
    assert metrics.frechet_distance(found, darker) > 3 * metrics.frechet_distance(
        found, alike
    )
    network.save(tmp_path / "network.keras")
    loaded = features.load(tmp_path / "network.keras")
    assert loaded.digest == network.digest
    # Of more pictures than are taken, always the same ones.
    many = bars(features._MOST + 50)[0]
    assert features.principal(many).digest == features.principal(many).digest
    assert features.principal(images[:4]).features(images).shape == (300, 4)
    with pytest.raises(ValueError, match="`dimensions` must be an integer >= 1"):
        features.principal(images, 0)
