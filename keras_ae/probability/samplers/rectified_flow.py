"""Noise that flows to codes along straight lines."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.checks import check_count, check_counts, check_share, check_weight
from keras_ae.nn import networks
from keras_ae.probability.distributions import LearnedPrior, Normal, Seed, float32

# Noise and times for each held-back value, on which a loss is measured.
_DRAWS = 4


class RectifiedFlow(LearnedPrior):
    """Noise that a learned velocity carries to codes, along lines that are straight.

        dz_t / dt = v(z_t, t),  z_0 ~ N(0, I),  z_1 ~ p(z)
        loss(z) = || v(z_t, t) - (z - ε) ||²,  z_t = (1 - t) ε + t z

    with ε ~ N(0, I) and t uniform: v learns the mean of all lines that pass through a
    point, and following it draws codes as they are distributed. It is a residual
    network whose layers t, and a class, shift and scale: `networks.velocity`. Draws
    take `steps` steps of Heun's method, two passes of the network each.

    With classes, v(z_t, t, y) is learned for each of them and, by leaving the class
    away from some codes, for all together. Draws then follow

        v(z_t, t) + guidance (v(z_t, t, y) - v(z_t, t))

    with y the class that is asked for, or one drawn as often as it is among the codes.

    Args:
        width: Units of each layer, or filters of each convolution, >= 1.
        blocks: Number of residual blocks, >= 1.
        code_shape: Sides of a grid of vectors and the numbers of one of them, where the
            codes are such grids, all in a row. By default a code is a vector.
        num_classes: Number of classes, >= 1, or None.
        dropout: Share of the labels that are left away in training, from 0 to below 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model.fit_sampler("flow", digits)
    pictures = model.sample(64, sampler="flow")
    ```

    Reference:
        Liu et al., Flow Straight and Fast: Learning to Generate and Transfer Data with
        Rectified Flow, 2023 (https://arxiv.org/abs/2209.03003); Lipman et al., Flow
        Matching for Generative Modeling, 2023 (https://arxiv.org/abs/2210.02747); Ho
        and Salimans, Classifier-Free Diffusion Guidance, 2022
        (https://arxiv.org/abs/2207.12598).
    """

    def __init__(
        self,
        width: int = 256,
        blocks: int = 3,
        num_classes: int | None = None,
        dropout: float = 0.1,
        code_shape: Sequence[int] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if code_shape is not None:
            code_shape = check_counts("code_shape", code_shape)
        self.code_shape = code_shape
        self.width = check_count("width", width)
        self.blocks = check_count("blocks", blocks)
        if num_classes is not None:
            check_count("num_classes", num_classes)
        self.num_classes = num_classes
        self.dropout = check_share("dropout", dropout)
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape):
        shape = input_shape[-1:] if self.code_shape is None else self.code_shape
        self.network = networks.velocity(
            shape, self.width, self.blocks, self.num_classes
        )
        if self.num_classes is not None:
            self.shares = self.add_weight(
                name="shares",
                shape=(self.num_classes,),
                initializer=keras.initializers.Constant(1.0 / self.num_classes),
                trainable=False,
            )
        self.built = True

    def count(self, labels: np.ndarray) -> None:
        """Takes the share of each class from labels `(n,)`."""
        counts = np.bincount(labels, minlength=int(self.shares.shape[0]))
        self.shares.assign(counts / len(labels))

    def velocity(self, z, time, labels=None):
        """Returns v(z_t, t), `(n, latent_dim)`.

        Args:
            z: Codes on their way, `(n, latent_dim)`.
            time: Times in [0, 1], `(n, 1)`.
            labels: Integers `(n,)`, `num_classes` for all classes together; only with
                classes.
        """
        inputs = {"z": z, "time": time}
        if self.num_classes is not None:
            if labels is None:
                labels = ops.full(ops.shape(z)[:1], self.num_classes, dtype="int32")
            inputs["label"] = labels
        return self.network(inputs)

    def loss(self, z, training=False, labels=None):
        """Returns the loss, `(batch,)`, of codes z `(batch, latent_dim)`.

        In evaluation noise and times are always the same, and a mean of several.
        """
        z = float32(z)
        if training:
            shape, seed = ops.shape(z), self.seed_generator
            noise = keras.random.normal(shape, seed=seed, dtype="float32")
            time = keras.random.uniform((shape[0], 1), seed=seed, dtype="float32")
            if labels is not None:
                kept = keras.random.uniform(shape[:1], seed=seed) >= self.dropout
                labels = ops.where(kept, labels, self.num_classes)
            return self._distance(z, noise, time, labels)
        draws = [
            self._distance(
                z,
                keras.random.normal(ops.shape(z), seed=draw, dtype="float32"),
                ops.full_like(z[:, :1], (draw + 0.5) / _DRAWS),
                labels,
            )
            for draw in range(_DRAWS)
        ]
        return sum(draws) / _DRAWS

    def _distance(self, z, noise, time, labels):
        on_the_way = (1.0 - time) * noise + time * z
        error = self.velocity(on_the_way, time, labels) - (z - noise)
        return ops.sum(ops.square(error), axis=-1)

    def sample(
        self,
        shape: Sequence[int],
        seed: Seed = None,
        steps: int = 10,
        labels: Any = None,
        guidance: float = 1.0,
    ):
        """Draws codes of shape `shape`, `(..., latent_dim)`.

        Args:
            shape: Shape of what is drawn.
            seed: Integer, or a generator, which moves on.
            steps: Steps of Heun's method, >= 1: fewer are sooner, and less exact.
            labels: With classes the class of all codes, or one of each, of the shape
                `shape[:-1]`. By default they are drawn.
            guidance: How far a class moves the velocity, >= 0: 1 draws from p(z | y),
                more what is most like the class and less varied.

        Raises:
            ValueError: If an argument is out of range, or there are no classes.
        """
        check_count("steps", steps)
        check_weight("guidance", guidance)
        labels = self._checked(labels, shape[:-1])
        # Two draws from one integer seed would be alike.
        seed = keras.random.SeedGenerator(seed) if isinstance(seed, int) else seed
        z = keras.random.normal(shape, dtype="float32", seed=seed)
        z = ops.reshape(z, (-1, shape[-1]))
        if labels is None and self.num_classes is not None:
            logits = ops.log(float32(self.shares))[None]
            labels = keras.random.categorical(logits, z.shape[0], seed=seed)[0]

        def step(z, time, *labels):
            first = self._guided(z, time, guidance, *labels)
            second = self._guided(
                z + first / steps, time + 1.0 / steps, guidance, *labels
            )
            return z + (first + second) / (2.0 * steps)

        step = backend.compiled(step, self.variables)
        labels = () if labels is None else (labels,)
        for time in np.linspace(0.0, 1.0, steps, endpoint=False, dtype="float32"):
            z = step(z, ops.convert_to_tensor(time), *labels)
        return ops.reshape(z, shape)

    def _checked(self, labels, shape):
        if labels is None:
            return None
        if self.num_classes is None:
            raise ValueError(
                "`labels` must be None for a flow without classes; fit it with "
                f"`labels=`. Received: labels={labels!r}"
            )
        labels = np.asarray(labels)
        whole = labels.dtype.kind in "iu" and labels.shape in ((), tuple(shape))
        if not whole or labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"`labels` must be integers from 0 to {self.num_classes - 1}, one, or "
                f"of shape {tuple(shape)}. Received: {labels!r}"
            )
        return ops.convert_to_tensor(
            np.broadcast_to(labels, shape).reshape(-1), "int32"
        )

    def _guided(self, z, time, guidance=1.0, labels=None):
        time = time * ops.ones_like(z[:, :1])
        if labels is None:
            return self.velocity(z, time)
        of_class = self.velocity(z, time, labels)
        if guidance == 1.0:
            return of_class
        of_all = self.velocity(z, time)
        return of_all + guidance * (of_class - of_all)

    def log_prob(self, z, steps: int = 40):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`.

            log p(z) = log N(z_0; 0, I) - ∫ div v(z_t, t) dt

        along the way back from z at t = 1, in `steps` steps of Heun's method: as many
        passes forward and backward of the network as there are latent dimensions, twice
        in each, and for each class, of whose densities it is the mean by their shares.
        It has no gradient.
        """
        z = float32(z)
        shape = ops.shape(z)
        z = ops.reshape(z, (-1, shape[-1]))

        def back(z, time, *labels):
            first, slope = self._velocity_and_divergence(z, time, *labels)
            second, other = self._velocity_and_divergence(
                z - first / steps, time - 1.0 / steps, *labels
            )
            return z - (first + second) / (2.0 * steps), (slope + other) / (2.0 * steps)

        back = backend.compiled(back, self.variables)

        def log_prob(z, *labels):
            change = 0.0
            for time in np.linspace(1.0, 0.0, steps, endpoint=False, dtype="float32"):
                z, slope = back(z, ops.convert_to_tensor(time), *labels)
                change = change + slope
            return Normal().log_prob(z) - change

        if self.num_classes is None:
            return ops.reshape(log_prob(z), shape[:-1])
        by_class = [
            log_prob(z, ops.full(ops.shape(z)[:1], label, dtype="int32"))
            for label in range(self.num_classes)
        ]
        by_class = ops.stack(by_class, axis=-1) + ops.log(float32(self.shares))
        return ops.reshape(ops.logsumexp(by_class, axis=-1), shape[:-1])

    def _velocity_and_divergence(self, z, time, *labels):
        dim = z.shape[-1]
        # Each row once for every latent dimension, of whose velocity it has the slope.
        picked = ops.tile(ops.eye(dim, dtype="float32"), (ops.shape(z)[0], 1))
        repeated = [ops.repeat(label, dim, axis=0) for label in labels]
        slopes = backend.gradient(
            lambda z: ops.sum(self._guided(z, time, 1.0, *repeated) * picked, axis=-1),
            ops.repeat(z, dim, axis=0),
        )  # (n * latent_dim, latent_dim)
        slopes = ops.reshape(ops.sum(slopes * picked, axis=-1), (-1, dim))
        return self._guided(z, time, 1.0, *labels), ops.sum(slopes, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "blocks": self.blocks,
            "num_classes": self.num_classes,
            "dropout": self.dropout,
            "code_shape": self.code_shape,
        }
