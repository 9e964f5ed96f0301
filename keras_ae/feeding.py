"""How `fit` feeds a model: many steps in a dispatch, data that stay on the device."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

# The data adapters have no public name; `fit` takes one as `x`.
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_ae import autodiff
from keras_ae.datasets import Batches

# A dispatch can't be interrupted and shows no progress: it takes about so many seconds,
# steps and bytes of data at most.
SECONDS_A_DISPATCH = 0.1
STEPS_A_DISPATCH = 128
BYTES_A_DISPATCH = 2**26

BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)


class Feeding(NamedTuple):
    """What `fit` has decided.

    Attributes:
        steps_per_execution: Steps in one dispatch, and between calls of the callbacks'
            `on_train_batch_end`.
        data: Where the batches come from: `"device"`, where all data lie,
            `"memory"`, or `"stream"`, from a data set.
    """

    steps_per_execution: int
    data: str


class Arrays:
    """Arrays to be cut into batches, in the order in which Keras would.

    Args:
        arrays: Structure of arrays `(n, ...)`.
        batch_size: Examples in a batch; the last one may be smaller.
        shuffle: Whether each epoch has an order of its own.
    """

    def __init__(self, arrays: tuple, batch_size: int, shuffle: bool):
        self.arrays = arrays
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        return -(-len(self.arrays[0]) // self.batch_size)

    def epoch_rows(self) -> Iterator[np.ndarray]:
        """Yields the rows of each batch of an epoch."""
        count = len(self.arrays[0])
        order = np.random.permutation(count) if self.shuffle else np.arange(count)
        for start in range(0, count, self.batch_size):
            yield order[start : start + self.batch_size]

    def on_epoch_begin(self):
        pass

    def on_epoch_end(self):
        pass


class Feed(DataAdapter):
    """Gives Keras' JAX trainer the steps of a dispatch at once.

    Args:
        source: `Arrays` or `Batches`.
        steps: Steps in a dispatch.
        on_device: Whether the arrays are moved to the device, and batches gathered
            there; otherwise they are in memory.
    """

    def __init__(self, source: Arrays | Batches, steps: int, on_device: bool):
        self.source = source
        self.steps = steps
        self.on_device = on_device
        arrays = tuple(source.arrays)
        self.arrays = tuple(map(autodiff.to_device, arrays)) if on_device else arrays

    @property
    def num_batches(self):
        return len(self.source)

    @property
    def batch_size(self):
        return self.source.batch_size

    def get_jax_iterator(self):
        batches = self.source.epoch_rows()
        while rows := list(itertools.islice(batches, self.steps)):
            # Only the last batch of an epoch may be smaller.
            alike = itertools.groupby(rows, len)
            yield autodiff.Execution(
                tuple(self._block(np.stack([*group])) for _, group in alike)
            )

    def _block(self, rows):
        if self.on_device:
            return autodiff.Block(self.arrays, rows.astype("int32"))
        return autodiff.Block(tuple(array[rows] for array in self.arrays))

    def on_epoch_begin(self):
        self.source.on_epoch_begin()

    def on_epoch_end(self):
        self.source.on_epoch_end()


def prepare(model: keras.Model, arguments: dict[str, Any]) -> tuple[dict, Feeding]:
    """Decides how a `fit` is fed.

    Args:
        model: The model, built and compiled.
        arguments: Those of `keras.Model.fit`.

    Returns:
        The arguments, with what Keras is to read instead of arrays; and the decision.
    """
    choice = model.steps_choice
    told = 1 if choice == "auto" else choice
    kind = "memory" if hasattr(arguments["x"], "shape") else "stream"
    if not autodiff.fuses_steps(model):
        return arguments, Feeding(told, kind)
    arguments = _split(arguments)
    training = _training_source(arguments)
    validation = _validation_source(arguments) if model.encoder is not None else None
    room = autodiff.room_for_data()
    sources = [source for source in (training, validation) if source is not None]
    on_device = 0 < sum(map(_bytes, sources)) <= room
    steps = told if choice != "auto" else _steps(model, arguments, training)
    if on_device and training is not None:
        kind = "device"
    feeds = {"x": training, "validation_data": validation}
    for name, source in feeds.items():
        mapped = isinstance(source, Batches) and isinstance(source.images, np.memmap)
        if source is not None and (on_device or (steps > 1 and not mapped)):
            arguments[name] = Feed(source, steps, on_device)
            if name == "x":
                arguments.update(y=None, sample_weight=None, shuffle=False)
    return arguments, Feeding(steps, kind)


def _split(arguments):
    """Takes validation data from the end of arrays, as Keras does."""
    share = arguments.get("validation_split")
    parts = [arguments.get(name) for name in ("x", "y", "sample_weight")]
    if not share or arguments.get("validation_data") is not None:
        return arguments
    if not all(part is None or _is_array(part) for part in parts):
        return arguments
    kept = int(len(parts[0]) * (1.0 - share))
    if not 0 < kept < len(parts[0]):
        return arguments
    x, y, weight = (None if part is None else part[:kept] for part in parts)
    held_back = tuple(None if part is None else part[kept:] for part in parts)
    split = {"validation_split": 0.0, "validation_data": held_back}
    return {**arguments, "x": x, "y": y, "sample_weight": weight, **split}


def _training_source(arguments):
    """What the training data are cut from, or None where only Keras knows."""
    shuffle = arguments.get("shuffle", True)
    if shuffle not in (True, False) or _steps_wanted(arguments):
        return None
    if arguments.get("class_weight") is not None:
        return None
    parts = [arguments.get(name) for name in ("x", "y", "sample_weight")]
    return _source(*parts, arguments.get("batch_size"), shuffle)


def _validation_source(arguments):
    data = arguments.get("validation_data")
    if data is None or arguments.get("validation_steps"):
        return None
    parts = keras.utils.unpack_x_y_sample_weight(data)
    batch_size = arguments.get("validation_batch_size") or arguments.get("batch_size")
    return _source(*parts, batch_size, shuffle=False)


def _source(x, y, weight, batch_size, shuffle):
    if type(x) is Batches:
        return None if x.binarize or shuffle else x
    parts = [part for part in (x, y, weight) if part is not None]
    # A weight without labels: see `inputs.labels_beside_weights`.
    if not all(map(_is_array, parts)) or (y is None and weight is not None):
        return None
    if len({len(part) for part in parts}) > 1:
        return None
    return Arrays(tuple(parts), batch_size or 32, shuffle)


def _is_array(part):
    return isinstance(part, np.ndarray) and part.dtype.kind in "biuf"


def _bytes(source):
    return sum(array.nbytes for array in source.arrays)


def _steps_wanted(arguments):
    return arguments.get("steps_per_epoch") or keras.config.max_steps_per_epoch()


def _steps(model, arguments, source):
    """Steps in a dispatch, which the results do not depend on."""
    callbacks = arguments.get("callbacks")
    callbacks = getattr(callbacks, "callbacks", callbacks)
    if any(map(_needs_each_batch, keras.tree.flatten(callbacks or []))):
        return 1
    x, wanted = arguments["x"], _steps_wanted(arguments)
    if source is not None:
        batch = tuple(array[: source.batch_size] for array in source.arrays)
        steps = len(source.arrays[0]) // source.batch_size
    elif isinstance(x, keras.utils.PyDataset) and (wanted or x.num_batches):
        batch = x[0]
        steps = wanted or x.num_batches
    else:
        return 1
    size = sum(part.nbytes for part in keras.tree.flatten(batch) if part is not None)
    limit = min(
        STEPS_A_DISPATCH,
        BYTES_A_DISPATCH // max(size, 1),
        steps,
    )
    if limit > 1:
        limit = min(
            limit, int(SECONDS_A_DISPATCH / autodiff.step_seconds(model, batch))
        )
    if limit <= 1:
        return 1
    if wanted:
        # No step more than is wanted.
        return max(k for k in range(1, limit + 1) if wanted % k == 0)
    # What is left over is another shape to compile.
    return min(range(limit // 2 + 1, limit + 1), key=lambda k: (steps % k, -k))


def _needs_each_batch(callback):
    """Whether a callback does something at each batch."""
    frequency = getattr(callback, "save_freq", getattr(callback, "update_freq", None))
    if frequency == "epoch" or not getattr(callback, "needs_each_batch", True):
        return False
    if isinstance(callback, keras.callbacks.ProgbarLogger):
        return False
    return any(
        getattr(getattr(callback, name), "__func__", None)
        is not getattr(keras.callbacks.Callback, name)
        for name in BATCH_HOOKS
    )
