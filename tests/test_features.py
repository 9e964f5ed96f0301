"""The feature network: it learns, repeats, is kept, and orders sets of pictures."""

import zipfile

import keras
import numpy as np
import pytest

from keras_ae import features, metrics

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
