"""PyTorch in several processes: networks are spread, all else is computed whole.

Each process has the whole model and is given the whole batch. In a step, a network that
is a functional or `Sequential` Keras model computes a part of the batch's rows in each
of them, and what it gives is gathered; gradients of its weights are summed. What looks
across the batch (noise, losses, codebooks, figures, updates) is computed by each as on
one device, with the same seeds, so that weights are whole and equal everywhere.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch
from keras import ops
from torch.autograd import Function

from keras_ae.backend import (
    _networks,
    _processes,
    _torch_processes,
    keras_private,
)

# Of each two that follow, one is the other's derivative, so that derivatives of any
# order are right. A tensor is either the same in all processes, or a part in each.


class _Scatter(Function):
    """Of what is the same in all processes, the part of this one."""

    @staticmethod
    def forward(context, whole):
        rows = whole.shape[0] // _torch_processes.count()
        return whole.narrow(0, _torch_processes.rank() * rows, rows).clone()

    @staticmethod
    def backward(context, slope):
        return _Gather.apply(slope)


class _Gather(Function):
    """The parts of all processes, in one."""

    @staticmethod
    def forward(context, part):
        return _torch_processes.gathered(part)

    @staticmethod
    def backward(context, slope):
        return _Scatter.apply(slope)


class _Copy(Function):
    """What is the same in all processes, for each to use with its own part."""

    @staticmethod
    def forward(context, *tensors):
        return tuple(tensor.clone() for tensor in tensors)

    @staticmethod
    def backward(context, *slopes):
        return _Sum.apply(*slopes)


class _Sum(Function):
    """What each process has of a sum, added."""

    @staticmethod
    def forward(context, *tensors):
        return _torch_processes.summed(tensors)

    @staticmethod
    def backward(context, *slopes):
        return _Copy.apply(*slopes)


class _Part:
    """A tensor of which each process has equal many rows.

    Args:
        rows: Those of this process.
        size: How many there are in all; what follows in the last parts fills them up.
    """

    def __init__(self, rows: torch.Tensor, size: int):
        self.rows = rows
        self.size = size

    def whole(self) -> torch.Tensor:
        """Returns the tensor in one piece."""
        return _Gather.apply(self.rows)[: self.size]


class _Run(_networks.Run):
    """One call of a network by all processes.

    Args:
        network: The network.
        inputs: What it is given.
    """

    kind = _Part

    def __init__(self, network: keras.Layer, inputs: Any):
        self.size = keras.tree.flatten(inputs)[0].shape[0]
        rows = -(-self.size // _torch_processes.count())
        self.missing = rows * _torch_processes.count() - self.size
        # How many of this process' rows are of the batch, and do not fill it up.
        before = rows * _torch_processes.rank()
        self.true_rows = max(0, min(rows, self.size - before))
        with keras_private.no_autocast():
            pairs = [(variable, variable.value) for variable in network.variables]
        self.values = {id(variable): (variable, value) for variable, value in pairs}
        learned = [pair for pair in pairs if pair[1].requires_grad]
        if learned and torch.is_grad_enabled():
            copies = _Copy.apply(*(value for _, value in learned))
            for (variable, _), copy in zip(learned, copies, strict=True):
                self.values[id(variable)] = variable, copy

    def has_rows(self, value):
        return not torch.is_tensor(value) or value.shape[:1] == (self.size,)

    def cut(self, value):
        if not torch.is_tensor(value):
            return value
        if self.missing:
            last = value[-1:].expand(self.missing, *value.shape[1:])
            value = torch.cat([value, last])
        return _Part(_Scatter.apply(value), self.size)

    def on_each(self, operation, call, args, kwargs):
        parts = keras.tree.map_structure(self.cut, (args, kwargs))
        given, options = keras.tree.map_structure(_rows, parts)
        pairs = [self.values[id(v)] for v in getattr(operation, "variables", [])]
        scope = keras.StatelessScope()
        for pair in pairs:
            # As they are: what a scope begins with is cast.
            scope.add_update(pair)
        with scope:
            result = call(*given, **options)
        for variable, value in pairs:
            assigned = scope.get_current_value(variable)
            if assigned is not value:
                variable.assign(assigned)
        return keras.tree.map_structure(lambda rows: _Part(rows, self.size), result)

    def moments(self, x, axis):
        dtype = keras.backend.result_type(ops.dtype(x.rows), "float32")
        rows = ops.cast(x.rows[: self.true_rows], dtype)
        axes = [*range(rows.ndim)]
        del axes[axis]
        shape = [1] * rows.ndim
        shape[axis] = -1
        values = x.rows[0].numel() // x.rows.shape[axis]

        def mean(terms):
            (total,) = _Sum.apply(terms.sum(axes))
            (total,) = _Copy.apply(total / (self.size * values))
            return total

        center = mean(rows)
        return center, mean((rows - center.reshape(shape)) ** 2)


def _rows(value):
    return value.rows if isinstance(value, _Part) else value


class Spread:
    """A step in which all processes compute the networks of a model.

    Args:
        model: The model.
        step: Function of a batch that returns logs.
        learns: Whether there are gradients.

    Attributes:
        steps: How many were taken.
    """

    def __init__(self, model: keras.Model, step: Callable, learns: bool):
        self.model = model
        self.step = step
        self.learns = learns
        self.steps = 0

    def __call__(self, batches: Sequence[Any]) -> dict[str, Any]:
        (batch,) = batches
        thorough = self.steps % _processes.OFTEN == 0
        self.steps += 1
        _processes.compare(_torch_processes, batch, thorough)
        if thorough:
            # Rounding may differ from card to card, and must not add up.
            _torch_processes.take_firsts(self.model)
        with contextlib.ExitStack() as stack:
            for layer in keras_private.layers(self.model):
                start = _starting(layer)
                stack.enter_context(_networks.replaced_call(layer, start))
            stack.enter_context(torch.set_grad_enabled(self.learns))
            return _torch_processes.firsts_logs(self.step(batch))


def _starting(layer):
    return lambda inputs: _Run(layer, inputs)
