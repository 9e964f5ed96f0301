"""Corruption, and models that learn to undo it."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae import runs
from keras_ae.nn import layers

SHAPE = (12, 10, 1)


def spoil(layer, x):
    return to_numpy(layer(ops.convert_to_tensor(x), training=True))


def make(**kwargs):
    keras.utils.set_random_seed(1)
    settings = {"architecture": "dense", "widths": (48,), "image_shape": SHAPE}
    return keras_ae.DenoisingAE(24, **{**settings, **kwargs})


def test_gaussian_noise_has_its_deviation():
    x = np.full((4, 5000), 0.5, "float32")
    noise = spoil(layers.GaussianCorruption(0.2, seed=1), x) - 0.5
    assert abs(noise.std() - 0.2) < 0.005
    assert abs(noise.mean()) < 0.005


def test_clipped_noise_is_gaussian_noise_as_files_keep_it():
    x = np.random.default_rng(0).random((4, 5000)).astype("float32")
    free = spoil(layers.GaussianCorruption(0.2, seed=1), x)
    clipped = spoil(layers.ClippedGaussianCorruption(0.2, seed=1), x)
    assert free.min() < 0 and free.max() > 1
    np.testing.assert_array_equal(clipped, np.clip(free, 0, 1))


def test_masking_sets_its_share_to_zero_and_leaves_the_rest():
    x = np.random.default_rng(0).uniform(0.1, 1, (4, 5000)).astype("float32")
    masked = spoil(layers.MaskingCorruption(0.25, seed=1), x)
    gone = masked == 0
    assert abs(gone.mean() - 0.25) < 0.01
    np.testing.assert_array_equal(masked[~gone], x[~gone])


def test_salt_and_pepper_come_evenly():
    x = np.full((4, 5000), 0.5, "float32")
    spoilt = spoil(layers.SaltAndPepperCorruption(0.3, seed=1), x)
    assert abs((spoilt == 0).mean() - 0.15) < 0.01
    assert abs((spoilt == 1).mean() - 0.15) < 0.01
    assert set(np.unique(spoilt)) == {0.0, 0.5, 1.0}


def test_a_pair_of_levels_is_drawn_for_each_example():
    x = np.full((40, 2000), 0.5, "float32")
    shares = (spoil(layers.MaskingCorruption((0.1, 0.6), seed=1), x) == 0).mean(axis=1)
    assert 0.05 < shares.min() < 0.2 and 0.5 < shares.max() < 0.65
    assert np.std(shares) > 0.1


@pytest.mark.parametrize("layer", layers.CORRUPTIONS.values())
def test_nothing_is_spoilt_outside_training(layer):
    x = np.random.default_rng(0).random((3, 7)).astype("float32")
    np.testing.assert_array_equal(to_numpy(layer()(x)), x)
    assert (spoil(layer(0.0), x) == x).all()


def test_corrupt_repeats_by_seed_and_leaves_training_alone(images):
    model = make()
    state = to_numpy(model.corruption.seed_generator.state)
    noisy = model.corrupt(images, seed=3)
    np.testing.assert_array_equal(model.corrupt(images, seed=3), noisy)
    assert (model.corrupt(images, seed=4) != noisy).any()
    np.testing.assert_array_equal(
        to_numpy(model.corruption.seed_generator.state), state
    )
    assert abs(np.std(noisy - images / 255) - 0.3) < 0.02
    assert (model.corrupt(images) != model.corrupt(images)).any()


def test_it_learns_to_denoise(images):
    model = make(likelihood=keras_ae.likelihoods.Gaussian(1.0, activation="sigmoid"))
    model.compile(keras.optimizers.Adam(1e-2))
    noisy = model.corrupt(images, seed=0)
    model.fit(images, epochs=80, verbose=0)
    clean = images / 255
    before = keras_ae.metrics.psnr(clean, np.clip(noisy, 0, 1).astype("float64"))
    assert keras_ae.metrics.psnr(clean, model.denoise(noisy)) > before + 3


def test_pairs_are_not_spoilt_again(images):
    """With everything masked, nothing could be learnt about the noisy pictures."""
    clean = np.float32(images / 255)
    noisy = np.float32(1 - clean)
    model = make(corruption="masking", noise_level=1.0)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(noisy, clean, epochs=80, verbose=0)
    error = keras_ae.metrics.mse(clean, model.denoise(noisy))
    assert error < 0.5 * np.mean(clean.var(axis=0))


def test_loss_of_pairs_is_that_of_restoring_the_clean(images):
    clean = np.float32(images / 255)
    model = make()
    noisy = model.corrupt(images, seed=0)
    scores = model.evaluate(noisy, clean, verbose=0, return_dict=True)
    expected = np.mean(np.square(model.denoise(noisy) - clean))
    np.testing.assert_allclose(scores["mse"], expected, rtol=1e-4)
    batches = keras_ae.datasets.Batches(noisy, 8, shuffle=False, targets=clean)
    streamed = model.evaluate(batches, verbose=0, return_dict=True)
    np.testing.assert_allclose(streamed["mse"], expected, rtol=1e-4)
    np.testing.assert_allclose(
        model.predict(batches, verbose=0), model.denoise(noisy), rtol=1e-4, atol=1e-5
    )
    validated = model.fit(images, validation_data=(noisy, clean), verbose=0)
    assert "val_mse" in validated.history


def test_pairs_whose_sizes_are_known_late(images):
    """What tf.data decodes or crops has no static size."""
    tf = pytest.importorskip("tensorflow")
    shapes = [(None, None, 10, 1), (None, 12, 10, 1)]
    batches = tf.data.Dataset.from_generator(
        lambda: iter([(np.zeros((8, *SHAPE)), np.ones((8, *SHAPE)))]),
        output_signature=tuple(tf.TensorSpec(shape, "float32") for shape in shapes),
    )
    mse = make().evaluate(batches, verbose=0, return_dict=True)["mse"]
    assert mse > 0.5


def test_labels_are_ignored(images):
    labels = np.arange(32) % 3
    losses = [
        make().fit(images, y, verbose=0).history["loss"]
        for y in (None, labels, np.eye(3)[labels])
    ]
    assert losses[0] == losses[1] == losses[2]


class AlwaysDarker(keras.layers.Layer):
    """A layer of one's own that takes no `training`."""

    def call(self, x):
        return 0.5 * x


