"""The rectified flow of codes: its mathematics, and what it draws."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy
from scipy import stats
from scipy.spatial.distance import cdist

import keras_ae
from keras_ae.backend import seeding
from keras_ae.probability import samplers
from keras_ae.probability.samplers import RectifiedFlow, Standardized

MEAN, STDDEV = np.float32([1.0, -2.0, 0.5]), np.float32([0.3, 1.0, 2.0])
X = np.random.default_rng(0).random((60, 6), dtype="float32")


class Exact(RectifiedFlow):
    """The velocity to normally distributed codes: E[z - ε | z_t]."""

    def velocity(self, z, time, labels=None):
        mean, stddev = ops.convert_to_tensor(MEAN), ops.convert_to_tensor(STDDEV)
        variance = ops.square(1.0 - time) + ops.square(time * stddev)
        pull = (time * ops.square(stddev) - (1.0 - time)) / variance
        return mean + pull * (z - time * mean)


@pytest.fixture(scope="module")
def known():
    flow = Exact(width=8, blocks=1)
    flow.build((None, 3))
    return flow


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = keras_ae.VAE(2, architecture="dense", widths=(8,))
    model.fit(X, epochs=1, verbose=0)
    return model


def small(model, **kwargs):
    with seeding.seeded(0):
        return Standardized(RectifiedFlow(width=64, blocks=2, **kwargs), name="small")


def test_draws_of_the_exact_velocity_are_those_of_the_normal(known):
    drawn = to_numpy(known.sample((2, 4000, 3), seed=1, steps=50))
    assert drawn.shape == (2, 4000, 3)
    for index, values in enumerate(drawn.reshape(-1, 3).T):
        normal = stats.norm(MEAN[index], STDDEV[index])
        assert stats.kstest(values, normal.cdf).pvalue > 0.01
    again = to_numpy(known.sample((2, 4000, 3), seed=1, steps=50))
    np.testing.assert_array_equal(drawn, again)


def test_log_prob_of_the_exact_velocity_is_that_of_the_normal(known):
    z = MEAN + 2 * STDDEV * np.random.default_rng(0).normal(size=(2, 5, 3))
    expected = stats.norm(MEAN, STDDEV).logpdf(z).sum(axis=-1)
    log_prob = to_numpy(known.log_prob(z.astype("float32"), steps=200))
    np.testing.assert_allclose(log_prob, expected, atol=0.01)


def test_the_loss_is_least_for_the_exact_velocity(known):
    codes = MEAN + STDDEV * np.random.default_rng(0).normal(size=(50_000, 3))
    codes = codes.astype("float32")
    # The variance of z - ε given z_t, over times.
    time = np.linspace(0.0, 1.0, 10_001)[:, None]
    variance = (1 - time) ** 2 + (time * STDDEV) ** 2
    expected = np.trapezoid((STDDEV**2 / variance).sum(axis=1), time[:, 0])
    least = to_numpy(known.loss(codes, training=True)).mean()
    assert least == pytest.approx(expected, rel=0.02)
    held_back = [to_numpy(known.loss(codes)) for _ in range(2)]
    assert held_back[0].mean() == pytest.approx(expected, rel=0.1)
    np.testing.assert_array_equal(*held_back)


def energy(a, b):
    return 2 * cdist(a, b).mean() - cdist(a, a).mean() - cdist(b, b).mean()


def corners(n, seed):
    """Four spots at the corners of a square; a class is two across from each other."""
    rng = np.random.default_rng(seed)
    corner, labels = rng.integers(2, size=(2, n))
    sides = np.stack([2 * corner - 1, (2 * corner - 1) * (2 * labels - 1)], axis=1)
    codes = 10.0 + 3.0 * sides + 0.5 * rng.normal(size=(n, 2))
    return codes.astype("float32"), labels


@pytest.mark.once
@pytest.mark.thorough
def test_it_draws_what_it_learned_by_class_and_all_together(model):
    codes, labels = corners(4000, seed=0)
    flow = samplers.fit(
        small(model, num_classes=2),
        codes,
        model=model,
        labels=labels,
        epochs=20,
        batch_size=200,
        learning_rate=5e-3,
    )
    others, other_labels = corners(1000, seed=1)
    drawn = to_numpy(flow.sample((1000, 2), seed=0))
    normal = to_numpy(samplers.fit("gaussian", codes).sample((1000, 2), seed=0))
    assert energy(drawn, others) < 0.1 * energy(normal, others)
    asked = np.arange(1000) % 2
    drawn = to_numpy(flow.sample((1000, 2), seed=0, labels=asked))
    # Across from each other, or side by side.
    read = np.prod(drawn - 10.0, axis=1) > 0
    assert np.mean(read == asked) > 0.97
    for label in (0, 1):
        own = drawn[asked == label]
        assert energy(own, others[other_labels == label]) < 0.08
    # Without guidance a class says nothing.
    free = [flow.sample((50, 2), 0, labels=label, guidance=0.0) for label in (0, 1)]
    np.testing.assert_array_equal(*map(to_numpy, free))
    # Likelier where codes are than between the corners.
    middle = 10.0 + 0.3 * (others - 10.0)
    log_prob = [to_numpy(flow.log_prob(z[:100])).mean() for z in (others, middle)]
    assert log_prob[0] > log_prob[1] + 1.0


def test_it_is_fitted_drawn_and_saved_with_a_model(model, tmp_path):
    labels = np.arange(60) % 3
    model.fit_sampler("flow", X, labels=labels, epochs=1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    options = {"sampler": "flow", "labels": 2, "guidance": 2.0, "steps": 3}
    drawn, other = (each.sample(4, seed=0, **options) for each in (model, again))
    assert drawn.shape == (4, 6)
    np.testing.assert_allclose(drawn, other, rtol=1e-4)
    assert len(again.weights) == len(model.weights)


@pytest.mark.once
def test_bad_arguments(model):
    model.fit_sampler(small(model), X, epochs=1)
    model.fit_sampler("normal", X)
    labels = np.arange(60) % 3

    def fit(labels, sampler="flow"):
        return lambda: model.fit_sampler(sampler, X, labels=labels)

    def draw(**options):
        return lambda: model.sample(2, **{"sampler": "small", **options})

    for call, message in (
        (lambda: RectifiedFlow(width=0), "`width` must"),
        (lambda: RectifiedFlow(blocks=0), "`blocks` must"),
        (lambda: RectifiedFlow(num_classes=0), "`num_classes` must"),
        (lambda: RectifiedFlow(dropout=1.0), "`dropout` must"),
        (
            lambda: model.fit_sampler("flow", X, batch_size=0),
            "`batch_size` must be an integer >= 1. Received: batch_size=0",
        ),
        (
            lambda: model.fit_sampler("maf", X, learning_rate=-1),
            "`learning_rate` must be > 0 and finite. Received: learning_rate=-1",
        ),
        (fit(labels, "maf"), "`labels` are for sampler='flow'"),
        (fit(labels[1:]), "`labels` must be 60 integers .* shape \\(59,\\)"),
        (fit(labels - 1), "from -1 to 1"),
        (fit(labels / 3), "dtype float64"),
        (fit(labels, small(model, num_classes=2)), "from 0 to 1, .* from 0 to 2"),
        (draw(steps=0), "`steps` must"),
        (draw(guidance=-1), "`guidance` must"),
        (draw(labels=1), "`labels` must be None for a flow without classes"),
        (draw(sampler="normal", steps=3), "`steps` is no option of sampler 'normal'"),
        (draw(temperature=3), "sampler 'small', which takes `guidance`, `labels`, "),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.once
@pytest.mark.thorough
def test_a_flow_of_a_grid_learns_what_its_places_share(tmp_path):
    """Pictures all of whose places are bright, or all dark."""
    rng = np.random.default_rng(0)
    bright = rng.integers(0, 2, 256)
    shade = np.where(bright, 0.9, 0.1)[:, None, None, None]
    x = (shade + rng.normal(0, 0.02, (256, 16, 18, 1))).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras_ae.KLAutoencoder(1, widths=(4, 4), discriminator_start=9)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, epochs=10, batch_size=32, verbose=0)
    model.fit_sampler(
        "flow", x, grid=True, width=16, blocks=1, epochs=80, learning_rate=3e-3
    )
    flow = model.sampler("flow").density
    assert flow.code_shape == model.code_shape == (4, 5, 1)
    kinds = {type(layer).__name__ for layer in flow.network.layers}
    assert {"Conv2D", "MultiHeadAttention"} <= kinds
    drawn = model.sample(64, seed=0)
    means = drawn.mean(axis=(1, 2, 3))
    assert 0.2 < np.mean(means > 0.5) < 0.8
    # Places drawn each by itself would hardly ever come so far from the middle.
    assert np.mean(np.abs(means - 0.5) > 0.25) > 0.6
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.sample(64, seed=0), drawn, atol=1e-5)


@pytest.mark.thorough
def test_a_flow_of_a_grid_is_trained_and_drawn_from():
    codes = np.random.default_rng(0).normal(size=(32, 20)).astype("float32")
    flow = RectifiedFlow(width=8, blocks=1, code_shape=(4, 5, 1))
    flow.build((None, 20))
    samplers.fit_density(flow, codes, epochs=2, held_back=0.0)
    # It begins at zero.
    assert to_numpy(flow.velocity(codes, np.full((32, 1), 0.5, "float32"))).any()
    assert np.isfinite(to_numpy(flow.sample((32, 20), seed=0, steps=2))).all()


@pytest.mark.once
def test_velocities_begin_at_zero_for_grids_of_any_rank():
    for code_shape in ((3,), (6, 2), (5, 4, 3), (2, 3, 2), (4, 5, 4, 2)):
        network = keras_ae.networks.velocity(code_shape, 8, 1, num_classes=2)
        dim = int(np.prod(code_shape))
        inputs = {
            "z": np.ones((2, dim), "float32"),
            "time": np.full((2, 1), 0.5, "float32"),
            "label": np.int32([0, 2]),
        }
        found = to_numpy(network(inputs))
        np.testing.assert_array_equal(found, np.zeros((2, dim)))
