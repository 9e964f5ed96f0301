"""What is normal: pictures, rows of a table, or windows of a series."""

from __future__ import annotations

import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np

from keras_ae import datasets
from keras_ae.anomalies import AnomalyDetector
from keras_ae.cli.commands.plans import Training
from keras_ae.runs import Run

# Where industrial data sets have what is normal.
_FOLDERS = ("train/good", "train/normal", "normal", "good")
# Shares of the normal examples: what settles the score, what the rate is measured on.
_TUNING, HELD_BACK = 0.1, 0.2
# Windows of training begin so many times in the length of one, of tuning half as often.
_OVERLAP = 8


class Normal(NamedTuple):
    """Normal examples of each purpose, and what they are called."""

    noun: str
    what: str
    learned: np.ndarray
    tuning: np.ndarray
    held_back: np.ndarray


def read_normal(run: Run, data: str, training: Training, window: int | None) -> Normal:
    """Reads normal examples, and settles what a table asks of the model.

    Args:
        run: That reads them.
        data: Path of a folder or zip of pictures, or of a table, or name of a data set.
        training: What will be trained.
        window: Steps of a window, where the rows of the table are those of a series.

    Raises:
        ValueError: If the data are not of that kind, or too few.
        FileNotFoundError: If there are none.
    """
    if not datasets.is_table(data):
        if window is not None:
            raise ValueError(
                "`--window` must be left out for pictures: it makes windows of the "
                f"rows of a table. Received: {data}"
            )
        _check_pictures(pathlib.Path(data))
        split = "train+validation" if datasets.recognise(data) else "all"
        (pictures,) = run.load(_folder(data), splits=(split,))
        return _drawn(run, data, "pictures", "PICTURES", pictures)
    schema, rows = run.load_table(data)
    training.describe(schema, of_series=window is not None)
    if window is None:
        return _drawn(run, data, "rows", "TABLE", rows)
    return _of_series(data, rows, window)


def _check_pictures(path):
    """Refuses a file that holds no pictures, and a zip of those that are not normal."""
    names = []
    if path.is_file() and zipfile.is_zipfile(path):
        names = [f"/{name}" for name in datasets.folders.Pictures(path).names]
    if path.is_file() and not (names or datasets.folders.holds_pictures(path)):
        raise ValueError(
            "NORMAL must be pictures, in a folder, a zip or shards, or a table, .csv "
            f"or .parquet. Received: {path}"
        )
    for folder in _FOLDERS:
        inside = [f"/{folder}/" in name for name in names]
        if any(inside) and not all(inside):
            raise ValueError(
                f"NORMAL must be what is normal. Received: {path}, with {folder} and "
                "others; unzip it, and give that folder."
            )


def _drawn(run, data, noun, what, examples):
    count = len(examples)
    fewest = AnomalyDetector.fewest
    if count < fewest:
        raise ValueError(
            f"There must be {fewest} normal {noun} at least. Received: {count} in "
            f"{data}"
        )
    order = np.random.default_rng(run.seed).permutation(count)
    sizes = [max(1, int(share * count)) for share in (_TUNING, HELD_BACK)]
    tuning, held_back, learned = np.split(order, np.cumsum(sizes))
    return Normal(noun, what, examples[learned], examples[tuning], examples[held_back])


def _of_series(data: str, rows: Any, window: int) -> Normal:
    """Windows of stretches that have no step in common.

    Those on which the rate is measured have none in common among each other: they would
    not be as many examples as they are windows.
    """
    fewest = AnomalyDetector.fewest * window
    if len(rows) < fewest:
        raise ValueError(
            f"There must be {fewest:,} rows at least for windows of {window}. "
            f"Received: {len(rows):,} in {data}"
        )
    sizes = [max(window, int(share * len(rows))) for share in (HELD_BACK, _TUNING)]
    ends = len(rows) - np.cumsum(sizes)[::-1]
    strides = (window // _OVERLAP, 2 * window // _OVERLAP, window)
    learned, tuning, held_back = (
        datasets.cut_windows(part, window, max(1, stride))
        for part, stride in zip(np.split(rows, ends), strides, strict=True)
    )
    if len(rows[ends[1] :]) % window:
        # The last one overlaps the one before.
        held_back = held_back[:-1]
    return Normal("windows", "TABLE", learned, tuning, held_back)


def _folder(data):
    """Where a folder has its normal pictures."""
    if datasets.recognise(data):
        return data
    folder = pathlib.Path(data).expanduser()
    for name in _FOLDERS:
        if (folder / name).is_dir():
            return str(folder / name)
    return data
