"""VAE-GAN: its terms in NumPy, who plays when, the adaptive weight."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import ADVERSARIAL_LOSSES, gradient, to_numpy

import keras_ae
from keras_ae import backend
from keras_ae.models.adversarial.judge import with_features

FEATURES = 6


class FixedNoise(keras.layers.Layer):
    def call(self, mean, log_var):
        return mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor([1.0, -1.0])


class FixedCodes(keras.layers.Layer):
    def call(self, x):
        return ops.tile(ops.convert_to_tensor([[0.5, -1.5]]), (ops.shape(x)[0], 1))


def discriminator(seed=5):
    initializer = keras.initializers.GlorotUniform(seed)
    return keras.Sequential(
        [
            keras.layers.Dense(
                FEATURES, "tanh", kernel_initializer=initializer, name="hidden"
            ),
            keras.layers.Dense(1, kernel_initializer=initializer, name="verdict"),
        ]
    )


def make(noise=False, **options):
    """A small model of vectors, without noise by default."""
    settings = {
        "latent_dim": 2,
        "widths": (8,),
        "likelihood": keras_ae.likelihoods.Gaussian(0.5, activation="sigmoid"),
        "discriminator": discriminator(),
    }
    keras.utils.set_random_seed(3)
    model = keras_ae.VAEGAN(**{**settings, **options})
    if not noise:
        model.sampling, model.prior_sampling = FixedNoise(), FixedCodes()
    model.build((None, 5))
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).random((16, 5), dtype="float32")


def values(variables):
    return [np.array(to_numpy(variable)) for variable in variables]


def moved(before, variables):
    pairs = zip(before, values(variables), strict=True)
    return any((old != new).any() for old, new in pairs)


def fit(model, x, epochs, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, epochs=epochs, **options).history


@pytest.mark.parametrize("adversarial_loss", ADVERSARIAL_LOSSES)
def test_terms_are_the_formulae(x, adversarial_loss):
    model = make(
        adversarial_loss=adversarial_loss, gamma=0.3, pixel_weight=0.2, beta=0.7
    )
    found = {}
    for player in model.players():
        outputs = model(x)
        mine = player.terms(ops.convert_to_tensor(x), outputs)
        if player.monitors:
            mine |= player.monitors(ops.convert_to_tensor(x), outputs, mine)
        assert not found.keys() & mine.keys()
        found |= {name: to_numpy(value) for name, value in mine.items()}
    assert set(found) == {*model.term_names, *model.monitor_names}

    hidden, verdict = (layer.get_weights() for layer in model.discriminator.layers)

    def look(shown):
        features = np.tanh(shown @ hidden[0] + hidden[1])
        return features, (features @ verdict[0] + verdict[1])[:, 0]

    def decode(z):
        return 1 / (1 + np.exp(-to_numpy(model.decoder(z.astype("float32")))))

    heads = {name: to_numpy(head) for name, head in model.encoder(x).items()}
    variance = np.exp(heads["log_var"])
    z = heads["mean"] + np.sqrt(variance) * [1.0, -1.0]
    reconstructed, sampled = decode(z), decode(np.array([[0.5, -1.5]] * len(x)))
    (real_features, real), (features, fake) = look(x), look(reconstructed)
    _, sample = look(sampled)
    distance = 0.5 * np.sum((real_features - features) ** 2, axis=1)
    distance /= np.mean(real_features**2)
    kl = 0.5 * np.sum(heads["mean"] ** 2 + variance - 1 - heads["log_var"], axis=1)
    log_prob = np.sum(
        -0.5 * ((x - reconstructed) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi)),
        axis=1,
    )
    on_real, on_fake, generator = ADVERSARIAL_LOSSES[adversarial_loss]
    expected = {
        "reconstruction": distance,
        "kl": 0.7 * kl,
        "pixels": -0.2 * log_prob,
        "decoder_reconstruction": 0.3 * distance,
        "decoder_pixels": -0.3 * 0.2 * log_prob,
        "adversarial_reconstruction": generator(fake),
        "adversarial_sample": generator(sample),
        "discriminator_real": on_real(real),
        "discriminator_reconstruction": 0.5 * on_fake(fake),
        "discriminator_sample": 0.5 * on_fake(sample),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["elbo"], log_prob - kl, rtol=1e-4, atol=1e-4)
    mse = np.mean((x - reconstructed) ** 2, axis=1)
    np.testing.assert_allclose(found["mse"], mse, rtol=1e-4)
    np.testing.assert_array_equal(found["discriminator_accuracy"], real > sample)
    # All samples are the same one here.
    np.testing.assert_allclose(found["diversity"], 0, atol=1e-6)


@pytest.mark.once
def test_encoder_does_not_hear_the_verdict(x):
    """Whatever the discriminator's last layer says, the encoder learns the same."""
    learned = []
    for bias in (0.0, 3.0):
        model = make()
        model.discriminator.get_layer("verdict").bias.assign([bias])
        encoder = model.players()[0]

        def loss_fn(model=model, encoder=encoder):
            data = ops.convert_to_tensor(x)
            losses, figures = model._objective(encoder, data, {}, None, training=True)
            return ops.mean(losses), figures

        backend.minimize(model, loss_fn, encoder.variables, model.optimizer["encoder"])
        learned.append(values(encoder.variables))
    for one, other in zip(*learned, strict=True):
        np.testing.assert_array_equal(one, other)


