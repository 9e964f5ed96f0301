"""Measures of sets against SciPy and scikit-learn, closed forms and made-up sets."""

import numpy as np
import pytest

from keras_ae import metrics

pytestmark = pytest.mark.once


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dimensions", [1, 2, 20])
def test_frechet_distance_is_that_of_matrix_square_roots(dimensions):
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    x = RNG.normal(size=(300, dimensions)) @ RNG.normal(size=(dimensions, dimensions))
    y = 1 + RNG.normal(size=(200, dimensions)) @ RNG.normal(
        size=(dimensions, dimensions)
    )
    c1, c2 = (np.atleast_2d(np.cov(a, rowvar=False)) for a in (x, y))
    expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(
        c1 + c2 - 2 * sqrtm(c1 @ c2).real
    )
    np.testing.assert_allclose(metrics.frechet_distance(x, y), expected, rtol=1e-8)
    np.testing.assert_allclose(
        metrics.frechet_distance(x.astype("float32"), y), expected, rtol=1e-4
    )
    assert metrics.frechet_distance(x, x) < 1e-9


def test_frechet_distance_of_moved_and_stretched_gaussians():
    x = RNG.normal(size=(500, 8)) @ RNG.normal(size=(8, 8))
    x[:, 3] = x[:, 2]  # a covariance without an inverse
    np.testing.assert_allclose(metrics.frechet_distance(x, x + 2), 8 * 2**2)
    # Of C and 9 C about one mean: tr(C + 9 C - 2 * 3 C).
    x -= x.mean(axis=0)
    np.testing.assert_allclose(
        metrics.frechet_distance(x, 3 * x), 4 * x.var(axis=0, ddof=1).sum()
    )


def test_frechet_distance_refuses_what_has_no_covariance():
    x = np.zeros((20, 8))
    with pytest.raises(ValueError, match="8 dimensions need at least 9 samples"):
        metrics.frechet_distance(x, x[:8])
    with pytest.raises(ValueError, match="dimensions alike"):
        metrics.frechet_distance(x, x[:, :4])
    with pytest.raises(ValueError, match="finite"):
        metrics.frechet_distance(x, np.full((20, 8), np.nan))


@pytest.mark.parametrize("sizes", [[1000], [1, 2, 997], [3] * 300 + [100]])
def test_statistics_gathered_in_batches_are_those_of_all(sizes):
    # Far from 0, where sums of squares would lose half of their digits.
    rows = 1e6 + RNG.normal(size=(1000, 5)) @ RNG.normal(size=(5, 5))
    statistics = metrics.FeatureStatistics()
    for batch in np.split(rows, np.cumsum(sizes)[:-1]):
        assert statistics.update(batch) is statistics
    assert statistics.count == 1000
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(
        statistics.covariance, np.cov(rows, rowvar=False), rtol=1e-8, atol=1e-8
    )


def test_frechet_distance_takes_statistics_for_features():
    x, y = RNG.normal(size=(3000, 6)), RNG.normal(1, 2, size=(50, 6))
    statistics = metrics.FeatureStatistics().update(x[:10]).update(x[10:])
    expected = metrics.frechet_distance(x, y)
    np.testing.assert_allclose(metrics.frechet_distance(statistics, y), expected)
    np.testing.assert_allclose(
        metrics.frechet_distance(y, statistics), expected, rtol=1e-9
    )


def test_statistics_refuse_what_they_cannot_gather():
    statistics = metrics.FeatureStatistics()
    with pytest.raises(ValueError, match="Received: 0 of 0 dim.* and 9 of 2 dim"):
        metrics.frechet_distance(statistics, RNG.normal(size=(9, 2)))
    statistics.update(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="at least two rows.*Received: 1"):
        statistics.covariance  # noqa: B018
    with pytest.raises(ValueError, match=r"must have 4 dimensions.*\(5, 3\)"):
        statistics.update(np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"n >= 1.*\(0, 4\)"):
        statistics.update(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="must be finite"):
        statistics.update(np.full((2, 4), np.inf))
    with pytest.raises(ValueError, match="must be numbers.*<U1"):
        statistics.update(np.full((2, 4), "a"))
    assert statistics.count == 1


def test_kernel_distance_is_that_of_scikit_learn():
    kernel = pytest.importorskip("sklearn.metrics.pairwise").polynomial_kernel
    x = RNG.normal(size=(40, 6)).astype("float32")
    y = RNG.normal(0.5, 1, size=(40, 6))

    def among(a):
        matrix = kernel(a.astype("float64"), degree=3, gamma=1 / 6, coef0=1)
        return matrix[~np.eye(40, dtype=bool)].mean()

    between = kernel(x.astype("float64"), y, degree=3, gamma=1 / 6, coef0=1).mean()
    found = metrics.kernel_distance(x, y, subsets=3, subset_size=40)
    np.testing.assert_allclose(found.mean, among(x) + among(y) - 2 * between)
    np.testing.assert_allclose(found.standard_deviation, 0, atol=1e-9)


