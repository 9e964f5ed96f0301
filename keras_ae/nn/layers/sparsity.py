"""Layers that keep most units of a code silent, and those of Boltzmann machines."""

import numbers
from typing import Any

import keras
from keras import ops

from keras_ae import checks
from keras_ae.nn.layers.noise import Seeded


class Sparsity(keras.layers.Layer):
    """Base of layers that turn pre-activations into sparse codes.

    A subclass implements `call`, and `penalty` where there is something to pay.

    Attributes:
        activation: Name of the activation that `call` amounts to, apart from zeros.
        has_penalty: Whether sparsity is a term of the loss.
    """

    activation = "linear"
    has_penalty = True

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def penalty(self, z, training: bool = False):
        """Returns what codes `z` `(batch, units)` have to pay, `(batch,)`."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_ae")
class KLSparsity(Sparsity):
    """Sigmoid units that are held to a small mean activation.

        penalty = weight Σ_j KL(target || mean_j)
                = weight Σ_j target log(target / mean_j)
                             + (1 - target) log((1 - target) / (1 - mean_j))

    where mean_j is the mean activation of unit j over the batch, or a running average.
    It is the same for all examples of a batch.

    Args:
        weight: Weight of the penalty, >= 0.
        target: Wanted mean activation of a unit, within 0 and 1.
        momentum: None for the mean over the batch; otherwise mean_j is a running
            average that keeps this share of itself at each step, in [0, 1), which small
            batches need. Its gradient is that of the batch's mean.

    Reference:
        Ng, Sparse autoencoder, CS294A lecture notes, 2011
        (https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf).
    """

    activation = "sigmoid"

    def __init__(
        self,
        weight: float = 3.0,
        target: float = 0.1,
        momentum: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        checks.check_weight("weight", weight)
        if not isinstance(target, numbers.Real) or not 0 < target < 1:
            raise ValueError(
                f"`target` must be within 0 and 1. Received: target={target!r}"
            )
        if momentum is not None and not (
            isinstance(momentum, numbers.Real) and 0 <= momentum < 1
        ):
            raise ValueError(
                "`momentum` must be None or a number from 0 to below 1. "
                f"Received: momentum={momentum!r}"
            )
        self.weight = weight
        self.target = target
        self.momentum = momentum

    def build(self, input_shape):
        if self.momentum is not None:
            self.running_mean = self.add_weight(
                name="running_mean",
                shape=(input_shape[-1],),
                initializer=keras.initializers.Constant(self.target),
                trainable=False,
            )
        self.built = True

    def call(self, x, training=False):
        return ops.sigmoid(x)

    def penalty(self, z, training=False):
        mean = ops.mean(z, axis=0)  # (units,)
        if self.momentum is not None and not training:
            mean = ops.convert_to_tensor(self.running_mean)
        elif self.momentum is not None:
            running = self.momentum * self.running_mean + (1 - self.momentum) * mean
            running = ops.stop_gradient(running)
            self.running_mean.assign(running)
            mean = running + mean - ops.stop_gradient(mean)
        # Added, not clipped: a dead unit must feel the gradient that revives it.
        active, silent = mean + 1e-6, 1 - mean + 1e-6
        kl = self.target * ops.log(self.target / active)
        kl += (1 - self.target) * ops.log((1 - self.target) / silent)
        return ops.broadcast_to(self.weight * ops.sum(kl), (ops.shape(z)[0],))

    def get_config(self):
        return {
            **super().get_config(),
            "weight": self.weight,
            "target": self.target,
            "momentum": self.momentum,
        }


@keras.saving.register_keras_serializable(package="keras_ae")
class L1Sparsity(Sparsity):
    """ReLU units that pay for their activation: penalty = weight Σ_j |z_j|.

    Args:
        weight: Weight of the penalty, >= 0.

    Reference:
        Olshausen and Field, Emergence of simple-cell receptive field properties by
        learning a sparse code for natural images, 1996
        (https://doi.org/10.1038/381607a0).
    """

    activation = "relu"

    def __init__(self, weight: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        checks.check_weight("weight", weight)
        self.weight = weight
        self.built = True

    def call(self, x, training=False):
        return ops.relu(x)

    def penalty(self, z, training=False):
        return self.weight * ops.sum(ops.abs(z), axis=-1)

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


@keras.saving.register_keras_serializable(package="keras_ae")
class KSparse(Sparsity):
    """Linear units of which only the k largest of each example stay; nothing to pay.

    Args:
        k: Number of units that stay, >= 1; all of them where there are no more than k.
            Units equal to the smallest of them stay too.

    Reference:
        Makhzani and Frey, k-Sparse Autoencoders, 2014
        (https://arxiv.org/abs/1312.5663).
    """

    has_penalty = False

    def __init__(self, k: int = 16, **kwargs):
        super().__init__(**kwargs)
        self.k = checks.check_count("k", k)
        self.built = True

    def call(self, x, training=False):
        if x.shape[-1] <= self.k:
            return x
        smallest = ops.top_k(x, self.k)[0][..., -1:]  # (batch, 1)
        return ops.where(x >= smallest, x, 0.0)

    def get_config(self):
        return {**super().get_config(), "k": self.k}


@keras.saving.register_keras_serializable(package="keras_ae")
class ContrastiveDivergence(Seeded):
    """A restricted Boltzmann machine of binary units, and what it learns by.

        F(v) = -b·v - Σ_j softplus(c_j + v·W_j)
        contrastive_divergence = F(v) - F(v'),  v' after some steps of Gibbs sampling

    The gradient for W is <v h>_model - <v h>_data, of probabilities of h. Visible units
    take their probabilities, hidden ones are drawn.

    Args:
        steps: Steps of Gibbs sampling, >= 1.
        seed: Integer seed of the draws.

    Call arguments:
        v: Tensor `(batch, visible)`, in [0, 1].
        up: Built dense layer whose kernel is W and whose bias is c.
        down: Built dense layer whose bias is b.

    Returns:
        A dict: `"z"`, the probabilities of the hidden units `(batch, hidden)`,
        `"parameters"`, the logits of the visible units given z `(batch, visible)`, and
        `"contrastive_divergence"` `(batch,)`.

    Reference:
        Hinton, Training Products of Experts by Minimizing Contrastive Divergence, 2002
        (https://doi.org/10.1162/089976602760128018).
    """

    def __init__(self, steps: int = 1, seed: int | None = None, **kwargs):
        # In bfloat16 the difference of two free energies of hundreds would be noise.
        super().__init__(seed, **{"dtype": "float32", **kwargs})
        self.steps = checks.check_count("steps", steps)

    def call(self, v, up=None, down=None):
        v = ops.cast(v, "float32")
        kernel, hidden_bias, visible_bias = (
            ops.convert_to_tensor(variable)
            for variable in (up.kernel, up.bias, down.bias)
        )

        def free_energy(v):
            hidden = ops.softplus(hidden_bias + ops.matmul(v, kernel))
            return -ops.matmul(v, visible_bias) - ops.sum(hidden, axis=-1)

        def probabilities(v):
            return ops.sigmoid(hidden_bias + ops.matmul(v, kernel))

        def logits(h):
            return visible_bias + ops.matmul(h, ops.transpose(kernel))

        z = probabilities(v)  # (batch, hidden)
        model_v, h = v, z
        for _ in range(self.steps):
            noise = keras.random.uniform(
                ops.shape(h), dtype="float32", seed=self.seed_generator
            )
            model_v = ops.sigmoid(logits(ops.cast(noise < h, "float32")))
            h = probabilities(model_v)
        model_v = ops.stop_gradient(model_v)
        return {
            "z": z,
            "parameters": logits(z),
            "contrastive_divergence": free_energy(v) - free_energy(model_v),
        }

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}


SPARSITIES = {"kl": KLSparsity, "l1": L1Sparsity, "k_sparse": KSparse}


def get_sparsity(sparsity: Any) -> Sparsity:
    """Returns a new sparsity layer, as `"kl"`, `"l1"`, `"k_sparse"` or a layer says."""
    if isinstance(sparsity, Sparsity):
        # Not that layer itself: a running average belongs to one model.
        return type(sparsity).from_config(sparsity.get_config())
    if not isinstance(sparsity, str) or sparsity not in SPARSITIES:
        raise ValueError(
            f"`sparsity` must be {', '.join(map(repr, SPARSITIES))} or a layer from "
            f"`keras_ae.layers`. Received: sparsity={sparsity!r}"
        )
    return SPARSITIES[sparsity]()
