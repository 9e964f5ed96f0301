"""Which windows of a series are not normal, and where in them."""

from __future__ import annotations

import numpy as np

from keras_ae import datasets, plots
from keras_ae.anomalies import AnomalyDetector
from keras_ae.cli.commands.alarms import (
    alarms_of,
    anomalies_of,
    as_png,
    document,
    sections_of,
    tell_alarms,
    tell_labels,
    write_columns,
    write_page,
)
from keras_ae.cli.commands.anomalous_rows import (
    read_places,
    rows_of,
    unusual_columns,
)
from keras_ae.runs.report import elements

# Windows and columns in the report.
_SHOWN, _COLUMNS = 6, 5


def score_series(
    detector: AnomalyDetector,
    path: str,
    output: str,
    report: str | None = None,
    false_discoveries: float | None = None,
    label: str | None = None,
    limit: int | None = None,
) -> None:
    """Scores windows of a series, half of each in the next, and tells where they err.

    Args:
        detector: Of a model of windows, whose likelihood is `Columns`.
        path: Of a `.csv` or `.parquet` file, a row a step.
        output: Path of the table of scores.
        report: Path of a page.
        false_discoveries: Share of false ones among the alarms, instead of the rate.
        label: Column that is 1 for anomalies and 0 for normal rows.
        limit: At most this many rows.

    Raises:
        ValueError: If the table has not the columns of the normal one, values that it
            had not, fewer rows than a window, or anomalies in all windows by `label`.
        FileNotFoundError: If there is no such file.
    """
    schema = detector.model_.likelihood.schema
    table, unit, places = read_places(path, limit, schema.texts)
    rows = rows_of(schema, table, unit, places)
    length = detector.model_.image_shape[0]
    if len(rows) < length:
        raise ValueError(
            f"The table must have as many rows as a window, {length}. Received: "
            f"{len(rows):,} in {path}"
        )
    stride = max(1, length // 2)
    windows = datasets.cut_windows(rows, length, stride)
    steps = datasets.cut_windows(np.arange(len(rows)), length, stride)[..., 0]
    anomalous = anomalies_of(path, table, label, steps)
    scores = detector.decision_function(windows)
    p_values, alarms = alarms_of(detector, scores, false_discoveries)
    unusual = unusual_columns(detector, windows)  # (windows, time, columns)
    worst_column, begin, end = zip(*map(_span, unusual), strict=True)
    columns = [schema.names[column] for column in worst_column]
    begin, end = (places[steps[:, 0] + step] for step in (begin, end))
    first, last = places[steps[:, 0]], places[steps[:, -1]]
    found = {
        f"first_{unit}": first,
        f"last_{unit}": last,
        "score": scores,
        "p_value": p_values,
        "alarm": alarms.astype(int),
        "column": columns,
        f"from_{unit}": begin,
        f"to_{unit}": end,
    }
    write_columns(output, found)
    tell_alarms(detector, alarms, "windows", false_discoveries, output)
    figures, by_kind = tell_labels(scores, alarms, anomalous)
    if report is None:
        return
    worst = np.argsort(-scores, kind="stable")[:_SHOWN]
    heads = [(f"{unit.capitalize()}s", "number"), ("Score", "number"), ("", "")]
    heads += [("Column", ""), ("Where", "number")]
    cells = [
        (
            f"{first[i]}-{last[i]}",
            f"{scores[i]:.5g}",
            "alarm" if alarms[i] else "",
            columns[i],
            f"{begin[i]}-{end[i]}",
        )
        for i in worst
    ]
    sections = sections_of(detector, by_kind, figures, heads, cells)
    titles = [f"{first[i]}-{last[i]}" for i in worst]
    drawn = _drawn(
        detector, table, windows[worst], steps[worst], unusual[worst], titles
    )
    if drawn is not None:
        caption = "What was given, what the model expects (dashed), and what differs "
        caption += "from what is usual there (red)."
        picture = elements.figure(as_png(drawn), "Least usual", caption, wide=True)
        sections["Least usual"].insert(0, picture)
    write_page(report, document(detector, alarms, "windows", sections))


def _span(unusual):
    """Column of the least usual step, and the steps around it that are half as bad."""
    step, column = np.unravel_index(unusual.argmax(), unusual.shape)
    below = np.flatnonzero(unusual[:, column] < unusual[step, column] / 2)
    begin = below[below < step].max(initial=-1) + 1
    end = below[below > step].min(initial=len(unusual)) - 1
    return column, begin, end


def _drawn(detector, table, windows, steps, unusual, titles):
    """Windows in the units of the table; None where it has no numbers."""
    schema = detector.model_.likelihood.schema
    numbers = [i for i, c in enumerate(schema.columns) if c.kind != "category"]
    if not numbers:
        return None
    # Those that err most, in the order of the table.
    highest = unusual.max(axis=(0, 1))
    numbers = sorted(sorted(numbers, key=lambda i: -highest[i])[:_COLUMNS])
    names = [schema.names[i] for i in numbers]
    restored = detector.model_.reconstruct(windows)
    restored = schema.table(restored.reshape(-1, schema.width))
    given = [np.asarray(table[name], "float64")[steps] for name in names]
    expected = [np.reshape(restored[name], steps.shape) for name in names]
    return plots.series(
        np.stack(given, axis=-1),
        np.stack(expected, axis=-1),
        unusual[..., numbers],
        names,
        titles,
    )
