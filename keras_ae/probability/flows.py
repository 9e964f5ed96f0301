"""Normalizing flows: invertible steps that make a density richer.

A step maps codes z `(..., batch, latent_dim)` to codes of the same shape and to the
logarithm of the determinant of its Jacobian, `(..., batch)`. What else it is given, the
parameters of the step, belongs to one example of the batch each. Everything is float32.
"""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.probability.distributions import Normal, Seed

# softplus(x + SHIFT) is 1 at x = 0.
SHIFT = math.log(math.e - 1.0)
# Largest entry of a diagonal in Sylvester's flow: at 1 it would not be invertible.
MAX_DIAGONAL = 0.999
# A fresh gate keeps sigmoid(2) = 0.88 of what it is given.
GATE_BIAS = 2.0


class FlowPosterior:
    """A normal distribution whose draws pass through the steps of a flow.

        z = z_K,  z_k = step_k(z_{k-1}),  z_0 ~ base
        log q(z) = log base(z_0) - Σ_k log |∂z_k / ∂z_{k-1}|

    A density is known for codes that were drawn, not for others: nothing inverts the
    steps.

    Args:
        base: `Normal` with mean and log-variance `(batch, latent_dim)`.
        steps: Functions of z that return z and a log-determinant.
    """

    def __init__(self, base: Normal, steps: Sequence[Callable]):
        self.base = base
        self.steps = steps

    def draw(self, noise):
        """Returns the codes of given standard normal noise, and their log-density.

        Args:
            noise: Tensor `(..., batch, latent_dim)`.

        Returns:
            Codes of the same shape and their log q, `(..., batch)`, in nats.
        """
        z, log_prob = self.base.draw(noise)
        for step in self.steps:
            z, log_det = step(z)
            log_prob = log_prob - log_det
        return z, log_prob

    def sample(self, shape: Sequence[int] | None = None, seed: Seed = None):
        """Draws codes of shape `shape`, by default one for each example."""
        shape = ops.shape(self.base.mean) if shape is None else shape
        return self.draw(keras.random.normal(shape, dtype="float32", seed=seed))[0]


def planar(z, u, w, bias):
    """Moves codes along û by how far they are from a plane: z + û tanh(w·z + bias).

    û is u with its part along w changed so that w·û > -1, as an inverse needs.

    Args:
        z: Codes `(..., batch, latent_dim)`.
        u, w: Tensors `(batch, latent_dim)`.
        bias: Tensor `(batch, 1)`.

    Reference:
        Rezende and Mohamed, Variational Inference with Normalizing Flows, 2015
        (https://arxiv.org/abs/1505.05770).
    """
    dot = ops.sum(u * w, axis=-1, keepdims=True)  # (batch, 1)
    # 1 + w·û. The paper has no shift: û would grow without bound as w vanishes.
    stretch = ops.softplus(dot + SHIFT) + 1e-6
    squared_norm = ops.sum(ops.square(w), axis=-1, keepdims=True)
    u = u + (stretch - 1.0 - dot) * w / ops.maximum(squared_norm, 1e-12)
    distance = ops.tanh(ops.sum(w * z, axis=-1, keepdims=True) + bias)
    # The determinant 1 + (1 - distance²) w·û, which loses no digits near 0 this way.
    share = ops.square(distance)
    log_det = ops.log(share + (1.0 - share) * stretch)  # (..., batch, 1)
    return z + u * distance, log_det[..., 0]


def sylvester(z, reflections, right, left, bias):
    """Planar moves in all latent dimensions at once: z + Q R tanh(R' Qᵀ z + bias).

    Q is orthogonal, a product of Householder reflections, R and R' are upper triangular
    with diagonals in (-1, 1), so that the step has an inverse, and a determinant of as
    many factors as there are latent dimensions.

    Args:
        z: Codes `(..., batch, latent_dim)`.
        reflections: Vectors, not 0, of any length, `(batch, count, latent_dim)`.
        right, left: R' and R, of which the upper triangles are read, before a tanh
            bounds the diagonals, `(batch, latent_dim, latent_dim)`.
        bias: Tensor `(batch, latent_dim)`.

    Reference:
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference, 2018
        (https://arxiv.org/abs/1803.05649).
    """
    vectors = _unit(reflections)
    (right, right_diagonal), (left, left_diagonal) = map(_bounded, (right, left))
    rotated = _reflected(z, vectors)  # Qᵀ z
    moves = ops.tanh(_multiply(right, rotated) + bias)  # (..., batch, latent_dim)
    slopes = 1.0 - ops.square(moves)
    log_det = ops.sum(ops.log1p(slopes * right_diagonal * left_diagonal), axis=-1)
    moved = _reflected(_multiply(left, moves), ops.flip(vectors, axis=1))
    return z + moved, log_det


def householder(reflections):
    """Returns orthogonal matrices, products of Householder reflections.

        Q = H_1 … H_n,  H_k = I - 2 v_k v_kᵀ / ||v_k||²

    Args:
        reflections: v_1 … v_n, not 0, `(batch, n, dim)`.

    Returns:
        Tensor `(batch, dim, dim)`.
    """
    dim = reflections.shape[-1]
    columns = ops.eye(dim, dtype="float32")[:, None]  # (dim, 1, dim)
    columns = ops.broadcast_to(columns, (dim, ops.shape(reflections)[0], dim))
    columns = _reflected(columns, ops.flip(_unit(reflections), axis=1))
    return ops.transpose(columns, (1, 2, 0))


