"""The only file that knows which backend runs.

Everything else in keras-ae is written in `keras.ops`. What differs between
TensorFlow, JAX and PyTorch is how a gradient is taken, who owns the state during a
training step, and how a function is compiled: that is here, once.
"""

import contextlib
import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
    from torch.optim.adam import adam

    from keras_ae import recording
else:
    raise ImportError(
        "keras-ae trains on the Keras backends 'tensorflow', 'jax' and 'torch'. "
        f"Received: KERAS_BACKEND='{BACKEND}'"
    )


# Of a model's steps, roughly and rather too low: what `step_cost` goes by.
CPU_FLOPS = 1e11
ACCELERATOR_FLOPS = 5e12
SMALLEST_STEP = 2e-5  # seconds


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


class Block(NamedTuple):
    """What the steps of one dispatch are given, in the structure of a batch.

    Attributes:
        count: How many steps there are. What is cut may hold more of them, zeros, so
            that all blocks have one shape.
        data: Batches `(steps, batch, ...)`, or with `rows` whole arrays `(n, ...)` on
            the device.
        rows: None, or which rows of `data` are in each batch: int32 `(steps, batch)`.
    """

    count: int
    data: Any
    rows: Any = None

    @property
    def parts(self):
        """What is cut along its first axis, a part a step."""
        return self.data if self.rows is None else self.rows

    def batch(self, step):
        """Returns the batch of a step."""
        part = jax.tree.map(operator.itemgetter(step), self.parts)
        if self.rows is None:
            return part
        return jax.tree.map(lambda array: array[part], self.data)


def records_steps(model: keras.Model) -> bool:
    """Whether `recorded` can run the steps of `model`."""
    return (
        BACKEND == "torch"
        and not model.jit_compile
        and not model.run_eagerly
        and model.steps_per_execution == 1
        and keras.distribution.distribution() is None
    )


def recorded(model: keras.Model, step: Callable) -> Callable:
    """Returns the function that Keras' PyTorch trainer trains or tests with.

    Keras' own goes through all layers, metrics and the optimizer at each step. Here
    that is recorded once, and only the kernels are called from then on.

    Args:
        model: The model.
        step: `model.train_step` or `model.test_step`.

    Returns:
        Function of a list of one batch that returns the logs; its `steps` are the
        `recording.Recorded`.
    """
    learns = step == model.train_step

    def run(batch):
        with torch.set_grad_enabled(learns):
            return step(batch)

    def variables():
        found = (*model.variables, *model.metrics_variables)
        found += tuple(model.optimizer.variables) if learns else ()
        return list({id(variable): variable for variable in found}.values())

    def take(batches):
        return take.steps(*batches)

    take.steps = recording.Recorded(run, variables)
    return take


class Cost(NamedTuple):
    """What a step costs: about how many seconds, and whether a loop of steps pays."""

    seconds: float
    loops_well: bool


class Execution(NamedTuple):
    """The steps between two calls of Keras' callbacks."""

    blocks: tuple[Block, ...]


def fuses_steps(model: keras.Model) -> bool:
    """Whether `many_steps` can run several steps of `model` in one dispatch."""
    if BACKEND == "tensorflow":
        strategy = model.distribute_strategy
        # Keras' own loop knows tf.distribute.
        alone = strategy is tf.distribute.get_strategy() and not (
            tf.distribute.has_strategy()
        )
        return alone and not model.run_eagerly
    return (
        BACKEND == "jax"
        and bool(model.jit_compile)
        and not model.run_eagerly
        # Keras shards the batches one by one.
        and keras.distribution.distribution() is None
        and not keras.config.is_nnx_enabled()
    )


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
    if BACKEND == "tensorflow":
        return _looped(model, step)
    single = jax.jit(step, donate_argnums=0)
    # By shapes: what a step costs, and whether a block is looped over.
    costs, loops = {}, {}

    def cost(state, batch):
        shapes = _shapes(batch)
        if shapes not in costs:
            costs[shapes] = _cost(single.lower(state, batch))
        return costs[shapes]

    @functools.partial(jax.jit, donate_argnums=0)
    def loop(state, block):
        logs, _ = jax.eval_shape(single, state, block.batch(0))
        logs = jax.tree.map(lambda log: jax.numpy.zeros(log.shape, log.dtype), logs)
        return jax.lax.fori_loop(
            0,
            block.count,
            lambda step, carried: single(carried[1], block.batch(step)),
            (logs, state),
        )

    def take(state, block):
        shapes = _shapes((block.data, block.rows))
        if shapes not in loops:
            several = len(jax.tree.leaves(block.parts)[0]) > 1
            loops[shapes] = several and cost(state, block.batch(0)).loops_well
        if loops[shapes]:
            return loop(state, block)
        for step in range(block.count):
            logs, state = single(state, block.batch(step))
        return logs, state

    def run(state, iterator):
        first = next(iterator)
        if isinstance(first, Execution):
            for block in first.blocks:
                logs, state = take(state, block)
            return logs, state
        steps = model.steps_per_execution
        batches = [first, *itertools.islice(iterator, steps - 1)]
        if steps > 1 and len({*map(_shapes, batches)}) == 1:
            return take(state, Block(len(batches), stacked(batches, steps)))
        for batch in batches:
            logs, state = single(state, batch)
        return logs, state

    run.cost = cost
    return run


