"""Which rows of a table are not normal, and by which columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np

from keras_ae.anomalies import AnomalyDetector
from keras_ae.cli.commands.alarms import (
    alarms_of,
    anomalies_of,
    document,
    sections_of,
    tell_alarms,
    tell_labels,
    write_columns,
    write_page,
)
from keras_ae.datasets import Schema
from keras_ae.datasets.tables import read_numbered

# Rows in the report.
_SHOWN = 30


def score_rows(
    detector: AnomalyDetector,
    path: str,
    output: str,
    report: str | None = None,
    false_discoveries: float | None = None,
    label: str | None = None,
    limit: int | None = None,
) -> None:
    """Scores the rows of a table, and tells which column fits least.

    Args:
        detector: Of a model whose likelihood is `Columns`.
        path: Of a `.csv` or `.parquet` file.
        output: Path of the table of scores.
        report: Path of a page.
        false_discoveries: Share of false ones among the alarms, instead of the rate.
        label: Column that is 1 for anomalies and 0 for normal rows.
        limit: At most this many rows.

    Raises:
        ValueError: If the table has not the columns of the normal one, or values that
            it had not.
        FileNotFoundError: If there is no such file.
    """
    schema = detector.model_.likelihood.schema
    table, unit, places = read_places(path, limit, schema.texts)
    anomalous = anomalies_of(path, table, label)
    rows = rows_of(schema, table, unit, places)
    scores = detector.decision_function(rows)
    p_values, alarms = alarms_of(detector, scores, false_discoveries)
    columns = least_fitting(detector, rows)
    given = [_shown(table[name][i]) for i, name in enumerate(columns)]
    restored = schema.table(detector.model_.reconstruct(rows))
    expected = [_shown(restored[name][i]) for i, name in enumerate(columns)]
    found = {
        unit: places,
        "score": scores,
        "p_value": p_values,
        "alarm": alarms.astype(int),
        "column": columns,
        "value": given,
        "expected": expected,
    }
    write_columns(output, found)
    tell_alarms(detector, alarms, "rows", false_discoveries, output)
    figures, by_kind = tell_labels(scores, alarms, anomalous)
    if report is None:
        return
    worst = np.argsort(-scores, kind="stable")[:_SHOWN]
    heads = [(unit.capitalize(), "number"), ("Score", "number"), ("", "")]
    heads += [("Column", ""), ("Value", "number"), ("Expected", "number")]
    cells = [
        (
            str(places[i]),
            f"{scores[i]:.5g}",
            "alarm" if alarms[i] else "",
            columns[i],
            given[i],
            expected[i],
        )
        for i in worst
    ]
    sections = sections_of(detector, by_kind, figures, heads, cells)
    write_page(report, document(detector, alarms, "rows", sections))


def read_places(
    path: str, limit: int | None, texts: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], str, np.ndarray]:
    """Reads a table, and where its rows are in the file.

    Args:
        path: Of a `.csv` or `.parquet` file.
        limit: At most this many rows.
        texts: As for `datasets.read_table`.

    Returns:
        The columns by name; what tells a row's place, `"line"`, or where a file has
        none `"row"`; and these places, lines from 1 and rows from 0, `(n,)`.
    """
    table, lines = read_numbered(path, texts)
    table = {name: values[:limit] for name, values in table.items()}
    if lines is None:
        return table, "row", np.arange(len(next(iter(table.values()))))
    return table, "line", lines[:limit]


def rows_of(
    schema: Schema, table: Mapping[str, np.ndarray], unit: str, places: np.ndarray
) -> np.ndarray:
    """The rows of a table, `(n, schema.width)`; an error tells where in the file it is.

    Args:
        schema: Of the table.
        table, unit, places: As `read_places` returns them.

    Raises:
        ValueError: As `schema.rows`.
    """
    try:
        return schema.rows(table)
    except ValueError as error:
        # A schema counts rows from 0.
        told = re.sub(
            r"\bin row (\d+)",
            lambda found: f"in {unit} {places[int(found[1])]}",
            str(error),
        )
        raise ValueError(told) from error


def least_fitting(detector: AnomalyDetector, rows: np.ndarray) -> list[str]:
    """Returns the name of the column of each row whose error is least usual."""
    names = detector.model_.likelihood.schema.names
    return [names[place] for place in unusual_columns(detector, rows).argmax(axis=1)]


def unusual_columns(detector: AnomalyDetector, examples: np.ndarray) -> np.ndarray:
    """Returns how unusual the errors of columns are, `(n, ..., columns)`.

    Args:
        detector: Of a model whose likelihood is `Columns`.
        examples: Rows `(n, values)`, or windows of them, `(n, time, values)`.
    """
    schema = detector.model_.likelihood.schema
    totals = schema.by_column(detector.anomaly_map(examples).reshape(-1, schema.width))
    means = [totals[column.name] / column.width for column in schema.columns]
    return np.stack(means, axis=1).reshape(*examples.shape[:-1], -1)


def _shown(value):
    if value is None or value != value:
        return "missing"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
