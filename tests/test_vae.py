"""The mathematics of VAE and AE against closed forms, SciPy and scikit-learn."""

import keras
import numpy as np
import pytest
from contract import few_everywhere, telling
from numerics import to_numpy
from scipy import stats
from sklearn.decomposition import PCA

import keras_ae
from keras_ae import backend
from keras_ae.probability import distributions, likelihoods


def linear_gaussian_vae(prior_stddev=1.0, scale=0.5):
    """A VAE whose posterior is the exact one, and the exact log p(x)."""
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    loadings = orthogonal * [1.5, 0.7]  # (6, 2), orthogonal columns
    offset = rng.normal(size=6)
    model = keras_ae.VAE(
        2,
        image_shape=(6,),
        architecture="linear",
        likelihood=likelihoods.Gaussian(scale=scale),
        prior=distributions.Normal(0.0, prior_stddev),
    )
    # Columns are orthogonal, so the posterior covariance is diagonal.
    precision = (loadings**2).sum(0) / scale**2 + 1 / prior_stddev**2
    projection = loadings / scale**2 / precision
    head = {layer.name: layer for layer in model.encoder.layers}
    head["mean"].set_weights([projection, -offset @ projection])
    head["log_var"].set_weights([np.zeros((6, 2)), -np.log(precision)])
    model.decoder.layers[-1].set_weights([loadings.T, offset])
    covariance = prior_stddev**2 * loadings @ loadings.T + scale**2 * np.eye(6)
    return model, stats.multivariate_normal(offset, covariance)


@pytest.mark.parametrize("prior_stddev", [1.0, 0.01])
def test_log_likelihood_of_a_linear_gaussian_vae_is_exact(prior_stddev):
    model, exact = linear_gaussian_vae(prior_stddev)
    x = exact.rvs(7, random_state=1).astype("float32")
    for samples in (1, 10):
        estimate = model.log_likelihood(x, samples=samples, seed=0)
        np.testing.assert_allclose(estimate, exact.logpdf(x), rtol=1e-4, atol=1e-3)
    elbo = model.evaluate(x, verbose=0, return_dict=True)["elbo"]
    assert elbo == pytest.approx(exact.logpdf(x).mean(), abs=1.0)


def test_log_likelihood_with_a_wrong_posterior_converges_to_the_exact_one():
    model, exact = linear_gaussian_vae()
    head = {layer.name: layer for layer in model.encoder.layers}
    kernel, bias = head["log_var"].get_weights()
    head["log_var"].set_weights([kernel, bias + 0.7])
    x = exact.rvs(5, random_state=2).astype("float32")
    few = model.log_likelihood(x, samples=2, seed=0).mean()
    many = model.log_likelihood(x, samples=20_000, seed=0)
    np.testing.assert_allclose(many, exact.logpdf(x), atol=0.03)
    assert few < many.mean()


def test_log_likelihood_does_not_depend_on_the_chunks():
    model, exact = linear_gaussian_vae()
    x = exact.rvs(9, random_state=3).astype("float32")
    for chunk_size in (16, 100):
        estimate = model.log_likelihood(x, samples=50, seed=0, chunk_size=chunk_size)
        np.testing.assert_allclose(estimate, exact.logpdf(x), rtol=1e-4, atol=1e-3)
    again = [model.log_likelihood(x, samples=3, seed=s) for s in (5, 5)]
    np.testing.assert_array_equal(*again)


@pytest.mark.slow
def test_linear_ae_finds_the_subspace_of_pca():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8)) * [3, 2, 1, 0.3, 0.3, 0.2, 0.2, 0.1]
    x = (x @ np.linalg.qr(rng.normal(size=(8, 8)))[0]).astype("float32")
    model = keras_ae.AE(2, architecture="linear")
    model.compile(keras.optimizers.Adam(0.03))
    model.fit(x, epochs=60, batch_size=100, verbose=0)
    model.compile(keras.optimizers.Adam(0.003))
    model.fit(x, epochs=20, batch_size=100, verbose=0)
    pca = PCA(2).fit(x)
    best = np.square(x - pca.inverse_transform(pca.transform(x))).mean()
    assert np.square(x - model.reconstruct(x)).mean() < 1.02 * best
    basis = np.linalg.qr(model.decoder.layers[-1].get_weights()[0].T)[0]
    cosines = np.linalg.svd(pca.components_ @ basis)[1]  # of the principal angles
    assert cosines.min() > 0.99


