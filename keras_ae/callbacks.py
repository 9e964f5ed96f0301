"""Callbacks for `fit`: schedules, and pictures as training goes on."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_ae import metrics, plots, seeds
from keras_ae.files import replacing
from keras_ae.inputs import check_count

NOTE = "keras_ae_run.json"


class _Schedule(keras.callbacks.Callback):
    """Base of callbacks that set a number of the model at the start of each epoch.

    A subclass implements `share(epoch)`: which part of its final value it has.
    """

    number, final, needed = "kl_weight", "beta", "a KL term, such as `VAE`"

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = check_count("epochs", epochs)

    def on_train_begin(self, logs=None):
        settled = getattr(self.model, "settled_arguments", ())
        if not hasattr(self.model, self.number) or self.final in settled:
            raise ValueError(
                f"`{type(self).__name__}` needs a model with {self.needed}. Received: "
                f"a {type(self.model).__name__}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        final = getattr(self.model, self.final)
        getattr(self.model, self.number).assign(self.share(epoch) * final)


class BetaWarmUp(_Schedule):
    """Raises the weight of the KL term linearly from 0 to the model's `beta`.

    While the weight rises the loss of one epoch can't be compared with another's:
    begin early stopping after the warm-up (`start_from_epoch`).

    Args:
        epochs: Number of epochs that the rise takes. The first epoch trains at
            weight 0, epoch `epochs + 1` and all later ones at `beta`.

    Raises:
        ValueError: If `epochs` is below 1, or the model has no KL weight.

    Example:

    ```python
    model.fit(x, epochs=50, callbacks=[keras_ae.callbacks.BetaWarmUp(epochs=10)])
    ```

    Reference:
        Bowman et al. 2016, "Generating Sentences from a Continuous Space".
    """

    def share(self, epoch):
        return min(1.0, epoch / self.epochs)


class CyclicalBeta(_Schedule):
    """Raises the weight of the KL term from 0 to the model's `beta`, again and again.

    Each cycle begins at 0, where codes learn to say something, and from the middle on
    trains at `beta`. Losses can be compared at the ends of cycles.

    Args:
        epochs: Number of epochs in a cycle.

    Raises:
        ValueError: If `epochs` is below 1, or the model has no KL weight.

    Example:

    ```python
    model.fit(x, epochs=40, callbacks=[keras_ae.callbacks.CyclicalBeta(epochs=10)])
    ```

    Reference:
        Fu et al. 2019, "Cyclical Annealing Schedule: A Simple Approach to Mitigating KL
        Vanishing".
    """

    def share(self, epoch):
        return min(1.0, epoch % self.epochs / max(0.5 * self.epochs, 1.0))


class CapacityIncrease(_Schedule):
    """Raises the capacity of a `BetaVAE` linearly from 0 nats to its `capacity`.

    Args:
        epochs: Number of epochs that the rise takes. The first epoch trains at 0 nats,
            epoch `epochs + 1` and all later ones at `capacity`.

    Raises:
        ValueError: If `epochs` is below 1, or the model has no capacity.

    Example:

    ```python
    model = keras_ae.BetaVAE(latent_dim=10, beta=100.0, capacity=25.0)
    model.fit(x, epochs=60, callbacks=[keras_ae.callbacks.CapacityIncrease(epochs=50)])
    ```

    Reference:
        Burgess et al. 2018, "Understanding Disentangling in β-VAE".
    """

    number, final = "current_capacity", "capacity"
    needed = "a capacity, such as `BetaVAE(capacity=25.0)`"

    def share(self, epoch):
        return min(1.0, epoch / self.epochs)


class SampleSheet(keras.callbacks.Callback):
    """Saves one sheet of pictures per chosen epoch, to see a model learn.

    A generative model (one with `sample`) is drawn from with the same seed each
    time, so that the sheets can be compared. Another reconstructs `images`.

    Args:
        directory: Folder for `epoch-0001.png`, ...; created if absent.
        every: Number of epochs between sheets. The first epoch always has one.
        images: Pictures to reconstruct, `(pictures, height, width, channels)`;
            needed for models that can't be sampled.
        number: Number of pictures on a sheet.
        seed: Seed of the samples.

    Raises:
        ValueError: If `every` or `number` is below 1, or a model that can't be
            sampled comes without `images`.

    Example:

    ```python
    model.fit(x, callbacks=[keras_ae.callbacks.SampleSheet("sheets", every=5)])
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        every: int = 1,
        images: np.ndarray | None = None,
        number: int = 64,
        seed: int = 0,
    ):
        super().__init__()
        for name, value in (("every", every), ("number", number)):
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1. Received: {name}={value}")
        self.directory = pathlib.Path(directory)
        self.every = every
        self.images = None if images is None else images[:number]
        self.number = number
        self.seed = seed

    def on_train_begin(self, logs=None):
        if not self.model.can_sample and self.images is None:
            raise ValueError(
                f"`SampleSheet` can't sample a {type(self.model).__name__}: pass "
                "`images=` to reconstruct instead."
            )

    def on_epoch_end(self, epoch, logs=None):
        if epoch and (epoch + 1) % self.every:
            return
        if self.model.can_sample:
            pictures = self.model.sample(self.number, seed=self.seed)
        else:
            pictures = self.model.reconstruct(self.images)
        path = self.directory / f"epoch-{epoch + 1:04d}.png"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                plots.sheet(pictures).save(temporary)
        except OSError as error:
            warn(f"The sample sheet {path} could not be written ({reason(error)}).")


class Checkpoint(keras.callbacks.Callback):
    """Keeps the last model, for going on, and the best one, on disk.

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
        saved = better and self._write(self.best)
        if saved:
            self.best_value = value
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


class AdversarialWatch(keras.callbacks.Callback):
    """Warns when a discriminator wins outright, or samples collapse, with the figure.

    It reads what adversarial models log: `discriminator_accuracy`, the share of pairs
    of a real and a generated example that the discriminator ranks rightly, and
    `diversity`, the spread of samples relative to that of the data. A Wasserstein
    critic is meant to win, so that only collapse is watched there.

    Args:
        accuracy: A higher one in each of `patience` epochs is an outright win.
        diversity: A lower one in each of `patience` epochs is a collapse.
        patience: Number of epochs, >= 1.

    Raises:
        ValueError: If the model logs neither figure, or `patience` is below 1.

    Example:

    ```python
    model.fit(x, epochs=50, callbacks=[keras_ae.callbacks.AdversarialWatch()])
    ```
    """

    def __init__(
        self, accuracy: float = 0.99, diversity: float = 0.1, patience: int = 3
    ):
        super().__init__()
        if patience < 1:
            raise ValueError(f"`patience` must be >= 1. Received: patience={patience}")
        self.accuracy = accuracy
        self.diversity = diversity
        self.patience = patience

    def on_train_begin(self, logs=None):
        if "discriminator_accuracy" not in self.model.monitor_names:
            raise ValueError(
                "`AdversarialWatch` needs a model with a discriminator, such as `GAN`. "
                f"Received: a {type(self.model).__name__}"
            )
        self._wins = self._collapses = 0

    def on_epoch_end(self, epoch, logs=None):
        if epoch < getattr(self.model, "discriminator_start", 0):
            return
        accuracy = logs["discriminator_accuracy"]
        is_critic = getattr(self.model, "adversarial_loss", None) == "wasserstein"
        won = accuracy > self.accuracy and not is_critic
        self._wins = self._wins + 1 if won else 0
        collapsed = logs.get("diversity", 1.0) < self.diversity
        self._collapses = self._collapses + 1 if collapsed else 0
        if self._wins == self.patience:
            warn(
                f"Epoch {epoch + 1}: the discriminator has ranked more than "
                f"{self.accuracy:.1%} of pairs rightly for {self.patience} epochs "
                f"({accuracy:.1%} in this one). It wins outright, and little is left "
                "to learn from: lower its learning rate" + self._remedies()
            )
        if self._collapses == self.patience:
            warn(
                f"Epoch {epoch + 1}: samples have varied less than {self.diversity:.0%}"
                f" as much as the data for {self.patience} epochs "
                f"({logs['diversity']:.1%} in this one). They have collapsed: lower "
                "the learning rates, or the discriminator's alone."
            )

    def _remedies(self):
        known = {
            "spectral_norm": "spectral_norm=True",
            "gradient_penalty": "a gradient_penalty",
        }
        found = [text for name, text in known.items() if hasattr(self.model, name)]
        return f", or try {' or '.join(found)}." if found else "."


class CollapseWatch(keras.callbacks.Callback):
    """Warns when codes say hardly anything any more, with the figure.

    A variational autoencoder's posterior collapses to the prior where its decoder does
    better without codes: `metrics.active_units` counts the latent dimensions whose
    posterior mean still varies with x. A codebook collapses when few of its codes are
    used: quantized models log the `usage`.

    Args:
        x: Examples whose codes are looked at after each epoch, an array
            `(n, *image_shape)`; a few hundred suffice. Not needed for a codebook.
        active: A lower share of active latent dimensions is a collapse.
        usage: A lower share of used codes is a collapse.
        patience: Number of epochs in a row, >= 1, before there is a warning.

    Raises:
        ValueError: If `patience` is below 1, or a model without a codebook comes
            without `x`.

    Example:

    ```python
    watch = keras_ae.callbacks.CollapseWatch(x_test[:500])
    model.fit(x_train, epochs=50, callbacks=[watch])
    ```

    Reference:
        Burda et al. 2016, "Importance Weighted Autoencoders", for active units.
    """

    def __init__(
        self,
        x: np.ndarray | None = None,
        active: float = 0.1,
        usage: float = 0.1,
        patience: int = 3,
    ):
        super().__init__()
        self.x = x
        self.active = active
        self.usage = usage
        self.patience = check_count("patience", patience)

    def on_train_begin(self, logs=None):
        self._has_codebook = "usage" in self.model.monitor_names
        if self.x is None and not self._has_codebook:
            raise ValueError(
                f"`CollapseWatch` needs examples `x` for a {type(self.model).__name__}"
                ", which has no codebook. Received: x=None"
            )
        self._epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        if self._has_codebook:
            share, least = logs["usage"], self.usage
            what, remedy = "of the codes are used", "take a smaller codebook"
        else:
            codes = self.model.encode(self.x)
            share, least = metrics.active_units(codes) / codes.shape[1], self.active
            what = "of the latent dimensions are active"
            remedy = "lower `beta`, or raise it slowly (`BetaWarmUp`, `free_bits`)"
        self._epochs = self._epochs + 1 if share < least else 0
        if self._epochs == self.patience:
            warn(
                f"Epoch {epoch + 1}: {share:.1%} {what}, and fewer than {least:.0%} "
                f"were for {self.patience} epochs. Codes have collapsed: {remedy}, or "
                "go on if so few are what you want."
            )


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


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training, raised once the step that was running has ended."""


class Interrupt(keras.callbacks.Callback):
    """Lets the step that runs finish on Ctrl-C; a second Ctrl-C ends at once.

    Example:

    ```python
    interrupt = keras_ae.callbacks.Interrupt()
    with interrupt.listening():
        model.fit(x, callbacks=[interrupt])
    ```
    """

    # It asks between executions, however many steps each has.
    needs_each_batch = False

    def __init__(self):
        super().__init__()
        self._asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes Ctrl-C for the callback as long as the block lasts."""
        if threading.current_thread() is not threading.main_thread():
            # Python delivers signals to its main thread only.
            yield
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, number, frame):
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print(
            "\nStopping after this step; Ctrl-C again stops at once.",
            file=sys.stderr,
            flush=True,
        )

    def _stop(self):
        if self._asked:
            raise Interrupted

    def on_train_batch_end(self, batch, logs=None):
        self._stop()

    def on_test_batch_end(self, batch, logs=None):
        self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._stop()


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
