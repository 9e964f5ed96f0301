"""Training with checkpoints, and going on after a stop."""

from __future__ import annotations

import contextlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable

import keras
import numpy as np

from keras_ae import backend, callbacks, datasets, plots
from keras_ae.callbacks import trackers
from keras_ae.evaluation import binarized
from keras_ae.files import hold, read_json, replacing, write_json
from keras_ae.runs import report
from keras_ae.runs.gallery import SEARCHED, spoilt
from keras_ae.runs.loading import environment, load_model
from keras_ae.training import optimizers

# What a run begins with, and with no regard to what is there.
_WRITTEN = ("model.keras", "last.keras", "history.csv", "scores.json", "report.html")
# Seconds of training of which it is said beforehand that they will pass.
_MINUTES = 120


class Training:
    """What a run does to train its model, and to go on with it."""

    def model(self, build: Callable[[], keras.Model]) -> keras.Model:
        """The run's model: a new one from `build`, or on resuming the last checkpoint.

        Args:
            build: Function of nothing that returns a compiled model.

        Returns:
            The model, with optimizer state when the run goes on.

        Raises:
            ValueError: If the checkpoint can't be read; it says what to go on from.
        """
        keras.utils.set_random_seed(self.seed)
        new = build()
        if not (self.resume and self.last_path.exists()):
            return new
        try:
            model = load_model(self.last_path)
            # The checkpoint carries the history that it is the end of.
            self.history = callbacks.read_note(self.last_path)
        except ValueError as error:
            advice = "Start a new run."
            if self.best_path.exists():
                advice = (
                    f"Copy {self.best_path.name} over {self.last_path.name}, and the "
                    "run goes on after its best epoch."
                )
            raise ValueError(f"{error} {advice}") from error
        try:
            if self.best_path.exists():
                callbacks.read_note(self.best_path)
        except ValueError as error:
            raise ValueError(
                f"{error} Remove it, and the run goes on from {self.last_path.name}; "
                "the best epoch is then one of those to come."
            ) from error
        # A schedule is made for a number of epochs, which may be a larger one now: at
        # the end of the old schedule a rate may be 0.
        optimizers.adopt_schedules(model.optimizer, new.optimizer)
        return model

    def fit(
        self,
        model: keras.Model,
        train: np.ndarray,
        validation: np.ndarray,
        *,
        epochs: int,
        batch_size: int,
        patience: int = 10,
        monitor: str | None = None,
        mode: str = "min",
        binarize: bool = False,
        labels: np.ndarray | None = None,
        validation_labels: np.ndarray | None = None,
        extra_callbacks: Iterable[keras.callbacks.Callback] = (),
    ) -> None:
        """Trains with early stopping and checkpoints, and restores the best weights.

        Args:
            model: The model, from `run.model`.
            train: Pictures to learn from.
            validation: Pictures to measure each epoch on; of a model that has to search
                for their codes, the first 200.
            epochs: Most epochs to train; `--epochs` takes its place. 0 leaves a
                stacked model at its pretraining.
            batch_size: Pictures a step; `--batch-size` takes its place.
            patience: Epochs without a better `monitor` before training ends.
            monitor: The logged value that decides which weights are best. Defaults to
                the model's own, `val_loss` for most; adversarial models have none: they
                train for all epochs and keep the last weights.
            mode: Whether `"min"` or `"max"` of it is best.
            binarize: Whether grey values are read as the chance of a white pixel, and
                drawn anew each epoch.
            labels: One label a picture to learn from, for a model that takes them.
            validation_labels: The same for `validation`.
            extra_callbacks: More Keras callbacks, such as
                `keras_ae.callbacks.BetaWarmUp`; early stopping then begins after it.

        Raises:
            ValueError: If there is nothing to train or to validate on, the directory
                holds a run already or files that one would write, another process
                trains there, or training diverged from the start.
            Interrupted: If Ctrl-C was pressed, at the end of the step.
        """
        for name, pictures in (("train", train), ("validation", validation)):
            if not len(pictures):
                raise ValueError(
                    f"`{name}` must hold at least one picture. Received none; a larger "
                    "`--limit` keeps more."
                )
        epochs = epochs and (self.epochs or epochs)
        batch_size = min(self.batch_size or batch_size, len(train))
        if not model.built:
            model.build((None, *train.shape[1:]))
        model.white = self.white
        if model.searches_codes:
            validation = validation[:SEARCHED]
        self._evaluation_batch = max(batch_size, min(256, len(validation)))
        extra_callbacks = list(extra_callbacks)
        if monitor is None and model.score_name is not None:
            monitor = f"val_{model.score_name}"
        watched = monitor or "loss"
        if "discriminator_accuracy" in model.monitor_names:
            extra_callbacks.append(callbacks.AdversarialWatch())
        rising = callbacks.BetaWarmUp | callbacks.CapacityIncrease
        warm_up = max(
            [c.epochs for c in extra_callbacks if isinstance(c, rising)], default=0
        )
        self._model = model
        self._settings["training"] = {
            "model": type(model).__name__,
            "pictures": len(train),
            "image_shape": list(train.shape[1:]),
            "epochs": epochs,
            "batch_size": batch_size,
            "patience": patience,
            "monitor": monitor,
            "seed": self.seed,
            "binarize": binarize,
        }
        with self._held():
            stopping = callbacks.ResumedEarlyStopping(
                self.history,
                monitor=watched,
                mode=mode,
                patience=patience if monitor else sys.maxsize,
                start_from_epoch=warm_up,
            )
            stopping.set_model(model)
            model.stop_training = False
            stopping.on_train_begin()
            done = len(self.history)
            left = model.epochs_left(epochs, done)
            # A phase of pretraining that has stopped is followed by another.
            stopped = model.stop_training and not model.epochs_left(0, done)
            if model.stop_training and not stopped:
                model.end_phase()
                left = model.epochs_left(epochs, done)
            history_file = callbacks.HistoryFile(
                self.directory / "history.csv", self.history
            )
            if self.resume and done:
                self._say_resumed(done, left, stopped)
                # Its last row may have been lost after the last checkpoint.
                history_file.write()
            if left and not stopped:
                print(
                    f"Training {self.name}, epochs: at most {done + left}.", flush=True
                )
                with self._interruptible(model, train) as interrupt:
                    model.fit(
                        datasets.Batches(
                            train,
                            batch_size,
                            shuffle=True,
                            seed=self.seed,
                            binarize=binarize,
                            targets=labels,
                            epoch=done,
                        ),
                        validation_data=self._held_back(
                            model, validation, binarize, validation_labels
                        ),
                        shuffle=False,
                        epochs=epochs,
                        initial_epoch=done,
                        verbose=1 if sys.stdout.isatty() else 2,
                        callbacks=[
                            callbacks.EpochSeeds(self.seed),
                            AveragedValidation(),
                            # What they log is in the history, as with Keras' own.
                            *extra_callbacks,
                            callbacks.Rows(self.history),
                            TimeLeft(self.history),
                            # Before the checkpoint: what goes on after it draws no
                            # sheet of the epoch before.
                            *self._sheets(validation, epochs),
                            callbacks.Checkpoint(
                                self.last_path,
                                self.best_path,
                                monitor=monitor,
                                mode=mode,
                                start_from_epoch=min(warm_up, epochs - 1),
                                history=self.history,
                            ),
                            history_file,
                            stopping,
                            *(
                                trackers.get(
                                    tracker,
                                    self.name,
                                    self._settings,
                                    directory=self.directory,
                                    images=validation[:16],
                                    every=max(1, epochs // 10),
                                    seed=self.seed,
                                )
                                for tracker in self.track
                            ),
                            interrupt,
                        ],
                    )
            if self.best_path.exists():
                with warnings.catch_warnings():
                    # The best weights of a pretrained layer come with that layer's
                    # optimizer, whose state is not wanted.
                    warnings.filterwarnings("ignore", "Skipping variable loading")
                    model.load_weights(self.best_path)
            elif not any(np.isfinite(row.get(watched, np.nan)) for row in self.history):
                raise ValueError(
                    f"Training diverged: `{watched}` was never finite. Lower the "
                    "learning rate, or look for pictures that are not what the "
                    "likelihood describes."
                )
            model.remember(train)
            # A recipe may have another fitted: it takes minutes.
            if not model.learns_choice:
                self._choose_sampler(model)
            self.picture(
                "loss",
                plots.loss_curves(_columns(self.history, model)),
                "Loss and its terms by epoch: training dashed, validation solid.",
            )
            if model.likelihood.numbers_per_value > 1:
                self._show_scale(model, validation[:8])

    def _show_scale(self, model, pictures):
        """Draws σ(z) of some pictures; not of rows, nor where codes need labels."""
        if pictures.ndim < 3 or not model.has_encoder or model.needs_labels:
            return
        z = model.encode(pictures)
        scale = model.decode_scale(z)
        self.picture(
            "scale",
            plots.reconstructions(pictures, model.decode(z), scale / scale.max()),
            "Held-back pictures, the means that their codes decode to, and the scale "
            f"σ(z) of each value beside its mean: white is {scale.max():.2g}.",
        )

    @contextlib.contextmanager
    def _interruptible(self, model, train):
        """A block that trains; after Ctrl-C the best model knows where its codes are.

        Yields:
            The callback that ends it.
        """
        interrupt = callbacks.Interrupt()
        try:
            with interrupt.listening(), model.choosing_later():
                yield interrupt
        except callbacks.Interrupted:
            # Others that train along are not told yet, and would not compute along.
            alone = not backend.are_together()
            if alone and self.best_path.exists() and not model.learns_choice:
                # As a file of its own: the phase that runs may be another.
                model = load_model(self.best_path)
                model.remember(train)
                self._choose_sampler(model)
            raise

    def _choose_sampler(self, model):
        """Looks where the codes of the best model are, and saves that with it."""
        choice = model.choose_sampler()
        if choice is not None:
            print(choice, flush=True)
            self._save_best(model)

    def _save_best(self, model):
        """Writes the best model anew, with the history that it had."""
        rows = callbacks.read_note(self.best_path) if self.best_path.exists() else []
        with replacing(self.best_path) as temporary:
            callbacks.save(model, temporary, rows or self.history)

    @contextlib.contextmanager
    def _held(self):
        """A block that trains in the directory, and lets go of it however it ends."""
        try:
            self._begin()
            yield
            self._ended = True
        except BaseException:
            # A notebook goes on after an error, and holds nothing meanwhile.
            if self._parent is not None:
                self._parent._release()
            raise
        finally:
            self._release()

    def _release(self):
        if self._let_go is not None:
            self._let_go()  # type: ignore[has-type]
            self._let_go = None

    def _begin(self):
        """Makes the directory, now that data and model are known to be good."""
        about = {"name": self.name, "description": self.description}
        self._settings = {**about, "again": self.again, **self._settings}
        self._settings.setdefault("environment", environment())
        if self._parent is not None and not self._parent._begun:
            # What is cut in a model to compare with is resumed as the whole.
            self._parent._begin()
        path = self.directory / "settings.json"
        goes_on = self.resume or (self._begun and not self._ended)
        if path.exists() and not goes_on:
            # Another run may have begun here while this one read its data.
            raise ValueError(
                f"{self.directory} holds a run already; nothing is overwritten. Choose "
                "another directory, or go on with that run (`resume`)."
            )
        if not path.exists() and not self.resume:
            self._check_nothing_in_the_way()
        training = "training" in self._settings
        if path.exists() and training:
            self._check_same_pictures(read_json(path))
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._let_go:
            self._let_go = hold(self.directory)
        self._begun = True
        if training or not path.exists():
            write_json(path, self._settings)
        if self._script is not None:
            own = self.directory / self._script.name
            if not (own.exists() and own.samefile(self._script)):
                shutil.copyfile(self._script, own)

    def _check_nothing_in_the_way(self):
        """Refuses to write over files that no run has left."""
        # Scores may be the run's own: a recipe may record some before it trains.
        names = [name for name in _WRITTEN if name != "scores.json" or not self._scores]
        found = [name for name in names if (self.directory / name).exists()]
        script = self._script
        own = self.directory / script.name if script is not None else None
        if own is not None and own.exists() and not own.samefile(script):
            found.append(own.name)
        if found:
            raise ValueError(
                f"{self.directory} must be free for the run's files. Received: a "
                f"folder with {', '.join(found)}, and nothing is overwritten. Choose "
                "another directory."
            )

    def _check_same_pictures(self, saved):
        count = self._settings["training"]["pictures"]
        before = saved.get("training", {}).get("pictures", count)
        if count != before:
            raise ValueError(
                f"The run in {self.directory} began with {before:,} training pictures. "
                f"Received: {count:,}. The split is another one now, so pictures held "
                "back then may be trained on; start a new run."
            )

    def _say_resumed(self, done, left, stopped):
        if stopped:
            patience = "`patience` where its script calls `run.fit`"
            if "patience" in self._settings.get("settings", {}):
                patience = "patience (`--set patience=...`)"
            print(
                f"Training had ended by early stopping after epoch {done}; a larger "
                f"{patience} trains on.",
                flush=True,
            )
        elif not left:
            print(
                f"All {done} epochs are trained; a larger `--epochs` trains on.",
                flush=True,
            )
        else:
            print(f"Going on after epoch {done}.", flush=True)

    def _sheets(self, validation, epochs):
        """The callback that draws sheets of pictures; none for rows of numbers."""
        if len(validation.shape) < 3:
            return []
        return [
            callbacks.SampleSheet(
                self.directory / "pictures",
                every=max(1, epochs // 10),
                images=validation[:64],
                seed=self.seed,
            )
        ]

    def _held_back(self, model, pictures, binarize=False, labels=None):
        """Batches in order; what is drawn or spoilt is so in the same way each time."""
        if binarize:
            pictures = binarized(pictures, seed=self.seed)
        return held_back(model, pictures, self._evaluation_batch, self.seed, labels)


class AveragedValidation(keras.callbacks.Callback):
    """Validates with running averages of the weights, where an optimizer keeps them."""

    def on_test_begin(self, logs=None):
        self._averaged = optimizers.averaged_weights(self.model)
        self._averaged.__enter__()

    def on_test_end(self, logs=None):
        self._averaged.__exit__(None, None, None)


class TimeLeft(keras.callbacks.Callback):
    """Says once how long training will take at most, where that is minutes."""

    def __init__(self, rows):
        super().__init__()
        self._rows, self._begun = rows, None

    def on_epoch_end(self, epoch, logs=None):
        # The first epoch compiles.
        if self._begun != epoch - 1:
            self._begun = epoch if self._begun is None else self._begun
            return
        seconds = self._rows[-1]["seconds"]
        left = seconds * (self.params["epochs"] - epoch - 1)
        if left > _MINUTES:
            takes = report.duration(seconds) if seconds >= 0.5 else "less than 1 s"
            print(
                f"\nAn epoch takes {takes}: at most "
                f"{report.duration(left)} more. Ctrl-C stops and keeps it all.",
                flush=True,
            )


def held_back(
    model: keras.Model,
    pictures: np.ndarray,
    batch_size: int,
    seed: int = 0,
    labels: np.ndarray | None = None,
) -> datasets.Batches:
    """Batches in order to score a model on: for one that denoises, with noise."""
    if not model.denoises:
        return datasets.Batches(pictures, batch_size, shuffle=False, targets=labels)
    noisy = spoilt(model, pictures, seed)
    return datasets.Batches(noisy, batch_size, shuffle=False, targets=pictures)


def _columns(history, model):
    """Lists of values by name, without the bookkeeping: the terms first."""
    names = dict.fromkeys(name for row in history for name in row)
    losses = [f"{player}_loss" for player in model.player_names]
    first = [*model.term_names, *losses, *model.monitor_names]
    return {
        name: [row.get(name, float("nan")) for row in history]
        for name in dict.fromkeys([*(n for n in first if n in names), *names])
        if name not in ("epoch", "seconds")
    }
