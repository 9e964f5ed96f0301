"""Gradients, updates and compiled functions on the backend in use.

Everything else in keras-ae is written in `keras.ops`. What differs between TensorFlow,
JAX and PyTorch is how a gradient is taken, who owns the state during a training step
and how a function is compiled, which is here; how steps are dispatched, in `dispatch`;
and what one of them computes slowly, in `kernels`.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
    from torch.optim.adam import adam

    from keras_ae.backend import recording
else:
    raise ImportError(
        "keras-ae trains on the Keras backends 'tensorflow', 'jax' and 'torch'. "
        f"Received: KERAS_BACKEND='{BACKEND}'"
    )


def require(backend: str, what: str) -> None:
    """Raises `ValueError` unless the backend in use is `backend`."""
    if backend != BACKEND:
        raise ValueError(
            f"{what} needs the '{backend}' backend. Received: the backend in use is "
            f"'{BACKEND}'; set KERAS_BACKEND={backend} before keras is imported."
        )


def build_scope(model: keras.Model):
    """The scope in which `model` must create its variables."""
    if BACKEND == "tensorflow":
        return model.distribute_strategy.scope()
    return contextlib.nullcontext()


def replicas(model: keras.Model) -> int:
    """On how many devices tf.distribute trains `model`; 1 without it."""
    if BACKEND == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync
    return 1


def common_size(size: int) -> int:
    """Returns to how many examples a batch is padded, so that few sizes are compiled.

    JAX compiles a function for each shape, which takes longer than twice the examples.
    """
    return 1 << (size - 1).bit_length() if BACKEND == "jax" else size


def is_traced(x: Any) -> bool:
    """Whether `x` stands for a tensor in a graph that is being built."""
    if BACKEND == "tensorflow":
        return tf.is_symbolic_tensor(x) if isinstance(x, tf.Tensor) else False
    return BACKEND == "jax" and isinstance(x, jax.core.Tracer)


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
    if BACKEND != "jax":
        (data,) = arguments
        return step(data)
    state, data = arguments
    pairs = [
        pair
        for group, values in zip(variables, state, strict=True)
        for pair in zip(group, values, strict=True)
    ]
    with keras.StatelessScope(pairs, collect_losses=True) as scope:
        returned = step(data)
    return returned, tuple(
        [scope.get_current_value(variable) for variable in group] for group in variables
    )


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
    given = () if at is None else (at,)
    if not variables and at is None:
        return loss_fn()[1], ops.zeros(()) if with_norm else None, None

    scale = optimizer.scale_loss(1.0)

    if BACKEND == "tensorflow":
        # tf.distribute sums the gradients of its replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss, others = loss_fn(*given)
            loss = optimizer.scale_loss(loss / replicas)
        values = [variable.value for variable in variables]
        gradients, slopes = tape.gradient(loss, (values, given))
        norm = _norm(gradients) * replicas / scale if with_norm else None
        _apply(optimizer, gradients, variables, condition)
        return others, norm, slopes[0] * replicas / scale if given else None

    if BACKEND == "torch":
        given = tuple(tensor.detach().requires_grad_() for tensor in given)
        loss, others = loss_fn(*given)
        gradients = torch.autograd.grad(
            optimizer.scale_loss(loss),
            [*(variable.value for variable in variables), *given],
            allow_unused=True,
        )
        gradients, slopes = gradients[: len(variables)], gradients[len(variables) :]
        with torch.no_grad():
            norm = _norm(gradients) / scale if with_norm else None
            _apply(optimizer, gradients, variables, condition)
        return others, norm, slopes[0] / scale if given else None

    chosen = {id(variable) for variable in variables}
    state = [
        variable
        for variable in (
            *model.variables,
            *model.metrics_variables,
            *optimizer.variables,
        )
        if id(variable) not in chosen
    ]
    state_values = [variable.value for variable in state]

    def pure_loss_fn(values, given):
        pairs = [*zip(variables, values, strict=True)]
        pairs += zip(state, state_values, strict=True)
        with keras.StatelessScope(pairs, collect_losses=True) as scope:
            loss, others = loss_fn(*given)
            loss = optimizer.scale_loss(loss)
        updates = [scope.get_current_value(variable) for variable in state]
        return loss, (others, updates)

    (gradients, slopes), (others, updates) = jax.grad(
        pure_loss_fn, argnums=(0, 1), has_aux=True
    )([variable.value for variable in variables], given)
    for variable, update in zip(state, updates, strict=True):
        variable.assign(update)
    norm = _norm(gradients) / scale if with_norm else None
    slope = slopes[0] / scale if given else None
    if not variables:
        return others, norm, slope
    results = optimizer.stateless_apply(
        [variable.value for variable in optimizer.variables],
        gradients,
        [variable.value for variable in variables],
    )
    for group, updates in zip((variables, optimizer.variables), results, strict=True):
        for variable, update in zip(group, updates, strict=True):
            if condition is not None:
                update = ops.where(condition, update, variable.value)
            variable.assign(update)
    return others, norm, slope


def _norm(gradients):
    """Euclidean norm of all gradients together, in float32."""
    squares = [
        ops.sum(ops.square(ops.cast(gradient, "float32")))
        for gradient in gradients
        if gradient is not None
    ]
    return ops.sqrt(sum(squares, ops.zeros(())))


def _apply(optimizer, gradients, variables, condition):
    """Applies gradients where `condition` holds: on TensorFlow and PyTorch."""
    if not variables:
        return
    if condition is None:
        with _fused_update(optimizer):
            optimizer.apply(gradients, variables)
        return
    if (
        BACKEND == "tensorflow"
        and tf.distribute.get_strategy().num_replicas_in_sync > 1
    ):
        raise ValueError(
            "A player that sits out steps can't be trained by tf.distribute. Received: "
            f"{tf.distribute.get_strategy().num_replicas_in_sync} replicas; train on "
            "one device, or let all players take every step."
        )
    touched = [*variables, *optimizer.variables]
    # Copies, because optimizers update in place.
    before = [ops.copy(variable.value) for variable in touched]
    with _fused_update(optimizer):
        optimizer.apply(gradients, variables)
    for variable, value in zip(touched, before, strict=True):
        variable.assign(ops.where(condition, variable.value, value))


@contextlib.contextmanager
def _fused_update(optimizer):
    """Inside the block, Keras' Adam updates in one operation where the backend has one.

    Clipping, decay, averages, all else around the update and the state are Keras' own.
    """
    # What scales the loss leaves the update to another.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    # What is derived from them may update in another way.
    kinds = (keras.optimizers.Adam, keras.optimizers.AdamW)
    is_adam = type(optimizer) in (type(kind.__new__(kind)) for kind in kinds)
    if BACKEND == "jax" or not is_adam or optimizer.amsgrad:
        yield
        return
    if BACKEND == "tensorflow":
        name, update = "update_step", _adam_of_tensorflow(optimizer)
    else:
        name, update = "_parallel_update_step", _adam_of_torch(optimizer)
    # Not by Keras' own `__setattr__`, which tracks and saves what it is given.
    vars(optimizer)[name] = update
    try:
        yield
    finally:
        # tf.distribute comes here once a replica, after all have updated.
        vars(optimizer).pop(name, None)


def _adam_of_tensorflow(optimizer):
    """Keras' `update_step` of a variable, in one operation."""
    step = ops.cast(optimizer.iterations + 1, "float32")
    power_1, power_2 = optimizer.beta_1**step, optimizer.beta_2**step

    def update_step(gradient, variable, learning_rate):
        if isinstance(gradient, tf.IndexedSlices) or variable.dtype != "float32":
            type(optimizer).update_step(optimizer, gradient, variable, learning_rate)
            return
        index = optimizer._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimizer._momentums[index].value.handle,
            v=optimizer._velocities[index].value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=tf.cast(learning_rate, "float32"),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=tf.cast(gradient, "float32"),
        )

    return update_step


