"""What one run is: directory, settings, checkpoints, history, scores, resume."""

from __future__ import annotations

import math
import os
import pathlib
import platform
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_ae import (
    autodiff,
    callbacks,
    datasets,
    distributions,
    evaluation,
    machine,
    metrics,
    models,
    optimizers,
    plots,
    report,
    scores,
    trackers,
)
from keras_ae.evaluation import binarized
from keras_ae.files import hold, read_json, write_json

_OPTIONS = (
    "seed",
    "epochs",
    "batch_size",
    "limit",
    "image_size",
    "data_dir",
    "track",
)
# Pictures whose codes are searched for, which takes a thousand times as long as an
# encoder, where more would do no harm.
SEARCHED = 200
# Seconds of training of which it is said beforehand that they will pass.
_MINUTES = 120
# Pictures on which denoising is measured, and deviations of the blurs beside it.
DENOISED = 200
BLURS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)


class Run:
    """One training in one directory; what a recipe's `main` is handed.

    The directory holds `model.keras` (the best weights), `last.keras` (for going on),
    `settings.json`, `history.csv`, `scores.json`, `pictures/`, `report.html`, a model
    card (`README.md`) and the recipe's script. What the command line sets (`epochs`,
    `batch_size`, `image_size`) takes the place of what the recipe asks for.

    Args:
        directory: Folder of the run; created if absent.
        name: What the run is called, in its report.
        description: One sentence for the report.
        seed: Seed of the weights, of the order of the data and of all sampling.
        epochs: Number of epochs, instead of the recipe's.
        batch_size: Pictures per step, instead of the recipe's.
        limit: At most this many pictures of each split.
        image_size: Height and width of the pictures, one number or two, instead of
            the recipe's.
        data_dir: Folder of data sets; by default `KERAS_AE_DATA`.
        track: Where curves and pictures go as training goes on, of `trackers.NAMES`:
            `"tensorboard"`, `"mlflow"`, `"wandb"`.
        resume: Whether to go on from `last.keras`, where there is one.
        again: Command that goes on with this run, printed for the user.
        settings: What else `settings.json` is to record.
        script: Script to keep a copy of in the directory.

    Example:

    ```python
    run = keras_ae.runs.Run("runs/faces", "faces")
    train, validation, test = run.load("my_photos", image_size=64)
    model = run.model(lambda: keras_ae.VAE(latent_dim=128))
    run.fit(model, train, validation, epochs=100, batch_size=64)
    run.evaluate(model, test)
    run.pictures(model, test)
    run.finish()
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        name: str = "run",
        *,
        description: str = "",
        seed: int = 0,
        epochs: int | None = None,
        batch_size: int | None = None,
        limit: int | None = None,
        image_size: int | Sequence[int] | None = None,
        data_dir: str | None = None,
        track: Sequence[str] | None = None,
        resume: bool = False,
        again: str = "",
        settings: Mapping[str, Any] | None = None,
        script: pathlib.Path | None = None,
    ):
        self.directory = pathlib.Path(directory)
        self.name = name
        self.description = description
        self.seed = seed
        self.epochs = epochs
        self.batch_size = batch_size
        self.limit = limit
        self.image_size = image_size
        self.data_dir = data_dir
        self.track = tuple(track or ())
        for tracker in self.track:
            # What is not installed should be missed before hours of training.
            trackers.check(tracker)
        self.resume = resume
        self.again = again
        self.history: list[dict] = []
        self.captions: dict[str, str] = {}
        self._scores: dict[str, float] = {}
        self.labels: dict[str, dict[str, np.ndarray]] = {}
        self._evaluation_batch = 256
        self._model: keras.Model | None = None
        self._settings = dict(settings or {})
        self._script = script

    @property
    def best_path(self) -> pathlib.Path:
        """Path of the model with the best weights."""
        return self.directory / "model.keras"

    @property
    def last_path(self) -> pathlib.Path:
        """Path of the checkpoint of the last complete epoch."""
        return self.directory / "last.keras"

    def child(self, name: str) -> Run:
        """A second run in a folder of this one, for a model to compare with."""
        options = {option: getattr(self, option) for option in _OPTIONS}
        return Run(
            self.directory / name,
            f"{self.name}: {name}",
            resume=self.resume,
            again=self.again,
            **options,
        )

    # Data

    def load(
        self,
        data: str,
        image_size: int | Sequence[int] | None = None,
        splits: Sequence[str] = ("train", "validation", "test"),
    ) -> tuple[np.ndarray, ...]:
        """Loads the splits of a data set, or of a folder of pictures.

        Args:
            data: Name of a data set, or path of a folder or zip of pictures.
            image_size: Height and width, one number or two; `--image-size` takes its
                place.
            splits: Names of the splits to load.

        Returns:
            One uint8 array `(pictures, height, width, channels)` a split. What is known
            of each picture is in `run.labels[split]`, a dict of arrays by name.

        Raises:
            ValueError: If a split is empty.
            FileNotFoundError: If the data are not found.
        """
        self._settings.setdefault("data", str(data))
        loaded = []
        for split in splits:
            images, labels = datasets.load(
                data,
                split=split,
                image_size=self.image_size or image_size,
                limit=self.limit,
                data_dir=self.data_dir,
                labels=True,
            )
            if not len(images):
                raise ValueError(
                    f"The {split} split of {data} holds no pictures: training needs "
                    "some to learn from and some held back. Add more pictures."
                )
            loaded.append(images)
            self.labels[split] = labels
        shape = " x ".join(str(side) for side in loaded[0].shape[1:])
        counts = {s: len(x) for x, s in zip(loaded, splits, strict=True)}
        self._settings["splits"] = counts
        said = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        print(f"Data: {data}, {shape}: {said}.", flush=True)
        return tuple(loaded)

    # Training

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
                holds a run already, or training diverged from the start.
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
        # A decoder-only model, which has no encoder once it is built.
        if model.encoder is None and model.score_name is not None:
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
        self._begin()
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
            print(f"Training {self.name}, epochs: at most {done + left}.", flush=True)
            interrupt = callbacks.Interrupt()
            with interrupt.listening(), model.choosing_later():
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
                        callbacks.Rows(self.history),
                        _TimeLeft(self.history),
                        *extra_callbacks,
                        # Before the checkpoint: what goes on after it draws no sheet
                        # of the epoch before.
                        callbacks.SampleSheet(
                            self.directory / "pictures",
                            every=max(1, epochs // 10),
                            images=validation[:64],
                            seed=self.seed,
                        ),
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
                f"Training diverged: `{watched}` was never finite. Lower the learning "
                "rate, or look for pictures that are not what the likelihood describes."
            )
        self._choose_sampler(model, train)
        self._let_go()
        self.picture(
            "loss",
            plots.loss_curves(_columns(self.history, model)),
            "Loss and its terms by epoch: training dashed, validation solid.",
        )

    def _choose_sampler(self, model, pictures):
        """Looks where the codes of the best model are, and saves that with it."""
        model.remember(pictures)
        choice = model.choose_sampler()
        if choice is not None:
            print(choice, flush=True)
            self._save_best(model)

    def _save_best(self, model):
        """Writes the best model anew, with the history that it had."""
        rows = callbacks.read_note(self.best_path) if self.best_path.exists() else []
        with callbacks.replacing(self.best_path) as temporary:
            callbacks.save(model, temporary, rows or self.history)

    def _begin(self):
        """Makes the directory, now that data and model are known to be good."""
        about = {"name": self.name, "description": self.description}
        self._settings = {**about, "again": self.again, **self._settings}
        self._settings.setdefault("environment", environment())
        path = self.directory / "settings.json"
        if path.exists() and not self.resume:
            # Another run may have begun here while this one read its data.
            raise ValueError(
                f"{self.directory} holds a run already; nothing is overwritten. Choose "
                "another directory, or go on with that run (`resume`)."
            )
        if path.exists():
            self._check_same_pictures(read_json(path))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._let_go = hold(self.directory)
        write_json(path, self._settings)
        if self._script is not None:
            own = self.directory / self._script.name
            if not (own.exists() and own.samefile(self._script)):
                shutil.copyfile(self._script, own)

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
            print(
                f"Training had ended by early stopping after epoch {done}; a larger "
                "patience (`--set patience=...`) trains on.",
                flush=True,
            )
        elif not left:
            print(
                f"All {done} epochs are trained; a larger `--epochs` trains on.",
                flush=True,
            )
        else:
            print(f"Going on after epoch {done}.", flush=True)

    def _held_back(self, model, pictures, binarize=False, labels=None):
        """Batches in order; what is drawn or spoilt is so in the same way each time."""
        if binarize:
            pictures = binarized(pictures, seed=self.seed)
        return held_back(model, pictures, self._evaluation_batch, self.seed, labels)

    # Results

    def evaluate(
        self,
        model: keras.Model,
        test: np.ndarray,
        binarize: bool = False,
        labels: np.ndarray | None = None,
        **options,
    ) -> dict[str, float]:
        """Scores the model on held-back pictures; see `evaluation.evaluate`.

        Args:
            model: The trained model.
            test: Pictures that neither training nor early stopping has seen.
            binarize: Whether to score on pictures drawn once from the grey values.
            labels: One label a picture, for a model that takes them.
            **options: As for `evaluation.evaluate`: `scores=["samples"]`, say.

        Returns:
            Scores by name, which are also written to `scores.json`, and with all that
            they depend on to `evaluation.json`.
        """
        found = evaluation.evaluate(
            model,
            test,
            binarize=binarize,
            labels=labels,
            seed=self.seed,
            data=self._settings.get("data"),
            **options,
        )
        found.add_to(self.directory / scores.FILE)
        self.scores(**found.values)
        if hasattr(model, "denoise") and len(test.shape) > 2:
            self._denoising(model, test[:DENOISED])
        return found.values

    def _denoising(self, model, pictures):
        """PSNR of pictures spoilt, blurred as well as a blur can, and denoised."""
        noisy = spoilt(model, pictures, self.seed)
        blurred = {width: np.clip(blur(noisy, width), 0, 1) for width in BLURS}
        found = {width: metrics.psnr(pictures, x) for width, x in blurred.items()}
        best = max(found, key=found.get)
        reached = {
            "psnr_noisy": metrics.psnr(pictures, np.clip(noisy, 0, 1)),
            "psnr_blurred": found[best],
            "psnr_denoised": metrics.psnr(pictures, model.denoise(noisy)),
        }
        self.scores(**reached)
        spoilt_, blurred_, denoised = reached.values()
        print(
            f"PSNR of {len(pictures):,} held-back pictures: noisy {spoilt_:.1f} dB, "
            f"blurred by a Gaussian of {best} pixels {blurred_:.1f} dB, denoised "
            f"{denoised:.1f} dB.",
            flush=True,
        )

    def fit_sampler(
        self, model: keras.Model, sampler: str, pictures: np.ndarray, **options
    ) -> None:
        """Fits a sampler to the codes of pictures, and saves it with the model.

        Args:
            model: The trained model.
            sampler: As for the model's `fit_sampler`.
            pictures: Pictures that it was trained on.
            **options: As for the model's `fit_sampler`.
        """
        print(f"Fitting {sampler} to the codes of {len(pictures):,} pictures.")
        model.fit_sampler(sampler, pictures, seed=self.seed, **options)
        self._save_best(model)

    def scores(self, **values: float) -> None:
        """Records scores, by name, in `scores.json`."""
        # NumPy's and a backend's numbers can't be written as they are.
        self._scores.update({name: np.asarray(v).item() for name, v in values.items()})
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.directory / "scores.json", self._scores)

    def picture(self, name: str, image: Image.Image | Any, caption: str = "") -> None:
        """Saves a PIL image or a matplotlib figure in `pictures/` and the report."""
        folder = self.directory / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        with callbacks.replacing(folder / f"{name}.png") as temporary:
            if isinstance(image, Image.Image):
                image.save(temporary)
            else:
                image.savefig(temporary)
        self.captions[name] = caption
        write_json(folder / "captions.json", self.captions)

    def pictures(
        self,
        model: keras.Model,
        test: np.ndarray,
        labels: np.ndarray | None = None,
        label_name: str | None = None,
    ) -> None:
        """Draws the pictures that every run has, from held-back pictures.

        Reconstructions beside originals, samples, interpolations, traversals, the
        latent map, what the codes of a two-dimensional latent space decode to, and the
        usage of codebooks. Of what denoises, spoilt pictures and what it makes of them;
        where it keeps the pixels in its codes, nothing else.

        Args:
            model: The trained model.
            test: Pictures to draw from, as `run.load` returned them.
            labels: One value a picture, which colours the latent map.
            label_name: What the labels are.
        """
        chosen = test[np.linspace(0, len(test) - 1, min(16, len(test))).astype(int)]
        self.picture(
            "reconstructions",
            plots.reconstructions(chosen, model.reconstruct(chosen)),
            "Held-back pictures, and below each row their reconstructions.",
        )
        if hasattr(model, "denoise"):
            noisy = spoilt(model, chosen[:8], self.seed)
            self.picture(
                "denoised",
                plots.reconstructions(noisy, model.denoise(noisy)),
                "Held-back pictures spoilt as in training, and below each row what the "
                "model makes of them.",
            )
        if model.can_sample:
            self.picture("samples", *_samples(model, self.seed))
        if model.keeps_pixels:
            return
        half = max(1, min(6, len(chosen) // 2))
        steps = model.interpolate(chosen[:half], chosen[-half:], steps=9)
        self.picture(
            "interpolation",
            plots.interpolation(steps),
            "From one held-back picture to another, in equal steps between their "
            "codes.",
        )
        codes = model.encode(test[: SEARCHED if model.encoder is None else 2000])
        # The dimensions that matter most; the others change little or nothing.
        deviations = codes[:, : model.latent_dim].std(axis=0)
        dims = np.argsort(-deviations)[:8]
        span = float(min(3.0, 2.5 * deviations.max())) or 1.0
        if not hasattr(model, "log_likelihood"):
            span = float(2.0 * deviations[dims].mean()) or 1.0
        self.picture(
            "traversal",
            plots.traversal(model.traverse(chosen[0], dims=dims, span=span)),
            f"One latent dimension a row, from -{span:.1f} to {span:.1f}; the others "
            "stay. The dimensions that vary most come first.",
        )
        prior = getattr(model, "prior", None)
        # On spheres and hyperbolic planes a grid of codes lies beside the space.
        if codes.shape[1] == 2 and isinstance(prior, distributions.Normal | None):
            standard = distributions.Normal().get_config()
            by_prior = prior is not None and prior.get_config() == standard
            self.picture(
                "manifold",
                plots.manifold(model.decode, None if by_prior else codes),
                "What codes decode to, z[0] to the right and z[1] upwards, in steps of "
                + ("equal probability." if by_prior else "equally many codes of data."),
            )
        if hasattr(model, "tokens"):
            quantizer = model.quantizer
            self.picture(
                "codebook_usage",
                plots.codebook_usage(
                    model.tokens(test[:2000]),
                    quantizer.num_codes,
                    math.prod(quantizer.token_shape),
                ),
                "How often each code stands in the tokens of held-back pictures.",
            )
        self.picture(
            "latent_map",
            plots.latent_map(
                codes,
                None if labels is None else labels[: len(codes)],
                label_name,
                images=test[: len(codes)],
            ),
            "Codes of held-back pictures"
            + ("." if labels is None else f", coloured by {label_name or 'label'}."),
        )

    def finish(self) -> None:
        """Writes `report.html` and the model card, and prints a summary of a few lines.

        Raises:
            ValueError: If nothing was trained.
        """
        if self._model is None:
            raise ValueError(
                f"The run {self.name} has trained no model: its script must call "
                "`run.fit(model, ...)`."
            )
        row = self._best_row()
        html = report.write(self.directory, self._model)
        if row:
            seconds = sum(entry.get("seconds", 0) for entry in self.history)
            monitor = self._settings["training"]["monitor"]
            kept = "Best epoch" if monitor else "Weights of epoch"
            value = f" ({monitor} {row[monitor]:.5g})" if monitor else ""
            print(
                f"\n{kept} {row['epoch'] + 1} of {len(self.history)}{value}, "
                f"{report.duration(seconds)} of training."
            )
        for name, value in self._scores.items():
            print(f"  {name.replace('_', ' '):28} {value:.6g}")
        print(f"Model   {self.best_path}\nReport  {html}")
        print("Next    " + report.next_command(self.directory, self._model), flush=True)

    def _best_row(self):
        if not self.history:
            return None
        rows = callbacks.read_note(self.best_path) if self.best_path.exists() else []
        return rows[-1] if rows else self.history[-1]


class _TimeLeft(keras.callbacks.Callback):
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
            print(
                f"\nAn epoch takes {report.duration(seconds)}: at most "
                f"{report.duration(left)} more. Ctrl-C stops and keeps it all.",
                flush=True,
            )


def spoilt(model: keras.Model, pictures: np.ndarray, seed: int) -> np.ndarray:
    """What a model is to restore pictures from: spoilt ones, if it denoises."""
    return model.corrupt(pictures, seed) if hasattr(model, "corrupt") else pictures


def blur(pictures: np.ndarray, width: float) -> np.ndarray:
    """Pictures `(n, height, width, ...)` blurred by a Gaussian of a standard deviation.

    Args:
        pictures: Floats.
        width: The deviation, in pixels.
    """
    reach = math.ceil(3 * width)
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / width))
    weights = np.float32(weights / weights.sum())
    for axis in (1, 2):
        x = np.moveaxis(pictures, axis, 0)
        padded = np.pad(x, [(reach, reach)] + [(0, 0)] * (x.ndim - 1), "edge")
        x = sum(
            weight * padded[start : start + len(x)]
            for start, weight in enumerate(weights)
        )
        pictures = np.moveaxis(x, 0, axis)
    return pictures


def held_back(
    model: keras.Model,
    pictures: np.ndarray,
    batch_size: int,
    seed: int = 0,
    labels: np.ndarray | None = None,
) -> datasets.Batches:
    """Batches in order to score a model on: for one that denoises, with noise."""
    if not hasattr(model, "corrupt"):
        return datasets.Batches(pictures, batch_size, shuffle=False, targets=labels)
    noisy = spoilt(model, pictures, seed)
    return datasets.Batches(noisy, batch_size, shuffle=False, targets=pictures)


def _samples(model, seed):
    """A sheet of samples, beside it the prior's where those are others; a caption."""
    sheet = plots.sheet(model.sample(64, seed=seed))
    choice = model.choose_sampler()
    if choice is None:
        where = "from the prior" if model.has_prior else "like the data's"
        return sheet, f"Samples: codes drawn {where}, decoded."
    if not model.has_prior or choice.sampler == "prior":
        return sheet, str(choice)
    beside = plots.sheet(model.sample(64, seed=seed, sampler="prior"))
    gap = sheet.width // 16
    both = Image.new(sheet.mode, (2 * sheet.width + gap, sheet.height), "white")
    both.paste(sheet, (0, 0))
    both.paste(beside, (sheet.width + gap, 0))
    return both, f"{choice} Left: these samples. Right: those from the prior."