def _looped(model, step):
    """`many_steps` of TensorFlow."""
    step = tf.function(
        step, reduce_retracing=True, jit_compile=model.jit_compile, autograph=False
    )

    @tf.function(reduce_retracing=True, autograph=False)
    def several(iterator, steps):
        def following(left, batch):
            return tf.cond(left > 1, iterator.get_next_as_optional, lambda: batch)

        def goes_on(left, batch, after):
            return (left > 1) & after.has_value()

        def take(left, batch, after):
            step(batch.get_value())
            return left - 1, after, following(left - 1, after)

        # Data that have come to their end say so here.
        batch = tf.experimental.Optional.from_value(iterator.get_next())
        state = steps, batch, following(steps, batch)
        _, batch, _ = tf.while_loop(goes_on, take, state)
        return step(batch.get_value())

    def run(iterator):
        steps = model.steps_per_execution
        if isinstance(iterator, tf.data.Iterator):
            return several(iterator, tf.constant(steps))
        for batch in itertools.islice(iterator, steps):
            logs = step(batch)
        return logs

    return run


def step_cost(model: keras.Model, batch: Any) -> Cost:
    """Returns what a step of training costs.

    Args:
        model: The model, built and compiled, that `fuses_steps`.
        batch: A batch, of which the shapes count.
    """
    if BACKEND == "tensorflow":
        return _cost_by_weights(model, keras.tree.flatten(batch)[0].shape)
    model.make_train_function()
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in groups)
    return model.train_function.cost(state, batch)


def _has_gpu():
    return bool(tf.config.list_logical_devices("GPU"))


def _cost_by_weights(model, shape):
    """Nothing is traced: a convolution counts as if it met each pixel, at most."""
    pixels = math.prod(shape[1:3])
    products = sum(
        math.prod(weight.shape) * (pixels if len(weight.shape) > 2 else 1)
        for weight in model.trainable_variables
    )
    # Forward, and backward for inputs and weights: a product and a sum each.
    flops = 6 * shape[0] * products
    speed = ACCELERATOR_FLOPS if _has_gpu() else CPU_FLOPS
    return Cost(SMALLEST_STEP + flops / speed, True)


def _cost(lowered):
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    if jax.default_backend() != "cpu":
        return Cost(SMALLEST_STEP + flops / ACCELERATOR_FLOPS, True)
    # On a CPU, XLA is twenty times slower at convolutions inside a loop than outside.
    convolves = "stablehlo.convolution" in lowered.as_text()
    return Cost(SMALLEST_STEP + flops / CPU_FLOPS, not convolves)


def takes_feeds() -> bool:
    """Whether Keras' trainer takes batches as they come, not a `tf.data.Dataset`."""
    return BACKEND != "tensorflow"