@pytest.mark.parametrize("layer", [keras.layers.GaussianNoise(0.1), AlwaysDarker()])
def test_own_layers(images, layer):
    model = make(corruption=layer)
    clean = np.float32(images / 255)
    assert (model.corrupt(images) != clean).any()
    outputs = model(clean, training=False)
    np.testing.assert_allclose(
        to_numpy(outputs["z"]), model.encode(images), rtol=1e-4, atol=1e-5
    )
    model.fit(images, verbose=0)


def test_noise_may_leave_the_range_of_the_likelihood_but_clean_may_not(images):
    model = make(likelihood="bernoulli")
    clean = np.float32(images / 255)
    noisy = model.corrupt(images, seed=0)
    assert noisy.min() < 0
    model.denoise(noisy)
    model.fit(noisy, clean, verbose=0)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        model.fit(noisy, verbose=0)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        model.fit(clean, noisy, verbose=0)
    with pytest.raises(ValueError, match="must be finite"):
        model.denoise(np.full_like(clean, np.nan))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise_level": -0.1}, "noise level of GaussianCorruption.*>= 0.*-0.1"),
        (
            {"corruption": "masking", "noise_level": 1.5},
            "MaskingCorruption must be a number from 0 to 1.*1.5",
        ),
        ({"noise_level": (0.5, 0.1)}, r"or two of them as \(low, high\)"),
        ({"noise_level": "much"}, "noise level"),
        ({"corruption": "blur"}, "`corruption` must be 'gaussian'.*'blur'"),
        (
            {"corruption": AlwaysDarker(), "noise_level": 0.1},
            "belongs to a corruption given by name",
        ),
        ({"corruption": keras.layers.Flatten()}, "keeps the shape"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_pairs_of_two_shapes_are_refused(images):
    with pytest.raises(ValueError, match="same shape.*Received"):
        make().fit(images, images[:, :6], verbose=0)


def discs(count, size=24, seed=0):
    """Soft discs of any size and place, `(count, size, size, 1)`."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centers = rng.uniform(0.2 * size, 0.8 * size, (count, 2, 1, 1))
    radii = rng.uniform(0.1 * size, 0.4 * size, (count, 1, 1))
    distance = np.hypot(rows - centers[:, 0], columns - centers[:, 1])
    return np.float32(np.clip(radii - distance + 0.5, 0, 1))[..., None]


def restorer(**kwargs):
    keras.utils.set_random_seed(1)
    settings = {"latent_dim": 4, "widths": (8,), "noise_level": 0.2}
    return keras_ae.DenoisingAE(**{**settings, **kwargs})


@pytest.mark.parametrize("shape", [(16, 16), (17, 23, 3), (24, 19, 1)])
def test_without_a_bottleneck_it_begins_as_the_identity(shape):
    model = restorer(image_shape=shape)
    assert model.keeps_pixels
    x = np.random.default_rng(0).random((3, *shape), dtype="float32")
    z = model.encode(x)
    assert z.shape == (3, model.code_dim)
    np.testing.assert_allclose(model.decode(z), x, atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(x), x, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((12, 10, 1), {}),
        ((24, 24, 1), {"architecture": "conv"}),
        ((24, 24, 1), {"architecture": "dense"}),
    ],
)
def test_others_squeeze_a_picture_through_a_code(shape, kwargs):
    model = restorer(image_shape=shape, **kwargs)
    assert not model.keeps_pixels
    assert model.encode(np.zeros((1, *shape), "float32")).shape == (1, 4)


@pytest.mark.once
@pytest.mark.thorough
def test_it_beats_every_blur_and_takes_any_size(tmp_path):
    model = restorer(latent_dim=16, widths=(16,))
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(discs(600), epochs=12, batch_size=16, verbose=0)
    clean = discs(50, seed=1)
    noisy = model.corrupt(clean, seed=0)
    blurred = max(
        keras_ae.metrics.psnr(clean, np.clip(keras_ae.metrics.blur(noisy, width), 0, 1))
        for width in runs.BLURS
    )
    restored = model.denoise(noisy)
    assert keras_ae.metrics.psnr(clean, restored) > blurred + 2

    larger = discs(20, size=41, seed=2)[:, :, :35]
    spoilt = larger + 0.2 * np.random.default_rng(3).normal(size=larger.shape)
    spoilt = spoilt.astype("float32")
    denoised = model.denoise(spoilt)
    assert denoised.shape == larger.shape
    before = keras_ae.metrics.psnr(larger, np.clip(spoilt, 0, 1))
    assert keras_ae.metrics.psnr(larger, denoised) > before + 6

    # What it sees of a pixel is the same in a part of a picture.
    reach = 20
    part = model.denoise(spoilt[:, :40, :34])
    np.testing.assert_allclose(
        part[:, : 40 - reach, : 34 - reach],
        denoised[:, : 40 - reach, : 34 - reach],
        atol=1e-4,
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.denoise(spoilt), denoised, atol=1e-5)
    # It is used with the weights of the moment.
    model.fit(discs(32), epochs=1, verbose=0)
    assert (model.denoise(spoilt) != denoised).any()
    with pytest.raises(ValueError, match="examples of shape"):
        model.denoise(np.zeros((1, 30, 30, 3), "float32"))


def test_what_keeps_pixels_has_nothing_to_sample_from():
    model = restorer(image_shape=(16, 16, 1))
    for draw in (lambda: model.sample(2), lambda: model.fit_sampler("mixture")):
        with pytest.raises(ValueError, match="keeps all of a picture in its code"):
            draw()
    found = keras_ae.evaluation.evaluate(model, discs(8, size=16), scores=["codes"])
    assert not found.values and "pixels" in found.left_out["codes"]


@pytest.mark.once
@pytest.mark.parametrize("width", runs.BLURS)
def test_the_blur_is_a_gaussian_filter(width):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = np.random.default_rng(0).random((3, 20, 15, 2), dtype="float32")
    radius = int(np.ceil(3 * width))
    expected = ndimage.gaussian_filter(
        x, (0, width, width, 0), mode="nearest", radius=(0, radius, radius, 0)
    )
    np.testing.assert_allclose(keras_ae.metrics.blur(x, width), expected, atol=1e-5)
