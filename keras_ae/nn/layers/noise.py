"""Layers that draw random numbers."""

from typing import Any

import keras
from keras import ops


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
