"""Probability distributions over codes: posteriors and priors.

Each has `log_prob(z)` and `sample(shape, seed)`. Everything is computed in float32,
whatever the dtype policy. Log-probabilities are in nats, summed over latent dimensions.

`seed` is an integer or a `keras.random.SeedGenerator` everywhere. `None` draws from
Keras' global generator and works outside compiled functions only.
"""

from keras_ae.probability.distributions.mixtures import (
    GaussianMixture,
    NormalMixture,
    draw_mixture,
    mixture_log_prob,
)
from keras_ae.probability.distributions.normal import (
    LOG_2_PI,
    MultivariateNormal,
    Normal,
    Seed,
    float32,
)
from keras_ae.probability.distributions.priors import (
    LearnedPrior,
    Prior,
    get_prior,
    scale,
)
from keras_ae.probability.distributions.registered import Registered
from keras_ae.probability.distributions.tensorflow_probability import (
    TensorFlowProbability,
)

__all__ = [
    "GaussianMixture",
    "LOG_2_PI",
    "LearnedPrior",
    "MultivariateNormal",
    "Normal",
    "NormalMixture",
    "Prior",
    "Registered",
    "Seed",
    "TensorFlowProbability",
    "draw_mixture",
    "float32",
    "get_prior",
    "mixture_log_prob",
    "scale",
]
