import json

import keras
import numpy as np
import pytest
from keras import ops
from numerics import gradient, to_numpy
from scipy import special, stats
from sklearn.mixture import GaussianMixture as Oracle

from keras_ae.probability import samplers
from keras_ae.probability.distributions import GaussianMixture, NormalMixture, get_prior
from keras_ae.probability.samplers import fit, fit_mixture
from keras_ae.probability.samplers.mixture import mean_log_prob

MEANS = np.array([[-4.0, 0.0, 1.0], [3.0, 3.0, 0.0]])
WEIGHTS = np.array([1.0, 3.0])


def covariances(components=2, latent_dim=3):
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(components, latent_dim, latent_dim))
    return roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(latent_dim)


def mixture():
    return GaussianMixture(MEANS, covariances(), WEIGHTS)


def codes(n, seed=0):
    """Codes from `mixture`, drawn by NumPy."""
    rng = np.random.default_rng(seed)
    component = rng.choice(2, n, p=WEIGHTS / WEIGHTS.sum())
    roots = np.linalg.cholesky(covariances())
    noise = rng.normal(size=(n, 3))
    return MEANS[component] + np.einsum("nij,nj->ni", roots[component], noise)


def mean_log_likelihood(distribution, z):
    return to_numpy(distribution.log_prob(z)).mean()


def test_log_prob_equals_scipy():
    z = np.random.default_rng(0).normal(size=(4, 6, 3)) * 4
    expected = special.logsumexp(
        [
            np.log(weight) + stats.multivariate_normal(mean, covariance).logpdf(z)
            for weight, mean, covariance in zip(
                WEIGHTS / 4, MEANS, covariances(), strict=True
            )
        ],
        axis=0,
    )
    log_prob = to_numpy(mixture().log_prob(z))
    assert log_prob.shape == (4, 6)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)
    single = to_numpy(mixture().log_prob(z[0, 0]))
    np.testing.assert_allclose(single, expected[0, 0], rtol=1e-4)


def test_diagonal_covariances_are_a_normal_mixture():
    stddevs = np.array([[0.3, 1.0, 2.0], [1.5, 0.2, 0.7]])
    full = [np.diag(np.square(row)) for row in stddevs]
    diagonal = NormalMixture(MEANS, stddevs, WEIGHTS)
    z = codes(50)
    ours = GaussianMixture(MEANS, full, WEIGHTS)
    np.testing.assert_allclose(
        to_numpy(ours.log_prob(z)), to_numpy(diagonal.log_prob(z)), rtol=1e-4
    )
    np.testing.assert_allclose(
        to_numpy(ours.sample((50, 3), seed=1)),
        to_numpy(diagonal.sample((50, 3), seed=1)),
        atol=1e-5,
    )


def test_log_prob_has_the_gradient_of_one_component():
    z = np.random.default_rng(0).normal(size=(5, 3))
    single = GaussianMixture(MEANS[:1], covariances()[:1])
    expected = -np.linalg.solve(covariances()[0], (z - MEANS[0]).T).T
    np.testing.assert_allclose(gradient(single.log_prob, z), expected, rtol=1e-3)


