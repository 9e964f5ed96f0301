"""Likelihoods p(x | z): distributions of the data, given a decoder's output.

A likelihood is a layer that turns a decoder's output into `log_prob`, `mean` and
`sample`, and owns the variables (a learned scale, say) that these need.

Everything is computed in float32, whatever the dtype policy. Log-probabilities are in
nats, summed over pixels and channels. `seed` is an integer or a
`keras.random.SeedGenerator`; `None` draws from Keras' global generator and works
outside compiled functions only.
"""

from typing import Any

import keras

from keras_ae.probability.likelihoods.base import Likelihood
from keras_ae.probability.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from keras_ae.probability.likelihoods.columns import Columns
from keras_ae.probability.likelihoods.location_scale import (
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    LocationScale,
    StudentT,
)

__all__ = [
    "Bernoulli",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "LocationScale",
    "StudentT",
    "get_likelihood",
]

_LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "discretized_logistic": DiscretizedLogistic,
    "student_t": StudentT,
}


def get_likelihood(identifier: Any) -> Likelihood:
    """Makes a likelihood from what a user may pass for it.

    Args:
        identifier: Name (`"bernoulli"`, `"continuous_bernoulli"`, `"gaussian"`,
            `"laplace"`, `"discretized_logistic"`, `"student_t"`), `Likelihood`
            instance, or its serialized configuration.

    Raises:
        ValueError: If `identifier` is something else.

    Example:

    >>> likelihood = keras_ae.likelihoods.get_likelihood("gaussian")
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, Likelihood):
        return identifier
    if isinstance(identifier, str):
        name = identifier.lower().replace("-", "").replace("_", "")
        for known, likelihood in _LIKELIHOODS.items():
            if known.replace("_", "") == name:
                return likelihood()
    raise ValueError(
        f"`likelihood` must be one of {', '.join(map(repr, _LIKELIHOODS))} or a "
        f"`keras_ae.likelihoods.Likelihood`. Received: {identifier!r}"
    )
