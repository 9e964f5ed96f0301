import json

import keras
import numpy as np
import pytest
from keras import ops
from numerics import computed, density, gradient, integral, to_numpy
from scipy import special, stats

import keras_ae
from keras_ae import backend
from keras_ae.probability.distributions import Normal, NormalMixture
from keras_ae.probability.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    StudentT,
    get_likelihood,
)

LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "discretized_logistic": DiscretizedLogistic,
    "student_t": StudentT,
}


def test_bernoulli_log_prob_equals_scipy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 2)) * 5
    x = rng.integers(0, 2, size=(3, 4, 2))
    expected = stats.bernoulli.logpmf(x, special.expit(logits)).sum((1, 2))
    np.testing.assert_allclose(
        to_numpy(Bernoulli().log_prob(x, logits)), expected, rtol=1e-5
    )


def test_softplus_and_its_slope_are_those_of_scipy():
    x = np.array([-np.inf, -200.0, -80.0, -3.0, -1e-4, 0.0, 1e-4, 2.0, 40.0, np.inf])
    x = x.astype("float32")
    found = backend.softplus(ops.convert_to_tensor(x))
    np.testing.assert_allclose(to_numpy(found), np.logaddexp(0, x), rtol=2e-6)
    slopes = gradient(backend.softplus, x)
    np.testing.assert_allclose(slopes, special.expit(x), rtol=1e-5, atol=1e-38)
    assert np.isnan(to_numpy(backend.softplus(ops.convert_to_tensor([np.nan]))))


def test_mean_squared_error_is_that_of_the_mean_over_what_is_observed():
    rng = np.random.default_rng(0)
    x, logits = rng.random((3, 4, 2)), rng.normal(size=(3, 4, 2))
    errors = np.square(x - special.expit(logits))
    found = Bernoulli().mean_squared_error(x, logits)
    np.testing.assert_allclose(to_numpy(found), errors.mean(axis=(1, 2)), rtol=1e-5)
    observed = rng.random((3, 4, 2)) < 0.6
    observed[2] = False
    found = Bernoulli().mean_squared_error(x, logits, observed)
    expected = [errors[i][observed[i]].mean() for i in range(2)] + [0.0]
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("logit", [-60.0, -3.0, -0.6, -0.4, -1e-4, 0.0, 0.3, 5.0, 90.0])
def test_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit):
    likelihood = ContinuousBernoulli()
    p = density(likelihood, logit)
    assert integral(p, 0.0, 1.0) == pytest.approx(1.0, abs=2e-5)
    mean = to_numpy(likelihood.mean(np.array([[logit]])))[0, 0]
    assert mean == pytest.approx(integral(lambda x: x * p(x), 0.0, 1.0), abs=2e-5)


def test_continuous_bernoulli_equals_tensorflow_probability():
    pytest.importorskip("tensorflow")
    tfp = pytest.importorskip("tensorflow_probability")
    logits = np.array([-30.0, -4.0, -0.7, 0.8, 2.0, 25.0], "float32")
    x = np.linspace(0.05, 0.95, 6).astype("float32")
    # float64, since near 0.5 TensorFlow Probability loses digits in float32.
    oracle = tfp.distributions.ContinuousBernoulli(logits=logits.astype("float64"))
    likelihood = ContinuousBernoulli()
    np.testing.assert_allclose(
        to_numpy(likelihood.log_prob(x[:, None], logits[:, None])),
        np.asarray(oracle.log_prob(x.astype("float64"))),
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        to_numpy(likelihood.mean(logits)), np.asarray(oracle.mean()), atol=1e-6
    )


def test_continuous_bernoulli_series_meets_closed_form():
    limit = ContinuousBernoulli.SERIES_LIMIT
    logits = np.array([limit * (1 - 1e-6), limit * (1 + 1e-6)], "float32")
    logits = np.concatenate([logits, -logits])[:, None]
    x = np.full_like(logits, 0.3)
    likelihood = ContinuousBernoulli()
    for function in (likelihood.mean, lambda logits: likelihood.log_prob(x, logits)):
        for values in (function(logits), gradient(function, logits)):
            below, above, minus_below, minus_above = to_numpy(values).ravel()
            assert below == pytest.approx(above, abs=3e-6)
            assert minus_below == pytest.approx(minus_above, abs=3e-6)


