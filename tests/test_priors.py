"""Learned priors: densities in NumPy and on grids, and what a VAE makes of them."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy
from scipy import special, stats

import keras_ae
from keras_ae.probability import distributions, priors

PRIORS = {
    "mixture": lambda: priors.LearnedMixture(components=4),
    "vamp": lambda: priors.VampPrior(components=6),
    "flow": lambda: priors.AutoregressiveFlow(steps=2, widths=(8,)),
}


def randomized(layer, spread=0.4):
    """Gives a prior weights that are no start."""
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(0.0, spread, variable.shape))
    return layer


def built(prior, latent_dim):
    model = keras_ae.VAE(
        latent_dim, prior=prior, image_shape=(6,), architecture="dense", widths=(8,)
    )
    randomized(model.prior)
    return model


def test_mixture_in_numpy():
    prior = built(PRIORS["mixture"](), 3).prior
    means, log_vars, logits = (
        to_numpy(v) for v in (prior.means, prior.log_vars, prior.logits)
    )
    z = np.random.default_rng(1).normal(size=(5, 2, 3))
    normal = stats.norm.logpdf(z[..., None, :], means, np.exp(0.5 * log_vars))
    expected = special.logsumexp(
        normal.sum(axis=-1) + special.log_softmax(logits), axis=-1
    )
    np.testing.assert_allclose(to_numpy(prior.log_prob(z)), expected, rtol=1e-4)
    drawn = to_numpy(prior.sample((20_000, 3), seed=0))
    np.testing.assert_allclose(
        drawn.mean(axis=0), special.softmax(logits) @ means, atol=0.05
    )


def test_vamp_prior_is_the_mean_of_posteriors():
    model = built(PRIORS["vamp"](), 3)
    pseudo = np.clip(to_numpy(model.prior.pseudo_examples), -100, 100)
    posterior = model.posterior(ops.convert_to_tensor(pseudo.astype("float32")))
    mean, stddev = to_numpy(posterior.mean), to_numpy(posterior.stddev)
    z = np.random.default_rng(1).normal(size=(5, 3))
    normal = stats.norm.logpdf(z[:, None], mean, stddev).sum(axis=-1)
    expected = special.logsumexp(normal, axis=1) - np.log(len(mean))
    np.testing.assert_allclose(to_numpy(model.prior.log_prob(z)), expected, rtol=1e-3)
    drawn = to_numpy(model.prior.sample((20_000, 3), seed=0))
    np.testing.assert_allclose(drawn.mean(axis=0), mean.mean(axis=0), atol=0.1)


def test_flow_without_steps_is_its_base():
    z = np.random.default_rng(0).normal(size=(7, 3))
    expected = to_numpy(distributions.Normal().log_prob(z))
    none = built(priors.AutoregressiveFlow(steps=0), 3).prior
    np.testing.assert_allclose(to_numpy(none.log_prob(z)), expected, rtol=1e-5)
    # Before training each step is the identity.
    fresh = keras_ae.VAE(3, prior=PRIORS["flow"](), image_shape=(6,)).prior
    np.testing.assert_allclose(to_numpy(fresh.log_prob(z)), expected, rtol=1e-5)


def test_density_of_a_flow_integrates_to_one():
    prior = built(priors.AutoregressiveFlow(steps=2, widths=(16,)), 2).prior
    line = np.linspace(-12.0, 12.0, 401)
    grid = np.stack(np.meshgrid(line, line), axis=-1).astype("float32")
    density = np.exp(to_numpy(prior.log_prob(grid)))
    total = np.trapezoid(np.trapezoid(density, line, axis=1), line)
    assert total == pytest.approx(1.0, abs=0.01)


def test_log_determinant_against_a_numerical_jacobian():
    prior = built(priors.AutoregressiveFlow(steps=1, widths=(16, 16)), 4).prior
    z = np.random.default_rng(1).normal(size=4)

    def noise(z):
        mean, log_scale = prior._conditionals(0, np.float32(z)[None])
        return ((z - to_numpy(mean)) * np.exp(-to_numpy(log_scale)))[0]

    step = 1e-2
    jacobian = np.stack(
        [(noise(z + e) - noise(z - e)) / (2 * step) for e in step * np.eye(4)], axis=1
    )
    np.testing.assert_allclose(np.triu(jacobian, 1), 0.0, atol=1e-4)
    log_det = np.linalg.slogdet(jacobian)[1]
    expected = stats.norm.logpdf(noise(z)).sum() + log_det
    found = float(to_numpy(prior.log_prob(z[None]))[0])
    assert found == pytest.approx(expected, abs=0.02)


def test_samples_of_a_flow_have_its_density():
    # The mean of log p over samples is minus the entropy, which a grid gives, too.
    prior = built(priors.AutoregressiveFlow(steps=2, widths=(16,)), 2).prior
    line = np.linspace(-12.0, 12.0, 401)
    grid = np.stack(np.meshgrid(line, line), axis=-1).astype("float32")
    log_density = to_numpy(prior.log_prob(grid))
    density = np.exp(log_density)
    cell = (line[1] - line[0]) ** 2
    drawn = to_numpy(prior.sample((20_000, 2), seed=0))
    found = to_numpy(prior.log_prob(drawn)).mean()
    assert found == pytest.approx((density * log_density).sum() * cell, abs=0.03)
    mean = (density[..., None] * grid).sum(axis=(0, 1)) * cell
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.05)


@pytest.mark.thorough
@pytest.mark.parametrize("name", PRIORS)
def test_a_vae_learns_saves_and_samples_it(name, images, tmp_path):
    model = keras_ae.VAE(3, prior=PRIORS[name](), architecture="dense", widths=(16,))
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(images, epochs=1, batch_size=16, verbose=0)
    before = [to_numpy(v) for v in model.prior.trainable_variables]
    losses = model.fit(images, epochs=10, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    moved = [
        (to_numpy(v) != b).any()
        for v, b in zip(model.prior.trainable_variables, before, strict=True)
    ]
    assert all(moved)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.prior) is type(model.prior)
    np.testing.assert_array_equal(again.sample(5, seed=1), model.sample(5, seed=1))
    z = model.encode(images)
    np.testing.assert_allclose(
        to_numpy(again.prior.log_prob(z)), to_numpy(model.prior.log_prob(z)), rtol=1e-6
    )
    nats = model.log_likelihood(images[:4], samples=8, seed=0)
    np.testing.assert_allclose(
        again.log_likelihood(images[:4], samples=8, seed=0), nats, rtol=1e-5
    )
    assert len(again.weights) == len(model.weights)


def test_kl_is_estimated_from_the_code():
    flow, normal = (
        keras_ae.VAE(3, prior=prior, image_shape=(6,), architecture="linear")
        for prior in (priors.AutoregressiveFlow(steps=1), None)
    )
    x = np.random.default_rng(0).random((512, 6), dtype="float32")
    normal.encoder.set_weights(flow.encoder.get_weights())
    kls = [
        np.mean([model.evaluate(x, verbose=0, return_dict=True)["kl"] for _ in "12345"])
        for model in (flow, normal)
    ]
    assert kls[0] == pytest.approx(kls[1], abs=0.1)


@pytest.mark.once
@pytest.mark.parametrize("Model", ["AAE", "PIWAE", "InfoVAE", "FactorVAE", "GAN"])
def test_who_would_not_learn_it_refuses_it(Model):
    with pytest.raises(ValueError, match="must be one that stays as it is"):
        getattr(keras_ae, Model)(2, prior=priors.LearnedMixture())


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: priors.LearnedMixture(0), "`components` must be an integer >= 1"),
        (lambda: priors.VampPrior(0), "`components` must be an integer >= 1"),
        (lambda: priors.AutoregressiveFlow(-1), "`steps` must be an integer >= 0"),
        (lambda: priors.AutoregressiveFlow(widths=8), "`widths` must be a list"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
