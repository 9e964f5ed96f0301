"""What is fitted to codes: that it is like the codes, is kept, and is drawn from."""

import keras
import numpy as np
import pytest
from numerics import next_draws, to_numpy

import keras_ae
from keras_ae.probability import priors, samplers

RNG = np.random.default_rng(0)
X = RNG.random((64, 6)).astype("float32")


@pytest.fixture(scope="module")
def vae():
    keras.utils.set_random_seed(0)
    model = keras_ae.VAE(2, widths=(8,), likelihood="bernoulli")
    model.fit(X, epochs=2, verbose=0)
    return model


def banana(n, seed=0):
    """Codes along a parabola, and their mean log-density."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, 2))
    codes = np.stack([u[:, 0], 0.3 * u[:, 1] + u[:, 0] ** 2], axis=1)
    entropy = np.log(2 * np.pi * np.e) + np.log(0.3)
    return codes * [2.0, 5.0] + 1.0, -entropy - np.log(10.0)


def mean_log_prob(distribution, codes):
    return to_numpy(distribution.log_prob(codes.astype("float32"))).mean()


@pytest.mark.slow
def test_a_flow_learns_what_a_normal_can_not(vae):
    codes, best = banana(3000)
    test, _ = banana(2000, seed=1)
    gaussian = mean_log_prob(samplers.fit("gaussian", codes), test)
    assert gaussian < best - 0.3
    options = {"epochs": 12, "batch_size": 64, "learning_rate": 5e-3}
    flow = samplers.fit("maf", codes, model=vae, **options)
    assert best - 0.15 < mean_log_prob(flow, test) < best + 0.05
    drawn = to_numpy(flow.sample((4000, 2), seed=0))
    np.testing.assert_allclose(drawn.std(axis=0), test.std(axis=0), rtol=0.15)
    correlations = np.corrcoef(drawn.T), np.corrcoef(test.T)
    np.testing.assert_allclose(*correlations, atol=0.15)
    # A second VAE has a lower bound to show, and draws the parabola as well.
    second = samplers.fit("two_stage", codes, model=vae, **options)
    assert mean_log_prob(second, test) < best
    x, y = ((to_numpy(second.sample((4000, 2), seed=0)) - 1.0) / [2.0, 5.0]).T
    assert np.corrcoef(x**2, y)[0, 1] > 0.8


def test_normals_have_the_moments_of_the_codes():
    codes, _ = banana(500)
    normal = samplers.fit("normal", codes)
    np.testing.assert_allclose(
        to_numpy(normal.mean), codes.mean(axis=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(to_numpy(normal.stddev), codes.std(axis=0), rtol=1e-4)
    gaussian = samplers.fit("gaussian", codes)
    covariance = gaussian.get_config()["covariances"][0]
    np.testing.assert_allclose(covariance, np.cov(codes.T, bias=True), rtol=1e-4)
    # A latent dimension that nothing uses has a density still.
    codes[:, 1] = 7.0
    assert np.isfinite(mean_log_prob(samplers.fit("normal", codes), codes))


def test_a_vampprior_is_made_of_the_models_posteriors(vae):
    prior = priors.VampPrior(3, name="three")
    before = vae.get_weights()
    vae.fit_sampler(prior, X, epochs=2)
    posterior = vae.posterior(prior.examples())
    codes = vae.encode(X)
    mixture = keras_ae.distributions.NormalMixture(
        to_numpy(posterior.mean), to_numpy(posterior.stddev)
    )
    expected = to_numpy(mixture.log_prob(codes))
    log_prob = to_numpy(vae.sampler("three").log_prob(codes))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)
    # Only the pseudo-examples have learned.
    for one, other in zip(before, vae.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.once
@pytest.mark.thorough
def test_a_density_that_learns_longer_is_likelier(vae):
    codes, _ = banana(300)
    scores = []
    for epochs in (1, 6):
        flow = samplers.fit("maf", codes, model=vae, epochs=epochs, held_back=0.0)
        scores.append(mean_log_prob(flow, codes))
    assert scores[1] > scores[0] + 0.01


@pytest.mark.slow
def test_fits_repeat_and_leave_other_draws_alone(vae):
    keras.utils.set_random_seed(1)
    expected = next_draws()
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        vae.fit_sampler("maf", X, seed=3, epochs=1)
        drawn.append(vae.sample(4, seed=0, sampler="maf"))
        assert next_draws() == expected
    np.testing.assert_allclose(*drawn, rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_learned_samplers_are_saved_with_the_model(vae, tmp_path):
    learned = ("maf", "two_stage", "vampprior")
    for name in learned:
        vae.fit_sampler(name, X, epochs=1)
    vae.fit_sampler("mixture", X, components=2)
    weights = len(vae.weights)
    vae.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.fitted_samplers == vae.fitted_samplers
    for sampler in (*learned, "mixture", "prior"):
        np.testing.assert_allclose(
            again.sample(5, seed=1, sampler=sampler),
            vae.sample(5, seed=1, sampler=sampler),
            rtol=1e-4,
        )
    # They are no weights of the model, whose own are loaded by any other.
    assert len(again.weights) == weights
    vae.save_weights(tmp_path / "model.weights.h5")
    fresh = keras_ae.VAE(2, image_shape=(6,), widths=(8,), likelihood="bernoulli")
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.encode(X), vae.encode(X))
    again.fit(X, verbose=0)
    assert again.fitted_samplers == ()


@pytest.mark.once
def test_a_model_without_a_prior_draws_from_what_was_fitted_last():
    model = keras_ae.AE(2, image_shape=(6,), widths=(8,))
    assert not model.can_sample
    with pytest.raises(ValueError, match=r"AE has no prior .*fit_sampler\('"):
        model.sample(3)
    model.fit_sampler("normal", X)
    model.fit_sampler("gaussian", X)
    assert model.can_sample and model.fitted_samplers == ("normal", "gaussian")
    last = model.sample(3, seed=0)
    np.testing.assert_array_equal(last, model.sample(3, seed=0, sampler="gaussian"))
    assert (last != model.sample(3, seed=0, sampler="normal")).any()
    with pytest.raises(ValueError, match="has no prior over codes. Received"):
        model.sample(3, sampler="prior")


def test_codes_of_a_vae_are_draws_from_its_posteriors(vae):
    drawn = np.stack([vae.sample_posterior(X, seed=seed) for seed in range(400)])
    posterior = vae.posterior(X)
    mean, stddev = to_numpy(posterior.mean), to_numpy(posterior.stddev)
    error = (drawn.mean(axis=0) - mean) / (stddev / 20)
    assert np.abs(error).mean() < 1 and np.abs(error).max() < 5
    np.testing.assert_allclose(drawn.std(axis=0).mean(), stddev.mean(), rtol=0.02)
    again = vae.sample_posterior(X, seed=0, batch_size=len(X))
    np.testing.assert_allclose(again, drawn[0], rtol=1e-5, atol=1e-6)
    vae.fit_sampler("normal", X, seed=7)
    fitted = to_numpy(vae.sampler("normal").mean)
    expected = vae.sample_posterior(X, seed=7).mean(axis=0)
    np.testing.assert_allclose(fitted, expected, rtol=1e-4)


@pytest.mark.once
def test_an_auto_decoder_fits_to_its_own_codes_once(monkeypatch):
    model = keras_ae.AutoDecoder(2, widths=(8,), search_steps=2)
    model.fit(X, epochs=1, verbose=0)
    assert model.can_sample and model.fitted_samplers == ()
    drawn = model.sample(3, seed=0)
    assert len(model.fitted_samplers) == 1
    monkeypatch.setattr(samplers.fitting, "fit_mixture", None)
    np.testing.assert_array_equal(model.sample(3, seed=0), drawn)
    model.remove(np.arange(5))
    assert model.fitted_samplers == ()


@pytest.mark.once
def test_bad_arguments(vae):
    ae = keras_ae.AE(2, image_shape=(6,), widths=(8,))
    gan = keras_ae.GAN(2, image_shape=(6,), widths=(8,))
    for call, message in (
        (lambda: vae.fit_sampler("glow", X), "of VAE must be 'normal', .*'glow'"),
        (lambda: ae.fit_sampler("vampprior", X), "of AE must be .*'vampprior'"),
        (lambda: gan.fit_sampler("normal", X), "has no encoder"),
        (lambda: keras_ae.AE(2).fit_sampler("normal", X), "its `image_shape` before"),
        (lambda: vae.sample(3, sampler="two"), "'two'; fitted: "),
        (lambda: vae.sample(3, sampler=["prior"]), r"sampler=\['prior'\]; fitted: "),
        (lambda: vae.fit_sampler(X), "of VAE must be .* Received: a ndarray"),
        (lambda: vae.fit_sampler("maf", X, epochs=0), "`epochs` must be"),
        (lambda: vae.fit_sampler("maf", X, held_back=1.0), "`held_back` must be"),
        (lambda: vae.fit_sampler("maf", X[:1]), "more than one value"),
        (lambda: vae.fit_sampler("maf", X, seed=-1), "`seed` must be"),
        (lambda: samplers.fit("maf", np.eye(2)), "`model` must be the one"),
        (lambda: samplers.SecondStage(widths=(0,)), "`widths\\[0\\]` must"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
