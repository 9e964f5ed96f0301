import json

import keras
import numpy as np
import pytest
from keras import ops
from numerics import gradient, to_numpy
from scipy import special, stats

from keras_ae import backend
from keras_ae.probability.distributions import (
    GaussianMixture,
    Normal,
    NormalMixture,
    TensorFlowProbability,
    get_prior,
)
from keras_ae.probability.likelihoods import Gaussian

needs_tensorflow = pytest.mark.skipif(
    backend.BACKEND != "tensorflow",
    reason="TensorFlow Probability priors need the TensorFlow backend",
)


def test_normal_log_prob_equals_scipy():
    z = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    mean, stddev = [0.0, 1.0, -1.0, 0.5, 2.0], [0.1, 1.0, 2.0, 0.7, 3.0]
    expected = stats.multivariate_normal(mean, np.diag(np.square(stddev))).logpdf(z)
    np.testing.assert_allclose(
        to_numpy(Normal(mean, stddev).log_prob(z)), expected, rtol=1e-5
    )
    np.testing.assert_allclose(
        to_numpy(Normal().log_prob(z)), stats.norm.logpdf(z).sum(-1), rtol=1e-5
    )


def test_normal_from_log_var_keeps_log_var_and_stays_finite():
    mean = ops.convert_to_tensor([[0.0, 1.0]])
    normal = Normal.from_log_var(mean, ops.convert_to_tensor([[-80.0, 60.0]]))
    np.testing.assert_array_equal(to_numpy(normal.log_var), [[-80.0, 60.0]])
    np.testing.assert_allclose(
        to_numpy(normal.stddev), np.exp([[-40.0, 30.0]]), rtol=1e-5
    )
    assert np.isfinite(to_numpy(normal.log_prob(mean))).all()
    from_stddev = Normal(mean, ops.convert_to_tensor([[0.5, 2.0]]))
    np.testing.assert_allclose(
        to_numpy(from_stddev.log_var), 2 * np.log([[0.5, 2.0]]), rtol=1e-6
    )


def test_normal_is_float32_under_half_precision_inputs():
    normal = Normal.from_log_var(
        ops.ones((2, 3), dtype="bfloat16"), ops.zeros((2, 3), dtype="bfloat16")
    )
    for tensor in (
        normal.mean,
        normal.stddev,
        normal.log_var,
        normal.sample(seed=0),
        normal.log_prob(ops.zeros((2, 3), dtype="bfloat16")),
    ):
        assert keras.backend.standardize_dtype(tensor.dtype) == "float32"


def test_normal_sample_has_its_moments_and_passes_gradients():
    sample = to_numpy(Normal([1.0, -2.0], [0.5, 3.0]).sample((20000, 2), seed=1))
    np.testing.assert_allclose(sample.mean(0), [1.0, -2.0], atol=0.1)
    np.testing.assert_allclose(sample.std(0), [0.5, 3.0], rtol=0.03)

    log_var = np.array([[0.3, -0.4]], "float32")

    def draw(x):
        return Normal.from_log_var(ops.zeros((1, 2)), x).sample(seed=2)

    noise = to_numpy(draw(log_var)) * np.exp(-0.5 * log_var)
    np.testing.assert_allclose(
        gradient(draw, log_var), 0.5 * np.exp(0.5 * log_var) * noise, rtol=1e-4
    )


@pytest.mark.parametrize(
    "prior", [Normal(0.0, 2.0), NormalMixture([[0.0, 1.0], [2.0, 3.0]])]
)
def test_seeds_repeat_integers_and_advance_generators(prior):
    once, again = prior.sample((3, 2), seed=5), prior.sample((3, 2), seed=5)
    np.testing.assert_array_equal(to_numpy(once), to_numpy(again))
    generator = keras.random.SeedGenerator(5)
    once, again = prior.sample((3, 2), generator), prior.sample((3, 2), generator)
    assert np.abs(to_numpy(once) - to_numpy(again)).max() > 0.01


def test_mixture_log_prob_equals_scipy():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 2)) * 3
    stddevs = np.array([[0.2], [1.0], [2.0]])
    weights = np.array([1.0, 2.0, 5.0])
    z = rng.normal(size=(4, 6, 2)) * 3
    expected = special.logsumexp(
        [
            np.log(w / 8.0) + stats.norm.logpdf(z, m, s).sum(-1)
            for w, m, s in zip(weights, means, stddevs, strict=True)
        ],
        axis=0,
    )
    prior = NormalMixture(means, stddevs, weights)
    np.testing.assert_allclose(to_numpy(prior.log_prob(z)), expected, rtol=1e-4)


