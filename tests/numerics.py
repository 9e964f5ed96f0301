"""Numerical oracles that several tests share."""

import numpy as np
from keras import ops
from scipy import integrate

from keras_ae import autodiff


def to_numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def gradient(function, x):
    """Gradient of the sum of `function` at the array `x`."""
    x = ops.convert_to_tensor(x, "float32")
    if autodiff.BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            total = ops.sum(function(x))
        return to_numpy(tape.gradient(total, x))
    if autodiff.BACKEND == "jax":
        import jax

        return to_numpy(jax.grad(lambda x: ops.sum(function(x)))(x))
    x.requires_grad_(True)
    ops.sum(function(x)).backward()
    return to_numpy(x.grad)


def density(likelihood, parameter):
    """The density of one value of x given one number of the decoder, in NumPy."""

    def function(x):
        x = np.atleast_1d(x).astype("float32")[:, None]
        log_prob = likelihood.log_prob(x, np.full_like(x, parameter))
        return np.exp(to_numpy(log_prob))

    return function


def integral(function, low, high, points=4001):
    grid = np.linspace(low, high, points)
    return integrate.simpson(function(grid), x=grid)
