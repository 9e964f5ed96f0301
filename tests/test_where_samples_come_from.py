"""What `sample` draws from when nobody says so, and the range of what it returns."""

import keras
import numpy as np
import pytest
from contract import few_everywhere

import keras_ae
from keras_ae.models.base.sampling import Choice

X = np.random.default_rng(0).random((200, 6), dtype="float32")


class Rows(keras.utils.PyDataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return (X[20 * index : 20 * index + 20],)


def make(name="VAE", x=X, **kwargs):
    keras.utils.set_random_seed(0)
    options = {"latent_dim": 2, "architecture": "dense", "widths": (8,), **kwargs}
    if name == "FSQVAE":
        options["levels"] = (3, 3)
        del options["latent_dim"]
    model = getattr(keras_ae, name)(**options)
    # Batches of one size, which are compiled once.
    model.fit(x, batch_size=None if x is not X else 40, verbose=0)
    return model


def codes(mean, scale, count=5000):
    return mean + scale * np.random.default_rng(1).normal(size=(count, 2))


@pytest.mark.once
@pytest.mark.parametrize(
    ("mean", "scale", "sampler"),
    [
        (0.0, 1.0, "prior"),
        (3.0, 1.0, "gaussian"),
        (0.0, 0.1, "gaussian"),
        (np.where(np.arange(5000) % 2, 4.0, -4.0)[:, None], 0.5, "mixture"),
    ],
)
def test_the_prior_is_taken_where_codes_follow_it(monkeypatch, mean, scale, sampler):
    model = make()
    z = codes(mean, scale)
    monkeypatch.setattr(model, "known_codes", lambda: z)
    choice = model.choose_sampler()
    assert choice.sampler == sampler
    # KL(N(m, s²) || N(0, 1)); of two of them far apart, with log 2 of their choice.
    kl = 2 * (0.5 * (scale**2 + np.mean(np.square(mean)) - 1) - np.log(scale))
    kl -= np.log(2) if sampler == "mixture" else 0
    np.testing.assert_allclose(choice.nats, kl, atol=0.15, rtol=0.03)
    drawn = model._drawn(4000, keras.random.SeedGenerator(0))
    np.testing.assert_allclose(drawn.std(axis=0), z.std(axis=0), rtol=0.1)
    expected = model.sample(5, seed=0, sampler=sampler)
    for asked in (None, "auto"):
        np.testing.assert_array_equal(model.sample(5, seed=0, sampler=asked), expected)


@pytest.mark.once
def test_few_codes_get_few_components(monkeypatch):
    model = make("AE", latent_dim=12)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(150, 12)) + 6 * rng.integers(0, 3, (150, 1))
    monkeypatch.setattr(model, "known_codes", lambda: z)
    assert model.choose_sampler().sampler == "mixture"
    drawn = model._drawn(3000, keras.random.SeedGenerator(0)).mean(axis=1)
    # Between the three there is nothing.
    assert np.mean(np.abs(drawn[:, None] - [0, 6, 12]).min(axis=1) < 1.5) > 0.99


@pytest.mark.parametrize(
    "name",
    few_everywhere(["AE", "VAE", "VariationalAutoDecoder", "FSQVAE"], ["VAE"]),
)
def test_it_is_saved_and_dropped_by_training(name, tmp_path):
    model = make(name)
    assert model.can_sample
    expected = model.sample(5, seed=0)
    choice = model.choose_sampler()
    assert choice.sampler in (*model.fitted_samplers, "prior")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.choose_sampler() == choice
    np.testing.assert_allclose(again.sample(5, seed=0), expected, atol=1e-5)
    model.fit(X, verbose=0)
    assert model.fitted_samplers == ()


@pytest.mark.once
def test_what_is_saved_untouched_knows_where_its_codes_are(tmp_path):
    model = make("AE")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.sample(3, seed=0).shape == (3, 6)


@pytest.mark.once
@pytest.mark.parametrize("count", [1, 12])
def test_of_equal_examples_there_is_one_code_to_draw(count):
    model = keras_ae.AE(2, architecture="dense", widths=(8,))
    x = np.repeat(X[:1], count, axis=0)
    model.fit(x, epochs=2, verbose=0)
    assert model.choose_sampler().sampler == "gaussian"
    np.testing.assert_allclose(
        model.sample(3, seed=0), model.reconstruct(x[[0, 0, 0]]), atol=0.05
    )


