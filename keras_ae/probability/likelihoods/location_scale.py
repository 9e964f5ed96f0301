"""Likelihoods with a location for each value, and one scale or one for each value."""

import math
import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.checks import check_activation
from keras_ae.probability.distributions import LOG_2_PI, Seed, float32
from keras_ae.probability.likelihoods.base import LOG_2, Likelihood, logit, open_uniform


class LocationScale(Likelihood):
    """Likelihood with a location per value of x and a scale.

    Args:
        scale: Number > 0: fixed. `"learned"`: one trainable scalar. `"optimal"`: the
            scale that maximises the likelihood of each training batch, in closed form;
            evaluation uses its running average. `"predicted"`: one for each value of x,
            `smallest_scale` + softplus of a second number that the decoder gives, so
            that `parameters` are `(batch, ..., 2)`.
        activation: Activation that turns the decoder's output into the location.
            `"sigmoid"` keeps it in [0, 1].

    Raises:
        ValueError: If `scale` is none of these, or `activation` none of Keras'.
    """

    low = -100.0
    high = 100.0
    initial_scale = 1.0
    # About the rounding error of 8-bit pixels at unit range; a perfect fit has none.
    smallest_scale = 1e-3
    momentum = 0.95

    def __init__(
        self,
        scale: float | str = "optimal",
        activation: Any = "linear",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.activation = check_activation("activation", activation)
        if self.activation is keras.activations.sigmoid:
            self.low, self.high = 0.0, 1.0
        if scale == "learned":
            self.log_scale = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(math.log(self.initial_scale)),
                autocast=False,
                name="log_scale",
            )
        elif scale == "optimal":
            self.running_moment = self._add_running("running_moment")
            self.running_weight = self._add_running("running_weight")
        elif scale == "predicted":
            self.numbers_per_value = 2
        elif not isinstance(scale, numbers.Real) or not 0 < scale < math.inf:
            raise ValueError(
                "`scale` must be a number > 0, 'learned', 'optimal' or 'predicted'. "
                f"Received: scale={scale!r}"
            )
        else:
            self.scale = float(scale)

    @property
    def unbounded(self) -> str:
        if type(self).low == 0.0:
            return super().unbounded
        # It is its activation alone that keeps to [0, 1].
        return f"keras_ae.likelihoods.{type(self).__name__}({self.scale!r})"

    def _add_running(self, name):
        return self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="mean",
            name=name,
        )

    def location(self, parameters):
        parameters = float32(parameters)
        if self.scale == "predicted":
            parameters = parameters[..., 0]
        return self.activation(parameters)

    def scale_of(self, parameters):
        """Returns the scale that evaluation and sampling use, of the shape of x.

        It is a scalar where all values have the same.
        """
        if self.scale == "predicted":
            raw = float32(parameters)[..., 1]
            return self.smallest_scale + backend.softplus(raw)
        return self.current_scale()

    def mean(self, parameters):
        return self.location(parameters)

    def parameters_at(self, mean):
        if self.activation is keras.activations.sigmoid:
            mean = logit(mean)
        elif self.activation is not keras.activations.linear:
            return None
        if self.scale == "predicted":
            return np.stack([mean, np.zeros_like(mean)], axis=-1)
        return mean

    def current_scale(self):
        """Returns the scale that all values have in evaluation, a scalar tensor."""
        if self.scale == "learned":
            # The sum, unlike a maximum, has a gradient that leads back up.
            return self.smallest_scale + ops.exp(float32(self.log_scale))
        if self.scale == "optimal":
            weight = float32(self.running_weight)
            trained = weight > 0
            moment = float32(self.running_moment) / ops.where(trained, weight, 1.0)
            scale = self.scale_from_moment(moment)
            return ops.where(trained, scale, self.initial_scale)
        return float32(self.scale)

    def batch_scale(self, residual, observed=None):
        """Returns the optimal scale of a training batch and updates the average.

        The gradient of the likelihood with respect to the scale is zero at the optimum,
        so none needs to pass through it.
        """
        deviations = self.deviations(ops.stop_gradient(residual))
        if observed is None and self._weight is None:
            moment = ops.mean(deviations)
        else:
            counts = ops.ones_like(deviations)
            if observed is not None:
                counts = ops.cast(observed, "float32")
                deviations = ops.where(observed, deviations, 0.0)
            counts = self._weighed(counts)
            total = ops.sum(counts * deviations)
            moment = ops.divide_no_nan(total, ops.sum(counts))
        # The average of the weights removes the bias towards the start at zero.
        for average, value in (
            (self.running_moment, moment),
            (self.running_weight, 1.0),
        ):
            average.assign(
                self.momentum * float32(average) + (1.0 - self.momentum) * value
            )
        return self.scale_from_moment(moment)

    def scale_from_moment(self, moment):
        return ops.maximum(moment, self.smallest_scale)

    def deviations(self, residual):
        """Returns what the optimal scale comes from the mean of."""
        raise NotImplementedError

    def standardize(self, x, parameters, training, observed=None):
        """Returns the residual in units of the scale, and the scale."""
        residual = x - self.location(parameters)
        if training and self.trainable and self.scale == "optimal":
            scale = self.batch_scale(residual, observed)
        else:
            scale = self.scale_of(parameters)
        return residual / scale, scale

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "scale": self.scale,
            "activation": keras.activations.serialize(self.activation),
        }


