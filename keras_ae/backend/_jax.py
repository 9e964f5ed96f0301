"""JAX: functions are pure, so that state goes in and comes out of each."""

import contextlib
import functools
import itertools
import operator
from typing import Any, NamedTuple

import jax
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from keras import ops

from keras_ae.backend import _jax_processes, _shared

LOOPS = True
TAKES_FEEDS = True
PROCESSES = _jax_processes


class _Parts(NamedTuple):
    """The devices that share a step.

    Attributes:
        mesh: The devices.
        axis: The axis of the mesh along which batches are cut.
        model_parallel: Keras' distribution, where weights are cut, too.
    """

    mesh: jax.sharding.Mesh
    axis: str = "batch"
    model_parallel: Any = None


# What `distribute` chose, and what the steps that are being made are shared by.
_chosen: _Parts | None = None
_parts: _Parts | None = None


def build_scope(model):
    return contextlib.nullcontext()


def seeded(seed):
    # Whatever is drawn has a key.
    return contextlib.nullcontext()


def replicas(model):
    return 1


def replicas_here():
    return 1


def distribute(devices):
    global _chosen
    if _jax_processes.are_several():
        mesh, names = _jax_processes.distribute(devices)
        _chosen = _Parts(mesh)
        return names
    found = jax.local_devices()
    chosen = _shared.chosen_devices(devices, [*map(str, found)])
    several = np.array([found[index] for index in chosen])
    # The first one alone computes all there is by itself.
    together = _Parts(jax.sharding.Mesh(several, ("batch",)))
    _chosen = None if chosen == [0] else together
    return [*map(str, several)]


@contextlib.contextmanager
def spread_batches():
    global _parts
    before, distribution = _parts, keras.distribution.distribution()
    parts = before or _chosen if distribution is None else _parts_of(distribution)
    if parts is None:
        yield
        return
    _parts = parts
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        _parts = before
        keras.distribution.set_distribution(distribution)


def _parts_of(distribution):
    """What Keras' distribution is, or None where Keras itself is to take care of it."""
    kinds = keras.distribution.DataParallel, keras.distribution.ModelParallel
    if type(distribution) not in kinds or jax.process_count() > 1:
        return None
    return _Parts(
        distribution.device_mesh.backend_mesh,
        distribution.batch_dim_name,
        distribution if type(distribution) is kinds[1] else None,
    )


def _spread(batch, parts):
    """Cuts a batch along its first axis, an equal part a device, where it can be."""

    def spread(part):
        if part.ndim == 0 or part.shape[0] % parts.mesh.shape[parts.axis]:
            return part
        layout = NamedSharding(parts.mesh, PartitionSpec(parts.axis))
        return jax.lax.with_sharding_constraint(part, layout)

    return jax.tree.map(spread, batch)


def common_size(size):
    return 1 << (size - 1).bit_length()


def is_traced(x):
    return isinstance(x, jax.core.Tracer)


def run_step(step, arguments, variables):
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


def loss_gradients(model, loss_fn, variables, optimizer, given):
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

    gradients, (others, updates) = jax.grad(pure_loss_fn, argnums=(0, 1), has_aux=True)(
        [variable.value for variable in variables], given
    )
    for variable, update in zip(state, updates, strict=True):
        variable.assign(update)
    return others, *gradients


def apply(optimizer, gradients, variables, condition, fused):
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


def gradient(function, x):
    return jax.grad(lambda x: function(x).sum())(x)


def take_rows(variable, rows):
    return ops.take(variable.value, rows, axis=0)


def assign_rows(variable, rows, values):
    variable.assign(variable.value.at[rows].set(values))


def compiled(function, variables):
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


def fuses_steps(model):
    return (
        bool(model.jit_compile)
        and not model.run_eagerly
        # Keras cuts the batches one by one.
        and keras.distribution.distribution() is None
        and not keras.config.is_nnx_enabled()
    )


