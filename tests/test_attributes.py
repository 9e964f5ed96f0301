"""Attribute arithmetic on a linear model, where its result is known in closed form."""

import keras
import numpy as np
import pytest

import keras_ae

FEATURES, LATENT_DIM = 12, 4
RNG = np.random.default_rng(0)
ENCODER = RNG.normal(size=(FEATURES, LATENT_DIM)).astype("float32")
DECODER = RNG.normal(size=(LATENT_DIM, FEATURES)).astype("float32")


@pytest.fixture
def model():
    """An AE of pictures (3, 4): z = x E, and x = z D."""

    def linear(before, kernel, after):
        network = keras.Sequential(
            [
                keras.Input(before),
                keras.layers.Flatten(),
                keras.layers.Dense(kernel.shape[1], use_bias=False),
                keras.layers.Reshape(after),
            ]
        )
        network.set_weights([kernel])
        return network

    return keras_ae.AE(
        LATENT_DIM,
        image_shape=(3, 4),
        encoder=linear((3, 4), ENCODER, (LATENT_DIM,)),
        decoder=linear((LATENT_DIM,), DECODER, (3, 4)),
        likelihood=keras_ae.likelihoods.Gaussian(1.0),
    )


def examples(count):
    """Random examples, half of which have a block of other values: the attribute."""
    x = RNG.normal(size=(count, 3, 4)).astype("float32")
    has_attribute = np.arange(count) % 2 == 0
    x[has_attribute, 1:, 2:] += 3
    return x, has_attribute


@pytest.mark.parametrize("dtype", [bool, int, float])
def test_the_vector_is_a_difference_of_mean_codes(model, dtype):
    x, has_attribute = examples(90)
    vector = model.attribute_vector(x, has_attribute.astype(dtype), batch_size=32)
    difference = x[has_attribute].mean(axis=0) - x[~has_attribute].mean(axis=0)
    expected = difference.reshape(FEATURES) @ ENCODER
    assert vector.shape == (LATENT_DIM,) and vector.dtype == np.float32
    np.testing.assert_allclose(vector, expected, atol=1e-4)
    batches = keras_ae.datasets.Batches(x, 32, shuffle=False)
    np.testing.assert_allclose(
        model.attribute_vector(batches, has_attribute), vector, atol=1e-5
    )
    absent = model.attribute_vector(x, ~has_attribute)
    np.testing.assert_allclose(absent, -vector, atol=1e-5)


def test_adding_moves_the_decoded_example_in_proportion(model):
    x, _ = examples(5)
    vector = RNG.normal(size=LATENT_DIM)
    reconstructions = model.reconstruct(x)
    moved = (vector @ DECODER).reshape(3, 4)
    added = model.add_attribute(x, vector)
    assert added.shape == x.shape
    np.testing.assert_allclose(added, reconstructions + moved, atol=1e-4)
    rows = model.add_attribute(x, vector, strength=[-1, 0, 2.5], batch_size=4)
    assert rows.shape == (5, 3, 3, 4)
    for column, strength in enumerate((-1, 0, 2.5)):
        expected = reconstructions + strength * moved
        np.testing.assert_allclose(rows[:, column], expected, atol=1e-4)
    one = model.add_attribute(x[1], vector, strength=2.5)
    np.testing.assert_allclose(one, rows[1, 2], atol=1e-5)
    row = model.add_attribute(x[1], vector, strength=np.array([-1, 0, 2.5]))
    np.testing.assert_allclose(row, rows[1], atol=1e-5)


def test_models_that_draw_codes_use_their_means():
    x, has_attribute = examples(40)
    model = keras_ae.VAE(2, image_shape=(3, 4), likelihood="gaussian", widths=(8,))
    vector = model.attribute_vector(x, has_attribute)
    codes = model.encode(x)
    expected = codes[has_attribute].mean(axis=0) - codes[~has_attribute].mean(axis=0)
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    np.testing.assert_allclose(
        model.add_attribute(x, vector), model.decode(codes + vector), atol=1e-5
    )


@pytest.mark.parametrize(
    "has_attribute, message",
    [
        ([-1, 1, 1, -1, 1, -1], "must be booleans, or 0 and 1"),
        ([0, 0.5, 1, 0, 0, 0], "must be booleans, or 0 and 1"),
        ([0, np.nan, 1, 0, 0, 0], "must be booleans, or 0 and 1"),
        (["1", "0"] * 3, "must be booleans, or 0 and 1"),
        (np.eye(6), r"one an example.*shape \(6, 6\)"),
        ([0] * 6, "for some examples.* 0 of 6"),
        ([True] * 6, "for some examples.* 6 of 6"),
        ([], "for some examples.* 0 of 0"),
        ([0, 1, 0], "one value an example.*3 for 6 examples"),
    ],
)
def test_bad_labels_are_named(model, has_attribute, message):
    with pytest.raises(ValueError, match=message):
        model.attribute_vector(examples(6)[0], has_attribute)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"vector": np.ones(3)}, r"`vector` must be 4 finite.*\(3,\)"),
        ({"vector": np.ones((1, 4))}, r"`vector` must be 4 finite.*\(1, 4\)"),
        ({"vector": np.full(4, np.nan)}, "`vector` must be 4 finite"),
        ({"vector": ["1", "2", "3", "4"]}, "`vector` must be a number, or an array"),
        ({"strength": "a"}, "`strength` must be a number.*Received: strength='a'"),
        ({"strength": ["a", "b"]}, "`strength` must be a number"),
        ({"strength": np.inf}, "`strength` must be a finite number"),
        ({"strength": []}, "`strength` must be a finite number"),
        ({"strength": np.ones((2, 2))}, "`strength` must be a finite number"),
    ],
)
def test_bad_steps_are_named(model, options, message):
    x, _ = examples(2)
    with pytest.raises(ValueError, match=message):
        model.add_attribute(x, **{"vector": np.ones(LATENT_DIM), **options})
    unbuilt = keras_ae.AE(LATENT_DIM)
    with pytest.raises(ValueError, match="`image_shape` before `add_attribute`"):
        unbuilt.add_attribute(x, np.ones(LATENT_DIM))