class Gaussian(LocationScale):
    """Normal distribution of every value of x around the decoder's output.

    With scale 1 the negative log-probability is half the squared error, plus a
    constant. The optimal scale is the root of the mean squared error.

    Args:
        scale: Standard deviation. Number > 0: fixed. `"learned"`: one trainable scalar.
            `"optimal"`: the best one for each training batch, in closed form;
            evaluation uses its running average. `"predicted"`: the decoder's second
            number for each value of x, σ = 1e-3 + softplus(·).
        activation: Activation that turns the decoder's output into the mean.
            `"sigmoid"` keeps it in [0, 1].

    Raises:
        ValueError: If `scale` is none of these, or `activation` none of Keras'.

    Reference:
        Rybkin, Daniilidis and Levine, Simple and Effective VAE Training with Calibrated
        Decoders, 2021 (https://arxiv.org/abs/2006.13202).
    """

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        standardized, scale = self.standardize(x, parameters, training, observed)
        return -0.5 * (ops.square(standardized) + LOG_2_PI) - ops.log(scale)

    def sample(self, parameters, seed: Seed = None):
        mean = self.mean(parameters)
        noise = keras.random.normal(ops.shape(mean), dtype="float32", seed=seed)
        return mean + self.scale_of(parameters) * noise

    def deviations(self, residual):
        return ops.square(residual)

    def scale_from_moment(self, moment):
        return super().scale_from_moment(ops.sqrt(moment))


class Laplace(LocationScale):
    """Laplace distribution of every value of x around the decoder's output.

    With scale 1 the negative log-probability is the absolute error, plus a constant.
    The optimal scale is the mean absolute error.

    Args:
        scale: Scale b, the mean absolute deviation. Number > 0: fixed. `"learned"`: one
            trainable scalar. `"optimal"`: the best one for each training batch, in
            closed form; evaluation uses its running average. `"predicted"`: the
            decoder's second number for each value of x, b = 1e-3 + softplus(·).
        activation: Activation that turns the decoder's output into the mean.
            `"sigmoid"` keeps it in [0, 1].

    Raises:
        ValueError: If `scale` is none of these, or `activation` none of Keras'.
    """

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        standardized, scale = self.standardize(x, parameters, training, observed)
        return -ops.abs(standardized) - LOG_2 - ops.log(scale)

    def sample(self, parameters, seed: Seed = None):
        mean = self.mean(parameters)
        centered = open_uniform(ops.shape(mean), seed) - 0.5
        noise = -ops.sign(centered) * ops.log1p(-2.0 * ops.abs(centered))
        return mean + self.scale_of(parameters) * noise

    def deviations(self, residual):
        return ops.abs(residual)


