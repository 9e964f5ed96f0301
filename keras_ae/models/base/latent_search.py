"""Finding the code of an example by descending through a decoder."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from keras_ae import backend


class Found(NamedTuple):
    """Where a search ended.

    Attributes:
        z: Codes `(n, latent_dim)`.
        objective: What they came to, `(n,)`.
        slope: Norm of the gradient at the end, as a share of the largest on the way,
            `(n,)`: about 0 at a minimum.
    """

    z: Any
    objective: Any
    slope: Any


def descend(
    objective: Callable, z, steps: int, learning_rate: Any, turns: int = 1
) -> Found:
    """Minimises an objective of codes by Adam, with a rate that falls to 0.

    Args:
        objective: Function of codes `(n, latent_dim)` and the number of the step to
            `(n,)`, each of its own code only, that assigns no variables.
        z: Codes to start from, `(n, latent_dim)`.
        steps: Number of steps.
        learning_rate: Rate of the first step, a number or a scalar tensor.
        turns: Number of steps after which the objective comes round again. What is
            found is told by its mean over these.
    """

    def slope(z, index):
        return backend.gradient(lambda z: objective(z, index), z)

    def step(index, state):
        z, first, second, steepest = state
        gradient = slope(z, index)
        steepest = ops.maximum(steepest, ops.norm(gradient, axis=1))
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * ops.square(gradient)
        done = ops.cast(index, "float32")
        rate = learning_rate * (1.0 - done / steps)
        # The moments start at 0 and are too small at first.
        unbiased = first / (1.0 - ops.power(0.9, done + 1.0))
        variance = second / (1.0 - ops.power(0.99, done + 1.0))
        z = z - rate * unbiased / (ops.sqrt(variance) + 1e-8)
        return z, first, second, steepest

    state = (z, ops.zeros_like(z), ops.zeros_like(z), ops.zeros_like(z[:, 0]))
    z, _, _, steepest = ops.fori_loop(0, steps, step, state)

    def add(index, totals):
        return totals[0] + objective(z, index), totals[1] + slope(z, index)

    nothing = (ops.zeros_like(z[:, 0]), ops.zeros_like(z))
    value, gradient = ops.fori_loop(0, turns, add, nothing)
    norm = ops.norm(gradient, axis=1) / turns
    return Found(z, value / turns, norm / ops.maximum(steepest, 1e-12))


def langevin(objective: Callable, z, noise, step_size: float):
    """Draws codes from the density exp(-objective) by unadjusted Langevin dynamics.

        z ← z - step_size ∇ objective(z) + sqrt(2 step_size) ε,  ε ~ N(0, I)

    Args:
        objective: Function of codes `(n, latent_dim)` to `(n,)`, in nats, each of its
            own code only, that assigns no variables.
        z: Codes to start from, `(n, latent_dim)`.
        noise: The ε of each step, `(steps, n, latent_dim)`.
        step_size: Number > 0. The draws are exact in the limit of 0.

    Returns:
        Codes `(n, latent_dim)`.

    Reference:
        Roberts and Tweedie, Exponential Convergence of Langevin Distributions and Their
        Discrete Approximations, 1996 (https://doi.org/10.2307/3318418).
    """

    def step(index, z):
        drift = step_size * backend.gradient(objective, z)
        return z - drift + (2.0 * step_size) ** 0.5 * ops.take(noise, index, axis=0)

    return ops.fori_loop(0, noise.shape[0], step, z)


def search(
    x,
    decode: Callable,
    objective: Callable,
    candidates,
    restarts: int,
    steps: int,
    learning_rate: Any,
    observed: Any = None,
    turns: int = 1,
) -> Found:
    """Finds the code of each example, from the nearest of some candidates.

    Args:
        x: Examples `(batch, *image_shape)`.
        decode: Function of codes `(n, latent_dim)` to examples `(n, *image_shape)`.
        objective: Function of (examples, codes, observed, number of the step), the
            first three of `n` each, to `(n,)`; `observed` is None where none is given.
        candidates: Codes `(count, latent_dim)` whose decoded examples are compared with
            each x.
        restarts: Number of nearest candidates that are descended from; the best end
            counts.
        steps, learning_rate, turns: As for `descend`.
        observed: None, or booleans of the shape of x: the values that are known, by
            which the nearest candidates are told. x must be 0 at the others.
    """
    flat = ops.reshape(x, (ops.shape(x)[0], -1))
    decoded = ops.reshape(decode(candidates), (candidates.shape[0], -1))
    # ||x - d||² less ||x||², which does not tell the candidates of one x apart.
    squares = ops.square(decoded)
    if observed is None:
        distance = ops.sum(squares, axis=1)
    else:
        counts = ops.cast(ops.reshape(observed, ops.shape(flat)), flat.dtype)
        distance = ops.matmul(counts, ops.transpose(squares))
    distance = distance - 2.0 * ops.matmul(flat, ops.transpose(decoded))
    nearest = ops.top_k(-distance, restarts)[1]  # (batch, restarts)
    z = ops.take(candidates, ops.reshape(nearest, (-1,)), axis=0)
    repeated = ops.repeat(x, restarts, axis=0)  # (batch * restarts, *image_shape)
    known = None if observed is None else ops.repeat(observed, restarts, axis=0)
    found = descend(
        lambda z, index: objective(repeated, z, known, index),
        z,
        steps,
        learning_rate,
        turns,
    )
    best = ops.argmin(ops.reshape(found.objective, (-1, restarts)), axis=1)
    chosen = ops.cast(ops.arange(ops.shape(x)[0]) * restarts, best.dtype) + best
    return Found(*(ops.take(value, chosen, axis=0) for value in found))
