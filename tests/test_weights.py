"""`sample_weight`: of examples, and of each value of x."""

import keras
import numpy as np
import pytest
from contract import few_everywhere

import keras_ae

X = np.random.default_rng(0).random((20, 6, 5), dtype="float32")


def make(name, **kwargs):
    keras.utils.set_random_seed(0)
    options = {"architecture": "dense", "widths": (8,), **kwargs}
    return getattr(keras_ae, name)(2, **options)


def loss(model, **kwargs):
    return model.evaluate(X, verbose=0, return_dict=True, **kwargs)["loss"]


@pytest.mark.parametrize(
    "name", few_everywhere(["AE", "DenoisingAE", "AutoDecoder"], ["AE"])
)
def test_a_column_is_one_weight_an_example(name):
    weight = np.linspace(0.5, 2, 20, dtype="float32")
    histories = []
    for sample_weight in (weight, weight[:, None]):
        model = make(name)
        history = model.fit(X, sample_weight=sample_weight, epochs=2, verbose=0)
        histories.append(history.history["loss"])
        assert loss(model, sample_weight=sample_weight) < 3 * loss(model)
    np.testing.assert_allclose(*histories, rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    few_everywhere(
        ["AE", "VAE", "IWAE", "HierarchicalVAE", "AutoDecoder"], ["VAE", "AutoDecoder"]
    ),
)
def test_a_weight_of_each_value_weighs_its_log_likelihood(name):
    # The last columns count for nothing, so that it does not matter what they are.
    weight = np.ones_like(X)
    weight[..., 3:] = 0
    other = X.copy()
    other[..., 3:] = 0.5
    if name != "AutoDecoder":
        other = X  # An encoder looks at them.
    histories = []
    for x in (X, other):
        model = make(name)
        history = model.fit(x, sample_weight=weight, epochs=2, verbose=0).history
        histories.append(history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-5)


@pytest.mark.parametrize(
    "likelihood", few_everywhere(["bernoulli", "gaussian"], ["gaussian"])
)
def test_weights_of_values_by_hand(likelihood):
    weight = np.random.default_rng(1).random(X.shape, dtype="float32")
    model = make("AE", likelihood=likelihood)
    model.build((None, *X.shape[1:]))
    found = loss(model, sample_weight=weight)
    parameters = keras.ops.convert_to_numpy(model.decoder(model.encode(X)))
    if likelihood == "bernoulli":
        log_prob = X * parameters - np.logaddexp(0, parameters)
    else:
        log_prob = -0.5 * (X - parameters) ** 2 - 0.5 * np.log(2 * np.pi)
    expected = -np.sum(weight * log_prob) / len(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.once
def test_the_optimal_scale_is_that_of_what_has_weight():
    likelihood = keras_ae.likelihoods.Gaussian()
    x = np.array([[1.0, 5.0], [2.0, 7.0]], "float32")
    weight = np.array([[1.0, 0.0], [3.0, 0.0]], "float32")
    with likelihood.weighing(keras.ops.convert_to_tensor(weight)):
        likelihood.log_prob(x, np.zeros_like(x), training=True)
    scale = keras.ops.convert_to_numpy(likelihood.current_scale())
    np.testing.assert_allclose(scale, np.sqrt((1 + 3 * 4) / 4), rtol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "weight", "message"),
    [
        ("AE", np.ones((20, 5)), r"\(n,\).*or \(n, 6, 5\).*Received: .*\(n, 5,\)"),
        ("AE", np.ones((20, 6)), "must have the shape"),
        ("VAEGAN", np.ones_like(X), r"\(n,\), one weight an example. Received"),
        ("GAN", np.ones_like(X), "one weight an example. Received"),
        ("AE", -np.ones(20), "must be finite and >= 0. Received: weights from -1"),
        ("AE", np.full(20, np.nan), "must be finite"),
    ],
)
def test_other_weights_are_refused_before_the_first_step(name, weight, message):
    model = make(name)
    with pytest.raises(ValueError, match=message):
        model.fit(X, sample_weight=weight, verbose=0)
    for held_back in ((X, None, weight), (X, X, weight)):
        with pytest.raises(ValueError, match=message):
            model.fit(X, validation_data=held_back, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.evaluate(X, sample_weight=weight, verbose=0)
