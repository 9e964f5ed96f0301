"""Pictures of other sizes than the model's own: whole, in tiles, blended."""

import keras
import numpy as np
import pytest

import keras_ae

SHAPE = (32, 32, 3)
# Two stages: a place of the grid is 4 pixels.
SETTINGS = {"latent_dim": 3, "widths": (6, 8), "image_shape": SHAPE}


def make(name="KLAutoencoder", **kwargs):
    keras.utils.set_random_seed(1)
    settings = {**SETTINGS, **kwargs}
    if name == "FSQVAE":
        del settings["latent_dim"]
        settings["levels"] = (5, 5, 4)
    return getattr(keras_ae, name)(**settings)


def of_size(model, image_shape):
    """The model that learned from such pictures would be, with the same weights."""
    config = {**model.get_config(), "image_shape": image_shape}
    whole = type(model).from_config(config)
    for part in model.sized_parts:
        getattr(whole, part).set_weights(getattr(model, part).get_weights())
    return whole


@pytest.fixture
def pictures():
    return np.random.default_rng(0).random((2, 88, 64, 3), dtype="float32")


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("KLAutoencoder", {"architecture": "conv"}),
        pytest.param("VQVAE", {}, marks=pytest.mark.once),
        pytest.param("FSQVAE", {}, marks=pytest.mark.once),
        pytest.param("ResidualVQVAE", {"num_quantizers": 2}, marks=pytest.mark.once),
    ],
)
def test_tiles_of_local_networks_are_the_whole(pictures, name, kwargs):
    model = make(name, **kwargs)
    whole = of_size(model, pictures.shape[1:])
    codes = whole.encode(pictures).reshape(2, 22, 16, model.latent_dim)
    restored = whole.reconstruct(pictures)
    # A quarter of the overlap, 12 pixels, is more than the networks see around them.
    tiles = {"tile": 64, "overlap": 48}
    found = model.encode(pictures, tile=64, overlap=48)
    np.testing.assert_allclose(found, codes, atol=1e-5)
    np.testing.assert_allclose(model.decode(found, **tiles), restored, atol=1e-5)
    np.testing.assert_allclose(
        model.reconstruct(pictures, **tiles), restored, atol=1e-5
    )


@pytest.mark.once
def test_far_from_a_hard_seam_tiles_are_the_whole(pictures):
    model = make(architecture="conv")
    narrow = pictures[:, :, :44]
    restored = of_size(model, narrow.shape[1:]).reconstruct(narrow)
    seam = model.reconstruct(narrow, tile=44, overlap=0)
    assert np.abs(seam - restored)[:, 22:66].max() > 1e-4
    for far in (np.s_[:, :22], np.s_[:, 66:]):
        np.testing.assert_allclose(seam[far], restored[far], atol=1e-5)


def perturb(model):
    """Residual blocks that begin as the identity would not show what they see."""
    rng = np.random.default_rng(0)
    for network in (model.encoder, model.decoder):
        weights = network.get_weights()
        network.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in weights])


@pytest.mark.once
def test_what_looks_at_the_whole_picture_has_others_in_tiles(pictures):
    model = make()
    perturb(model)
    whole = of_size(model, pictures.shape[1:]).reconstruct(pictures)
    np.testing.assert_allclose(model.reconstruct(pictures, tile=88), whole, atol=1e-6)
    tiled = model.reconstruct(pictures, tile=64, overlap=48)
    assert np.abs(tiled - whole).max() > 1 / 255


@pytest.mark.once
def test_a_denoiser_restores_tiles_as_the_whole():
    keras.utils.set_random_seed(1)
    model = keras_ae.DenoisingAE(4, widths=(8, 8), image_shape=(32, 32, 1))
    perturb(model)
    noisy = np.random.default_rng(0).random((1, 280, 40, 1), dtype="float32")
    whole = model.denoise(noisy)
    assert np.abs(whole - noisy).max() > 0.1
    found = model.denoise(noisy, tile=160, overlap=128)
    assert found.shape == noisy.shape
    np.testing.assert_allclose(found, whole, atol=1e-4)


