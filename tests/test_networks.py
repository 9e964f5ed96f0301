"""The same networks along time, over pictures and over volumes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_ae
from keras_ae import layers, networks

SERIES = (13, 3)
VOLUME = (5, 6, 7, 2)


@pytest.mark.parametrize("sides", [(3,), (3, 2), (2, 3, 4)])
def test_channels_become_places(sides):
    rank = len(sides)
    x = np.random.default_rng(0).random((2, *sides, 2**rank * 3), "float32")
    layer = layers.DepthToSpace()
    found = ops.convert_to_numpy(layer(x))
    assert found.shape[1:] == layer.compute_output_shape(x.shape)[1:]
    expected = np.zeros((2, *(2 * side for side in sides), 3), "float32")
    for number, corner in enumerate(np.ndindex(*[2] * rank)):
        places = tuple(slice(start, None, 2) for start in corner)
        expected[:, *places] = x[..., 3 * number : 3 * number + 3]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.once
def test_what_series_and_volumes_are_taken_for():
    assert networks.resolve((16, 17, 18, 1)) == ("conv", (32, 64))
    assert networks.resolve((16, 17, 8, 1))[0] == "dense"
    assert networks.resolve((64, 3))[0] == "dense"
    assert networks.resolve((64, 3), "sequence") == ("sequence", (32, 64, 128, 256))
    assert networks.grid((13, 3), (4, 4), "sequence") == (4,)
    assert networks.grid((5, 6, 7, 2), (4, 4)) == (2, 2, 2)
    assert networks.with_channels((8, 9)) == (8, 9, 1)
    assert networks.with_channels((8, 9), "sequence") == (8, 9)


@pytest.mark.once
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 9, 1), r"needs series \(time, channels\).*\(8, 9, 1\); use 'auto'\."),
        ((8,), r"or `x\[\.\.\., None\]` for one channel"),
    ],
)
def test_what_is_no_series_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.AE(2, image_shape=shape, architecture="sequence")


@pytest.mark.once
@pytest.mark.parametrize(
    "build",
    [
        lambda name: networks.encoder((6,), 2, activation=name),
        lambda name: networks.decoder((6,), 2, activation=name),
        lambda name: networks.critic((6,), activation=name),
        lambda name: networks.patch_critic((16, 16), activation=name),
        lambda name: networks.spatial_encoder((8, 8), 2, "conv", (4,), name),
        lambda name: networks.spatial_decoder((8, 8), 2, "conv", (4,), name),
        lambda name: networks.denoising_encoder((8, 8), 2, (4,), name),
        lambda name: networks.denoising_decoder((8, 8), 2, (4,), name),
        lambda name: keras_ae.layers.ResidualBlock(4, name),
        lambda name: keras_ae.VAE(2, image_shape=(6,), activation=name),
        lambda name: keras_ae.VAE(2, activation=name),
    ],
)
def test_unknown_activations_are_refused(build):
    message = "`activation` must be the name of a Keras activation.*activation='foo'"
    with pytest.raises(ValueError, match=message):
        build("foo")


@pytest.mark.once
def test_a_series_with_a_predicted_scale_keeps_its_channels():
    scale = keras_ae.likelihoods.Gaussian(scale="predicted")
    model = keras_ae.VAE(
        2, image_shape=SERIES, architecture="sequence", widths=(4,), likelihood=scale
    )
    assert model.decoder.output.shape == (None, *SERIES, 2)
    assert len(model.decoder.input.shape) == 2
    kinds = {type(layer).__name__ for layer in model.decoder.layers}
    assert "Conv1D" in kinds


def small(cls, shape, architecture, **options):
    options = {"architecture": architecture, "widths": (4, 6), **options}
    return cls(latent_dim=2, image_shape=shape, **options)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("shape", "architecture"), [(SERIES, "sequence"), (VOLUME, "conv")]
)
def test_an_autoencoder_learns_and_is_saved(shape, architecture, tmp_path):
    x = np.random.default_rng(1).random((8, *shape), "float32")
    model = small(keras_ae.AE, shape, architecture)
    losses = model.fit(x, batch_size=4, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    restored = model.reconstruct(x)
    assert restored.shape == x.shape
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.reconstruct(x), restored, atol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("shape", "architecture"), [(SERIES, "sequence"), (VOLUME, "residual")]
)
class TestOtherCodes:
    def test_codes_of_places(self, shape, architecture):
        x = np.random.default_rng(2).random((4, *shape), "float32")
        model = small(keras_ae.VQVAE, shape, architecture, num_codes=4)
        model.fit(x, batch_size=4, epochs=1, verbose=0)
        tokens = model.tokens(x)
        assert tokens.shape == (4, *networks.grid(shape, (4, 6), architecture))
        restored = model.decode_tokens(tokens)
        np.testing.assert_allclose(restored, model.reconstruct(x), atol=1e-5)

    def test_labels_are_further_channels(self, shape, architecture):
        x = np.random.default_rng(3).random((6, *shape), "float32")
        y = np.arange(6) % 3
        model = small(keras_ae.ConditionalVAE, shape, architecture, num_classes=3)
        model.fit(x, y, batch_size=6, epochs=1, verbose=0)
        assert model.encoder.input.shape[1:] == (*shape[:-1], shape[-1] + 3)
        assert model.reconstruct(x, labels=y).shape == x.shape
        codes, others = (model.encode(x, labels=labels) for labels in (y, y[::-1]))
        assert (codes != others).any()
