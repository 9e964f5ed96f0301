"""What adversarial models share: losses of critics, gradient penalty, who is winning.

A critic gives each example one number, `(batch,)`: higher for what it takes for real.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ae import backend, checks


class AdversarialLoss(NamedTuple):
    """Losses of a critic's outputs, each a function of `(batch,)` to `(batch,)`.

    Attributes:
        real: What the critic minimises on real examples.
        fake: What the critic minimises on generated ones.
        generator: What the generator minimises.
        score: What D(real) and D(fake) mean in logs.
    """

    real: Callable[[Any], Any]
    fake: Callable[[Any], Any]
    generator: Callable[[Any], Any]
    score: Callable[[Any], Any]


def _identity(logits):
    return logits


# References: Goodfellow et al. 2014, arXiv:1406.2661; Mao et al. 2017,
# arXiv:1611.04076; Lim and Ye 2017, arXiv:1705.02894; Arjovsky et al. 2017,
# arXiv:1701.07875.
LOSSES = {
    "non_saturating": AdversarialLoss(
        real=lambda logits: ops.softplus(-logits),
        fake=ops.softplus,
        generator=lambda logits: ops.softplus(-logits),
        score=ops.sigmoid,
    ),
    "least_squares": AdversarialLoss(
        real=lambda logits: 0.5 * ops.square(logits - 1.0),
        fake=lambda logits: 0.5 * ops.square(logits),
        generator=lambda logits: 0.5 * ops.square(logits - 1.0),
        score=_identity,
    ),
    "hinge": AdversarialLoss(
        real=lambda logits: ops.relu(1.0 - logits),
        fake=lambda logits: ops.relu(1.0 + logits),
        generator=ops.negative,
        score=_identity,
    ),
    "wasserstein": AdversarialLoss(
        real=ops.negative, fake=_identity, generator=ops.negative, score=_identity
    ),
}


def get_loss(name: Any) -> AdversarialLoss:
    """Returns a loss by name, or raises `ValueError` for an unknown one."""
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(
            f"`adversarial_loss` must be one of {', '.join(map(repr, LOSSES))}. "
            f"Received: adversarial_loss={name!r}"
        )
    return LOSSES[name]


def penalty_weight(given: float | None, adversarial_loss: str) -> float:
    """Returns the weight of the gradient penalty, 10 for a Wasserstein critic.

    Args:
        given: What the user passed as `gradient_penalty`.
        adversarial_loss: Name of the loss.

    Raises:
        ValueError: If the weight is below 0.
    """
    if given is None:
        return 10.0 if adversarial_loss == "wasserstein" else 0.0
    checks.check_weight("gradient_penalty", given)
    return given


def critic_terms(
    model: keras.Model,
    critic: keras.Model,
    real: Sequence,
    fake: Sequence,
    training: bool = False,
) -> dict[str, Any]:
    """Returns what a critic minimises, and how the contest stands.

    Args:
        model: The model that it belongs to, with `adversarial_loss`,
            `gradient_penalty` and, where that is > 0, `mixing`.
        critic: The critic.
        real: Its inputs, real ones; a tuple of tensors `(batch, ...)`.
        fake: Generated ones, of the same shapes.
        training: Whether the model learns.
    """
    loss = get_loss(model.adversarial_loss)
    fake = tuple(ops.stop_gradient(x) for x in fake)
    judge = functools.partial(logits, critic, training=training)
    real_logits, fake_logits = judge(*real), judge(*fake)
    terms = {
        "discriminator_real": loss.real(real_logits),
        "discriminator_fake": loss.fake(fake_logits),
        **contest(loss, real_logits, fake_logits),
    }
    weight = penalty_weight(model.gradient_penalty, model.adversarial_loss)
    if weight:
        share = model.mixing(real[0])
        penalty = gradient_penalty(backend.pure(model, judge), real, fake, share)
        terms["gradient_penalty"] = weight * penalty
    return terms


def logits(critic: keras.Model, *inputs, training: bool = False):
    """Returns a critic's outputs as `(batch,)` in float32."""
    outputs = critic(inputs[0] if len(inputs) == 1 else list(inputs), training=training)
    return ops.cast(outputs[:, 0], "float32")


def gradient_penalty(critic: Callable, real: Sequence, fake: Sequence, share):
    """Returns how far a critic's gradient is from the norm 1 between real and fake.

        penalty = (||∇_x D(x)|| - 1)²,  x = share real + (1 - share) fake

    Args:
        critic: Function of tensors `(batch, ...)` to `(batch,)` that assigns no
            variables.
        real: Its inputs, a tuple of tensors.
        fake: As many of the same shapes.
        share: Uniform numbers in [0, 1], `(batch,)`.

    Returns:
        Tensor `(batch,)`.

    Reference:
        Gulrajani et al., Improved Training of Wasserstein GANs, 2017
        (https://arxiv.org/abs/1704.00028).
    """
    sizes = [math.prod(x.shape[1:]) for x in real]
    ends = list(itertools.accumulate(sizes))

    def beside_each_other(tensors):
        flat = [ops.reshape(x, (-1, n)) for x, n in zip(tensors, sizes, strict=True)]
        return ops.concatenate(flat, axis=1)  # (batch, values of all inputs)

    def joined_critic(x):
        parts = [x[:, end - n : end] for n, end in zip(sizes, ends, strict=True)]
        shapes = [(-1, *tensor.shape[1:]) for tensor in real]
        return critic(*map(ops.reshape, parts, shapes))

    share = ops.expand_dims(share, 1)
    x = share * beside_each_other(real) + (1.0 - share) * beside_each_other(fake)
    squares = ops.sum(ops.square(backend.gradient(joined_critic, x)), axis=1)
    # The root of 0 has no gradient.
    return ops.square(ops.sqrt(squares + 1e-12) - 1.0)


def contest(loss: AdversarialLoss, real_logits, fake_logits) -> dict[str, Any]:
    """Returns D(real), D(fake) and how often the critic is right, each `(batch,)`."""
    return {
        "real_score": loss.score(real_logits),
        "fake_score": loss.score(fake_logits),
        "discriminator_accuracy": accuracy(real_logits, fake_logits),
    }


def accuracy(real_logits, fake_logits):
    """Returns how often a critic is right, `(batch,)`.

    That is the share of pairs of a real and a generated example in which the real one
    scores higher: 0.5 is a draw, 1 an outright win of the critic.
    """
    right = ops.cast(real_logits > fake_logits, "float32")
    draw = ops.cast(ops.equal(real_logits, fake_logits), "float32")
    return right + 0.5 * draw


def diversity(real, fake):
    """Returns how varied generated examples are, relative to real ones, `(batch,)`.

        diversity = mean ||fake_i - fake_j||² / mean ||real_i - real_j||²

    over neighbours in the batch: about 1 when they vary alike, 0 when all samples have
    become the same.
    """

    def spread(x):
        x = ops.reshape(x, (ops.shape(x)[0], -1))
        return ops.mean(ops.sum(ops.square(x - ops.roll(x, 1, axis=0)), axis=1))

    ratio = spread(fake) / ops.maximum(spread(real), 1e-12)
    return ops.broadcast_to(ratio, (ops.shape(real)[0],))
