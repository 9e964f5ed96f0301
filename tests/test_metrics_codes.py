"""Measures of codes against closed forms and scikit-learn."""

import keras
import numpy as np
import pytest

from keras_ae import metrics
from keras_ae.probability import distributions, divergences

pytestmark = pytest.mark.once


RNG = np.random.default_rng(0)


def test_active_units_counts_dimensions_that_vary():
    means = RNG.normal(0, [1.0, 0.5, 0.05, 0.0], (4000, 4))
    assert metrics.active_units(means) == 2
    assert metrics.active_units(means, threshold=0.001) == 3
    with pytest.raises(ValueError, match="n >= 2"):
        metrics.active_units(means[:1])
    with pytest.raises(ValueError, match="`means` must be finite"):
        metrics.active_units(np.where(means > 1, np.nan, means))


def test_encoded_information_of_a_linear_gaussian_channel():
    # I(x; z) = 1/2 log(1 + var(mean) / variance), each dimension for itself.
    spread, variances = np.array([1.0, 2.0, 0.0]), np.array([0.5, 4.0, 1.0])
    means = RNG.normal(size=(5000, 3)) * spread
    log_vars = np.broadcast_to(np.log(variances), means.shape)
    expected = 0.5 * np.log1p(spread**2 / variances).sum()
    found = metrics.encoded_information(means, log_vars)
    # One standard error of 5,000 draws is 0.01.
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert found == metrics.encoded_information(means, log_vars, seed=0)
    assert found != metrics.encoded_information(means, log_vars, seed=1)


def test_encoded_information_between_nothing_and_everything(monkeypatch):
    monkeypatch.setattr(metrics.arrays, "_PAIRS", 3000)
    zeros = np.zeros((1000, 2), "float32")
    assert metrics.encoded_information(zeros, zeros) == pytest.approx(0, abs=1e-12)
    # Two heaps of equal size, each of which says nothing more.
    heaps = np.repeat([[-9.0, 0.0], [9.0, 0.0]], 500, axis=0)
    found = metrics.encoded_information(heaps, zeros)
    assert found == pytest.approx(np.log(2), abs=1e-9)
    # Far apart and very sharp: the logarithm of the number of examples, no more.
    apart = np.stack(np.divmod(np.arange(1000), 40), axis=1)
    found = metrics.encoded_information(apart, np.full((1000, 2), -10.0))
    assert found == pytest.approx(np.log(1000), abs=1e-6)


def test_encoded_information_is_what_a_beta_tcvae_weighs():
    means = RNG.normal(size=(600, 2)).astype("float32")
    log_vars = RNG.normal(-1, 0.5, size=(600, 2)).astype("float32")
    posterior = distributions.Normal.from_log_var(means, log_vars)
    z = means + np.exp(0.5 * log_vars) * RNG.normal(size=means.shape)
    information, _, _ = divergences.kl_parts(
        posterior, distributions.Normal(), z.astype("float32")
    )
    information = keras.ops.convert_to_numpy(information)
    # Two draws of the noise.
    error = np.sqrt(2 / 600) * information.std()
    found = metrics.encoded_information(posterior.mean, posterior.log_var)
    assert abs(found - information.mean()) < 3 * error


def test_encoded_information_refuses_what_is_no_posterior():
    means = RNG.normal(size=(5, 2))
    with pytest.raises(ValueError, match=r"one shape.*\(5, 2\) and \(4, 2\)"):
        metrics.encoded_information(means, means[:4])
    with pytest.raises(ValueError, match=r"n >= 2.*\(1, 2\)"):
        metrics.encoded_information(means[:1], means[:1])
    with pytest.raises(ValueError, match="`log_vars` must be finite"):
        metrics.encoded_information(means, np.full_like(means, np.nan))


def test_aggregate_posterior_distance_is_what_a_wae_minimises(monkeypatch):
    codes = RNG.normal(0.3, 0.7, size=(150, 4)).astype("float32")
    prior_codes = RNG.normal(0, 2, size=(170, 4)).astype("float32")
    scale = np.sqrt(prior_codes.var(axis=0, ddof=1).mean())
    expected = divergences.mmd(codes, prior_codes, scale=float(scale))
    found = metrics.aggregate_posterior_distance(codes, prior_codes)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    monkeypatch.setattr(metrics.arrays, "_PAIRS", 1000)
    again = metrics.aggregate_posterior_distance(codes, prior_codes)
    np.testing.assert_allclose(again, found)


def test_aggregate_posterior_distance_is_unbiased():
    draws = RNG.normal(size=(200, 2, 30, 3))
    estimates = [metrics.aggregate_posterior_distance(x, y) for x, y in draws]
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates)) < 3 * error
    assert min(estimates) < 0 < max(estimates)
    assert metrics.aggregate_posterior_distance(draws[0, 0] + 100, draws[0, 1]) > 5
    with pytest.raises(ValueError, match="`prior_codes` must differ"):
        metrics.aggregate_posterior_distance(draws[0, 0], np.zeros((5, 3)))
    with pytest.raises(ValueError, match="`codes` and `prior_codes` must have the"):
        metrics.aggregate_posterior_distance(draws[0, 0], np.zeros((5, 4)))


