"""A decoder that predicts a scale for each value, beside the value itself."""

import json

import keras
import numpy as np
import pytest
from contract import few_everywhere
from numerics import gradient, to_numpy
from PIL import Image
from scipy import special, stats

import keras_ae
from keras_ae import catalogue
from keras_ae.probability.likelihoods import Gaussian, Laplace, StudentT

ORACLES = {
    "gaussian": (Gaussian, stats.norm),
    "laplace": (Laplace, stats.laplace),
    "student_t": (lambda **options: StudentT(5.0, **options), stats.t(5.0)),
}


def oracle_log_prob(oracle, x, location, scale):
    if hasattr(oracle, "args"):
        return oracle.logpdf((x - location) / scale) - np.log(scale)
    return oracle.logpdf(x, location, scale)


@pytest.mark.parametrize("name", ORACLES)
def test_log_prob_equals_scipy(name):
    make, oracle = ORACLES[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 2))
    parameters = rng.normal(size=(3, 4, 2, 2))
    location, scale = parameters[..., 0], 1e-3 + np.log1p(np.exp(parameters[..., 1]))
    expected = oracle_log_prob(oracle, x, location, scale)
    likelihood = make(scale="predicted")
    found = likelihood.log_prob(x, parameters)
    np.testing.assert_allclose(to_numpy(found), expected.sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        to_numpy(likelihood.scale_of(parameters)), scale, rtol=1e-5
    )
    observed = rng.random(x.shape) < 0.5
    found = likelihood.log_prob(x, parameters, observed=observed)
    expected = np.where(observed, expected, 0.0).sum((1, 2))
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5, atol=1e-6)
    error = likelihood.mean_squared_error(x, parameters)
    expected = np.square(x - location).mean(axis=(1, 2))
    np.testing.assert_allclose(to_numpy(error), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.2, "learned"])
