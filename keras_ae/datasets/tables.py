"""Tables as columns of arrays, from files and from what holds them in memory."""

import csv
import importlib
import importlib.util
import io
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

# What may separate values in a file: commas, or what spreadsheets write in their place.
_SEPARATORS = (",", ";", "\t")
# What stands for nothing there.
_GAPS = ("", "NA", "N/A", "NaN", "nan", "null", "None")


def is_table(path: str | os.PathLike) -> bool:
    """Whether a path is named like a file that `read_table` reads."""
    return pathlib.Path(path).suffix.lower() in (".csv", ".parquet")


def read_table(
    path: str | os.PathLike, texts: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Reads the columns of a `.csv` or `.parquet` file, by name.

    Args:
        path: Of comma-separated values with a line of names, where an empty field,
            `NA`, `NaN` and `null` are missing, and a column of nothing but numbers is
            one of numbers; or of a Parquet file, for which pandas or polars is needed.
            Where semicolons or tabs separate the names they separate the values, and
            numbers may have decimal commas.
        texts: Names of columns of a `.csv` file that stay texts though they may hold
            nothing but numbers, such as `Schema.texts`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, empty, not in UTF-8, has no line of names,
            or a line has too many fields or too few.
        ModuleNotFoundError: If a Parquet file can't be read for want of a package.
    """
    return read_numbered(path, texts)[0]


def read_numbered(
    path: str | os.PathLike, texts: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Reads a table as `read_table` does, and where its rows are.

    Args:
        path: As for `read_table`.
        texts: As for `read_table`.

    Returns:
        The columns by name, and the line of the file on which each row begins, from 1;
        None of a Parquet file, which has no lines.

    Raises:
        FileNotFoundError, ValueError, ModuleNotFoundError: As `read_table`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no table {path}.")
    if path.suffix.lower() == ".parquet":
        for name in ("pandas", "polars"):
            if importlib.util.find_spec(name):
                frame = importlib.import_module(name).read_parquet(path)
                return columns_of(frame), None
        raise ModuleNotFoundError(
            f"{path} needs pandas (with pyarrow) or polars to be read: "
            "`pip install polars`."
        )
    if path.suffix.lower() != ".csv":
        raise ValueError(f"A table must be a .csv or .parquet file. Received: {path}")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be text in UTF-8. Received: a byte "
            f"{error.object[error.start]:#x} at {error.start:,}; save it anew, in a "
            "spreadsheet as 'CSV UTF-8'."
        ) from None
    return _read_lines(path, io.StringIO(text, newline=""), texts)


def _read_lines(path, file, kept):
    """Columns by name of the text of a `.csv` file, and the first line of each row."""
    first = file.readline()
    file.seek(0)
    separator = max(_SEPARATORS, key=first.count)
    lines = csv.reader(file, delimiter=separator)
    names = next(lines, [])
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}; rename one.")
    if _are_values(names):
        raise ValueError(
            f"The first line of {path} must hold the names of the columns. Received: "
            f"the numbers {', '.join(names[:3])}{', ...' if names[3:] else ''}; write "
            "a line of names before it."
        )
    found, begins = [], []
    end = lines.line_num
    for line in lines:
        # Between quotes a row goes on in the next line.
        begin, end = end + 1, lines.line_num
        if not line:
            continue
        if len(line) != len(names):
            raise ValueError(
                f"Line {lines.line_num} of {path} must have {len(names)} fields, "
                f"as its first. Received: {len(line)}"
            )
        found.append(line)
        begins.append(begin)
    if not found:
        raise ValueError(f"{path} must hold a line of names and rows. It is empty.")
    columns = {
        name: _texts(values) if name in kept else _parsed(values, separator != ",")
        for name, values in zip(names, zip(*found, strict=True), strict=True)
    }
    return columns, np.array(begins)


def _are_values(names):
    """Whether names are numbers, other than positions and years."""
    numbers = _parsed(names)
    if not names or numbers.dtype == object or np.isnan(numbers).any():
        return False
    positions = (np.diff(numbers) == 1).all()
    years = ((numbers > 1800) & (numbers < 2200)).all()
    return not ((positions or years) and (numbers % 1 == 0).all())


def _parsed(texts, commas=False):
    """Texts of a file as numbers, where all are; they may have decimal commas."""
    texts = _texts(texts)
    try:
        return np.array([_number(text, commas) for text in texts])
    except ValueError:
        return texts


def _texts(texts):
    """Texts of a file, None where they stand for nothing."""
    texts = [text.strip() for text in texts]
    return np.array([None if text in _GAPS else text for text in texts], object)


def _number(text, commas):
    if text is None:
        return np.nan
    if "_" in text:
        # Python alone reads a month such as 2021_01 as a number.
        raise ValueError(text)
    return float(text.replace(",", ".") if commas else text)


def columns_of(table: Any, texts: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The columns of a table of any kind, by name; `texts` as for `read_table`."""
    if isinstance(table, str | os.PathLike):
        return read_table(table, texts)
    if isinstance(table, Mapping):
        found = {str(name): _array(values) for name, values in table.items()}
    elif getattr(getattr(table, "dtype", None), "names", None):
        found = {name: table[name] for name in table.dtype.names}
    elif hasattr(table, "columns"):
        found = {str(name): _array(table[name]) for name in table.columns}
    else:
        values = np.asarray(table)
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise ValueError(
                "`table` must be a frame, a mapping of columns, an array (n, columns) "
                f"of numbers or the path of a file. Received: {type(table).__name__}"
                + (f" of shape {values.shape}" if values.ndim else "")
            )
        found = {f"column {i}": values[:, i] for i in range(values.shape[1])}
    counts = {name: len(values) for name, values in found.items()}
    if not found or not max(counts.values()):
        raise ValueError("`table` must have rows and columns. Received: none")
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"The columns of `table` must be equally long. Received: {counts}"
        )
    return found


def _array(values):
    """Values of a column; a list of numbers and None stays a list of objects."""
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, Sequence):
        found = np.empty(len(values), object)
        found[:] = values
        return found
    found = np.asarray(values)
    if found.dtype != object:
        return found
    # What pandas has for a gap can neither be compared nor made a number.
    return np.where(missing_of(found), None, found)


def missing_of(values):
    """Which values are missing, booleans `(n,)`."""
    if values.dtype.kind in "biu":
        return np.zeros(len(values), bool)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([_is_missing(value) for value in values])


def _is_missing(value):
    if value is None:
        return True
    if np.ndim(value):
        return False
    try:
        return bool(value != value)
    except TypeError:
        # pandas' own mark of a gap is neither equal to itself nor not.
        return True
