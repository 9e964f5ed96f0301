"""What `fit` and the verbs are given: a look at the first batch, and NumPy batches."""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np
from keras import ops

from keras_ae import arrays
from keras_ae.backend import keras_private

ONE_EXAMPLE = (
    "one example needs an axis of examples before it: `x[None]` of an array, `batch` "
    "of a data set"
)


def readable(y):
    """Returns labels; zeros for names, which nothing reads and backends refuse."""
    if not hasattr(y, "dtype") or arrays.is_numeric(y):
        return y
    return np.zeros(len(y), "float32")


def check_batch(name: str, batch) -> None:
    """Raises `ValueError` for a first batch, or an array, that is none of examples."""
    shape = getattr(batch, "shape", None)
    if shape is None or len(shape) < 2:
        remedy, received = "", type(batch).__name__ if shape is None else tuple(shape)
        if isinstance(batch, Mapping):
            received = f"a dict of {', '.join(map(repr, batch))}"
            remedy = "; let the data set give one of them alone"
        elif shape is not None and len(shape):
            remedy = f"; {ONE_EXAMPLE}"
        raise ValueError(
            f"`{name}` must hold batches (batch, features), (batch, height, width) or "
            f"(batch, height, width, channels). Received: {received}{remedy}"
        )
    if batch.shape[0] == 0:
        raise ValueError(f"`{name}` must not be empty. Received no examples.")
    if not arrays.is_numeric(batch):
        raise ValueError(
            f"`{name}` must be an array of numbers. Received: dtype {batch.dtype}; "
            "`x.astype('float32')`, if that is what they are."
        )


def check_batched(name: str, shape, architecture: str, data) -> None:
    """Raises `ValueError` where a data set looks as if it gave one picture at a time.

    Args:
        name: How errors call the data set.
        shape: Of what it gave first.
        architecture: That of the model.
        data: The data set.
    """
    height, width, channels = (*shape, 1, 1, 1)[:3]
    is_square = height == width
    looks_alike = {2: is_square, 3: channels in (1, 3, 4)}.get(len(shape), False)
    # Batches of rows may be square, and those of series have few channels.
    is_clear = len(shape) == 3 and is_square
    if looks_alike and (is_clear or _is_unbatched(data)) and architecture != "sequence":
        raise ValueError(
            f"`{name}` must give batches. Received: {tuple(shape)}, which looks like "
            "one picture; call `batch` on the data set, or say "
            f"`image_shape={tuple(shape[1:])}` if these are examples."
        )


def _is_unbatched(data):
    """Whether a `tf.data.Dataset` says what it does not of most batches.

    Where the last may be shorter they have no fixed first size.
    """
    if not hasattr(data, "element_spec"):
        return False
    shape = getattr(keras.tree.flatten(data.element_spec)[0], "shape", None)
    return bool(getattr(shape, "rank", None)) and shape[0] is not None


def check_values(batch, likelihood=None) -> tuple[float, float]:
    """Raises `ValueError` for values that are not pixels or not the likelihood's.

    Args:
        batch: Examples.
        likelihood: Likelihood of them. Without one, floats need only be finite.

    Returns:
        The smallest and the largest value as the model is given them.
    """
    # Floats in memory are all looked at: one NaN anywhere spoils a training.
    dtype = keras.backend.standardize_dtype(batch.dtype)
    shape = tuple(batch.shape)
    if isinstance(batch, np.memmap) or dtype in ("bool", "uint8"):
        batch = batch[:1024]
    values = ops.convert_to_numpy(batch)
    low, high = values.min(), values.max()
    if likelihood is None and "float" in dtype:
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(
                "Examples must be finite. Received values from "
                f"{low} to {high}; look for NaN and infinity."
            )
    elif likelihood is not None and ("float" in dtype or dtype == "bool"):
        likelihood.check_range(float(low), float(high))
        likelihood.check_examples(values)
    elif "int" not in dtype:
        raise ValueError(
            f"Examples must be integers 0-255 or floats. Received: dtype={dtype}"
        )
    elif not _are_pictures(dtype, shape):
        raise ValueError(
            "Integers are read as 0-255 where they are pictures: (batch, height, "
            "width) of uint8, or (batch, height, width, channels). Received: "
            f"{dtype} of shape {shape}, from {low} to {high}. Pass floats: pixels "
            "divided by the largest that there may be, a table standardised with "
            "`(x - x.mean(axis=0)) / x.std(axis=0)`."
        )
    elif low < 0 or high > 255 or (high == 1 and len(values) > 1):
        # Many pictures none of which is brighter than 1 are binary, not black.
        raise ValueError(
            "Integers are read as 0-255 and divided by 255. Received integers from "
            f"{low} to {high}; scale them yourself and pass floats."
        )
    else:
        return 0.0, 1.0
    return float(low), float(high)


