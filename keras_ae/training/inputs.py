"""What `fit` and the verbs are given: a look at the first batch, and NumPy batches."""

import itertools
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops


def plain(data):
    """Returns arrays and frames as arrays that each backend takes; else what is given.

    They are frames and series of pandas and polars, masked arrays, and those whose
    bytes are in another order than the machine's.

    Raises:
        ValueError: If a column is not numeric, or a value is masked.
    """
    if isinstance(data, np.ma.MaskedArray):
        if np.ma.is_masked(data):
            raise ValueError(
                "Arrays must not be masked: the mask would be dropped. Received: "
                f"{np.ma.count_masked(data):,} masked values; give "
                "`x.filled(numpy.nan)` to a model that takes missing values, or fill "
                "them."
            )
        data = data.data
    if isinstance(data, np.ndarray) and not data.dtype.isnative:
        return data.astype(data.dtype.newbyteorder("="))
    if not hasattr(data, "to_numpy"):
        return data
    if not hasattr(data, "columns"):
        return data.to_numpy()
    columns = [column for _, column in data.items()] if hasattr(data, "items") else None
    columns = data.get_columns() if columns is None else columns
    arrays = [np.asarray(column) for column in columns]
    others = [
        f"{name!r} ({array.dtype})"
        for name, array in zip(data.columns, arrays, strict=True)
        if array.dtype.kind not in "biuf"
    ]
    if others or not arrays:
        raise ValueError(
            "A frame must have numeric columns. Received: "
            f"{', '.join(others[:5]) or 'no column'}; leave others out, or turn them "
            "into numbers."
        )
    return np.stack(arrays, axis=1)


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
    """Returns the first batch of `data` as (x, y), and the data, nothing consumed."""
    if hasattr(data, "shape"):
        return (data, None), data
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif isinstance(data, Iterator):
        try:
            batch = next(data)
        except StopIteration:
            raise ValueError("The data set is empty: it gave no batch.") from None
        # Keras recognises generators by their type, and wants tuples of them.
        data = (
            item if isinstance(item, tuple) else (item,)
            for item in itertools.chain([batch], data)
        )
    else:
        try:
            batch = next(iter(data))
        except StopIteration:
            raise ValueError("The data set is empty: it gave no batch.") from None
        except TypeError:
            raise ValueError(
                "Data must be an array, a tf.data.Dataset, a keras.utils.PyDataset, a "
                "PyTorch DataLoader, a grain loader or a generator of batches. "
                f"Received: {type(data).__name__}"
            ) from None
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return (x, y), data


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
    is_indexed = isinstance(data, keras.utils.PyDataset)
    for batch in map(data.__getitem__, range(data.num_batches)) if is_indexed else data:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        x = ops.convert_to_numpy(x)
        paired = labelled and y is not None
        yield (x, ops.convert_to_numpy(y)) if paired else x
