"""Measures of disentanglement against scikit-learn and on constructed codes."""

import sys

import numpy as np
import pytest

from keras_ae import metrics

pytestmark = pytest.mark.once


RNG = np.random.default_rng(0)


def independent_factors(n=4000):
    """Two continuous factors and one of four classes, unevenly met."""
    return np.stack(
        [
            RNG.uniform(-3, 5, n),
            RNG.normal(size=n),
            RNG.choice(4, n, p=[0.6, 0.3, 0.08, 0.02]),
        ],
        axis=1,
    )


@pytest.mark.parametrize("bins", [4, 20])
def test_mutual_information_is_that_of_scikit_learn(bins):
    reference = pytest.importorskip("sklearn.metrics").mutual_info_score
    factors = independent_factors()
    codes = np.tanh(factors @ RNG.normal(size=(3, 5))) + RNG.normal(size=(4000, 5))
    codes[:, 4] = 7.0  # a dead dimension

    def ranks(values):
        """Bins of equal counts by rank, of values that differ."""
        return np.argsort(np.argsort(values)) * bins // len(values)

    expected = np.zeros((5, 3))
    for k, factor in enumerate(factors.T):
        factor = factor if k == 2 else ranks(factor)
        entropy = reference(factor, factor)
        for j in range(4):
            expected[j, k] = reference(ranks(codes[:, j]), factor) / entropy
    received = metrics.mutual_information(codes, factors, bins)
    np.testing.assert_allclose(received, expected, atol=2e-3)
    *_, second, first = np.sort(expected, axis=0)
    np.testing.assert_allclose(
        metrics.mutual_information_gap(codes, factors, bins),
        np.mean(first - second),
        atol=2e-3,
    )


def test_mutual_information_gap_of_constructed_codes():
    factors = independent_factors()
    noise = RNG.normal(size=(4000, 2))
    disentangled = np.concatenate(
        [noise[:, :1], -np.exp(factors[:, [1, 0, 2]]), noise[:, 1:]], axis=1
    )
    assert metrics.mutual_information_gap(disentangled, factors) > 0.95
    twice = np.concatenate([disentangled, 2 * disentangled], axis=1)
    assert metrics.mutual_information_gap(twice, factors) == pytest.approx(0)
    assert metrics.mutual_information_gap(noise, factors) < 0.05
    # Each factor half in one dimension, half in another.
    first, second = factors[:, :2].T / factors[:, :2].std(axis=0)[:, None]
    rotated = np.stack([first + second, first - second], axis=1)
    assert metrics.mutual_information_gap(rotated, factors[:, :2]) < 0.05


@pytest.fixture(scope="module")
def constructed():
    """Factors, and codes that are disentangled, mixed or know nothing of them."""
    factors = independent_factors(3000)
    scaled = factors / factors.std(axis=0)
    mixing = np.eye(3) - 2 / 3  # a rotation that leaves no factor to one dimension
    noise = RNG.normal(size=(3000, 5))
    constant = np.full((3000, 1), 0.1)
    disentangled = [noise[:, :1], -7 * factors[:, [1, 0, 2]], constant, noise[:, 1:2]]
    return {
        "factors": factors,
        "disentangled": np.concatenate(disentangled, axis=1),
        "mixed": scaled @ mixing,
        "noise": noise,
    }


def test_dci_of_constructed_codes(constructed):
    pytest.importorskip("sklearn")
    constructed = {name: values[:1000] for name, values in constructed.items()}
    factors = constructed["factors"]
    assert min(metrics.dci(constructed["disentangled"], factors)) > 0.98
    mixed = metrics.dci(constructed["mixed"], factors)
    assert mixed.disentanglement < 0.6 and mixed.completeness < 0.6
    assert mixed.informativeness > 0.9
    assert max(metrics.dci(constructed["noise"], factors)) < 0.05
    # Curved and doubled: still one factor a dimension, but no dimension is enough.
    doubled = np.tile(np.exp(factors[:, :2]), 2)
    found = metrics.dci(doubled, factors[:, :2])
    assert found.disentanglement > 0.99 and found.informativeness > 0.99
    assert found.completeness < 0.6
    found = metrics.dci(np.zeros((1000, 2)), factors)
    np.testing.assert_allclose(found, (0, 0, 0), atol=5e-3)


def test_dci_by_its_definition(monkeypatch):
    ensemble = pytest.importorskip("sklearn.ensemble")
    entropy = pytest.importorskip("scipy.stats").entropy
    importances = RNG.random((4, 3))  # (latent_dim, factors)
    importances[2] = 0
    importances /= importances.sum(axis=0)
    given = iter(importances.T)

    class Forest:
        def __init__(self, **options):
            pass

        def fit(self, codes, truth):
            self.feature_importances_ = next(given)
            self.guess = truth[0]

        def predict(self, codes):
            return np.full(len(codes), self.guess)

    monkeypatch.setattr(ensemble, "RandomForestRegressor", Forest)
    monkeypatch.setattr(ensemble, "RandomForestClassifier", Forest)
    found = metrics.dci(RNG.normal(size=(50, 4)), RNG.normal(size=(50, 3)))
    focus = [1 - entropy(row, base=3) for row in importances[[0, 1, 3]]]
    weights = importances[[0, 1, 3]].sum(axis=1) / importances.sum()
    assert found.disentanglement == pytest.approx(np.dot(focus, weights))
    focus = 1 - entropy(importances, base=4, axis=0)
    assert found.completeness == pytest.approx(focus.mean())