def test_weights_know_where_their_codes_are(tmp_path):
    model = make("AE")
    model.save_weights(tmp_path / "a.weights.h5")
    expected = model.sample(5, seed=0)
    built = {"image_shape": (6,), "architecture": "dense", "widths": (8,)}
    other = keras_ae.AE(2, **built)
    other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_allclose(other.sample(5, seed=0), expected, atol=1e-5)
    # Files of a model that was built before its data, too.
    other.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.in_unit_range
    np.testing.assert_allclose(again.sample(5, seed=0), expected, atol=1e-5)


@pytest.mark.once
def test_what_was_asked_for_last_is_drawn_from(tmp_path):
    model = make()
    assert model.choose_sampler().nats is not None
    for sampler in ("mixture", "normal"):
        model.fit_sampler(sampler, X)
        expected = model.sample(5, seed=0, sampler=sampler)
        np.testing.assert_array_equal(model.sample(5, seed=0), expected)
    assert "drawn from normal distributions" in str(model.choose_sampler())
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.sample(5, seed=0), expected, atol=1e-5)
    searched = make("AutoDecoder")
    expected = searched.sample(5, seed=0)
    searched.sample(5, seed=0, sampler="normal")
    np.testing.assert_array_equal(searched.sample(5, seed=0), expected)


@pytest.mark.once
def test_data_sets_are_read_when_somebody_asks():
    model = make("AE", x=Rows())
    assert model.sample(3, seed=0).shape == (3, 6)
    stream = make("AE", x=(X[i : i + 20] for i in range(0, 200, 20)))
    assert not stream.can_sample
    with pytest.raises(ValueError, match="fit_sampler"):
        stream.sample(3)


@pytest.mark.once
def test_one_line_says_it(capsys):
    model = keras_ae.AE(2, architecture="dense", widths=(8,))
    model.fit(X, verbose=2)
    assert "Samples are drawn from" in capsys.readouterr().out
    model.fit(X, verbose=0)
    assert not capsys.readouterr().out
    with model.choosing_later():
        model.fit(X, verbose=2)
    assert "Samples" not in capsys.readouterr().out
    assert "at least 12 nats from the prior" in str(Choice("mixture", 12.3))
    assert "at least 0.3 nats from" in str(Choice("gaussian", 0.32))
    assert "which the codes follow" in str(Choice("prior", 0.1))


@pytest.mark.once
def test_equal_codes_leave_the_prior(monkeypatch):
    model = make()
    monkeypatch.setattr(model, "known_codes", lambda: np.ones((100, 2)))
    assert model.choose_sampler() == Choice("prior", None)


@pytest.mark.once
@pytest.mark.parametrize("name", ["GAN", "BiGAN", "SphericalVAE", "PoincareVAE"])
def test_some_keep_to_their_prior(name):
    model = make(name)
    assert model.choose_sampler() is None
    same = [model.sample(3, seed=0, sampler=sampler) for sampler in (None, "prior")]
    np.testing.assert_array_equal(*same)


@pytest.mark.once
@pytest.mark.parametrize("name", ["VAE", "GAN", "StackedSAE"])
def test_pictures_stay_in_the_range_of_the_data(name, tmp_path):
    likelihood = keras_ae.likelihoods.Gaussian(0.1)
    options = {} if name == "StackedSAE" else {"latent_dim": 2, "widths": (8,)}
    model = getattr(keras_ae, name)(likelihood=likelihood, **options)
    model.fit(X, verbose=0)
    model.save(tmp_path / "model.keras")
    far = 100 * np.random.default_rng(0).normal(size=(20, model.code_dim))
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        assert each.in_unit_range
        decoded = each.decode(far)
        assert (decoded.min(), decoded.max()) == (0.0, 1.0)
    parameters = keras.ops.convert_to_numpy(model.decoder(far.astype("float32")))
    mean = keras.ops.convert_to_numpy(model.likelihood.mean(parameters))
    np.testing.assert_allclose(decoded, np.clip(mean, 0, 1), atol=1e-5)


