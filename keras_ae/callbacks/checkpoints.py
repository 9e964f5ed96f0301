"""What a run keeps on disk as it trains, and goes on from."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_ae.files import replacing
from keras_ae.nn import seeds
from keras_ae.training import optimizers

NOTE = "keras_ae_run.json"


class Checkpoint(keras.callbacks.Callback):
    """Keeps the last model, for going on, and the best one, on disk.

    Of a model whose optimizers keep running averages of its weights (`use_ema=True`),
    the best one is written with these.

    Each file is written beside its final place and then moved there, so that a crash
    or a full disk leaves the previous one whole. A full disk is a warning, and
    training goes on. The files are ordinary `.keras` files with optimizer state, and
    carry one more member: the history up to their epoch, which is what makes the
    checkpoint and its history one.

    Args:
        last: Path of the checkpoint of the last complete epoch.
        best: Path of the model with the best value of `monitor`.
        monitor: Name of the logged value to compare; None to take each epoch's model
            for better than the one before.
        mode: `"min"` or `"max"`.
        start_from_epoch: Epochs before this one (from 0) are no candidates for best.
        history: The list of rows, one dict an epoch, that travels with the files.
            The caller owns and extends it.

    Raises:
        ValueError: If `mode` is unknown, or `monitor` is not logged.
    """

    def __init__(
        self,
        last: str | os.PathLike,
        best: str | os.PathLike,
        monitor: str | None = "val_loss",
        mode: str = "min",
        start_from_epoch: int = 0,
        history: list[dict] | None = None,
    ):
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f"`mode` must be 'min' or 'max'. Received: mode={mode!r}")
        self.last = pathlib.Path(last)
        self.best = pathlib.Path(best)
        self.monitor = monitor
        self.mode = mode
        self.start_from_epoch = start_from_epoch
        self.history = [] if history is None else history
        self.best_value = None

    def on_train_begin(self, logs=None):
        # What counts is the best model that is on disk: when one could not be
        # written, the next that beats the file takes its place.
        if self.monitor is not None and self.best.exists():
            rows = _of_phase(read_note(self.best), self.model)
            self.best_value = rows[-1].get(self.monitor) if rows else None

    def on_epoch_end(self, epoch, logs=None):
        name = self.monitor or "loss"
        if name not in (logs or {}):
            raise ValueError(
                f"`monitor` must be one of the logged values: {', '.join(logs or {})}. "
                f"Received: monitor={self.monitor!r}"
            )
        value = float(logs[name])
        if not np.isfinite(value):
            warn(f"Epoch {epoch + 1}: {name} is {value}: training diverged.")
        # The best first: killed between the two, the run takes this epoch once more.
        better = epoch >= self.start_from_epoch and self._improves(value)
        with optimizers.averaged_weights(self.model) as averaged:
            saved = better and self._write(self.best)
        if saved:
            self.best_value = value
        if saved and not averaged:
            self._save(
                self.last, lambda temporary: shutil.copyfile(self.best, temporary)
            )
        else:
            self._write(self.last)

    def _write(self, path):
        return self._save(
            path, lambda temporary: save(self.model, temporary, self.history)
        )

    def _improves(self, value):
        if not np.isfinite(value):
            return False
        if self.monitor is None or self.best_value is None:
            return True
        if not np.isfinite(self.best_value):
            return True
        if self.mode == "min":
            return value < self.best_value
        return value > self.best_value

    def _save(self, path, write):
        try:
            with replacing(path) as temporary:
                write(temporary)
        except OSError as error:
            rest = "the previous one is kept" if path.exists() else "there is none yet"
            warn(
                f"The checkpoint {path} could not be written ({reason(error)}); "
                f"{rest} and training goes on."
            )
            return False
        return True


class ResumedEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping that counts the epochs of an earlier start.

    Args:
        history: Rows of the epochs trained before, each with its number from 0 as
            `"epoch"`.
        **arguments: As for `keras.callbacks.EarlyStopping`.
    """

    def __init__(self, history: Sequence[dict], **arguments):
        super().__init__(**arguments)
        self._history = history

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        for row in _of_phase(self._history, self.model):
            self.on_epoch_end(row["epoch"], row)


