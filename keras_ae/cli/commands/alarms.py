"""What is written of scores and alarms, of pictures and of rows."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ae import plots
from keras_ae.anomalies import AnomalyDetector
from keras_ae.files import replacing
from keras_ae.runs.report import elements


def write_columns(output: str, columns: Mapping[str, Any]) -> None:
    """Writes a table of comma-separated values, with a line of names."""
    target = pathlib.Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(target) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


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


def histogram(known: Mapping[str, np.ndarray], threshold: float) -> Any:
    """The distributions of scores by name, and where the alarm begins."""
    alarm = {f"alarm above {threshold:.4g}": threshold}
    return plots.histogram(known, "score, higher is less usual", alarm)


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
        temporary.write_text(page, encoding="utf-8")
    print(f"Report  {report}")


def as_png(picture: Any) -> bytes:
    """The bytes of a PIL image or a matplotlib figure."""
    file = io.BytesIO()
    save = getattr(picture, "savefig", None) or picture.save
    save(file, format="png")
    return file.getvalue()
