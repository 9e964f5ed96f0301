"""Trained models by name: a folder with a model, its card and where it comes from.

Those that come with the package lie beside this file; others are on hubs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import shutil
import tempfile
import warnings
import zipfile
from typing import Any

import h5py
import keras
import numpy as np

from keras_ae import catalogue, files
from keras_ae.presets import card, hubs
from keras_ae.presets.reading import read

# Halves of numbers are of layers; a sampler's covariances must stay what they are.
_HALVED = "layers"
_LARGEST = np.finfo("float16").max


def find(preset: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a preset.

    Args:
        preset: Path of a folder that `save` has written, the name of a preset that
            comes with the package (`keras-ae presets` lists them), or where one is on a
            hub: `hf://user/name`, `hf://user/name@revision`, or
            `kaggle://user/model/framework/variation`, with `/version` or without. From
            there it comes into the cache of the hub's client.

    Raises:
        FileNotFoundError: If there is no such folder and no preset of that name.
        ValueError: If it begins as that of a hub and has another form.
        ImportError: If the hub's client is not installed.
        OSError: If the hub can't be reached.
    """
    if str(preset).startswith(catalogue.HUBS):
        return hubs.download(str(preset))
    folder = pathlib.Path(preset)
    if (folder / "preset.json").is_file():
        return folder
    names = catalogue.presets()
    if str(preset) in names:
        return catalogue.PRESETS / str(preset)
    raise FileNotFoundError(
        f"There is no preset {preset}: expected a folder with a preset.json, "
        f"hf://user/name, or one of {', '.join(names)}."
    )


def load(preset: str | os.PathLike) -> keras.Model:
    """Loads a preset, in full precision, ready to use or to train on.

    Only registered classes are made, and no code of a stranger is run (Keras'
    `safe_mode`).

    Args:
        preset: As for `find`.

    Returns:
        The model, compiled as its constructor does, as new: without optimizer state.

    Raises:
        FileNotFoundError, ImportError, OSError: As `find`.
        ValueError: If the files are not what was saved, or can't be read.
    """
    folder = find(preset)
    _facts(folder)
    with warnings.catch_warnings():
        # It has no state to load.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return read(folder / "model.keras")


def _facts(folder):
    """What `preset.json` says, once the model beside it is what it tells of."""
    path = folder / "model.keras"
    try:
        facts = json.loads((folder / "preset.json").read_text("utf-8"))
        digest = facts["sha256"]
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"The preset {folder} is damaged: {error!r}.") from error
    if found != digest:
        raise ValueError(
            f"{path} is not the file that was saved: its SHA-256 is not that of "
            "preset.json. Get it anew."
        )
    return facts


def save(model: keras.Model, folder: str | os.PathLike, **facts: Any) -> None:
    """Writes a model as a preset: its layers in half precision, without optimizer.

    Args:
        model: A built model.
        folder: New or empty folder.
        **facts: What else `preset.json` says of it, such as `data` and `licence`.

    Raises:
        ValueError: If the model is not built, `folder` is not empty, facts are none
            that JSON knows, or weights don't fit into half precision.
    """
    if not model.built:
        raise ValueError(
            "`model` must be built: train it, or call `build`. Received one that is not"
        )
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; choose another folder.")
    try:
        json.dumps(facts)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`facts` must be texts, numbers, and lists and dicts of these, as JSON "
            f"knows them. Received: {facts} ({error})"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.keras"
    with files.replacing(path) as temporary:
        model.save(temporary)
        temporary.write_bytes(_lightened(temporary))
    shape = getattr(model, "built_image_shape", None)
    described = {
        "model": type(model).__name__,
        "image_shape": None if shape is None else list(shape),
        "parameters": model.count_params(),
        "keras": keras.__version__,
        **facts,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    with files.replacing(folder / "preset.json") as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def upload(folder: str | os.PathLike, uri: str, private: bool | None = None) -> None:
    """Sends a preset to a hub, for `from_preset` to load it from there.

    `preset.json`, `model.keras` and the card, `README.md`, are sent, with the pictures
    in `pictures` that a run's card shows, and nothing else. Where there is no card, a
    short one is written, of what `preset.json` says. The hub's client finds the token.

    Args:
        folder: Path of a folder that `save` has written.
        uri: Where to: `hf://user/name`, or `kaggle://user/model/keras/variation`. It is
            made if it does not exist; what it holds is kept as an earlier version.
        private: Whether to make it private. Defaults to the hub's way: on Kaggle it is.

    Raises:
        ValueError: If `folder` is no preset or a damaged one, or `uri` of another form.
        ImportError: If the hub's client is not installed.
        PermissionError: If you may not write there.
        OSError: If the hub can't be reached.

    Example:

    ```python
    keras_ae.presets.upload("round-moons", "hf://me/round-moons")
    ```
    """
    folder = pathlib.Path(folder)
    hubs.check(uri)
    facts = _facts(folder)
    with tempfile.TemporaryDirectory() as temporary:
        sent = pathlib.Path(temporary)
        pictures = folder.glob("pictures/*.png")
        for path in (*map(folder.joinpath, hubs.FILES), *pictures):
            if path.is_file():
                target = sent / path.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
        if not (sent / "README.md").exists():
            (sent / "README.md").write_text(card.write(facts, uri), encoding="utf-8")
        hubs.upload(sent, uri, private)


def _lightened(path):
    """The bytes of a `.keras` file without what only training needs."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config.pop("compile_config", None)
    weights = io.BytesIO()
    with (
        h5py.File(io.BytesIO(members["model.weights.h5"])) as old,
        h5py.File(weights, "w") as new,
    ):
        _copy(old, new, ())
    kept = {
        "metadata.json": members["metadata.json"],
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": weights.getvalue(),
        **{name: data for name, data in members.items() if name.startswith("assets/")},
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in kept.items():
            # The same model is the same file, whenever it was saved.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return packed.getvalue()


def _copy(old, new, parents):
    new.attrs.update(old.attrs)
    for name, item in old.items():
        path = (*parents, name)
        if path == ("optimizer",):
            continue
        if isinstance(item, h5py.Group):
            _copy(item, new.create_group(name), path)
            continue
        values = item[()]
        if _HALVED in path and item.dtype == "float32":
            if np.size(values) and not np.abs(values).max() <= _LARGEST:
                raise ValueError(
                    f"Weights must fit into half precision, up to {_LARGEST:g}. "
                    f"Received: {np.abs(values).max():g} in {'/'.join(path)}"
                )
            values = values.astype("float16")
        new.create_dataset(name, data=values).attrs.update(item.attrs)
