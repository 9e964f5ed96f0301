"""Tables as columns of arrays, from files and from what holds them in memory."""

import collections
import contextlib
import csv
import importlib
import importlib.util
import io
import itertools
import os
import pathlib
import re
import threading
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from keras_ae.gaps import missing_of

# Up to it each integer is a number of its own; of more digits numbers are infinite.
_EXACT = 2.0**53
_INTEGER = re.compile(r"[+-]?\d{1,308}")
# What may separate values in a file; commas last, as they are in names and numbers too.
_SEPARATORS = ("\t", ";", "|", ",")
# Rows that tell which one does.
_FIRST = 20
# A line that spreadsheets take it from.
_SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
# What stands for nothing there, as pandas has it.
_GAPS = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND")
    + ("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
)
# Among numbers and flags in any case; of other texts "none" may be one that counts.
_GAPS_OF_ANY_CASE = frozenset(gap.lower() for gap in _GAPS)
_FLAGS = {"true": True, "false": False}
# Different texts among numbers that may stand for gaps, and the share of numbers from
# which on that is likely.
_FEW = 2
_NEARLY_ALL = 0.95
# A column of categories, though these may be numbers.
_CATEGORY = np.dtype(object, metadata={"kind": "category"})
# A line after the last: between quotes that nothing ends, it is part of a field.
_END = "\0"
# The longest field is a setting of the whole process.
_LONGEST = threading.RLock()


class _Grouped:
    """Numbers below 1,000, and larger ones in groups of thousands."""

    def __init__(self, group, point):
        self._marks = re.compile(group), re.compile(point)
        whole = rf"(?:0|[1-9]\d{{0,2}}(?:{group}\d{{3}})*)"
        self.matches = re.compile(rf"[+-]?{whole}(?:{point}\d+)?").fullmatch

    def number(self, text):
        group, point = self._marks
        return float(point.sub(".", group.sub("", text)))


_THOUSANDS = _Grouped(",", r"\.")
_SPACES, _APOSTROPHES = "[ \u00a0\u2009\u202f]", "['\u2019]"
# Where commas separate values, and elsewhere.
_AMONG_COMMAS = (_Grouped(_SPACES, r"\."), _Grouped(_APOSTROPHES, r"\."))
_ELSEWHERE = (
    *(_Grouped(r"\.", ","), _THOUSANDS),
    *(_Grouped(_SPACES, "[.,]"), _Grouped(_APOSTROPHES, "[.,]")),
)
_DECIMAL_COMMA = re.compile(r"[+-]?(?:0,\d+|\d+,(?:\d\d?|\d{4,}))")


def is_table(path: str | os.PathLike) -> bool:
    """Whether a path is named like a file that `read_table` reads."""
    return pathlib.Path(path).suffix.lower() in (".csv", ".parquet")


