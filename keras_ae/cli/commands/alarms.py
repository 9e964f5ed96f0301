"""What is written of scores and alarms, of pictures and of rows."""

from __future__ import annotations

import collections
import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ae import metrics, plots
from keras_ae.anomalies import AnomalyDetector, benjamini_hochberg
from keras_ae.files import replacing
from keras_ae.runs.report import elements

# How files write what a label tells.
_NORMAL, _ANOMALOUS = ("0", "0.0", "False"), ("1", "1.0", "True")


def write_columns(output: str, columns: Mapping[str, Any]) -> None:
    """Writes a table of comma-separated values, with a line of names."""
    target = pathlib.Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(target) as temporary,
        # Names of files may be none in UTF-8.
        temporary.open(
            "w", newline="", encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def alarms_of(
    detector: AnomalyDetector, scores: np.ndarray, false_discoveries: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns p-values and which examples raise an alarm, `(n,)` each."""
    p_values = detector.conformal_.p_values(scores)
    if false_discoveries is None:
        return p_values, scores > detector.threshold_
    return p_values, benjamini_hochberg(p_values, false_discoveries)


def tell_alarms(
    detector: AnomalyDetector,
    alarms: np.ndarray,
    noun: str,
    false_discoveries: float | None,
    output: str,
) -> None:
    """Prints how many raise an alarm, and how many false ones to expect."""
    expected = f"of normal ones: {100 * detector.false_alarms:.3g} %"
    if false_discoveries is not None:
        expected = f"at most {100 * false_discoveries:.3g} % of these false"
    print(
        f"{alarms.sum():,} of {len(alarms):,} {noun} raise an alarm ({expected}).\n"
        f"Written to {output}"
    )


def anomalies_of(
    path: str,
    table: Mapping[str, Any],
    label: str | None,
    steps: np.ndarray | None = None,
) -> np.ndarray | None:
    """Which rows of a table are anomalies; None where no column tells.

    Args:
        path: Of the table.
        table: Its columns by name.
        label: Name of the one that tells.
        steps: Of windows the rows that each has, `(windows, length)`: then those are
            anomalies that have one.

    Raises:
        ValueError: If the column is missing, holds something else than 0 and 1, or one
            of them only.
    """
    if label is None:
        return None
    if label not in table:
        raise ValueError(
            f"`--label` must be a column of {path}: {', '.join(table)}. Received: "
            f"{label}"
        )
    values = [str(value) for value in np.asarray(table[label]).tolist()]
    odd = {*values} - {*_NORMAL, *_ANOMALOUS}
    if odd:
        raise ValueError(
            f"Column {label!r} must hold 1 for an anomaly and 0 for a normal row. "
            f"Received: {min(odd)}"
        )
    anomalous, noun = np.isin(values, _ANOMALOUS), "rows"
    if steps is not None:
        anomalous, noun = anomalous[steps].any(axis=1), "windows"
    if anomalous.all() or not anomalous.any():
        raise ValueError(
            f"Column {label!r} must tell of anomalies and of normal {noun}. Received: "
            f"{anomalous.sum()} of {len(anomalous)} are anomalies"
        )
    return anomalous


FIGURE_HEADS = [("", ""), ("Here (95 % of bootstrap resamples)", "number")]


def tell_figures(
    scores: np.ndarray, alarms: np.ndarray, anomalous: np.ndarray, kinds: np.ndarray
) -> list[tuple[str, str]]:
    """Prints and returns what labels tell: pairs of a name and a figure.

    Args:
        scores, alarms: Of each example, `(n,)`.
        anomalous: Which of them are anomalies, `(n,)`.
        kinds: What each is called, `(n,)`.
    """
    found = metrics.detection(scores, anomalous)
    meanings = {
        "auroc": "AUROC",
        "average_precision": "average precision",
        "false_alarms_at_95": "false alarms where 95 % are found",
    }
    rows = []
    for name, meaning in meanings.items():
        low, high = found.intervals[name]
        value = f"{getattr(found, name):.3f} ({low:.3f} to {high:.3f})"
        rows.append((meaning, value))
    for kind, count in sorted(collections.Counter(kinds.tolist()).items()):
        raised = alarms[kinds == kind]
        rows.append((f"alarms: {kind}", f"{raised.sum():,} of {count:,}"))
    for what, value in rows:
        print(f"  {what:34} {value}")
    return rows


def tell_labels(
    scores: np.ndarray, alarms: np.ndarray, anomalous: np.ndarray | None
) -> tuple[list[tuple[str, str]], dict[str, np.ndarray]]:
    """What a column of labels tells: figures, and the scores by what they are of."""
    if anomalous is None:
        return [], {"scored": scores}
    kinds = np.where(anomalous, "anomalies", "normal")
    by_kind = {name: scores[kinds == name] for name in ("normal", "anomalies")}
    return tell_figures(scores, alarms, anomalous, kinds), by_kind


def histogram(known: Mapping[str, np.ndarray], threshold: float) -> Any:
    """The distributions of scores by name, and where the alarm begins."""
    alarm = {f"alarm above {threshold:.4g}": threshold}
    return plots.histogram(known, "score, higher is less usual", alarm)


def sections_of(
    detector: AnomalyDetector,
    known: Mapping[str, np.ndarray],
    figures: Sequence[tuple[str, str]],
    heads: Sequence[tuple[str, str]],
    cells: Sequence[tuple[str, ...]],
) -> dict[str, list[str]]:
    """The page's sections on a table: its scores, and what is least usual in it."""
    known = {"held-back normal": detector.conformal_.scores, **known}
    chart = histogram(known, detector.threshold_)
    scores = [elements.figure(as_png(chart), "Scores", "", wide=True)]
    if figures:
        scores.append(elements.table(FIGURE_HEADS, figures))
    return {"Scores": scores, "Least usual": [elements.table(heads, cells)]}


def document(
    detector: AnomalyDetector,
    alarms: np.ndarray,
    noun: str,
    sections: Mapping[str, Any],
) -> str:
    """The page around its sections."""
    head = [
        elements.glance(
            [
                ("alarms", f"{alarms.sum():,} of {len(alarms):,}"),
                (
                    "rate asked for",
                    f"{100 * detector.false_alarms:.3g} % of normal {noun}",
                ),
                (f"held-back normal {noun}", f"{len(detector.conformal_.scores):,}"),
            ]
        )
    ]
    about = f"{type(detector.model_).__name__}, score: {detector.score_.name}."
    return elements.document("Anomalies", about, head, sections)


def write_page(report: str, page: str) -> None:
    """Writes the page, and says where it is."""
    target = pathlib.Path(report)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    print(f"Report  {report}")


def as_png(picture: Any) -> bytes:
    """The bytes of a PIL image or a matplotlib figure."""
    file = io.BytesIO()
    save = getattr(picture, "savefig", None) or picture.save
    save(file, format="png")
    return file.getvalue()
