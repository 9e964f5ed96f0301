"""What every contestant trains: the data, the layers, and how long."""

import math
from typing import NamedTuple

import numpy as np


class Workload(NamedTuple):
    """A VAE, layer for layer that of `keras_ae.VAE(latent_dim, widths=...)`.

    Attributes:
        data: Name of a data set of `keras_ae.datasets`.
        image_shape: Height, width and channels.
        architecture: `"dense"` or `"conv"`, or `"vqvae"`, pythae's residual networks.
        widths: Units of the encoder's dense layers or filters of its stages of stride
            2; the decoder mirrors them.
        latent_dim: Numbers in a code.
        likelihood: `"bernoulli"`, or `"gaussian"` of scale 1 without its constant.
        batch_size: Pictures a step.
        pictures: Pictures an epoch, at most.
        epochs: Epochs of a round.
    """

    data: str
    image_shape: tuple[int, int, int]
    architecture: str
    widths: tuple[int, ...]
    latent_dim: int
    likelihood: str
    batch_size: int
    pictures: int
    epochs: int

    @property
    def values(self) -> int:
        """Numbers in a picture."""
        return math.prod(self.image_shape)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a picture behind the encoder's convolutions."""
        return tuple(
            math.ceil(size / 2 ** len(self.widths)) for size in self.image_shape[:2]
        )


WORKLOADS = {
    "mlp": Workload(
        "mnist", (28, 28, 1), "dense", (512,), 16, "bernoulli", 128, 60_000, 5
    ),
    "conv": Workload(
        "mnist", (28, 28, 1), "conv", (32, 64), 16, "bernoulli", 128, 12_000, 4
    ),
    "celeba": Workload(
        "celeba",
        (64, 64, 3),
        "conv",
        (32, 64, 128, 256),
        128,
        "gaussian",
        128,
        8_000,
        3,
    ),
    "vqvae": Workload(
        "mnist", (28, 28, 1), "vqvae", (64, 128, 128), 32, "gaussian", 256, 50_000, 3
    ),
}


class Layer(NamedTuple):
    """A layer of a workload's network.

    Attributes:
        kind: `"dense"`, `"conv"` or `"norm"`.
        shape: Of the kernel, inputs before outputs; of a norm's gain and shift.
        places: How often a picture has it: the size of a convolution's output.
        use_bias: Whether a bias follows.
    """

    kind: str
    shape: tuple[int, ...]
    places: int = 1
    use_bias: bool = True


def layers(workload: Workload) -> list[Layer]:
    """The layers in the order in which `elbo.losses` reads their weights."""
    height, width, channels = workload.image_shape
    widths, latent_dim = workload.widths, workload.latent_dim
    found = []
    if workload.architecture == "dense":
        for inputs, units in zip((workload.values, *widths), widths, strict=False):
            found.append(Layer("dense", (inputs, units)))
        found += 2 * [Layer("dense", (widths[-1], latent_dim))]
        back = (latent_dim, *reversed(widths), workload.values)
        for inputs, units in zip(back, back[1:], strict=False):
            found.append(Layer("dense", (inputs, units)))
        return found
    places = height * width
    for inputs, filters in zip((channels, *widths), widths, strict=False):
        places //= 4
        found.append(Layer("conv", (4, 4, inputs, filters), places, False))
        found.append(Layer("norm", (filters,), places))
    units = places * widths[-1]
    found += 2 * [Layer("dense", (units, latent_dim))]
    found.append(Layer("dense", (latent_dim, units)))
    inputs = widths[-1]
    for filters in (*reversed(widths[:-1]), widths[0]):
        found.append(Layer("conv", (2, 2, inputs, 4 * filters), places, False))
        places *= 4
        found.append(Layer("norm", (filters,), places))
        inputs = filters
    found.append(Layer("conv", (3, 3, inputs, channels), places))
    return found


def initial_weights(workload: Workload, seed: int) -> list[np.ndarray]:
    """Glorot's uniform kernels, zero biases: what Keras starts from."""
    rng = np.random.default_rng(seed)
    weights = []
    for layer in layers(workload):
        if layer.kind == "norm":
            weights += [
                np.ones(layer.shape, "float32"),
                np.zeros(layer.shape, "float32"),
            ]
            continue
        fans = math.prod(layer.shape[:-2]) * (layer.shape[-2] + layer.shape[-1])
        limit = math.sqrt(6 / fans)
        weights.append(rng.uniform(-limit, limit, layer.shape).astype("float32"))
        if layer.use_bias:
            weights.append(np.zeros(layer.shape[-1], "float32"))
    return weights


def cost(workload: Workload) -> dict[str, float]:
    """Arithmetic and memory traffic that a training picture can't do without.

    A multiplication and an addition are two operations. Backward, each layer takes as
    many for its weights and as many for its inputs, which the first one is spared.
    Every activation is written, read by the next layer, read again backward, and its
    gradient written and read; weights are read forward and backward, their gradients
    written, and Adam reads and writes weights, gradients and two moments, once a batch.
    All in float32.
    """
    found = layers(workload)
    products = [
        0 if layer.kind == "norm" else 2 * math.prod(layer.shape) * layer.places
        for layer in found
    ]
    activations = workload.values + sum(
        layer.shape[-1] * layer.places for layer in found
    )
    weights = sum(weight.size for weight in initial_weights(workload, 0))
    return {
        "operations": 3 * sum(products) - products[0],
        "bytes": 4 * (5 * activations + 10 * weights / workload.batch_size),
    }
