"""TensorFlow: state is assigned in place, steps are looped over inside a graph."""

import contextlib
import functools
import itertools
import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tensorflow.python.eager import context

from keras_ae.backend import _shared, _tensorflow_devices, keras_private

LOOPS = True
TAKES_FEEDS = False
PROCESSES = None


@contextlib.contextmanager
def build_scope(model):
    with model.distribute_strategy.scope(), contextlib.ExitStack() as stack:
        if _tensorflow_devices.mirrored(model) is None and _tensorflow_devices.chosen:
            stack.enter_context(tf.device(_tensorflow_devices.chosen[0]))
        yield


def distribute(devices):
    found = _tensorflow_devices.found()
    chosen = _shared.chosen_devices(devices, found)
    _tensorflow_devices.chosen = tuple(found[index] for index in chosen)
    return [*_tensorflow_devices.chosen]


@contextlib.contextmanager
def seeded(seed):
    # TensorFlow tells its seed, and how far draws have come, by no public name.
    state = context.context()
    before = state._seed, state._rng
    tf.random.set_seed(seed)
    try:
        yield
    finally:
        state._seed, state._rng = before


def replicas(model):
    return model.distribute_strategy.num_replicas_in_sync


def spread_batches():
    return contextlib.nullcontext()


def replicas_here():
    if tf.distribute.in_cross_replica_context():
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def common_size(size):
    return size


def is_traced(x):
    return tf.is_symbolic_tensor(x) if isinstance(x, tf.Tensor) else False


def run_step(step, arguments, variables):
    (data,) = arguments
    return step(data)


def loss_gradients(model, loss_fn, variables, optimizer, given):
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss, others = loss_fn(*given)
        # tf.distribute sums the gradients of its replicas.
        loss = optimizer.scale_loss(loss / replicas_here())
    values = [variable.value for variable in variables]
    return others, *_tensorflow_devices.gradients(tape, loss, (values, given))


def apply(optimizer, gradients, variables, condition, fused):
    if condition is not None and replicas_here() > 1:
        raise ValueError(
            "A player that sits out steps can't be trained by tf.distribute. Received: "
            f"{replicas_here()} replicas; train on one device, or let all players take "
            "every step."
        )
    touched = [*variables, *optimizer.variables]
    # What scales the loss leaves the update to another.
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    update = contextlib.nullcontext()
    if fused and _shared.is_adam(inner):
        update = _shared.replaced(inner, "update_step", _adam(inner))
    update_all = optimizer.apply
    if tf.distribute.in_cross_replica_context():
        update_all = functools.partial(_tensorflow_devices.apply_outside, optimizer)
    with _shared.kept_unless(condition, touched), update:
        update_all(gradients, variables)


def _adam(optimizer):
    """Keras' `update_step` of a variable, in one operation."""
    step = ops.cast(optimizer.iterations + 1, "float32")
    power_1, power_2 = optimizer.beta_1**step, optimizer.beta_2**step

    def update_step(gradient, variable, learning_rate):
        if isinstance(gradient, tf.IndexedSlices) or variable.dtype != "float32":
            type(optimizer).update_step(optimizer, gradient, variable, learning_rate)
            return
        (momentum,), (velocity,) = keras_private.moments(optimizer, [variable])
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=tf.cast(learning_rate, "float32"),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=tf.cast(gradient, "float32"),
        )

    return update_step


def gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return _tensorflow_devices.gradients(tape, total, x)


def take_rows(variable, rows):
    if isinstance(variable.value, tf.Variable):
        # A read of all of it would be copied at the next assignment to some.
        return variable.value.sparse_read(rows)
    return ops.take(variable.value, rows, axis=0)


def assign_rows(variable, rows, values):
    variable.value.scatter_update(tf.IndexedSlices(values, rows))


def compiled(function, variables):
    return tf.function(function, reduce_retracing=True, autograph=False)


def fuses_steps(model):
    return reorders(model) and not model.run_eagerly


def reorders(model):
    strategy = model.distribute_strategy
    # Keras' own loop knows the other strategies of tf.distribute.
    alone = strategy is tf.distribute.get_strategy() and not (
        tf.distribute.has_strategy()
    )
    return alone or _tensorflow_devices.mirrored(model) is not None


def many_steps(model, step):
    compiles = model.jit_compile
    if _tensorflow_devices.of(model):
        # XLA compiles for one device.
        step, compiles = _tensorflow_devices.spread(model, step), False
    step = tf.function(
        step, reduce_retracing=True, jit_compile=compiles, autograph=False
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
        logs = step(next(iterator))
        for batch in itertools.islice(iterator, steps - 1):
            logs = step(batch)
        return logs

    return run


def step_cost(model, batch):
    # Nothing is traced: a convolution counts as if it met each pixel, at most.
    shape = keras.tree.flatten(batch)[0].shape
    pixels = math.prod(shape[1:3])
    products = sum(
        math.prod(weight.shape) * (pixels if len(weight.shape) > 2 else 1)
        for weight in model.trainable_variables
    )
    # Forward, and backward for inputs and weights: a product and a sum each.
    flops = 6 * shape[0] * products
    on_gpu = tf.config.list_logical_devices("GPU")
    speed = _shared.ACCELERATOR_FLOPS if on_gpu else _shared.CPU_FLOPS
    return _shared.Cost(_shared.SMALLEST_STEP + flops / speed, True)


def reshuffled(arrays, batch_size):
    count = len(arrays[0])
    whole = count // batch_size * batch_size
    seed = np.random.randint(2**31)
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)

    def order(seed):
        rows = tf.range(count, dtype="int64")
        return tf.random.experimental.stateless_shuffle(rows, tf.stack([seed, 0]))

    def rows_of_batches(rows):
        batches = tf.reshape(rows[:whole], (-1, batch_size))
        dataset = tf.data.Dataset.from_tensor_slices(batches)
        if whole == count:
            return dataset
        return dataset.concatenate(tf.data.Dataset.from_tensors(rows[whole:]))

    def gathered(rows, parts):
        return tuple(tf.gather(part, rows, axis=0) for part in parts)

    rows = seeds.map(order).flat_map(rows_of_batches)
    parts = tf.data.Dataset.from_tensors(tuple(map(_in_floatx, arrays))).repeat()
    dataset = tf.data.Dataset.zip(rows, parts).map(gathered, tf.data.AUTOTUNE)
    options = tf.data.Options()
    # What they would gain is less than what they take, as Keras found.
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def _in_floatx(array):
    array = tf.convert_to_tensor(array)
    return tf.cast(array, keras.config.floatx()) if array.dtype.is_floating else array


def untuned(dataset):
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def room_for_data():
    return 0


def shuffled(count):
    return np.random.permutation(count)


def normalized(x, scale, shift, epsilon):
    if scale.dtype != "float32":
        return None
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=shift, mean=[], variance=[], epsilon=epsilon
    )
    # It is corrected for the mean, which Keras' is not.
    count = tf.cast(tf.size(x, tf.int64) // x.shape[-1], "float32")
    return y, mean, variance * (count - 1) / count


def convolved_to_one(x, kernel):
    if x.dtype != "float32" or tf.config.list_logical_devices("GPU"):
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
