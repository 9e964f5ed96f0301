"""A run: a directory that tells all about a training."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_ae import callbacks, datasets
from keras_ae.callbacks import trackers
from keras_ae.datasets import Schema
from keras_ae.files import replacing, write_json
from keras_ae.runs import report
from keras_ae.runs.comparing import Comparing
from keras_ae.runs.gallery import Gallery
from keras_ae.runs.loading import load_model
from keras_ae.runs.training import Training

_OPTIONS = (
    "seed",
    "epochs",
    "batch_size",
    "limit",
    "image_size",
    "white",
    "key",
    "stream",
    "data_dir",
    "track",
)


class Run(Training, Gallery, Comparing):
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
        white: Of pictures of 16 bits, the value that is white; by default as
            `datasets.load` finds it. The model keeps it for the pictures it is used on.
        key: Of shards, which part of a sample is the picture, as in `datasets.load`.
        stream: Whether pictures are decoded each time they are read, and kept nowhere.
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
        white: int | None = None,
        key: str | None = None,
        stream: bool | None = None,
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
        self.white = white
        self.key = key
        self.stream = bool(stream)
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
        self._parent: Run | None = None
        self._begun = self._ended = False
        self._let_go: Callable[[], None] | None = None
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
        child = Run(
            self.directory / name,
            f"{self.name}: {name}",
            resume=self.resume,
            again=self.again,
            **options,
        )
        child._parent = self
        return child

    # Data

    def load(
        self,
        data: str,
        image_size: int | Sequence[int] | None = None,
        splits: Sequence[str] = ("train", "validation", "test"),
        tiles: int | None = None,
    ) -> tuple[np.ndarray, ...]:
        """Loads the splits of a data set, or of a folder of pictures.

        Args:
            data: Name of a data set, or path of a folder or zip of pictures, or what
                names shards, as in `datasets.load`.
            image_size: Height and width, one number or two; `--image-size` takes its
                place.
            splits: Names of the splits to load.
            tiles: Side of square tiles that pictures are cut into, of a training split
                at most 4,000 and of others 1,000. Defaults to none.

        Returns:
            One uint8 array `(pictures, height, width, channels)` a split, or
            `datasets.LazyImages` where the run streams them. What is known of each
            picture is in `run.labels[split]`, a dict of arrays by name.

        Raises:
            ValueError: If a split is empty.
            FileNotFoundError: If the data are not found.
        """
        self._settings.setdefault("data", str(data))
        if self.key is not None:
            self._settings["key"] = self.key
        loaded = []
        for split in splits:
            images, labels = datasets.load(
                data,
                split=split,
                image_size=self.image_size or image_size,
                limit=self.limit,
                data_dir=self.data_dir,
                labels=True,
                white=self.white,
                key=self.key,
                stream=self.stream,
            )
            if not len(images):
                raise ValueError(
                    f"The {split} split of {data} holds no pictures: training needs "
                    "some to learn from and some held back. Add more pictures."
                )
            if self.white is None and datasets.recognise(data) is None:
                self.white = datasets.find_white([data], self.key)
            if tiles is not None:
                most = 4000 if split == "train" else 1000
                images, of = datasets.cut_tiles(images, tiles, most, self.seed)
                labels = {name: values[of] for name, values in labels.items()}
            loaded.append(images)
            self.labels[split] = labels
        shape = " x ".join(str(side) for side in loaded[0].shape[1:])
        counts = {s: len(x) for x, s in zip(loaded, splits, strict=True)}
        self._settings["splits"] = counts
        said = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        what = "" if tiles is None else " tiles"
        print(f"Data: {data}, {shape}{what}: {said}.", flush=True)
        return tuple(loaded)

    def load_table(self, path: str | os.PathLike) -> tuple[Schema, np.ndarray]:
        """Reads a table of training examples, and learns its columns.

        Args:
            path: Of a `.csv` or `.parquet` file.

        Returns:
            The schema, and the rows `(n, schema.width)` that it makes.

        Raises:
            ValueError: If the file or a column of it can't be used.
            FileNotFoundError: If there is no such file.
        """
        for name in ("image_size", "white", "key", "stream"):
            if getattr(self, name):
                raise ValueError(
                    f"`{name}` must be left out for a table: it is of pictures. "
                    f"Received: {getattr(self, name)!r} with {path}"
                )
        self._settings.setdefault("data", str(path))
        table = datasets.read_table(path)
        table = {name: values[: self.limit] for name, values in table.items()}
        schema = datasets.Schema.of(table)
        rows = schema.rows(table)
        self._settings["splits"] = {"all": len(rows)}
        kinds = collections.Counter(column.kind for column in schema.columns)
        said = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        print(
            f"Data: {path}, {len(rows):,} rows of {len(schema.columns)} columns "
            f"({said}), {schema.width} values each.",
            flush=True,
        )
        return schema, rows

    # Models from elsewhere

    def trained(self, path: str | os.PathLike, pictures: np.ndarray) -> keras.Model:
        """Loads a model that was trained elsewhere, to go on from or to compare with.

        Args:
            path: As for `runs.load_model`.
            pictures: Pictures, as `load` returned them, which the model must be of.

        Raises:
            FileNotFoundError: If there is no such model.
            ValueError: If it is of other pictures.
        """
        model = load_model(path)
        if model.built_image_shape != pictures.shape[1:]:
            raise ValueError(
                f"{path} must be a model of pictures {pictures.shape[1:]}. Received: a "
                f"{type(model).__name__} of {model.built_image_shape}"
            )
        return model

    def adopt(self, model: keras.Model, train: np.ndarray) -> None:
        """Makes a trained model the run's own, to whose codes something is fitted.

        Args:
            model: What `trained` returned.
            train: Pictures whose codes these will be, as `load` returned them.

        Raises:
            ValueError: If the directory holds a run already, or files that one would
                write.
        """
        self._model = model
        self._settings["training"] = {
            "model": type(model).__name__,
            "pictures": len(train),
            "image_shape": list(train.shape[1:]),
            "monitor": None,
            "seed": self.seed,
        }
        with self._held():
            self._save_best(model)

    # Results

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
        with replacing(folder / f"{name}.png") as temporary:
            if isinstance(image, Image.Image):
                image.save(temporary)
            else:
                image.savefig(temporary)
        self.captions[name] = caption
        write_json(folder / "captions.json", self.captions)

    def finish(self, tells_next: bool = True) -> None:
        """Writes `report.html` and the model card, and prints a summary of a few lines.

        Args:
            tells_next: Whether its last line is a command to go on with.

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
        if tells_next:
            command = report.next_command(self.directory, self._model)
            print(f"Next    {command}", flush=True)

    def _best_row(self):
        if not self.history:
            return None
        rows = callbacks.read_note(self.best_path) if self.best_path.exists() else []
        return rows[-1] if rows else self.history[-1]
