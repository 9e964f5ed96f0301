"""Likelihoods p(x | z): distributions of the data, given a decoder's output.

A likelihood is a layer that turns a decoder's output into `log_prob`, `mean` and
`sample`, and owns the variables (a learned scale, say) that these need.

Everything is computed in float32, whatever the dtype policy. Log-probabilities are in
nats, summed over pixels and channels. `seed` is an integer or a
`keras.random.SeedGenerator`; `None` draws from Keras' global generator and works
outside compiled functions only.
"""

import contextlib
import math
import numbers
from typing import Any

import keras
from keras import ops

from keras_ae import backend
from keras_ae.probability.distributions import Seed, float32

LOG_2 = math.log(2.0)
LOG_2_PI = math.log(2.0 * math.pi)


class Likelihood(keras.layers.Layer):
    """Distribution p(x | z) of the data, given the decoder's output.

    The decoder's output `parameters` has the shape of x: one number per value of x.
    A subclass implements `elementwise_log_prob`, `mean` and `sample`, each elementwise
    for arrays of any shape; the former gets them as `(batch, values)`.

    Attributes:
        low: Smallest value of x that the likelihood describes.
        high: Largest value of x that the likelihood describes.
    """

    low = 0.0
    high = 1.0

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self._weight = None
        # Nothing is left to build once the constructor has made the variables.
        self.built = True

    @contextlib.contextmanager
    def weighing(self, weight):
        """Weighs the log-probability of each value, as long as the block lasts.

        Args:
            weight: None, or weights of the shape of x. Where x is repeated, as often
                along its first axis, they are too.
        """
        self._weight = None if weight is None else _flat(float32(weight))
        try:
            yield
        finally:
            self._weight = None

    def _weighed(self, values):
        """Returns values `(n, values)`, weighed; `(n, values)`."""
        if self._weight is None:
            return values
        repeated = ops.reshape(values, (-1, *ops.shape(self._weight)))
        return ops.reshape(repeated * self._weight, ops.shape(values))

    def log_prob(self, x, parameters, training: bool = False, observed=None):
        """Returns log p(x | z) in nats, summed over pixels and channels: `(batch,)`.

        Args:
            x: Data `(batch, ...)`.
            parameters: The decoder's output, of the same shape.
            training: Whether a scale may be fitted to this batch.
            observed: None, or booleans of the shape of x: where it is false, x must be
                any finite number and counts for nothing, in the sum or for the scale.
        """
        x, parameters = float32(x), float32(parameters)
        if len(x.shape) != len(parameters.shape) or any(
            None not in pair and pair[0] != pair[1]
            for pair in zip(x.shape, parameters.shape, strict=True)
        ):
            raise ValueError(
                "`x` and `parameters` must have the same shape. Received: shapes "
                f"{tuple(x.shape)} and {tuple(parameters.shape)}"
            )
        x, parameters, observed = map(_flat, (x, parameters, observed))
        log_prob = self.elementwise_log_prob(x, parameters, training, observed)
        if observed is not None:
            log_prob = ops.where(observed, log_prob, 0.0)
        return ops.sum(self._weighed(log_prob), axis=1)

    def mean_squared_error(self, x, parameters, observed=None):
        """Returns that of the mean, over each example's (observed) values: `(batch,)`.

        Args:
            x, parameters, observed: As in `log_prob`.
        """
        x, parameters, observed = map(_flat, (float32(x), parameters, observed))
        error = ops.square(self.mean(parameters) - x)
        if observed is None:
            return ops.mean(error, axis=1)
        observed = ops.cast(observed, "float32")
        count = ops.maximum(ops.sum(observed, axis=1), 1.0)
        return ops.sum(observed * error, axis=1) / count

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        raise NotImplementedError

    def mean(self, parameters):
        """Returns the mean of x, of the shape of `parameters`."""
        raise NotImplementedError

    def sample(self, parameters, seed: Seed = None):
        """Draws x, of the shape of `parameters`."""
        raise NotImplementedError

    def check_range(self, low: float, high: float) -> None:
        """Refuses data that the likelihood cannot describe.

        Args:
            low: Smallest value in the data.
            high: Largest value in the data.

        Raises:
            ValueError: If they are not finite or out of range, with the remedy.
        """
        low, high = float(low), float(high)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                "The data must be finite. Received: values that are NaN or infinite; "
                "remove or replace them."
            )
        # Resizing and conversion leave rounding errors at the ends of the range.
        tolerance = 1e-4
        if self.low - tolerance <= low and high <= self.high + tolerance:
            return
        if low >= 0 and 2 < high <= 255:
            remedy = "These look like pixels from 0 to 255: divide them by 255."
        elif self.low == 0:
            remedy = "Rescale them, or choose likelihood='gaussian'."
        else:
            remedy = "Rescale them to about unit scale."
        raise ValueError(
            f"Data of the {type(self).__name__} likelihood must lie in "
            f"[{self.low:g}, {self.high:g}]. Received: values from {low:g} to "
            f"{high:g}. {remedy}"
        )


@keras.saving.register_keras_serializable(package="keras_ae")
class Bernoulli(Likelihood):
    """Bernoulli distribution of black and white pixels; the parameters are logits.

    On grey pixels the log-probability is the negative cross-entropy, a common loss but
    not that of a normalised density; `ContinuousBernoulli` is.
    """

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        return x * parameters - backend.softplus(parameters)

    def mean(self, parameters):
        return ops.sigmoid(float32(parameters))

    def sample(self, parameters, seed: Seed = None):
        mean = self.mean(parameters)
        uniform = keras.random.uniform(ops.shape(mean), dtype="float32", seed=seed)
        return ops.cast(uniform < mean, "float32")


