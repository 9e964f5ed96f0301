"""What is BiGAN's own: pairs, the encoder's loss, an encoder that inverts."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import ADVERSARIAL_LOSSES, gradient, to_numpy

import keras_ae
from keras_ae.models.adversarial import losses

SMALL = {"latent_dim": 3, "architecture": "dense", "widths": (24,)}


class Fixed(keras.layers.Layer):
    """Stands in for noise of any kind."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def call(self, x):
        return ops.convert_to_tensor(self.value)


def make(noise=None, **options):
    keras.utils.set_random_seed(3)
    model = keras_ae.BiGAN(**{**SMALL, **options})
    for name, value in (noise or {}).items():
        setattr(model, name, Fixed(value))
    model.build((None, 4, 5))
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).random((8, 4, 5), dtype="float32")


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_terms_are_of_pairs(x, name):
    random = np.random.default_rng(1)
    z = random.normal(size=(8, 3)).astype("float32")
    share = random.random(8).astype("float32")
    noise = {"prior_sampling": z}
    if name == "wasserstein":
        noise["mixing"] = share
    model = make(noise, adversarial_loss=name)
    batch = ops.convert_to_tensor(x)
    outputs = model(batch, training=True)
    received = model.terms(batch, outputs, training=True)
    received |= model.discriminator_terms(batch, outputs, training=True)

    fake = (1 / (1 + np.exp(-to_numpy(model.generator(z))))).astype("float32")
    code = to_numpy(model.encoder(x)).astype("float32")
    real_logits, fake_logits = (
        to_numpy(model.discriminator([ops.convert_to_tensor(v) for v in pair]))[:, 0]
        for pair in ((x, code), (fake, z))
    )
    real_loss, fake_loss, generator_loss = ADVERSARIAL_LOSSES[name]
    # Real pairs are to score low; for least squares 0.
    encoder_loss = {**ADVERSARIAL_LOSSES, "hinge": (None, lambda d: d)}[name][1]
    expected = {
        "adversarial": generator_loss(fake_logits),
        "encoder_adversarial": encoder_loss(real_logits),
        "discriminator_real": real_loss(real_logits),
        "discriminator_fake": fake_loss(fake_logits),
    }
    if name == "wasserstein":
        # Gradients for pictures and for codes on their own, where penalty joins them.
        pictures = share[:, None, None] * x + (1 - share[:, None, None]) * fake
        codes = share[:, None] * code + (1 - share[:, None]) * z
        by_picture = gradient(
            lambda x: model.discriminator([x, ops.convert_to_tensor(codes)]), pictures
        )
        by_code = gradient(
            lambda z: model.discriminator([ops.convert_to_tensor(pictures), z]), codes
        )
        norms = np.sqrt((by_picture**2).sum((1, 2)) + (by_code**2).sum(1))
        expected["gradient_penalty"] = 10 * (norms - 1) ** 2
    assert model.minimised(received).keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            to_numpy(received[name]), value, rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_encoder_and_generator_learn_jointly(x):
    model = make()
    learnt = {player.name: player.variables for player in model.players()}
    joint = model.encoder.trainable_variables + model.generator.trainable_variables
    assert {id(v) for v in learnt["generator"]} == {id(v) for v in joint}
    every = [id(v) for owned in learnt.values() for v in owned]
    assert sorted(every) == sorted(id(v) for v in model.trainable_variables)


def test_encode_uses_the_encoder(x):
    model = make()
    z = model.encode(x)
    np.testing.assert_allclose(z, to_numpy(model.encoder(x)), atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(x), model.decode(z), atol=1e-5)
    assert model.project(x[:2], steps=2).shape == (2, 3)


@pytest.mark.slow
def test_the_encoder_learns_to_invert_the_generator():
    random = np.random.default_rng(0)
    x = random.normal(size=(4096, 2)) @ [[1.0, 0.5], [0.0, 0.7]]
    x = x.astype("float32")
    model = keras_ae.BiGAN(
        2,
        architecture="dense",
        widths=(32, 32),
        likelihood=keras_ae.likelihoods.Gaussian(0.1),
        encoder=keras.Sequential([keras.layers.Dense(2)]),
        generator=keras.Sequential([keras.layers.Dense(2)]),
    )
    model.compile(keras.optimizers.Adam(5e-3, beta_1=0.5))
    model.fit(x, batch_size=128, epochs=15, verbose=0)
    # No loss compares either of them.
    assert np.mean((model.reconstruct(x) - x) ** 2) < 0.3 * np.var(x)
    z = random.normal(size=(4096, 2))
    assert np.mean((model.encode(model.decode(z)) - z) ** 2) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_every_loss_trains_on_pictures(images, name):
    model = keras_ae.BiGAN(
        3, architecture="conv", widths=(8,), adversarial_loss=name, critic_steps=2
    )
    history = model.fit(
        images, batch_size=16, epochs=2, verbose=0, validation_data=images
    ).history
    assert np.isfinite([*history.values()]).all()
    assert model.reconstruct(images).shape == images.shape


def test_own_networks(x, tmp_path):
    example, code = keras.Input((4, 5)), keras.Input((3,))
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(example), code])
    networks = {
        "encoder": keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]),
        "generator": keras.Sequential(
            [keras.layers.Dense(20), keras.layers.Reshape((4, 5))]
        ),
        "discriminator": keras.Model([example, code], keras.layers.Dense(1)(joined)),
    }
    model = make(**networks, ema_momentum=0.9)
    model.fit(x, verbose=0)
    for name, network in networks.items():
        assert getattr(model, name) is network
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.reconstruct(x), model.reconstruct(x))
    pair = [ops.convert_to_tensor(x), ops.convert_to_tensor(model.encode(x))]
    np.testing.assert_array_equal(
        to_numpy(losses.logits(again.discriminator, *pair)),
        to_numpy(losses.logits(model.discriminator, *pair)),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adversarial_loss": "kl"}, "`adversarial_loss` must be one of"),
        ({"critic_steps": 0}, "`critic_steps` must be"),
        ({"decoder": None}, "`decoder` must be left out"),
        ({"encoder": keras.layers.Flatten()}, r"`encoder` must be .*3\).*\(20,\)"),
        ({"discriminator": 3}, "`discriminator` must be .*maps a list of"),
        (
            {"discriminator": keras.layers.Concatenate()},
            "`discriminator` must be .*It refused that shape",
        ),
        (
            {"discriminator": keras.Sequential([keras.layers.Flatten()])},
            "`discriminator` must be .*It refused that shape",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_discriminators_of_the_wrong_shape_are_refused():
    example, code = keras.Input((4, 5)), keras.Input((3,))
    two = keras.Model([example, code], keras.layers.Dense(2)(code))
    with pytest.raises(ValueError, match=r"`discriminator` must be .*\(2,\)"):
        make(discriminator=two)
