"""Commands that train."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_ae import catalogue, models
from keras_ae.cli.commands.plans import Training, arguments, model_settings
from keras_ae.cli.commands.reading import picture_shape
from keras_ae.cli.commands.starting import (
    begin,
    recorded_data,
    saved_settings,
    tells_how_to_go_on,
)
from keras_ae.runs import load_model, report


def recipe(
    name: str,
    directory: pathlib.Path,
    *,
    resume: bool = False,
    chosen: Iterable[str] = (),
    options: Mapping[str, Any],
) -> None:
    """Runs a recipe from beginning to end.

    Args:
        name: Name of a recipe, or path of a script.
        directory: Directory of the run.
        resume: Whether to go on with the run in that directory, which then brings its
            own script and settings.
        chosen: Settings of the recipe as `name=value`.
        options: `seed`, `epochs`, `batch_size`, `limit`, `image_size`, `key`,
            `stream`, `data_dir`, `track`; `None`, or no name to track, where the user
            said nothing.

    Raises:
        ValueError: If a setting is unknown or does not fit, or a resumed run is given
            other settings than it began with.
        FileNotFoundError: If the recipe or the data are missing.
    """
    script = catalogue.find_recipe(name)
    if name.endswith(".py"):
        # As Python does, so that it may import what lies beside it.
        sys.path.insert(0, str(script.resolve().parent))
    title = catalogue.recipe_name(script)
    own = directory / script.name
    if resume and own.is_file():
        script = own
    run, settings = begin(
        title,
        directory,
        resume=resume,
        command=["keras-ae", "recipe", name],
        what={"recipe": title},
        options=options,
        settings=catalogue.choose_for(script, chosen),
        defaults=catalogue.settings(script),
        description=catalogue.description(script),
        script=script,
    )
    with tells_how_to_go_on(run):
        catalogue.load(script)(run, **settings)
        run.finish()


def train(
    model_name: str,
    data: str,
    directory: pathlib.Path,
    *,
    latent_dim: int | None = None,
    start: str | None = None,
    resume: bool = False,
    chosen: Iterable[str] = (),
    options: Mapping[str, Any],
) -> None:
    """Trains a model on pictures of one's own.

    Args:
        model_name: Class name of the model, case ignored.
        data: Path of a folder or zip of pictures, what names shards, or name of a data
            set.
        directory: Directory of the run.
        latent_dim: Numbers in a code.
        start: A trained model to go on with on these pictures, a `.keras` file, a run
            directory or a preset; its size of pictures and its arguments are kept.
        resume: Whether to go on with the run in that directory.
        chosen: `learning_rate`, `patience`, `mirror` (whether mirror images are learned
            from) and arguments of the model's constructor, as `name=value`.
        options: As for `recipe`.

    Raises:
        ValueError: As for `recipe`, or if `start` is another model, or has no encoder.
        FileNotFoundError: If the pictures or `start` are not found.
    """
    model_name = catalogue.find_model(model_name)
    constructor = getattr(models, model_name)
    if constructor.needs_labels:
        raise ValueError(
            f"{model_name} learns from labels, which `keras-ae train` does not read. "
            "Train it from Python, with `fit(x, labels)`, or by a recipe."
        )
    defaults, settings = model_settings(constructor, chosen, latent_dim)
    what = {"model": model_name, "data": recorded_data(data)}
    trained = None
    if start is not None:
        if pathlib.Path(start).exists() or not catalogue.is_preset(start):
            start = str(pathlib.Path(start).resolve())
        what["from"] = start
        trained = _trained(start, constructor)
        options = _kept_from(start, trained, settings, options)
    elif resume:
        start = saved_settings(directory / "settings.json").get("from")
        if start is not None:
            what["from"] = start
            # What it began from may be gone; a checkpoint has all that goes on.
            last = directory / "last.keras"
            trained = _trained(last if last.exists() else start, constructor)
    run, settings = begin(
        catalogue.run_name(model_name, data),
        directory,
        resume=resume,
        command=["keras-ae", "train", model_name.lower(), data],
        what=what,
        options=options,
        settings=settings,
        defaults=defaults,
        description=f"{catalogue.models()[model_name]} Trained on {data}.",
    )
    training = Training(constructor, settings, trained)
    with tells_how_to_go_on(run):
        pictures, validation, test = training.load(run, data)
        if start is not None:
            print(f"Goes on with {start}.", flush=True)
        model = training.fit(run, pictures, validation)
        run.evaluate(model, test)
        run.pictures(model, test, *_classes(run.labels["test"]))
        run.finish()


def _trained(path, constructor):
    """The trained model that a training starts from."""
    model = load_model(path)
    if type(model) is not constructor or not model.has_encoder:
        raise ValueError(
            f"`--from` must name a trained {constructor.__name__}, of a class that has "
            f"an encoder. Received: {path}, a {type(model).__name__}"
        )
    return model


def _kept_from(start, trained, settings, options):
    """The options, with what a trained model keeps; refuses what it does not."""
    size = list(picture_shape(trained)[:2])
    changed = settings.keys() - {"learning_rate", "mirror", "patience"}
    asked = options.get("image_size")
    if asked is not None and np.broadcast_to(asked, 2).tolist() != size:
        changed.add("image_size")
    if changed:
        raise ValueError(
            f"The model of {start} keeps its arguments and its size of pictures, "
            f"{size[0]}x{size[1]}: leave out {', '.join(sorted(changed))}."
        )
    white = options.get("white") or trained.white
    return {**options, "image_size": size, "white": white}


def write_report(directory: str) -> pathlib.Path:
    """Writes the report and the model card of a finished run anew.

    Args:
        directory: Directory of the run.

    Returns:
        Path of the report.

    Raises:
        FileNotFoundError: If there is no run, or no model in it.
    """
    path = pathlib.Path(directory)
    if not (path / "settings.json").is_file():
        raise FileNotFoundError(f"There is no run in {directory}.")
    return report.write(path, load_model(path))


def _classes(labels):
    """The first of a data set's labels that tells pictures apart, and its name."""
    for name, values in labels.items():
        if name != "path" and len(np.unique(values)) > 1:
            return values, name
    return None, None


def shared_settings(names: Sequence[str], chosen: Iterable[str]) -> dict[str, Any]:
    """Arguments of several models' constructors.

    Args:
        names: Class names of models.
        chosen: Texts such as `"latent_dim=16"`.

    Returns:
        Their values by name.

    Raises:
        ValueError: If one of the models has no such argument, or it does not fit.
    """
    found = {}
    for name in names:
        try:
            found = catalogue.choose(arguments(getattr(models, name)), chosen)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found