def test_kernel_distance_is_unbiased():
    # With p = x·y, E (p + 1)^3 = 1 + 3 E p^2 where signs are drawn by lot: 4 among
    # numbers of size 1, 49 among those of size 2, and 13 between them.
    ones = RNG.choice([-1.0, 1.0], size=(300, 2, 20, 1))
    alike, different = [], []
    for x, y in ones:
        alike.append(metrics.kernel_distance(x, y, 1, 20).mean)
        different.append(metrics.kernel_distance(x, 2 * y, 1, 20).mean)
    for estimates, expected in ((alike, 0), (different, 4 + 49 - 2 * 13)):
        error = np.std(estimates) / np.sqrt(len(estimates))
        assert abs(np.mean(estimates) - expected) < 3 * error
        assert error < 0.5
    assert min(alike) < 0


def test_kernel_distance_draws_subsets_by_its_seed():
    x, y = RNG.normal(size=(300, 4)), RNG.normal(1, 1, size=(200, 4))
    found = metrics.kernel_distance(x, y, 20, 50)
    assert found == metrics.kernel_distance(x, y, 20, 50, seed=0)
    assert found != metrics.kernel_distance(x, y, 20, 50, seed=1)
    everything = metrics.kernel_distance(x[:200], y, 1, 200).mean
    assert abs(found.mean - everything) < found.standard_deviation
    with pytest.raises(ValueError, match="number of samples, 200. .*subset_size=201"):
        metrics.kernel_distance(x, y, subset_size=201)
    with pytest.raises(ValueError, match="`features` and `other` must have the same"):
        metrics.kernel_distance(x, y[:, :3])
    with pytest.raises(ValueError, match="`subset_size` must be an integer >= 2"):
        metrics.kernel_distance(x, y, subset_size=1)


@pytest.mark.parametrize("neighbours", [1, 5])
def test_fidelity_and_diversity_by_their_definitions(neighbours, monkeypatch):
    cdist = pytest.importorskip("scipy.spatial.distance").cdist
    nearest = pytest.importorskip("sklearn.neighbors").NearestNeighbors
    x = RNG.normal(size=(130, 3)).astype("float32")
    y = 0.5 + 0.8 * RNG.normal(size=(90, 3))

    def radii(rows):
        # Without arguments it leaves out each row itself.
        found, _ = nearest(n_neighbors=neighbours).fit(rows).kneighbors()
        return found[:, -1]

    distances = cdist(x, y)
    in_data = distances <= radii(x)[:, None]
    in_samples = distances <= radii(y)
    expected = (
        in_data.any(axis=0).mean(),
        in_samples.any(axis=1).mean(),
        in_data.sum() / (neighbours * 90),
        in_data.any(axis=1).mean(),
    )
    np.testing.assert_allclose(
        metrics.fidelity_and_diversity(x, y, neighbours), expected
    )
    monkeypatch.setattr(metrics.arrays, "_PAIRS", 1000)
    np.testing.assert_allclose(
        metrics.fidelity_and_diversity(x, y, neighbours), expected
    )


def test_fidelity_and_diversity_of_constructed_sets():
    score = metrics.fidelity_and_diversity
    left, right = RNG.normal(size=(400, 2)), 100 + RNG.normal(size=(400, 2))
    data = np.concatenate([left, right])
    assert score(left, right) == (0, 0, 0, 0)
    precision, recall, density, coverage = score(data, data)
    assert precision == recall == coverage == 1
    above, again = data > 50, data[::-1] > 50
    assert score(above, again) == score(above.astype(float), again.astype(float))
    # Each row lies in its own ball, and in as many others as reach it: k on average.
    assert density == pytest.approx(1 + 1 / 5)
    # A mode that is never drawn costs recall and coverage, not precision.
    more = RNG.normal(size=(400, 2))
    precision, recall, density, coverage = score(data, more)
    assert precision > 0.95 and 0.85 < density < 1.15
    assert 0.45 < recall <= 0.5 and 0.45 < coverage <= 0.5
    # Around an outlier, precision is taken in; density and coverage are not.
    data[0] = 50
    precision, recall, density, coverage = score(data, 40 + more)
    assert precision == 1 and density < 0.25 and coverage < 0.01


def test_rows_that_are_equal_lie_within_a_ball_without_radius():
    same = np.full((20, 3), 0.1)
    assert metrics.fidelity_and_diversity(same, same, 3) == (1, 1, 20 / 3, 1)
    # Rounding leaves a little distance between equal rows among others.
    rows = 1000 * RNG.normal(size=(200, 3))
    twice = np.repeat(rows, 2, axis=0)
    assert metrics.fidelity_and_diversity(twice, rows[:70], 1).precision == 1
    assert metrics.fidelity_and_diversity(twice, twice[::-1], 1) == (1, 1, 2, 1)


def test_fidelity_and_diversity_refuse_too_few_rows():
    with pytest.raises(ValueError, match="less than the number .*=5 for 5 and 9 rows"):
        metrics.fidelity_and_diversity(np.eye(5), RNG.normal(size=(9, 5)))
    with pytest.raises(ValueError, match="`features` and `samples` must have the same"):
        metrics.fidelity_and_diversity(np.eye(9), np.eye(8))
    with pytest.raises(ValueError, match="`neighbours` must be an integer >= 1"):
        metrics.fidelity_and_diversity(np.eye(9), np.eye(9), neighbours=0)