def test_mixture_log_prob_has_a_gradient_far_from_every_component():
    prior = NormalMixture([[0.0], [1.0]], 0.01)
    slope = gradient(prior.log_prob, np.array([[50.0]]))
    np.testing.assert_allclose(slope, [[-49.0 / 0.01**2]], rtol=1e-4)


def test_mixture_samples_every_component_by_weight():
    prior = NormalMixture([[-10.0, 0.0], [0.0, 5.0], [10.0, 1.0]], 0.5, [1, 2, 7])
    sample = to_numpy(prior.sample((20000, 2), seed=3))
    component = np.digitize(sample[:, 0], [-5.0, 5.0])
    for index, weight in enumerate([0.1, 0.2, 0.7]):
        chosen = sample[component == index]
        assert len(chosen) / len(sample) == pytest.approx(weight, abs=0.015)
        np.testing.assert_allclose(chosen.mean(0), prior.means[index], atol=0.05)
        np.testing.assert_allclose(chosen.std(0), 0.5, rtol=0.06)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Normal(stddev=0.0), "`stddev` must be > 0"),
        (lambda: Normal(stddev=[1.0, -1.0]), "`stddev` must be > 0"),
        (lambda: Normal("a"), "`mean` must be a number, or an array of .* mean='a'"),
        (lambda: Normal(["1", 2.0]), "`mean` must be a number"),
        (lambda: Normal([[0.0], [0.0, 1.0]]), "`mean` must be a number"),
        (lambda: Normal(stddev="1"), "`stddev` must be a number, .* stddev='1'"),
        (lambda: Normal(stddev={"a": 1}), "`stddev` must be a number"),
        (lambda: NormalMixture("a"), "`means` must be a number.* means='a'"),
        (lambda: NormalMixture([[0.0], [0.0, 1.0]]), "`means` must be a number"),
        (lambda: NormalMixture([[0.0]], "a"), "`stddevs` must be a number"),
        (lambda: NormalMixture([[0.0]], 1.0, "a"), "`weights` must be a number"),
        (lambda: Normal(mean=float("nan")), "`mean` must be finite"),
        (lambda: Normal([0.0, 1.0], [1.0, 1.0, 1.0]), "one value per latent dimension"),
        (lambda: Normal([0.0, 1.0]).sample((4, 3), seed=0), "latent_dim=2"),
        (lambda: NormalMixture([0.0, 1.0]), "`means` must have shape"),
        (lambda: NormalMixture([[0.0], [1.0]], -1.0), "`stddevs` must be > 0"),
        (lambda: NormalMixture([[0.0], [1.0]], [1.0] * 3), "`stddevs` must broadcast"),
        (lambda: NormalMixture([[0.0], [1.0]], 1.0, [1, 0]), "`weights` must be > 0"),
        (lambda: NormalMixture([[0.0], [1.0]], 1.0, [1.0]), "`weights` must have one"),
        (lambda: get_prior("normal"), "`prior` must be None"),
        (lambda: get_prior(Gaussian()), "`prior` must be None"),
    ],
)
def test_bad_arguments_of_priors_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "prior",
    [
        Normal(),
        Normal([0.0, 1.0], 0.01),
        Normal(np.zeros(2), np.ones(2)),
        Normal(ops.zeros(2), ops.ones(2)),
        NormalMixture(np.eye(2), [[0.5], [2.0]], (1, 3)),
        GaussianMixture([np.zeros(2), ops.ones(2)], [np.eye(2), 2 * np.eye(2)]),
    ],
)
def test_priors_survive_json(prior):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(prior)))
    restored = get_prior(config)
    assert type(restored) is type(prior)
    assert restored.get_config() == prior.get_config()
    z = np.random.default_rng(0).normal(size=(4, 2))
    np.testing.assert_array_equal(
        to_numpy(restored.log_prob(z)), to_numpy(prior.log_prob(z))
    )


def test_get_prior_default_and_instance():
    assert get_prior().get_config() == {"mean": 0.0, "stddev": 1.0}
    prior = NormalMixture([[0.0], [1.0]])
    assert get_prior(prior) is prior


def test_latent_dim_of_priors():
    assert Normal().latent_dim is None
    assert Normal([0.0, 1.0, 2.0]).latent_dim == 3
    assert Normal(0.0, [1.0, 2.0]).latent_dim == 2
    assert Normal.from_log_var(ops.zeros((4, 2)), ops.zeros((4, 2))).latent_dim == 2
    assert NormalMixture([[0.0, 1.0]]).latent_dim == 2


