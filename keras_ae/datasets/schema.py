"""Tables of numbers, counts and categories, with gaps, as rows of floats and back."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from keras_ae.datasets.tables import (
    columns_of,
    flag_of,
    is_category,
    is_gap,
    texts_among_numbers,
)
from keras_ae.gaps import missing_of

KINDS = ("number", "count", "category")
# Different values that a column of categories has at most.
_MOST = 1000
# Of them an error names so many.
_SHOWN = 10
# What a number is at most in a row, either way: squares of it can be summed in float32.
_FARTHEST = 1e15


class Column(NamedTuple):
    """What a schema knows of a column.

    Attributes:
        name: Its name.
        kind: `"number"`, `"count"` or `"category"`.
        mean: Of a number; a count's is the unit that it is measured in.
        deviation: Standard deviation of a number.
        categories: Of a category, in order; None stands for a missing one.
        gaps: Whether a number or a count may be missing, which a value of its own says.
    """

    name: str
    kind: str
    mean: float = 0.0
    deviation: float = 1.0
    categories: tuple = ()
    gaps: bool = False

    @property
    def width(self) -> int:
        """Values in a row."""
        return len(self.categories) or 1 + self.gaps


class Schema:
    """Turns the columns of a table into rows of floats for a model, and back.

    A number is standardised, a count is divided by its mean, a category becomes as many
    values as there are categories, of which one is 1. Where a number is missing the row
    has its mean, and 1 in a value that says so, which is 0 elsewhere.
    `keras_ae.likelihoods.Columns` describes such rows.

    Args:
        columns: Of the table, in order; `Schema.of` learns them from one.

    Example:

    >>> table = {"height": [1.7, None, 1.9], "colour": ["red", "blue", "red"]}
    >>> schema = keras_ae.datasets.Schema.of(table)
    >>> rows = schema.rows(table)
    >>> rows.shape
    (3, 4)
    >>> schema.table(rows)["colour"]
    array(['red', 'blue', 'red'], dtype=object)
    """

    def __init__(self, columns: Iterable[Column | Mapping[str, Any]]):
        self.columns = tuple(
            Column(**{**column, "categories": tuple(column["categories"])})
            if isinstance(column, Mapping)
            else column
            for column in columns
        )

    @classmethod
    def of(cls, table: Any, kinds: Mapping[str, str] | None = None) -> "Schema":
        """Learns the columns of a table of training examples.

        Args:
            table: A frame of pandas or polars, a mapping of columns, a structured
                array, an array `(n, columns)` of numbers, or the path of a file that
                `read_table` reads. None and NaN are missing.
            kinds: By column `"number"`, `"count"` (whole numbers from 0 up) or
                `"category"`, where they are not what their values look like: numbers
                are numbers, and everything else is a category, as are numbers of which
                a frame says so.

        Raises:
            ValueError: If a column has no values, or only one, or does not suit its
                kind.
        """
        table = columns_of(table)
        kinds = dict(kinds or {})
        unknown = [name for name in kinds if name not in table]
        if unknown:
            raise ValueError(
                f"`kinds` must name columns of the table ({', '.join(table)}). "
                f"Received: {unknown[0]!r}"
            )
        return cls(
            _learned(name, values, kinds.get(name)) for name, values in table.items()
        )

    @property
    def width(self) -> int:
        """Values in a row."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the columns whose categories are texts; see `read_table`."""
        return tuple(
            column.name
            for column in self.columns
            if column.kind == "category"
            and all(isinstance(c, str | None) for c in column.categories)
        )

    def slices(self) -> dict[str, slice]:
        """Where in a row the values of each column are, by name."""
        found, start = {}, 0
        for column in self.columns:
            found[column.name] = slice(start, start + column.width)
            start += column.width
        return found

    def rows(self, table: Any) -> np.ndarray:
        """Returns the rows of a table, `(n, width)` in float32.

        Numbers end at 1e15 deviations from the mean, and counts at so many means.

        Args:
            table: As for `of`; columns that are not in the schema are left out.

        Raises:
            ValueError: If a column is missing, or holds what training had not: a
                category, a gap, text among numbers.
        """
        table = columns_of(table, self.texts)
        absent = [name for name in self.names if name not in table]
        if absent:
            raise ValueError(
                f"The table must have the columns {', '.join(self.names)}. Received: "
                f"{', '.join(table)}, without {absent[0]!r}"
            )
        return np.concatenate(
            [_encoded(column, table[column.name]) for column in self.columns], axis=1
        )

    def table(self, rows: Any) -> dict[str, np.ndarray]:
        """Returns the columns that rows stand for, by name.

        Args:
            rows: Array `(n, width)`: rows, or what a model makes of them, such as
                `reconstruct` and `sample`; of categories the likeliest counts.

        Returns:
            Numbers in float64, NaN where they are missing, counts in whole numbers, and
            categories in an array of objects; `pandas.DataFrame` takes it.
        """
        rows = self._checked(rows)
        return {
            column.name: _decoded(column, rows[:, where])
            for column, where in zip(self.columns, self.slices().values(), strict=True)
        }

    def by_column(self, values: Any) -> dict[str, np.ndarray]:
        """Returns sums over the values of each column, `(n,)` each, by name.

        Args:
            values: Array `(n, width)`, such as an anomaly map, or errors.
        """
        values = self._checked(values)
        return {
            name: values[:, where].sum(axis=1) for name, where in self.slices().items()
        }

    def _checked(self, rows):
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(
                f"`rows` must have the shape (n, {self.width}). Received: an array of "
                f"shape {rows.shape}"
            )
        return rows

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes the schema of, as JSON knows it."""
        return {"columns": [column._asdict() for column in self.columns]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schema":
        """Makes a schema of what `get_config` returned."""
        return cls(config["columns"])


def _is_number(value):
    return isinstance(value, Real | Decimal) and not isinstance(value, bool)


def _learned(name, values, kind):
    """What a column of a table is."""
    if values.ndim != 1 or values.dtype.kind in "mMc":
        raise ValueError(
            f"Column {name!r} must hold numbers or categories. Received: "
            f"{values.dtype} of shape {values.shape}; make numbers of times"
        )
    missing = missing_of(values)
    known = values[~missing]
    several = [v for v in known if hasattr(v, "__len__") and not isinstance(v, str)]
    if several:
        raise ValueError(
            f"Column {name!r} must hold one number or category in a row. Received: "
            f"{several[0]!r}"
        )
    if not len(known):
        raise ValueError(
            f"Column {name!r} must have values. Received: {len(values)} gaps; leave it "
            "out"
        )
    if kind is None:
        numbers = values.dtype.kind in "iuf" or all(map(_is_number, known))
        kind = "number" if numbers and not is_category(values) else "category"
    if kind not in KINDS:
        raise ValueError(
            f"The kind of column {name!r} must be one of {', '.join(KINDS)}. Received: "
            f"{kind!r}"
        )
    gaps = bool(missing.any())
    if kind == "category":
        return _learned_category(name, known, gaps)
    known = _numbers(name, known)
    if known.min() == known.max():
        raise ValueError(
            f"Column {name!r} must have more than one value. Received: "
            f"{known[0]:g} in all rows; leave it out"
        )
    if kind == "number":
        return Column(name, kind, float(known.mean()), float(known.std()), (), gaps)
    if known.min() < 0 or (known != np.round(known)).any():
        raise ValueError(
            f"Column {name!r} of counts must hold whole numbers from 0 up. Received: "
            f"numbers from {known.min():g} to {known.max():g}"
        )
    return Column(name, kind, float(known.mean()), 1.0, (), gaps)


def _learned_category(name, known, gaps):
    categories = {_plain(value) for value in known}
    if len(categories) > min(_MOST, max(20, len(known) // 2)):
        odd = " and ".join(map(repr, texts_among_numbers(known)))
        remedy = (
            f"they are numbers except for {odd}: make gaps of that"
            if odd
            else "leave it out, or make numbers of it"
        )
        raise ValueError(
            f"Column {name!r} must have categories that several rows share. Received: "
            f"{len(categories)} different ones in {len(known)} rows; {remedy}"
        )
    if len(categories) + gaps == 1:
        raise ValueError(
            f"Column {name!r} must have more than one value. Received: "
            f"{categories.pop()!r} in all rows; leave it out"
        )
    ordered = sorted(categories, key=lambda value: (str(type(value)), value))
    return Column(name, "category", categories=(*ordered, *([None] if gaps else ())))


def _plain(value):
    """A category as JSON knows it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, bool | int | float | str) else str(value)


