"""Measures of pictures against their definitions and against scikit-image."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ae import metrics
from keras_ae.probability import divergences

pytestmark = pytest.mark.once


RNG = np.random.default_rng(0)


def test_mse_reads_integers_as_0_to_255():
    x = RNG.integers(0, 256, (2500, 3, 4, 1)).astype("uint8")
    y = RNG.random(x.shape, dtype="float32")
    np.testing.assert_allclose(
        metrics.mse(x, y), np.mean((x / 255.0 - y) ** 2), rtol=1e-5
    )
    np.testing.assert_allclose(metrics.mse(x.astype(int), y), metrics.mse(x, y))
    np.testing.assert_allclose(metrics.mse(x > 127, y), metrics.mse(x // 128 * 255, y))


def test_arrays_of_any_library_are_measured():
    x = np.round(16 * RNG.random((3, 12, 12, 1))).astype("float32") / 16
    y = np.round(16 * RNG.random((3, 12, 12, 1))).astype("float32") / 16
    tensors = [keras.Variable(x), ops.cast(x, "bfloat16")]
    torch = pytest.importorskip("torch")
    tensors += [torch.tensor(x, requires_grad=True), torch.tensor(x).bfloat16()]
    for tensor in tensors:
        for measure in (metrics.mse, metrics.psnr, metrics.ssim):
            assert measure(tensor, y) == pytest.approx(measure(x, y), rel=1e-5)
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(x[0, ..., 0])
    with pytest.raises(ValueError, match="must be dense. Received: a sparse"):
        metrics.mse(sparse, sparse)


def test_blurring_by_nothing_is_refused():
    tensor = ops.ones((2, 8, 8, 1))
    np.testing.assert_allclose(metrics.blur(tensor, 1.0), 1.0, rtol=1e-6)
    for width in (0, -1.0, np.nan):
        with pytest.raises(ValueError, match="`width` must be > 0"):
            metrics.blur(tensor, width)


def test_psnr_is_the_mean_over_pictures():
    peak = pytest.importorskip("skimage.metrics").peak_signal_noise_ratio
    x = RNG.random((5, 8, 6, 3), dtype="float32")
    y = np.clip(x + RNG.normal(0, 0.1, x.shape), 0, 1).astype("float32")
    expected = np.mean([peak(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(metrics.psnr(x, y), expected, rtol=1e-5)
    assert metrics.psnr(x, x) == np.inf


def test_floats_whose_peak_is_not_1_are_refused():
    x = RNG.random((2, 12, 12, 1), dtype="float32")
    for measure in (metrics.psnr, metrics.ssim):
        for wide in (255 * x, 2 * x - 1):
            with pytest.raises(ValueError, match=r"read as values in \[0, 1\]"):
                measure(wide, wide)
        # Noise goes beyond.
        assert np.isfinite(measure(x + RNG.normal(size=x.shape), x))


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


def test_measures_refuse_arrays_of_different_shapes():
    with pytest.raises(ValueError, match="one shape"):
        metrics.mse(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least one picture"):
        metrics.psnr(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="at least one picture"):
        metrics.mse(1.0, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: np.ma.array(x, mask=x > 0.5), "`x` must not be masked"),
        (lambda x: (60_000 * x).astype("uint16"), "Integers are read as 0-255"),
        (lambda x: -np.ones(x.shape, "int64"), "integers from -1 to -1"),
        (lambda x: x.astype(str), "Pictures must be numbers. Received: dtype=<U"),
        (lambda x: x.astype(object), "Pictures must be numbers"),
    ],
)
def test_measures_refuse_what_are_no_pictures(change, message):
    x = np.random.default_rng(0).random((2, 12, 12))
    for measure in (metrics.mse, metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match=message):
            measure(change(x), change(x))
    for measure in (metrics.sharpness, metrics.noise_level):
        with pytest.raises(ValueError, match=message.replace("`x` ", "")):
            measure(change(x))


def test_arrays_of_pictures_of_two_sizes_are_refused():
    pictures = [np.zeros((8, 8, 3)), np.zeros((9, 8, 3))]
    with pytest.raises(ValueError, match="`x` must be one array.*one size first"):
        metrics.mse(pictures, pictures)


@pytest.mark.parametrize("shape", [(2, 176, 200, 3), (3, 181, 178), (1, 192, 177, 1)])
def test_ms_ssim_is_that_of_scikit_image_at_five_scales(shape):
    reference = pytest.importorskip("skimage.metrics").structural_similarity
    halved = pytest.importorskip("skimage.transform").downscale_local_mean
    x = RNG.random(shape)
    y = np.clip(x + RNG.normal(0, 0.2, shape), 0, 1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

    def of_channel(a, b):
        similarity = 1.0
        for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
            if scale:
                # It pads what this measure leaves out, the last of an odd number.
                a, b = (
                    halved(c, (2, 2))[: c.shape[0] // 2, : c.shape[1] // 2]
                    for c in (a, b)
                )
            # With a great constant, brightness is alike at all scales but the last.
            constant = 0.01 if scale == 4 else 1e6
            similarity *= (
                reference(a, b, data_range=1.0, K1=constant, **options) ** weight
            )
        return similarity

    x, y = x.reshape(*shape[:3], -1), y.reshape(*shape[:3], -1)
    expected = np.mean(
        [
            of_channel(a[..., channel], b[..., channel])
            for a, b in zip(x, y, strict=True)
            for channel in range(x.shape[-1])
        ]
    )
    x, y = x.reshape(shape), y.reshape(shape)
    np.testing.assert_allclose(metrics.ms_ssim(x, y), expected, atol=1e-7)
    np.testing.assert_allclose(metrics.ms_ssim(x, x), 1)
    repeated = metrics.ms_ssim(np.repeat(x, 25, axis=0), np.repeat(y, 25, axis=0))
    np.testing.assert_allclose(repeated, expected, atol=1e-7)


def test_ms_ssim_is_what_models_are_trained_on():
    x = RNG.random((2, 180, 176, 3), dtype="float32")
    y = np.clip(x + RNG.normal(0, 0.1, x.shape), 0, 1).astype("float32")
    trained = keras.ops.convert_to_numpy(divergences.ms_ssim(x, y)).mean()
    np.testing.assert_allclose(metrics.ms_ssim(x, y), trained, atol=1e-4)


def test_ms_ssim_counts_opposite_structure_as_0():
    noise = RNG.integers(0, 256, (2, 176, 176, 1)).astype("uint8")
    assert metrics.ms_ssim(noise, 255 - noise) == 0


@pytest.mark.parametrize("shape", [(2, 175, 200, 1), (2, 200, 175), (4, 400)])
def test_ms_ssim_refuses_pictures_too_small_for_five_scales(shape):
    with pytest.raises(ValueError, match="at least 176 by 176 pixels"):
        metrics.ms_ssim(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("level", [0.0, 0.05, 0.2])
def test_noise_is_estimated(level):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :40]
    smooth = 0.5 + 0.3 * np.sin(rows / 9)[..., None] * np.cos(columns / 7)[..., None]
    pictures = smooth + level * rng.normal(size=(30, 48, 40, 1))
    found = metrics.noise_level(pictures.astype("float32"))
    assert found == pytest.approx(level, rel=0.2, abs=0.005)
