"""Adversarial losses, the gradient penalty, and what tells who is winning."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import ADVERSARIAL_LOSSES, to_numpy

from keras_ae.models.adversarial import losses

LOGITS = np.array([-2.0, -0.5, 0.0, 0.7, 3.0], "float32")


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_are_the_papers(name):
    loss = losses.get_loss(name)
    functions = (loss.real, loss.fake, loss.generator)
    for function, formula in zip(functions, ADVERSARIAL_LOSSES[name], strict=True):
        received = to_numpy(function(ops.convert_to_tensor(LOGITS)))
        np.testing.assert_allclose(
            received, formula(LOGITS.astype("float64")), rtol=1e-5
        )


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="must be one of 'non_saturating'.*'vanilla'"):
        losses.get_loss("vanilla")


def test_gradient_penalty_of_known_gradients():
    # D(x) = a·x² / 2 has the gradient a x, here at known mixtures of real and fake.
    a = np.array([1.0, -2.0, 0.5], "float32")
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 4, 3)).astype("float32")
    share = np.array([0.0, 0.25, 0.5, 1.0], "float32")
    x = share[:, None] * real + (1 - share[:, None]) * fake
    expected = (np.linalg.norm(a * x, axis=1) - 1) ** 2
    received = losses.gradient_penalty(
        lambda x: ops.sum(0.5 * ops.convert_to_tensor(a) * ops.square(x), axis=1),
        (ops.convert_to_tensor(real),),
        (ops.convert_to_tensor(fake),),
        ops.convert_to_tensor(share),
    )
    np.testing.assert_allclose(to_numpy(received), expected, rtol=1e-4)


def test_contest_counts_pairs():
    real = ops.convert_to_tensor(np.array([1.0, -1.0, 0.0], "float32"))
    fake = ops.convert_to_tensor(np.array([0.0, 2.0, 0.0], "float32"))
    figures = losses.contest(losses.get_loss("hinge"), real, fake)
    np.testing.assert_array_equal(
        to_numpy(figures["discriminator_accuracy"]), [1.0, 0.0, 0.5]
    )
    np.testing.assert_array_equal(to_numpy(figures["real_score"]), [1.0, -1.0, 0.0])
    figures = losses.contest(losses.get_loss("non_saturating"), real, fake)
    np.testing.assert_allclose(
        to_numpy(figures["fake_score"]), [0.5, 1 / (1 + np.exp(-2)), 0.5], rtol=1e-6
    )


def test_diversity_is_relative_to_the_data():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(64, 5, 4)).astype("float32")
    x = ops.convert_to_tensor(real)
    for factor, expected in ((1.0, 1.0), (0.5, 0.25), (0.0, 0.0)):
        received = to_numpy(losses.diversity(x, factor * x + 3.0))
        assert received.shape == (64,)
        np.testing.assert_allclose(received, expected, atol=1e-4)


def test_logits_are_float32_vectors():
    critic = keras.Sequential([keras.layers.Dense(1, dtype="bfloat16")])
    x = ops.ones((3, 2))
    logits = losses.logits(critic, x)
    assert tuple(logits.shape) == (3,)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
