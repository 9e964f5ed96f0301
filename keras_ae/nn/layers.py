"""Layers that Keras does not have: noise, sparsity, resizing, residual blocks."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ae import inputs
from keras_ae.backend import kernels


class Seeded(keras.layers.Layer):
    """Base of layers that draw random numbers, and go on with fresh ones when loaded.

    Args:
        seed: Integer seed. Defaults to a random one, which
            `keras.utils.set_random_seed` fixes.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras does not save seeds; a resumed training should go on with fresh noise.
        store["seed_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed_state"][:])
        others = {name: store[name] for name in {*store.keys()} - {"seed_state"}}
        super().load_own_variables(others)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianSampling(Seeded):
    """Draws z = mean + exp(log_var / 2) ε with ε ~ N(0, I), the reparameterised sample.

    Args:
        seed: Integer seed of the noise. Defaults to a random one, which
            `keras.utils.set_random_seed` fixes.

    Call arguments:
        mean: Tensor `(batch, latent_dim)`.
        log_var: Tensor of the same shape, the logarithm of the variance.

    Returns:
        Tensor of the same shape, in float32 whatever the dtype policy.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014
        (https://arxiv.org/abs/1312.6114).
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(seed, **{"dtype": "float32", **kwargs})

    def call(self, mean, log_var):
        noise = keras.random.normal(
            ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator
        )
        return mean + ops.exp(0.5 * log_var) * noise

    def compute_output_shape(self, mean_shape, log_var_shape):
        return mean_shape


class Corruption(Seeded):
    """Base of layers that spoil data in training and pass them on otherwise.

    A subclass implements `corrupt(x, level)`.

    Args:
        level: How much is spoilt: a number, or a pair `(low, high)` between which each
            example's level is drawn.
        seed: Integer seed of the noise.
        **kwargs: `name`, as for any Keras layer.

    Call arguments:
        x: Tensor `(batch, ...)`.
        training: Whether to spoil x.

    Raises:
        ValueError: If a level is not within `bounds`.
    """

    bounds = (0.0, 1.0)

    def __init__(
        self, level: float | Sequence[float], seed: int | None = None, **kwargs
    ):
        super().__init__(seed, **{"dtype": "float32", **kwargs})
        pair = tuple(level) if isinstance(level, tuple | list) else (level, level)
        low, high = self.bounds
        if (
            len(pair) != 2
            or any(isinstance(v, bool) or not isinstance(v, numbers.Real) for v in pair)
            or not low <= pair[0] <= pair[1] <= high
            or math.isinf(pair[1])
        ):
            limits = f">= {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise ValueError(
                f"The noise level of {type(self).__name__} must be a number {limits}, "
                f"or two of them as (low, high). Received: {level!r}"
            )
        self.level = pair if isinstance(level, tuple | list) else level
        self._pair = pair

    def call(self, x, training=False):
        if not training:
            return x
        low, high = self._pair
        level = low
        if low < high:
            shape = (ops.shape(x)[0], *(1 for _ in x.shape[1:]))
            level = keras.random.uniform(
                shape, low, high, dtype="float32", seed=self.seed_generator
            )
        return ops.cast(self.corrupt(ops.cast(x, "float32"), level), x.dtype)

    def corrupt(self, x, level):
        """Returns x spoilt, both in float32."""
        raise NotImplementedError

    def uniform(self, x):
        """Returns uniform numbers in [0, 1) of the shape of `x`."""
        return keras.random.uniform(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "level": self.level}


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianCorruption(Corruption):
    """Adds Gaussian noise: x + level ε with ε ~ N(0, I).

    Args:
        level: Standard deviation of the noise, >= 0, or a pair `(low, high)`.
        seed: Integer seed of the noise.
    """

    bounds = (0.0, math.inf)

    def __init__(self, level: float | Sequence[float] = 0.3, seed=None, **kwargs):
        super().__init__(level, seed, **kwargs)

    def corrupt(self, x, level):
        noise = keras.random.normal(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )
        return x + level * noise


@keras.saving.register_keras_serializable(package="keras_ae")
class MaskingCorruption(Corruption):
    """Sets values to 0, each with the probability `level`.

    Unlike dropout it does not scale up the others.

    Args:
        level: Probability, 0 to 1, or a pair `(low, high)`.
        seed: Integer seed of the noise.

    Reference:
        Vincent et al., Stacked Denoising Autoencoders, 2010
        (https://jmlr.org/papers/v11/vincent10a.html).
    """

    def __init__(self, level: float | Sequence[float] = 0.25, seed=None, **kwargs):
        super().__init__(level, seed, **kwargs)

    def corrupt(self, x, level):
        return ops.where(self.uniform(x) < level, 0.0, x)


@keras.saving.register_keras_serializable(package="keras_ae")
class SaltAndPepperCorruption(Corruption):
    """Sets values to 0 or 1, evenly, each with the probability `level`.

    Args:
        level: Probability, 0 to 1, or a pair `(low, high)`.
        seed: Integer seed of the noise.

    Reference:
        Vincent et al., Stacked Denoising Autoencoders, 2010
        (https://jmlr.org/papers/v11/vincent10a.html).
    """

    def __init__(self, level: float | Sequence[float] = 0.1, seed=None, **kwargs):
        super().__init__(level, seed, **kwargs)

    def corrupt(self, x, level):
        pepper_and_salt = ops.cast(self.uniform(x) < 0.5, "float32")
        return ops.where(self.uniform(x) < level, pepper_and_salt, x)


CORRUPTIONS = {
    "gaussian": GaussianCorruption,
    "masking": MaskingCorruption,
    "salt_and_pepper": SaltAndPepperCorruption,
}


def get_corruption(corruption: Any, level: Any = None) -> keras.layers.Layer:
    """Returns a corruption layer.

    Args:
        corruption: `"gaussian"`, `"masking"`, `"salt_and_pepper"`, or any Keras layer
            that keeps the shape and heeds `training`.
        level: The level of a corruption given by name. Defaults to the layer's own.

    Raises:
        ValueError: For an unknown name, or a level beside a layer.
    """
    if isinstance(corruption, keras.layers.Layer):
        if level is not None:
            raise ValueError(
                "`noise_level` belongs to a corruption given by name; a layer has its "
                f"own. Received: noise_level={level!r} beside a "
                f"{type(corruption).__name__}"
            )
        return corruption
    if not isinstance(corruption, str) or corruption not in CORRUPTIONS:
        raise ValueError(
            f"`corruption` must be {', '.join(map(repr, CORRUPTIONS))} or a Keras "
            f"layer. Received: corruption={corruption!r}"
        )
    layer = CORRUPTIONS[corruption]
    return layer() if level is None else layer(level)


def check_corruption(corruption: keras.layers.Layer, shape: Sequence[int]) -> None:
    """Builds a corruption layer, and raises `ValueError` if it changes the shape."""
    received = corruption(keras.KerasTensor((None, *shape)), training=True).shape
    if tuple(received[1:]) != tuple(shape):
        raise ValueError(
            "`corruption` must be a layer that keeps the shape of its input. Received "
            f"one that turns {tuple(shape)} into {tuple(received[1:])}"
        )


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
        inputs.check_weight("weight", weight)
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
        inputs.check_weight("weight", weight)
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
        self.k = inputs.check_count("k", k)
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
        self.steps = inputs.check_count("steps", steps)

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


@keras.saving.register_keras_serializable(package="keras_ae")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, which trains faster on TensorFlow and computes the same.

    Args:
        **kwargs: As for `keras.layers.BatchNormalization`.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self._is_plain = (
            len(input_shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not self.renorm
            and not self.synchronized
        )

    def call(self, inputs, training=None, mask=None):
        found = None
        if training and self.trainable and mask is None and self._is_plain:
            found = kernels.normalized(inputs, self.gamma, self.beta, self.epsilon)
        if found is None:
            return super().call(inputs, training=training, mask=mask)
        outputs, *moments = found
        averages = (self.moving_mean, self.moving_variance)
        for average, value in zip(averages, moments, strict=True):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable(package="keras_ae")
class Conv2D(keras.layers.Conv2D):
    """Keras' layer, which makes grey pictures faster on TensorFlow's CPUs.

    On PyTorch's it takes a batch of one picture, which Keras' layer can fail on.

    Args:
        *args, **kwargs: As for `keras.layers.Conv2D`.
    """

    def convolution_op(self, inputs, kernel):
        found = None
        kernel = kernels.filters_in_order(inputs, kernel)
        if (
            self.filters == self.groups == 1
            and self.padding == "same"
            and self.data_format == "channels_last"
            and {*self.strides, *self.dilation_rate} == {1}
        ):
            found = kernels.convolved_to_one(inputs, kernel)
        return super().convolution_op(inputs, kernel) if found is None else found


@keras.saving.register_keras_serializable(package="keras_ae")
class DepthToSpace(keras.layers.Layer):
    """Turns channels into pixels: `(h, w, 4 c)` becomes `(2 h, 2 w, c)`.

    After a stride-1 convolution this is a transposed convolution of stride 2, which
    runs fast on every backend.

    Reference:
        Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient
        Sub-Pixel Convolutional Neural Network, 2016
        (https://arxiv.org/abs/1609.05158).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, x):
        return ops.depth_to_space(x, 2, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, 2 * height, 2 * width, channels // 4)

    # Keras can't guess the config of a layer that was given a dtype policy.
    def get_config(self):
        return super().get_config()


@keras.saving.register_keras_serializable(package="keras_ae")
class SpaceToDepth(keras.layers.Layer):
    """Turns pixels into channels: `(2 h, 2 w, c)` becomes `(h, w, 4 c)`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, x):
        return ops.space_to_depth(x, 2, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height // 2, width // 2, 4 * channels)

    # Keras can't guess the config of a layer that was given a dtype policy.
    def get_config(self):
        return super().get_config()


@keras.saving.register_keras_serializable(package="keras_ae")
class ResidualBlock(keras.layers.Layer):
    """Two normalised 3x3 convolutions around a skip connection: x + f(x).

    Group normalisation behaves alike in training and inference and for any batch size.

    Args:
        filters: Channels of the output. The skip connection is a 1x1 convolution where
            the input has another number of channels.
        activation: Activation before each convolution.
        spectral_norm: Whether the convolutions are spectrally normalised.

    Reference:
        He et al., Identity Mappings in Deep Residual Networks, 2016
        (https://arxiv.org/abs/1603.05027).
    """

    def __init__(
        self, filters: int, activation="swish", spectral_norm: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.activation = keras.activations.get(activation)
        self.spectral_norm = spectral_norm

    def build(self, input_shape):
        channels = input_shape[-1]

        def normalization(channels):
            groups = next(n for n in (8, 4, 2, 1) if channels % n == 0)
            return keras.layers.GroupNormalization(groups, dtype=self.dtype_policy)

        def convolution(kernel_size, **kwargs):
            layer = keras.layers.Conv2D(
                self.filters,
                kernel_size,
                padding="same",
                data_format="channels_last",
                dtype=self.dtype_policy,
                **kwargs,
            )
            return SpectralNormalization(layer) if self.spectral_norm else layer

        self.first_normalization = normalization(channels)
        self.first_convolution = convolution(3)
        self.second_normalization = normalization(self.filters)
        # Starting from zero makes every block start as its skip connection; a zero
        # kernel can't be normalised.
        start = "glorot_uniform" if self.spectral_norm else "zeros"
        self.second_convolution = convolution(3, kernel_initializer=start)
        self.skip = convolution(1) if channels != self.filters else None

        hidden_shape = (*input_shape[:-1], self.filters)
        self.first_normalization.build(input_shape)
        self.first_convolution.build(input_shape)
        self.second_normalization.build(hidden_shape)
        self.second_convolution.build(hidden_shape)
        if self.skip is not None:
            self.skip.build(input_shape)

    def call(self, x):
        h = self.first_convolution(self.activation(self.first_normalization(x)))
        h = self.second_convolution(self.activation(self.second_normalization(h)))
        return h + (x if self.skip is None else self.skip(x))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        config = {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
        }
        if self.spectral_norm:
            config["spectral_norm"] = True
        return config


@keras.saving.register_keras_serializable(package="keras_ae")
class RademacherNoise(Seeded):
    """Draws -1 or 1, evenly, for every value of its input, in float32.

    Args:
        seed: Integer seed of the noise.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(seed, **{"dtype": "float32", **kwargs})

    def call(self, x):
        uniform = keras.random.uniform(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )
        return ops.where(uniform < 0.5, -1.0, 1.0)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_ae")
class UniformNoise(Seeded):
    """Draws one uniform number in [0, 1) for each example, `(batch,)`, in float32.

    Args:
        seed: Integer seed of the noise.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(seed, **{"dtype": "float32", **kwargs})

    def call(self, x):
        return keras.random.uniform(
            (ops.shape(x)[0],), dtype="float32", seed=self.seed_generator
        )

    def compute_output_shape(self, input_shape):
        return input_shape[:1]


class PriorSampling(Seeded):
    """Draws a code from a prior for each example, `(batch, latent_dim)`, in float32.

    It belongs to the model that makes it, which saves the prior.

    Args:
        prior: Distribution of codes, from `keras_ae.distributions`.
        latent_dim: Numbers in a code.
        seed: Integer seed of the codes.
    """

    def __init__(self, prior: Any, latent_dim: int, seed: int | None = None, **kwargs):
        super().__init__(seed, **{"dtype": "float32", **kwargs})
        self.prior = prior
        self.latent_dim = latent_dim

    def call(self, x):
        shape = (ops.shape(x)[0], self.latent_dim)
        return self.prior.sample(shape, seed=self.seed_generator)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.latent_dim)


@keras.saving.register_keras_serializable(package="keras_ae")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides a layer's kernel by its largest singular value σ.

        y = activation(W x / σ + b),  σ = vᵀ W u

    where W is the kernel reshaped to a matrix of one column for each unit or filter.
    Its first singular vectors u and v come from the power method, one step at each
    training step; inference changes nothing.

    Args:
        layer: A `Dense`, `Conv1D`, `Conv2D` or `Conv3D` layer.

    Raises:
        ValueError: For any other layer.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018
        (https://arxiv.org/abs/1802.05957).
    """

    # Keras' own layer overwrites the kernel whenever it is called. On JAX a training
    # step keeps no such update of a trainable variable: the kernel is never normalised.

    def __init__(self, layer: keras.layers.Layer, **kwargs):
        linear = ("Dense", "Conv1D", "Conv2D", "Conv3D")
        if not isinstance(layer, tuple(getattr(keras.layers, name) for name in linear)):
            raise ValueError(
                f"`layer` must be one of {', '.join(linear)}. Received: layer={layer}"
            )
        # The wrapped layer keeps its name and its dtype policy.
        defaults = {"name": layer.name, "dtype": layer.dtype_policy}
        super().__init__(layer, **{**defaults, **kwargs})

    def build(self, input_shape):
        super().build(input_shape)
        self.u = self.add_weight(
            name="u",
            shape=(self.layer.kernel.shape[-1],),
            initializer="random_normal",
            trainable=False,
            dtype="float32",
            autocast=False,
            aggregation="mean",
        )
        self.built = True

    def call(self, x, training=False):
        kernel = ops.cast(self.layer.kernel, "float32")
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
        constant = ops.stop_gradient(matrix)
        u = _unit(ops.convert_to_tensor(self.u))
        v = _unit(ops.matmul(constant, u))
        if training:
            u = _unit(ops.matmul(v, constant))
            self.u.assign(u)
        # u and v are constants, so that the gradient of σ is v uᵀ.
        sigma = ops.sum(ops.matmul(v, matrix) * u)
        # The layer is linear up to its bias: (W x) / σ = W (x / σ).
        return self.layer(x / ops.cast(sigma, x.dtype))

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def _unit(vector):
    return vector / ops.maximum(ops.norm(vector), 1e-12)
