"""One row of learned numbers for each training sample, of which a step moves a few."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend

# Settings of optimizers that would touch rows outside the batch, or say how to.
_UNSUPPORTED = {
    "weight_decay": (None, 0.0, False),
    "clipnorm": (None,),
    "clipvalue": (None,),
    "global_clipnorm": (None,),
    "use_ema": (False,),
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None,),
    "amsgrad": (False,),
    "momentum": (0.0,),
}


class CodeTable(keras.layers.Layer):
    """Rows of numbers by sample, with the moments of an Adam that moves them.

    A row's moments and step count are its own: a step reads and writes the rows of its
    batch and leaves all others, bit for bit, as they are, at a cost that does not grow
    with their number. After k steps a row is where plain Adam would have brought it
    had it seen nothing but the row's own k gradients.

    Args:
        values: First values of the rows, `(count, width)`.
        sample_ids: Integers `(count,)` in rising order: whose rows they are.
        next_id: The first integer that no sample ever had.
    """

    def __init__(
        self, values: np.ndarray, sample_ids: np.ndarray, next_id: int, **kwargs
    ):
        super().__init__(**{"dtype": "float32", "name": "codes", **kwargs})
        self.count, self.width = values.shape
        # None of them is `trainable`: no optimizer of Keras' may touch every row.
        self.rows = self._add("rows", values)
        self.first_moments = self._add("first_moments", np.zeros_like(values))
        self.second_moments = self._add("second_moments", np.zeros_like(values))
        self.steps = self._add("steps", np.zeros(self.count, "int32"))
        self.ids = self._add("ids", np.asarray(sample_ids, "int32"))
        self.next_id = self._add("next_id", np.asarray(next_id, "int32"))
        self.built = True

    def _add(self, name, value):
        variable = self.add_weight(
            name=name,
            shape=value.shape,
            dtype=value.dtype.name,
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        variable.assign(value)
        return variable

    @classmethod
    def empty(cls, width: int) -> "CodeTable":
        """A table of no samples."""
        return cls(np.zeros((0, width), "float32"), np.zeros(0, "int32"), 0)

    def take(self, rows):
        """Returns rows, `(n, width)`."""
        return backend.take_rows(self.rows, rows)

    def update(self, rows, gradient, optimizer, constrain) -> None:
        """Takes one step on some rows against their gradient.

        Args:
            rows: Integers `(n,)`, none of them twice.
            gradient: Gradient of the loss at these rows, `(n, width)`. A row whose
                gradient is not finite stays where it is.
            optimizer: Keras' `Adam` or `SGD`, for its learning rate, its numbers and
                its count of iterations.
            constrain: Function of rows `(n, width)` that brings them into their range.
        """
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        gradient = ops.cast(gradient, "float32")
        finite = ops.all(ops.isfinite(gradient), axis=1)  # (n,)
        gradient = ops.where(finite[:, None], gradient, 0.0)
        rate = ops.cast(optimizer.learning_rate, "float32")
        values = self.take(rows)
        if _kind(optimizer) == "Adam":
            beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
            steps = backend.take_rows(self.steps, rows) + ops.cast(finite, "int32")
            first = backend.take_rows(self.first_moments, rows)
            mean = beta_1 * first + (1.0 - beta_1) * gradient
            first = ops.where(finite[:, None], mean, first)
            second = backend.take_rows(self.second_moments, rows)
            mean = beta_2 * second + (1.0 - beta_2) * ops.square(gradient)
            second = ops.where(finite[:, None], mean, second)
            taken = ops.cast(ops.maximum(steps, 1), "float32")[:, None]
            unbiased = first / (1.0 - ops.power(beta_1, taken))
            variance = second / (1.0 - ops.power(beta_2, taken))
            step = unbiased / (ops.sqrt(variance) + optimizer.epsilon)
            backend.assign_rows(self.steps, rows, steps)
            backend.assign_rows(self.first_moments, rows, first)
            backend.assign_rows(self.second_moments, rows, second)
        else:
            step = gradient
        step = ops.where(finite[:, None], rate * step, 0.0)
        backend.assign_rows(self.rows, rows, constrain(values - step))
        optimizer.iterations.assign_add(1)

    def positions(self, sample_ids: Any) -> np.ndarray:
        """Returns the rows of samples, integers `(n,)`.

        Raises:
            ValueError: If there is no such sample, or one of them comes twice.
        """
        wanted = np.asarray(sample_ids)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
            raise ValueError(
                "`sample_ids` must be integers (n,). Received: an array of dtype "
                f"{wanted.dtype} and shape {wanted.shape}"
            )
        known = self.sample_ids
        found = np.searchsorted(known, wanted)
        is_known = known[np.minimum(found, max(len(known) - 1, 0))] == wanted
        if not np.all(is_known):
            raise ValueError(
                "`sample_ids` must be among the model's `sample_ids`. Received: "
                f"{wanted[~is_known][:5].tolist()}, of samples that it never saw or "
                "that were removed"
            )
        if len(np.unique(found)) < len(found):
            values, counts = np.unique(wanted, return_counts=True)
            raise ValueError(
                "`sample_ids` must name each sample once. Received: "
                f"{values[counts > 1][:5].tolist()} more than once"
            )
        return found.astype("int32")

    @property
    def sample_ids(self) -> np.ndarray:
        """Whose rows there are, integers `(count,)` in rising order."""
        return np.array(ops.convert_to_numpy(self.ids))

    def extended(self, values: np.ndarray) -> "CodeTable":
        """Returns a table with rows for new samples behind those of this one."""
        first = int(ops.convert_to_numpy(self.next_id))
        after = first + len(values)
        ids = np.concatenate([self.sample_ids, np.arange(first, after)])
        return self._with(np.arange(self.count), values, ids, after)

    def without(self, positions: np.ndarray) -> "CodeTable":
        """Returns a table without the rows at some positions."""
        kept = np.delete(np.arange(self.count), positions)
        nothing = np.zeros((0, self.width), "float32")
        next_id = int(ops.convert_to_numpy(self.next_id))
        return self._with(kept, nothing, self.sample_ids[kept], next_id)

    def _with(self, kept, values, ids, next_id):
        rows = ops.convert_to_numpy(self.rows)[kept]
        table = CodeTable(np.concatenate([rows, values]), ids, next_id)
        for name in ("first_moments", "second_moments", "steps"):
            old = ops.convert_to_numpy(getattr(self, name))[kept]
            new = np.zeros((len(values), *old.shape[1:]), old.dtype)
            getattr(table, name).assign(np.concatenate([old, new]))
        return table


def check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises `ValueError` unless an optimizer can move single rows."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if _kind(optimizer) not in ("Adam", "SGD"):
        raise ValueError(
            "The optimizer of 'codes' must be Keras' Adam or SGD, which is applied to "
            f"the codes of a batch alone. Received: {_kind(optimizer)}"
        )
    config = optimizer.get_config()
    for name, allowed in _UNSUPPORTED.items():
        if name in config and config[name] not in allowed:
            raise ValueError(
                f"The optimizer of 'codes' must have no `{name}`: only the codes of a "
                f"batch are touched. Received: {name}={config[name]!r}"
            )


def _kind(optimizer):
    # PyTorch has classes of its own of the same names.
    return type(optimizer).__name__