def _check_sizes(path):
    """Refuses a file that unpacks to far more than it is: it could fill a memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    size = path.stat().st_size
    if declared > 20 * size + 2**26:
        raise ValueError(
            f"{path} claims to hold {declared:,} bytes, more than a model file of "
            f"{size:,} does; it is damaged, or made to fill a memory."
        )


def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a model of this package.

    Args:
        path: A `.keras` file, or a run directory (whose best model is meant).

    Returns:
        The model, compiled, with optimizer state.

    Raises:
        FileNotFoundError: If there is no such file or directory, or no model in it.
        ValueError: If the file can't be read, or holds a model of another kind.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if not (path / "model.keras").is_file():
            raise FileNotFoundError(f"There is no model.keras in {path}.")
        path = path / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file or run directory {path}.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a .keras file, or it is damaged.")
    _check_sizes(path)
    try:
        model = keras.saving.load_model(path)
    except Exception as error:
        # Keras raises many kinds, with the whole configuration in the message.
        sentence = str(error).strip().partition("\n")[0][:200]
        raise ValueError(
            f"{path} could not be loaded as a model: {sentence}"
        ) from error
    if not any(isinstance(model, getattr(models, name)) for name in models.__all__):
        raise ValueError(
            f"{path} holds a {type(model).__name__}. Expected a model of keras-ae: "
            f"{', '.join(models.__all__)}."
        )
    for variable in model.trainable_variables:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise ValueError(
                f"{path} holds weights that are NaN or infinite ({variable.path}): its "
                "training diverged, or it is damaged. Train it anew."
            )
    return model


def environment() -> dict[str, Any]:
    """Backend, devices and versions."""
    packages = ("keras-ae", "keras", "tensorflow", "jax", "torch", "numpy")
    try:
        devices = keras.distribution.list_devices()
    except (AttributeError, NotImplementedError, RuntimeError):
        devices = [str(keras.ops.zeros(1).device)]
    return {
        "backend": autodiff.BACKEND,
        "devices": list(devices),
        "versions": machine.versions(packages),
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPU cores",
    }


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