def test_dci_says_what_it_needs(monkeypatch):
    codes = RNG.normal(size=(50, 3))
    with pytest.raises(ValueError, match="`factors` must be at least 2"):
        metrics.dci(codes, codes[:, :1])
    with pytest.raises(ValueError, match="20 examples or more.*Received: 19"):
        metrics.dci(codes[:19], codes[:19])
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ImportError, match=r"`pip install keras-ae\[map\]` brings it"):
        metrics.dci(codes, codes)


def test_sap_is_that_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    accuracy = pytest.importorskip("sklearn.metrics").balanced_accuracy_score
    factors = independent_factors(1500)
    codes = np.tanh(factors @ RNG.normal(size=(3, 4))) + RNG.normal(size=(1500, 4))
    codes[:, 0] += 3 * factors[:, 2]
    scores = np.empty((4, 3))
    for j in range(4):
        code = codes[:, [j]] / codes[:, j].std()
        for k in range(2):
            regression = linear.LinearRegression().fit(code, factors[:, k])
            scores[j, k] = regression.score(code, factors[:, k])
        classifier = linear.LogisticRegression(class_weight="balanced", tol=1e-6)
        classifier.fit(code, factors[:, 2])
        scores[j, 2] = accuracy(factors[:, 2], classifier.predict(code))
    *_, second, first = np.sort(scores, axis=0)
    expected = np.mean(first - second)
    assert metrics.sap(codes, factors) == pytest.approx(expected, abs=5e-3)


def test_sap_of_constructed_codes(constructed):
    factors = constructed["factors"]
    # Another code than its own guesses one in four of the third's classes.
    found = metrics.sap(constructed["disentangled"], factors)
    assert found == pytest.approx((1 + 1 + 3 / 4) / 3, abs=0.03)
    assert metrics.sap(constructed["mixed"], factors) < 0.5
    assert metrics.sap(constructed["noise"], factors) < 0.05
    assert metrics.sap(np.tile(constructed["disentangled"], 2), factors) < 1e-6


def test_factor_vae_score_of_constructed_codes(constructed):
    factors, score = constructed["factors"], metrics.factor_vae_score
    disentangled = constructed["disentangled"]
    options = {"batch_size": 32, "votes": 500}
    found = score(disentangled, factors, **options)
    assert found > 0.99
    # Neither scales nor the order of dimensions matter.
    same = (disentangled * [1, 1e3, 1e-3, 5, 1, 1])[:, ::-1]
    assert score(same, factors, **options) == found
    # Dimensions of noise win by chance, and stand for a factor by chance.
    noise = score(constructed["noise"], factors, **options)
    assert 0.3 < noise < 0.45
    # One of three factors is known. Noise gets half of the votes for each of the two
    # others, and stands for one of them: 1/3 + 1/2 1/3 are right.
    one_known = np.stack([factors[:, 0], constructed["noise"][:, 0]], axis=1)
    assert score(one_known, factors, **options) == pytest.approx(1 / 2, abs=0.07)
    assert noise == score(constructed["noise"], factors, **options, seed=0)
    assert noise != score(constructed["noise"], factors, **options, seed=1)


def test_factor_vae_score_refuses_what_it_cannot_draw():
    codes, factors = RNG.normal(size=(60, 3)), RNG.integers(0, 3, (60, 2))
    score = metrics.factor_vae_score
    with pytest.raises(ValueError, match="=64, but at most .* share one of column 0"):
        score(codes, factors)
    with pytest.raises(ValueError, match="`codes` must vary"):
        score(np.full_like(codes, 0.1), factors, batch_size=4)
    with pytest.raises(ValueError, match="`factors` must be at least 2"):
        score(codes, factors[:, :1], batch_size=4)
    with pytest.raises(ValueError, match="`batch_size` must be an integer >= 2"):
        score(codes, factors, batch_size=1)
    with pytest.raises(ValueError, match="`votes` must be an integer >= 1"):
        score(codes, factors, batch_size=4, votes=0)


@pytest.mark.parametrize("name", ["mutual_information_gap", "sap", "factor_vae_score"])
def test_factors_may_be_missing_in_no_score(name):
    codes = RNG.normal(size=(50, 3))
    score = getattr(metrics, name)
    with pytest.raises(ValueError, match=r"factors \(n, factors\).*and \(\)"):
        score(codes, None)
    with pytest.raises(ValueError, match="`factors` must be numbers"):
        score(codes, np.full((50, 2), "round"))


def test_scores_of_codes_refuse_what_they_cannot_compare():
    codes, factors = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2))
    gap = metrics.mutual_information_gap
    with pytest.raises(ValueError, match=r"same examples.*\(49, 3\) and \(50, 2\)"):
        gap(codes[1:], factors)
    with pytest.raises(ValueError, match="same examples"):
        gap(codes, factors[:, 0])
    with pytest.raises(
        ValueError, match="`bins` must be an integer >= 2. Received: bins=1"
    ):
        gap(codes, factors, bins=1)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        gap(codes[:, :1], factors)
    with pytest.raises(ValueError, match="`codes` must be finite"):
        gap(np.full_like(codes, np.nan), factors)
    with pytest.raises(ValueError, match="same value everywhere in column 1"):
        gap(codes, factors * [1, 0])
