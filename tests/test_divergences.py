import numpy as np
import pytest
from keras import ops
from numerics import computed, gradient
from scipy import integrate, ndimage, stats

from keras_ae import backend
from keras_ae.probability.distributions import Normal, NormalMixture
from keras_ae.probability.divergences import (
    free_bits,
    kl,
    kl_monte_carlo,
    kl_normal,
    laplacian_distance,
    laplacian_pyramid,
    mmd,
)


def to_numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def posterior(batch=3, latent_dim=2):
    rng = np.random.default_rng(0)
    mean, log_var = rng.normal(size=(2, batch, latent_dim))
    return Normal.from_log_var(
        ops.convert_to_tensor(mean, "float32"),
        ops.convert_to_tensor(log_var, "float32"),
    )


@pytest.mark.parametrize("mean, stddev", [(0.0, 1.0), (0.0, 0.01), (-2.0, 30.0)])
def test_kl_normal_equals_numerical_integration(mean, stddev):
    q = posterior()
    values = to_numpy(kl_normal(q, Normal(mean, stddev)))
    assert values.shape == (3, 2)
    for value, q_mean, q_stddev in zip(
        values.ravel(),
        to_numpy(q.mean).ravel(),
        to_numpy(q.stddev).ravel(),
        strict=True,
    ):
        z = np.linspace(q_mean - 12 * q_stddev, q_mean + 12 * q_stddev, 4001)
        log_q = stats.norm.logpdf(z, q_mean, q_stddev)
        log_p = stats.norm.logpdf(z, mean, stddev)
        expected = integrate.simpson(np.exp(log_q) * (log_q - log_p), x=z)
        assert value == pytest.approx(expected, rel=1e-4)


