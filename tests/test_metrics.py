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


# More pictures than values per picture, and fewer.
@pytest.mark.parametrize("pictures", [1500, 20])
def test_pca_reconstruction_agrees_with_scikit_learn(pictures):
    pca = pytest.importorskip("sklearn.decomposition").PCA(5, svd_solver="full")
    factors = RNG.normal(0, 1, (pictures + 7, 8)) @ RNG.normal(0, 1, (8, 48))
    x = 0.5 + 0.02 * (factors + RNG.normal(0, 0.1, factors.shape))
    x = x.astype("float32").reshape(-1, 4, 4, 3)
    train, test = x[:pictures], x[pictures:]
    pca.fit(train.reshape(pictures, -1).astype("float64"))
    flat = test.reshape(len(test), -1)
    expected = pca.inverse_transform(pca.transform(flat)).reshape(test.shape)
    restored = metrics.pca_reconstruction(train, test, 5)
    assert restored.shape == test.shape
    np.testing.assert_allclose(restored, expected, atol=1e-5)


def test_pca_reconstruction_of_identical_pictures_is_their_mean():
    train = np.full((6, 2, 2, 1), 51, "uint8")
    restored = metrics.pca_reconstruction(train, train[:1], 3)
    np.testing.assert_allclose(restored, 0.2, atol=1e-6)


@pytest.mark.parametrize("components", [0, 7])
def test_pca_reconstruction_refuses_impossible_numbers_of_components(components):
    with pytest.raises(ValueError, match="1 to 6"):
        metrics.pca_reconstruction(np.zeros((6, 9)), np.zeros((1, 9)), components)