def _numbers(name, values):
    """Values in float64, or an error that says which is none."""
    try:
        numbers = values.astype("float64")
    except (TypeError, ValueError):
        odd = next(
            iter((*texts_among_numbers(values), *filter(_is_odd, values), *values))
        )
        raise ValueError(
            f"Column {name!r} must hold numbers. Received: {odd!r}"
        ) from None
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"Column {name!r} must hold finite numbers. Received: infinite ones"
        )
    return numbers


def _is_odd(value):
    try:
        float(value)
    except (TypeError, ValueError):
        return True
    return False


def _places(column):
    """Where among the values of a category each is, and what a file may have for it."""
    places = {category: i for i, category in enumerate(column.categories)}
    known = [(text, i) for text, i in places.items() if isinstance(text, str)]
    for read in (None, True, False):
        # As texts they are in schemas of frames, and of files of earlier versions.
        like = [
            i for text, i in known if (None if is_gap(text) else flag_of(text)) is read
        ]
        if len(like) == 1:
            places.setdefault(read, like[0])
    return places


def _encoded(column, values):
    """The values of a column in rows, `(n, column.width)`."""
    missing = missing_of(values)
    if column.kind == "category":
        places = _places(column)
        plain = [
            None if gap else _plain(value)
            for value, gap in zip(values, missing, strict=True)
        ]
        plain = [value if value in places else flag_of(value) for value in plain]
        unknown = [i for i, value in enumerate(plain) if value not in places]
        if unknown:
            received = plain[unknown[0]]
            known = ", ".join(map(repr, column.categories[:_SHOWN]))
            others = len(column.categories) - _SHOWN
            raise ValueError(
                f"Column {column.name!r} must hold one of the categories {known}"
                f"{f' and {others:,} more' if others > 0 else ''}. Received: "
                f"{'a gap' if received is None else repr(received)} in row "
                f"{unknown[0]}, which training had not"
            )
        chosen = [places[value] for value in plain]
        return np.eye(column.width, dtype="float32")[chosen]
    if missing.any() and not column.gaps:
        raise ValueError(
            f"Column {column.name!r} must have no gaps, as in training. Received: one "
            f"in row {missing.argmax()}; fill it"
        )
    numbers = np.full(len(values), column.mean)
    numbers[~missing] = _numbers(column.name, values[~missing])
    # What is beyond all bounds, as some marks of gaps are, is the worst of anomalies.
    with np.errstate(over="ignore"):
        if column.kind == "count":
            numbers = numbers / column.mean
        else:
            numbers = (numbers - column.mean) / column.deviation
    numbers = np.clip(numbers, -_FARTHEST, _FARTHEST)
    parts = [numbers, missing] if column.gaps else [numbers]
    return np.stack(parts, axis=1).astype("float32")


def _decoded(column, values):
    """What a column's values in rows `(n, column.width)` stand for, `(n,)`."""
    if column.kind == "category":
        categories = np.empty(len(column.categories), object)
        categories[:] = column.categories
        return categories[values.argmax(axis=1)]
    numbers = values[:, 0].astype("float64")
    if column.kind == "count":
        numbers = np.maximum(np.round(numbers * column.mean), 0)
    else:
        numbers = numbers * column.deviation + column.mean
    if column.gaps:
        numbers[values[:, 1] > 0.5] = np.nan
    elif column.kind == "count":
        numbers = numbers.astype("int64")
    return numbers
