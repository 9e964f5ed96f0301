"""Models from files."""

from __future__ import annotations

import os
import pathlib
import platform
from typing import Any

import keras
import numpy as np

from keras_ae import backend, catalogue, machine, models, presets


def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a model of this package.

    Args:
        path: A `.keras` file, a run directory (whose best model is meant), or a preset,
            as for `presets.find`.

    Returns:
        The model, compiled, with optimizer state but for presets.

    Raises:
        FileNotFoundError: If there is no such file or directory, or no model in it.
        ValueError: If the file can't be read, or holds a model of another kind.
        ImportError, OSError: As `presets.find`, of one on a hub.
    """
    name, path = str(path), pathlib.Path(path)
    if catalogue.is_preset(name) and not path.exists():
        path = presets.find(name)
    preset = path if (path / "preset.json").is_file() else None
    if path.is_dir():
        if not (path / "model.keras").is_file():
            raise FileNotFoundError(f"There is no model.keras in {path}.")
        path = path / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no model file, run directory or preset {path}."
            f"{catalogue.did_you_mean(name, [*_beside(path), *catalogue.presets()])} "
            "`keras-ae presets` lists the presets."
        )
    model = presets.load(preset) if preset else presets.read(path)
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


def _beside(path):
    """Paths of the models in the folder where one was looked for."""
    folder = path.parent
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        str(other)
        for other in found
        if other.suffix == ".keras" or (other / "model.keras").is_file()
    ]


def environment() -> dict[str, Any]:
    """Backend, devices, versions and, in a checkout, the commit."""
    packages = ("keras-ae", "keras", "tensorflow", "jax", "torch", "numpy")
    try:
        devices = keras.distribution.list_devices()
    except (AttributeError, NotImplementedError, RuntimeError):
        devices = [str(keras.ops.zeros(1).device)]
    return {
        "backend": backend.BACKEND,
        "devices": list(devices),
        "device": machine.device(backend.BACKEND)["device"],
        "versions": machine.versions(packages),
        "commit": machine.commit(),
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPU cores",
    }


def share(directory: pathlib.Path) -> None:
    """Gives all processes that train together what the first one's directory holds.

    Args:
        directory: Of the run that goes on; another one in each process.
    """
    kept = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.suffix in (".csv", ".json", ".keras", ".py")
    }
    for name, content in backend.from_first(kept).items():
        path = directory / name
        if name not in kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