def kl_logged(**kwargs):
    model = keras_ae.VAE(2, image_shape=(5,), architecture="linear", **kwargs)
    x = np.random.default_rng(0).random((64, 5), dtype="float32")
    logs = model.evaluate(x, verbose=0, return_dict=True, batch_size=64)
    return model, x, logs


@pytest.mark.parametrize("prior", [(0.0, 1.0), (0.3, 0.01)])
def test_kl_against_its_formula(prior):
    model, x, logs = kl_logged(prior=distributions.Normal(*prior))
    posterior = model.posterior(keras.ops.convert_to_tensor(x))
    mean, log_var = (
        keras.ops.convert_to_numpy(v).astype("float64")
        for v in (posterior.mean, posterior.log_var)
    )
    variance = prior[1] ** 2
    kl = 0.5 * (
        np.exp(log_var) / variance
        + (mean - prior[0]) ** 2 / variance
        - 1
        - log_var
        + np.log(variance)
    )
    assert logs["kl"] == pytest.approx(kl.sum(1).mean(), rel=1e-4)


def test_beta_weighs_the_kl_and_not_the_elbo():
    plain, weighted = (kl_logged(beta=beta)[2] for beta in (1.0, 0.0))
    assert weighted["kl"] == 0
    assert weighted["loss"] == pytest.approx(weighted["reconstruction"])
    assert weighted["elbo"] < -weighted["loss"]
    assert plain["elbo"] == pytest.approx(-plain["loss"], rel=1e-5)


def test_beta_is_changed_between_fits(images, tmp_path):
    model = keras_ae.VAE(2, architecture="dense", widths=(8,))
    model.compile(keras.optimizers.SGD(0.0))
    logs = model.fit(images, verbose=0).history
    assert logs["kl"][0] > 0
    model.beta = 0.0
    assert model.fit(images, verbose=0).history["kl"] == [0.0]
    model.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert loaded.beta == 0.0 and float(loaded.kl_weight) == 0.0
    with pytest.raises(ValueError, match="`beta` must be >= 0"):
        model.beta = -1.0


def test_free_bits_cost_their_price_and_no_less():
    _, _, logs = kl_logged(free_bits=50.0)
    assert logs["kl"] == pytest.approx(2 * 50.0)
    _, _, plain = kl_logged(free_bits=0.0)
    assert plain["kl"] < 100
    with pytest.raises(ValueError, match="`free_bits` needs"):
        mixture = distributions.NormalMixture([[0.0, 1.0]])
        keras_ae.VAE(2, prior=mixture, free_bits=0.1)


def test_mixture_prior_trains_and_samples(images):
    prior = distributions.NormalMixture([[-2.0, 0.0], [2.0, 0.0]], 0.5)
    model = keras_ae.VAE(2, prior=prior, widths=(16,), architecture="dense")
    losses = model.fit(images, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert np.isfinite(model.log_likelihood(images[:4], samples=5)).all()
    assert model.sample(3, seed=0).shape == (3, *images.shape[1:])


def test_tensorflow_probability_prior(images, tmp_path):
    if keras.backend.backend() != "tensorflow":
        with pytest.raises(ValueError, match="needs the 'tensorflow' backend"):
            backend.require("tensorflow", "A TensorFlow Probability prior")
        return
    tfp = pytest.importorskip("tensorflow_probability")
    prior = tfp.distributions.StudentT(df=3.0, loc=[0.0, 1.0], scale=1.0)
    model = keras_ae.VAE(2, prior=prior, widths=(16,), architecture="dense")
    model.fit(images, epochs=2, verbose=0)
    assert model.sample(3, seed=0).shape == (3, *images.shape[1:])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.sample(3, seed=1), again.sample(3, seed=1))


