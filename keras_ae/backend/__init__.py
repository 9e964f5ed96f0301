"""What TensorFlow, JAX and PyTorch do each in its own way.

Everything else in keras-ae is written in `keras.ops`. What differs between the three is
how a gradient is taken, who owns the state during a training step, how a function is
compiled, how steps are dispatched, and what one of them computes slowly. Each of these
is documented here, and written in `_tensorflow`, `_jax` and `_torch`, of which that one
is loaded that Keras uses.

With the environment variable `KERAS_AE_PLAIN=1` nothing is accelerated: steps are run,
fed and updated as Keras does it. Results are the same, to rounding.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.backend import _shared
from keras_ae.backend._engine import BACKEND
from keras_ae.backend._engine import engine as _engine
from keras_ae.backend._shared import Block, Cost, Execution, black_and_white
from keras_ae.backend._together import (
    are_together,
    check_processes,
    distribute,
    from_first,
    is_first_process,
    meeting_point,
    most_processes,
    start_together,
)

PLAIN = os.environ.get("KERAS_AE_PLAIN", "0") not in ("", "0")

__all__ = [
    "BACKEND",
    "PLAIN",
    "Block",
    "Cost",
    "Execution",
    "apply_gradients",
    "are_together",
    "assign_rows",
    "black_and_white",
    "build_scope",
    "check_processes",
    "common_size",
    "compiled",
    "convolved_to_one",
    "distribute",
    "draws_on_device",
    "filters_in_order",
    "from_first",
    "fuses_steps",
    "gradient",
    "is_fed",
    "is_first_process",
    "is_traced",
    "many_steps",
    "meeting_point",
    "minimize",
    "most_processes",
    "normalized",
    "pure",
    "recorded",
    "records_steps",
    "replicas",
    "require",
    "reshuffled",
    "room_for_data",
    "run_step",
    "shuffled",
    "softplus",
    "spread_batches",
    "stacked",
    "start_epoch",
    "start_together",
    "step_cost",
    "take_rows",
    "takes_feeds",
    "to_device",
    "untuned",
]


def require(backend: str, what: str) -> None:
    """Raises `ValueError` unless the backend in use is `backend`."""
    if backend != BACKEND:
        raise ValueError(
            f"{what} needs the '{backend}' backend. Received: the backend in use is "
            f"'{BACKEND}'; set KERAS_BACKEND={backend} before keras is imported."
        )


def build_scope(model: keras.Model):
    """The scope in which `model` must create its variables."""
    return _engine.build_scope(model)


def replicas(model: keras.Model) -> int:
    """How many replicas of `model` tf.distribute trains, each by itself; 1 without."""
    return 1 if fuses_steps(model) else _engine.replicas(model)


def spread_batches():
    """A block in which the steps that are made cut their batches for all devices.

    Those of `distribute`, or of `keras.distribution.DataParallel` and `ModelParallel`,
    with which Keras would cut each batch before it takes the step, and fail at one that
    has no equal part for each. Of its own in several processes, and of others, Keras
    takes care.
    """
    return _engine.spread_batches()


def common_size(size: int) -> int:
    """Returns to how many examples a batch is padded, so that few sizes are compiled.

    JAX compiles a function for each shape, which takes longer than twice the examples.
    """
    return _engine.common_size(size)


def is_traced(x: Any) -> bool:
    """Whether `x` stands for a tensor in a graph that is being built."""
    return _engine.is_traced(x)


def run_step(
    step: Callable[[Any], Any],
    arguments: Sequence[Any],
    variables: Sequence[Sequence[keras.Variable]],
):
    """Runs `step(data)` the way that the backend's Keras trainer calls its steps.

    TensorFlow and PyTorch pass the data and let the step assign its variables. JAX
    passes the values of all variables with the data and expects their new values back.

    Args:
        step: Function of one batch of data, free to read and assign `variables`.
        arguments: What the trainer passed: `(data,)`, or `(state, data)` on JAX.
        variables: The model's variables, grouped as the trainer groups its state.

    Returns:
        What `step` returned; on JAX `(returned, state)`.
    """
    return _engine.run_step(step, arguments, variables)


def minimize(
    model: keras.Model,
    loss_fn: Callable[..., tuple[Any, Any]],
    variables: Sequence[keras.Variable],
    optimizer: keras.optimizers.Optimizer,
    condition: Any = None,
    with_norm: bool = False,
    at: Any = None,
) -> tuple[Any, Any, Any]:
    """Takes one optimizer step on `variables` against the gradient of `loss_fn`.

    Other variables that `loss_fn` assigns (batch statistics, seeds, running scales)
    keep what it assigned; no other variable gets a gradient.

    Args:
        model: The model whose state `loss_fn` reads and writes.
        loss_fn: Function of nothing, or of `at`, that returns a scalar loss and
            anything else.
        variables: The variables to update, those that `optimizer` was built with.
        optimizer: The optimizer that updates them.
        condition: None, or a boolean scalar: where it is false, `variables` and the
            optimizer's own stay as they are.
        with_norm: Whether to return the norm of the gradient, without loss scaling.
        at: None, or a tensor of which `loss_fn` is a function too.

    Returns:
        What `loss_fn` returned beside the loss; the norm or None; the gradient at the
        tensor `at`, without loss scaling, or None.
    """
    if not variables and at is None:
        return loss_fn()[1], ops.zeros(()) if with_norm else None, None
    scale = optimizer.scale_loss(1.0)
    if _engine.replicas_here() > 1:
        scale = scale / _engine.replicas_here()
    others, gradients, slopes = _engine.loss_gradients(
        model, loss_fn, variables, optimizer, () if at is None else (at,)
    )
    norm = _shared.norm(gradients) / scale if with_norm else None
    if variables:
        apply_gradients(optimizer, gradients, variables, condition)
    return others, norm, None if at is None else slopes[0] / scale


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[keras.Variable],
    condition: Any = None,
) -> None:
    """Updates variables as `optimizer.apply` does: Keras' Adam in one operation.

    Clipping, decay, averages, all else around the update and the state are Keras' own.

    Args:
        optimizer: The optimizer, built with `variables`.
        gradients: A gradient a variable, or None.
        variables: The variables to update.
        condition: None, or a boolean scalar: where it is false, nothing changes.
    """
    _engine.apply(optimizer, gradients, variables, condition, fused=not PLAIN)


def gradient(function: Callable, x):
    """Returns the gradient of the sum of `function(x)` at `x`, differentiable again.

    Args:
        function: Function of one tensor, free to read variables but not to assign any.
        x: Tensor of any shape.

    Returns:
        Tensor of the shape of `x`.
    """
    return _engine.gradient(function, x)


def take_rows(variable: keras.Variable, rows):
    """Returns rows `(n, ...)` of a variable without reading the others.

    Args:
        variable: Variable `(count, ...)`.
        rows: Integers `(n,)`.
    """
    return _engine.take_rows(variable, rows)


def assign_rows(variable: keras.Variable, rows, values) -> None:
    """Assigns rows of a variable in place; the others are not touched.

    Args:
        variable: Variable `(count, ...)`.
        rows: Integers `(n,)`, none of them twice.
        values: Tensor `(n, ...)`.
    """
    _engine.assign_rows(variable, rows, ops.cast(values, variable.dtype))


def pure(model: keras.Model, function: Callable) -> Callable:
    """A function that reads the model's variables and leaves nothing behind.

    `gradient` wants that of functions that call layers: those with activity
    regularisers add losses whenever they are called, and a spectral normalisation moves
    its vectors in training.
    """

    def without_traces(*tensors):
        variables = [(variable, variable.value) for variable in model.variables]
        with keras.StatelessScope(variables):
            return function(*tensors)

    return without_traces


def compiled(function: Callable, variables: Sequence[keras.Variable]) -> Callable:
    """Compiles a function of tensors for inference, where the backend compiles.

    Args:
        function: Function of tensors. It may read `variables`, and assign them (a seed
            generator's state, say).
        variables: Every variable that `function` touches.

    Returns:
        A function of the same tensors, without gradients.
    """
    return _engine.compiled(function, variables)


def records_steps(model: keras.Model) -> bool:
    """Whether `recorded` runs the steps of `model`: on PyTorch only."""
    return BACKEND == "torch" and not PLAIN and _engine.records_steps(model)


def recorded(model: keras.Model, step: Callable) -> Callable:
    """Returns the function that Keras' PyTorch trainer trains or tests with.

    Keras' own goes through all layers, metrics and the optimizer at each step. Here
    that is recorded once, and only the kernels are called from then on. Processes that
    `distribute` has brought together take their steps as ever, but together.

    Args:
        model: The model.
        step: `model.train_step` or `model.test_step`.

    Returns:
        Function of a list of one batch that returns the logs; its `steps` are the
        `_torch_recording.Recorded`, or how many were taken together.
    """
    return _engine.recorded(model, step)


def fuses_steps(model: keras.Model) -> bool:
    """Whether `many_steps` can run several steps of `model` in one dispatch."""
    return _engine.LOOPS and not PLAIN and _engine.fuses_steps(model)


def many_steps(model: keras.Model, step: Callable) -> Callable:
    """Returns the function of an iterator that Keras' trainer trains with.

    Keras' own dispatches every step by itself on JAX, whatever `steps_per_execution`
    is, and is traced again for each number of steps on TensorFlow. Here they are taken
    in a loop inside one compiled function, and their number is an argument.

    Args:
        model: The model, whose `steps_per_execution` says how many batches it takes.
        step: `model.train_step` or `model.test_step`.

    Returns:
        On TensorFlow a function of an iterator that returns the logs of the last step.
        On JAX one of (state, iterator) that returns them and the new state. There the
        iterator gives batches or `Execution`s; batches of several shapes are stepped
        through singly.
    """
    return _engine.many_steps(model, step)


def step_cost(model: keras.Model, batch: Any) -> Cost:
    """Returns what a step of training costs.

    Args:
        model: The model, built and compiled, that `fuses_steps`.
        batch: A batch, of which the shapes count.
    """
    return _engine.step_cost(model, batch)


def is_fed(model: keras.Model) -> bool:
    """Whether `fit` gives Keras' trainer batches that are not of Keras' making."""
    reorders = not PLAIN and _engine.reorders(model)
    return fuses_steps(model) or records_steps(model) or reorders


def takes_feeds() -> bool:
    """Whether Keras' trainer takes batches as they come, not a `tf.data.Dataset`."""
    return _engine.TAKES_FEEDS


def draws_on_device() -> bool:
    """Whether data that lie on the device are drawn in black and white there."""
    return BACKEND == "jax"


def reshuffled(arrays: Sequence[Any], batch_size: int):
    """Returns a `tf.data.Dataset` of batches, each epoch in an order of its own.

    Keras' has the same order in every epoch once a seed was set. On TensorFlow only.
    """
    return _engine.reshuffled(arrays, batch_size)


def untuned(dataset):
    """Returns a `tf.data.Dataset` that does not tune itself: on TensorFlow only."""
    return _engine.untuned(dataset)


def room_for_data() -> int:
    """Returns how many bytes of data may lie on the accelerator; 0 without one.

    What Keras' trainer takes as feeds may lie there, so that TensorFlow has no room.
    """
    return _engine.room_for_data()


def to_device(array: Any):
    """Returns a copy of an array where the computing is; a tensor as it is."""
    return _engine.to_device(array)


def start_epoch() -> None:
    """Draws the number that a loader draws when it starts: on PyTorch only."""
    _engine.start_epoch()


def shuffled(count: int) -> np.ndarray:
    """Returns the rows of an epoch in the order in which Keras would draw them."""
    return _engine.shuffled(count)


def stacked(batches: Sequence[Any], steps: int):
    """Returns batches of equal shapes as one `(steps, batch, ...)`, the rest zeros.

    On JAX only.
    """
    return _engine.stacked(batches, steps)


def softplus(x):
    """Returns log(1 + exp(x)), of the shape of x."""
    return _engine.softplus(x) if BACKEND == "jax" and not PLAIN else ops.softplus(x)


def normalized(x, scale, shift, epsilon: float):
    """Normalises each channel of a batch of pictures in one operation, or returns None.

    Args:
        x: Tensor `(batch, height, width, channels)`.
        scale, shift: Tensors or variables `(channels,)`.
        epsilon: Added to the variance.

    Returns:
        The normalised tensor, mean and variance; None where the backend has no such
        operation.
    """
    if BACKEND != "tensorflow" or PLAIN:
        return None
    return _engine.normalized(x, scale, shift, epsilon)


def convolved_to_one(x, kernel):
    """Convolves pictures with one filter, padded to their size, or returns None.

    Args:
        x: Tensor `(batch, height, width, channels)`.
        kernel: Tensor `(rows, columns, channels, 1)`.

    Returns:
        Tensor `(batch, height, width, 1)`; None where the backend's own is faster.
    """
    if BACKEND != "tensorflow" or PLAIN:
        return None
    return _engine.convolved_to_one(x, kernel)


def filters_in_order(x, kernel):
    """Returns a convolution's kernel, laid out so that PyTorch can differentiate it.

    Its CPU convolves one small picture by another way than several, whose gradient of
    the kernel fails where Keras has only changed the order of its axes: "slow_conv2d:
    grad_weight must be contiguous".

    Args:
        x: Tensor `(batch, height, width, channels)`.
        kernel: Tensor or variable `(rows, columns, channels, filters)`.
    """
    return _engine.filters_in_order(x, kernel) if BACKEND == "torch" else kernel
