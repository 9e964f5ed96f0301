"""FactorVAE: its terms in NumPy, permutations, a known correlation."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy
from scipy import stats

import keras_ae
from keras_ae import backend
from keras_ae.models.adversarial.factor import PermutedDimensions

NOISE = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")


class FixedNoise(keras.layers.Layer):
    def call(self, mean, log_var):
        return mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor(NOISE)


class Reversed(keras.layers.Layer):
    """Stands in for a permutation: turns the first dimension upside down."""

    def call(self, z):
        return ops.concatenate([ops.flip(z[:, :1], axis=0), z[:, 1:]], axis=1)


def make(Model=keras_ae.FactorVAE, layers=None, features=6, **options):
    """A small model of vectors; `layers` stand in for some of its own."""
    keras.utils.set_random_seed(3)
    settings = {
        "latent_dim": 3,
        "architecture": "dense",
        "widths": (16,),
        "likelihood": keras_ae.likelihoods.Gaussian(0.5),
    }
    model = Model(**{**settings, **options})
    for name, layer in (layers or {}).items():
        setattr(model, name, layer)
    model.build((None, features))
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).random((8, 6), dtype="float32")


def copies(variables):
    return [np.copy(to_numpy(variable)) for variable in variables]


def test_terms_are_the_papers(x):
    layers = {"sampling": FixedNoise(), "permutation": Reversed()}
    model = make(layers=layers, gamma=3.0, beta=0.7)
    outputs = model(ops.convert_to_tensor(x), training=True)
    received = model.terms(x, outputs, training=True)
    received |= model.discriminator_terms(x, outputs, training=True)

    heads = {name: to_numpy(head) for name, head in model.encoder(x).items()}
    mean, stddev = heads["mean"], np.exp(heads["log_var"] / 2)
    z = (mean + stddev * NOISE).astype("float32")
    permuted = np.concatenate([z[::-1, :1], z[:, 1:]], axis=1)
    decoded = to_numpy(model.decoder(z))
    logits, permuted_logits = (
        to_numpy(model.discriminator(codes))[:, 0] for codes in (z, permuted)
    )
    kl = 0.5 * (stddev**2 + mean**2 - 1 - heads["log_var"]).sum(axis=1)
    expected = {
        "reconstruction": -stats.norm(decoded, 0.5).logpdf(x).sum(axis=1),
        "kl": 0.7 * kl,
        "elbo": stats.norm(decoded, 0.5).logpdf(x).sum(axis=1) - kl,
        "total_correlation": 3 * logits,
        # -log D(z) and -log (1 - D(z')), of probabilities.
        "discriminator_codes": -0.5 * np.log(1 / (1 + np.exp(-logits))),
        "discriminator_permuted": -0.5 * np.log(1 - 1 / (1 + np.exp(-permuted_logits))),
        "discriminator_accuracy": logits > permuted_logits,
    }
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            to_numpy(received[name]), value, rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("compiled", [True, False])
def test_permutations_keep_each_dimension_and_mix_them(compiled):
    layer = PermutedDimensions(seed=0)
    z = np.arange(40, dtype="float32")[:, None] + 100 * np.arange(5, dtype="float32")
    permute = backend.compiled(layer, layer.variables) if compiled else layer
    permuted = to_numpy(permute(ops.convert_to_tensor(z)))
    np.testing.assert_array_equal(np.sort(permuted, axis=0), z)
    # Which row each value came from.
    rows = permuted % 100
    assert len({tuple(column) for column in rows.T}) == 5
    assert (rows != np.arange(40)[:, None]).mean() > 0.8
    # A share of 1 / 40 of pairs stays together by chance.
    assert (rows[:, 0] == rows[:, 1]).mean() < 0.2
    again = to_numpy(permute(ops.convert_to_tensor(z)))
    assert (again != permuted).mean() > 0.8


def test_permutations_are_uniform():
    layer = PermutedDimensions(seed=1)
    z = ops.convert_to_tensor(np.tile(np.arange(3, dtype="float32")[:, None], 2000))
    permuted = to_numpy(layer(z))
    found = np.unique(permuted, axis=1, return_counts=True)[1]
    assert len(found) == 6  # orders of three
    assert stats.chisquare(found).pvalue > 1e-3


@pytest.mark.parametrize("name", ["vae", "discriminator"])
def test_players_leave_the_others_weights_alone(x, name):
    model = make()
    everyone = {player.name: player for player in model.players()}
    (other,) = everyone.keys() - {name}
    model.players = lambda: [everyone[name]]
    before = {key: copies(player.variables) for key, player in everyone.items()}
    for _ in range(3):
        model.train_on_batch(x)
    for mine, theirs in zip(
        before[other], copies(everyone[other].variables), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    moved = [
        (mine != theirs).any()
        for mine, theirs in zip(
            before[name], copies(everyone[name].variables), strict=True
        )
    ]
    assert all(moved)
    learnt = [id(v) for player in everyone.values() for v in player.variables]
    assert sorted(learnt) == sorted(id(v) for v in model.trainable_variables)


def test_the_likelihoods_own_scale_is_learnt(x):
    model = make(likelihood=keras_ae.likelihoods.Gaussian("learned"))
    before = copies(model.likelihood.trainable_variables)
    assert before
    model.fit(x, epochs=2, verbose=0)
    assert copies(model.likelihood.trainable_variables) != before


def test_without_gamma_it_is_a_vae(x):
    layers = {"sampling": FixedNoise()}
    plain, factor = make(keras_ae.VAE, layers), make(layers=layers, gamma=0.0)
    factor.encoder.set_weights(plain.encoder.get_weights())
    factor.decoder.set_weights(plain.decoder.get_weights())
    for model in (plain, factor):
        model.compile(keras.optimizers.Adam(1e-2))
    plain, factor = (
        model.fit(x, epochs=5, batch_size=8, shuffle=False, verbose=0).history
        for model in (plain, factor)
    )
    for name in ("reconstruction", "kl", "elbo", "mse"):
        np.testing.assert_allclose(plain[name], factor[name], rtol=1e-5, err_msg=name)
    assert factor["total_correlation"] == [0.0] * 5
    np.testing.assert_allclose(factor["vae_loss"], plain["loss"], rtol=1e-5)


def gaussian_codes(correlation):
    """A model whose codes are its examples, and two correlated numbers."""
    inputs = keras.Input((2,))
    encoder = keras.Model(
        inputs,
        {
            "mean": keras.layers.Identity()(inputs),
            "log_var": keras.layers.Rescaling(0.0, -20.0)(inputs),
        },
    )
    # The logarithm of a ratio of Gaussians is a polynomial of degree two.
    z = keras.Input((2,))
    products = keras.layers.Reshape((4,))(ops.expand_dims(z, 1) * z[:, :, None])
    discriminator = keras.Model(z, keras.layers.Dense(1)(products))
    model = make(
        latent_dim=2,
        features=2,
        gamma=2.0,
        encoder=encoder,
        discriminator=discriminator,
    )
    covariance = [[1.0, correlation], [correlation, 1.0]]
    random = np.random.default_rng(0)
    return model, random.multivariate_normal([0, 0], covariance, 8192).astype("float32")


@pytest.mark.slow
def test_finds_the_total_correlation_of_gaussians():
    model, x = gaussian_codes(0.8)
    model.compile(
        {
            "vae": keras.optimizers.SGD(0.0),
            "discriminator": keras.optimizers.Adam(0.03),
        }
    )
    model.fit(x, batch_size=256, epochs=6, verbose=0)
    logs = model.evaluate(x, batch_size=1024, verbose=0, return_dict=True)
    exact = -0.5 * np.log(1 - 0.8**2)  # 0.51 nats
    assert logs["total_correlation"] == pytest.approx(2 * exact, rel=0.08)
    assert 0.6 < logs["discriminator_accuracy"] < 0.9


def test_the_weight_can_be_changed_while_training_goes_on(x):
    model = make(layers={"sampling": FixedNoise()}, gamma=2.0)
    full = model.test_on_batch(x, return_dict=True)["total_correlation"]
    model.total_correlation_weight.assign(0.5)
    quarter = model.test_on_batch(x, return_dict=True)["total_correlation"]
    np.testing.assert_allclose(full, 4 * quarter, rtol=1e-5)


def test_own_discriminator(x, tmp_path):
    own = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model = make(discriminator=own)
    model.fit(x, verbose=0)
    assert model.discriminator is own
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        to_numpy(again.discriminator(NOISE)), to_numpy(own(NOISE))
    )
    wrong = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`discriminator` must be .*1\).*\(2,\)"):
        make(discriminator=wrong)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": -1}, "`gamma` must be >= 0. Received: gamma=-1"),
        ({"gamma": "a"}, "`gamma` must be >= 0"),
        ({"discriminator_widths": 64}, "`discriminator_widths` must be a list"),
        ({"discriminator_widths": (64, 0)}, r"`discriminator_widths\[1\]` must be"),
        ({"discriminator": 3}, "`discriminator` must be a Keras model"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
