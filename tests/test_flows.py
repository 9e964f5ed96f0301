"""Posteriors beyond the diagonal normal one: against NumPy, SciPy and exact models."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from numerics import gradient, to_numpy
from scipy import stats

import keras_ae
from keras_ae.probability import distributions, divergences, flows, likelihoods

BATCH, DIM = 2, 3
FLOWS = ["PlanarFlowVAE", "SylvesterFlowVAE", "IAFVAE"]
MODELS = ["FullCovarianceVAE", *FLOWS]
SMALL = {
    "PlanarFlowVAE": {"steps": 4},
    "SylvesterFlowVAE": {"steps": 2, "reflections": 2},
    "IAFVAE": {"steps": 2, "context_dim": 4, "flow_widths": (8,)},
}


def array(*shape, seed=0, spread=1.0):
    return np.random.default_rng(seed).normal(0.0, spread, shape).astype("float32")


def planar(*arrays):
    return flows.planar(*(ops.convert_to_tensor(a, "float32") for a in arrays))


def masked_network(dim, context_dim=None, widths=(16,)):
    """A masked network with weights that are no start."""
    network = flows.MaskedNetwork(widths)
    network.build((None, dim), None if context_dim is None else (None, context_dim))
    for seed, weight in enumerate(network.weights):
        weight.assign(array(*weight.shape, seed=seed, spread=0.7))
    return network


def step(name, batch=BATCH, dim=DIM):
    """A step of a flow with random parameters, a function of z."""
    if name == "planar":
        parameters = {
            "u": array(batch, dim, seed=1, spread=2.0),
            "w": array(batch, dim, seed=2),
            "bias": array(batch, 1, seed=3),
        }
    elif name == "sylvester":
        parameters = {
            "reflections": array(batch, 2, dim, seed=1),
            "right": array(batch, dim, dim, seed=2),
            "left": array(batch, dim, dim, seed=3),
            "bias": array(batch, dim, seed=4),
        }
    else:
        network = masked_network(dim, 5)
        parameters = {"context": array(batch, 5, seed=1)}
        return functools.partial(
            flows.inverse_autoregressive, network=network, **parameters
        )
    parameters = {k: ops.convert_to_tensor(v) for k, v in parameters.items()}
    return functools.partial(getattr(flows, name), **parameters)


STEPS = ["planar", "sylvester", "inverse_autoregressive"]


def jacobians(function, z, size=5e-3):
    """Central differences of a function of codes (batch, dim): (batch, dim, dim)."""
    moves = size * np.eye(z.shape[-1])[:, None]  # (dim, 1, dim)
    ahead, behind = (
        to_numpy(function(ops.convert_to_tensor((z + sign * moves).astype("float32"))))
        for sign in (1, -1)
    )
    return np.transpose((ahead - behind) / (2 * size), (1, 2, 0))


@pytest.mark.parametrize("name", STEPS)
def test_log_determinant_against_a_numerical_jacobian(name):
    function, z = step(name), array(BATCH, DIM, seed=9)
    found = to_numpy(function(ops.convert_to_tensor(z))[1])
    jacobian = jacobians(lambda z: function(z)[0], z)
    sign, expected = np.linalg.slogdet(jacobian)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (np.abs(expected) > 0.005).all()
    if name != "inverse_autoregressive":
        assert (sign > 0).all()
    else:
        # Reversed at the end; number j depends on those up to j.
        np.testing.assert_allclose(np.triu(jacobian[:, ::-1], 1), 0.0, atol=1e-3)


@pytest.mark.parametrize("name", STEPS)
def test_density_of_what_is_drawn_is_that_of_a_distribution(name):
    # The mean over q of g / q is the integral of g, 1 for a density.
    function = step(name, batch=1, dim=2)
    base = distributions.Normal.from_log_var(np.zeros((1, 2)), np.full((1, 2), 0.5))
    posterior = flows.FlowPosterior(base, [function, function])
    noise = ops.convert_to_tensor(array(40_000, 1, 2, seed=5))
    z, log_q = posterior.draw(noise)
    z, log_q = to_numpy(z), to_numpy(log_q)
    assert z.shape == (40_000, 1, 2) and log_q.shape == (40_000, 1)
    center = z.mean(axis=0)[0]
    log_g = stats.multivariate_normal(center, 0.5 * np.cov(z[:, 0].T)).logpdf(z[:, 0])
    ratio = np.exp(log_g - log_q[:, 0])
    assert ratio.mean() == pytest.approx(1.0, abs=5 * ratio.std() / 200)
    assert ratio.std() < 5


def test_planar_steps_are_invertible_and_finite_at_their_limits():
    # Along w, where û would turn codes around.
    w = np.array([[1.0, 2.0]], "float32")
    line = np.linspace(-3, 3, 401, dtype="float32")[:, None, None] * w
    for strength in (-1.0, -100.0):
        moved, log_det = planar(line, strength * w, w, np.zeros((1, 1)))
        along = to_numpy(moved)[:, 0] @ w[0]
        assert (np.diff(along) > -1e-5).all()
        assert np.isfinite(to_numpy(log_det)).all()
    # A plane that vanishes.
    u, z = np.full((1, 2), 3.0, "float32"), array(1, 2)
    for size in (0.0, 1e-8, 1e-3):
        moved, log_det = planar(z, u, size * w, np.ones((1, 1)))
        assert np.abs(to_numpy(moved) - z).max() < 5
        np.testing.assert_allclose(to_numpy(log_det), 0.0, atol=0.02)
    slope = gradient(lambda w: planar(z, u, w, np.ones((1, 1)))[1], 0.0 * w)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_reflections_are_orthogonal(count):
    vectors = array(BATCH, count, DIM)
    q = to_numpy(flows.householder(ops.convert_to_tensor(vectors)))
    expected = np.stack([np.eye(DIM)] * BATCH)
    for v in np.moveaxis(vectors.astype("float64"), 1, 0):
        outer = v[:, :, None] * v[:, None] / np.square(v).sum(1)[:, None, None]
        expected = expected @ (np.eye(DIM) - 2 * outer)
    np.testing.assert_allclose(q, expected, atol=1e-5)
    identity = [np.eye(DIM)] * BATCH
    np.testing.assert_allclose(q @ np.swapaxes(q, 1, 2), identity, atol=1e-5)


def test_sylvester_in_numpy():
    z, bias = array(1, DIM), array(1, DIM, seed=1)
    vectors, right, left = array(1, 2, DIM, seed=2), *array(2, 1, DIM, DIM, seed=3)
    moved, _ = flows.sylvester(
        *map(ops.convert_to_tensor, (z, vectors, right, left, bias))
    )
    q = np.eye(DIM)
    for v in vectors[0].astype("float64"):
        q = q @ (np.eye(DIM) - 2 * np.outer(v, v) / (v @ v))
    right, left = (
        np.triu(m[0], 1) + np.diag(0.999 * np.tanh(np.diag(m[0])))
        for m in (right, left)
    )
    expected = z[0] + q @ left @ np.tanh(right @ q.T @ z[0] + bias[0])
    np.testing.assert_allclose(to_numpy(moved)[0], expected, atol=1e-5)


@pytest.mark.parametrize("context_dim", [None, 5])
@pytest.mark.parametrize("widths", [(), (7, 9)])
def test_masked_network_looks_back_only(widths, context_dim):
    network = masked_network(4, context_dim, widths)
    context = None if context_dim is None else array(1, context_dim)
    z = array(1, 4, seed=3)
    for part in range(2):
        jacobian = jacobians(lambda z, part=part: network(z, context)[part], z)[0]
        np.testing.assert_allclose(np.triu(jacobian), 0.0, atol=1e-4)
        assert (np.abs(jacobian[np.tril_indices(4, -1)]) > 1e-4).all()
    if context_dim is not None:
        # Every number is told of the context, the first one, too.
        for part in range(2):
            slopes = [
                gradient(lambda c, j=j: network(z, c)[part][:, j], context)  # noqa: B023
                for j in range(4)
            ]
            assert (np.abs(slopes).max(axis=(1, 2)) > 0).all()


def full_normal():
    lower = np.tril(array(BATCH, DIM, DIM, seed=2), -1)
    mean, log_var = array(BATCH, DIM), array(BATCH, DIM, seed=1)
    posterior = distributions.MultivariateNormal(mean, log_var, lower)
    factor = lower + np.exp(0.5 * log_var)[..., None] * np.eye(DIM)
    return posterior, mean, factor @ np.swapaxes(factor, 1, 2)


def test_full_covariance_against_scipy():
    posterior, means, covariances = full_normal()
    z = array(5, BATCH, DIM, seed=7)
    expected = [
        stats.multivariate_normal(mean, covariance).logpdf(z[:, i])
        for i, (mean, covariance) in enumerate(zip(means, covariances, strict=True))
    ]
    found = posterior.log_prob(z)
    np.testing.assert_allclose(to_numpy(found), np.transpose(expected), rtol=1e-4)
    np.testing.assert_allclose(to_numpy(posterior.log_prob(z[0])), to_numpy(found)[0])
    drawn, log_prob = posterior.draw(array(40_000, BATCH, DIM, seed=8))
    np.testing.assert_allclose(
        to_numpy(log_prob), to_numpy(posterior.log_prob(drawn)), atol=1e-3
    )
    drawn = to_numpy(drawn)
    np.testing.assert_allclose(drawn.mean(axis=0), means, atol=0.05)
    for i, covariance in enumerate(covariances):
        np.testing.assert_allclose(np.cov(drawn[:, i].T), covariance, atol=0.15)
    assert tuple(posterior.sample(seed=0).shape) == (BATCH, DIM)


def test_full_covariance_kl_in_numpy():
    posterior, means, covariances = full_normal()
    center, stddev = np.array([0.3, -0.2, 0.5]), np.array([0.5, 1.0, 2.0])
    prior = distributions.Normal(center, stddev)
    precision = np.diag(stddev**-2)
    expected = [
        0.5
        * (
            np.trace(precision @ covariance)
            + (mean - center) @ precision @ (mean - center)
            - DIM
            - np.linalg.slogdet(precision @ covariance)[1]
        )
        for mean, covariance in zip(means, covariances, strict=True)
    ]
    z = posterior.sample(seed=0)
    found = to_numpy(divergences.kl(posterior, prior, z))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # Of each dimension given those before it: none is negative.
    parts = to_numpy(divergences.kl_normal(posterior, prior))
    assert parts.shape == (BATCH, DIM) and (parts >= 0).all()
    np.testing.assert_allclose(parts.sum(axis=1), expected, rtol=1e-4)
    # What a mixture of one component is given is an estimate of the same.
    mixture = distributions.NormalMixture([center], [stddev])
    z = posterior.sample((40_000, BATCH, DIM), seed=1)
    estimates = to_numpy(divergences.kl(posterior, mixture, z))
    np.testing.assert_allclose(estimates.mean(axis=0), expected, rtol=0.03)


def linear_gaussian(name, **kwargs):
    """A model whose decoder is linear, and the exact density of x."""
    loadings = np.array([[1.0, 0.5, 0.0, -0.5], [0.9, 0.6, 0.2, -0.3]], "float32")
    model = getattr(keras_ae, name)(
        2,
        image_shape=(4,),
        architecture="linear",
        likelihood=likelihoods.Gaussian(scale=0.5),
        **SMALL.get(name, {}),
        **kwargs,
    )
    model.decoder.layers[-1].set_weights([loadings, np.zeros(4)])
    model.decoder.trainable = False
    model.compile(keras.optimizers.Adam(0.03))
    covariance = loadings.T @ loadings + 0.25 * np.eye(4)
    precision = np.eye(2) + loadings @ loadings.T / 0.25
    return model, stats.multivariate_normal(np.zeros(4), covariance), precision


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_log_likelihood_converges_to_the_exact_one(name):
    model, exact, precision = linear_gaussian(name)
    for seed, weight in enumerate(model.trainable_variables):
        if "decoder" not in weight.path:
            weight.assign(array(*weight.shape, seed=seed, spread=0.3))
    heads = {layer.name: layer for layer in model.encoder.layers}
    mean = (
        np.linalg.solve(precision, model.decoder.layers[-1].get_weights()[0]).T / 0.25
    )
    heads["mean"].set_weights([mean, np.zeros(2)])
    # Wider than the exact posterior, as importance sampling wants it.
    heads["log_var"].set_weights([np.zeros((4, 2)), np.full(2, 1.5)])
    x = exact.rvs(4, random_state=1).astype("float32")
    many = model.log_likelihood(x, samples=20_000, seed=0)
    np.testing.assert_allclose(many, exact.logpdf(x), atol=0.1)
    few = model.log_likelihood(x, samples=1, seed=0)
    assert few.mean() < many.mean()
    # A code is what becomes of the posterior's mean where there is no noise.
    posterior = model.posterior(ops.convert_to_tensor(x))
    z = to_numpy(posterior.draw(ops.zeros((4, 2)))[0])
    np.testing.assert_allclose(model.encode(x), z, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VAE", *MODELS])
def test_who_reaches_the_evidence_where_codes_are_correlated(name):
    model, exact, precision = linear_gaussian(name)
    # What the best diagonal posterior leaves, in nats.
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert gap > 0.4
    x = exact.rvs(1024, random_state=1).astype("float32")
    model.fit(x, epochs=100, batch_size=128, verbose=0)
    elbo = model.evaluate(x, batch_size=512, verbose=0, return_dict=True)["elbo"]
    left = (exact.logpdf(x).mean() - elbo) / gap

    if name == "VAE":
        assert left > 0.8
    else:
        assert left < (0.05 if name == "FullCovarianceVAE" else 0.6)


class FixedNoise(keras.layers.Layer):
    """Stands in for the sampling layer, with the same noise for every model."""

    def call(self, mean, log_var):
        noise = ops.convert_to_tensor(array(*mean.shape, seed=4))
        return mean + ops.exp(0.5 * log_var) * noise


@pytest.mark.once
@pytest.mark.parametrize("name", MODELS)
def test_without_steps_it_is_a_vae(name):
    dim = 1 if name == "FullCovarianceVAE" else DIM
    kwargs = {} if name == "FullCovarianceVAE" else {"steps": 0}
    settings = {"architecture": "dense", "widths": (5,), "beta": 0.5}
    plain = keras_ae.VAE(dim, **settings)
    model = getattr(keras_ae, name)(dim, **kwargs, **settings)
    for each in (plain, model):
        each.sampling = FixedNoise()
        each.build((None, 6))
    model.set_weights(plain.get_weights())
    x = ops.convert_to_tensor(np.abs(array(4, 6)))
    found = []
    for each in (plain, model):
        outputs = each(x)
        terms = each.terms(x, outputs)
        found.append({**terms, **each.monitors(x, outputs, terms), "z": outputs["z"]})
    for figure, value in found[0].items():
        np.testing.assert_array_equal(to_numpy(found[1][figure]), to_numpy(value))
    noise = ops.convert_to_tensor(array(3, 4, dim, seed=6))
    np.testing.assert_array_equal(
        *(to_numpy(each._log_weights(noise, x)) for each in (plain, model))
    )
    np.testing.assert_array_equal(model.encode(x), plain.encode(x))


@pytest.mark.once
@pytest.mark.parametrize("name", MODELS)
def test_any_prior_that_has_a_density(name):
    priors = [
        distributions.NormalMixture([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]]),
        keras_ae.priors.LearnedMixture(2),
    ]
    x = ops.convert_to_tensor(np.abs(array(4, 6)))
    for prior in priors:
        model = getattr(keras_ae, name)(
            DIM,
            prior=prior,
            image_shape=(6,),
            architecture="linear",
            **SMALL.get(name, {}),
        )
        outputs = model(x)
        # The weight of the code that was drawn.
        expected = outputs["log_posterior"] - model.prior.log_prob(outputs["z"])
        np.testing.assert_allclose(
            to_numpy(model.kl(outputs)), to_numpy(expected), atol=1e-3
        )
    learned = {id(v) for v in model.prior.trainable_variables}
    assert learned and learned <= {id(v) for v in model.trainable_variables}
    with pytest.raises(ValueError, match=rf"`prior` must be .*{name} does not have"):
        vamp = keras_ae.priors.VampPrior(3)
        type(model)(DIM, prior=vamp, image_shape=(6,), architecture="linear")


def test_free_bits_of_a_full_covariance():
    x = ops.convert_to_tensor(np.abs(array(8, 6)))
    model = keras_ae.FullCovarianceVAE(
        DIM, free_bits=50.0, image_shape=(6,), architecture="linear"
    )
    outputs = model(x)
    np.testing.assert_allclose(to_numpy(model.kl(outputs, 50.0)), 150.0)
    assert (to_numpy(model.kl(outputs)) < 150).all()


def test_a_posterior_can_be_sampled():
    model = keras_ae.PlanarFlowVAE(DIM, image_shape=(6,), architecture="linear")
    posterior = model.posterior(ops.convert_to_tensor(np.abs(array(8, 6))))
    drawn = [to_numpy(posterior.sample(seed=1)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    assert drawn[0].shape == (8, DIM)
    assert tuple(posterior.sample((5, 8, DIM), seed=1).shape) == (5, 8, DIM)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        *(
            (name, {"steps": -1}, "`steps` must be an integer >= 0. Received: .*-1")
            for name in FLOWS
        ),
        *(
            (name, {"free_bits": 0.1}, "`free_bits` must be left out: the KL is known")
            for name in FLOWS
        ),
        ("SylvesterFlowVAE", {"reflections": 0}, "`reflections` must be an integer"),
        ("IAFVAE", {"context_dim": 0}, "`context_dim` must be an integer >= 1"),
        ("IAFVAE", {"flow_widths": 8}, "`flow_widths` must be a list"),
        ("IAFVAE", {"flow_widths": (0,)}, r"`flow_widths\[0\]` must be an integer"),
    ],
)
def test_bad_arguments(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(keras_ae, name)(DIM, **arguments)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FullCovarianceVAE", r"'lower' \(batch, 3\)"),
        ("PlanarFlowVAE", r"'flow' \(batch, 56\)"),
        ("SylvesterFlowVAE", r"'flow' \(batch, 156\)"),
        ("IAFVAE", r"'flow' \(batch, 64\)"),
    ],
)
def test_an_encoder_must_give_what_the_posterior_needs(name, expected):
    x = keras.Input((6,))
    heads = {head: keras.layers.Dense(DIM)(x) for head in ("mean", "log_var")}
    with pytest.raises(ValueError, match=f"`encoder` must be .*{expected}"):
        getattr(keras_ae, name)(
            DIM, image_shape=(6,), encoder=keras.Model(x, heads), architecture="linear"
        )
