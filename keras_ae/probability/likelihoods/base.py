"""What all likelihoods have in common."""

import contextlib
import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_ae.probability.distributions import Registered, Seed, float32

LOG_2 = math.log(2.0)
# The least mean, and the least distance from 1, that a decoder starts at.
SMALLEST = 1e-3


class Likelihood(Registered, keras.layers.Layer):
    """Distribution p(x | z) of the data, given the decoder's output.

    The decoder's output `parameters` has the shape of x, one number per value of x, or,
    where `numbers_per_value` is more than 1, `(batch, ..., numbers_per_value)`. A
    subclass implements `elementwise_log_prob`, `mean` and `sample`, each elementwise
    for arrays of any shape; the former gets x as `(batch, values)`.

    Attributes:
        numbers_per_value: How many numbers a decoder gives for each value of x.
        low: Smallest value of x that the likelihood describes.
        high: Largest value of x that the likelihood describes.
    """

    low = 0.0
    high = 1.0
    numbers_per_value = 1

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self._weight = None
        self._is_owned = False
        # Nothing is left to build once the constructor has made the variables.
        self.built = True

    def of_one_model(self) -> "Likelihood":
        """Returns the likelihood, or a new one where a model has this already.

        A learned scale belongs to one model.
        """
        if self._is_owned:
            return type(self).from_config(self.get_config()).of_one_model()
        self._is_owned = True
        return self

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

    def parameters_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape of the decoder's output for data of a shape."""
        count = self.numbers_per_value
        return tuple(shape) if count == 1 else (*shape, count)

    def _flat_parameters(self, parameters):
        """Returns parameters `(batch, ...)` as those of x `(batch, values)`."""
        shape = (ops.shape(parameters)[0], *self.parameters_shape((-1,)))
        return ops.reshape(parameters, shape)

    def log_prob(self, x, parameters, training: bool = False, observed=None):
        """Returns log p(x | z) in nats, summed over pixels and channels: `(batch,)`.

        Args:
            x: Data `(batch, ...)`.
            parameters: The decoder's output, of the shape `parameters_shape(x.shape)`.
            training: Whether a scale may be fitted to this batch.
            observed: None, or booleans of the shape of x: where it is false, x must be
                any finite number and counts for nothing, in the sum or for the scale.
        """
        x, parameters = float32(x), float32(parameters)
        expected = self.parameters_shape(x.shape)
        if len(expected) != len(parameters.shape) or any(
            None not in pair and pair[0] != pair[1]
            for pair in zip(expected, parameters.shape, strict=True)
        ):
            count = self.numbers_per_value
            raise ValueError(
                "`x` and `parameters` must have the same shape"
                + (f", and {count} numbers per value of x" if count > 1 else "")
                + f". Received: shapes {tuple(x.shape)} and {tuple(parameters.shape)}"
            )
        x, observed = map(_flat, (x, observed))
        parameters = self._flat_parameters(parameters)
        log_prob = self.elementwise_log_prob(x, parameters, training, observed)
        if observed is not None:
            log_prob = ops.where(observed, log_prob, 0.0)
        return ops.sum(self._weighed(log_prob), axis=1)

    def mean_squared_error(self, x, parameters, observed=None):
        """Returns that of the mean, over each example's (observed) values: `(batch,)`.

        Args:
            x, parameters, observed: As in `log_prob`.
        """
        x, observed = map(_flat, (float32(x), observed))
        error = ops.square(self.mean(self._flat_parameters(parameters)) - x)
        if observed is None:
            return ops.mean(error, axis=1)
        observed = ops.cast(observed, "float32")
        count = ops.maximum(ops.sum(observed, axis=1), 1.0)
        return ops.sum(observed * error, axis=1) / count

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        raise NotImplementedError

    def mean(self, parameters):
        """Returns the mean of x, of its shape."""
        raise NotImplementedError

    def sample(self, parameters, seed: Seed = None):
        """Draws x, given the decoder's output for it."""
        raise NotImplementedError

    def parameters_at(self, mean: np.ndarray) -> np.ndarray | None:
        """Returns the parameters of a mean, which a decoder's biases start at.

        Args:
            mean: The mean of the data, of the shape of one example.

        Returns:
            Array of the shape `parameters_shape(mean.shape)`, or None where it can't be
            told.
        """
        return None

    @property
    def unbounded(self) -> str:
        """What to pass as `likelihood` for data that lie outside of [0, 1]."""
        return "'gaussian'"

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
            remedy = f"Rescale them, or choose likelihood={self.unbounded}."
        else:
            remedy = "Rescale them to about unit scale."
        raise ValueError(
            f"Data of the {type(self).__name__} likelihood must lie in "
            f"[{self.low:g}, {self.high:g}]. Received: values from {low:g} to "
            f"{high:g}. {remedy}"
        )

    def check_examples(self, x: np.ndarray) -> None:
        """Refuses examples whose values do not fit together; by default none.

        Args:
            x: Array `(n, *image_shape)`, of values that `check_range` lets pass.

        Raises:
            ValueError: If they can't be described, with the remedy.
        """


def _flat(x):
    """Returns x `(batch, ...)` as `(batch, values)`, and None as it is.

    Elementwise functions of arrays whose last axis is short, such as grey pictures, are
    several times slower on JAX.
    """
    return None if x is None else ops.reshape(x, (ops.shape(x)[0], -1))


def open_uniform(shape, seed):
    """Uniform numbers that stay clear of 0 and 1, where inverse CDFs are infinite."""
    return keras.random.uniform(shape, 1e-7, 1.0 - 1e-7, dtype="float32", seed=seed)


def logit(mean: np.ndarray) -> np.ndarray:
    """Returns the logits of means that are kept clear of 0 and 1."""
    mean = np.clip(mean, SMALLEST, 1.0 - SMALLEST)
    return np.log(mean / (1.0 - mean))