@pytest.mark.once
def test_sizes_that_are_no_multiples_are_continued_and_cut(pictures):
    model = make(architecture="conv")
    odd = pictures[:, :85, :50]
    codes = model.encode(odd, tile=32)
    assert codes.shape == (2, 22, 13, 3)
    assert model.decode(codes, tile=32).shape == (2, 88, 52, 3)
    restored = model.reconstruct(odd, tile=32)
    assert restored.shape == odd.shape
    continued = np.pad(odd, [(0, 0), (0, 3), (0, 2), (0, 0)], "edge")
    np.testing.assert_array_equal(
        model.reconstruct(continued, tile=32)[:, :85, :50], restored
    )


@pytest.mark.once
def test_batches_of_tiles_and_kinds_of_arrays_make_no_difference(pictures, tmp_path):
    model = make(architecture="conv")
    expected = model.reconstruct(pictures, tile=32)
    several = model.reconstruct(pictures, batch_size=5, tile=32)
    np.testing.assert_allclose(several, expected, atol=1e-5)
    bytes_ = np.uint8(255 * pictures)
    np.save(tmp_path / "pictures.npy", bytes_)
    mapped = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    np.testing.assert_allclose(
        model.reconstruct(mapped, tile=32),
        model.reconstruct(np.float32(bytes_ / 255), tile=32),
        atol=1e-5,
    )


@pytest.mark.once
def test_it_has_the_weights_of_the_moment_and_the_range_of_the_data(pictures):
    model = make("VQVAE", likelihood="gaussian")
    before = model.reconstruct(pictures, tile=48)
    assert before.min() < 0
    model.fit(pictures[:, :32, :32], epochs=1, verbose=0)
    after = model.reconstruct(pictures, tile=48)
    assert np.abs(after - before).max() > 1e-4
    assert after.min() >= 0 and after.max() <= 1
    whole = of_size(model, (88, 64, 3))
    whole.in_unit_range = True
    np.testing.assert_allclose(
        model.reconstruct(pictures, tile=88), whole.reconstruct(pictures), atol=1e-5
    )


@pytest.mark.once
def test_networks_of_your_own_take_tiles_of_their_size(pictures):
    named = make(architecture="conv")
    own = make(encoder=named.encoder, decoder=named.decoder, architecture="conv")
    np.testing.assert_allclose(
        own.reconstruct(pictures, tile=32), named.reconstruct(pictures, tile=32)
    )
    with pytest.raises(ValueError, match=r"take pictures of \(32, 32, 3\) only"):
        own.reconstruct(pictures, tile=48)


@pytest.mark.once
@pytest.mark.parametrize(
    ("make_model", "call", "message"),
    [
        (make, lambda m, x: m.encode(x, tile=30), "`tile` must be a multiple of 4"),
        (make, lambda m, x: m.encode(x, tile=0), "`tile` must be an integer >= 1"),
        (
            make,
            lambda m, x: m.encode(x, tile=32, overlap=6),
            "`overlap` must be a multiple of 4",
        ),
        (
            make,
            lambda m, x: m.encode(x, tile=32, overlap=32),
            "`overlap` must be below `tile`",
        ),
        (make, lambda m, x: m.encode(x[0], tile=32), r"`x` must be an array \(n, hei"),
        (make, lambda m, x: m.encode(x[..., :1], tile=32), "`x` must be an array"),
        (
            make,
            lambda m, x: m.decode(x[..., :2], tile=32),
            r"`z` must have the shape \(n, rows, columns, 3\) with `tile`",
        ),
        (
            lambda: make(architecture="dense"),
            lambda m, x: m.encode(x, tile=32),
            "`tile` needs pictures and convolutions",
        ),
        (
            lambda: make(image_shape=(30, 32, 3)),
            lambda m, x: m.encode(x, tile=32),
            "sides are multiples of 4",
        ),
        (
            lambda: keras_ae.DenoisingAE(architecture="conv", image_shape=SHAPE),
            lambda m, x: m.denoise(x, tile=32),
            "`tile` needs networks without a bottleneck",
        ),
        (
            keras_ae.VQVAE,
            lambda m, x: m.encode(x, tile=32),
            "must know its `image_shape`",
        ),
    ],
)
def test_tiles_that_can_not_be_are_refused(pictures, make_model, call, message):
    with pytest.raises(ValueError, match=message):
        call(make_model(), pictures)