def test_other_data_are_not_cut():
    model = make(x=10 * X - 5)
    far = 100 * np.random.default_rng(0).normal(size=(20, 2))
    assert model.decode(far).min() < 0 and model.decode(far).max() > 1
    # What was compiled before is not in the way of what is learned now.
    model.fit(X, verbose=0)
    for pictures in (model.decode(far), model.predict(100 * X - 50, verbose=0)):
        assert pictures.min() >= 0 and pictures.max() <= 1
    projection = keras_ae.PCA(2)
    projection.fit(X, verbose=0)
    assert projection.decode(far).max() > 1


def test_an_interrupted_training_has_codes_to_draw_from():
    """As in a notebook, whose user stops `fit` and looks."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    for name in ("VAE", "AE"):
        model = make(name)
        model.forget_samplers()
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, epochs=5, verbose=0, callbacks=[Stop()])
        choice = model.choose_sampler()
        assert choice is not None and choice.sampler in (
            "prior",
            *model.fitted_samplers,
        )
        assert model.sample(2, seed=0).shape == (2, 6)


@pytest.mark.parametrize("name", ["AE", "FSQVAE"])
def test_other_weights_have_other_codes(name, tmp_path):
    path = tmp_path / "first.weights.h5"
    keep = keras.callbacks.ModelCheckpoint(
        path, monitor="loss", mode="max", save_best_only=True, save_weights_only=True
    )
    model = make(name)
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(X, batch_size=40, epochs=4, verbose=0, callbacks=[keep])
    before = model.sample(5, seed=0)
    changes = [
        lambda: model.load_weights(path),
        lambda: model.set_weights(model.get_weights()),
        lambda: model.train_on_batch(X[:40]),
    ]
    for change in changes:
        fitted = model.sampler(model.default_sampler())
        change()
        assert model.fitted_samplers == ()
        assert model.sample(5, seed=0).shape == (5, 6)
        assert model.sampler(model.default_sampler()) is not fitted
    assert not np.allclose(model.sample(5, seed=0), before)


@pytest.mark.once
def test_codes_rest_beside_their_own_examples():
    model = make("AutoDecoder")
    ids = model.sample_ids
    examples, rows = model._fitted.data
    np.testing.assert_array_equal(examples, X[rows])
    model.fit(X[::-1], sample_ids=ids[::-1], batch_size=40, verbose=0)
    examples, rows = model._fitted.data
    np.testing.assert_array_equal(examples, X[rows])
    # Of all of them, again: as many new ones as old ones are replayed.
    model.extend(0.5 * X, epochs=1, steps=2, verbose=0)
    examples, rows = model._fitted.data
    new = rows >= len(X)
    assert new.sum() == len(X)
    np.testing.assert_allclose(examples[new], 0.5 * X[rows[new] - len(X)], atol=1e-6)


@pytest.mark.once
def test_a_hierarchy_is_drawn_from_its_own_prior_or_what_was_asked_for():
    model = make("HierarchicalVAE", upper_dims=(2,))
    assert model.choose_sampler() is None
    ancestral = model.sample(5, seed=0, sampler="prior")
    np.testing.assert_array_equal(model.sample(5, seed=0), ancestral)
    drawn = model.prior_codes(5, seed=0)
    np.testing.assert_allclose(model.decode(drawn), ancestral, atol=1e-6)
    model.fit_sampler("gaussian", X)
    asked = model.sample(5, seed=0, sampler="gaussian")
    np.testing.assert_array_equal(model.sample(5, seed=0), asked)
    assert not np.allclose(asked, ancestral)


@pytest.mark.once
def test_codes_far_from_a_prior_by_design_are_not_drawn_from_it(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_ae.KLAutoencoder(2, architecture="dense", widths=(8,))
    model.fit(X, batch_size=40, verbose=0)
    assert model.can_sample
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not again.can_sample
    with pytest.raises(ValueError, match="do not follow its prior.*'flow'"):
        again.sample(3)
    assert again.sample(3, seed=0, sampler="prior").shape == (3, 6)