def untuned(dataset):
    """Returns a `tf.data.Dataset` that does not tune itself."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def room_for_data() -> int:
    """Returns how many bytes of data may lie on the accelerator; 0 without one."""
    if BACKEND == "torch" and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] // 4
    if BACKEND != "jax" or jax.default_backend() == "cpu":
        return 0
    memory = jax.local_devices()[0].memory_stats() or {}
    return (memory.get("bytes_limit", 0) - memory.get("bytes_in_use", 0)) // 4


def to_device(array: Any):
    """Returns a copy of an array where the computing is; a tensor as it is."""
    if BACKEND == "torch":
        return array if ops.is_tensor(array) else ops.convert_to_tensor(array)
    # JAX doesn't know memory maps.
    is_numpy = isinstance(array, np.ndarray)
    return jax.device_put(array.view(np.ndarray) if is_numpy else array)


def start_epoch() -> None:
    """Draws the random number that PyTorch draws whenever a loader starts."""
    torch.empty((), dtype=torch.int64).random_()


def shuffled(count: int) -> np.ndarray:
    """Returns the rows of an epoch in the order in which Keras would draw them."""
    if BACKEND == "torch":
        return np.array([*torch.utils.data.RandomSampler(range(count))])
    return np.random.permutation(count)


def _shapes(batch):
    return tuple((part.shape, part.dtype) for part in jax.tree.leaves(batch))


def stacked(batches: Sequence[Any], steps: int):
    """Returns batches of equal shapes as one `(steps, batch, ...)`, the rest zeros."""

    def stack(*parts):
        numpy = np if isinstance(parts[0], np.ndarray) else jax.numpy
        rest = [numpy.zeros_like(parts[0])] * (steps - len(parts))
        return numpy.stack([*parts, *rest])

    return jax.tree.map(stack, *batches)


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


def softplus(x):
    """Returns log(1 + exp(x)), of the shape of x.

    JAX's own looks for NaN and infinities too, and takes three times as long on a CPU.
    """
    if BACKEND != "jax":
        return ops.softplus(x)
    # At a tie, each side gets half of the gradient: at 0 the sum is 1/2, as it must be.
    # That of abs(x) would be 1.
    small = jax.numpy.exp(jax.numpy.minimum(x, -x))
    return jax.numpy.maximum(x, 0) + jax.numpy.log1p(small)


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
    if BACKEND != "tensorflow" or scale.dtype != "float32":
        return None
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=shift, mean=[], variance=[], epsilon=epsilon
    )
    # It is corrected for the mean, which Keras' is not.
    count = tf.cast(tf.size(x, tf.int64) // x.shape[-1], "float32")
    return y, mean, variance * (count - 1) / count


def convolved_to_one(x, kernel):
    """Convolves pictures with one filter, padded to their size, or returns None.

    Args:
        x: Tensor `(batch, height, width, channels)`.
        kernel: Tensor `(rows, columns, channels, 1)`.

    Returns:
        Tensor `(batch, height, width, 1)`; None where the backend's own is faster.
    """
    if BACKEND != "tensorflow" or _has_gpu() or x.dtype != "float32":
        return None
    if None in x.shape[1:]:
        return None
    return tf.custom_gradient(_convolution_to_one)(x, tf.convert_to_tensor(kernel))


def _convolution_to_one(x, kernel):
    """The convolution, and the function of its gradients."""
    # oneDNN computes filters by the dozen. Here all pixels are multiplied with all
    # places of the kernel at once, and the products shifted and added.
    _, height, width, channels = x.shape
    rows, columns = kernel.shape[:2]
    places = [(i, j) for i in range(rows) for j in range(columns)]
    before = ((rows - 1) // 2, (columns - 1) // 2)
    after = (rows // 2, columns // 2)
    pixels = tf.reshape(x, (-1, channels))

    def padded(maps, before, after):
        edges = [(0, 0)] * (maps.shape.rank - 2)
        return tf.pad(maps, [*edges, *zip(before, after, strict=True)])

    def window(maps, i, j):
        return maps[..., i : i + height, j : j + width]

    products = tf.matmul(tf.reshape(kernel, (-1, channels)), pixels, transpose_b=True)
    products = tf.reshape(products, (rows * columns, -1, height, width))
    products = padded(products, before, after)
    y = tf.add_n([window(products[k], *place) for k, place in enumerate(places)])

    def gradient(upstream):
        slope = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x),
            filter=kernel,
            out_backprop=upstream,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        maps = padded(upstream[..., 0], after, before)
        maps = [window(maps, rows - 1 - i, columns - 1 - j) for i, j in places]
        of_kernel = tf.matmul(tf.reshape(tf.stack(maps), (len(places), -1)), pixels)
        return slope, tf.reshape(of_kernel, kernel.shape)

    return y[..., None], gradient


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