def test_discriminator_starts_with_its_epoch_also_when_resumed(x, tmp_path):
    model = make(noise=True, discriminator_start=2, gamma=0.5)

    def waiting(model):
        return [
            *model.discriminator.trainable_variables,
            *model.optimizer["discriminator"].variables,
        ]

    before = values(waiting(model))
    others = values(model.decoder.trainable_variables)
    history = fit(model, x, 1, validation_data=x)
    model.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    for going_on in (model, resumed):
        history = fit(going_on, x, 2, initial_epoch=1, validation_data=x)
        assert not moved(before, waiting(going_on))
        assert moved(others, going_on.decoder.trainable_variables)
        for name in ("adversarial_reconstruction", "adversarial_sample"):
            assert history[name] == history[f"val_{name}"] == [0.0]
        assert history["decoder_reconstruction"][0] > 0
        history = fit(going_on, x, 3, initial_epoch=2, validation_data=x)
        assert moved(before, waiting(going_on))
        assert history["adversarial_sample"][0] > 0 < history["val_kl"][0]
    np.testing.assert_allclose(
        resumed.reconstruct(x), model.reconstruct(x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("equilibrium", "sits_out"),
    [((100.0, 1.0), "discriminator"), ((-100.0, 1.0), "decoder")],
)
def test_who_is_ahead_sits_out(x, equilibrium, sits_out):
    model = make(equilibrium=equilibrium)
    players = {player.name: player for player in model.players()}
    fit(model, x, 1, batch_size=16)  # The first step finds both gates open.
    before = {
        name: values([*player.variables, *model.optimizer[name].variables])
        for name, player in players.items()
    }
    fit(model, x, 1, batch_size=16)
    for name, player in players.items():
        after = [*player.variables, *model.optimizer[name].variables]
        assert moved(before[name], after) == (name != sits_out)


def test_decoder_trains_before_the_contest_begins(x):
    model = make(equilibrium=(-100.0, 1.0), discriminator_start=9)
    fit(model, x, 1)
    before = values(model.decoder.trainable_variables)
    fit(model, x, 1)
    assert moved(before, model.decoder.trainable_variables)


@pytest.mark.parametrize(
    ("real", "fake", "gates"),
    [
        (0.7, 0.7, [1, 1]),
        (0.2, 0.7, [1, 0]),
        (0.7, 0.2, [1, 0]),
        (1.2, 0.7, [0, 1]),
        (0.7, 1.2, [0, 1]),
        (0.2, 1.2, [1, 1]),
    ],
)
def test_gates_never_stop_both(real, fake, gates):
    model = make(equilibrium=(0.68, 0.4))
    losses = (
        ops.full((4,), value) for value in (real, 0.5 * fake - 0.1, 0.5 * fake + 0.1)
    )
    model._set_gates(*losses)
    np.testing.assert_array_equal(to_numpy(model.gates), gates)


def test_adaptive_gamma_balances_the_gradients(x):
    model = make(gamma=None)
    model.compile(keras.optimizers.SGD(0.0))
    assert to_numpy(model._current_gamma()) == 1
    history = fit(model, x, 1, batch_size=16, validation_data=x)
    outputs = model(x)
    reconstructed = to_numpy(model.likelihood.mean(outputs["parameters"]))
    judge = with_features(model.discriminator, None)
    real_features = ops.convert_to_tensor(judge(x)[0])

    def mean_norm(loss):
        return np.linalg.norm(gradient(loss, reconstructed), axis=1).mean()

    contest = mean_norm(lambda shown: ops.softplus(-judge(shown)[1][:, 0]))
    distance = mean_norm(
        lambda shown: (
            0.5
            * ops.sum(ops.square(judge(shown)[0] - real_features), axis=1)
            / ops.mean(ops.square(real_features))
        )
    )
    for name in ("gamma", "val_gamma"):
        np.testing.assert_allclose(history[name], contest / distance, rtol=1e-3)
    np.testing.assert_allclose(
        history["val_decoder_reconstruction"],
        contest / distance * np.array(history["val_reconstruction"]),
        rtol=1e-3,
    )


def test_adaptive_gamma_waits_for_the_discriminator(x):
    model = make(gamma=None, discriminator_start=1)
    history = fit(model, x, 2)
    assert history["gamma"][0] == 1
    assert history["gamma"][1] != 1


@pytest.mark.once
@pytest.mark.parametrize(
    ("image_shape", "architecture", "shape"),
    [
        ((64, 64, 3), "conv", (None, 8, 8, 128)),
        ((32, 32), "residual", (None, 8, 8, 64)),
        ((64, 3), "sequence", (None, 8, 128)),
        ((16, 17, 18, 1), "conv", (None, 4, 5, 5, 64)),
        ((12, 10, 1), "dense", (None, 256)),
        ((5,), "linear", (None, 5)),
    ],
)
def test_default_feature_layer(image_shape, architecture, shape):
    critic = keras_ae.networks.critic(image_shape, architecture)
    features, logits = with_features(critic, None).outputs
    assert tuple(features.shape) == shape
    assert tuple(logits.shape) == (None, 1)


@pytest.mark.once
def test_features_of_a_named_layer(x):
    for name, size in (("hidden", FEATURES), ("verdict", 1)):
        model = make(feature_layer=name)
        assert model._judge.outputs[0].shape[1] == size
        again = keras_ae.VAEGAN.from_config(model.get_config())
        again.build((None, 5))
        assert again._judge.outputs[0].shape[1] == size


@pytest.mark.thorough
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="it compiles also what it runs eagerly"
)
def test_all_options_at_once_jitted_and_eager(images):
    losses = []
    for options in ({"jit_compile": True}, {"run_eagerly": True}):
        if keras.backend.backend() == "torch":
            options = {}
        keras.utils.set_random_seed(1)
        model = keras_ae.VAEGAN(
            2,
            architecture="conv",
            widths=(4,),
            pixel_weight=0.1,
            adversarial_loss="hinge",
            discriminator_start=1,
            equilibrium=(0.9, 0.3),
            spectral_norm=True,
            free_bits=0.1,
        )
        model.compile(**options)
        model.sampling, model.prior_sampling = FixedNoise(), FixedCodes()
        history = fit(model, images, 3, batch_size=16, validation_data=images)
        assert all(np.isfinite(value).all() for value in history.values())
        losses.append(history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "`gamma` must be .*Received: gamma=-1"),
        ({"gamma": "auto"}, "`gamma` must be >= 0. Received: gamma='auto'"),
        ({"pixel_weight": -0.1}, "`pixel_weight` must be >= 0"),
        ({"discriminator_start": -1}, "`discriminator_start` must be an integer >= 0"),
        ({"discriminator_start": 1.5}, "`discriminator_start` must be an integer"),
        ({"equilibrium": 0.68}, r"`equilibrium` must be None or a pair"),
        ({"equilibrium": (0.68, 0)}, r"a margin > 0. Received: .*\(0.68, 0\)"),
        ({"adversarial_loss": "cramer"}, "`adversarial_loss` must be one of"),
        (
            {"feature_layer": "conv9"},
            "`feature_layer` must be one of .*: hidden, verdict. Received: .*conv9",
        ),
        ({"discriminator": keras.layers.Dense(1)}, "functional or Sequential"),
        ({"discriminator": keras.layers.Dense(2)}, r"`discriminator` must be .*, 1\)"),
        (
            {"likelihood": keras_ae.likelihoods.Gaussian("learned")},
            "no learned scale where `pixel_weight` is 0",
        ),
        ({"beta": -1.0}, "`beta` must be >= 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_learned_scale_learns_with_the_decoder(x):
    scale = keras_ae.likelihoods.Gaussian("learned")
    model = make(likelihood=scale, pixel_weight=1.0)
    before = values(model.likelihood.trainable_variables)
    fit(model, x, 1)
    assert moved(before, model.likelihood.trainable_variables)


@pytest.mark.once
def test_own_callbacks_are_called(x):
    model, seen = make(), []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(epoch)
    )
    fit(model, x, 2, callbacks=callback)
    container = keras.callbacks.CallbackList([callback], model=model, epochs=3)
    fit(model, x, 3, initial_epoch=2, callbacks=container)
    assert seen == [0, 1, 2]
    assert to_numpy(model.epoch) == 2