def _are_pictures(dtype, shape):
    """Whether integers are pixels, not counts or classes in a table."""
    if len(shape) == 4:
        return dtype == "uint8" or shape[-1] <= 4
    return dtype == "uint8" and len(shape) == 3


def check_target(name: str, x, y) -> None:
    """Raises `ValueError` for a `y` of the shape of `x` that is something else.

    Args:
        name: Of the model's class.
        x: Examples.
        y: What was passed beside them.
    """
    if y is None or y is x or tuple(getattr(y, "shape", ())) != tuple(x.shape):
        return
    x, y = (ops.convert_to_numpy(to_floats(part[:256])) for part in (x, y))
    # What is missing is not compared.
    if not np.allclose(np.where(np.isnan(x), y, x), y, atol=1e-6, equal_nan=True):
        raise ValueError(
            f"{name} restores `x` itself, so a `y` of its shape must be `x` again. "
            "Received: other values, which would be ignored; to restore clean examples "
            "from others use `DenoisingAE`, whose `fit(noisy, clean)` takes pairs."
        )


def to_floats(x):
    """Returns x in float32; integers are read as 0-255 and divided by 255."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    x = ops.cast(x, "float32")
    return x / 255.0 if "int" in dtype else x


def first_batch(data):
    """Returns the first batch as (x, y, sample_weight), and the data, unconsumed.

    Data sets are returned as each backend takes them.
    """
    if hasattr(data, "shape"):
        return (data, None, None), data
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches == 0:
            raise _empty()
        batch = data[0]
        named = isinstance(batch, list | tuple) and not _is_readable(batch)
        return _unpacked(batch), _Readable(data) if named else data
    if isinstance(data, Iterator):
        try:
            batch = next(data)
        except StopIteration:
            raise _empty() from None
        # Keras recognises generators by their type, and wants tuples of them.
        data = (_readable_batch(item) for item in itertools.chain([batch], data))
        return _unpacked(batch), data
    if not keras_private.is_data_set(data):
        has_items = hasattr(data, "__getitem__") and hasattr(data, "__len__")
        remedy = "; a PyTorch DataLoader makes batches of it" if has_items else ""
        if isinstance(data, Mapping):
            remedy = "; pass one of its arrays"
        raise ValueError(
            "Data must be an array, a tf.data.Dataset, a keras.utils.PyDataset, a "
            "PyTorch DataLoader, a grain loader or a generator of batches. "
            f"Received: {type(data).__name__}{remedy}"
        )
    batch = next(iter(data), None)
    if batch is None:
        raise _empty()
    if not _is_readable(batch):
        if hasattr(data, "collate_fn"):
            data = copy.copy(data)
            data.collate_fn = _Collated(data.collate_fn)
        elif hasattr(data, "element_spec") and isinstance(batch, tuple):
            data = data.map(lambda *parts: _readable_batch(parts))
    return _unpacked(batch), data


def _empty():
    return ValueError("The data set is empty: it gave no batch.")


def _unpacked(batch):
    """Returns a batch as (x, y, sample_weight)."""
    if isinstance(batch, list | tuple) and not 0 < len(batch) <= 3:
        raise ValueError(
            "A data set must give batches x, (x, y) or (x, y, sample_weight). "
            f"Received: a {type(batch).__name__} of {len(batch)} items"
        )
    return keras.utils.unpack_x_y_sample_weight(batch)


def _is_readable(batch):
    """Whether each backend takes a batch: parts, of which the labels are numbers."""
    if not isinstance(batch, list | tuple):
        return False
    _, y, _ = _unpacked(batch)
    is_array = hasattr(y, "dtype") and arrays.is_numeric(y)
    return y is None or is_array or isinstance(y, Mapping)


def _readable_batch(batch):
    """Returns a batch as a tuple, without labels that are no numbers."""
    if _is_readable(batch):
        return tuple(batch)
    x, _, weight = _unpacked(batch)
    # Keras drops weights without labels.
    return (x,) if weight is None else (x, weight, weight)


class _Readable(keras.utils.PyDataset):
    """What a data set gives, as each backend takes it."""

    def __init__(self, data: keras.utils.PyDataset):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data = data
        self.on_epoch_begin, self.on_epoch_end = data.on_epoch_begin, data.on_epoch_end

    @property
    def num_batches(self):
        return self.data.num_batches

    def __getitem__(self, index):
        return _readable_batch(self.data[index])


class _Collated:
    """What a DataLoader makes of examples, as each backend takes it."""

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, examples):
        return _readable_batch(self.collate(examples))


def first_examples(data, count: int) -> np.ndarray:
    """Returns the first examples of a data set of batches, at most `count` of them."""
    found, size = [], 0
    for batch in batches(data, count):
        found.append(batch)
        size += len(batch)
        if size >= count:
            break
    return np.concatenate(found)[:count]


def some_examples(data, count: int) -> np.ndarray:
    """Returns at most `count` examples: random ones of arrays, else the first."""
    data = getattr(data, "images", data)
    if not hasattr(data, "shape"):
        return first_examples(data, count)
    rows = np.arange(min(count, data.shape[0]))
    if count < data.shape[0]:
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(data.shape[0], count, replace=False))
    # Also of a memory map, or of a tensor on another device.
    is_tensor = ops.is_tensor(data)
    data = ops.take(data, rows, axis=0) if is_tensor else data[rows]
    return np.array(ops.convert_to_numpy(data))


def check_readable_again(reader: str, data) -> None:
    """Raises `ValueError` for data that end after one pass, or never."""
    if isinstance(data, Iterator):
        raise ValueError(
            f"{reader} reads the data more than once. Received: a generator, which can "
            "be read only once; pass an array, a `tf.data.Dataset` or a "
            "`keras.utils.PyDataset`."
        )
    if isinstance(data, keras.utils.PyDataset):
        endless = data.num_batches is None
    else:
        # How tf.data marks what `repeat` has made endless.
        endless = int(getattr(data, "cardinality", lambda: 0)()) == -1
    if endless:
        raise ValueError(
            f"{reader} reads all of the data. Received: a data set without an end; "
            "leave out `repeat`, or take a part of it."
        )


def count(data) -> int | None:
    """Returns how many examples `batches` will yield; None where nobody knows."""
    first = data[0] if isinstance(data, tuple) else data
    return first.shape[0] if hasattr(first, "shape") else None


def batches(data, batch_size, labelled=False):
    """Yields NumPy batches of `x`, or tuples of batches that belong together.

    Tuples come of a tuple of arrays, and where `labelled` of the (x, y) of a data set
    that has them.
    """
    if isinstance(data, tuple):
        yield from zip(*(batches(part, batch_size) for part in data), strict=True)
        return
    if hasattr(data, "shape"):
        for start in range(0, data.shape[0], batch_size):
            yield ops.convert_to_numpy(data[start : start + batch_size])
        return
    for x, y, _ in unpacked_batches(data):
        x = ops.convert_to_numpy(x)
        yield (x, ops.convert_to_numpy(y)) if labelled and y is not None else x


def unpacked_batches(data) -> Iterator[tuple]:
    """Yields the batches of a data set as (x, y, sample_weight), or None for one."""
    is_indexed = isinstance(data, keras.utils.PyDataset)
    for batch in map(data.__getitem__, range(data.num_batches)) if is_indexed else data:
        yield _unpacked(batch)