def _adam_of_torch(optimizer):
    """Keras' update of all variables, in one kernel on the CPU."""
    stepwise = optimizer._parallel_update_step

    def update(gradients, variables, learning_rate):
        indices = [optimizer._get_variable_index(variable) for variable in variables]
        tensors = [
            [variable.value for variable in variables],
            # The kernel goes by the order in memory.
            [gradient.contiguous() for gradient in gradients],
            [optimizer._momentums[index].value for index in indices],
            [optimizer._velocities[index].value for index in indices],
        ]
        # On an accelerator it would have to wait for the number of the step.
        if all(
            tensor.device.type == "cpu"
            and tensor.dtype == torch.float32
            and tensor.is_contiguous()
            for tensor in itertools.chain(*tensors)
        ):
            numbers = map(ops.convert_to_tensor, (learning_rate, optimizer.iterations))
            recording.call(_adam_kernel(optimizer), *numbers, *tensors)
        else:
            stepwise(gradients, variables, learning_rate)

    return update


def _adam_kernel(optimizer):
    """PyTorch's kernel for Keras' Adam, a function of tensors."""
    beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
    epsilon = optimizer.epsilon

    def update(learning_rate, iterations, *tensors):
        step = float(iterations) + 1.0
        adam(
            *tensors,
            [],
            [torch.tensor(step - 1.0) for _ in tensors[0]],
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=float(learning_rate),
            beta1=beta_1,
            beta2=beta_2,
            weight_decay=0.0,
            # Keras adds it to the velocity's root before correcting its bias.
            eps=epsilon / math.sqrt(1.0 - beta_2**step),
        )

    return update


