"""A loop written by hand for JAX: data on the device, mostly an epoch a dispatch."""

import functools
import sys

import elbo
import jax
import jax.numpy as jnp
import numpy as np
import workloads
from jax import lax

from keras_ae import machine

COMPUTE = None  # dtype of products, where it is not that of the weights
relu, exp = jax.nn.relu, jnp.exp


def images(x):
    return x


def flatten(x):
    return x.reshape(len(x), -1)


def grid(x, workload):
    return x.reshape(len(x), *workload.grid, -1)


def _low(*tensors):
    return [x.astype(COMPUTE) if COMPUTE else x for x in tensors]


def dense(x, kernel, bias):
    x, kernel = _low(x, kernel)
    return jnp.dot(x, kernel).astype("float32") + bias


def convolve(x, kernel, strides, bias=0.0):
    x, kernel = _low(x, kernel)
    y = lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.astype("float32") + bias


def depth_to_space(x):
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def normalize(x, gain, shift):
    mean = x.mean((0, 1, 2))
    variance = (x**2).mean((0, 1, 2)) - mean**2
    y = (x - mean) * (gain * lax.rsqrt(variance + 1e-3)) + shift
    return y, mean, variance


def cross_entropy(logits, x):
    return jax.nn.softplus(logits) - x * logits


def total(x):
    return x.sum(tuple(range(1, x.ndim)))


def adam(weights, gradients, first, second, count):
    rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, first, second
    )
    return weights, first, second


def train(workload, x, settings, clock):
    global COMPUTE
    COMPUTE = "bfloat16" if settings["precision"] == "mixed_bfloat16" else None
    weights = [
        jnp.asarray(weight)
        for weight in workloads.initial_weights(workload, settings["seed"])
    ]
    zeros = [jnp.zeros_like(weight) for weight in weights]
    batch_size = workload.batch_size
    steps, rest = divmod(len(x), batch_size)

    def loss(weights, batch, key):
        batch = batch.astype("float32") / 255
        noise = jax.random.normal(key, (len(batch), workload.latent_dim))
        each, moments = elbo.losses(
            sys.modules[__name__], workload, weights, batch, noise
        )
        return each.mean(), moments

    def step(state, batch):
        weights, first, second, running, count, key = state
        key, drawn = jax.random.split(key)
        (value, moments), gradients = jax.value_and_grad(loss, has_aux=True)(
            weights, batch, drawn
        )
        count += 1
        weights, first, second = adam(weights, gradients, first, second, count)
        running = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, running, moments)
        return (weights, first, second, running, count, key), value * len(batch)

    def take(state, x, rows):
        return step(state, x[rows])

    def epoch_of_single_steps(state, x):
        *state, key = state
        key, shuffling = jax.random.split(key)
        order = jax.random.permutation(shuffling, len(x))
        state, losses = (*state, key), []
        for start in range(0, len(x), batch_size):
            state, value = single(state, x, order[start : start + batch_size])
            losses.append(value)
        return state, sum(losses) / len(x)

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch_of_one_dispatch(state, x):
        *state, key = state
        key, shuffling = jax.random.split(key)
        order = jax.random.permutation(shuffling, len(x))
        whole = order[: steps * batch_size].reshape(steps, batch_size)
        state, losses = lax.scan(
            lambda state, rows: take(state, x, rows), (*state, key), whole
        )
        summed = losses.sum()
        if rest:
            state, last = step(state, x[order[steps * batch_size :]])
            summed += last
        return state, summed / len(x)

    single = jax.jit(take, donate_argnums=0)
    epoch = epoch_of_one_dispatch
    if jax.default_backend() == "cpu" and workload.architecture != "dense":
        # Inside a loop, XLA is twenty times slower at convolutions on a CPU.
        epoch = epoch_of_single_steps
    clock.start()
    x = jnp.asarray(x)
    running = [
        [jnp.zeros(layer.shape), jnp.ones(layer.shape)]
        for layer in workloads.layers(workload)
        if layer.kind == "norm"
    ]
    key = jax.random.key(settings["seed"])
    state = (weights, zeros, [0 * z for z in zeros], running, jnp.zeros(()), key)
    for _ in range(settings["epochs"]):
        state, value = epoch(state, x)
        clock.epoch(np.asarray(value))
    return machine.device("jax")
