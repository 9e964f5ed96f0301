"""Likelihoods of values in [0, 1]: chances, and grey values taken for them."""

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.probability.distributions import Seed, float32
from keras_ae.probability.likelihoods.base import LOG_2, Likelihood, logit, open_uniform

# The largest logit that a decoder starts at, and how often its range is halved.
_LARGEST, _HALVINGS = 50.0, 20


class Bernoulli(Likelihood):
    """Bernoulli distribution of black and white pixels; the parameters are logits.

    On grey pixels the log-probability is the negative cross-entropy, a common loss but
    not that of a normalised density; `ContinuousBernoulli` is.
    """

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        return x * parameters - backend.softplus(parameters)

    def mean(self, parameters):
        return ops.sigmoid(float32(parameters))

    def parameters_at(self, mean):
        return logit(mean)

    def sample(self, parameters, seed: Seed = None):
        mean = self.mean(parameters)
        uniform = keras.random.uniform(ops.shape(mean), dtype="float32", seed=seed)
        return ops.cast(uniform < mean, "float32")


class ContinuousBernoulli(Likelihood):
    """Continuous Bernoulli distribution of pixels in [0, 1]; the parameters are logits.

    The density is C(l) exp(l x) / (1 + exp(l)) with C(l) = l / tanh(l / 2).

    Reference:
        Loaiza-Ganem and Cunningham, The continuous Bernoulli: fixing a pervasive error
        in variational autoencoders, 2019 (https://arxiv.org/abs/1907.06845).
    """

    # Below this logit the closed forms cancel and the series are exact in float32.
    SERIES_LIMIT = 0.5

    def _split(self, parameters):
        """Where the series holds, and logits for the closed form that are safe there.

        The unused branch of a `where` must be finite too, or its gradient is NaN.
        """
        near_zero = ops.abs(parameters) < self.SERIES_LIMIT
        return near_zero, ops.where(near_zero, 1.0, parameters)

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        near_zero, logits = self._split(parameters)
        closed = ops.log(ops.abs(logits)) - ops.log(ops.tanh(0.5 * ops.abs(logits)))
        square = ops.square(ops.where(near_zero, parameters, 0.0))
        series = LOG_2 + square * (1 / 12 - square * (7 / 1440 - square * (31 / 90720)))
        log_normalizer = ops.where(near_zero, series, closed)
        return x * parameters - backend.softplus(parameters) + log_normalizer

    def mean(self, parameters):
        parameters = float32(parameters)
        near_zero, logits = self._split(parameters)
        closed = 0.5 + 0.5 / ops.tanh(0.5 * logits) - 1.0 / logits
        small = ops.where(near_zero, parameters, 0.0)
        square = ops.square(small)
        series = 0.5 + small * (1 / 12 - square * (1 / 720 - square / 30240))
        return ops.where(near_zero, series, closed)

    def parameters_at(self, mean):
        # Where black is certain the logits have no end.
        low, high = np.full(mean.shape, -_LARGEST), np.full(mean.shape, _LARGEST)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            below = ops.convert_to_numpy(self.mean(middle)) < mean
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)

    def sample(self, parameters, seed: Seed = None):
        parameters = float32(parameters)
        # Inverse of the distribution function at logit -|l|, which cannot overflow,
        # mirrored where l > 0. A logit of 1e-6 stands for 0, which would divide by 0.
        size = ops.maximum(ops.abs(parameters), 1e-6)
        uniform = open_uniform(ops.shape(parameters), seed)
        sample = -ops.log1p(uniform * ops.expm1(-size)) / size
        sample = ops.clip(sample, 0.0, 1.0)
        return ops.where(parameters > 0, 1.0 - sample, sample)