@keras.saving.register_keras_serializable(package="keras_ae")
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

    def sample(self, parameters, seed: Seed = None):
        parameters = float32(parameters)
        # Inverse of the distribution function at logit -|l|, which cannot overflow,
        # mirrored where l > 0. A logit of 1e-6 stands for 0, which would divide by 0.
        size = ops.maximum(ops.abs(parameters), 1e-6)
        uniform = _open_uniform(ops.shape(parameters), seed)
        sample = -ops.log1p(uniform * ops.expm1(-size)) / size
        sample = ops.clip(sample, 0.0, 1.0)
        return ops.where(parameters > 0, 1.0 - sample, sample)


class LocationScale(Likelihood):
    """Likelihood with a location per value of x and one scale for all of them.

    Args:
        scale: Number > 0: fixed. `"learned"`: one trainable scalar. `"optimal"`: the
            scale that maximises the likelihood of each training batch, in closed form;
            evaluation uses its running average.
        activation: Activation that turns the decoder's output into the location.
            `"sigmoid"` keeps it in [0, 1].
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
        self.activation = keras.activations.get(activation)
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
        elif not isinstance(scale, numbers.Real) or not 0 < scale < math.inf:
            raise ValueError(
                "`scale` must be a number > 0, 'learned' or 'optimal'. "
                f"Received: scale={scale!r}"
            )
        else:
            self.scale = float(scale)

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
        return self.activation(float32(parameters))

    def mean(self, parameters):
        return self.location(parameters)

    def current_scale(self):
        """Returns the scale that evaluation and sampling use, a scalar tensor."""
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
        if training and self.scale == "optimal":
            scale = self.batch_scale(residual, observed)
        else:
            scale = self.current_scale()
        return residual / scale, scale

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "scale": self.scale,
            "activation": keras.activations.serialize(self.activation),
        }


@keras.saving.register_keras_serializable(package="keras_ae")
class Gaussian(LocationScale):
    """Normal distribution of every value of x around the decoder's output.

    With scale 1 the negative log-probability is half the squared error, plus a
    constant. The optimal scale is the root of the mean squared error.

    Args:
        scale: Standard deviation. Number > 0: fixed. `"learned"`: one trainable scalar.
            `"optimal"`: the best one for each training batch, in closed form;
            evaluation uses its running average.
        activation: Activation that turns the decoder's output into the mean.
            `"sigmoid"` keeps it in [0, 1].

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
        return mean + self.current_scale() * noise

    def deviations(self, residual):
        return ops.square(residual)

    def scale_from_moment(self, moment):
        return super().scale_from_moment(ops.sqrt(moment))


@keras.saving.register_keras_serializable(package="keras_ae")
class Laplace(LocationScale):
    """Laplace distribution of every value of x around the decoder's output.

    With scale 1 the negative log-probability is the absolute error, plus a constant.
    The optimal scale is the mean absolute error.

    Args:
        scale: Scale b, the mean absolute deviation. Number > 0: fixed. `"learned"`: one
            trainable scalar. `"optimal"`: the best one for each training batch, in
            closed form; evaluation uses its running average.
        activation: Activation that turns the decoder's output into the mean.
            `"sigmoid"` keeps it in [0, 1].
    """

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        standardized, scale = self.standardize(x, parameters, training, observed)
        return -ops.abs(standardized) - LOG_2 - ops.log(scale)

    def sample(self, parameters, seed: Seed = None):
        mean = self.mean(parameters)
        centered = _open_uniform(ops.shape(mean), seed) - 0.5
        noise = -ops.sign(centered) * ops.log1p(-2.0 * ops.abs(centered))
        return mean + self.current_scale() * noise

    def deviations(self, residual):
        return ops.abs(residual)


@keras.saving.register_keras_serializable(package="keras_ae")
class DiscretizedLogistic(LocationScale):
    """Logistic distribution rounded to equally spaced levels from 0 to 1.

    A level's probability is the logistic's on the bin around it; the bins of 0 and 1
    are open to the outside. Its log-probabilities are those of the discrete pixels, so
    that they give bits per pixel. The scale is one trainable scalar.

    Args:
        levels: Number of levels, 256 for 8-bit pixels divided by 255.
        activation: Activation that turns the decoder's output into the location.

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
        uniform = _open_uniform(ops.shape(location), seed)
        noise = ops.log(uniform) - ops.log1p(-uniform)
        return self._round(location + self.current_scale() * noise)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["scale"]
        return {**config, "levels": self.levels}


def _flat(x):
    """Returns x `(batch, ...)` as `(batch, values)`, and None as it is.

    Elementwise functions of arrays whose last axis is short, such as grey pictures, are
    several times slower on JAX.
    """
    return None if x is None else ops.reshape(x, (ops.shape(x)[0], -1))


def _open_uniform(shape, seed):
    """Uniform numbers that stay clear of 0 and 1, where inverse CDFs are infinite."""
    return keras.random.uniform(shape, 1e-7, 1.0 - 1e-7, dtype="float32", seed=seed)


_LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "discretized_logistic": DiscretizedLogistic,
}


def get_likelihood(identifier: Any) -> Likelihood:
    """Makes a likelihood from what a user may pass for it.

    Args:
        identifier: Name (`"bernoulli"`, `"continuous_bernoulli"`, `"gaussian"`,
            `"laplace"`, `"discretized_logistic"`), `Likelihood` instance, or its
            serialized configuration.

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
