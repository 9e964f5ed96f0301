"""TensorFlow on several devices: networks are spread, all else is computed whole.

In a step, each network that is a functional or `Sequential` Keras model computes a part
of the batch on each device. What looks across the batch (noise, losses, codebooks,
figures, updates) is computed on the first device, where the weights are: it is what it
is on one device. A layer in a network that is not known to see each example by itself
is given the whole batch there (`_networks`).
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_ae.backend import _networks, _shared, keras_private

# The devices that `distribute` chose.
chosen: tuple[str, ...] = ()
# Whether the step that is being traced is spread.
_spreading = False


class _Parts:
    """A tensor that is cut along its first axis, a part on each device.

    Args:
        parts: The parts, of a row each at least.
        size: How many rows there are; what follows in the last parts fills them up.
    """

    def __init__(self, parts: Sequence[tf.Tensor], size: int | tf.Tensor):
        self.parts = parts
        self.size = size

    def whole(self) -> tf.Tensor:
        """Returns the tensor in one piece."""
        return tf.concat(self.parts, 0)[: self.size]


def found() -> list[str]:
    """Returns the names of the accelerators, or of the CPUs where there is none."""
    kinds = ("GPU", "CPU")
    by_kind = [tf.config.list_logical_devices(kind) for kind in kinds]
    return [device.name for device in next(filter(None, by_kind))]


def mirrored(model: keras.Model) -> tf.distribute.MirroredStrategy | None:
    """Returns the strategy of several devices that `model` was made in, if any."""
    strategy = model.distribute_strategy
    is_it = type(strategy) is tf.distribute.MirroredStrategy
    return strategy if is_it and strategy.num_replicas_in_sync > 1 else None


def of(model: keras.Model) -> tuple[str, ...]:
    """Returns the devices that `model` trains on; none where nobody has chosen any."""
    strategy = mirrored(model)
    if strategy is not None:
        return tuple(strategy.extended.worker_devices)
    return () if chosen == (found()[0],) else chosen


def spread(model: keras.Model, step: Callable) -> Callable:
    """Returns a step in which the networks of `model` compute on all its devices.

    Args:
        model: The model.
        step: Function of a batch, to be traced.
    """
    devices, strategy = of(model), mirrored(model)

    def spread_step(data):
        global _spreading
        with contextlib.ExitStack() as stack:
            if strategy is not None:
                # Outside of its replicas: all of them have the same weights.
                stack.enter_context(strategy.scope())
            stack.enter_context(tf.device(devices[0]))
            for layer in keras_private.layers(model) if len(devices) > 1 else ():
                start = functools.partial(_Run, layer, devices)
                stack.enter_context(_networks.replaced_call(layer, start))
            _spreading = True
            try:
                return step(keras.tree.map_structure(_joined, data))
            finally:
                _spreading = False

    return spread_step


def _joined(batch):
    """A batch that a strategy has cut for its replicas, in one piece."""
    if isinstance(batch, tf.distribute.DistributedValues):
        return tf.concat(_copies(batch), 0)
    return batch


def _copies(value):
    """What a strategy has of a value: one on each device."""
    is_one_each = isinstance(value, tf.distribute.DistributedValues)
    return value.values if is_one_each else (value,)


def gradients(tape: tf.GradientTape, target, sources):
    """Returns gradients of what `tape` has seen, each part's on the part's device."""
    if not _spreading:
        return tape.gradient(target, sources)
    copies = [_copies(source) for source in tf.nest.flatten(sources)]
    # A tape's would all be computed on the first device.
    slopes = iter(
        tf.compat.v1.gradients(
            target,
            [*itertools.chain.from_iterable(copies)],
            colocate_gradients_with_ops=True,
        )
    )
    sums = [_sum([next(slopes) for _ in each]) for each in copies]
    return tf.nest.pack_sequence_as(sources, sums)


def _sum(slopes):
    slopes = [slope for slope in slopes if slope is not None]
    return tf.add_n(slopes) if len(slopes) > 1 else next(iter(slopes), None)


def apply_outside(optimizer, gradients, variables) -> None:
    """Updates the variables of all replicas of a strategy, outside of the replicas.

    Args:
        optimizer: The optimizer.
        gradients: A gradient a variable, or None, of the whole batch.
        variables: The variables to update.
    """
    # Keras' optimizers would wait for each other, once a replica.
    extended = tf.distribute.get_strategy().extended
    with _shared.replaced(extended, "_use_merge_call", lambda: False):
        keras_private.apply_anywhere(optimizer, gradients, variables)


class _Run(_networks.Run):
    """One call of a network on all devices.

    Args:
        network: The network, whose weights are copied to the other devices.
        devices: Names of devices.
        inputs: What the network is given.
    """

    kind = _Parts

    def __init__(self, network: keras.Layer, devices: Sequence[str], inputs: Any):
        self.devices = devices
        first = keras.tree.flatten(inputs)[0]
        self.known_size = first.shape[0]
        self.size = self.known_size or tf.shape(first)[0]
        most, least = (max, min) if self.known_size else (tf.maximum, tf.minimum)
        # TensorFlow's convolutions fail at a part of no row.
        rows = most(self.size, len(devices))
        self.missing = rows - self.size
        self.sizes = [(rows + index) // len(devices) for index in range(len(devices))]
        # How many rows of each part are of the batch, and do not fill it up.
        self.true_sizes = [
            most(0, least(size, self.size - sum(self.sizes[:index])))
            for index, size in enumerate(self.sizes)
        ]
        self.copies: list[dict[int, tuple]] = [{}]
        for device in devices[1:]:
            with tf.device(device), keras_private.no_autocast():
                self.copies.append(
                    {
                        id(variable): (variable, tf.identity(variable.value))
                        for variable in network.variables
                    }
                )

    def call(self, network, inputs, training):
        with tf.device(self.devices[0]):
            return super().call(network, inputs, training)

    def has_rows(self, value):
        is_tensor = isinstance(value, tf.Tensor | tf.Variable)
        return not is_tensor or value.shape[:1] == [self.known_size]

    def on_each(self, operation, call, args, kwargs):
        args, kwargs = keras.tree.map_structure(self.cut, (args, kwargs))
        results = []
        for index in range(len(self.devices)):
            part = functools.partial(_part, index)
            given, options = keras.tree.map_structure(part, (args, kwargs))
            with self._on_device(index, operation):
                results.append(call(*given, **options))
        flat = zip(*map(keras.tree.flatten, results), strict=True)
        parts = [_Parts(each, self.size) for each in flat]
        return keras.tree.pack_sequence_as(results[0], parts)

    def moments(self, x, axis):
        axes = [*range(x.parts[0].shape.rank)]
        del axes[axis]
        shape = [1] * len(x.parts[0].shape)
        shape[axis] = -1
        dtype = keras.backend.result_type(x.parts[0].dtype.name, "float32")
        values = tf.size(x.parts[0]) // (self.sizes[0] * x.parts[0].shape[axis])
        count = tf.cast(self.size * values, dtype)

        def mean(function):
            sums = []
            for index, part in enumerate(x.parts):
                with tf.device(self.devices[index]):
                    rows = tf.cast(part[: self.true_sizes[index]], dtype)
                    sums.append(tf.reduce_sum(function(rows), axes))
            return tf.add_n(sums) / count

        center = mean(tf.identity)
        variance = mean(lambda rows: tf.square(rows - tf.reshape(center, shape)))
        return center, variance

    def cut(self, value):
        if not isinstance(value, tf.Tensor | tf.Variable):
            return value
        if not (self.known_size and self.missing == 0):
            last = tf.repeat(value[-1:], self.missing, axis=0)
            value = tf.concat([value, last], 0)
        return _Parts(tf.split(value, self.sizes, num=len(self.devices)), self.size)

    @contextlib.contextmanager
    def _on_device(self, index, operation):
        """A block on a device, with the weights that are there."""
        with tf.device(self.devices[index]):
            if index == 0:
                yield
                return
            # What is assigned to them, the first part has assigned to the variables.
            copies = self.copies[index]
            variables = getattr(operation, "variables", [])
            with keras.StatelessScope([copies[id(variable)] for variable in variables]):
                yield


def _part(index, value):
    return value.parts[index] if isinstance(value, _Parts) else value