class StudentT(LocationScale):
    """Student's t-distribution of every value of x around the decoder's output.

        log p(x) = log Γ((ν + 1) / 2) - log Γ(ν / 2) - log(ν π) / 2 - log s
                   - (ν + 1) / 2 log(1 + ((x - μ) / s)² / ν)

    Its tails are heavy: a value far from what was expected costs the logarithm of the
    distance only, where a Gaussian's cost grows with its square.

    Args:
        degrees: Degrees of freedom ν > 1: the fewer, the heavier the tails.
        scale: Scale s; the standard deviation is s √(ν / (ν - 2)) for ν > 2. Number
            > 0: fixed. `"learned"`: one trainable scalar. `"predicted"`: the decoder's
            second number for each value of x, s = 1e-3 + softplus(·).
        activation: Activation that turns the decoder's output into the mean.
            `"sigmoid"` keeps it in [0, 1].

    Raises:
        ValueError: If `degrees` is not > 1, `activation` none of Keras', or `scale`
            none of these: for `"optimal"` there is no closed form.

    Reference:
        Takahashi et al., Student-t Variational Autoencoder for Robust Density
        Estimation, 2018 (https://doi.org/10.24963/ijcai.2018/374).
    """

    def __init__(
        self,
        degrees: float = 4.0,
        scale: float | str = "learned",
        activation: Any = "linear",
        **kwargs,
    ):
        if scale == "optimal":
            raise ValueError(
                "`scale` of `StudentT` must be a number > 0, 'learned' or 'predicted': "
                "the optimal one has no closed form. Received: scale='optimal'"
            )
        plain = isinstance(degrees, numbers.Real) and not isinstance(degrees, bool)
        if not plain or not 1 < degrees < math.inf:
            raise ValueError(
                "`degrees` must be > 1, or there is no mean. "
                f"Received: degrees={degrees!r}"
            )
        super().__init__(scale, activation, **kwargs)
        self.degrees = float(degrees)
        half = 0.5 * (self.degrees + 1.0)
        self._log_normalizer = (
            math.lgamma(half)
            - math.lgamma(0.5 * self.degrees)
            - 0.5 * math.log(self.degrees * math.pi)
        )

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        standardized, scale = self.standardize(x, parameters, training, observed)
        tails = ops.log1p(ops.square(standardized) / self.degrees)
        tails = 0.5 * (self.degrees + 1.0) * tails
        return self._log_normalizer - tails - ops.log(scale)

    def sample(self, parameters, seed: Seed = None):
        mean = self.mean(parameters)
        shape, half = ops.shape(mean), 0.5 * self.degrees
        normal = keras.random.normal(shape, dtype="float32", seed=seed)
        # A chi-square variable over its degrees of freedom.
        gamma = keras.random.gamma(shape, half, dtype="float32", seed=seed) / half
        return mean + self.scale_of(parameters) * normal / ops.sqrt(gamma)

    def get_config(self) -> dict:
        return {**super().get_config(), "degrees": self.degrees}


class DiscretizedLogistic(LocationScale):
    """Logistic distribution rounded to equally spaced levels from 0 to 1.

    A level's probability is the logistic's on the bin around it; the bins of 0 and 1
    are open to the outside. Its log-probabilities are those of the discrete pixels, so
    that they give bits per pixel. The scale is one trainable scalar.

    Args:
        levels: Number of levels, 256 for 8-bit pixels divided by 255.
        activation: Activation that turns the decoder's output into the location.

    Raises:
        ValueError: If `levels` is not an integer >= 2, or `activation` none of Keras'.

    Reference:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow,
        2016 (https://arxiv.org/abs/1606.04934); Salimans et al., PixelCNN++, 2017
        (https://arxiv.org/abs/1701.05517).
    """

    low = 0.0
    high = 1.0
    initial_scale = 0.1

    def __init__(self, levels: int = 256, activation: Any = "linear", **kwargs):
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
            raise ValueError(
                f"`levels` must be an integer >= 2. Received: levels={levels!r}"
            )
        super().__init__("learned", activation, **kwargs)
        self.levels = levels
        self.bin_width = 1.0 / (levels - 1)
        # A tenth of a bin puts all but 1 % of the probability on one level.
        self.smallest_scale = 0.1 * self.bin_width

    def _round(self, x):
        return ops.round(ops.clip(x, 0.0, 1.0) * (self.levels - 1)) / (self.levels - 1)

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        x = self._round(x)
        location, scale = self.location(parameters), self.current_scale()
        half = 0.5 * self.bin_width
        # With a and b the standardized edges of the bin, sigmoid(b) - sigmoid(a) =
        # sigmoid(b) sigmoid(-a) (1 - exp(a - b)): a product, so nothing cancels.
        below_upper = ops.log_sigmoid((x + half - location) / scale)
        above_lower = ops.log_sigmoid((location - x + half) / scale)
        inside = ops.log(-ops.expm1(-self.bin_width / scale))
        return ops.where(
            x < half,
            below_upper,
            ops.where(x > 1.0 - half, above_lower, below_upper + above_lower + inside),
        )

    def mean(self, parameters):
        # That of the logistic clipped to [0, 1]. Rounding moves it by less than 2 % of
        # a bin while the scale is wider than a bin, by half a bin at the very most.
        location, scale = self.location(parameters), self.current_scale()
        return scale * (
            backend.softplus(location / scale)
            - backend.softplus((location - 1.0) / scale)
        )

    def sample(self, parameters, seed: Seed = None):
        location = self.location(parameters)
        uniform = open_uniform(ops.shape(location), seed)
        noise = ops.log(uniform) - ops.log1p(-uniform)
        return self._round(location + self.current_scale() * noise)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["scale"]
        return {**config, "levels": self.levels}
