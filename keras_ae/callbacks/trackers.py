"""Callbacks that send curves and pictures to TensorBoard, MLflow or Weights & Biases.

None of them is a dependency: a package is imported when its tracker is made.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_ae import callbacks, plots
from keras_ae.checks import check_count
from keras_ae.files import read_json, write_json

# Where a run keeps what its trackers call it, so that a resumed one goes on there.
FILE = "tracking.json"


class Tracker(keras.callbacks.Callback):
    """Base of callbacks that log each epoch's figures, and pictures now and then.

    The figures are Keras' logs: the loss, its terms, monitors, and the same of the
    validation data as `val_...`, one step an epoch, counted from 1. The pictures are
    samples of a model that can be sampled, always of the same codes, and
    reconstructions of `images` beside them. What goes wrong in logging is a warning,
    and training goes on.

    Args:
        name: What the run is called.
        settings: What it is to record of the run: plain values, or dicts of them.
        images: Pictures to reconstruct, `(pictures, height, width, channels)`.
        every: Number of epochs between pictures. The first epoch always has some.
        directory: The run's own folder. Training that goes on there goes on in the
            same run of the tracker.
        seed: Seed of the samples.

    Raises:
        ImportError: If the package is not installed.
        ValueError: If `every` is below 1.
    """

    package = ""

    def __init__(
        self,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        *,
        images: np.ndarray | None = None,
        every: int = 1,
        directory: str | os.PathLike | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.every = check_count("every", every)
        self.name = name
        self.settings = dict(settings or {})
        self.images = None if images is None else images[:32]
        self.directory = None if directory is None else pathlib.Path(directory)
        self.seed = seed
        self._module = _imported(self.package)
        self._begun = False

    def start(self, run_id: str | None) -> str:
        """Begins a run of the tracker, or goes on with one; returns its id."""
        raise NotImplementedError

    def log(self, figures: dict[str, float], step: int) -> None:
        """Logs an epoch's figures."""
        raise NotImplementedError

    def log_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Logs a picture."""
        raise NotImplementedError

    def finish(self) -> None:
        """Ends what `start` began."""
        raise NotImplementedError

    def fail(self, interrupted: bool) -> None:
        """Ends what `start` began or tried to, of a training that has raised.

        Args:
            interrupted: Whether by Ctrl-C.
        """
        self.finish()

    def on_train_begin(self, logs=None):
        self._begun = True
        ids = {}
        file = None if self.directory is None else self.directory / FILE
        if file is not None:
            ids = read_json(file, "Remove it: a new one is begun.")
        ids[self.package] = self.start(ids.get(self.package))
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, ids)

    def on_epoch_end(self, epoch, logs=None):
        step = epoch + 1
        with _going_on(self, f"Epoch {step} could not be logged"):
            self.log({name: float(value) for name, value in logs.items()}, step)
            if epoch == 0 or step % self.every == 0:
                for name, picture in _pictures(self.model, self.images, self.seed):
                    self.log_picture(name, picture, step)

    def on_train_end(self, logs=None):
        self._begun = False
        with _going_on(self, "The end of the training could not be logged"):
            self.finish()

    def on_train_failed(self, error: BaseException) -> None:
        """Ends the tracker's run; models of keras_ae call it when `fit` raises."""
        if self._begun:
            self._begun = False
            with _ended(self):
                self.fail(isinstance(error, KeyboardInterrupt))


@contextlib.contextmanager
def _going_on(tracker, what, then="; training goes on"):
    """A block whose failure is a warning that begins with these words."""
    try:
        yield
    except Exception as error:  # a server may refuse in many ways
        sentence = str(error).strip().partition("\n")[0] or type(error).__name__
        callbacks.warn(f"{what} by {type(tracker).__name__} ({sentence}){then}.")


def _ended(tracker):
    """A block that ends what a training that has raised was logged to."""
    return _going_on(tracker, "The failure of the training could not be logged", "")


def _imported(package):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"This tracker needs the package {package}; `pip install {package}` brings "
            "it."
        ) from error


def _pictures(model, images, seed):
    """Yields names and sheets of what a model draws and restores."""
    if model.can_sample:
        yield "samples", plots.sheet(model.sample(64, seed=seed)).convert("RGB")
    # A decoder-only model searches for the codes; a GAN has none.
    if images is not None and (model.has_encoder or model.searches_codes):
        restored = plots.reconstructions(images, model.reconstruct(images))
        yield "reconstructions", restored.convert("RGB")


class MLflow(Tracker):
    """Logs to MLflow: figures as metrics, settings as parameters, pictures as images.

    Where they go is MLflow's to say: `mlflow.set_tracking_uri`, or the variables
    `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME`. A run that is active when
    training begins is logged to, and left active.

    Args:
        name, settings, **options: As for `Tracker`.

    Example:

    ```python
    mlflow = keras_ae.trackers.MLflow("faces", {"latent_dim": 128}, images=test[:16])
    model.fit(train, validation_data=test, epochs=50, callbacks=[mlflow])
    ```
    """

    package = "mlflow"
    _owns = False

    def start(self, run_id):
        run = self._module.active_run()
        self._owns = run is None
        if run is None:
            run = self._module.start_run(run_id=run_id, run_name=self.name)
        if run_id is None:
            self._module.log_params(_flat(self.settings))
        return run.info.run_id

    def log(self, figures, step):
        self._module.log_metrics(figures, step=step)

    def log_picture(self, name, picture, step):
        self._module.log_image(picture, key=name, step=step)

    def finish(self):
        if self._owns:
            self._module.end_run()

    def fail(self, interrupted):
        if self._owns:
            self._module.end_run("KILLED" if interrupted else "FAILED")


