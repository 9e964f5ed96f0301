"""Codes on the sphere, in hyperbolic space and along Hamiltonian dynamics."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import gradient, to_numpy
from scipy import special, stats

import keras_ae
from keras_ae.models.variational.hamiltonian import leapfrog
from keras_ae.probability import likelihoods
from keras_ae.probability.manifolds import (
    HyperbolicSpace,
    UniformOnSphere,
    VonMisesFisher,
    WrappedNormal,
)

# Dimensions of spheres with concentrations for which SciPy's functions have digits.
SPHERES = [(2, 0.1), (2, 5.0), (3, 0.3), (3, 300.0), (5, 1e4), (20, 8.0), (20, 1e6)]
SPHERES += [(200, 150.0), (200, 1e5)]
of_spheres = pytest.mark.parametrize(("dim", "kappa"), SPHERES)


def direction(dim):
    vector = np.random.default_rng(dim).normal(size=dim)
    return vector / np.linalg.norm(vector)


def mean_cosine(dim, kappa):
    """A(κ), the derivative of the logarithm of the normalising integral."""
    return special.ive(dim / 2, kappa) / special.ive(dim / 2 - 1, kappa)


def log_peak(dim, kappa):
    """The von Mises-Fisher log-density at its mean."""
    order = dim / 2 - 1
    constant = order * np.log(kappa) - dim / 2 * np.log(2 * np.pi)
    return constant - np.log(special.ive(order, kappa))


def tensor(array):
    return ops.convert_to_tensor(array, "float32")


def normal_noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


class FixedNoise(keras.layers.Layer):
    """Stands in for the sampling layer: the same noise in every call."""

    def call(self, mean, log_var):
        noise = ops.convert_to_tensor(normal_noise(64, mean.shape[-1]))
        return mean + ops.exp(0.5 * log_var) * noise[: ops.shape(mean)[0]]


def make(Model, sampling=None, **options):
    """A small model of vectors; `sampling` stands in for its own."""
    keras.utils.set_random_seed(3)
    settings = {
        "latent_dim": 2,
        "architecture": "dense",
        "widths": (16,),
        "activation": "tanh",
        "likelihood": likelihoods.Gaussian(1.0),
    }
    model = Model(**{**settings, **options})
    if sampling is not None:
        model.sampling = sampling
    model.build((None, 6))
    return model


def weaken(model):
    """Makes an untrained posterior say little about x, as is right of it."""
    for layer in model.encoder.layers:
        if layer.name in model.encoder_heads:
            layer.set_weights([0.2 * weight for weight in layer.get_weights()])
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).random((8, 6), dtype="float32")


@of_spheres
def test_von_mises_fisher_density(dim, kappa):
    mean = direction(dim)
    found = VonMisesFisher(mean, kappa)
    peak = log_peak(dim, kappa)
    np.testing.assert_allclose(to_numpy(found.log_prob(mean)), peak, rtol=1e-5)
    if dim <= 5:
        rng = np.random.default_rng(1)
        z = stats.vonmises_fisher(mean, kappa).rvs(9, random_state=rng)
        expected = stats.vonmises_fisher(mean, kappa).logpdf(z)
        np.testing.assert_allclose(to_numpy(found.log_prob(z)), expected, rtol=1e-3)


@of_spheres
def test_von_mises_fisher_kl(dim, kappa):
    kl = log_peak(dim, kappa) - kappa * (1 - mean_cosine(dim, kappa))
    kl += UniformOnSphere(dim).log_area
    found = to_numpy(VonMisesFisher(direction(dim), kappa).kl())
    np.testing.assert_allclose(found, kl, rtol=1e-4, atol=1e-5)
    if dim <= 5:
        entropy = stats.vonmises_fisher(direction(dim), kappa).entropy()
        expected = UniformOnSphere(dim).log_area - entropy
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@of_spheres
def test_gradients_in_the_concentration(dim, kappa):
    mean = direction(dim)
    cosine = mean_cosine(dim, kappa)
    slope = gradient(lambda kappa: VonMisesFisher(mean, kappa).log_prob(mean), kappa)
    np.testing.assert_allclose(slope, 1 - cosine, rtol=1e-3)
    # dKL/dκ = κ A'(κ), A' = 1 - (d - 1) A / κ - A²
    curve = 1 - (dim - 1) * cosine / kappa - cosine**2
    slope = gradient(lambda kappa: VonMisesFisher(mean, kappa).kl(), kappa)
    np.testing.assert_allclose(slope, kappa * curve, rtol=2e-3)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 0.0), (2, 3.0), (3, 50.0), (20, 9.0)])
def test_von_mises_fisher_draws(dim, kappa):
    mean = direction(dim)
    found = VonMisesFisher(mean, kappa)
    z, log_prob = map(to_numpy, found.draw(normal_noise(20_000, dim + 1)))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(log_prob, to_numpy(found.log_prob(z)), atol=1e-3)

    angles = np.linspace(0, np.pi, 20_001)
    density = np.sin(angles) ** (dim - 2) * np.exp(kappa * (np.cos(angles) - 1))
    below = np.cumsum(density) / np.sum(density)
    angle = np.arccos(np.clip(z @ mean, -1, 1))
    test = stats.kstest(angle, lambda angle: np.interp(angle, angles, below))
    assert test.pvalue > 0.01

    # The same in every direction along the sphere.
    along = z - (z @ mean)[:, None] * mean
    covariance = along.T @ along / len(along)
    variance = np.mean(np.sum(along**2, axis=1)) / (dim - 1)
    expected = variance * (np.eye(dim) - np.outer(mean, mean))
    np.testing.assert_allclose(covariance, expected, atol=4 * variance / 100)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 3.0), (3, 0.5), (3, 200.0), (20, 9.0)])
def test_draws_have_the_gradient_of_their_expectation(dim, kappa):
    mean = direction(dim)
    count = 4000
    noise = normal_noise(count, dim + 1)
    noise[:, 0] = stats.norm.ppf((np.arange(count) + 0.5) / count)

    def square(kappa):  # E cos²θ = 1 - (d - 1) A / κ
        z, _ = VonMisesFisher(mean, kappa).draw(noise)
        cosine = ops.sum(z * tensor(mean), axis=-1)
        return ops.mean(ops.square(cosine))

    cosine = mean_cosine(dim, kappa)
    curve = 1 - (dim - 1) * cosine / kappa - cosine**2
    expected = (dim - 1) * (cosine / kappa - curve) / kappa
    np.testing.assert_allclose(gradient(square, kappa), expected, rtol=0.01)

    target = direction(dim + 1)[:dim]
    mirrored = noise * np.r_[1, -np.ones(dim)].astype("float32")

    def product(mean):  # E z = A mean
        draws = [VonMisesFisher(mean, kappa).draw(n)[0] for n in (noise, mirrored)]
        return ops.mean(ops.sum(sum(draws) * tensor(target), axis=-1)) / 2

    expected = cosine * (target - (target @ mean) * mean)
    np.testing.assert_allclose(gradient(product, mean), expected, atol=0.03)


@pytest.mark.parametrize("kappa", [0.0, 1e-8, 1e9])
def test_no_concentration_is_too_much(kappa):
    mean, noise = direction(10), normal_noise(50, 11)

    def total(kappa):
        found = VonMisesFisher(mean, kappa)
        z, log_prob = found.draw(noise)
        return ops.sum(z) + ops.sum(log_prob) + found.kl()

    assert np.isfinite(to_numpy(total(tensor(kappa))))
    assert np.isfinite(gradient(total, kappa))


def test_uniform_on_the_sphere():
    uniform = UniformOnSphere(3)
    z = to_numpy(uniform.sample((5000, 3), seed=0))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(3) / 3, atol=0.02)
    log_prob = to_numpy(uniform.log_prob(z))
    np.testing.assert_allclose(log_prob, np.full(5000, -np.log(4 * np.pi)), rtol=1e-6)


def in_ball(z, curvature):
    """The points of the Poincaré ball for vectors at the origin, in float64."""
    length = np.sqrt(curvature) * np.linalg.norm(z, axis=-1, keepdims=True)
    return z * np.tanh(length / 2) / length


def from_ball(z, curvature):
    length = np.sqrt(curvature) * np.linalg.norm(z, axis=-1, keepdims=True)
    return z * 2 * np.arctanh(length) / length


def moebius_sum(x, y, curvature):
    dot, x2, y2 = (
        curvature * np.sum(a * b, axis=-1, keepdims=True)
        for a, b in ((x, y), (x, x), (y, y))
    )
    return ((1 + 2 * dot + y2) * x + (1 - x2) * y) / (1 + 2 * dot + x2 * y2)


@pytest.mark.parametrize("curvature", [0.3, 1.0, 4.0])
def test_exp_and_log_maps_and_distances(curvature):
    space = HyperbolicSpace(curvature)
    # The way back from far away has few digits in float32.
    lengths = np.linspace(0.01, 1.5, 50)[:, None] / np.sqrt(curvature)
    x, v = normal_noise(2, 50, 3) * lengths
    a, b = (in_ball(z, curvature) for z in (x, v))
    end = space.exp(tensor(x), tensor(v))
    expected = moebius_sum(a, b, curvature)
    np.testing.assert_allclose(
        to_numpy(end), from_ball(expected, curvature), rtol=1e-3, atol=1e-4
    )
    found = to_numpy(space.to_ball(end))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    back = to_numpy(space.log(tensor(x), end))
    np.testing.assert_allclose(back, v, rtol=1e-3, atol=2e-3)

    ratio = curvature * np.sum((a - b) ** 2, axis=1)
    ratio /= 1 - curvature * np.sum(a**2, axis=1)
    ratio /= 1 - curvature * np.sum(b**2, axis=1)
    expected = np.arccosh(1 + 2 * ratio) / np.sqrt(curvature)
    distance = to_numpy(space.distance(tensor(x), tensor(v)))
    np.testing.assert_allclose(distance, expected, rtol=1e-3)
    assert to_numpy(space.distance(tensor(x), tensor(x))).max() < 0.01
    walked = to_numpy(space.distance(tensor(x), end))
    np.testing.assert_allclose(walked, np.linalg.norm(v, axis=1), rtol=1e-3)


def test_the_exponential_map_stretches_volume():
    space = HyperbolicSpace(0.7)
    v = np.array([[0.1, 0.02, -0.05], [0.7, -1.1, 0.4], [2.0, 1.0, -3.0]], "float32")
    jacobian = np.stack(
        [gradient(lambda v, i=i: space.to_ball(v)[:, i], v) for i in range(3)], 1
    )
    metric = 2 / (1 - 0.7 * np.sum(in_ball(v, 0.7) ** 2, axis=1))
    expected = np.log(np.linalg.det(jacobian) * metric**3)
    found = 2 * to_numpy(space.log_stretch(tensor(np.linalg.norm(v, axis=1))))
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("curvature", [0.5, 2.0])
def test_wrapped_normal_integrates_to_1(curvature):
    wrapped = WrappedNormal([0.6, -0.4], [0.5, 0.3], curvature)
    line = (np.arange(400) + 0.5) / 200 - 1
    z = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    z = z[np.linalg.norm(z, axis=1) < 0.999] / np.sqrt(curvature)
    volume = (2 / (1 - curvature * np.sum(z**2, axis=1))) ** 2 / 200**2 / curvature
    log_prob = to_numpy(wrapped.log_prob(from_ball(z, curvature)))
    total = np.sum(np.exp(log_prob) * volume)
    assert total == pytest.approx(1, abs=1e-3)


def test_wrapped_normal_draws():
    wrapped = WrappedNormal([[0.3, -0.2]], [[0.5, 0.3]], 2.0)
    noise = normal_noise(1000, 1, 2)
    z, log_prob = wrapped.draw(noise)
    np.testing.assert_allclose(
        to_numpy(log_prob), to_numpy(wrapped.log_prob(z)), atol=2e-3
    )
    distance = to_numpy(wrapped.space.distance(wrapped.mean, z))
    expected = np.linalg.norm(noise * [0.5, 0.3], axis=-1)
    np.testing.assert_allclose(distance, expected, atol=1e-3)
    again = [to_numpy(wrapped.sample((5, 2), seed=s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert (again[0] != again[2]).any()


def test_flat_space_has_the_normal_distribution():
    wrapped = WrappedNormal([0.3, -0.2], 0.8, 1e-7)
    z = normal_noise(9, 2)
    expected = stats.norm([0.3, -0.2], 0.8).logpdf(z).sum(axis=1)
    np.testing.assert_allclose(to_numpy(wrapped.log_prob(z)), expected, rtol=1e-3)


@pytest.mark.parametrize("length", [0.0, 1e-4, 30.0, 1e5])
def test_no_distance_is_too_far(length):
    space, v = HyperbolicSpace(4.0), np.array([[length, 0.0, 0.0]])
    for mean in ([0.0, 0.0, 0.0], [40.0, 0.0, 0.0], [0.0, 1e4, 0.0]):

        def total(v, mean=mean):
            z, log_prob = WrappedNormal(mean, 1.0, 4.0).draw(v)
            return log_prob + ops.sum(z)

        end = to_numpy(space.exp(tensor([mean]), tensor(v)))
        if mean[1]:
            # Two long ways at right angles: all but log(2) / √c of both.
            expected = mean[1] + length - (np.log(2) / 2 if length > 1 else 0)
        else:
            expected = mean[0] + length
        assert np.linalg.norm(end) == pytest.approx(expected, rel=1e-4)
        assert np.isfinite(to_numpy(total(tensor(v))))
        assert np.isfinite(gradient(total, v)).all()


def test_reversed_dynamics_return():
    z, momentum = normal_noise(2, 5, 3)
    step = tensor([0.1, 0.2, 0.05])

    def force(z):
        return -ops.power(z, 3) + ops.sin(z)

    end, fast = leapfrog(force, tensor(z), tensor(momentum), step, [1.0] * 8)
    assert np.abs(to_numpy(end) - z).max() > 0.3
    start, back = leapfrog(force, end, -fast, step, [1.0] * 8)
    np.testing.assert_allclose(to_numpy(start), z, atol=1e-5)
    np.testing.assert_allclose(to_numpy(back), -momentum, atol=1e-5)


@pytest.mark.parametrize("roots", [[1.0] * 4, [2.0, 1.8, 1.3, 1.0]])
def test_dynamics_preserve_volume_but_for_cooling(roots):
    def flow(state, row):
        state = ops.reshape(state, (1, 4))

        def force(z):
            return ops.sin(3.0 * z) * ops.flip(z, axis=-1)

        return ops.concatenate(
            leapfrog(force, state[:, :2], state[:, 2:], 0.3, roots), axis=-1
        )[0, row]

    state = normal_noise(4)
    jacobian = [gradient(lambda s, row=row: flow(s, row), state) for row in range(4)]
    expected = (roots[-1] / roots[0]) ** 2
    assert np.linalg.det(jacobian) == pytest.approx(expected, rel=1e-4)


def linear_gaussian(Model, **options):
    """A model of two factors with too wide a posterior beside the true one."""
    rng = np.random.default_rng(0)
    loadings = np.linalg.qr(rng.normal(size=(6, 2)))[0] * [1.5, 0.7]  # (6, 2)
    options["likelihood"] = likelihoods.Gaussian(0.5)
    model = make(Model, architecture="linear", widths=None, **options)
    precision = (loadings**2).sum(0) / 0.25 + 1
    head = {layer.name: layer for layer in model.encoder.layers}
    head["mean"].set_weights([loadings / 0.25 / precision, np.full(2, 0.3)])
    head["log_var"].set_weights([np.zeros((6, 2)), 1.0 - np.log(precision)])
    model.decoder.layers[-1].set_weights([loadings.T, np.zeros(6)])
    covariance = loadings @ loadings.T + 0.25 * np.eye(6)
    return model, stats.multivariate_normal(np.zeros(6), covariance)


def test_hamiltonian_bound():
    plain, exact = linear_gaussian(keras_ae.VAE)
    model, _ = linear_gaussian(keras_ae.HamiltonianVAE, leapfrog_steps=3)
    # Steps of 0.12 at a root of 1 / 1.1.
    model.step_logits.assign(np.full(2, special.logit(0.12 / 0.5)))
    model.root_logit.assign(special.logit(1 / 1.1))
    x = exact.rvs(4, random_state=1).astype("float32")
    many = model.log_likelihood(x, samples=10_000, seed=0)
    np.testing.assert_allclose(many, exact.logpdf(x), atol=0.03)
    often = np.repeat(x, 250, axis=0)
    bound, bound_of_vae = (
        m.log_likelihood(often, samples=1, seed=0).mean() for m in (model, plain)
    )
    assert bound_of_vae + 0.1 < bound < exact.logpdf(x).mean()


def test_without_steps_it_is_a_vae(x):
    plain = make(keras_ae.VAE)
    still = make(keras_ae.HamiltonianVAE, leapfrog_steps=0)
    np.testing.assert_array_equal(still.encode(x), plain.encode(x))
    outputs = still(tensor(x))
    posterior = plain.posterior(tensor(x))
    expected = posterior.log_prob(outputs["z"]) - plain.prior.log_prob(outputs["z"])
    np.testing.assert_allclose(
        to_numpy(outputs["kl"]), to_numpy(expected), rtol=1e-4, atol=1e-5
    )


def test_hamiltonian_gradients_are_those_of_its_loss(x):
    model = make(keras_ae.HamiltonianVAE, FixedNoise(), leapfrog_steps=2)
    model.step_logits.assign(np.zeros(2))
    model.compile(keras.optimizers.SGD(1.0))
    before = [np.copy(to_numpy(v)) for v in model.trainable_variables]
    model.train_on_batch(x)
    after = [np.copy(to_numpy(v)) for v in model.trainable_variables]
    for index, variable in enumerate(model.trainable_variables):
        slope = before[index] - after[index]
        where = np.unravel_index(np.abs(slope).argmax(), slope.shape)
        assert slope[where] != 0
        losses = []
        for step in (0.01, -0.01):
            moved = [value.copy() for value in before]
            moved[index][where] += step
            for v, value in zip(model.trainable_variables, moved, strict=True):
                v.assign(value)
            losses.append(model.evaluate(x, verbose=0, return_dict=True)["loss"])
        found = (losses[0] - losses[1]) / 0.02
        assert found == pytest.approx(slope[where], rel=0.02, abs=2e-3), variable.path


@pytest.mark.slow
def test_forces_do_not_depend_on_the_other_examples(x):
    def codes(x):
        keras.utils.set_random_seed(0)
        decoder = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(8),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(6),
            ]
        )
        model = make(keras_ae.HamiltonianVAE, FixedNoise(), decoder=decoder)
        model.step_logits.assign(np.zeros(2))
        return to_numpy(model(ops.convert_to_tensor(x), training=True)["z"])

    np.testing.assert_allclose(codes(x[:3]), codes(x)[:3], atol=1e-5)


def test_spherical_likelihood_is_an_integral_over_the_circle(x):
    model = weaken(make(keras_ae.SphericalVAE))
    angles = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    means = model.decode(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    log_prob = stats.norm(means, 1.0).logpdf(x[:, None]).sum(axis=-1)  # (8, 512)
    expected = special.logsumexp(log_prob, axis=1) - np.log(512)
    found = model.log_likelihood(x, samples=40_000, seed=0)
    np.testing.assert_allclose(found, expected, atol=0.05)
    many = np.repeat(x, 100, axis=0)
    elbo = model.evaluate(many, verbose=0, return_dict=True)["elbo"]
    assert elbo < expected.mean()


def test_poincare_likelihood_is_an_integral_over_tangent_vectors(x):
    model = weaken(make(keras_ae.PoincareVAE, curvature=0.5))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    v = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2).astype("float32")
    log_weights = np.log(np.outer(weights, weights).ravel() / (2 * np.pi))
    means = to_numpy(model.decoder(v))
    log_prob = stats.norm(means, 1.0).logpdf(x[:, None]).sum(axis=-1)
    expected = special.logsumexp(log_prob + log_weights, axis=1)
    found = model.log_likelihood(x, samples=40_000, seed=0)
    np.testing.assert_allclose(found, expected, atol=0.05)
    many = np.repeat(x, 100, axis=0)
    elbo = model.evaluate(many, verbose=0, return_dict=True)["elbo"]
    assert elbo < expected.mean()


def test_codes_on_the_sphere(x):
    model = make(keras_ae.SphericalVAE, latent_dim=3)
    z = model.encode(x)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.decode(5 * z), model.decode(z), atol=1e-5)
    for spherical in (False, True):
        between = model.interpolate(x[0], x[1], steps=3, spherical=spherical)
        np.testing.assert_allclose(
            between, model.decode([z[0], z[0] + z[1], z[1]]), atol=1e-5
        )
    codes = model.sample(4, seed=1)
    assert codes.shape == (4, 6)
    np.testing.assert_array_equal(codes, model.sample(4, seed=1))


@pytest.mark.thorough
def test_codes_far_out(x):
    model = make(keras_ae.PoincareVAE, curvature=4.0)
    for layer in model.encoder.layers:
        if layer.name in model.encoder_heads:
            layer.set_weights([100 * weight for weight in layer.get_weights()])
    z = model.encode(x)
    assert np.linalg.norm(z, axis=1).max() > 20
    assert np.linalg.norm(model.to_ball(z), axis=1).max() <= 0.5 + 1e-6
    # No border cuts off what it costs to be far out.
    assert model.evaluate(x, verbose=0, return_dict=True)["kl"] > 10
    losses = model.fit(x, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.isfinite(model.log_likelihood(x, samples=3)).all()


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("SphericalVAE", {"latent_dim": 1}, "`latent_dim` must be an integer >= 2"),
        ("SphericalVAE", {"prior": None}, "`prior` must be left out: the prior is un"),
        ("SphericalVAE", {"free_bits": 0.1}, "`free_bits` must be left out"),
        ("PoincareVAE", {"curvature": -1.0}, "`curvature` must be a number > 0"),
        ("PoincareVAE", {"curvature": "a"}, "`curvature` must be a number > 0"),
        ("PoincareVAE", {"prior": None}, "`prior` must be left out"),
        ("HamiltonianVAE", {"free_bits": 0.1}, "`free_bits` must be left out"),
        ("HamiltonianVAE", {"leapfrog_steps": -1}, "`leapfrog_steps` must be an int"),
        ("HamiltonianVAE", {"leapfrog_steps": 1.5}, "`leapfrog_steps` must be an int"),
    ],
)
def test_bad_arguments(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(keras_ae, name)(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformOnSphere(0), "`latent_dim` must be an integer >= 2"),
        (lambda: UniformOnSphere(1), "Received: latent_dim=1"),
        (lambda: WrappedNormal([0.0, 0.0], -1.0), "`stddev` must be > 0"),
        (lambda: WrappedNormal([0.0, 0.0], [1.0, 0.0]), "`stddev` must be"),
        (lambda: WrappedNormal("a"), "`mean` must be a number"),
    ],
)
def test_bad_distributions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.thorough
def test_hamiltonian_with_a_learned_prior(x):
    prior = keras_ae.priors.LearnedMixture(components=3)
    model = make(keras_ae.HamiltonianVAE, prior=prior, leapfrog_steps=1)
    losses = model.fit(x, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.isfinite(model.log_likelihood(x, samples=3)).all()