def gradient(function: Callable, x):
    """Returns the gradient of the sum of `function(x)` at `x`, differentiable again.

    Args:
        function: Function of one tensor, free to read variables but not to assign any.
        x: Tensor of any shape.

    Returns:
        Tensor of the shape of `x`.
    """
    if BACKEND == "tensorflow":
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x))
        return tape.gradient(total, x)

    if BACKEND == "torch":
        differentiable = torch.is_grad_enabled()
        # `evaluate` runs without gradients; this one is part of the loss.
        with torch.enable_grad():
            if not x.requires_grad:
                x = x.detach().requires_grad_()
            total = torch.sum(function(x))
            (result,) = torch.autograd.grad(total, x, create_graph=differentiable)
        return result

    return jax.grad(lambda x: function(x).sum())(x)


def take_rows(variable: keras.Variable, rows):
    """Returns rows `(n, ...)` of a variable without reading the others.

    Args:
        variable: Variable `(count, ...)`.
        rows: Integers `(n,)`.
    """
    if BACKEND == "tensorflow" and isinstance(variable.value, tf.Variable):
        # A read of all of it would be copied at the next assignment to some.
        return variable.value.sparse_read(rows)
    return ops.take(variable.value, rows, axis=0)


def assign_rows(variable: keras.Variable, rows, values) -> None:
    """Assigns rows of a variable in place; the others are not touched.

    Args:
        variable: Variable `(count, ...)`.
        rows: Integers `(n,)`, none of them twice.
        values: Tensor `(n, ...)`.
    """
    values = ops.cast(values, variable.dtype)
    if BACKEND == "tensorflow":
        variable.value.scatter_update(tf.IndexedSlices(values, rows))
    elif BACKEND == "torch":
        with torch.no_grad():
            variable.value.index_copy_(0, rows.long(), values)
    else:
        variable.assign(variable.value.at[rows].set(values))


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
    if BACKEND == "tensorflow":
        return tf.function(function, reduce_retracing=True, autograph=False)

    if BACKEND == "torch":
        return torch.no_grad()(function)

    assigned: list[keras.Variable] = []

    @jax.jit
    def pure(values, *tensors):
        pairs = zip(variables, values, strict=True)
        with keras.StatelessScope(pairs) as scope:
            before = [scope.get_current_value(variable) for variable in variables]
            outputs = function(*tensors)
        after = [scope.get_current_value(variable) for variable in variables]
        changed = [i for i, value in enumerate(after) if value is not before[i]]
        assigned[:] = [variables[i] for i in changed]
        return outputs, [after[i] for i in changed]

    def run(*tensors):
        outputs, updates = pure([variable.value for variable in variables], *tensors)
        for variable, update in zip(assigned, updates, strict=True):
            variable.assign(update)
        return outputs

    return run
