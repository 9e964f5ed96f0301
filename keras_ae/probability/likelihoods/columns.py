"""Likelihood of the rows that a schema makes of a table."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.datasets.schema import Schema
from keras_ae.probability.distributions import LOG_2_PI, Seed, float32
from keras_ae.probability.likelihoods.base import SMALLEST, Likelihood, logit

# Of Bernoulli trials that stand for a Poisson distribution, which no backend draws: the
# total variation is below the square of the rate by this.
_TRIALS = 10_000_000
# What rounding may leave outside a range.
_NEAR = 1e-3


class Columns(Likelihood):
    """Each column of a table by its own kind; independent, given the code.

        number    N(x; p, scale²), one scale for each column
        count     Poisson(x; unit exp(p)), the unit being the mean in training
        category  softmax(p)
        a gap     Bernoulli(sigmoid(p)); what a number would be where it is missing
                  counts for nothing

    Of a series each step is a row. As with `Gaussian("optimal")`, a scale is the one
    that maximises the likelihood of each training batch; evaluation uses its running
    average.
    `model.likelihood.schema.table(model.sample(100))` makes columns of rows again.

    Args:
        schema: The `keras_ae.datasets.Schema` that made the rows, or its configuration.

    Example:

    ```python
    schema = keras_ae.datasets.Schema.of(table)
    model = keras_ae.VAE(8, likelihood=keras_ae.likelihoods.Columns(schema))
    model.fit(schema.rows(table))
    ```

    Reference:
        Nazábal et al., Handling Incomplete Heterogeneous Data using VAEs, 2020
        (https://arxiv.org/abs/1807.03653).
    """

    low = -100.0
    high = math.inf
    # About a hundredth of what a column varies by.
    smallest_scale = 1e-2
    momentum = 0.95

    def __init__(self, schema: Schema | Mapping[str, Any], **kwargs):
        super().__init__(**kwargs)
        if isinstance(schema, Mapping):
            schema = Schema.from_config(schema)
        if not isinstance(schema, Schema):
            raise ValueError(
                "`schema` must be a `keras_ae.datasets.Schema`. Received: "
                f"{type(schema).__name__}"
            )
        self.schema = schema
        numbers: list[int] = []
        counts: list[int] = []
        gaps: list[int] = []
        # By place of a number or count, the place of the value that tells of its gaps.
        told: dict[int, int] = {}
        units: list[float] = []
        self._categories: list[tuple[int, int]] = []
        for column, where in zip(schema.columns, schema.slices().values(), strict=True):
            if column.kind == "category":
                self._categories.append((where.start, where.stop))
                continue
            places = numbers if column.kind == "number" else counts
            places.append(where.start)
            if column.kind == "count":
                units.append(column.mean)
            if column.gaps:
                gaps.append(where.start + 1)
                told[where.start] = where.start + 1
        self._numbers, self._counts, self._gaps = numbers, counts, gaps
        self._units = np.array(units, "float32")
        self._told = told
        ends = [np.arange(*category) for category in self._categories]
        order = np.concatenate([numbers, counts, gaps, *ends]).astype(int)
        # Where each value of a row is in what is put together of the kinds.
        self._back = np.argsort(order)
        self.running_moment = self._add_running("running_moment")
        self.running_weight = self._add_running("running_weight")

    def _add_running(self, name):
        return self.add_weight(
            shape=(len(self._numbers),),
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="mean",
            name=name,
        )

    def scale(self):
        """Returns the standard deviation of each column of numbers, `(numbers,)`."""
        weight = float32(self.running_weight)
        trained = weight > 0
        moment = float32(self.running_moment) / ops.where(trained, weight, 1.0)
        return ops.where(trained, self._scale_of(moment), 1.0)

    def _scale_of(self, moment):
        return ops.maximum(ops.sqrt(moment), self.smallest_scale)

    def _batch_scale(self, residual, known):
        """Returns the optimal scales of a training batch and updates their averages.

        Args:
            residual: Of the numbers, `(batch, numbers)`.
            known: What each of them counts for, `(batch, numbers)`.
        """
        count = ops.sum(known, axis=0)
        total = ops.sum(known * ops.square(ops.stop_gradient(residual)), axis=0)
        # What a batch has none of keeps its average.
        seen = ops.cast(count > 0, "float32")
        moment = total / ops.where(count > 0, count, 1.0)
        rate = (1.0 - self.momentum) * seen
        for average, value in (
            (self.running_moment, moment),
            (self.running_weight, 1.0),
        ):
            before = float32(average)
            average.assign(before + rate * (value - before))
        return ops.where(count > 0, self._scale_of(moment), self.scale())

    def _put_together(self, numbers, counts, gaps, categories):
        """Returns values `(rows, values)` of those of each kind."""
        parts = [numbers, counts, gaps, *categories]
        return ops.take(ops.concatenate(parts, axis=-1), self._back, axis=-1)

    def _rows(self, values):
        """Returns rows `(n, values)` of a batch of them, or of series of them."""
        return ops.reshape(float32(values), (-1, self.schema.width))

    def _split(self, parameters):
        parameters = self._rows(parameters)
        kinds = (self._numbers, self._counts, self._gaps)
        numbers, counts, gaps = (_take(parameters, places) for places in kinds)
        categories = [parameters[..., start:stop] for start, stop in self._categories]
        return numbers, counts, gaps, categories

    def check_examples(self, x):
        width = self.schema.width
        if x.shape[-1] != width:
            raise ValueError(
                f"Rows must hold {width} values, as `schema.rows(table)` makes them of "
                f"the columns. Received: rows of {x.shape[-1]} values"
            )
        rows = x.reshape(-1, width)
        kinds = {"count": rows[:, self._counts], "gap": rows[:, self._gaps]}
        shares = [rows[:, start:stop] for start, stop in self._categories]
        if shares:
            kinds["category"] = np.concatenate(shares, axis=1)
        for kind, values in kinds.items():
            if values.size and (
                values.min() < -_NEAR or kind != "count" and values.max() > 1 + _NEAR
            ):
                raise ValueError(
                    f"Values of a {kind} must be "
                    f"{'>= 0' if kind == 'count' else 'between 0 and 1'}, as "
                    "`schema.rows(table)` makes them. Received: values from "
                    f"{values.min():g} to {values.max():g}"
                )

    def elementwise_log_prob(self, x, parameters, training, observed=None):
        given, x = x, self._rows(x)
        numbers, rates, gaps, categories = self._split(parameters)
        x_numbers, x_counts, x_gaps, x_categories = self._split(x)
        known = self._known(x, self._numbers)
        residual = x_numbers - numbers
        if training and self.trainable:
            counted = self._weighed(ops.ones_like(given))
            if observed is not None:
                counted = counted * ops.cast(observed, "float32")
            counted = self._rows(counted)
            scale = self._batch_scale(residual, known * _take(counted, self._numbers))
        else:
            scale = self.scale()
        deviations = residual / scale
        log_normal = -0.5 * (ops.square(deviations) + LOG_2_PI) - ops.log(scale)
        units = float32(self._units)
        counts = x_counts * units
        log_rates = rates + ops.log(units)
        log_poisson = counts * log_rates - ops.exp(log_rates) - _log_factorial(counts)
        log_prob = self._put_together(
            log_normal * known,
            log_poisson * self._known(x, self._counts),
            x_gaps * gaps - backend.softplus(gaps),
            [
                x * ops.log_softmax(logits, axis=-1)
                for x, logits in zip(x_categories, categories, strict=True)
            ],
        )
        return ops.reshape(log_prob, ops.shape(given))

    def _known(self, x, places):
        """1 where a number is not missing, `(batch, places)`."""
        if not any(place in self._told for place in places):
            return 1.0
        gaps = _take(x, [self._told.get(place, 0) for place in places])
        return 1.0 - gaps * float32([place in self._told for place in places])

    def mean(self, parameters):
        numbers, rates, gaps, categories = self._split(parameters)
        mean = self._put_together(
            numbers,
            ops.exp(rates),
            ops.sigmoid(gaps),
            [ops.softmax(logits, axis=-1) for logits in categories],
        )
        return ops.reshape(mean, ops.shape(parameters))

    def parameters_at(self, mean):
        rows = mean.reshape(-1, self.schema.width)
        logs, parameters = np.log(np.maximum(rows, SMALLEST)), rows.copy()
        parameters[:, self._gaps] = logit(rows[:, self._gaps])
        for where in (self._counts, *(slice(*ends) for ends in self._categories)):
            parameters[:, where] = logs[:, where]
        return parameters.reshape(mean.shape)

    def sample(self, parameters, seed: Seed = None):
        numbers, rates, gaps, categories = self._split(parameters)
        seed = keras.random.SeedGenerator(seed) if isinstance(seed, int) else seed
        noise = keras.random.normal(ops.shape(numbers), dtype="float32", seed=seed)
        units = float32(self._units)
        chances = ops.exp(rates) * units / _TRIALS
        drawn = keras.random.binomial(
            ops.shape(rates), float(_TRIALS), ops.clip(chances, 0, 1), "float32", seed
        )
        uniform = keras.random.uniform(ops.shape(gaps), dtype="float32", seed=seed)
        sample = self._put_together(
            numbers + self.scale() * noise,
            drawn / units,
            ops.cast(uniform < ops.sigmoid(gaps), "float32"),
            [_drawn_category(logits, seed) for logits in categories],
        )
        return ops.reshape(sample, ops.shape(parameters))

    def get_config(self):
        return {**super().get_config(), "schema": self.schema.get_config()}


def _take(x, places):
    return ops.take(x, np.array(places, "int32"), axis=-1)


def _log_factorial(counts):
    """log x!, by Stirling's series for x + 7, exact to float32."""
    above = counts + 7.0
    series = (above + 0.5) * ops.log(above) - above + 0.5 * LOG_2_PI
    series = series + 1 / (12 * above) - 1 / (360 * above**3)
    return series - sum(ops.log(counts + i) for i in range(1, 8))


def _drawn_category(logits, seed):
    """One of the categories, as values of which it has 1."""
    uniform = keras.random.uniform(
        ops.shape(logits), 1e-7, 1.0 - 1e-7, dtype="float32", seed=seed
    )
    chosen = ops.argmax(logits - ops.log(-ops.log(uniform)), axis=-1)
    return ops.one_hot(chosen, logits.shape[-1], dtype="float32")