TRAINED_EVERYWHERE = (
    "discretized_logistic",
    "student_t",
    likelihoods.Gaussian("learned"),
    likelihoods.Gaussian("predicted"),
)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "likelihood",
    few_everywhere(
        [
            *TRAINED_EVERYWHERE,
            "bernoulli",
            "continuous_bernoulli",
            "laplace",
            likelihoods.Gaussian(0.1),
            likelihoods.Gaussian("optimal", "sigmoid"),
            likelihoods.Laplace("predicted", "sigmoid"),
            likelihoods.StudentT(scale="predicted"),
        ],
        TRAINED_EVERYWHERE,
    ),
)
def test_every_likelihood_trains(images, likelihood, tmp_path):
    model = keras_ae.VAE(2, likelihood=likelihood, architecture="dense", widths=(16,))
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(images, epochs=8, verbose=0, validation_data=images).history
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite(history["val_loss"]).all()
    x = model.reconstruct(images)
    assert x.shape == images.shape and np.isfinite(x).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        model.log_likelihood(images[:2], samples=3, seed=0),
        again.log_likelihood(images[:2], samples=3, seed=0),
    )


def test_samples_repeat_by_seed(images):
    model = keras_ae.VAE(2, image_shape=images.shape[1:])
    np.testing.assert_array_equal(model.sample(3, seed=4), model.sample(3, seed=4))
    assert (model.sample(3, seed=4) != model.sample(3, seed=5)).any()


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, x: model.sample(0), "`n` must be"),
        (lambda model, x: model.log_likelihood(x, samples=0), "`samples` must be"),
        (lambda model, x: model.log_likelihood(x, chunk_size=0), "`chunk_size` must"),
        (lambda model, x: model.encode(x, batch_size=0), "`batch_size` must be"),
        (lambda model, x: model.traverse(x[0], steps=0), "`steps` must be"),
        (lambda model, x: model.interpolate(x, x, steps=2.5), "`steps` must be"),
        (lambda model, x: keras_ae.VAE(2, beta="a"), "`beta` must be >= 0"),
        (lambda model, x: keras_ae.VAE(2, beta=-1), r"`beta` must be >= 0. .*beta=-1"),
        (lambda model, x: keras_ae.VAE(2, free_bits=-1), "`free_bits` must be >= 0"),
        (lambda model, x: keras_ae.VAE(2, prior=3), "`prior` must be"),
        (
            lambda model, x: keras_ae.VAE(2, prior=distributions.Normal([0.0] * 3)),
            "`prior` must have latent_dim=2",
        ),
        (lambda model, x: keras_ae.VAE(2).sample(3), "image_shape"),
    ],
)
def test_bad_arguments(images, call, message):
    model = keras_ae.VAE(2, image_shape=images.shape[1:])
    with pytest.raises(ValueError, match=message):
        call(model, images)