@pytest.mark.parametrize("scale", [0.05, 1.0, 7.0])
@pytest.mark.parametrize(
    "likelihood, oracle", [(Gaussian, stats.norm), (Laplace, stats.laplace)]
)
def test_location_scale_equals_scipy(likelihood, oracle, scale):
    rng = np.random.default_rng(0)
    x, location = rng.normal(size=(2, 3, 4, 2))
    expected = oracle.logpdf(x, location, scale).sum((1, 2))
    log_prob = likelihood(scale=scale).log_prob(x, location)
    np.testing.assert_allclose(to_numpy(log_prob), expected, rtol=1e-5, atol=1e-6)
    p = density(likelihood(scale=scale), 0.0)
    half = 20 * scale
    assert integral(p, -half, 0) + integral(p, 0, half) == pytest.approx(1, abs=1e-5)


def test_learned_scale_is_one_trainable_variable():
    likelihood = Gaussian(scale="learned")
    assert len(likelihood.trainable_variables) == 1
    assert to_numpy(likelihood.current_scale()) == pytest.approx(1.001)
    likelihood.log_scale.assign(-30.0)
    assert to_numpy(likelihood.current_scale()) == pytest.approx(1e-3)
    likelihood.log_scale.assign(np.log(0.249))
    expected = stats.norm.logpdf(0.3, 0.0, 0.25)
    log_prob = likelihood.log_prob(np.array([[0.3]]), np.zeros((1, 1)))
    np.testing.assert_allclose(to_numpy(log_prob), [expected], rtol=1e-5)


@pytest.mark.once
def test_a_learned_scale_belongs_to_one_model():
    likelihood = Gaussian(scale="learned")
    first = keras_ae.VAE(2, likelihood=likelihood)
    second = keras_ae.VAE(2, likelihood=likelihood)
    assert first.likelihood is likelihood
    assert second.likelihood is not likelihood
    assert second.likelihood.get_config() == likelihood.get_config()


@pytest.mark.parametrize(
    "likelihood, fit",
    [
        (Gaussian, lambda r: np.sqrt(np.mean(r**2))),
        (Laplace, lambda r: np.mean(np.abs(r))),
    ],
)
def test_optimal_scale_maximises_the_likelihood_of_the_batch(likelihood, fit):
    rng = np.random.default_rng(0)
    x, location = 0.3 * rng.normal(size=(2, 8, 5))
    best = fit(x - location)
    optimal = likelihood(scale="optimal")
    assert not optimal.trainable_variables
    log_prob = to_numpy(optimal.log_prob(x, location, training=True)).sum()
    for factor in (0.9, 1.0, 1.1):
        fixed = likelihood(scale=best * factor)
        other = to_numpy(fixed.log_prob(x, location)).sum()
        if factor == 1.0:
            assert log_prob == pytest.approx(other, rel=1e-5)
        else:
            assert log_prob > other


def test_optimal_scale_passes_no_gradient():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    likelihood = Gaussian()
    slope = gradient(
        lambda location: likelihood.log_prob(x, location, training=True),
        np.zeros_like(x),
    )
    np.testing.assert_allclose(slope, x / np.mean(np.square(x)), rtol=1e-5, atol=1e-6)


def test_optimal_scale_of_evaluation_follows_training_only():
    likelihood = Gaussian()
    zeros = np.zeros((4, 3))
    assert to_numpy(likelihood.current_scale()) == pytest.approx(1.0)
    likelihood.log_prob(zeros + 0.2, zeros, training=False)
    assert to_numpy(likelihood.current_scale()) == pytest.approx(1.0)
    # Right after a single step, without a trace of where the average started.
    likelihood.log_prob(zeros + 0.2, zeros, training=True)
    assert to_numpy(likelihood.current_scale()) == pytest.approx(0.2, rel=1e-5)
    np.testing.assert_allclose(
        to_numpy(likelihood.log_prob(zeros + 0.1, zeros)),
        3 * stats.norm.logpdf(0.1, 0.0, 0.2),
        rtol=1e-5,
    )
    for _ in range(200):
        likelihood.log_prob(zeros + 0.5, zeros, training=True)
    assert to_numpy(likelihood.current_scale()) == pytest.approx(0.5, rel=1e-3)


def test_optimal_scale_has_a_floor():
    for likelihood in (Gaussian(), Laplace()):
        x = np.ones((2, 3))
        log_prob = to_numpy(likelihood.log_prob(x, x, training=True))
        assert np.isfinite(log_prob).all()
        assert to_numpy(likelihood.current_scale()) == pytest.approx(1e-3)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("training", [False, True])