def tfp_distributions():
    import tensorflow as tf
    import tensorflow_probability as tfp

    tfd, tfb = tfp.distributions, tfp.bijectors
    return {
        "scalar": tfd.StudentT(df=3.0, loc=0.5, scale=2.0),
        "batch of scalars": tfd.Laplace([0.0, 1.0], tf.Variable([1.0, 2.0])),
        "float64": tfd.MultivariateNormalDiag(np.zeros(2), np.ones(2)),
        "mixture": tfd.MixtureSameFamily(
            tfd.Categorical(probs=[0.3, 0.7]),
            tfd.MultivariateNormalDiag(tf.eye(2), scale_diag=0.5 * tf.ones((2, 2))),
        ),
        "list of components": tfd.Mixture(
            tfd.Categorical(probs=np.float32([0.3, 0.7])),
            [tfd.MultivariateNormalDiag([0.0, float(i)]) for i in range(2)],
        ),
        "transformed": tfd.TransformedDistribution(
            tfd.Independent(tfd.Normal([0.0, 0.0], 1.0), 1),
            tfb.Chain([tfb.Shift([-1.0, 1.0]), tfb.Scale(2.0)]),
        ),
    }


TFP_NAMES = [
    "scalar",
    "batch of scalars",
    "float64",
    "mixture",
    "list of components",
    "transformed",
]


@needs_tensorflow
@pytest.mark.parametrize("name", TFP_NAMES)
def test_tensorflow_probability_prior(name, tmp_path):
    pytest.importorskip("tensorflow_probability")
    distribution = tfp_distributions()[name]
    prior = get_prior(distribution)
    assert isinstance(prior, TensorFlowProbability)
    assert prior.latent_dim == (None if name == "scalar" else 2)

    z = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    expected = to_numpy(distribution.log_prob(z.astype(distribution.dtype.name)))
    if distribution.event_shape.rank == 0:
        expected = expected.sum(-1)
    np.testing.assert_allclose(to_numpy(prior.log_prob(z)), expected, rtol=1e-4)

    sample = prior.sample((5, 2), seed=3)
    assert sample.shape == (5, 2) and sample.dtype == "float32"
    np.testing.assert_array_equal(
        to_numpy(sample), to_numpy(prior.sample((5, 2), seed=3))
    )
    generator = keras.random.SeedGenerator(2**32 - 1)
    assert np.abs(
        to_numpy(prior.sample((5, 2), generator) - prior.sample((5, 2), generator))
    ).max()

    model = WithPrior(prior)
    before = to_numpy(model(z))
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(restored(z)), before)


@keras.saving.register_keras_serializable(package="keras_ae_tests")
class WithPrior(keras.Model):
    """A model with a prior in its configuration."""

    def __init__(self, prior, **kwargs):
        super().__init__(**kwargs)
        self.prior = get_prior(prior)

    def call(self, z):
        return self.prior.log_prob(z)

    def get_config(self):
        prior = keras.saving.serialize_keras_object(self.prior)
        return {**super().get_config(), "prior": prior}


@needs_tensorflow
def test_tensorflow_probability_prior_refuses_what_it_cannot_do():
    tfp = pytest.importorskip("tensorflow_probability")
    tfd = tfp.distributions
    with pytest.raises(ValueError, match="must have event shape"):
        get_prior(tfd.MultivariateNormalDiag(np.zeros((3, 2), "float32")))
    with pytest.raises(ValueError, match="must have event shape"):
        get_prior(tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0)] * 2))
    with pytest.raises(ValueError, match="must be continuous"):
        get_prior(tfd.Categorical(probs=[0.5, 0.5]))
    with pytest.raises(ValueError, match="must be a TensorFlow Probability"):
        TensorFlowProbability(3)

    flow = tfd.TransformedDistribution(
        tfd.Normal([0.0, 0.0], 1.0),
        tfp.bijectors.Inline(forward_fn=lambda x: x, forward_min_event_ndims=0),
    )
    with pytest.raises(ValueError, match="can be saved if it consists of"):
        get_prior(flow).get_config()
    config = {"distribution": {"class_name": "reparameterization", "parameters": {}}}
    with pytest.raises(ValueError, match="must be one of TensorFlow Probability's"):
        TensorFlowProbability.from_config(config)


@pytest.mark.skipif(
    backend.BACKEND == "tensorflow", reason="TensorFlow takes these priors"
)
def test_tensorflow_probability_prior_names_the_backend_it_needs():
    for make in (
        lambda: TensorFlowProbability(None),
        lambda: TensorFlowProbability.from_config({"distribution": {}}),
    ):
        with pytest.raises(ValueError, match="needs the 'tensorflow' backend"):
            make()
