"""What is a GAN's own; the contract of all models is in test_contract.py."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae import callbacks

SMALL = {"latent_dim": 3, "architecture": "dense", "widths": (24,)}


class Codes(keras.layers.Layer):
    """Stands in for codes drawn from a prior."""

    def __init__(self, z):
        super().__init__()
        self.z = z

    def call(self, x):
        return ops.convert_to_tensor(self.z)


@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein"])
def test_terms_are_the_papers(images, loss):
    # Smooth, for finite differences.
    discriminator = keras.Sequential(
        [
            keras.layers.Flatten(),
            keras.layers.Dense(16, "tanh"),
            keras.layers.Dense(1),
        ]
    )
    model = keras_ae.GAN(**SMALL, adversarial_loss=loss, discriminator=discriminator)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(8, 3)).astype("float32")
    share = rng.random(8).astype("float32")
    model.prior_sampling = Codes(z)
    if loss == "wasserstein":
        model.mixing = Codes(share)
    model.build((None, *images.shape[1:]))
    x = ops.convert_to_tensor(images[:8] / 255.0, "float32")
    outputs = model(x, training=True)
    generator = model.terms(x, outputs, training=True)
    discriminator = model.discriminator_terms(x, outputs, training=True)

    fake = 1 / (1 + np.exp(-to_numpy(model.generator(z))))
    real_logits = to_numpy(model.discriminator(x))[:, 0]
    fake_logits = to_numpy(model.discriminator(fake.astype("float32")))[:, 0]
    np.testing.assert_allclose(to_numpy(outputs["fake"]), fake, rtol=1e-4)
    if loss == "non_saturating":
        expected = {
            "adversarial": np.log1p(np.exp(-fake_logits)),
            "discriminator_real": np.log1p(np.exp(-real_logits)),
            "discriminator_fake": np.log1p(np.exp(fake_logits)),
        }
    else:
        # The critic's gradient by finite differences.
        mixture = share[:, None, None, None] * to_numpy(x)
        mixture += (1 - share[:, None, None, None]) * fake
        norms = np.zeros(8)
        flat = mixture.reshape(8, -1)
        for index in range(flat.shape[1]):
            moved = [np.copy(flat), np.copy(flat)]
            moved[0][:, index] += 1e-2
            moved[1][:, index] -= 1e-2
            up, down = (
                to_numpy(model.discriminator(m.reshape(x.shape).astype("float32")))
                for m in moved
            )
            norms += ((up - down)[:, 0] / 2e-2) ** 2
        expected = {
            "adversarial": -fake_logits,
            "discriminator_real": -real_logits,
            "discriminator_fake": fake_logits,
            "gradient_penalty": 10 * (np.sqrt(norms) - 1) ** 2,
        }
    received = {**generator, **discriminator}
    assert model.minimised(received).keys() == expected.keys()
    for name, value in expected.items():
        rtol = 5e-2 if name == "gradient_penalty" else 1e-3
        np.testing.assert_allclose(
            to_numpy(received[name]), value, rtol, 1e-5, err_msg=name
        )


def test_critic_steps_are_steps_of_the_discriminator(images):
    model = keras_ae.GAN(**SMALL, critic_steps=3)
    model.fit(images, batch_size=16, epochs=2, verbose=0)
    assert int(model.optimizer["generator"].iterations) == 4
    assert int(model.optimizer["discriminator"].iterations) == 12


def test_average_follows_the_generator(images):
    model = keras_ae.GAN(
        **{**SMALL, "architecture": "conv"},
        ema_momentum=0.22,
        image_shape=images.shape[1:],
    )
    average = [to_numpy(w) for w in model.generator.weights]
    for momentum in (2 / 11, 0.22, 0.22):
        model.train_on_batch(images)
        weights = [to_numpy(w) for w in model.generator.weights]
        average = [
            momentum * a + (1 - momentum) * w
            for a, w in zip(average, weights, strict=True)
        ]
    for mine, theirs in zip(average, model.averaged_generator.weights, strict=True):
        np.testing.assert_allclose(mine, to_numpy(theirs), atol=1e-6)
    # Samples come from it.
    z = np.ones((2, 3), "float32")
    expected = 1 / (1 + np.exp(-to_numpy(model.averaged_generator(z))))
    np.testing.assert_allclose(model.decode(z), expected, atol=1e-5)
    learnt = {id(v) for player in model.players() for v in player.variables}
    assert not learnt & {id(v) for v in model.averaged_generator.weights}


def test_batch_statistics_and_seeds_advance(images):
    model = keras_ae.GAN(
        **{**SMALL, "architecture": "conv"},
        spectral_norm=True,
        image_shape=images.shape[1:],
    )
    moving = [v for v in model.non_trainable_variables if "moving" in v.path]
    vectors = [v for v in model.non_trainable_variables if v.path.endswith("/u")]
    seed = model.prior_sampling.seed_generator.state
    watched = [*moving, *vectors, seed]
    assert moving and vectors
    before = [to_numpy(v) for v in watched]
    model.train_on_batch(images)
    for variable, value in zip(watched, before, strict=True):
        assert (to_numpy(variable) != value).any(), variable.path
    before = [to_numpy(v) for v in (*moving, *vectors)]
    model.test_on_batch(images)
    for variable, value in zip((*moving, *vectors), before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


def test_gradient_norms_are_of_the_players_gradients(images):
    model = keras_ae.GAN(**SMALL, image_shape=images.shape[1:])
    model.compile(keras.optimizers.SGD(1.0))
    before = [to_numpy(v) for v in model.generator.trainable_variables]
    logs = model.train_on_batch(images, return_dict=True)
    # With rate 1 the step is the gradient.
    step = sum(
        np.sum((to_numpy(v) - value) ** 2)
        for v, value in zip(model.generator.trainable_variables, before, strict=True)
    )
    np.testing.assert_allclose(logs["generator_gradient_norm"], np.sqrt(step), 1e-4)
    assert "generator_gradient_norm" not in model.evaluate(
        images, verbose=0, return_dict=True
    )


@pytest.mark.slow
def test_finds_all_modes_of_eight_gaussians():
    rng = np.random.default_rng(0)
    angles = np.arange(8) * np.pi / 4
    centers = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    noise = 0.05 * rng.normal(size=(8192, 2))
    x = (centers[rng.integers(8, size=8192)] + noise).astype("float32")
    model = keras_ae.GAN(
        2,
        architecture="dense",
        widths=(128, 128),
        likelihood=keras_ae.likelihoods.Gaussian(0.1),
    )
    model.compile(keras.optimizers.Adam(1e-3, beta_1=0.5))
    model.fit(x, batch_size=256, epochs=40, verbose=0)
    distances = np.linalg.norm(
        model.sample(1000, seed=0)[:, None] - centers[None], axis=2
    )
    near = distances.min(axis=1) < 0.3
    histogram = np.bincount(distances.argmin(axis=1)[near], minlength=8)
    print("samples within 0.3 of each of the eight modes:", histogram)
    assert histogram.min() >= 40
    assert near.mean() > 0.8


def test_project_finds_the_codes_of_samples():
    likelihood = keras_ae.likelihoods.Gaussian(0.05)
    model = keras_ae.GAN(2, image_shape=(6,), likelihood=likelihood, widths=(16,))
    x = model.sample(20, seed=3)
    z = model.project(x, steps=300, restarts=3)
    # The prior pulls a little towards 0.
    assert np.mean((model.decode(z) - x) ** 2) < 0.02 * np.var(x)
    alone = model.project(x[:1], steps=300, restarts=3)
    np.testing.assert_allclose(alone[0], z[0], atol=1e-3)
    more = model.project(x, steps=300, restarts=8)
    objective = [
        -to_numpy(model.likelihood.log_prob(x, model.generator(codes)))
        - to_numpy(model.prior.log_prob(codes))
        for codes in (z, more)
    ]
    assert (objective[1] <= objective[0] + 1e-3).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"critic_steps": 0}, "`critic_steps` must be an integer >= 1. Received: .*0"),
        ({"adversarial_loss": "kl"}, "`adversarial_loss` must be one of"),
        ({"gradient_penalty": -1.0}, "`gradient_penalty` must be >= 0"),
        ({"ema_momentum": 1.0}, "`ema_momentum` must be None or a number"),
        ({"prior": "uniform"}, "`prior` must be"),
        ({"generator": 3, "image_shape": (7,)}, "`generator` must be a Keras model"),
        ({"likelihood": "gaussian"}, "a number for its scale.*scale='optimal'"),
        ({"decoder": None}, "`decoder` must be left out: a GAN has a `generator`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.GAN(**{**SMALL, **arguments})


def test_discriminators_of_the_wrong_shape_are_refused():
    wrong = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`discriminator` must be .*1\).*\(2,\)"):
        keras_ae.GAN(**SMALL, discriminator=wrong, image_shape=(4, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "`steps` must be"),
        ({"restarts": 0}, "`restarts` must be"),
        ({"restarts": 5, "candidates": 4}, "`candidates` must be an integer >= 5"),
        ({"learning_rate": 0}, "`learning_rate` must be > 0"),
    ],
)
def test_bad_searches(arguments, message):
    model = keras_ae.GAN(**SMALL, image_shape=(4, 4))
    with pytest.raises(ValueError, match=message):
        model.project(np.zeros((1, 4, 4), "float32"), **arguments)


def test_an_optimizer_for_each_player():
    model = keras_ae.GAN(**SMALL, image_shape=(4, 4))
    model.compile({"discriminator": keras.optimizers.SGD(0.5)})
    assert isinstance(model.optimizer["discriminator"], keras.optimizers.SGD)
    assert isinstance(model.optimizer["generator"], keras.optimizers.Adam)
    with pytest.raises(ValueError, match="generator, discriminator.*for decoder"):
        model.compile({"decoder": "adam"})
    adam = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="an optimizer of its own"):
        model.compile({"generator": adam, "discriminator": adam})
    with pytest.raises(ValueError, match="one player. Received: optimizers for gen"):
        keras_ae.AE().compile({"generator": "adam"})


def test_learning_rates_move_together(images):
    model = keras_ae.GAN(**SMALL, image_shape=images.shape[1:])
    model.compile(
        {
            "generator": keras.optimizers.Adam(1e-3),
            "discriminator": keras.optimizers.Adam(4e-3),
        }
    )
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model.fit(images, epochs=2, verbose=0, callbacks=[halve])

    def rates():
        return [float(model.optimizer[n].learning_rate) for n in model.player_names]

    np.testing.assert_allclose(rates(), [2.5e-4, 1e-3], rtol=1e-5)
    for rate in (0.0, 1e-2):
        model.optimizer.learning_rate = rate
        np.testing.assert_allclose(rates(), [rate, 4 * rate], rtol=1e-5)
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    with pytest.raises(ValueError, match="several players must be a number"):
        model.optimizer.learning_rate = schedule


def test_regularizers_count_once(images):
    kernel = keras.regularizers.L2(1e3)
    encoder = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(3, kernel_regularizer=kernel)]
    )
    model = keras_ae.AAE(
        3, encoder=encoder, architecture="dense", image_shape=images.shape[1:]
    )
    model.compile(keras.optimizers.SGD(1e-4))
    before = to_numpy(encoder.layers[-1].kernel)
    logs = model.train_on_batch(images, return_dict=True)
    after = to_numpy(encoder.layers[-1].kernel)
    # The regulariser's step is 1 - 2 rate weight; that of the data is small beside it.
    np.testing.assert_allclose(
        np.linalg.norm(after) / np.linalg.norm(before), 0.8, atol=0.05
    )
    np.testing.assert_allclose(logs["regularization"], 1e3 * np.sum(after**2), 1e-3)
    assert logs["encoder_loss"] < 10


def test_regularizers_of_activities_are_refused():
    discriminator = keras.Sequential(
        [
            keras.layers.Flatten(),
            keras.layers.Dense(4, activity_regularizer="l2", name="busy"),
            keras.layers.Dense(1),
        ]
    )
    with pytest.raises(ValueError, match="`activity_regularizer` of busy"):
        keras_ae.GAN(**SMALL, discriminator=discriminator, image_shape=(4, 4))


def test_frozen_players_stay(images):
    model = keras_ae.GAN(**SMALL, image_shape=images.shape[1:])
    model.discriminator.trainable = False
    model.compile()
    before = [to_numpy(v) for v in model.discriminator.weights]
    model.fit(images, epochs=2, verbose=0)
    for variable, value in zip(model.discriminator.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    frozen = keras_ae.GAN(**SMALL, image_shape=images.shape[1:], trainable=False)
    before = [to_numpy(v) for v in frozen.discriminator.trainable_variables]
    frozen.fit(images, verbose=0)
    after = [to_numpy(v) for v in frozen.discriminator.trainable_variables]
    for mine, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_generator_learns_to_fool(images):
    model = keras_ae.GAN(**SMALL, image_shape=images.shape[1:])
    still = keras.optimizers.SGD(0.0)
    model.compile({"generator": keras.optimizers.Adam(1e-2), "discriminator": still})
    losses = model.fit(images, epochs=15, verbose=0).history["adversarial"]
    assert losses[-1] < losses[0] - 0.05


def watched(logs_by_epoch, **settings):
    """What a watch prints of a training with these logs."""
    model = keras_ae.GAN(**SMALL, image_shape=(4, 4), **settings)
    watch = callbacks.AdversarialWatch(patience=2)
    watch.set_model(model)
    watch.on_train_begin()
    for epoch, (accuracy, diversity) in enumerate(logs_by_epoch):
        logs = {"discriminator_accuracy": accuracy, "diversity": diversity}
        watch.on_epoch_end(epoch, logs)


def test_watch_warns_of_an_outright_win(capsys):
    watched([(0.995, 1.0), (0.9, 1.0), (0.995, 1.0)])
    assert capsys.readouterr().err == ""
    watched([(0.995, 1.0), (0.998, 1.0), (0.999, 1.0)])
    text = capsys.readouterr().err
    assert text.count("Warning") == 1 and "99.8%" in text and "wins outright" in text
    watched([(1.0, 1.0)] * 3, adversarial_loss="wasserstein")
    assert capsys.readouterr().err == ""


def test_watch_warns_of_collapse(capsys):
    watched([(0.6, 0.04), (0.6, 0.03)])
    text = capsys.readouterr().err
    assert "3.0%" in text and "collapsed" in text


def test_watch_wants_a_discriminator():
    watch = callbacks.AdversarialWatch()
    watch.set_model(keras_ae.AE())
    with pytest.raises(ValueError, match="needs a model with a discriminator.*AE"):
        watch.on_train_begin()
    for patience in (0, 1.5):
        with pytest.raises(ValueError, match="`patience` must be an integer >= 1"):
            callbacks.AdversarialWatch(patience=patience)