def _unit(vectors):
    squared_norms = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squared_norms, 1e-12))


def _reflected(z, vectors):
    """Codes `(..., batch, dim)` reflected by each of `(batch, n, dim)`, one by one.

    A triangular solver would take them all at once, but can wait for ever inside a
    compiled step of JAX on a CPU.
    """
    for k in range(vectors.shape[1]):
        v = vectors[:, k]  # (batch, dim)
        z = z - 2.0 * ops.sum(z * v, axis=-1, keepdims=True) * v
    return z


def _bounded(matrices):
    """Upper triangles whose diagonal is bounded, and that diagonal."""
    diagonal = MAX_DIAGONAL * ops.tanh(ops.diagonal(matrices, axis1=-2, axis2=-1))
    identity = ops.eye(matrices.shape[-1], dtype="float32")
    return ops.triu(matrices, 1) + ops.expand_dims(diagonal, -1) * identity, diagonal


def _multiply(matrices, z):
    """Products of matrices `(batch, i, j)` with codes `(..., batch, j)`."""
    return ops.einsum("bij,...bj->...bi", matrices, z)


def inverse_autoregressive(z, network: "MaskedNetwork", context):
    """Mixes each number with one computed from those before it, and reverses them all.

        z_j <- σ_j z_j + (1 - σ_j) mean_j,  σ_j = sigmoid(gate_j)

    where mean_j and gate_j are functions of z_1 … z_{j-1} and of the context.

    Args:
        z: Codes `(..., batch, latent_dim)`.
        network: What gives means and gates.
        context: What the network is told about each example, `(batch, context_dim)`.

    Reference:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow,
        2016 (https://arxiv.org/abs/1606.04934).
    """
    mean, gate = network(z, context)
    gate = gate + GATE_BIAS
    z = mean + ops.sigmoid(gate) * (z - mean)
    return ops.flip(z, axis=-1), ops.sum(ops.log_sigmoid(gate), axis=-1)


@keras.saving.register_keras_serializable(package="keras_ae")
class MaskedNetwork(keras.layers.Layer):
    """Masked dense network (MADE): two numbers for each number of a code.

    Those for number j depend on the numbers before it, and on the context, alone. They
    are 0 before training.

    Args:
        widths: Units of the hidden layers, with ReLU.

    Call arguments:
        z: Codes `(..., latent_dim)`.
        context: Tensor `(batch, context_dim)`, whose first dimension is the one before
            last of z, or None.

    Returns:
        Two tensors of the shape of z.

    Reference:
        Germain et al., MADE: Masked Autoencoder for Distribution Estimation, 2015
        (https://arxiv.org/abs/1502.03509).
    """

    def __init__(self, widths: Sequence[int] = (64, 64), **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.widths = checks.check_counts("widths", widths)

    def build(self, z_shape, context_shape=None):
        # Units of degree 0 tell the first number of the context.
        lowest_degree = 1 if context_shape is None else 0
        self._masks = _masks(z_shape[-1], self.widths, lowest_degree)
        self.kernels, self.biases = [], []
        for layer, mask in enumerate(self._masks):
            # The last layer's zeros make what comes out 0.
            start = "zeros" if layer == len(self.widths) else "he_normal"
            self.kernels.append(
                self.add_weight(
                    name=f"kernel_{layer}", shape=mask.shape, initializer=start
                )
            )
            self.biases.append(
                self.add_weight(
                    name=f"bias_{layer}", shape=mask.shape[1:], initializer="zeros"
                )
            )
        if context_shape is not None:
            self.context_kernel = self.add_weight(
                name="context_kernel",
                shape=(context_shape[-1], self._masks[0].shape[1]),
                initializer="he_normal" if self.widths else "zeros",
            )

    def call(self, z, context=None):
        x = z
        for layer, mask in enumerate(self._masks):
            mask = ops.convert_to_tensor(mask, self.compute_dtype)
            x = ops.matmul(x, self.kernels[layer] * mask) + self.biases[layer]
            if layer == 0 and context is not None:
                x = x + ops.matmul(context, self.context_kernel)
            if layer < len(self.widths):
                x = ops.relu(x)
        return tuple(ops.split(x, 2, axis=-1))

    def get_config(self):
        return {**super().get_config(), "widths": self.widths}


def _masks(
    latent_dim: int, widths: Sequence[int], lowest_degree: int
) -> list[np.ndarray]:
    """Which units each unit may see, a mask `(inputs, outputs)` for each layer."""
    # A unit of degree d sees numbers 1 … d; number j is computed from those below j.
    degrees = [np.arange(1, latent_dim + 1)]
    for width in widths:
        count = max(latent_dim - lowest_degree, 1)
        degrees.append(lowest_degree + np.arange(width) % count)
    masks = [
        (below[:, None] <= above).astype("float32")
        for below, above in zip(degrees, degrees[1:], strict=False)
    ]
    last = (degrees[-1][:, None] < degrees[0]).astype("float32")
    return [*masks, np.concatenate([last, last], axis=1)]
