"""How `fit` feeds a model: many steps in a dispatch, data that stay on the device."""

import itertools
import operator
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.backend import keras_private
from keras_ae.backend.keras_private import DataAdapter, get_data_adapter
from keras_ae.datasets import Batches, LazyImages
from keras_ae.training.arguments import weights_of_classes

# A dispatch can't be interrupted and shows no progress: it takes about so many seconds,
# steps and bytes of data at most.
SECONDS_A_DISPATCH = 0.1
STEPS_A_DISPATCH = 128
# A loop of steps is compiled by itself, which fewer steps an epoch would not repay.
FEWEST_STEPS = 16
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
        arrays: Tuple of arrays `(n, ...)`.
        batch_size: Examples in a batch; the last one may be smaller.
        shuffle: Whether each epoch has an order of its own.
    """

    def __init__(self, arrays: tuple[np.ndarray, ...], batch_size: int, shuffle: bool):
        self.arrays = arrays
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        return -(-len(self.arrays[0]) // self.batch_size)

    def epoch_rows(self) -> Iterator[np.ndarray]:
        """Yields the rows of each batch of an epoch."""
        count = len(self.arrays[0])
        order = backend.shuffled(count) if self.shuffle else np.arange(count)
        for start in range(0, count, self.batch_size):
            yield order[start : start + self.batch_size]

    def epoch_batches(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields the batches of an epoch."""
        for rows in self.epoch_rows():
            yield tuple(array[rows] for array in self.arrays)


class Feed(DataAdapter):
    """Gives Keras' trainer its batches, on JAX those of a dispatch at once.

    Args:
        source: `Arrays` or `Batches`.
        steps: Steps in a dispatch.
        on_device: Whether the arrays are moved to the device, and batches gathered
            there. Otherwise a thread makes the next ones while the device computes.
    """

    def __init__(self, source: Arrays | Batches, steps: int, on_device: bool):
        self.source = source
        self.steps = steps
        self.arrays = None
        if on_device:
            self.arrays = tuple(map(backend.to_device, source.arrays))

    @property
    def num_batches(self):
        return len(self.source)

    @property
    def batch_size(self):
        return self.source.batch_size

    def get_jax_iterator(self):
        if self.arrays is None:
            return _ahead(self._executions(self.source.epoch_batches()))
        rows = self.source.epoch_rows()
        if _is_drawn(self.source):
            return self._executions(zip(rows, self.source.epoch_keys(), strict=True))
        return self._executions(rows)

    def get_torch_dataloader(self):
        backend.start_epoch()
        if self.arrays is not None:
            return map(self._gathered, self.source.epoch_rows())
        batches = self.source.epoch_batches()
        # Rows of arrays are at hand before a thread is.
        drawn = isinstance(self.source, Batches)
        return map(_tensors, _ahead(batches) if drawn else batches)

    def _gathered(self, rows):
        return _tensors(tuple(array[rows] for array in self.arrays))

    def _executions(self, batches):
        while several := list(itertools.islice(batches, self.steps)):
            # The last batch of an epoch may be smaller, and is then on its own.
            short = [batch for batch in several if _size(batch) < self.batch_size]
            groups = ((several[: len(several) - len(short)], self.steps), (short, 1))
            yield backend.Execution(
                tuple(self._block(*group) for group in groups if group[0])
            )

    def _block(self, batches, steps):
        stacked = backend.stacked(batches, steps)
        if self.arrays is None:
            return backend.Block(len(batches), stacked)
        rows, keys = stacked if _is_drawn(self.source) else (stacked, None)
        return backend.Block(len(batches), self.arrays, rows.astype("int32"), keys)

    def on_epoch_begin(self):
        if isinstance(self.source, Batches):
            self.source.on_epoch_begin()

    def on_epoch_end(self):
        if isinstance(self.source, Batches):
            self.source.on_epoch_end()


def _tensors(batch):
    return keras.tree.map_structure(ops.convert_to_tensor, batch)


class Untuned(DataAdapter):
    """Keras' own batches, of a pipeline that does not tune itself, in orders of ours.

    The thread that tunes it sleeps twice as long each time, and the next epoch waits
    until it wakes up.

    Args:
        source: `Arrays` or `Batches`.
    """

    def __init__(self, source: Arrays | Batches):
        self.source = source
        if isinstance(source, Arrays):
            options = {"batch_size": source.batch_size, "shuffle": source.shuffle}
            parts = dict(zip(("x", "y", "sample_weight"), source.arrays, strict=False))
            self.adapter = get_data_adapter(**parts, **options)
        else:
            self.adapter = get_data_adapter(source)

    @property
    def num_batches(self):
        return self.adapter.num_batches

    @property
    def batch_size(self):
        return self.adapter.batch_size

    def get_tf_dataset(self):
        if isinstance(self.source, Arrays) and self.source.shuffle:
            dataset = backend.reshuffled(self.source.arrays, self.batch_size)
        else:
            dataset = self.adapter.get_tf_dataset()
        return backend.untuned(dataset)

    def on_epoch_begin(self):
        self.adapter.on_epoch_begin()

    def on_epoch_end(self):
        self.adapter.on_epoch_end()


def _size(batch):
    return len(batch[0]) if isinstance(batch, tuple) else len(batch)


