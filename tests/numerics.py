"""Numerical oracles that several tests share."""

import importlib
import random

import keras
import numpy as np
from keras import ops
from scipy import integrate, special

from keras_ae import backend

# What the discriminator pays for real and for generated examples and what the generator
# pays, of the discriminator's output, from the papers.
ADVERSARIAL_LOSSES = {
    "non_saturating": (
        lambda d: -np.log(special.expit(d)),
        lambda d: -np.log(1 - special.expit(d)),
        lambda d: -np.log(special.expit(d)),
    ),
    "least_squares": (
        lambda d: (d - 1) ** 2 / 2,
        lambda d: d**2 / 2,
        lambda d: (d - 1) ** 2 / 2,
    ),
    "hinge": (
        lambda d: np.maximum(0, 1 - d),
        lambda d: np.maximum(0, 1 + d),
        lambda d: -d,
    ),
    "wasserstein": (lambda d: -d, lambda d: d, lambda d: -d),
}


def to_numpy(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def computed(function, *arrays, variables=()):
    """What a function of tensors returns, in NumPy.

    It is compiled: JAX compiles each operation that is called by itself, for longer
    than all of them together.

    Args:
        function: Function of tensors.
        *arrays: Its arguments.
        variables: What it assigns.
    """
    tensors = map(ops.convert_to_tensor, arrays)
    found = backend.compiled(function, variables)(*tensors)
    return keras.tree.map_structure(to_numpy, found)


def gradient(function, x):
    """Gradient of the sum of `function` at the array `x`."""
    return computed(lambda x: backend.gradient(function, x), np.float32(x))


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


def next_draws():
    """What Python, NumPy, Keras and the backend draw next without a seed."""
    draws = [random.random(), np.random.rand()]
    draws += [float(keras.random.normal(())) for _ in range(2)]
    name = keras.backend.backend()
    if name == "tensorflow":
        tensorflow = importlib.import_module(name)
        draws += [float(tensorflow.random.normal(())) for _ in range(2)]
    if name == "torch":
        torch = importlib.import_module(name)
        draws += [float(torch.randn(())) for _ in range(2)]
    return draws