def many_steps(model, step):
    compile_step = functools.partial(jax.jit, donate_argnums=0)
    together = None
    if _parts is not None:
        step = _on_all(step, _parts, model)
        if _parts.model_parallel is None:
            # What a step returns is whole on each device.
            whole = NamedSharding(_parts.mesh, PartitionSpec())
            compile_step = functools.partial(compile_step, out_shardings=whole)
        if _parts.mesh.is_multi_process:
            together = _jax_processes.Steps()
    single = compile_step(step)
    # By shapes: what a step costs, and whether a block is looped over.
    costs, loops = {}, {}

    def cost(state, batch):
        shapes = _shapes(batch)
        if shapes not in costs:
            costs[shapes] = _cost(single.lower(*map(_avals, (state, batch))))
        return costs[shapes]

    @compile_step
    def loop(state, block):
        logs, _ = jax.eval_shape(single, state, _batch(block, 0))
        logs = jax.tree.map(lambda log: jax.numpy.zeros(log.shape, log.dtype), logs)
        return jax.lax.fori_loop(
            0,
            block.count,
            lambda step, carried: single(carried[1], _batch(block, step)),
            (logs, state),
        )

    def take_one(state, batch):
        return single(state, together.spread(batch) if together else batch)

    def take(state, block):
        shapes = _shapes((block.data, block.rows))
        if shapes not in loops:
            several = len(jax.tree.leaves(block.parts)[0]) > 1
            loops[shapes] = several and cost(state, _batch(block, 0)).loops_well
        if loops[shapes]:
            return loop(state, together.spread_block(block) if together else block)
        for step in range(block.count):
            logs, state = take_one(state, _batch(block, step))
        return logs, state

    def take_all(state, blocks, batches):
        for block in blocks:
            logs, state = take(state, block)
        for batch in batches:
            logs, state = take_one(state, batch)
        return logs, state

    def run(state, iterator):
        first = next(iterator)
        blocks, batches = (), ()
        if isinstance(first, _shared.Execution):
            blocks = first.blocks
        else:
            steps = model.steps_per_execution
            batches = [first, *itertools.islice(iterator, steps - 1)]
            if steps > 1 and len({*map(_shapes, batches)}) == 1:
                blocks = [_shared.Block(len(batches), stacked(batches, steps))]
                batches = ()
        if together:
            return together.take(take_all, state, blocks, batches)
        return take_all(state, blocks, batches)

    run.cost = cost
    return run


def _on_all(step, parts, model):
    """A step that all devices take together, each with its part of the batch."""

    def on_all(state, batch):
        logs, state = step(state, _spread(batch, parts))
        if parts.model_parallel is None:
            return logs, state
        # Weights stay where they are.
        groups = _groups(model, learns=len(state) == 4)
        layouts = [
            [
                parts.model_parallel.get_variable_layout(variable).backend_layout
                for variable in group
            ]
            for group in groups
        ]
        return logs, jax.lax.with_sharding_constraint(state, tuple(layouts))

    return on_all


def _batch(block, step):
    """The batch of a step."""
    part = jax.tree.map(operator.itemgetter(step), block.parts)
    if block.rows is None:
        return part
    rows, key = part
    batch = jax.tree.map(lambda array: array[rows], block.data)
    if key is not None:
        grey, *others = batch
        batch = (_shared.black_and_white(grey, key, jax.numpy), *others)
    return batch


def _avals(values):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), values)


def _shapes(batch):
    return tuple((part.shape, part.dtype) for part in jax.tree.leaves(batch))


def step_cost(model, batch):
    model.make_train_function()
    groups = _groups(model, learns=True)
    state = tuple([variable.value for variable in group] for group in groups)
    return model.train_function.cost(state, batch)


def _groups(model, learns):
    """The variables of a step, as Keras has them in its state."""
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        *([model.optimizer.variables] if learns else []),
        model.metrics_variables,
    )


def _cost(lowered):
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    if jax.default_backend() != "cpu":
        seconds = _shared.SMALLEST_STEP + flops / _shared.ACCELERATOR_FLOPS
        return _shared.Cost(seconds, True)
    # On a CPU, XLA is twenty times slower at convolutions inside a loop than outside.
    convolves = "stablehlo.convolution" in lowered.as_text()
    seconds = _shared.SMALLEST_STEP + flops / _shared.CPU_FLOPS
    return _shared.Cost(seconds, not convolves)


def stacked(batches, steps):
    def stack(*parts):
        numpy = np if isinstance(parts[0], np.ndarray) else jax.numpy
        rest = [numpy.zeros_like(parts[0])] * (steps - len(parts))
        return numpy.stack([*parts, *rest])

    return jax.tree.map(stack, *batches)


def room_for_data():
    if jax.default_backend() == "cpu":
        return 0
    memory = jax.local_devices()[0].memory_stats() or {}
    return (memory.get("bytes_limit", 0) - memory.get("bytes_in_use", 0)) // 4


def to_device(array):
    # JAX doesn't know memory maps.
    is_numpy = isinstance(array, np.ndarray)
    return jax.device_put(array.view(np.ndarray) if is_numpy else array)


def reorders(model):
    return False


def shuffled(count):
    return np.random.permutation(count)


def softplus(x):
    # JAX's own looks for NaN and infinities too, and takes three times as long on a
    # CPU. At a tie, each side gets half of the gradient: at 0 the sum is 1/2, as it
    # must be. That of abs(x) would be 1.
    small = jax.numpy.exp(jax.numpy.minimum(x, -x))
    return jax.numpy.maximum(x, 0) + jax.numpy.log1p(small)
