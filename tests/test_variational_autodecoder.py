"""Variational auto-decoder: its terms, and posteriors against the exact ones."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae.probability.distributions import Normal, NormalMixture
from keras_ae.probability.likelihoods import Gaussian

SMALL = {"latent_dim": 2, "architecture": "dense", "widths": (8,)}
SCALE = 0.5


class FixedNoise(keras.layers.Layer):
    def call(self, mean, log_var):
        return mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor([1.0, -1.0])


def make(**options):
    keras.utils.set_random_seed(1)
    return keras_ae.VariationalAutoDecoder(**{**SMALL, **options})


def fit(model, x, epochs=2, **options):
    options = {"batch_size": 8, "verbose": 0, **options}
    return model.fit(x, epochs=epochs, **options).history


@pytest.mark.parametrize("missing", [False, True])
def test_terms_are_the_formulae(missing):
    model = make(beta=0.7, likelihood=Gaussian(SCALE), prior=Normal(0.3, 0.8))
    model.sampling = FixedNoise()
    model.build((None, 5))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 4)).astype("float32")
    x = rng.normal(size=(6, 5)).astype("float32")
    observed = rng.random(x.shape) < (0.5 if missing else 2)
    given = ops.convert_to_tensor(np.where(observed, x, np.float32("nan")))
    outputs = model(given, rows=ops.convert_to_tensor(rows))
    terms = model.terms(given, outputs)
    monitors = model.monitors(given, outputs, terms)
    mean, log_var = np.float64(rows[:, :2]), np.float64(rows[:, 2:])
    z = mean + np.exp(0.5 * log_var) * [1.0, -1.0]
    np.testing.assert_allclose(to_numpy(outputs["z"]), z, rtol=1e-5, atol=1e-6)
    decoded = to_numpy(model.decoder(z.astype("float32")))
    error = np.where(observed, x - decoded, 0)
    log_prob = observed * (
        -0.5 * (error / SCALE) ** 2 - np.log(SCALE * np.sqrt(2 * np.pi))
    )
    log_prob = log_prob.sum(axis=1)
    variance = np.exp(log_var) / 0.8**2
    kl = 0.5 * (variance + ((mean - 0.3) / 0.8) ** 2 - 1 - np.log(variance))
    kl = kl.sum(axis=1)
    expected = {"reconstruction": -log_prob, "kl": 0.7 * kl}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(to_numpy(terms[name]), value, rtol=1e-4)
    # Without the weight of the KL.
    np.testing.assert_allclose(to_numpy(monitors["elbo"]), log_prob - kl, rtol=1e-4)
    mse = (error**2).sum(axis=1) / np.maximum(observed.sum(axis=1), 1)
    np.testing.assert_allclose(to_numpy(monitors["mse"]), mse, rtol=1e-4)


def test_a_prior_without_closed_form_is_estimated_from_the_sample():
    mixture = NormalMixture([[-1.0, 0.0], [1.0, 0.5]], 0.5)
    model = make(prior=mixture)
    model.sampling = FixedNoise()
    model.build((None, 5))
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    x = ops.zeros((6, 5))
    terms = model.terms(x, model(x, rows=ops.convert_to_tensor(rows)))
    variance = np.exp(np.float64(rows[:, 2:]))
    z = rows[:, :2] + np.sqrt(variance) * [1.0, -1.0]
    log_q = np.sum(-0.5 - 0.5 * np.log(2 * np.pi * variance), axis=1)
    away = (z[:, None] - [[-1.0, 0.0], [1.0, 0.5]]) / 0.5
    log_p = np.log(np.exp(-0.5 * (away**2).sum(axis=2)).mean(axis=1))
    log_p -= np.log(2 * np.pi * 0.25)
    np.testing.assert_allclose(to_numpy(terms["kl"]), log_q - log_p, rtol=1e-3)


# Against the exact posterior


def linear(**options):
    """A model with a decoder z @ kernel + bias, and a Gaussian likelihood."""
    # Alike, so that the codes' posterior has a correlation.
    kernel = np.array([[0.8, -0.5, 0.3, 0.9, 0.4], [0.6, 0.1, -0.4, 0.8, -0.2]])
    bias = np.array([0.1, 0.2, -0.3, 0.4, 0.0])
    options = {"likelihood": Gaussian(SCALE), "image_shape": (5,), **options}
    model = make(architecture="linear", widths=None, **options)
    model.decoder.set_weights([kernel, bias])
    return model, kernel, bias


def exact(kernel, bias, x, observed):
    """Mean and precision of p(z | x) with the prior N(0, I)."""
    seen = kernel[:, observed]
    precision = np.eye(2) + seen @ seen.T / SCALE**2
    mean = np.linalg.solve(precision, seen @ (x - bias)[observed] / SCALE**2)
    return mean, precision


OBSERVED = np.array([True, False, True, True, False])
X = np.array([0.7, -1.3, 0.2, 2.1, -0.4])


def copies(count, observed):
    """The same example again and again."""
    return np.tile(np.where(observed, X, np.nan).astype("float32"), (count, 1))


@pytest.mark.parametrize("observed", [np.ones(5, bool), OBSERVED])
def test_posteriors_become_the_best_factorised_ones(observed):
    model, kernel, bias = linear()
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 400, 1e-3)
    model.compile(
        {
            "decoder": keras.optimizers.SGD(0.0),
            "codes": keras.optimizers.Adam(schedule, beta_2=0.99),
        }
    )
    x = copies(64, observed)
    for _ in range(400):
        model.train_on_batch(x)
    posteriors = model.posteriors()
    mean, precision = exact(kernel, bias, X, observed)
    means = to_numpy(posteriors.mean)
    assert means.shape == (64, 2)
    # The noise of 64 searches averages out.
    np.testing.assert_allclose(means.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(
        np.exp(to_numpy(posteriors.log_var).mean(axis=0)),
        1 / np.diag(precision),
        rtol=0.05,
    )
    np.testing.assert_array_equal(model.codes(), to_numpy(posteriors.mean))
    few = model.posteriors([5, 2])
    np.testing.assert_array_equal(to_numpy(few.mean), means[[5, 2]])
    np.testing.assert_array_equal(
        to_numpy(few.log_var), to_numpy(posteriors.log_var)[[5, 2]]
    )


@pytest.mark.parametrize("observed", [np.ones(5, bool), OBSERVED])
def test_a_search_finds_the_best_factorised_posterior(observed):
    model, kernel, bias = linear()
    fit(model, copies(8, observed), epochs=1)
    model.decoder.set_weights([kernel, bias])
    # Codes to start from, spread as those of a trained model, and far off.
    rows = np.random.default_rng(0).normal(size=(8, 4)) + 4
    model.table.rows.assign(
        np.concatenate([rows[:, :2], np.full((8, 2), -2.0)], axis=1)
    )
    x = copies(2, observed)
    found = model.infer(x, steps=800)
    assert found.converged.all()
    assert not model.infer(x, steps=2).converged.any()
    ids = model.extend(x, steps=800)
    posteriors = model.posteriors(ids)
    mean, precision = exact(kernel, bias, X, observed)
    np.testing.assert_allclose(found.codes, np.tile(mean, (2, 1)), atol=0.01)
    np.testing.assert_allclose(to_numpy(posteriors.mean), found.codes, atol=1e-4)
    np.testing.assert_allclose(
        np.exp(to_numpy(posteriors.log_var)),
        np.tile(1 / np.diag(precision), (2, 1)),
        rtol=0.1,
    )
    error = np.mean((mean @ kernel + bias - X)[observed] ** 2)
    np.testing.assert_allclose(found.error, error, rtol=0.05)


@pytest.mark.parametrize("observed", [np.ones(5, bool), OBSERVED])
def test_posterior_samples_are_of_the_exact_posterior(observed):
    model, kernel, bias = linear(search_steps=200)
    x = np.tile(X.astype("float32"), (2000, 1))
    mask = np.tile(observed, (2000, 1))
    draws = model.sample_posterior(
        x, mask=mask, steps=400, step_size=0.03, batch_size=2000
    )
    mean, precision = exact(kernel, bias, X, observed)
    covariance = np.linalg.inv(precision)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        (draws.mean(axis=0) - mean) / scale, 0, atol=4 / np.sqrt(2000)
    )
    # In units of the variances: the posterior is not factorised, nor are the draws.
    units = np.outer(scale, scale)
    np.testing.assert_allclose(np.cov(draws.T) / units, covariance / units, atol=0.12)
    assert abs(covariance[0, 1] / units[0, 1]) > 0.3


def test_posterior_samples_repeat_with_their_seed():
    model, *_ = linear(search_steps=3)
    x = copies(4, OBSERVED)
    first = model.sample_posterior(x, steps=2, seed=1)
    np.testing.assert_array_equal(model.sample_posterior(x, steps=2, seed=1), first)
    assert (model.sample_posterior(x, steps=2, seed=2) != first).all()
    assert len(np.unique(first[:, 0])) == 4


def test_posterior_samples_repeat_in_no_batch():
    model, *_ = linear(search_steps=3)
    x = copies(7, OBSERVED)
    draws = model.sample_posterior(x, steps=2, seed=1, batch_size=3)
    assert len(np.unique(draws[:, 0])) == 7
    together = model.sample_posterior(x, steps=2, seed=1)
    np.testing.assert_allclose(draws, together, rtol=1e-5, atol=1e-6)
    batches = model.sample_posterior(keras_ae.datasets.Batches(x, 4), steps=2, seed=1)
    assert batches.shape == (7, 2)
    with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
        model.sample_posterior(x, batch_size=0)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "`steps` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"step_size": 0.0}, "`step_size` must be between 0 and 1"),
        ({"step_size": 1.5}, "Received: step_size=1.5"),
        ({"mask": np.ones((4, 3), bool)}, "`mask` must be booleans of the shape"),
        ({"mask": np.zeros((4, 5), bool)}, "must have an observed value. .*4 of 4"),
    ],
)
def test_bad_draws(arguments, message):
    model, *_ = linear()
    with pytest.raises(ValueError, match=message):
        model.sample_posterior(np.tile(X, (4, 1)), **arguments)


# What else is its own


def test_training_draws_anew_and_learns():
    x = np.random.default_rng(0).random((32, 5), dtype="float32")
    model = make()
    model.compile(
        {"decoder": keras.optimizers.SGD(0.0), "codes": keras.optimizers.SGD(0.0)}
    )
    losses = fit(model, x, epochs=3)["reconstruction"]
    assert len(set(losses)) == 3
    model = make()
    model.compile(keras.optimizers.Adam(1e-2))
    history = fit(model, x, epochs=40)
    assert history["elbo"][-1] > history["elbo"][0] + 1
    assert history["kl"][-1] > 0.1


def test_log_variances_stay_in_their_range():
    x = np.random.default_rng(0).random((8, 5), dtype="float32")
    model = make()
    model.compile({"codes": keras.optimizers.SGD(1e6)})
    fit(model, x, epochs=2)
    log_var = to_numpy(model.posteriors().log_var)
    assert np.isfinite(log_var).all()
    assert np.abs(log_var).max() == 20


def test_samples_come_from_the_prior_or_from_the_codes():
    model, kernel, bias = linear(prior=Normal(2.0, 0.1))
    pictures = model.sample(2000, seed=0)
    expected = np.full(2, 2.0) @ kernel + bias
    np.testing.assert_allclose(pictures.mean(axis=0), expected, atol=0.03)
    np.testing.assert_allclose(
        np.cov(pictures.T), 0.01 * kernel.T @ kernel, rtol=0.2, atol=2e-3
    )
    with pytest.raises(ValueError, match="must have learnt samples before `sample`"):
        model.sample(3, sampler="gaussian")
    model.compile({"decoder": keras.optimizers.SGD(0.0)})
    fit(model, np.random.default_rng(0).random((32, 5), dtype="float32"), epochs=5)
    codes = np.float64(model.codes())
    pictures = model.sample(2000, seed=0, sampler="gaussian")
    expected = codes.mean(axis=0) @ kernel + bias
    spread = np.sqrt(np.diag(kernel.T @ np.cov(codes.T) @ kernel))
    error = np.abs(pictures.mean(axis=0) - expected)
    assert (error < 4 * spread / np.sqrt(2000)).all()


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1.0}, "`beta` must be >= 0"),
        ({"prior": "uniform"}, "`prior` must be"),
        ({"code_weight": 0.1}, "`code_weight` must be left out: the KL to the prior"),
        ({"encoder": None}, "`encoder` must be left out"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