def clouds(count, spread=1.0):
    """Codes in five clouds about the corners of a simplex, and their names."""
    numbers = RNG.integers(0, 5, count)
    codes = 2 * np.eye(5)[numbers] + spread * RNG.normal(size=(count, 5))
    return codes * [1, 2, 3, 4, 100] + 7, np.array(list("abcde"))[numbers]


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_linear_probe_is_that_of_scikit_learn(spread):
    regression = pytest.importorskip("sklearn.linear_model").LogisticRegression
    codes, labels = clouds(500, spread)
    test_codes, test_labels = clouds(2000, spread)
    mean, scale = codes.mean(axis=0), codes.std(axis=0)
    reference = regression(tol=1e-8, max_iter=10_000)
    reference.fit((codes - mean) / scale, labels)
    found = metrics.linear_probe(codes, labels, test_codes, test_labels)
    expected = reference.score((test_codes - mean) / scale, test_labels)
    assert found == pytest.approx(expected, abs=2e-3)
    scores = metrics.codes.logistic_scores(
        (codes - mean) / scale,
        np.unique(labels, return_inverse=True)[1],
        (test_codes - mean) / scale,
    )
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        probabilities,
        reference.predict_proba((test_codes - mean) / scale),
        atol=1e-2,
    )


def test_logistic_scores_weigh_examples():
    reference = pytest.importorskip("sklearn.linear_model").LogisticRegression
    codes = RNG.normal(size=(300, 2))
    numbers = (codes[:, 0] + RNG.normal(size=300) > 1).astype(int)
    weights = np.where(numbers, 3.0, 0.5)
    # It gives two classes one vector, halves of which have half of its square.
    reference = reference(C=2, tol=1e-8).fit(codes, numbers, weights)
    scores = metrics.codes.logistic_scores(codes, numbers, codes, weights)
    found, expected = scores[:, 1] - scores[:, 0], reference.decision_function(codes)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_what_lies_apart_in_no_line_is_found_by_neighbours():
    codes = RNG.uniform(-1, 1, (2000, 2))
    labels = codes[:, 0] * codes[:, 1] > 0
    half = np.split(codes, 2), np.split(labels, 2)
    arguments = half[0][0], half[1][0], half[0][1], half[1][1]
    assert metrics.linear_probe(*arguments) < 0.65
    assert metrics.nearest_neighbour_accuracy(*arguments) > 0.93


@pytest.mark.parametrize("neighbours", [1, 5])
def test_nearest_neighbours_are_those_of_scikit_learn(neighbours, monkeypatch):
    classifier = pytest.importorskip("sklearn.neighbors").KNeighborsClassifier
    codes, labels = clouds(300)
    test_codes, test_labels = clouds(400)
    monkeypatch.setattr(metrics.arrays, "_PAIRS", 10_000)
    expected = classifier(neighbours).fit(codes, labels).score(test_codes, test_labels)
    found = metrics.nearest_neighbour_accuracy(
        codes, labels, test_codes, test_labels, neighbours
    )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "probe", [metrics.linear_probe, metrics.nearest_neighbour_accuracy]
)
def test_probes_refuse_what_they_cannot_learn(probe):
    codes, labels = clouds(50)
    # A class that was never met, even one that sorts last, is never found.
    assert probe(codes, labels, codes, np.full(50, "z")) == 0
    with pytest.raises(ValueError, match=r"`labels` must be 50 classes.*\(49,\)"):
        probe(codes, labels[1:], codes, labels)
    with pytest.raises(ValueError, match="`test_labels` must be 50 classes"):
        probe(codes, labels, codes, labels[:, None])
    with pytest.raises(ValueError, match="two classes or more. Received: a only"):
        probe(codes, np.full(50, "a"), codes, labels)
    with pytest.raises(ValueError, match="`codes` and `test_codes` must have the same"):
        probe(codes, labels, codes[:, :2], labels)
    with pytest.raises(ValueError, match="`test_codes` must be finite"):
        probe(codes, labels, codes * np.nan, labels)
    with pytest.raises(ValueError, match="both texts or both numbers.*int64"):
        probe(codes, labels, codes, np.zeros(50, "int64"))
    for missing in (None, np.nan):
        some = labels.astype(object)
        # Texts of a frame come as objects.
        assert probe(codes, some, codes, labels) == probe(codes, labels, codes, labels)
        some[:3] = missing
        with pytest.raises(ValueError, match="`test_labels` must be known.*3 of 50"):
            probe(codes, labels, codes, some)
    with pytest.raises(
        ValueError, match="number of codes, 50. Received: neighbours=51"
    ):
        metrics.nearest_neighbour_accuracy(codes, labels, codes, labels, 51)
