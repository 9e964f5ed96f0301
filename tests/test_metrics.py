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
