"""Adversarial autoencoders: the players' formulae, labels."""

import keras
import numpy as np
import pytest
from contract import few_everywhere
from keras import ops
from numerics import ADVERSARIAL_LOSSES, to_numpy
from scipy import special

import keras_ae
from keras_ae.probability import divergences
from keras_ae.probability.distributions import Normal, NormalMixture

SETTINGS = {"latent_dim": 3, "widths": (16,), "architecture": "dense"}


class FixedPrior(keras.layers.Layer):
    """Stands in for the draws of the prior: the same codes for every batch."""

    def call(self, x):
        codes = np.random.default_rng(5).normal(size=(64, 3)).astype("float32")
        return ops.convert_to_tensor(codes)[: ops.shape(x)[0]]


class FixedUniform(keras.layers.Layer):
    """Stands in for uniform noise: 0, 1/7, 2/7, ... for each example."""

    def call(self, x):
        return ops.convert_to_tensor(np.float32(np.arange(64) % 7 / 7))[
            : ops.shape(x)[0]
        ]


def make(images, Model=keras_ae.AAE, **kwargs):
    keras.utils.set_random_seed(1)
    model = Model(**SETTINGS, **kwargs)
    model.prior_sampling = FixedPrior()
    for name in ("mixing", "label_sampling"):
        if hasattr(model, name):
            setattr(model, name, FixedUniform())
    model.build((None, *images.shape[1:]))
    return model


def play(model, images, labels=None, training=False):
    """Every player's terms and figures by name, as arrays."""
    x = model.to_floats(ops.convert_to_tensor(images))
    others = {} if labels is None else {"labels": ops.convert_to_tensor(labels)}
    found = {}
    for player in model.players():
        outputs = (player.call or model)(x, training=training, **others)
        terms = player.terms(x, outputs, training=training)
        figures = player.monitors(x, outputs, terms) if player.monitors else {}
        found |= {name: to_numpy(value) for name, value in {**terms, **figures}.items()}
    return found


class Smooth(keras_ae.AAE):
    """As in the guide: a term and a figure of what is restored."""

    term_names = (*keras_ae.AAE.term_names, "roughness")
    monitor_names = (*keras_ae.AAE.monitor_names, "brightness")

    def terms(self, x, outputs, training=False):
        mean = self.likelihood.mean(outputs["parameters"])
        roughness = ops.sum(ops.square(mean[:, 1:] - mean[:, :-1]), axis=(1, 2, 3))
        return {**super().terms(x, outputs, training), "roughness": roughness}

    def monitors(self, x, outputs, terms):
        brightness = ops.mean(outputs["parameters"], axis=(1, 2, 3))
        return {**super().monitors(x, outputs, terms), "brightness": brightness}


def test_a_subclass_sees_what_is_restored(images):
    model = make(images, Smooth)
    history = model.fit(images, batch_size=16, verbose=0).history
    assert history["roughness"][0] > 0
    assert np.isfinite(history["brightness"]).all()


@pytest.mark.parametrize("loss", ADVERSARIAL_LOSSES)
def test_terms_equal_the_formulae(images, loss):
    model = make(images, adversarial_loss=loss)
    found = play(model, images)
    assert set(found) == {*model.term_names, *model.monitor_names}
    x = images / 255.0
    z = to_numpy(model.encoder(np.float32(x)))
    restored = to_numpy(model.decoder(np.float32(z)))
    squares = 0.5 * np.sum((x - restored) ** 2, axis=(1, 2, 3))
    constant = 0.5 * np.log(2 * np.pi) * x[0].size
    np.testing.assert_allclose(found["reconstruction"], squares + constant, rtol=1e-5)
    np.testing.assert_allclose(
        found["mse"], np.mean((x - restored) ** 2, axis=(1, 2, 3)), rtol=1e-4
    )

    prior = to_numpy(model.prior_sampling(images))
    d_real, d_fake = (
        to_numpy(model.discriminator(np.float32(codes)))[:, 0] for codes in (prior, z)
    )
    real, fake, generator = ADVERSARIAL_LOSSES[loss]
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(found["discriminator_real"], real(d_real), **close)
    np.testing.assert_allclose(found["discriminator_fake"], fake(d_fake), **close)
    np.testing.assert_allclose(found["adversarial"], generator(d_fake), **close)
    np.testing.assert_array_equal(
        found["discriminator_accuracy"], np.float64(d_real > d_fake)
    )
    score = special.expit if loss == "non_saturating" else lambda d: d
    np.testing.assert_allclose(found["real_score"], score(d_real), **close)
    np.testing.assert_allclose(found["fake_score"], score(d_fake), **close)
    distance = to_numpy(divergences.mmd(np.float32(z), np.float32(prior)))
    np.testing.assert_allclose(found["prior_mmd"], distance, rtol=1e-4, atol=1e-5)