def test_kl_of_a_narrow_prior_is_that_of_the_notes():
    q = posterior()
    mean, stddev = to_numpy(q.mean), to_numpy(q.stddev)
    constant = np.log(100.0) + 0.5  # 5.105
    expected = 5000 * (mean**2 + stddev**2) - np.log(stddev) - constant
    found = to_numpy(kl_normal(q, Normal(0.0, 0.01)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_kl_normal_takes_a_prior_per_dimension_and_per_example():
    q = posterior()
    per_dimension = Normal([0.0, 1.0], [0.5, 2.0])
    per_example = Normal(
        ops.tile(per_dimension.mean[None], (3, 1)),
        ops.tile(per_dimension.stddev[None], (3, 1)),
    )
    first = to_numpy(kl_normal(q, Normal(0.0, 0.5)))[:, 0]
    values = to_numpy(kl_normal(q, per_dimension))
    np.testing.assert_allclose(values[:, 0], first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        to_numpy(kl_normal(q, per_example)), values, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("stddev", [1.0, 0.01])
def test_kl_normal_keeps_its_digits_near_zero(stddev):
    log_ratio = 1e-3
    log_var = 2 * np.log(stddev) + log_ratio
    q = Normal.from_log_var(np.zeros((1, 1)), np.full((1, 1), log_var))
    # float32 keeps seven digits of the log-variance itself.
    ratio = float(np.float32(log_var)) - 2 * np.log(stddev)
    value = to_numpy(kl_normal(q, Normal(0.0, stddev)))[0, 0]
    assert value == pytest.approx(0.5 * (np.expm1(ratio) - ratio), rel=2e-3)
    same = Normal(0.3, stddev)
    np.testing.assert_allclose(to_numpy(kl_normal(same, same)), 0.0, atol=1e-7)


def test_kl_normal_equals_tensorflow_probability():
    pytest.importorskip("tensorflow")
    tfp = pytest.importorskip("tensorflow_probability")
    tfd = tfp.distributions
    q = posterior()
    oracle = tfd.kl_divergence(
        tfd.MultivariateNormalDiag(to_numpy(q.mean), to_numpy(q.stddev)),
        tfd.MultivariateNormalDiag(np.float64([0.0, 1.0]), np.float64([0.01, 2.0])),
    )
    value = kl(q, Normal([0.0, 1.0], [0.01, 2.0]), z=None)
    np.testing.assert_allclose(
        to_numpy(value), np.asarray(oracle), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("prior", [Normal(0.5, 2.0), Normal(0.0, 0.5)])
def test_kl_monte_carlo_averages_to_the_closed_form(prior):
    q = Normal.from_log_var(np.full((20000, 2), 0.7), np.full((20000, 2), -1.0))
    estimate = to_numpy(kl_monte_carlo(q, prior, q.sample(seed=0)))
    exact = to_numpy(kl(q, prior, z=None))
    assert estimate.shape == exact.shape == (20000,)
    assert estimate.mean() == pytest.approx(exact[0], rel=0.02)


def test_kl_to_a_mixture_is_the_monte_carlo_estimate():
    q = posterior()
    z = q.sample(seed=1)
    single = NormalMixture([[0.0, 1.0], [0.0, 1.0]], [[0.5, 2.0]])
    expected = to_numpy(q.log_prob(z)) - stats.norm.logpdf(
        to_numpy(z), [0.0, 1.0], [0.5, 2.0]
    ).sum(-1)
    np.testing.assert_allclose(to_numpy(kl(q, single, z)), expected, rtol=1e-4)


def test_kl_to_a_mixture_equals_tensorflow_probability():
    pytest.importorskip("tensorflow")
    tfp = pytest.importorskip("tensorflow_probability")
    tfd = tfp.distributions
    means, weights = np.float64([[-1.0, 0.0], [2.0, 1.0]]), np.float64([0.2, 0.8])
    oracle = tfd.MixtureSameFamily(
        tfd.Categorical(probs=weights),
        tfd.MultivariateNormalDiag(means, np.full((2, 2), 0.5)),
    )
    q = posterior()
    z = q.sample(seed=1)
    expected = to_numpy(q.log_prob(z)) - np.asarray(oracle.log_prob(to_numpy(z)))
    value = kl(q, NormalMixture(means, 0.5, weights), z)
    np.testing.assert_allclose(to_numpy(value), expected, rtol=1e-4)


def test_free_bits_raise_the_batch_mean_of_each_dimension():
    values = np.random.default_rng(0).uniform(size=(16, 4)) * [0.1, 0.4, 1.0, 5.0]
    values = values.astype("float32")
    limited = to_numpy(free_bits(ops.convert_to_tensor(values), 0.3))
    assert limited.shape == values.shape
    np.testing.assert_allclose(
        limited.mean(0), np.maximum(values.mean(0), 0.3), rtol=1e-5
    )
    np.testing.assert_allclose(limited[:, 2:], values[:, 2:])
    np.testing.assert_array_equal(to_numpy(free_bits(values, 0.0)), values)


def test_free_bits_stop_the_gradient_of_dimensions_below():
    values = np.float32([[0.1, 1.0], [0.2, 0.1]])

    def total(x):
        return ops.sum(free_bits(x, 0.5))

    x = ops.convert_to_tensor(values)
    if backend.BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = total(x)
        slope = tape.gradient(loss, x)
    elif backend.BACKEND == "jax":
        import jax

        slope = jax.grad(total)(x)
    else:
        x.requires_grad_(True)
        total(x).backward()
        slope = x.grad
    np.testing.assert_array_equal(to_numpy(slope), [[0.0, 1.0], [0.0, 1.0]])


def mmd_by_loops(x, y, kernel, scale):
    constant = 2 * x.shape[1] * scale**2

    def similarity(a, b):
        square = np.sum((a - b) ** 2)
        if kernel == "rbf":
            return np.exp(-square / constant)
        factors = constant * np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])
        return np.sum(factors / (factors + square))

    def among(a):
        pairs = [
            similarity(a[i], a[j])
            for i in range(len(a))
            for j in range(len(a))
            if i != j
        ]
        return np.mean(pairs)

    across = np.mean([similarity(a, b) for a in x for b in y])
    return among(x) + among(y) - 2 * across


@pytest.mark.parametrize("kernel", ["inverse_multiquadratic", "rbf"])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_mmd_equals_the_double_loop(kernel, scale):
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 2.0, (9, 3)).astype("float32")
    y = rng.normal(size=(6, 3)).astype("float32")
    value = mmd(ops.convert_to_tensor(x), ops.convert_to_tensor(y), kernel, scale)
    assert tuple(value.shape) == ()
    expected = mmd_by_loops(np.float64(x), np.float64(y), kernel, scale)
    assert to_numpy(value) == pytest.approx(expected, rel=1e-4)
    rescaled = to_numpy(mmd(3 * x, 3 * y, kernel, 3 * scale))
    assert rescaled == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["inverse_multiquadratic", "rbf"])
def test_mmd_is_unbiased(kernel):
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(400, 2, 8, 2)).astype("float32")
    values = np.array([to_numpy(mmd(x, y, kernel)) for x, y in draws])
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean()) < 3 * error
    assert values.min() < 0
    shifted = np.array([to_numpy(mmd(x, y + 1.0, kernel)) for x, y in draws])
    assert shifted.mean() > 10 * error


def test_mmd_of_a_single_code_is_0():
    x = np.ones((1, 2), "float32")
    assert to_numpy(mmd(x, np.zeros((5, 2), "float32"))) == 0.0
    assert to_numpy(mmd(np.zeros((5, 2), "float32"), x)) == 0.0


def test_mmd_refuses_an_unknown_kernel():
    x = np.ones((3, 2), "float32")
    with pytest.raises(ValueError, match="`kernel` must be one of .*'rbf'.*'laplace'"):
        mmd(x, x, kernel="laplace")


@pytest.mark.parametrize("shape", [(3, 4), (2,), (3, 2, 1)])
def test_mmd_refuses_codes_of_other_dimensions(shape):
    x, y = np.ones((3, 2), "float32"), np.ones(shape, "float32")
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match="of one `latent_dim`. Received: shapes"):
            mmd(*pair)


