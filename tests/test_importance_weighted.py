"""Importance-weighted bounds: in NumPy, their order, and where they coincide."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy
from scipy import special
from test_vae import linear_gaussian_vae

import keras_ae

NOISE = np.random.default_rng(1).normal(size=(24, 3)).astype("float32")


class FixedNoise(keras.layers.Layer):
    def call(self, mean, log_var):
        noise = ops.convert_to_tensor(NOISE)[: ops.shape(mean)[0]]
        return mean + ops.exp(0.5 * log_var) * noise


def examples():
    return np.random.default_rng(0).random((4, 6), dtype="float32")


def make(Model, **options):
    """A small model, always of the same weights."""
    keras.utils.set_random_seed(3)
    model = Model(
        3,
        architecture="dense",
        widths=(16,),
        likelihood=keras_ae.likelihoods.Gaussian(0.2),
        **options,
    )
    model.sampling = FixedNoise()
    model.build((None, 6))
    return model


def logs(Model, **options):
    model = make(Model, **options)
    return model.evaluate(examples(), verbose=0, return_dict=True)


def log_weights(samples):
    """Weights `(samples, 4)` of the model's codes, in NumPy."""
    x, model = examples(), make(keras_ae.VAE)
    posterior = model.posterior(ops.convert_to_tensor(x))
    mean, log_var = to_numpy(posterior.mean), to_numpy(posterior.log_var)
    noise = NOISE[: 4 * samples].reshape(samples, 4, 3)
    z = mean + np.exp(0.5 * log_var) * noise
    decoded = model.decode(z.reshape(-1, 3)).reshape(samples, 4, 6)

    def normal(values, mean, variance):
        squares = np.square(values - mean) / variance
        return -0.5 * (squares + np.log(2 * np.pi * variance)).sum(axis=-1)

    log_joint = normal(x, decoded, 0.04) + normal(z, 0.0, 1.0)
    return log_joint - normal(z, mean, np.exp(log_var))


def bound(weights):
    return special.logsumexp(weights, axis=0) - np.log(len(weights))


def test_bound_in_numpy():
    weights = log_weights(6)
    found = logs(keras_ae.IWAE, samples=6)
    assert found["loss"] == pytest.approx(-bound(weights).mean(), rel=1e-4)
    assert found["elbo"] == pytest.approx(weights.mean(), rel=1e-4)


def test_one_sample_is_a_vae():
    # Of one component, whose KL is estimated from the code, as IWAE's is.
    prior = keras_ae.distributions.NormalMixture([[0.0, 0.0, 0.0]], 1.0)
    vae, iwae = (
        logs(Model, prior=prior, **options)
        for Model, options in ((keras_ae.VAE, {}), (keras_ae.IWAE, {"samples": 1}))
    )
    for name in ("loss", "elbo", "mse"):
        assert iwae[name] == pytest.approx(vae[name], rel=1e-5)


def test_multiple_bounds_in_numpy_and_at_their_ends():
    weights = log_weights(6)
    grouped = weights.reshape(3, 2, 4)
    expected = np.mean([bound(grouped[:, 0]), bound(grouped[:, 1])])
    found = logs(keras_ae.MIWAE, samples=3, bounds=2)["loss"]
    assert found == pytest.approx(-expected, rel=1e-4)
    one = logs(keras_ae.MIWAE, samples=6, bounds=1)["loss"]
    assert one == pytest.approx(logs(keras_ae.IWAE, samples=6)["loss"], rel=1e-5)
    many = logs(keras_ae.MIWAE, samples=1, bounds=6)
    assert many["loss"] == pytest.approx(-many["elbo"], rel=1e-5)


def test_combination_at_its_ends_and_between():
    iwae = logs(keras_ae.IWAE, samples=6)
    for weight in (0.0, 0.3, 1.0):
        found = logs(keras_ae.CIWAE, samples=6, elbo_weight=weight)["loss"]
        expected = -weight * iwae["elbo"] + (1 - weight) * iwae["loss"]
        assert found == pytest.approx(expected, rel=1e-5)


def test_each_network_has_its_own_bound():
    found = logs(keras_ae.PIWAE, samples=3, bounds=2)
    iwae = logs(keras_ae.IWAE, samples=6)
    miwae = logs(keras_ae.MIWAE, samples=3, bounds=2)
    assert found["negative_bound"] == pytest.approx(iwae["loss"], rel=1e-5)
    assert found["encoder_bound"] == pytest.approx(miwae["loss"], rel=1e-5)
    one = logs(keras_ae.PIWAE, samples=6, bounds=1)
    assert one["encoder_bound"] == pytest.approx(one["negative_bound"], rel=1e-5)


@pytest.mark.parametrize("player", ["encoder", "decoder"])
def test_partial_bounds_move_each_network_as_its_own_model_would(player):
    x = examples()

    def moved(Model, optimizer, **options):
        model = make(Model, **options)
        model.compile(optimizer)
        model.train_on_batch(x)
        return [to_numpy(v) for v in getattr(model, player).trainable_variables]

    sgd = keras.optimizers.SGD
    partial = moved(
        keras_ae.PIWAE,
        {name: sgd(1e-3 * (name == player)) for name in ("encoder", "decoder")},
        samples=3,
        bounds=2,
    )
    if player == "encoder":
        alone = moved(keras_ae.MIWAE, sgd(1e-3), samples=3, bounds=2)
    else:
        alone = moved(keras_ae.IWAE, sgd(1e-3), samples=6)
    for mine, theirs in zip(partial, alone, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_bound_rises_with_the_samples_to_the_exact_likelihood():
    vae, exact = linear_gaussian_vae()
    x = exact.rvs(2000, random_state=1).astype("float32")
    found = []
    for samples in (1, 5, 50):
        model = keras_ae.IWAE(
            2,
            samples=samples,
            image_shape=(6,),
            architecture="linear",
            likelihood=keras_ae.likelihoods.Gaussian(scale=0.5),
        )
        model.encoder.set_weights(vae.encoder.get_weights())
        model.decoder.set_weights(vae.decoder.get_weights())
        heads = {layer.name: layer for layer in model.encoder.layers}
        kernel, bias = heads["log_var"].get_weights()
        # A posterior wider than the exact one.
        heads["log_var"].set_weights([kernel, bias + 0.7])
        logs = model.evaluate(x, verbose=0, batch_size=500, return_dict=True)
        found.append(-logs["loss"])
    assert found[0] < found[1] - 0.05 < found[2] - 0.06
    assert found[2] == pytest.approx(exact.logpdf(x).mean(), abs=0.03)


@pytest.mark.once
@pytest.mark.parametrize(
    ("Model", "arguments", "message"),
    [
        (keras_ae.IWAE, {"samples": 0}, "`samples` must be an integer >= 1"),
        (keras_ae.IWAE, {"beta": 2.0}, "`beta` must be left out"),
        (keras_ae.MIWAE, {"bounds": 0}, "`bounds` must be an integer >= 1"),
        (keras_ae.PIWAE, {"free_bits": 0.1}, "`free_bits` must be left out"),
        (keras_ae.CIWAE, {"elbo_weight": 1.5}, "`elbo_weight` must be <= 1"),
        (keras_ae.CIWAE, {"elbo_weight": -0.5}, "`elbo_weight` must be >= 0"),
    ],
)
def test_bad_arguments(Model, arguments, message):
    with pytest.raises(ValueError, match=message):
        Model(2, **arguments)
