"""Wasserstein autoencoders: the MMD penalty, and the GAN penalty beside the AAE."""

import keras
import numpy as np
import pytest
from contract import few_everywhere
from numerics import to_numpy
from test_aae import curved, make, play

import keras_ae
from keras_ae.probability import divergences
from keras_ae.probability.distributions import Normal

WAE = keras_ae.WAE


@pytest.mark.parametrize("kernel", ["inverse_multiquadratic", "rbf"])
def test_terms_equal_the_formulae(images, kernel):
    prior = Normal(0.0, 2.0)
    model = make(images, WAE, penalty_weight=30.0, kernel=kernel, prior=prior)
    assert model.players()[0].name == "" and model.player_names == ()
    found = play(model, images)
    assert set(found) == {"reconstruction", "mmd", "mse", "prior_mmd"}
    z = model.encode(images)
    codes = to_numpy(model.prior_sampling(images))
    distance = to_numpy(divergences.mmd(z, np.float32(codes), kernel, 2.0))
    np.testing.assert_allclose(found["prior_mmd"], np.full(32, distance), rtol=1e-4)
    np.testing.assert_allclose(found["mmd"], 30.0 * found["prior_mmd"], rtol=1e-5)
    aae = play(make(images), images)
    np.testing.assert_allclose(found["reconstruction"], aae["reconstruction"])


def test_without_weight_it_is_an_autoencoder(images):
    wae, ae = make(images, WAE, penalty_weight=0), make(images, keras_ae.AE)
    for mine, theirs in ((wae.encoder, ae.encoder), (wae.decoder, ae.decoder)):
        theirs.set_weights(mine.get_weights())
    fit = {"batch_size": 16, "epochs": 2, "verbose": 0, "shuffle": False}
    losses = [model.fit(images, **fit).history["loss"] for model in (wae, ae)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    few_everywhere(["non_saturating", "least_squares", "wasserstein"], ["wasserstein"]),
)
def test_gan_penalty_is_the_adversarial_term_of_an_aae(images, loss):
    weight = 7.0
    models = [
        make(images, adversarial_loss=loss),
        make(images, WAE, penalty="gan", penalty_weight=weight, adversarial_loss=loss),
    ]
    aae, wae = (play(model, images) for model in models)
    assert aae.keys() == wae.keys()
    for name in aae:
        factor = weight if name == "adversarial" else 1.0
        np.testing.assert_allclose(wae[name], factor * aae[name], rtol=1e-5)


def step(model, images):
    """How one step of gradient descent of rate 1e-3 moves each network's weights."""
    model.compile(keras.optimizers.SGD(1e-3))
    networks = (model.encoder, model.decoder, model.discriminator)
    before = [[to_numpy(w) for w in network.weights] for network in networks]
    model.train_on_batch(images)
    return [
        [to_numpy(w) - old for w, old in zip(network.weights, olds, strict=True)]
        for network, olds in zip(networks, before, strict=True)
    ]


def test_gan_penalty_moves_the_networks_as_the_players_of_an_aae(images, monkeypatch):
    found = {}
    for name in ("autoencoder", "discriminator", "encoder"):
        model = make(images)
        chosen = [player for player in model.players() if player.name == name]
        monkeypatch.setattr(model, "players", lambda chosen=chosen: chosen)
        found[name] = step(model, images)
    model = make(images, WAE, penalty="gan", penalty_weight=7.0)
    chosen = model.players()
    assert tuple(player.name for player in chosen) == model.player_names
    for index, player in enumerate(chosen):
        model = make(images, WAE, penalty="gan", penalty_weight=7.0)
        chosen = [model.players()[index]]
        monkeypatch.setattr(model, "players", lambda chosen=chosen: chosen)
        encoder, decoder, discriminator = step(model, images)
        expected = found[player.name]
        if player.name == "autoencoder":
            # One step against both terms, the adversarial one weighted.
            expected[0] = [
                a + 7.0 * b
                for a, b in zip(expected[0], found["encoder"][0], strict=True)
            ]
        for mine, theirs in zip(
            (encoder, decoder, discriminator), expected, strict=True
        ):
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("penalty", few_everywhere(["mmd", "gan"], ["mmd"]))
def test_codes_come_to_follow_the_prior(penalty):
    model = WAE(2, penalty=penalty, widths=(64, 64))
    if penalty == "gan":
        model.optimizer["discriminator"].learning_rate = 2e-3
    history = model.fit(curved(512), epochs=30, batch_size=128, verbose=0).history
    distance = np.array(history["prior_mmd"])
    assert distance[-5:].mean() < 0.5 * distance[0]
    assert history["mse"][-1] < 0.5 * history["mse"][0]


def test_a_batch_of_one_has_no_penalty(images):
    model = WAE(3, architecture="dense", widths=(16,))
    history = model.fit(images[:9], batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    alone = model.evaluate(images[:1], verbose=0, return_dict=True)
    assert alone["mmd"] == 0 and np.isfinite(alone["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["mmd", "gan"])
def test_saving_goes_on_where_it_stopped(images, penalty, tmp_path):
    keras.utils.set_random_seed(0)
    model = WAE(3, penalty=penalty, architecture="dense", widths=(16,))
    fit = {"batch_size": 16, "epochs": 2, "verbose": 0, "shuffle": False}
    model.fit(images, **fit)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.penalty == penalty and again.player_names == model.player_names
    np.testing.assert_array_equal(again.encode(images), model.encode(images))
    first, second = (m.fit(images, **fit).history for m in (model, again))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-6)


def test_best_weights_are_those_of_the_loss_where_it_is_one():
    assert WAE(2).score_name == "loss"
    assert WAE(2, penalty="gan").score_name is None
    assert "discriminator_accuracy" not in WAE(2).monitor_names


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"penalty": "kl"}, "`penalty` must be one of 'mmd', 'gan'. Received: .*'kl'"),
        ({"penalty_weight": -1}, "`penalty_weight` must be >= 0"),
        ({"kernel": "laplace"}, "`kernel` must be one of"),
        ({"num_classes": 3}, "`num_classes` must be left out: a WAE has no classes"),
        ({"adversarial_loss": "hinge"}, "`adversarial_loss` must be left out"),
        ({"gradient_penalty": 1.0}, "`gradient_penalty` must be left out"),
        (
            {"discriminator": keras.layers.Dense(1)},
            "`discriminator` must be left out: `penalty='mmd'` has no discriminator",
        ),
        (
            {"penalty": "gan", "discriminator": keras.layers.Dense(2)},
            r"`discriminator` must be .* gives \(2,\)",
        ),
        ({"penalty": "gan", "adversarial_loss": "sharp"}, "`adversarial_loss` must be"),
    ],
)
def test_bad_arguments(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(images, WAE, **arguments)


@pytest.mark.once
def test_an_optimizer_for_no_player_is_refused(images):
    with pytest.raises(ValueError, match="WAE has one player"):
        make(images, WAE).compile({"autoencoder": "adam"})
    with pytest.raises(ValueError, match="optimizers for encoder, no players"):
        make(images, WAE, penalty="gan").compile({"encoder": "adam"})
