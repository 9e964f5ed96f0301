"""Searches for codes and Langevin dynamics, on objectives with known answers."""

import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

from keras_ae import backend
from keras_ae.models.base import latent_search

CENTER = np.array([0.5, -1.0])
PRECISION = np.array([[2.0, 0.6], [0.6, 0.8]])


def quadratic(z, index=None):
    """-log of a normal density, but for a constant."""
    away = z - ops.convert_to_tensor(CENTER, "float32")
    precision = ops.convert_to_tensor(PRECISION, "float32")
    return 0.5 * ops.sum(away * ops.matmul(away, precision), axis=1)


def tensor(array):
    return ops.convert_to_tensor(array, "float32")


def test_descend_comes_to_rest_at_the_minimum():
    z = np.random.default_rng(0).normal(size=(5, 2))
    found = latent_search.descend(quadratic, tensor(z), 300, 0.2)
    np.testing.assert_allclose(to_numpy(found.z), np.tile(CENTER, (5, 1)), atol=1e-3)
    np.testing.assert_allclose(to_numpy(found.objective), 0, atol=1e-5)
    assert to_numpy(found.slope).max() < 1e-2
    early = latent_search.descend(quadratic, tensor(z), 1, 0.01)
    objective = to_numpy(quadratic(early.z))
    np.testing.assert_allclose(
        to_numpy(early.objective), objective, rtol=1e-5, atol=1e-6
    )
    first, last = (
        np.linalg.norm((codes - CENTER) @ PRECISION, axis=1)
        for codes in (z, to_numpy(early.z))
    )
    share = last / first
    np.testing.assert_allclose(to_numpy(early.slope), share, rtol=1e-4)


@pytest.mark.thorough
def test_descend_tells_an_objective_that_takes_turns_by_its_mean():
    """Its gradient is never 0 at any turn, only on average."""
    shifts = tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])

    def shifted(z, index):
        return quadratic(z + ops.take(shifts, index % 4, axis=0))

    z = tensor(np.random.default_rng(0).normal(size=(5, 2)))
    found = latent_search.descend(shifted, z, 800, 0.2, turns=4)
    np.testing.assert_allclose(to_numpy(found.z), np.tile(CENTER, (5, 1)), atol=0.05)
    # The mean of the four at the center.
    spread = 0.25 * 9 * np.trace(PRECISION)
    np.testing.assert_allclose(to_numpy(found.objective), spread, rtol=1e-2)
    assert to_numpy(found.slope).max() < 0.05


def decode(z):
    """A curve that comes near itself: two codes for about the same example."""
    return ops.concatenate([ops.sin(3 * z), ops.cos(2 * z), 0.1 * z], axis=1)


def distance(x, z, observed, index):
    error = ops.square(decode(z) - x)
    if observed is not None:
        error = ops.where(observed, error, 0.0)
    return ops.sum(error, axis=1)


def test_search_starts_from_the_nearest_observed():
    candidates = np.linspace(-3, 3, 13)[:, None]
    decoded = to_numpy(decode(tensor(candidates)))
    rng = np.random.default_rng(0)
    x = decoded[[2, 5, 9, 11]] + 0.05 * rng.normal(size=(4, 3))
    observed = rng.random(x.shape) < 0.5
    observed[:, 0] = True
    x = np.where(observed, x, 0.0)
    for known in (None, observed):
        far = (x[:, None] - decoded) ** 2
        far = np.sum(far if known is None else known[:, None] * far, axis=2)
        # A step this short goes nowhere.
        found = latent_search.search(
            tensor(x),
            decode,
            distance,
            tensor(candidates),
            1,
            1,
            1e-9,
            None if known is None else ops.convert_to_tensor(known),
        )
        np.testing.assert_allclose(
            to_numpy(found.z), candidates[far.argmin(axis=1)], atol=1e-5
        )


def test_the_best_of_several_ends_counts():
    rng = np.random.default_rng(1)
    x = to_numpy(decode(tensor(rng.uniform(-3, 3, (12, 1)))))
    x += 0.1 * rng.normal(size=x.shape)
    candidates = np.linspace(-3, 3, 5)[:, None]
    one, several = (
        latent_search.search(
            tensor(x), decode, distance, tensor(candidates), restarts, 200, 0.1
        )
        for restarts in (1, 5)
    )
    each = tensor(np.repeat(x, 5, axis=0))
    ends = latent_search.descend(
        lambda z, index: distance(each, z, None, index),
        tensor(np.tile(candidates, (12, 1))),
        200,
        0.1,
    )
    best = to_numpy(ends.objective).reshape(12, 5).min(axis=1)
    np.testing.assert_allclose(to_numpy(several.objective), best, 1e-3)
    assert (to_numpy(several.objective) < to_numpy(one.objective) - 1e-3).any()
    objective = distance(tensor(x), several.z, None, 0)
    np.testing.assert_allclose(
        to_numpy(several.objective), to_numpy(objective), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_langevin_draws_from_a_normal_distribution(compiled):
    step_size = 0.1
    noise = np.random.default_rng(0).normal(size=(150, 4000, 2)).astype("float32")
    z = expected = np.zeros((4000, 2))
    for epsilon in noise:
        slope = (expected - CENTER) @ PRECISION
        expected = expected - step_size * slope + np.sqrt(2 * step_size) * epsilon

    def draw(z, noise):
        return latent_search.langevin(quadratic, z, noise, step_size)

    if compiled:
        draw = backend.compiled(draw, [])
    draws = to_numpy(draw(tensor(z), tensor(noise)))
    np.testing.assert_allclose(draws, expected, atol=1e-3)
    # Where the dynamics of steps that are not infinitely small come to rest.
    covariance = np.linalg.inv(PRECISION @ (np.eye(2) - 0.5 * step_size * PRECISION))
    np.testing.assert_allclose(draws.mean(axis=0), CENTER, atol=0.08)
    np.testing.assert_allclose(np.cov(draws.T), covariance, rtol=0.1, atol=0.05)