def read_table(
    path: str | os.PathLike, texts: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Reads the columns of a `.csv` or `.parquet` file, by name.

    Args:
        path: Of comma-separated values with a line of names, where an empty field,
            `NA`, `NULL` and whatever else pandas takes for it are missing; or of a
            Parquet file, for which pandas or polars is needed. A column of nothing but
            numbers is one of numbers, which may have their thousands in groups, and one
            of nothing but `true` and `false` is one of booleans. Where tabs, semicolons
            or `|` separate the values, numbers may have decimal commas. A first line
            `sep=;` says what does. A first column without a name holds those of rows,
            as pandas and R write them, and is left out.
        texts: Names of columns of a `.csv` file that stay texts though they may hold
            nothing but numbers, such as `Schema.texts`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, empty, not in UTF-8, has no line of names
            or another column without one, a quote has no end, or a line has too many
            fields or too few.
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
    if "\0" in text:
        raise ValueError(
            f"{path} must be text in UTF-8. Received: bytes of zero, which UTF-16 has; "
            "save it anew, in a spreadsheet as 'CSV UTF-8'."
        )
    with _fields_of(len(text)):
        return _read_lines(path, io.StringIO(text, newline=""), texts)


@contextlib.contextmanager
def _fields_of(longest):
    """Lets fields have so many characters."""
    with _LONGEST:
        usual = csv.field_size_limit()
        # On some systems it is an integer of 32 bits.
        csv.field_size_limit(min(max(usual, longest), 2**31 - 1))
        try:
            yield
        finally:
            csv.field_size_limit(usual)


def _separator_of(file):
    """What separates values: what makes equally many of each of the first rows."""

    def fit(separator):
        file.seek(0)
        lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
        rows = [line for line in itertools.islice(lines, _FIRST) if line]
        if not rows or len(rows[0]) < 2:
            return (False,)
        equal = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        # Between quotes only another one begins a field.
        return True, equal, not any('"' in field for row in rows for field in row)

    fits = {separator: fit(separator) for separator in _SEPARATORS}
    file.seek(0)
    best = max(fits, key=fits.get)
    return best if fits[best][0] else ","


def _read_lines(path, file, kept):
    """Columns by name of the text of a `.csv` file, and the first line of each row."""
    told = _SEPARATOR_LINE.fullmatch(file.readline())
    separator = told[1] if told else _separator_of(file)
    file.seek(0)
    lines = _numbered_lines(path, file, separator)
    if told:
        next(lines)
    _, names = next(lines, (0, []))
    names = [name.strip() for name in names]
    if _are_values(names):
        raise _no_names(path, "numbers", names)
    found, begins = [], []
    for (begin, end), line in lines:
        if len(line) != len(names):
            raise ValueError(
                f"Line {end} of {path} must have {len(names)} fields, as its first. "
                f"Received: {len(line)}"
            )
        found.append(line)
        begins.append(begin)
    # Spreadsheets write lines of separators alone below a table.
    while found and not any(map(str.strip, found[-1])):
        del found[-1], begins[-1]
    if not found:
        raise ValueError(f"{path} must hold a line of names and rows. It is empty.")
    commas, grouped = _spelling(separator, found)
    if _are_like(names, zip(*found, strict=True), commas, grouped):
        raise _no_names(path, "values", names)
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}; rename one.")
    columns = _named(path, names, zip(*found, strict=True))
    for name, values in columns.items():
        if name in kept:
            columns[name] = _texts(values)
            continue
        columns[name] = _parsed(values, commas, grouped)
        if columns[name].dtype == object:
            _tell_odd(path, name, columns[name], commas)
        elif columns[name].dtype.kind == "f":
            _tell_rounded(path, name, columns[name], values)
    return columns, np.array(begins)


def _numbered_lines(path, file, separator):
    """Yields lines that are not blank: the first and the last of each, its fields."""
    text = itertools.chain(file, [_END])
    lines = csv.reader(text, delimiter=separator, skipinitialspace=True)
    end = 0
    for line in lines:
        # Between quotes a row goes on in the next line.
        begin, end = end + 1, lines.line_num
        if line == [_END]:
            return
        if line and line[-1].endswith(_END):
            raise ValueError(
                f"A quote that begins a field must have another one that ends it. "
                f"Received: none up to the end of {path}, in the row of line {begin}"
            )
        if line:
            yield (begin, end), line


def _no_names(path, what, names):
    return ValueError(
        f"The first line of {path} must hold the names of the columns. Received: the "
        f"{what} {', '.join(names[:3])}{', ...' if names[3:] else ''}; write a line of "
        "names before it."
    )


def _named(path, names, columns):
    """Columns by name, without the names of rows and what holds nothing."""
    found = {}
    for i, (name, values) in enumerate(zip(names, columns, strict=True)):
        if name:
            found[name] = values
        elif i and any(map(str.strip, values)):
            raise ValueError(
                f"{path} must have names of all columns. Received: none of column "
                f"{i + 1}; name it, or leave it out."
            )
    if not found:
        raise ValueError(f"{path} must hold columns with names. Received: none")
    return found


def _spelling(separator, rows):
    """Whether numbers of a file may have decimal commas, and groups that they may."""
    if separator != ",":
        return True, _ELSEWHERE
    decimal = any(
        _DECIMAL_COMMA.fullmatch(text.strip())
        for row in rows
        for text in row
        if "," in text
    )
    # What may be a decimal comma as well as a thousand stays a text.
    return False, _AMONG_COMMAS if decimal else (_THOUSANDS, *_AMONG_COMMAS)


def _tell_odd(path, name, values, commas):
    """Warns of a column that is nearly all numbers."""
    known = [value for value in values if value is not None]
    odd = texts_among_numbers(known, commas)
    if 0 < odd.total() <= (1 - _NEARLY_ALL) * len(known):
        warnings.warn(
            f"Column {name!r} of {path} holds numbers except for "
            f"{' and '.join(map(repr, odd))}, which makes it one of categories; leave "
            "fields empty where a number is missing.",
            stacklevel=5,
        )