def test_only_what_was_observed_counts(name, training):
    rng = np.random.default_rng(0)
    x, parameters = rng.random((2, 4, 3, 5)).astype("float32")
    observed = rng.random(x.shape) < 0.5
    observed[2] = False
    observed[3] = True
    likelihood = get_likelihood(name)

    def log_prob(x, parameters):
        return likelihood.log_prob(x, parameters, training, observed)

    found = computed(log_prob, x, parameters)
    # One value an example: those of the values that are summed.
    single = (array[observed][:, None] for array in (x, parameters))
    each = np.zeros(x.shape)
    each[observed] = to_numpy(get_likelihood(name).log_prob(*single, training))
    np.testing.assert_allclose(found, each.sum(axis=(1, 2)), rtol=1e-4, atol=1e-5)
    assert found[2] == 0
    other = np.where(observed, x, np.float32(0.25))
    np.testing.assert_array_equal(computed(log_prob, other, parameters), found)
    other = np.where(observed, parameters, np.float32(-9.0))
    np.testing.assert_array_equal(computed(log_prob, x, other), found)
    slope = gradient(lambda parameters: log_prob(x, parameters), parameters)
    np.testing.assert_array_equal(slope[~observed], 0)
    assert (slope[observed] != 0).all()


@pytest.mark.parametrize(
    "likelihood, fit",
    [
        (Gaussian, lambda r: np.sqrt(np.mean(r**2))),
        (Laplace, lambda r: np.mean(np.abs(r))),
    ],
)
def test_optimal_scale_is_that_of_what_was_observed(likelihood, fit):
    rng = np.random.default_rng(0)
    x, location = rng.normal(size=(2, 8, 5))
    observed = rng.random(x.shape) < 0.3
    optimal = likelihood()
    optimal.log_prob(x + 100 * ~observed, location, True, observed)
    residual = (x - location)[observed]
    assert to_numpy(optimal.current_scale()) == pytest.approx(fit(residual), rel=1e-4)
    # Of nothing at all, the smallest.
    nothing = likelihood()
    log_prob = nothing.log_prob(x, location, True, np.zeros(x.shape, bool))
    np.testing.assert_array_equal(to_numpy(log_prob), 0)
    assert to_numpy(nothing.current_scale()) == pytest.approx(1e-3)


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize("scale", [1e-6, 0.02, 0.1, 3.0])
def test_discretized_logistic_equals_scipy_and_sums_to_one(levels, scale):
    likelihood = DiscretizedLogistic(levels=levels)
    likelihood.log_scale.assign(np.log(scale))
    scale = float(to_numpy(likelihood.current_scale()))
    x = (np.arange(levels) / (levels - 1)).astype("float32")
    edges = (np.arange(levels + 1) - 0.5) / (levels - 1)
    edges[[0, -1]] = -np.inf, np.inf
    for location in (-0.3, 0.0, 0.1, 0.5, 0.777, 1.0, 2.0):
        p = density(likelihood, location)(x)
        assert p.sum() == pytest.approx(1.0, abs=1e-4)
        np.testing.assert_allclose(
            p, np.diff(stats.logistic.cdf(edges, location, scale)), rtol=2e-3, atol=1e-5
        )
        mean = to_numpy(likelihood.mean(np.array([[location]])))[0, 0]
        step = 1 / (levels - 1)
        error = (0.02 if scale > step else 0.5) * step + 1e-5
        assert mean == pytest.approx((p * x).sum(), abs=error)


def test_discretized_logistic_rounds_x_to_its_level():
    likelihood = DiscretizedLogistic(levels=11)
    location = np.full((1, 1), 0.4)
    exact = likelihood.log_prob(np.array([[0.3]]), location)
    for x in (0.26, 0.34):
        np.testing.assert_array_equal(
            to_numpy(likelihood.log_prob(np.array([[x]]), location)), to_numpy(exact)
        )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_stay_finite_at_extreme_parameters(name):
    extremes = [0.0, 1e-30, 1e-6, 0.5, 1.0, 30.0, 100.0, 1e4]
    parameters = np.array([[s * v] for v in extremes for s in (1, -1)], "float32")
    likelihood = LIKELIHOODS[name]()
    for x in (0.0, 0.5, 1.0):
        data = np.full_like(parameters, x)

        def log_prob(parameters, data=data):
            return likelihood.log_prob(data, parameters)

        assert np.isfinite(computed(log_prob, parameters)).all()
        assert np.isfinite(gradient(log_prob, parameters)).all()
    mean = to_numpy(likelihood.mean(parameters))
    assert np.isfinite(mean).all()
    assert np.isfinite(gradient(likelihood.mean, parameters)).all()
    assert np.isfinite(to_numpy(likelihood.sample(parameters, seed=0))).all()
    if likelihood.low == 0.0:
        assert mean.min() >= -1e-6 and mean.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood_samples_have_the_mean_and_variance_of_the_density(name):
    location_scale = name in ("gaussian", "laplace", "student_t")
    # At four degrees of freedom the variance of a draw has none itself.
    options = {"degrees": 12.0} if name == "student_t" else {}
    likelihood = LIKELIHOODS[name](**options)
    n = 20000
    for seed, parameter in enumerate((-3.0, 0.0, 0.3, 0.9, 4.0)):
        parameters = np.full((n, 1), parameter, "float32")
        sample = to_numpy(likelihood.sample(parameters, seed=seed))
        mean = to_numpy(likelihood.mean(parameters[:1]))[0, 0]
        assert sample.mean() == pytest.approx(mean, abs=0.05)
        p = density(likelihood, parameter)
        if name in ("bernoulli", "discretized_logistic"):
            levels = 2 if name == "bernoulli" else likelihood.levels
            x = np.arange(levels) / (levels - 1)
            expected = (p(x) * (x - mean) ** 2).sum()
        else:
            low, high = (mean - 25, mean + 25) if location_scale else (0.0, 1.0)
            expected = integral(lambda x, p=p, m=mean: p(x) * (x - m) ** 2, low, high)
        assert sample.var() == pytest.approx(expected, rel=0.08, abs=1e-4)
        if not location_scale:
            assert sample.min() >= 0.0 and sample.max() <= 1.0