def _ahead(items):
    """Yields items that a thread makes, each while the one before is used."""
    with futures.ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def prepare(model: keras.Model, arguments: dict[str, Any]) -> tuple[dict, Feeding]:
    """Decides how a `fit` is fed.

    Args:
        model: The model, built and compiled.
        arguments: Those of `keras.Model.fit`.

    Returns:
        The arguments, with what Keras is to read instead of arrays; and the decision.
    """
    steps = 1 if model.steps_choice == "auto" else model.steps_choice
    lies = "memory" if hasattr(arguments["x"], "shape") else "stream"
    # Keras looks at a batch of its own to build what could not be tried before.
    built = all(layer.built for layer in keras_private.layers(model))
    if not (built and backend.is_fed(model)):
        return arguments, Feeding(steps, lies)
    fuses = backend.fuses_steps(model)
    arguments = _weighed(_split(arguments))
    sources = {"x": _training_source(arguments)}
    if fuses and model.steps_choice == "auto":
        steps = _steps(model, arguments, sources["x"])
    if not model.searches_codes:
        # A search for codes takes long, whatever feeds it.
        sources["validation_data"] = _validation_source(arguments)
    if not backend.takes_feeds():
        fed: dict[str, Any] = {k: Untuned(v) for k, v in sources.items() if v}
        if "x" in fed:
            fed |= {"y": None, "sample_weight": None, "shuffle": False}
        return {**arguments, **fed}, Feeding(steps, lies)
    room = backend.room_for_data()
    for name, source in sources.items():
        if source is None:
            continue
        size = sum(array.nbytes for array in source.arrays)
        is_there = ops.is_tensor(source.arrays[0])
        may_lie = backend.draws_on_device() or not _is_drawn(source)
        may_lie &= not isinstance(source.arrays[0], LazyImages)
        on_device = is_there or (size <= room and may_lie)
        if on_device:
            room -= 0 if is_there else size
        elif name != "x" and _batch_bytes(source) * steps > BYTES_A_DISPATCH:
            # Its batches are larger than those that the steps were chosen for.
            continue
        arguments[name] = Feed(source, steps, on_device)
        if name == "x":
            arguments.update(y=None, sample_weight=None, shuffle=False)
            lies = "device" if on_device else lies
    return arguments, Feeding(steps, lies)


def _is_drawn(source):
    """Whether its batches are drawn in black and white."""
    return getattr(source, "binarize", False)


def _batch_bytes(source):
    return sum(array[:1].nbytes * source.batch_size for array in source.arrays)


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


def _weighed(arguments):
    """Takes weights of classes as those of examples, of which validation has none."""
    weights, y = arguments.get("class_weight"), arguments.get("y")
    if weights is None or arguments.get("sample_weight") is not None:
        return arguments
    if y is None or not _is_array(y):
        return arguments
    each = weights_of_classes(weights, y)
    return {**arguments, "sample_weight": each, "class_weight": None}


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
        fits = all(isinstance(array, np.ndarray | LazyImages) for array in x.arrays)
        return x if fits and x.workers < 2 and not shuffle else None
    parts = [part for part in (x, y, weight) if part is not None]
    # A weight without labels: see `Trainer._beside_weights`.
    if not all(map(_is_array, parts)) or (y is None and weight is not None):
        return None
    if len({len(part) for part in parts}) > 1:
        return None
    if isinstance(x, np.ndarray):
        parts = map(np.asarray, parts)
    return Arrays(tuple(parts), batch_size or 32, shuffle)


def _is_array(part):
    # Ragged and sparse tensors are no arrays.
    is_tensor = ops.is_tensor(part) and hasattr(part, "__array__")
    return (isinstance(part, np.ndarray) or is_tensor) and _dtype(part).kind in "biuf"


def _dtype(array):
    if isinstance(array, np.ndarray):
        return array.dtype
    return np.dtype(keras.backend.standardize_dtype(array.dtype))


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
        shapes = [(source.batch_size, *array.shape[1:]) for array in source.arrays]
        dtypes = [_dtype(array) for array in source.arrays]
        if _is_drawn(source):
            dtypes[0] = np.dtype("float32")
        batch = tuple(map(np.empty, shapes, dtypes))
        steps = len(source.arrays[0]) // source.batch_size
    elif isinstance(x, keras.utils.PyDataset) and (wanted or x.num_batches):
        batch = x[0]
        steps = wanted or x.num_batches
    else:
        return 1
    if steps < FEWEST_STEPS:
        return 1
    size = sum(part.nbytes for part in keras.tree.flatten(batch) if part is not None)
    limit = min(steps, STEPS_A_DISPATCH, BYTES_A_DISPATCH // size)
    if limit > 1:
        cost = backend.step_cost(model, batch)
        limit = min(limit, int(SECONDS_A_DISPATCH / cost.seconds))
        limit = limit if cost.loops_well else 1
    if limit < 2:
        return 1
    if wanted:
        # No step more than is wanted.
        return max(k for k in range(1, limit + 1) if wanted % k == 0)
    # Dispatches of about equal length.
    return -(-steps // -(-steps // limit))


def _needs_each_batch(callback):
    """Whether a callback does something at each batch."""
    if not getattr(callback, "needs_each_batch", True):
        return False
    if isinstance(callback, keras.callbacks.ProgbarLogger):
        return False
    hooks = [getattr(getattr(callback, name), "__func__", None) for name in BATCH_HOOKS]
    frequency = getattr(callback, "save_freq", getattr(callback, "update_freq", None))
    if frequency == "epoch":
        # Keras' own do nothing then; what is derived from them may.
        modules = [getattr(hook, "__module__", "") for hook in hooks]
        return not all(module.startswith("keras.") for module in modules)
    nothing = [getattr(keras.callbacks.Callback, name) for name in BATCH_HOOKS]
    return any(map(operator.is_not, hooks, nothing))
