import keras
import numpy as np
import pytest
from numerics import to_numpy

import keras_ae
from keras_ae.probability import likelihoods

RNG = np.random.default_rng(0)
PIXELS = RNG.uniform(0.05, 0.95, 12)
X = (RNG.uniform(size=(200, 12)) < PIXELS).astype("float32")
PICTURES = RNG.uniform(0.0, 1.0, (40, 8, 6, 3)).astype("float32") * [0.2, 0.5, 1.0]


def unlearning(model):
    """A model whose steps change no weight."""
    model.compile(keras.optimizers.SGD(0.0))
    return model


def rows():
    return keras_ae.VAE(2, architecture="dense", widths=(4,), likelihood="bernoulli")


def expected(model):
    """What a model expects of a code that says nothing."""
    parameters = model.decoder(np.zeros((1, model.code_dim), "float32"))
    return to_numpy(model.likelihood.mean(parameters))[0]


def streams(x):
    return (x[start : start + 20] for start in range(0, len(x), 20))


KINDS = "bernoulli continuous_bernoulli gaussian laplace student_t sigmoid"


@pytest.mark.parametrize("name", KINDS.split())
def test_parameters_of_a_mean_have_that_mean(name):
    mean = RNG.uniform(0.05, 0.95, (3, 4))
    likelihood = likelihoods.get_likelihood(
        likelihoods.Gaussian("predicted", "sigmoid") if name == "sigmoid" else name
    )
    parameters = likelihood.parameters_at(mean)
    assert parameters.shape == likelihood.parameters_shape(mean.shape)
    np.testing.assert_allclose(to_numpy(likelihood.mean(parameters)), mean, atol=1e-4)


def test_parameters_of_a_tables_mean_have_that_mean():
    table = {
        "size": [1.0, 2.0, None, 5.0],
        "kind": ["a", "b", "a", "a"],
        "visits": np.array([0, 3, 2, 9]),
    }
    schema = keras_ae.datasets.Schema.of(table)
    likelihood = likelihoods.Columns(schema)
    mean = np.mean(schema.rows(table), axis=0)
    found = to_numpy(likelihood.mean(likelihood.parameters_at(mean)[None]))[0]
    np.testing.assert_allclose(found, mean, atol=1e-5)


@pytest.mark.once
def test_means_that_no_parameters_have_are_kept_clear_of():
    certain = np.array([0.0, 1.0])
    for name in ("bernoulli", "continuous_bernoulli"):
        likelihood = likelihoods.get_likelihood(name)
        found = to_numpy(likelihood.mean(likelihood.parameters_at(certain)))
        np.testing.assert_allclose(found, certain, atol=0.03)
    assert likelihoods.Gaussian(1.0, "tanh").parameters_at(certain) is None


def test_a_new_decoder_starts_at_the_mean_of_the_data():
    model = unlearning(rows())
    model.fit(X, epochs=1, verbose=0)
    np.testing.assert_allclose(expected(model), X.mean(axis=0), atol=1e-5)
    # What has been started, or learned, is left alone.
    model.fit(1.0 - X, epochs=1, verbose=0)
    np.testing.assert_allclose(expected(model), X.mean(axis=0), atol=1e-5)


def test_a_convolution_starts_at_the_mean_of_each_channel():
    pictures = np.tile(PICTURES, (1, 2, 3, 1)).astype("float32")
    for likelihood in ("gaussian", likelihoods.Gaussian("predicted")):
        model = unlearning(keras_ae.VAE(2, widths=(4,), likelihood=likelihood))
        model.fit(pictures, epochs=1, verbose=0)
        last = [each for each in model.decoder.layers if each.weights][-1]
        bias = to_numpy(last.bias).reshape(3, -1)
        np.testing.assert_allclose(bias[:, 0], pictures.mean(axis=(0, 1, 2)), atol=1e-4)
        assert not bias[:, 1:].any()


@pytest.mark.once
def test_it_starts_from_any_data_and_loses_none_of_them():
    for data in (streams(X), keras_ae.datasets.Batches(X, 20), X.astype("float64")):
        model = unlearning(rows())
        seen = []
        counting = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, seen=seen: seen.append(batch)
        )
        options = {} if not hasattr(data, "shape") else {"batch_size": 20}
        model.fit(data, epochs=1, verbose=0, callbacks=[counting], **options)
        known = X[:20] if not hasattr(data, "__len__") else X
        np.testing.assert_allclose(
            expected(model), np.clip(known.mean(axis=0), 1e-3, 1 - 1e-3), atol=1e-4
        )
        assert len(seen) == 10


@pytest.mark.once
def test_what_is_missing_counts_for_nothing():
    x = X.copy()
    x[:100, 3] = np.nan
    model = unlearning(keras_ae.GLO(2, architecture="dense", widths=(4,)))
    model.fit(x, epochs=1, verbose=0)
    np.testing.assert_allclose(expected(model), np.nanmean(x, axis=0), atol=1e-5)


@pytest.mark.once
def test_networks_of_ones_own_and_frozen_ones_are_left_alone():
    own = keras.Sequential([keras.Input((2,)), keras.layers.Dense(12)])
    theirs = unlearning(keras_ae.VAE(2, architecture="dense", decoder=own))
    frozen = rows()
    frozen.build((None, 12))
    frozen.decoder.trainable = False
    generator = keras_ae.GAN(2, architecture="dense", widths=(4,))
    noisy = keras_ae.DenoisingAE(2, widths=(4,))
    for model, x in (
        (theirs, X),
        (unlearning(frozen), X),
        (unlearning(generator), X),
        (unlearning(noisy), np.tile(PICTURES, (1, 2, 3, 1)).astype("float32")),
    ):
        model.fit(x, epochs=1, verbose=0)
        last = [each for each in model.decoder.layers if each.weights][-1]
        assert not to_numpy(last.bias).any(), type(model).__name__