def test_sigmoid_activation_keeps_the_mean_in_the_unit_interval():
    for likelihood in (Gaussian, Laplace, DiscretizedLogistic):
        likelihood = likelihood(activation="sigmoid")
        parameters = np.array([[-5.0, 0.0, 5.0]])
        np.testing.assert_allclose(
            to_numpy(likelihood.location(parameters)), special.expit(parameters), 1e-5
        )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_compute_in_float32_under_a_mixed_policy(name):
    rng = np.random.default_rng(0)
    x, parameters = rng.uniform(size=(2, 3, 4, 5, 1)).astype("float32")
    parameters = ops.convert_to_numpy(ops.cast(parameters, "bfloat16")).astype(
        "float32"
    )
    expected = to_numpy(LIKELIHOODS[name]().log_prob(x, parameters))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        likelihood = LIKELIHOODS[name]()
        half = ops.cast(parameters, "bfloat16")
        log_prob = likelihood.log_prob(x, half)
        tensors = (log_prob, likelihood.mean(half), likelihood.sample(half, seed=0))
    finally:
        keras.config.set_dtype_policy(policy)
    for tensor in tensors:
        assert keras.backend.standardize_dtype(tensor.dtype) == "float32"
    for variable in likelihood.variables:
        assert variable.dtype == "float32"
    assert log_prob.shape == (3,)
    np.testing.assert_allclose(to_numpy(log_prob), expected, rtol=1e-6)


def test_scales_keep_their_precision_inside_a_mixed_precision_model():
    class Scales(keras.Model):
        def __init__(self):
            super().__init__(dtype="mixed_bfloat16")
            self.learned = Gaussian(scale="learned")
            self.optimal = Gaussian(scale="optimal")

        def call(self, x):
            residual = ops.cast(x, "float32")
            self.optimal.log_prob(residual, ops.zeros_like(residual), training=True)
            return ops.stack(
                [self.learned.current_scale(), self.optimal.current_scale()]
            )

    model = Scales()
    model.learned.log_scale.assign(np.log(0.1234))
    scales = to_numpy(model(np.full((2, 3), 0.5, "float32")))
    np.testing.assert_allclose(scales, [0.1244, 0.5], rtol=1e-6)
    for variable in model.learned.variables + model.optimal.variables:
        assert variable.dtype == "float32"


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_and_priors_compute_the_same_compiled(name):
    likelihood = LIKELIHOODS[name]()
    prior = NormalMixture([[0.0, 1.0], [1.0, 0.0]], 0.5)
    rng = np.random.default_rng(0)
    x, parameters = (
        ops.convert_to_tensor(array, "float32") for array in rng.uniform(size=(2, 3, 2))
    )

    def everything(x, parameters):
        posterior = Normal.from_log_var(x, parameters)
        return (
            likelihood.log_prob(x, parameters),
            likelihood.mean(parameters),
            likelihood.sample(parameters, seed=1),
            posterior.log_prob(posterior.sample(seed=2)),
            prior.log_prob(prior.sample((4, 2), seed=3)),
        )

    traced = backend.compiled(everything, likelihood.variables)
    for expected, value in zip(
        everything(x, parameters), traced(x, parameters), strict=True
    ):
        np.testing.assert_allclose(to_numpy(value), to_numpy(expected), 1e-4, 1e-5)


