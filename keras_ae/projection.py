"""Finding the code of an example by descending through a decoder."""

from collections.abc import Callable

from keras import ops

from keras_ae import autodiff


def descend(objective: Callable, z, steps: int, learning_rate: float):
    """Minimises an objective of codes by Adam, with a rate that falls to 0.

    Args:
        objective: Function of codes `(n, latent_dim)` to `(n,)`, each of its own code
            only, that assigns no variables.
        z: Codes to start from, `(n, latent_dim)`.
        steps: Number of steps.
        learning_rate: Rate of the first step.

    Returns:
        Codes `(n, latent_dim)`.
    """

    def step(index, state):
        z, first, second = state
        gradient = autodiff.gradient(objective, z)
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * ops.square(gradient)
        done = ops.cast(index, "float32")
        rate = learning_rate * (1.0 - done / steps)
        # The moments start at 0 and are too small at first.
        unbiased = first / (1.0 - ops.power(0.9, done + 1.0))
        variance = second / (1.0 - ops.power(0.99, done + 1.0))
        return z - rate * unbiased / (ops.sqrt(variance) + 1e-8), first, second

    state = (z, ops.zeros_like(z), ops.zeros_like(z))
    return ops.fori_loop(0, steps, step, state)[0]


def search(
    x,
    decode: Callable,
    objective: Callable,
    candidates,
    restarts: int,
    steps: int,
    learning_rate: float,
):
    """Finds the code of each example, from the nearest of some candidates.

    Args:
        x: Examples `(batch, *image_shape)`.
        decode: Function of codes `(n, latent_dim)` to examples `(n, *image_shape)`.
        objective: Function of (x, z), `n` examples and their codes, to `(n,)`.
        candidates: Codes `(count, latent_dim)` whose decoded examples are compared with
            each x.
        restarts: Number of nearest candidates that are descended from; the best end
            counts.
        steps, learning_rate: As for `descend`.

    Returns:
        Codes `(batch, latent_dim)`.
    """
    flat = ops.reshape(x, (ops.shape(x)[0], -1))
    decoded = ops.reshape(decode(candidates), (candidates.shape[0], -1))
    # ||x - d||² less ||x||², which does not tell the candidates of one x apart.
    distance = ops.sum(ops.square(decoded), axis=1)
    distance = distance - 2.0 * ops.matmul(flat, ops.transpose(decoded))
    nearest = ops.top_k(-distance, restarts)[1]  # (batch, restarts)
    z = ops.take(candidates, ops.reshape(nearest, (-1,)), axis=0)
    repeated = ops.repeat(x, restarts, axis=0)  # (batch * restarts, *image_shape)
    z = descend(lambda z: objective(repeated, z), z, steps, learning_rate)
    ends = ops.reshape(objective(repeated, z), (-1, restarts))
    best = ops.argmin(ends, axis=1)
    chosen = ops.cast(ops.arange(ops.shape(x)[0]) * restarts, best.dtype) + best
    return ops.take(z, chosen, axis=0)