def test_evaluate_takes_weights_by_position(images):
    model = keras_ae.AE(2, architecture="dense", widths=(8,))
    weight = np.linspace(0, 1, 32)
    expected = model.evaluate(images, sample_weight=weight, verbose=0)
    found = model.evaluate(images, None, 32, 0, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    plain = model.evaluate(images, verbose=0)
    assert not np.allclose(plain, expected, rtol=1e-2)


def test_a_model_of_the_same_name_is_another(tmp_path):
    class VAE(keras_ae.VAE):
        def __init__(self, width=8):
            super().__init__(2, architecture="dense", widths=(width,))
            self.width = width

    assert keras.saving.get_registered_object("keras_ae>VAE") is keras_ae.VAE
    model = VAE(width=6)
    model.build((None, 3))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is VAE and again.width == 6
    assert again.encoder.count_params() == model.encoder.count_params()


class Counted(keras_ae.AE):
    """With a metric of its own, as Keras' users add one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.batches = keras.metrics.Sum(name="batches")

    @property
    def metrics(self):
        return [*super().metrics, self.batches]

    def terms(self, x, outputs, training=False):
        self.batches.update_state(1.0)
        return super().terms(x, outputs, training)


def test_a_model_may_have_metrics_of_its_own(images):
    model = Counted(2, architecture="dense", widths=(8,))
    options = {"batch_size": 8, "epochs": 3, "verbose": 0}
    history = model.fit(images, validation_data=images[:16], **options).history
    assert history["batches"] == [4.0] * 3
    assert history["val_batches"] == [2.0] * 3
    assert model.evaluate(images, batch_size=8, verbose=0, return_dict=True)[
        "batches"
    ] == pytest.approx(4.0)


def test_what_terms_tell_by_names_of_monitors_is_not_minimised(images):
    histories = []
    for Model in (keras_ae.AE, telling(keras_ae.AE)):
        keras.utils.set_random_seed(1)
        model = Model(2, architecture="dense", widths=(8,))
        weights = np.linspace(0, 2, len(images), dtype="float32")
        options = {"sample_weight": weights, "shuffle": False, "verbose": 0}
        history = model.fit(images, batch_size=16, epochs=2, **options).history
        histories.append(history)
    (brightness,) = histories[1].keys() - histories[0].keys()
    assert brightness == "brightness"
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], 1e-5, err_msg=name)
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(images, verbose=0).history
    means = to_numpy(model(model.to_floats(images))["parameters"]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(history["brightness"], 1e3 * means.mean(), rtol=1e-4)


@pytest.mark.once
@pytest.mark.parametrize("method", ["terms", "monitors"])
def test_what_call_returned_is_read_only(images, method):
    def write(self, x, outputs, *args, **kwargs):
        outputs["more"] = x
        return {}

    Writing = type("Writing", (keras_ae.VAE,), {method: write})
    model = Writing(2, architecture="dense", widths=(8,))
    with pytest.raises(TypeError, match="does not support item assignment"):
        model.fit(images, verbose=0)


@pytest.mark.once
def test_constructors_may_build_and_compile(images):
    class Built(keras_ae.VAE):
        def __init__(self, **kwargs):
            super().__init__(2, architecture="dense", widths=(8,), **kwargs)
            self.build((None, *images.shape[1:]))

    class Compiled(Built):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.compile()
            self.optimizer.learning_rate = 1e-5

    for Model, rate in ((Built, 1e-3), (Compiled, 1e-5)):
        model = Model()
        model.fit(images, verbose=0)
        assert abs(float(model.optimizer.learning_rate) - rate) < 1e-9


@pytest.mark.once
def test_a_model_is_built_once():
    model = keras_ae.VAE(2, image_shape=(5,), architecture="linear")
    before = model.get_weights()
    model.build((None, 5))
    for weight, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)
    with pytest.raises(ValueError, match="was made for examples"):
        model.build((None, 6))


def test_arguments_that_are_changed_between_fits_are_followed(images):
    model = keras_ae.VAE(2, architecture="dense", widths=(4,))
    few = images[:16]
    before = model.evaluate(few, verbose=0, return_dict=True)
    model.fit(few, verbose=0)
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(few, verbose=0)
    model.free_bits = 50.0
    # Each of two dimensions pays for as many nats at least.
    assert before["kl"] < 50
    assert model.fit(few, verbose=0).history["kl"][0] >= 100 - 1e-3
    assert model.evaluate(few, verbose=0, return_dict=True)["kl"] >= 100 - 1e-3
    assert model.train_on_batch(few, return_dict=True)["kl"] >= 100 - 1e-3
    assert (model.terms_of(few)["kl"] >= 100 - 1e-3).all()
    model.free_bits = 0.0
    assert (model.terms_of(few)["kl"] < 50).all()
    assert model.fit(few, verbose=0).history["kl"][0] < 50