@pytest.mark.parametrize(
    "likelihood",
    [
        Bernoulli(),
        ContinuousBernoulli(name="pixels"),
        Gaussian(),
        Gaussian(scale=0.1, activation="sigmoid"),
        Laplace(scale="learned"),
        Laplace(scale=2, activation="tanh"),
        DiscretizedLogistic(levels=32, activation="sigmoid"),
    ],
)
def test_likelihoods_survive_json(likelihood):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(likelihood)))
    restored = get_likelihood(config)
    assert type(restored) is type(likelihood)
    assert restored.get_config() == likelihood.get_config()


@keras.saving.register_keras_serializable(package="keras_ae_tests")
class WithLikelihood(keras.Model):
    """A model with a likelihood in its configuration."""

    def __init__(self, likelihood, **kwargs):
        super().__init__(**kwargs)
        self.likelihood = get_likelihood(likelihood)

    def call(self, x):
        return self.likelihood.mean(x)

    def get_config(self):
        likelihood = keras.saving.serialize_keras_object(self.likelihood)
        return {**super().get_config(), "likelihood": likelihood}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "likelihood", [Gaussian(), Gaussian(scale="learned"), DiscretizedLogistic()]
)
def test_a_saved_model_keeps_its_likelihood_variables(likelihood, tmp_path):
    model = WithLikelihood(likelihood)
    x, parameters = np.random.default_rng(0).uniform(size=(2, 3, 4)).astype("float32")
    model(x)
    likelihood.log_prob(x, parameters, training=True)
    for variable in likelihood.trainable_variables:
        variable.assign(-1.5)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert len(restored.variables) == len(likelihood.variables) > 0
    np.testing.assert_array_equal(
        to_numpy(restored.likelihood.log_prob(x, parameters)),
        to_numpy(likelihood.log_prob(x, parameters)),
    )


@pytest.mark.parametrize(
    "identifier",
    ["Continuous-Bernoulli", "continuousbernoulli", "CONTINUOUS_BERNOULLI"],
)
def test_likelihood_names_ignore_case_and_separators(identifier):
    assert isinstance(get_likelihood(identifier), ContinuousBernoulli)


def test_every_likelihood_has_a_name():
    for name, likelihood in LIKELIHOODS.items():
        assert type(get_likelihood(name)) is likelihood
    likelihood = Gaussian()
    assert get_likelihood(likelihood) is likelihood


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: get_likelihood("mse"), "'bernoulli', 'continuous_bernoulli'"),
        (lambda: get_likelihood(None), "`likelihood` must be one of"),
        (lambda: get_likelihood(Normal()), "`likelihood` must be one of"),
        (lambda: Gaussian(scale=0), "`scale` must be a number > 0"),
        (lambda: Laplace(scale="best"), "'optimal' or 'predicted'"),
        (lambda: Gaussian(scale=float("nan")), "`scale` must be"),
        (
            lambda: Gaussian(activation="sigmoidal"),
            "`activation` must be the name of a .* activation='sigmoidal'",
        ),
        (lambda: DiscretizedLogistic(levels=1), "`levels` must be"),
        (
            lambda: Bernoulli().log_prob(np.zeros((2, 3)), np.zeros((2, 3, 1))),
            "must have the same shape",
        ),
        (
            lambda: Bernoulli().log_prob(np.zeros((2, 3)), np.zeros((2, 1))),
            "must have the same shape",
        ),
    ],
)
def test_bad_arguments_of_likelihoods_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize(
    "low, high, message",
    [
        (0.0, 255.0, "divide them by 255"),
        (float("nan"), 1.0, "NaN or infinite"),
        (0.0, float("inf"), "NaN or infinite"),
        (-1000.0, 1000.0, "Received: values from -1000 to 1000. Rescale them"),
    ],
)
def test_data_out_of_range_are_refused_with_the_remedy(name, low, high, message):
    with pytest.raises(ValueError, match=message):
        get_likelihood(name).check_range(low, high)


def test_data_in_range_are_accepted():
    for name in LIKELIHOODS:
        get_likelihood(name).check_range(0.0, 1.0 + 1e-6)
    for name in ("gaussian", "laplace"):
        get_likelihood(name).check_range(-1.0, 1.0)
    for bounded, remedy in (
        (Bernoulli(), "likelihood='gaussian'"),
        (DiscretizedLogistic(), "likelihood='gaussian'"),
        (Gaussian(0.1, "sigmoid"), r"likelihood=keras_ae.likelihoods.Gaussian\(0.1\)"),
    ):
        with pytest.raises(ValueError, match=remedy):
            bounded.check_range(-1.0, 1.0)