def blurred(x):
    for axis in (1, 2):
        x = ndimage.correlate1d(x, np.array([1, 4, 6, 4, 1]) / 16, axis, mode="mirror")
    return x


def doubled(half, shape):
    between = np.zeros((half.shape[0], *shape, half.shape[-1]))
    between[:, ::2, ::2] = 4 * half
    return blurred(between)


def pyramid_by_scipy(x, levels):
    pyramid = []
    for _ in range(levels - 1):
        half = blurred(x)[:, ::2, ::2]
        pyramid.append(x - doubled(half, x.shape[1:3]))
        x = half
    return [*pyramid, x]


SIDES = [
    ((28, 28), None, 3),
    ((64, 64), None, 5),
    ((15, 40), None, 3),
    ((8, 7), None, 1),
    ((2, 2), None, 1),
    ((2, 2), 2, 2),
    ((3, 5), 3, 3),
    ((16, 9), 5, 5),
]


@pytest.mark.parametrize("sides, levels, expected_levels", SIDES)
@pytest.mark.parametrize("channels", [1, 3])
def test_laplacian_pyramid_equals_scipy(sides, levels, expected_levels, channels):
    x = np.random.default_rng(0).normal(size=(2, *sides, channels)).astype("float32")
    pyramid = computed(lambda x: laplacian_pyramid(x, levels), x)
    assert len(pyramid) == expected_levels
    expected = pyramid_by_scipy(np.float64(x), expected_levels)
    for level, oracle in zip(pyramid, expected, strict=True):
        assert level.shape == oracle.shape
        np.testing.assert_allclose(level, oracle, atol=1e-5)


@pytest.mark.parametrize("sides, levels, expected_levels", SIDES)
def test_laplacian_pyramid_restores_the_picture(sides, levels, expected_levels):
    x = np.random.default_rng(1).uniform(size=(2, *sides, 3)).astype("float32")
    *bands, rest = computed(lambda x: laplacian_pyramid(x, levels), x)
    for band in reversed(bands):
        rest = band + doubled(rest, band.shape[1:3])
    np.testing.assert_allclose(rest, x, atol=1e-5)


@pytest.mark.parametrize("sides, levels, expected_levels", SIDES)
def test_laplacian_pyramid_of_a_constant_is_its_rest(sides, levels, expected_levels):
    x = np.full((1, *sides, 2), 0.7, "float32")
    *bands, rest = computed(lambda x: laplacian_pyramid(x, levels), x)
    for band in bands:
        np.testing.assert_allclose(band, 0.0, atol=1e-6)
    np.testing.assert_allclose(rest, 0.7, rtol=1e-5)


def test_laplacian_distance_sums_weighted_levels_per_example():
    x, y = np.random.default_rng(0).uniform(size=(2, 4, 20, 13, 3))
    levels = zip(pyramid_by_scipy(x, 3), pyramid_by_scipy(y, 3), strict=True)
    expected = sum(
        4**j * np.abs(a - b).sum(axis=(1, 2, 3)) for j, (a, b) in enumerate(levels)
    )
    value = to_numpy(laplacian_distance(x, y, levels=3))
    assert value.shape == (4,)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(
        to_numpy(laplacian_distance(x, y, levels=1)),
        np.abs(x - y).sum(axis=(1, 2, 3)),
        rtol=1e-5,
    )


def test_laplacian_distance_of_equal_pictures_is_0_with_a_finite_gradient():
    x = np.random.default_rng(0).uniform(size=(3, 12, 12, 1)).astype("float32")
    np.testing.assert_array_equal(to_numpy(laplacian_distance(x, x)), 0.0)
    assert np.isfinite(gradient(lambda y: laplacian_distance(x, y), x)).all()


def test_laplacian_distance_has_the_gradient_of_finite_differences():
    x, y, change = np.random.default_rng(0).normal(size=(3, 2, 12, 9, 2))
    slope = gradient(lambda z: laplacian_distance(z, y, levels=3), x)

    def distance(z):
        levels = pyramid_by_scipy(z - y, 3)
        return sum(4**j * np.abs(level).sum() for j, level in enumerate(levels))

    step = 1e-6
    expected = (distance(x + step * change) - distance(x - step * change)) / (2 * step)
    assert np.sum(slope * change) == pytest.approx(expected, rel=1e-3)


@pytest.mark.once
@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: laplacian_pyramid(x[0]), "`x` must have shape .*shape .8, 8, 1."),
        (lambda x: laplacian_pyramid(x, 0), "`levels` must be an integer >= 1"),
        (lambda x: laplacian_pyramid(x, 5), "`levels` must be <= 4 for .* 8 x 8"),
        (lambda x: laplacian_distance(x, x[:, :4]), "`x` and `y` must have one shape"),
    ],
)
def test_laplacian_refuses_what_it_cannot_split(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 8, 8, 1), "float32"))