class ResumedReduceLROnPlateau(keras.callbacks.ReduceLROnPlateau):
    """A rate that falls where nothing gets better, counting an earlier start's epochs.

    Given the best checkpoint, training goes on from that with the lower rate: a model
    that has begun to overfit would carry this on, and the last steps at the high rate
    stay in the pictures as a grid.

    Args:
        history: Rows of the epochs trained before, as for `ResumedEarlyStopping`, with
            what this callback logged there, `"learning_rate"`.
        best: Path of the checkpoint of the best epoch, as `Checkpoint` writes it after
            this callback; None to go on from the last epoch.
        **arguments: As for `keras.callbacks.ReduceLROnPlateau`.
    """

    def __init__(
        self,
        history: Sequence[dict],
        best: str | os.PathLike | None = None,
        **arguments,
    ):
        super().__init__(**arguments)
        self._history = history
        self._best = None if best is None else pathlib.Path(best)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        optimizer = self.model.optimizer
        # The checkpoint's, to which the rows have led already.
        rate = float(optimizer.learning_rate)
        for row in _of_phase(self._history, self.model):
            optimizer.learning_rate = row.get("learning_rate", rate)
            super().on_epoch_end(row["epoch"], {**row})
        optimizer.learning_rate = rate

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        before = float(optimizer.learning_rate)
        super().on_epoch_end(epoch, logs)
        after = float(optimizer.learning_rate)
        if after < before and self._best is not None and self._best.exists():
            self.model.load_weights(self._best)
            optimizer.learning_rate = after


class EpochSeeds(keras.callbacks.Callback):
    """Seeds each epoch by its number: a resumed run draws what it would have drawn.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        seeds.assign(self.model, self._seed, epoch)


class Rows(keras.callbacks.Callback):
    """Adds one row an epoch to a list: its number from 0, its values, its seconds.

    Args:
        rows: The list to extend.
    """

    def __init__(self, rows: list[dict]):
        super().__init__()
        self._rows = rows

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        values = {name: float(value) for name, value in (logs or {}).items()}
        seconds = round(time.perf_counter() - self._begun, 3)
        self._rows.append({"epoch": epoch, **values, "seconds": seconds})


class HistoryFile(keras.callbacks.Callback):
    """Keeps a CSV file of the history up to date; epochs are numbered from 1 there.

    Args:
        path: Path of the file. A full disk is a warning, and training goes on.
        rows: The rows, as `Rows` adds them.
    """

    def __init__(self, path: str | os.PathLike, rows: Sequence[dict]):
        super().__init__()
        self._path = pathlib.Path(path)
        self._rows = rows

    def on_epoch_end(self, epoch, logs=None):
        self.write()

    def write(self) -> None:
        """Writes all rows."""
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        try:
            with (
                replacing(self._path) as temporary,
                open(temporary, "w", newline="") as file,
            ):
                table = csv.DictWriter(file, names)
                table.writeheader()
                for row in self._rows:
                    table.writerow({**row, "epoch": row["epoch"] + 1})
        except OSError as error:
            warn(
                f"{self._path} could not be written ({reason(error)}); its rows are "
                "kept and written with the next epoch."
            )


def _of_phase(rows, model):
    """Rows whose losses can be compared with those of the phase that is trained."""
    phase = getattr(model, "next_phase", None)
    return [row for row in rows if phase is None or row.get("phase") == phase]


def save(model: keras.Model, path: pathlib.Path, history: list[dict]) -> None:
    """Writes a `.keras` file that also carries the history of its training."""
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(NOTE, json.dumps(history))


def read_note(path: str | os.PathLike) -> list[dict]:
    """Rows of history that a checkpoint carries; empty where it carries none.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if NOTE not in archive.namelist():
                return []
            return json.loads(archive.read(NOTE))
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from error


def reason(error: OSError) -> str:
    """The words of an operating system error, without its number and path."""
    return (error.strerror or str(error)).lower()


def warn(sentence: str) -> None:
    """Prints one line of warning that a progress bar does not swallow."""
    print(f"\nWarning: {sentence}", file=sys.stderr, flush=True)
