"""Arrays, tensors and frames of whatever library, as arrays that each backend takes."""

import keras
import numpy as np
from keras import ops

# Of numbers that some backend does not have, what it has.
_DTYPES = {"longdouble": "float64", "uint64": "int64"}


def plain(data):
    """Returns arrays and frames as arrays that each backend takes; else what is given.

    They are frames and series of pandas and polars, masked arrays, tensors of another
    backend, and arrays of numbers that are wider than a backend's, or whose bytes are
    in another order than the machine's.

    Raises:
        ValueError: If a column is not numeric, a value is masked, or most of them are
            left out.
    """
    if _is_sparse(data):
        raise ValueError(
            "Arrays must be dense. Received: a sparse or ragged "
            f"{type(data).__name__}; turn it into a dense one (`x.toarray()` in SciPy, "
            "`x.to_dense()` in PyTorch, `tf.sparse.to_dense(x)`)."
        )
    if _is_foreign(data):
        return _to_numpy(data)
    if getattr(data, "requires_grad", False) is True:
        data = data.detach()
    if isinstance(data, np.ma.MaskedArray):
        if np.ma.is_masked(data):
            raise ValueError(
                "Arrays must not be masked: the mask would be dropped. Received: "
                f"{np.ma.count_masked(data):,} masked values; give "
                "`x.filled(numpy.nan)` to a model that takes missing values, or fill "
                "them."
            )
        data = data.data
    if isinstance(data, np.ndarray):
        native = data.dtype.newbyteorder("=")
        kinds = [new for old, new in _DTYPES.items() if native == np.dtype(old)]
        dtype = np.dtype(kinds[0]) if kinds else native
        return data if dtype == data.dtype else data.astype(dtype)
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


def column_names(data) -> tuple[str, ...] | None:
    """Returns the names of the columns of a frame; None for all other data."""
    if not (hasattr(data, "to_numpy") and hasattr(data, "columns")):
        return None
    return tuple(map(str, data.columns))


def reordered(
    rows: np.ndarray, names: tuple[str, ...], wanted: tuple[str, ...], name: str
) -> np.ndarray:
    """Returns rows with their columns in the order of those that were trained on.

    Args:
        rows: Array `(n, columns)` of a frame.
        names: Of its columns.
        wanted: Names in the order of training.
        name: How errors call the frame.

    Raises:
        ValueError: If the columns are others, or two have one name.
    """
    if names == wanted:
        return rows
    if len({*names}) < len(names):
        twice = sorted({column for column in names if names.count(column) > 1})
        raise ValueError(
            f"`{name}` must have columns of different names, or those of training in "
            f"the same order. Received: a frame with several columns {twice[:5]}"
        )
    missing = [column for column in wanted if column not in names]
    if missing or len(names) != len(wanted):
        others = [column for column in names if column not in wanted]
        raise ValueError(
            f"`{name}` must have the columns that the model was trained on, in any "
            f"order. Received: a frame without {missing[:5]}, and with {others[:5]}"
        )
    return rows[:, [names.index(column) for column in wanted]]


def _is_sparse(data):
    """Whether an array or a tensor keeps only some of its values."""
    names = ("toarray", "dense_shape", "row_lengths", "nse")
    if any(hasattr(data, name) for name in names):
        return True
    return any(
        getattr(data, name, False) is True for name in ("is_sparse", "is_sparse_csr")
    )


def _is_foreign(data):
    """Whether it is a variable, or a tensor of a backend that does not run."""
    if hasattr(data, "assign") and hasattr(data, "dtype"):
        return True
    library = type(data).__module__.partition(".")[0]
    if library not in ("torch", "tensorflow", "jax", "jaxlib"):
        return False
    is_array = hasattr(data, "shape") and hasattr(data, "dtype")
    return is_array and not ops.is_tensor(data)


def _to_numpy(tensor):
    """Returns the values of a variable, or of a tensor of whatever backend."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        # NumPy has no such type.
        tensor = tensor.float() if "bfloat16" in str(tensor.dtype) else tensor
    return np.asarray(tensor)


def is_numeric(array) -> bool:
    """Whether an array holds what a backend can compute with."""
    try:
        return keras.backend.standardize_dtype(array.dtype) != "string"
    except ValueError:
        return False


def beside(name: str, data):
    """Returns what is passed beside examples as an array, of a list or a frame too.

    Args:
        name: How errors call it.
        data: Labels or weights, or None.

    Raises:
        ValueError: If a list does not make an array.
    """
    if isinstance(data, list | tuple):
        try:
            data = np.asarray(data)
        except ValueError:
            raise ValueError(
                f"`{name}` must be an array with an entry an example. Received: a "
                f"{type(data).__name__} of {len(data)} items of several shapes"
            ) from None
    return plain(data)


def as_array(name: str, data) -> np.ndarray:
    """Returns numbers in an array, a tensor of any library, a frame or a list.

    Args:
        name: How errors call it.
        data: What the user passed.

    Raises:
        ValueError: If they are no numbers.
    """
    data = beside(name, data)
    if not hasattr(data, "dtype") or not is_numeric(data):
        received = f"dtype {data.dtype}" if hasattr(data, "dtype") else type(data)
        received = getattr(received, "__name__", received)
        raise ValueError(f"`{name}` must be an array of numbers. Received: {received}")
    return ops.convert_to_numpy(data)
