"""Measures against their definitions and against scikit-learn and scikit-image."""

import numpy as np
import pytest

from keras_ae import metrics

RNG = np.random.default_rng(0)


def test_mse_reads_integers_as_0_to_255():
    x = RNG.integers(0, 256, (2500, 3, 4, 1)).astype("uint8")
    y = RNG.random(x.shape, dtype="float32")
    np.testing.assert_allclose(
        metrics.mse(x, y), np.mean((x / 255.0 - y) ** 2), rtol=1e-5
    )
    np.testing.assert_allclose(metrics.mse(x.astype(int), y), metrics.mse(x, y))
    np.testing.assert_allclose(metrics.mse(x > 127, y), metrics.mse(x // 128 * 255, y))


def test_psnr_is_the_mean_over_pictures():
    peak = pytest.importorskip("skimage.metrics").peak_signal_noise_ratio
    x = RNG.random((5, 8, 6, 3), dtype="float32")
    y = np.clip(x + RNG.normal(0, 0.1, x.shape), 0, 1).astype("float32")
    expected = np.mean([peak(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(metrics.psnr(x, y), expected, rtol=1e-5)
    assert metrics.psnr(x, x) == np.inf


@pytest.mark.parametrize("shape", [(5, 17, 11, 3), (3, 28, 30, 1), (2, 200, 300)])
def test_ssim_is_that_of_scikit_image(shape):
    reference = pytest.importorskip("skimage.metrics").structural_similarity
    x = RNG.random(shape)
    y = np.clip(x + RNG.normal(0, 0.2, shape), 0, 1)
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1,
        "channel_axis": -1 if len(shape) == 4 else None,
    }
    expected = np.mean([reference(a, b, **options) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(metrics.ssim(x, y), expected, atol=1e-6)
    np.testing.assert_allclose(metrics.ssim(x, x), 1)
    # In chunks, and of integers: 0-255.
    monochrome = (255 * x).astype("uint8")
    expected = metrics.ssim(monochrome / 255, y)
    repeated = metrics.ssim(monochrome.repeat(40, axis=0), y.repeat(40, axis=0))
    np.testing.assert_allclose(repeated, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 10, 20, 1), (2, 20, 10), (4, 400)])
def test_ssim_refuses_pictures_smaller_than_its_window(shape):
    with pytest.raises(ValueError, match="at least 11 by 11 pixels"):
        metrics.ssim(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("shape", [(5, 17, 11, 3), (1100, 8, 9, 1), (2, 30, 3)])
def test_sharpness_is_the_variance_of_the_laplacian(shape):
    laplace = pytest.importorskip("scipy.ndimage").laplace
    x = RNG.random(shape)
    grey = x.mean(axis=-1) if len(shape) == 4 else x
    expected = np.mean([laplace(picture)[1:-1, 1:-1].var() for picture in grey])
    np.testing.assert_allclose(metrics.sharpness(x), expected)
    eight_bits = np.rint(255 * x).astype("uint8")
    np.testing.assert_allclose(
        metrics.sharpness(eight_bits), metrics.sharpness(eight_bits / 255), rtol=1e-5
    )
    blurred = (x[:, 1:] + x[:, :-1]) / 2
    assert metrics.sharpness(blurred) < metrics.sharpness(x)


def test_sharpness_of_a_picture_worked_out_by_hand():
    x = np.zeros((1, 5, 5))
    x[0, 2, 2] = 1
    # -4 in the middle, 1 at its four neighbours, 0 at the four corners: mean 0.
    np.testing.assert_allclose(metrics.sharpness(x), (16 + 4) / 9)
    with pytest.raises(ValueError, match="at least 3 by 3 pixels"):
        metrics.sharpness(np.zeros((4, 2, 8, 1)))
    with pytest.raises(ValueError, match="one picture or more"):
        metrics.sharpness(np.zeros((0, 8, 8, 1)))


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


def test_measures_refuse_arrays_of_different_shapes():
    with pytest.raises(ValueError, match="one shape"):
        metrics.mse(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least one picture"):
        metrics.psnr(np.zeros((0, 3)), np.zeros((0, 3)))


def test_active_units_counts_dimensions_that_vary():
    means = RNG.normal(0, [1.0, 0.5, 0.05, 0.0], (4000, 4))
    assert metrics.active_units(means) == 2
    assert metrics.active_units(means, threshold=0.001) == 3
    with pytest.raises(ValueError, match="at least two pictures"):
        metrics.active_units(means[:1])


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


def test_scores_of_codes_refuse_what_they_cannot_compare():
    codes, factors = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2))
    gap = metrics.mutual_information_gap
    with pytest.raises(ValueError, match=r"same examples.*\(49, 3\) and \(50, 2\)"):
        gap(codes[1:], factors)
    with pytest.raises(ValueError, match="same examples"):
        gap(codes, factors[:, 0])
    with pytest.raises(ValueError, match="`bins` must be >= 2. Received: bins=1"):
        gap(codes, factors, bins=1)
    with pytest.raises(ValueError, match="at least two dimensions"):
        gap(codes[:, :1], factors)
    with pytest.raises(ValueError, match="`codes` must be one or more finite"):
        gap(np.full_like(codes, np.nan), factors)
    with pytest.raises(ValueError, match="same value everywhere in column 1"):
        gap(codes, factors * [1, 0])