def _tell_rounded(path, name, numbers, texts):
    """Warns of integers that no number tells from those beside them."""
    for index in np.flatnonzero(np.abs(numbers) >= _EXACT):
        text = texts[index].strip()
        if _INTEGER.fullmatch(text) and int(text) != int(numbers[index]):
            warnings.warn(
                f"Column {name!r} of {path} holds integers beyond 2**53, which are "
                f"rounded: {text} to {int(numbers[index])}; where they are names, as "
                f"of customers, leave the column out, or read it with `texts=[{name!r}]"
                "`.",
                stacklevel=5,
            )
            return


def _are_values(names):
    """Whether names are numbers, other than positions and years."""
    numbers = _numbers(names, commas=False, grouped=())
    if not names or numbers is None or np.isnan(numbers).any():
        return False
    positions = (np.diff(numbers) == 1).all()
    years = ((numbers > 1800) & (numbers < 2200)).all()
    return not ((positions or years) and (numbers % 1 == 0).all())


def _are_like(names, columns, commas, grouped):
    """Whether names, numbers and texts, are each as what is below them."""
    kinds = set()
    for name, values in zip(names, columns, strict=True):
        if is_gap(name):
            continue
        number = _numbers([name], commas, grouped) is not None
        if number and _parsed(values, commas, grouped).dtype.kind != "f":
            return False
        if not number and name not in map(str.strip, values):
            return False
        kinds.add(number)
    return len(kinds) == 2


def _parsed(texts, commas, grouped):
    """Texts of a file as numbers or booleans, where all are."""
    texts = [text.strip() for text in texts]
    gaps = [text.lower() in _GAPS_OF_ANY_CASE for text in texts]
    known = [text for text, gap in zip(texts, gaps, strict=True) if not gap]
    parsed, gap = _numbers(known, commas, grouped), np.nan
    if parsed is None:
        flags = [flag_of(text) for text in known]
        if not all(isinstance(flag, bool) for flag in flags):
            return _texts(texts)
        parsed, gap = np.array(flags), None
    if not any(gaps):
        return parsed
    found = np.full(len(texts), gap)
    found[~np.array(gaps)] = parsed
    return found


def _texts(texts):
    """Texts of a file, None where they stand for nothing."""
    texts = [text.strip() for text in texts]
    return np.array([None if is_gap(text) else text for text in texts], object)


def _numbers(texts, commas, grouped):
    """Texts as numbers, None where not all are."""
    with contextlib.suppress(ValueError):
        return np.array([_number(text, commas) for text in texts], float)
    for kind in grouped:
        if all(map(kind.matches, texts)):
            return np.array([kind.number(text) for text in texts])
    return None


def _number(text, commas):
    if "_" in text:
        # Python alone reads a month such as 2021_01 as a number.
        raise ValueError(text)
    return float(text.replace(",", ".") if commas else text)


def is_gap(text: str) -> bool:
    """Whether a text stands for nothing in a file."""
    return text in _GAPS


def flag_of(value: Any) -> Any:
    """The boolean that a text of a file stands for; any other value as it is."""
    return _FLAGS.get(value.lower(), value) if isinstance(value, str) else value


def texts_among_numbers(
    values: Collection[Any], commas: bool = True
) -> collections.Counter:
    """Counts the texts that may stand for gaps: a few among more texts of numbers.

    Args:
        values: Of a column, without gaps.
        commas: Whether the numbers may have decimal commas.
    """
    odd = collections.Counter()
    for value in values:
        if isinstance(value, str) and not _is_number(value, commas):
            odd[value] += 1
            if len(odd) > _FEW:
                return collections.Counter()
    return odd if 2 * odd.total() < len(values) else collections.Counter()


def _is_number(text, commas):
    with contextlib.suppress(ValueError):
        _number(text, commas)
        return True
    return any(kind.matches(text) for kind in _ELSEWHERE)


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
    # As pandas names the dtype of categories, whose values may be numbers.
    category = str(getattr(values, "dtype", None)) == "category"
    found = np.asarray(values.astype(object) if category else values)
    if found.dtype != object:
        return found
    # What pandas has for a gap can neither be compared nor made a number.
    found = np.where(missing_of(found), None, found)
    return found.astype(_CATEGORY) if category else found


def is_category(values: np.ndarray) -> bool:
    """Whether a frame said that a column is one of categories, also of numbers."""
    return values.dtype.metadata == _CATEGORY.metadata