def test_wasserstein_pays_the_gradient_penalty(images):
    linear = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    linear.set_weights([np.float32([[2.0], [-3.0], [6.0]]), np.zeros(1)])
    model = make(images, adversarial_loss="wasserstein", discriminator=linear)
    # The gradient of a linear critic is its kernel, of norm 7.
    np.testing.assert_allclose(
        play(model, images)["gradient_penalty"], 10 * (7 - 1) ** 2, rtol=1e-5
    )
    assert "gradient_penalty" not in make(images).term_names


def test_label_terms_equal_the_formulae(images):
    model = make(images, num_classes=4)
    labels = np.arange(32) % 5 - 1
    found = play(model, images, labels)
    assert set(found) == {*model.term_names, *model.monitor_names}
    heads = to_numpy(model.encoder(np.float32(images / 255.0)))
    assert heads.shape == (32, 7)
    z, logits = heads[:, :3], heads[:, 3:]
    log_y = special.log_softmax(logits, axis=1)
    y = np.exp(log_y)
    np.testing.assert_allclose(
        model.encode(images), np.concatenate([z, y], 1), rtol=1e-4, atol=1e-5
    )

    labelled = labels >= 0
    cross_entropy = -log_y[np.arange(32), labels]
    terms = found["classification"]
    np.testing.assert_array_equal(terms[~labelled], 0)
    assert terms.mean() == pytest.approx(cross_entropy[labelled].mean(), rel=1e-5)
    right = logits.argmax(1) == labels
    np.testing.assert_array_equal(found["accuracy"], np.where(labelled, right, np.nan))

    drawn = np.eye(4)[np.floor(np.arange(32) % 7 / 7 * 4).astype(int)]
    d_real, d_fake = (
        to_numpy(model.label_discriminator(np.float32(values)))[:, 0]
        for values in (drawn, y)
    )
    for name, expected in (
        ("label_discriminator_real", np.logaddexp(0, -d_real)),
        ("label_discriminator_fake", np.logaddexp(0, d_fake)),
        ("label_adversarial", np.logaddexp(0, -d_fake)),
        ("label_discriminator_accuracy", d_real > d_fake),
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_classes", few_everywhere([None, 4], [4]))
def test_players_leave_others_alone(images, num_classes, monkeypatch):
    model = make(images, num_classes=num_classes)
    learns = {
        "autoencoder": ("encoder", "decoder", "likelihood"),
        "discriminator": ("discriminator", "label_discriminator"),
        "encoder": ("encoder",),
        "classifier": ("encoder",),
    }
    for name in model.player_names:
        model = make(images, num_classes=num_classes, likelihood="gaussian")
        chosen = [player for player in model.players() if player.name == name]
        assert len(chosen) == 1
        monkeypatch.setattr(model, "players", lambda chosen=chosen: chosen)
        before = [to_numpy(v) for v in model.trainable_variables]
        model.train_on_batch(images, np.arange(32) % 4)
        pairs = zip(model.trainable_variables, before, strict=True)
        moved = {id(v) for v, old in pairs if (to_numpy(v) != old).any()}
        own = [
            v
            for part in learns[name]
            for v in getattr(getattr(model, part, None), "trainable_variables", ())
        ]
        assert moved <= {id(v) for v in own}
        kernels = {id(v) for v in own if v.name == "kernel"}
        assert kernels and kernels <= moved


def curved(count):
    """Vectors on a curved sheet of two dimensions."""
    rng = np.random.default_rng(0)
    u = rng.uniform(-1, 1, (count, 2))
    return np.float32(np.tanh(u @ rng.normal(size=(2, 10))))


@pytest.mark.slow
def test_codes_come_to_follow_the_prior():
    prior = NormalMixture([[-2.0, 0.0], [2.0, 0.0]], 0.3)
    model = keras_ae.AAE(2, prior=prior, widths=(64, 64))
    model.optimizer["discriminator"].learning_rate = 2e-3
    model.optimizer["encoder"].learning_rate = 1e-3
    history = model.fit(curved(512), epochs=30, batch_size=128, verbose=0).history
    distance = np.array(history["prior_mmd"])
    assert distance[-5:].mean() < 0.5 * distance[0]
    assert history["mse"][-1] < 0.5 * history["mse"][0]


def test_spread_of_the_prior_scales_the_distance():
    wide = keras_ae.AAE(2, prior=Normal(0.0, 3.0))
    assert wide._prior_scale == pytest.approx(3.0)
    mixture = NormalMixture([[-2.0, 0.0], [2.0, 0.0]], 1.0)
    mixed = keras_ae.AAE(2, prior=mixture)
    # Variances 1 + 4 and 1, their mean 3.
    assert mixed._prior_scale == pytest.approx(np.sqrt(3), rel=0.03)


# Labels


def discs(count, seed=0):
    """Pictures of bright halves, left or right, and which of the two."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    x = 0.1 * rng.random((count, 6, 6), dtype="float32")
    x[labels == 0, :, :3] += 0.4
    x[labels == 1, :, 3:] += 0.4
    return x + 0.4 * rng.random((count, 1, 1), dtype="float32"), labels


@pytest.mark.slow
def test_few_labels_teach_the_classes():
    x, labels = discs(128)
    known = np.where(np.arange(128) < 16, labels, -1)
    held_back, held_back_labels = discs(64, seed=1)
    model = keras_ae.AAE(2, num_classes=2, architecture="dense", widths=(32,))
    model.compile(
        {"classifier": keras.optimizers.Adam(5e-3), "encoder": keras.optimizers.Adam()}
    )
    history = model.fit(
        x,
        known,
        epochs=50,
        batch_size=32,
        verbose=0,
        validation_data=(held_back, held_back_labels),
    ).history
    assert history["val_accuracy"][-1] > 0.95
    assert history["classification"][-1] < 0.5 * history["classification"][0]
    probabilities = model.classify(held_back)
    assert probabilities.shape == (64, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    accuracy = np.mean(probabilities.argmax(1) == held_back_labels)
    assert accuracy == pytest.approx(history["val_accuracy"][-1], abs=1e-6)
    # The class that is asked for is the class that is drawn.
    for label in (0, 1):
        drawn = model.sample(16, seed=0, labels=label)
        assert np.mean(model.classify(drawn).argmax(1) == label) > 0.6


def test_accuracy_is_that_of_labelled_examples(images):
    model = make(images, num_classes=4)
    labels = np.arange(32) % 4
    right = model.classify(images).argmax(1) == labels
    few = np.where(np.arange(32) < 5, labels, -1)
    # Batches of 8: one with five labels, three without any.
    for y, expected in ((labels, right.mean()), (few, right[:5].mean())):
        found = model.evaluate(images, y, batch_size=8, verbose=0, return_dict=True)
        assert found["accuracy"] == pytest.approx(expected, abs=1e-6)
    weights = np.ones(32, "float32")
    for kwargs in ({}, {"sample_weight": weights}):
        found = model.evaluate(images, verbose=0, return_dict=True, **kwargs)
        assert np.isnan(found["accuracy"]) and found["classification"] == 0
        assert np.isfinite(found["loss"])


@pytest.mark.once
@pytest.mark.parametrize("kind", ["array", "data set", "generator"])
def test_labels_come_in_any_kind_of_data(images, kind):
    labels = np.arange(32) % 4
    model = make(images, num_classes=4)
    x, y, kwargs = images, labels, {"batch_size": 16}
    if kind == "data set":
        x, y = keras_ae.datasets.Batches(images, 16, targets=labels), None
        kwargs = {"shuffle": False}
    elif kind == "generator":
        x, y = ((images[i::2], labels[i::2, None]) for i in (0, 1)), None
        kwargs = {"steps_per_epoch": 2}
    history = model.fit(x, y, epochs=1, verbose=0, **kwargs).history
    assert 0 <= history["accuracy"][0] <= 1 and history["classification"][0] > 0.5


def test_verbs_take_the_whole_code(images):
    model = make(images, num_classes=4)
    z = model.encode(images)
    assert z.shape == (32, 7) and model.code_dim == 7
    np.testing.assert_array_equal(z[:, 3:], model.classify(images))
    restored = model.decode(z)
    np.testing.assert_allclose(model.reconstruct(images), restored, atol=1e-6)
    np.testing.assert_allclose(model.predict(images, verbose=0), restored, atol=1e-6)
    row = model.interpolate(images[0], images[1], steps=3)
    np.testing.assert_allclose(row[[0, 2]], restored[:2], atol=1e-6)
    assert model.traverse(images[0], steps=5).shape == (3, 5, *images.shape[1:])
    with pytest.raises(ValueError, match=r"`z` must have the shape \(n, 7\)"):
        model.decode(z[:, :3])


def test_samples_of_a_class_share_their_style(images):
    model = make(images, num_classes=4)
    z = to_numpy(model.prior.sample((5, 3), seed=keras.random.SeedGenerator(3)))
    for labels in (2, [0, 1, 2, 3, 0], None):
        drawn = model.sample(5, seed=3, labels=labels)
        np.testing.assert_array_equal(drawn, model.sample(5, seed=3, labels=labels))
        if labels is not None:
            y = np.eye(4)[np.broadcast_to(labels, 5)]
            code = np.concatenate([z, y], axis=1)
            np.testing.assert_allclose(drawn, model.decode(code), atol=1e-6)


def test_classes_are_ignored_without_num_classes(images):
    labels = np.arange(32)
    losses = [
        make(images).fit(images, y, batch_size=16, verbose=0).history["loss"]
        for y in (None, labels)
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [None, 4])
def test_saving_goes_on_where_it_stopped(images, num_classes, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_ae.AAE(**SETTINGS, num_classes=num_classes)
    fit = {"batch_size": 16, "epochs": 2, "verbose": 0, "shuffle": False}
    labels = np.arange(32) % 5 - 1
    model.fit(images, labels, **fit)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.num_classes == num_classes
    np.testing.assert_array_equal(again.encode(images), model.encode(images))
    first, second = (m.fit(images, labels, **fit).history for m in (model, again))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "num_classes=4 needs one integer label .* from 0 to 3, or -1.*no label"),
        (np.full(32, -1), "32 labels, all of them -1; give some examples a label"),
        (np.full(32, 4), "labels from 4 to 4"),
        (np.full(32, -2), "labels from -2 to -2"),
        (np.full(32, 0.5), "labels from 0.5 to 0.5"),
        (np.zeros(31, int), r"labels of shape \(31,\) .* for 32 examples"),
        (np.eye(4)[np.arange(32) % 4], r"shape \(32, 4\).*numpy.argmax\(y, axis=1\)"),
        (np.full(32, "cat"), "dtype <U3"),
    ],
)
def test_bad_labels(images, labels, message):
    model = make(images, num_classes=4)
    with pytest.raises(ValueError, match=message):
        model.fit(images, labels, verbose=0)


def test_data_sets_without_labels_are_refused(images):
    model = make(images, num_classes=4)
    with pytest.raises(ValueError, match=r"no labels; pass `y`, or a data set"):
        model.fit(keras_ae.datasets.Batches(images, 16), verbose=0)
    with pytest.raises(ValueError, match="labels from 0 to 31"):
        model.fit(images, np.arange(32) % 4, validation_data=(images, np.arange(32)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "`num_classes` must be an integer >= 2. Received: .*1"),
        ({"num_classes": 2.5}, "`num_classes` must be an integer"),
        ({"adversarial_loss": "sharp"}, "`adversarial_loss` must be one of .*'sharp'"),
        ({"gradient_penalty": -1}, "`gradient_penalty` must be >= 0"),
        ({"prior": Normal([0.0, 1.0])}, "`prior` must have latent_dim=3"),
        (
            {"discriminator": keras.layers.Dense(2)},
            r"`discriminator` must be a Keras model that maps \(batch, 3\) to "
            r"\(batch, 1\). Received one that gives \(2,\)",
        ),
        (
            {"num_classes": 4, "encoder": keras.Sequential([keras.layers.Flatten()])},
            r"`encoder` must be .* to \(batch, 7\)",
        ),
    ],
)
def test_bad_arguments(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(images, **arguments)


def test_verbs_of_classes_need_classes(images):
    model = make(images)
    with pytest.raises(ValueError, match="`classify` needs a model with classes"):
        model.classify(images)
    with pytest.raises(ValueError, match="`labels` must be None for a model without"):
        model.sample(3, labels=1)
    model = make(images, num_classes=4)
    for labels in (4, -1, [0, 1], 0.5):
        with pytest.raises(ValueError, match="from 0 to 3. Received: labels"):
            model.sample(3, labels=labels)