class WandB(Tracker):
    """Logs to Weights & Biases: figures, settings as the configuration, pictures.

    Where they go is said to it: `wandb login`, the variables `WANDB_PROJECT`
    (`keras-ae` by default), `WANDB_ENTITY` and `WANDB_MODE` (`offline` keeps them on
    this machine). A run that is active when training begins is logged to, and left
    active.

    Args:
        name, settings, **options: As for `Tracker`.

    Example:

    ```python
    wandb = keras_ae.trackers.WandB("faces", {"latent_dim": 128}, images=test[:16])
    model.fit(train, validation_data=test, epochs=50, callbacks=[wandb])
    ```
    """

    package = "wandb"
    _owns, _run = False, None

    def start(self, run_id):
        self._run = self._module.run
        self._owns = self._run is None
        if self._owns:
            if self.directory is not None:
                self.directory.mkdir(parents=True, exist_ok=True)
            self._run = self._module.init(
                project=os.environ.get("WANDB_PROJECT", "keras-ae"),
                name=self.name,
                config=self.settings,
                dir=self.directory,
                id=run_id,
                resume="allow",
            )
        # W&B counts its own steps, of which one that is logged twice is lost.
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        return self._run.id

    def log(self, figures, step):
        self._run.log({"epoch": step, **figures})

    def log_picture(self, name, picture, step):
        self._run.log({"epoch": step, name: self._module.Image(picture)})

    def finish(self):
        if self._owns:
            self._run.finish()

    def fail(self, interrupted):
        if self._owns and self._run is not None:
            # As it ends by itself when Python does.
            self._run.finish(exit_code=255 if interrupted else 1)


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' own callback for TensorBoard, with pictures beside the curves.

    Args:
        log_dir: Folder of the logs; `tensorboard --logdir` shows it.
        images: Pictures to reconstruct, `(pictures, height, width, channels)`.
        every: Number of epochs between pictures. The first epoch always has some.
        seed: Seed of the samples.
        **options: As for `keras.callbacks.TensorBoard`.

    Raises:
        ImportError: If TensorBoard is not installed, which TensorFlow comes without.
        ValueError: If `every` is below 1.

    Example:

    ```python
    board = keras_ae.trackers.TensorBoard("logs", images=test[:16], every=5)
    model.fit(train, validation_data=test, epochs=50, callbacks=[board])
    ```
    """

    def __init__(
        self,
        log_dir: str | os.PathLike = "logs",
        *,
        images: np.ndarray | None = None,
        every: int = 1,
        seed: int = 0,
        **options,
    ):
        _imported("tensorboard")
        super().__init__(log_dir, **options)
        self.every = check_count("every", every)
        self.images = None if images is None else images[:32]
        self.seed = seed

    def on_epoch_end(self, epoch, logs=None):
        with _going_on(self, f"Epoch {epoch + 1} could not be logged"):
            super().on_epoch_end(epoch, logs)
            if epoch == 0 or (epoch + 1) % self.every == 0:
                self._log_pictures(epoch)

    def _log_pictures(self, epoch):
        folder = os.path.join(self.log_dir, "pictures")
        with self.summary.create_file_writer(folder).as_default():
            for name, picture in _pictures(self.model, self.images, self.seed):
                self.summary.image(name, np.asarray(picture)[None], step=epoch)

    def on_train_end(self, logs=None):
        with _going_on(self, "The end of the training could not be logged"):
            super().on_train_end(logs)

    def on_train_failed(self, error: BaseException) -> None:
        """Closes the logs; models of keras_ae call it when `fit` raises."""
        with _ended(self):
            super().on_train_end()


def _flat(settings, prefix=""):
    """Plain values by dotted name, for what knows no nesting."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat


NAMES = ("tensorboard", "mlflow", "wandb")


def check(tracker: str) -> None:
    """Raises unless there is such a tracker and its package is installed.

    Raises:
        ValueError: If it is none of `NAMES`.
        ImportError: If its package is not installed.
    """
    if tracker not in NAMES:
        raise ValueError(
            f"`track` must be of {', '.join(NAMES)}. Received: {tracker!r}"
        )
    _imported(tracker)


def get(
    tracker: str,
    name: str,
    settings: Mapping[str, Any],
    *,
    directory: pathlib.Path,
    **options,
) -> keras.callbacks.Callback:
    """Makes the tracker of a run.

    Args:
        tracker: One of `NAMES`.
        name, settings, directory, **options: As for `Tracker`.

    Returns:
        A callback. TensorBoard's logs go to the directory's folder `tensorboard`.

    Raises:
        ValueError: If there is no such tracker.
        ImportError: If its package is not installed.
    """
    check(tracker)
    if tracker == "tensorboard":
        return TensorBoard(directory / "tensorboard", write_graph=False, **options)
    made = MLflow if tracker == "mlflow" else WandB
    return made(name, settings, directory=directory, **options)
