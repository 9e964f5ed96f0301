"""HierarchicalVAE against a model of linear layers, whose density is known."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy
from scipy import stats

import keras_ae
from keras_ae.models.variational.hierarchical import _product
from keras_ae.probability.distributions import Normal

SCALE, STDDEV = 0.5, 0.7


def linear():
    """A model of linear layers, and the exact density of x."""
    rng = np.random.default_rng(0)
    model = keras_ae.HierarchicalVAE(
        3,
        upper_dims=(2,),
        upper_widths=(),
        architecture="linear",
        image_shape=(6,),
        likelihood=keras_ae.likelihoods.Gaussian(scale=SCALE),
    )
    loadings = rng.normal(size=(3, 6))
    model.decoder.layers[-1].set_weights([loadings, np.zeros(6)])
    upper = rng.normal(size=(2, 3))
    heads = {layer.name: layer for layer in model.downward[0].layers}
    heads["mean"].set_weights([upper, np.zeros(3)])
    heads["log_var"].set_weights([np.zeros((2, 3)), np.full(3, 2 * np.log(STDDEV))])
    codes = upper.T @ upper + STDDEV**2 * np.eye(3)
    decoded = loadings.T @ codes @ loadings
    return (
        model,
        decoded,
        stats.multivariate_normal(np.zeros(6), decoded + SCALE**2 * np.eye(6)),
    )


def test_log_likelihood_converges_to_the_exact_one():
    model, _, exact = linear()
    # Layers that see next to nothing: codes are drawn from the prior.
    for network in (model.encoder, *model.upward):
        for head in network.layers[1:]:
            if head.weights:
                kernel, bias = head.get_weights()
                wide = 8.0 if head.name == "log_var" and network is model.encoder else 0
                head.set_weights([np.zeros_like(kernel), np.full_like(bias, wide)])
    x = exact.rvs(6, random_state=1).astype("float32")
    many = model.log_likelihood(x, samples=40_000, seed=0)
    np.testing.assert_allclose(many, exact.logpdf(x), atol=0.3)
    few = model.log_likelihood(x, samples=2, seed=0)
    assert few.mean() < many.mean()


def test_elbo_is_the_mean_of_the_log_weights():
    model, _, exact = linear()
    x = exact.rvs(50, random_state=1).astype("float32")
    elbo = np.mean(
        [model.evaluate(x, verbose=0, return_dict=True)["elbo"] for _ in range(40)]
    )
    draws = [model.log_likelihood(x, samples=1, seed=s).mean() for s in range(40)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert elbo == pytest.approx(np.mean(draws), abs=5 * error)
    assert elbo < exact.logpdf(x).mean()


def test_samples_have_the_covariance_of_the_model():
    model, decoded, _ = linear()
    pictures = model.sample(20_000, seed=0)
    np.testing.assert_allclose(
        np.cov(pictures.T), decoded, atol=0.06 * np.abs(decoded).max()
    )
    np.testing.assert_array_equal(pictures[:3], model.sample(20_000, seed=0)[:3])


def test_product_of_densities():
    rng = np.random.default_rng(0)
    (mean_a, log_var_a), (mean_b, log_var_b) = rng.normal(size=(2, 2, 4))
    product = _product(
        *(
            Normal.from_log_var(*(ops.convert_to_tensor(v, "float32") for v in pair))
            for pair in ((mean_a, log_var_a), (mean_b, log_var_b))
        )
    )
    precision = np.exp(-log_var_a) + np.exp(-log_var_b)
    mean = (mean_a * np.exp(-log_var_a) + mean_b * np.exp(-log_var_b)) / precision
    np.testing.assert_allclose(to_numpy(product.mean), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_numpy(product.log_var), -np.log(precision), rtol=1e-4)


def test_each_layer_has_its_kl_and_its_free_bits(images):
    options = {"upper_dims": (4, 2), "architecture": "dense", "widths": (16,)}
    model = keras_ae.HierarchicalVAE(3, **options)
    logs = model.fit(images, verbose=0).history
    assert {"kl_1", "kl_2", "kl_3"} <= logs.keys()
    assert logs["elbo"][0] == pytest.approx(-logs["loss"][0], rel=1e-4)
    free = keras_ae.HierarchicalVAE(3, free_bits=50.0, **options)
    logs = free.evaluate(images, verbose=0, return_dict=True)
    found = [logs[f"kl_{layer}"] for layer in (1, 2, 3)]
    assert found == pytest.approx([150.0, 200.0, 100.0])


def test_upper_layers_learn(images):
    keras.utils.set_random_seed(0)
    model = keras_ae.HierarchicalVAE(
        4, upper_dims=(2,), architecture="dense", widths=(32,)
    )
    model.compile(keras.optimizers.Adam(1e-2))
    logs = model.fit(images, epochs=40, batch_size=16, verbose=0).history
    assert logs["elbo"][-1] > logs["elbo"][0]
    z = model.encode(images)
    np.testing.assert_allclose(model.decode(z), model.reconstruct(images), atol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upper_dims": ()}, "must name a layer or more"),
        ({"upper_dims": 16}, "`upper_dims` must be a list"),
        ({"upper_dims": (4, 0)}, r"`upper_dims\[1\]` must be an integer >= 1"),
        ({"upper_widths": (0,)}, r"`upper_widths\[0\]` must be"),
        ({"prior": None}, "`prior` must be left out"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.HierarchicalVAE(2, **arguments)
