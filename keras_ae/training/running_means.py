"""Running means of all that a model logs."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


class Figures(keras.metrics.Metric):
    """Running means of named figures.

    A metric for each would cost several kernels a step and figure; here all are added
    to one vector at once.

    Args:
        names: Of the figures, in the order in which they are logged.
        partly_known: Names of figures whose values may be NaN where they are unknown,
            and then count for nothing. Of none that are known, the mean is NaN.
    """

    def __init__(self, names: Sequence[str], partly_known: Sequence[str] = ()):
        super().__init__(name="figures")
        self.names = tuple(names)
        self.partly_known = tuple(partly_known)
        shape = (len(self.names),)
        self.total = self.add_variable(shape, "zeros", name="total")
        self.count = self.add_variable(shape, "zeros", name="count")
        # Keras asks for metrics by name.
        self.each = [
            Figure(name, lambda name=name: self.result()[name]) for name in self.names
        ]

    def update_state(self, figures: dict[str, Any]) -> None:
        """Adds values.

        Args:
            figures: By name, tensors `(n,)` or `()`; or tuples of scalars, a value and
                how often it counts. Not all names need be there.
        """
        nothing = ops.zeros(())
        found = dict.fromkeys(self.names, (nothing, nothing))
        found |= {name: self._summed(name, value) for name, value in figures.items()}
        totals, counts = zip(*found.values(), strict=True)
        self.total.assign_add(ops.stack(totals))
        self.count.assign_add(ops.stack(counts))

    def _summed(self, name, value):
        """Returns the sum of what a figure is given, and of how many values."""
        if isinstance(value, tuple):
            value, count = (ops.cast(part, "float32") for part in value)
            return value * count, count
        value = ops.cast(value, "float32")
        if name in self.partly_known:
            known = ops.logical_not(ops.isnan(value))
            value = ops.where(known, value, 0.0)
            return ops.sum(value), ops.sum(ops.cast(known, "float32"))
        if len(value.shape) == 0:
            return value, ops.ones(())
        return ops.sum(value), ops.cast(ops.shape(value)[0], "float32")

    def result(self) -> dict[str, Any]:
        """Returns the means by name; 0 of nothing."""
        means = dict(
            zip(self.names, ops.unstack(self._means(), len(self.names)), strict=True)
        )
        for name in self.partly_known:
            count = self.count[self.names.index(name)]
            means[name] = ops.where(count > 0, means[name], float("nan"))
        return means

    def _means(self):
        return ops.divide_no_nan(self.total, self.count)


class Figure(keras.metrics.Metric):
    """What Keras' callbacks look for by name, of which something else keeps the state.

    Args:
        name: How it is logged.
        current: Function of nothing that returns its value.
    """

    def __init__(self, name: str, current: Callable[[], Any]):
        super().__init__(name=name)
        self._current = current

    def reset_state(self):
        pass

    def result(self):
        return self._current()