def test_student_t_with_one_scale_equals_scipy(scale):
    rng = np.random.default_rng(0)
    x, location = rng.normal(size=(2, 3, 4))
    likelihood = StudentT(3.0, scale)
    number = to_numpy(likelihood.current_scale())
    expected = stats.t(3.0).logpdf((x - location) / number) - np.log(number)
    found = likelihood.log_prob(x, location)
    np.testing.assert_allclose(to_numpy(found), expected.sum(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_draws_have_the_predicted_spread(name):
    make, oracle = ORACLES[name]
    likelihood = make(scale="predicted")
    parameters = np.zeros((40_000, 2, 2), "float32")
    parameters[:, 0] = (-1.0, 1.0)
    parameters[:, 1] = (2.0, -3.0)
    x = to_numpy(likelihood.sample(parameters, seed=0))
    scales = 1e-3 + np.log1p(np.exp([1.0, -3.0]))
    for column, (mean, scale) in enumerate(zip((-1.0, 2.0), scales, strict=True)):
        standardized = (x[:, column] - mean) / scale
        assert stats.kstest(standardized, oracle.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", ORACLES)
def test_gradients_are_finite_whatever_the_decoder_says(name):
    likelihood = ORACLES[name][0](scale="predicted")
    x = np.array([[-50.0, 0.0, 0.0, 50.0]], "float32")
    parameters = np.array(
        [[[0.0, -200.0], [0.0, -200.0], [1e3, 200.0], [0.0, 0.0]]], "float32"
    )
    found = gradient(lambda values: likelihood.log_prob(x, values), parameters)
    assert np.isfinite(found).all()
    # A scale at its floor still learns to be wider.
    assert found[0, 3, 1] > 0


MODELS = {
    "AE": {},
    "VAE": {},
    "IWAE": {"samples": 3},
    "HierarchicalVAE": {"upper_dims": (2,), "upper_widths": (8,)},
    "IAFVAE": {},
    "SphericalVAE": {"latent_dim": 3},
    "ConditionalVAE": {"num_classes": 2},
    "VQVAE": {"num_codes": 4},
    "AutoDecoder": {"search_steps": 2},
    "VariationalAutoDecoder": {"search_steps": 2},
    "GLO": {"search_steps": 2},
    "WAE": {},
    "AAE": {},
    "RAE": {},
}


FEW = ("VAE", "VQVAE", "AutoDecoder", "WAE")


@pytest.mark.thorough
@pytest.mark.parametrize("name", few_everywhere(MODELS, FEW))
def test_every_kind_of_model_predicts_it(name, tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    options = {"latent_dim": 3, "widths": (8,), **MODELS[name]}
    spatial = name == "VQVAE"
    x = rng.random((12, 16, 16) if spatial else (12, 5, 4)).astype("float32")
    architecture = "conv" if spatial else "dense"
    model = getattr(keras_ae, name)(
        likelihood=Gaussian("predicted"), architecture=architecture, **options
    )
    labels = np.arange(12) % 2 if name == "ConditionalVAE" else None
    history = model.fit(x, labels, batch_size=4, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    z = rng.normal(size=(5, model.code_dim)).astype("float32")
    assert model.decode(z).shape == (5, *x.shape[1:])
    assert model.decode_parameters(z).shape == (5, *x.shape[1:], 2)
    scale = model.decode_scale(z)
    assert scale.shape == (5, *x.shape[1:]) and scale.min() > 0
    assert len(np.unique(scale)) > 1
    drawn = model.sample_likelihood(z, seed=1)
    assert drawn.shape == scale.shape and (drawn != model.decode(z)).any()
    np.testing.assert_array_equal(drawn, model.sample_likelihood(z, seed=1))
    if model.can_sample and not spatial:
        means, draws = (model.sample(3, seed=2, mean=mean) for mean in (True, False))
        assert draws.shape == means.shape and (draws != means).any()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.decode_scale(z), scale, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (16, 18), (16, 18, 3)])
def test_networks_of_every_shape_give_two_numbers_a_value(shape):
    model = keras_ae.VAE(2, image_shape=shape, likelihood=Laplace("predicted"))
    assert model.decoder.output_shape == (None, *shape, 2)


@pytest.mark.once
@pytest.mark.thorough
def test_draws_of_tokens_are_of_the_means_of_tokens():
    keras.utils.set_random_seed(0)
    model = keras_ae.FSQVAE(
        levels=(3, 3), image_shape=(16, 16), widths=(4,), likelihood=Gaussian(1e-3)
    )
    x = np.random.default_rng(0).random((8, 16, 16)).astype("float32")
    model.fit(x, epochs=1, verbose=0)
    model.fit_sampler("pixelcnn", x, seed=0, epochs=1)
    means, draws = (model.sample(2, seed=1, mean=mean) for mean in (True, False))
    assert 0 < np.abs(means - draws).max() < 0.01


@pytest.mark.once
def test_a_vae_learns_how_sure_it_can_be():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 2000)
    # Left the values are sure, right they are not.
    spread = np.where(side, 0.5, 0.05)[:, None]
    x = (2.0 * side[:, None] - 1.0) + spread * rng.normal(size=(2000, 4))
    model = keras_ae.VAE(
        1, likelihood=Gaussian("predicted"), architecture="dense", widths=(32,)
    )
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x.astype("float32"), batch_size=200, epochs=40, verbose=0)
    scale = model.decode_scale(model.encode(x.astype("float32"))).mean(axis=1)
    assert np.median(scale[side == 0]) == pytest.approx(0.05, rel=0.3)
    assert np.median(scale[side == 1]) == pytest.approx(0.5, rel=0.2)
    drawn = model.sample(4000, seed=0, mean=False)[:, 0]
    assert drawn.std() == pytest.approx(x[:, 0].std(), rel=0.15)


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StudentT(scale="optimal"), "no closed form"),
        (lambda: StudentT(1), "`degrees` must be > 1"),
        (lambda: StudentT(float("nan")), "`degrees` must be > 1"),
        (lambda: Gaussian("predict"), "'optimal' or 'predicted'"),
        (lambda: keras_ae.GAN(likelihood=Gaussian("predicted")), "must have a number"),
        (
            lambda: keras_ae.StackedSAE(likelihood=Gaussian("predicted")),
            "one number a value",
        ),
        (
            lambda: keras_ae.VAE(
                2,
                image_shape=(6,),
                likelihood=Gaussian("predicted"),
                decoder=keras_ae.networks.decoder((6,), 2),
            ),
            r"to \(batch, 6, 2\)",
        ),
        (
            lambda: keras_ae.VAE(
                2, image_shape=(6,), likelihood="bernoulli"
            ).decode_scale(np.zeros((1, 2))),
            "`likelihood` must have a scale",
        ),
        (
            lambda: Gaussian("predicted").log_prob(np.zeros((2, 3)), np.zeros((2, 3))),
            "2 numbers per value",
        ),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_floor_is_softplus_and_a_thousandth():
    raw = np.array([[[0.0, -100.0], [0.0, 2.0]]], "float32")
    expected = 1e-3 + np.array([[0.0, special.log1p(np.exp(2.0))]])
    found = to_numpy(Gaussian("predicted").scale_of(raw))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_the_integral_over_codes_is_the_density_of_the_recipe():
    main = catalogue.load(catalogue.find_recipe("plane-vae"))
    quadrature, log_density = (
        main.__globals__[name] for name in ("quadrature", "log_density")
    )
    keras.utils.set_random_seed(0)
    model = keras_ae.VAE(
        2, image_shape=(2,), architecture="linear", likelihood=Gaussian(0.7)
    )
    weights, bias = model.decoder.get_weights()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2)).astype("float32")
    # A linear decoder of a normal code makes normal data.
    covariance = weights.T @ weights + 0.49 * np.eye(2)
    expected = stats.multivariate_normal(bias, covariance).logpdf(x)
    found = log_density(model, x, *quadrature(2))
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.once
def test_a_run_shows_the_scale_as_a_picture(invoke, tmp_path, images):
    for index, picture in enumerate(images[:12]):
        pixels = (255 * picture[..., 0]).astype("uint8")
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    settings = ("--set", "scale=predicted", "--set", "architecture=dense")
    result = invoke("train", "sigmavae", "photos", "--epochs", 1, *settings)
    assert result.exit_code == 0, result.output
    (drawn,) = tmp_path.glob("runs/*/pictures/scale.png")
    captions = json.loads((drawn.parent / "captions.json").read_text())
    assert "σ(z) of each value" in captions["scale"]
    with Image.open(drawn) as rows:
        pixels = np.asarray(rows.convert("L"))
    # The scale is the last of three rows, and white where it is largest.
    assert pixels[len(pixels) * 2 // 3 :].max() == 255
