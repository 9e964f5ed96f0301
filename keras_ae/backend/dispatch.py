"""How a backend runs a training step again and again: looped over, or recorded."""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ae.backend.autodiff import BACKEND

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
else:
    import torch

    from keras_ae.backend import recording

# Of a model's steps, roughly and rather too low: what `step_cost` goes by.
CPU_FLOPS = 1e11
ACCELERATOR_FLOPS = 5e12
SMALLEST_STEP = 2e-5  # seconds


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


def _cost_by_weights(model, shape):
    """Nothing is traced: a convolution counts as if it met each pixel, at most."""
    pixels = math.prod(shape[1:3])
    products = sum(
        math.prod(weight.shape) * (pixels if len(weight.shape) > 2 else 1)
        for weight in model.trainable_variables
    )
    # Forward, and backward for inputs and weights: a product and a sum each.
    flops = 6 * shape[0] * products
    speed = ACCELERATOR_FLOPS if tf.config.list_logical_devices("GPU") else CPU_FLOPS
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


def stacked(batches: Sequence[Any], steps: int):
    """Returns batches of equal shapes as one `(steps, batch, ...)`, the rest zeros."""

    def stack(*parts):
        numpy = np if isinstance(parts[0], np.ndarray) else jax.numpy
        rest = [numpy.zeros_like(parts[0])] * (steps - len(parts))
        return numpy.stack([*parts, *rest])

    return jax.tree.map(stack, *batches)


def _shapes(batch):
    return tuple((part.shape, part.dtype) for part in jax.tree.leaves(batch))
