"""What a model takes for a prior."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.probability.distributions.mixtures import GaussianMixture, NormalMixture
from keras_ae.probability.distributions.normal import Normal, Seed
from keras_ae.probability.distributions.registered import Registered
from keras_ae.probability.distributions.tensorflow_probability import (
    TensorFlowProbability,
    _is_tfp,
)


class LearnedPrior(Registered, keras.layers.Layer):
    """Base of priors that are learned together with a model: see `keras_ae.priors`.

    A subclass implements `build`, `log_prob(z)` and `sample(shape, seed)`, as the other
    distributions have them.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    @property
    def latent_dim(self) -> int | None:
        """Number of latent dimensions, or `None` before a model has built the prior."""
        return getattr(self, "_latent_dim", None)

    def get_build_config(self):
        # It is built by its model, loaded or new, and by nobody before.
        return None

    def connect(self, model: keras.Model) -> None:
        """Makes the weights; `model` calls it once it has its networks."""
        self._latent_dim = model.prior_dim
        self.build((None, model.prior_dim))

    def log_prob(self, z):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        raise NotImplementedError

    def sample(self, shape: Sequence[int], seed: Seed = None):
        """Draws codes of shape `shape`, `(..., latent_dim)`."""
        raise NotImplementedError


Prior = Normal | NormalMixture | GaussianMixture | TensorFlowProbability | LearnedPrior


def get_prior(
    identifier: Any = None, latent_dim: int | None = None, learned: bool = False
) -> Prior:
    """Makes a prior over codes from what a user may pass for it.

    Args:
        identifier: `None` for the standard normal distribution, one of this module's
            distributions over codes or its serialized configuration, or, on the
            TensorFlow backend, a TensorFlow Probability distribution.
        latent_dim: Numbers in a code, where they are known.
        learned: Whether a `LearnedPrior` may be passed.

    Raises:
        ValueError: If `identifier` is something else, or a prior of another dimension.
    """
    if identifier is None:
        return Normal()
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if _is_tfp(identifier):
        identifier = TensorFlowProbability(identifier)
    if isinstance(identifier, LearnedPrior) and not learned:
        raise ValueError(
            "`prior` must be one that stays as it is: nothing would learn it here. "
            f"Received: a {type(identifier).__name__}; a `VAE` learns its prior."
        )
    if isinstance(identifier, Prior):
        if None not in (latent_dim, identifier.latent_dim) and (
            identifier.latent_dim != latent_dim
        ):
            raise ValueError(
                f"`prior` must have latent_dim={latent_dim} dimensions, as the model. "
                f"Received: a prior of {identifier.latent_dim} dimensions"
            )
        return identifier
    raise ValueError(
        "`prior` must be None (standard normal), a `Normal`, `NormalMixture` or "
        "`GaussianMixture` of `keras_ae.distributions`, one of `keras_ae.priors` or, "
        "on the TensorFlow backend, a TensorFlow Probability distribution. Received: "
        f"{identifier!r}"
    )


def scale(prior: Prior, latent_dim: int) -> float:
    """Returns the root of a prior's mean variance.

    Args:
        prior: One of this module's distributions over codes.
        latent_dim: Numbers in a code.

    Returns:
        A number > 0; from 4096 draws where there is no formula.
    """
    if isinstance(prior, Normal):
        variances = np.square(ops.convert_to_numpy(prior.stddev))
    else:
        draws = ops.convert_to_numpy(prior.sample((4096, latent_dim), seed=0))
        variances = np.var(draws, axis=0)
    return float(np.sqrt(np.mean(variances)))