def test_samples_have_the_moments_of_every_component():
    sample = to_numpy(mixture().sample((2, 20_000, 3), seed=3))
    assert sample.shape == (2, 20_000, 3)
    sample = sample.reshape(-1, 3)
    weights = WEIGHTS / 4
    mean = weights @ MEANS
    between = (MEANS - mean).T @ ((MEANS - mean) * weights[:, None])
    expected = np.einsum("k,kij->ij", weights, covariances()) + between
    np.testing.assert_allclose(sample.mean(axis=0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(sample.T), expected, atol=0.3)
    # Far more than the spread lies between these two.
    apart = GaussianMixture([[-50.0] * 3, [50.0] * 3], covariances(), WEIGHTS)
    sample = to_numpy(apart.sample((40_000, 3), seed=4))
    for index, chosen in enumerate([sample[:, 0] < 0, sample[:, 0] > 0]):
        assert chosen.mean() == pytest.approx(weights[index], abs=0.01)
        np.testing.assert_allclose(
            np.cov(sample[chosen].T), covariances()[index], atol=0.2
        )


def test_seeds_repeat_integers_and_advance_generators():
    once, again = (to_numpy(mixture().sample((3, 3), seed=5)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    generator = keras.random.SeedGenerator(5)
    once, again = (to_numpy(mixture().sample((3, 3), generator)) for _ in range(2))
    assert np.abs(once - again).max() > 0.01


@pytest.mark.parametrize(
    "prior",
    [
        mixture(),
        GaussianMixture([[0.0, 1.0]], np.float32([np.eye(2)])),
        GaussianMixture(ops.zeros((1, 2)), ops.eye(2)[None]),
    ],
)
def test_configuration_survives_json(prior):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(prior)))
    restored = get_prior(config, latent_dim=prior.latent_dim)
    assert type(restored) is GaussianMixture
    assert restored.get_config() == prior.get_config()
    z = np.random.default_rng(0).normal(size=(4, prior.latent_dim))
    np.testing.assert_array_equal(
        to_numpy(restored.log_prob(z)), to_numpy(prior.log_prob(z))
    )


def test_float32_under_half_precision_inputs():
    log_prob = mixture().log_prob(ops.ones((2, 3), dtype="bfloat16"))
    assert keras.backend.standardize_dtype(log_prob.dtype) == "float32"
    sample = mixture().sample((2, 3), seed=0)
    assert keras.backend.standardize_dtype(sample.dtype) == "float32"


def changed(index, value):
    array = covariances()
    array[index] = value
    return array


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GaussianMixture([0.0], covariances()), "`means` must have shape"),
        (
            lambda: GaussianMixture([[np.inf] * 3] * 2, covariances()),
            "`means` must be finite",
        ),
        (
            lambda: GaussianMixture(MEANS, covariances()[0]),
            r"`covariances` must have shape .* \(2, 3, 3\).*shape \(3, 3\)",
        ),
        (lambda: GaussianMixture(MEANS, "a"), "`covariances` must be a number.*='a'"),
        (
            lambda: GaussianMixture([[0.0], [0.0, 1.0]], [np.eye(2)]),
            "`means` must be a number",
        ),
        (
            lambda: GaussianMixture(MEANS, changed((1, 0, 0), np.nan)),
            "`covariances` must be finite",
        ),
        (
            lambda: GaussianMixture(MEANS, changed((1, 0, 1), 9.0)),
            r"`covariances` must be symmetric.*covariances\[1\]",
        ),
        (
            lambda: GaussianMixture(MEANS, changed(0, np.diag([1.0, -2.0, 1.0]))),
            r"positive definite.*covariances\[0\].* -2",
        ),
        (
            lambda: GaussianMixture(MEANS, changed(0, np.zeros((3, 3)))),
            "positive definite",
        ),
        (
            lambda: GaussianMixture(MEANS, covariances(), [1.0, 0.0]),
            "`weights` must be > 0",
        ),
        (
            lambda: GaussianMixture(MEANS, covariances(), [1.0]),
            "`weights` must have one value",
        ),
        (lambda: mixture().sample((4, 2), seed=0), "latent_dim=3"),
        (lambda: get_prior(mixture(), latent_dim=2), "must have latent_dim=2"),
        (lambda: get_prior("mixture"), "`GaussianMixture`"),
    ],
)
def test_bad_mixtures_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_component_is_the_mean_and_covariance():
    z = codes(500)
    fitted = fit_mixture(z)
    np.testing.assert_allclose(fitted.means, [z.mean(axis=0)], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        fitted.covariances[0], np.cov(z.T, bias=True), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(fitted.weights, [1.0])


def test_em_recovers_a_clear_mixture():
    fitted = fit_mixture(codes(20_000), components=2)
    order = np.argsort(fitted.means[:, 0])
    np.testing.assert_allclose(fitted.means[order], MEANS, atol=0.1)
    np.testing.assert_allclose(fitted.weights[order], [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(fitted.covariances[order], covariances(), atol=0.25)


@pytest.mark.once
@pytest.mark.parametrize("part", [1000, 20_000])
def test_em_reaches_scikit_learns_likelihood(part, monkeypatch):
    monkeypatch.setattr(samplers.mixture, "_PART", part)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(6, 5)) * 3
    roots = rng.normal(size=(6, 5, 5))
    component = rng.integers(6, size=3000)
    noise = rng.normal(size=(3000, 5))
    z = centers[component] + np.einsum("nij,nj->ni", roots[component], noise)
    ours = mean_log_likelihood(fit_mixture(z, components=6), z)
    oracle = Oracle(6, n_init=5, random_state=0).fit(z).score(z)
    assert ours > oracle - 0.02
    assert ours > mean_log_likelihood(fit_mixture(z, components=1), z) + 0.5


def test_every_step_of_em_raises_the_likelihood():
    z = codes(2000, seed=2)
    scores = [
        mean_log_likelihood(fit_mixture(z, 4, tolerance=0.0, max_steps=steps), z)
        for steps in (1, 3, 10, 60)
    ]
    assert np.diff(scores).min() > -1e-4
    assert scores[-1] > scores[0]


def test_covariances_are_shrunk_towards_their_mean():
    z = codes(2000)
    alone, shrunk = (
        fit_mixture(z, 2, tolerance=0.0, shrinkage=shrinkage)
        for shrinkage in (0.0, 1e9)
    )
    # Far apart, the components keep their codes, and have one covariance.
    mean = np.tensordot(alone.weights, alone.covariances, 1)
    np.testing.assert_allclose(shrunk.covariances, [mean, mean], rtol=0.02, atol=0.02)
    # As many codes as the mean counts for: half and half.
    small = alone.weights.argmin()
    shared = 2000 * alone.weights[small]
    half = fit_mixture(z, 2, tolerance=0.0, shrinkage=shared / z.shape[1])
    np.testing.assert_allclose(
        half.covariances[half.weights.argmin()],
        (alone.covariances[small] + mean) / 2,
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.once
def test_few_codes_are_held_back_better_with_shrinkage():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 8)) + 3 * rng.normal(size=(6, 8))[np.arange(600) % 6]
    train, held_back = z[:120], z[120:]
    plain, shrunk = (
        mean_log_likelihood(fit_mixture(train, 6, shrinkage=shrinkage), held_back)
        for shrinkage in (0.0, 1.0)
    )
    assert shrunk > plain + 1.0


def test_fits_repeat_with_a_seed():
    z = codes(300)
    once, again = fit_mixture(z, 3, seed=4), fit_mixture(z, 3, seed=4)
    assert once.get_config() == again.get_config()


def test_components_without_codes_are_dropped():
    points = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    fitted = fit_mixture(np.repeat(points, 50, axis=0), components=10)
    assert len(fitted.means) == 3
    np.testing.assert_allclose(
        fitted.means[np.lexsort(fitted.means.T)], points, atol=1e-5
    )
    np.testing.assert_allclose(fitted.weights, 1 / 3, rtol=1e-5)
    sample = to_numpy(fitted.sample((100, 2), seed=0))
    nearest = np.abs(sample[:, None] - points).max(axis=-1).min(axis=-1)
    assert nearest.max() < 0.1


@pytest.mark.once
def test_codes_are_as_likely_as_the_mixture_says():
    z = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    fitted = fit_mixture(z, 3)
    expected = to_numpy(fitted.log_prob(z[:9])).mean()
    assert mean_log_prob(fitted, z[:9]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.once
def test_fewer_codes_than_dimensions_have_a_density():
    z = np.random.default_rng(0).normal(size=(10, 40)).astype("float32")
    z[:, 7] = 0.0
    for components in (1, 3, 10):
        fitted = fit_mixture(z, components)
        assert np.isfinite(to_numpy(fitted.log_prob(z))).all()
        assert np.isfinite(to_numpy(fitted.sample((20, 40), seed=0))).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_fit_scales_with_the_codes(scale):
    z = codes(1000)
    fitted = fit_mixture(z, 2)
    scaled = fit_mixture(z * scale + 3 * scale, 2)
    np.testing.assert_allclose(
        scaled.means, (fitted.means + 3) * scale, rtol=1e-3, atol=1e-3 * scale
    )
    np.testing.assert_allclose(
        scaled.covariances, fitted.covariances * scale**2, rtol=1e-2, atol=1e-3
    )


@pytest.mark.once
def test_codes_of_many_numbers_are_described_by_their_principal_components():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(5, 200))
    z = 3.0 + rng.normal(size=(2000, 5)) @ spread + 0.1 * rng.normal(size=(2000, 200))
    fitted = fit("gaussian", z)
    assert fitted.components == 5
    # Tipping and Bishop: the covariance, but for one variance across the components.
    variances, axes = np.linalg.eigh(np.cov(z.T, bias=True))
    variances[:-5] = variances[:-5].mean()
    covariance = axes * variances @ axes.T
    expected = stats.multivariate_normal(z.mean(axis=0), covariance)
    found = to_numpy(fitted.log_prob(z[:9].astype("float32")))
    np.testing.assert_allclose(found, expected.logpdf(z[:9]), rtol=2e-3)
    drawn = to_numpy(fitted.sample((20_000, 200), seed=0))
    np.testing.assert_allclose(drawn.mean(axis=0), z.mean(axis=0), atol=0.1)
    off = np.abs(np.cov(drawn.T) - covariance).max()
    assert off < 0.03 * np.abs(covariance).max()
    # Most of what is drawn across the components is noise of its own.
    left = drawn - drawn.mean(axis=0)
    left = left @ axes[:, :-5]
    np.testing.assert_allclose(left.std(), np.sqrt(variances[0]), rtol=0.02)


def test_samplers_by_name():
    z = codes(400)
    for name, components in (("gaussian", 1), ("mixture", 10)):
        config = fit(name, z, seed=1).get_config()
        assert config == fit_mixture(z, components, seed=1).get_config()
    assert fit("mixture", z, components=3).means.shape == (3, 3)


@pytest.mark.once
@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: fit("glow", codes(50)), "must be 'normal', 'gaussian', .*'glow'"),
        (lambda: fit(["mixture"], codes(50)), "must be 'normal', 'gaussian'"),
        (lambda: fit("mixture", codes(9)), "9 codes for components=10"),
        (lambda: fit("mixture", codes(50), epochs=5), "'mixture' are comp.*: epochs=5"),
        (lambda: fit("normal", codes(50), epochs=5), "'normal' are none.*: epochs=5"),
        (lambda: fit("flow", codes(50), foo=1), "'flow' are epochs, .*grid.*: foo=1"),
        (lambda: fit("normal", codes(9), labels=[0] * 9), "for sampler='flow'"),
        (lambda: fit_mixture(codes(9), 2.0), "`components` must be an integer >= 1"),
        (lambda: fit_mixture(codes(9), seed=-1), "`seed` must be an integer >= 0"),
        (lambda: fit_mixture(codes(9), tolerance=-1.0), "`tolerance` must be >= 0"),
        (lambda: fit_mixture(codes(9), shrinkage=-1.0), "`shrinkage` must be >= 0"),
        (lambda: fit_mixture(codes(9), max_steps=0), "`max_steps` must be an integer"),
        (lambda: fit_mixture(codes(9)[0]), r"shape \(n, latent_dim\).*shape \(3,\)"),
        (lambda: fit_mixture(np.zeros((0, 3))), r"Received: shape \(0, 3\)"),
        (lambda: fit_mixture([[np.nan, 1.0], [0.0, 1.0]]), "`codes` must be finite"),
        (lambda: fit_mixture(np.ones((5, 3))), "must not all be equal.*5 equal codes"),
        (lambda: fit_mixture(np.full((3, 1), 0.1)), "must not all be equal"),
    ],
)
def test_bad_arguments_of_samplers_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
