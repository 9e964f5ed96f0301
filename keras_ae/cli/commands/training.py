"""Commands that train."""

from __future__ import annotations

import contextlib
import datetime
import inspect
import json
import math
import pathlib
import shlex
import sys
import typing
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_ae import callbacks, catalogue, checks, metrics, models
from keras_ae.cli.commands.reading import picture_shape
from keras_ae.datasets import mirrors
from keras_ae.runs import Run, environment, load_model, report

# What may change when a run goes on: how long it trains, and where its data lie.
_MAY_CHANGE = ("epochs", "data_dir", "patience", "track")
# Estimated noise above which pictures are no longer clean.
_NOISY = 0.03
# So many pictures have their mirror images learned from, where those are described
# worse than the pictures themselves by at most this share: fewer could not tell.
_FEW, _ALIKE = range(50, 1000), 0.1


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
        options: `seed`, `epochs`, `batch_size`, `limit`, `image_size`, `data_dir`,
            `track`; `None`, or no name to track, where the user said nothing.

    Raises:
        ValueError: If a setting is unknown or does not fit, or a resumed run is given
            other settings than it began with.
        FileNotFoundError: If the recipe or the data are missing.
    """
    script = catalogue.find_recipe(name)
    title = catalogue.recipe_name(script)
    own = directory / script.name
    if resume and own.is_file():
        script = own
    defaults = catalogue.settings(script)
    run, settings = _start(
        title,
        directory,
        resume=resume,
        command=["keras-ae", "recipe", name],
        what={"recipe": title},
        options=options,
        settings=catalogue.choose(defaults, chosen),
        defaults=defaults,
        description=catalogue.description(script),
        script=script,
    )
    with _tells_how_to_go_on(run):
        catalogue.load(script)(run, **settings)
        run.finish()


class Plan(NamedTuple):
    """What a training is given where nobody says otherwise."""

    latent_dim: int
    batch_size: int
    epochs: int
    patience: int


# Numbers in a code where pictures are few.
FEW_DIMS = 16
# What is left of the learning rate each time that it falls.
FALL = 0.3


def training_plan(pictures: int) -> Plan:
    """Returns what suits a number of pictures.

    Steps are about as many whatever it is, so that few pictures are seen more often;
    batches are small enough for tens of steps an epoch.
    """
    batch_size = 2 ** round(math.log2(max(pictures, 1) / 40))
    batch_size = min(max(batch_size, 16), 128)
    epochs = round(25_000 * batch_size / pictures)
    epochs = min(max(epochs, 20), 400)
    few = FEW_DIMS if pictures < 1000 else 2 * FEW_DIMS
    return Plan(few, batch_size, epochs, max(5, epochs // 10))


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
        data: Path of a folder or zip of pictures, or name of a data set.
        directory: Directory of the run.
        latent_dim: Numbers in a code.
        start: A trained model to go on with on these pictures, a `.keras` file or a run
            directory; its size of pictures and its arguments are kept.
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
    # The players of an adversarial model have rates of their own.
    chosen = [*chosen]
    rate = None if constructor.player_names else 1e-3
    # Mirror images are for few pictures that may be either way round.
    defaults = {"learning_rate": rate, "mirror": None, **arguments(constructor)}
    if constructor.score_name is not None:
        # By the number of pictures.
        defaults["patience"] = None
    settings = catalogue.choose(defaults, chosen)
    if latent_dim is not None:
        settings["latent_dim"] = latent_dim
    checks.check_positive("learning_rate", settings.get("learning_rate", 1))
    if settings.get("patience") is not None:
        checks.check_count("patience", settings["patience"], minimum=0)
    what = {"model": model_name, "data": str(pathlib.Path(data))}
    trained = None
    if start is not None:
        start = str(pathlib.Path(start).resolve())
        what["from"] = start
        trained = _trained(start, constructor)
        options = _kept_from(start, trained, settings, options)
    elif resume:
        start = _saved(directory / "settings.json").get("from")
        if start is not None:
            # What it began from may be gone; a checkpoint has all that goes on.
            last = directory / "last.keras"
            trained = _trained(last if last.exists() else start, constructor)
    run, settings = _start(
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
    patience = settings.pop("patience", None)
    learning_rate = settings.pop("learning_rate")
    mirror = _yes_or_no("mirror", settings.pop("mirror", None))
    # What the constructor chooses by itself; 0 is a value like any other.
    given = {
        name: value
        for name, value in settings.items()
        if value is not None and (name != "widths" or value)
    }

    def build():
        model = constructor(**given) if trained is None else trained
        if not model.player_names:
            model.compile(optimizer=keras.optimizers.Adam(learning_rate))
        elif learning_rate is not None:
            model.optimizer.learning_rate = learning_rate
        return model

    # What the constructor refuses, it refuses before the data are read.
    build()
    with _tells_how_to_go_on(run):
        pictures, validation, test = run.load(data)
        pictures = _with_mirror_images(pictures, mirror)
        plan = training_plan(len(pictures))
        # Where it has a default of its own, that has a reason.
        asked = latent_dim or any(text.startswith("latent_dim=") for text in chosen)
        if start is not None:
            print(f"Goes on with {start}.", flush=True)
        elif not asked and given.get("latent_dim") == 2 * FEW_DIMS:
            given["latent_dim"] = plan.latent_dim
        model = run.model(build)
        if model.denoises:
            _say_what_is_learned(model, pictures)
        patience = plan.patience if patience is None else patience
        codes = "" if model.denoises else f"codes of {model.latent_dim}, "
        epochs = run.epochs or plan.epochs
        falling = _falling_rate(run, model, patience)
        ends = [f"the rate falls after {rate.patience}" for rate in falling]
        ends.append(f"the end after {patience}")
        end = f", {', '.join(ends)} without a better one"
        print(
            f"For {len(pictures):,} pictures: {codes}batches of "
            f"{run.batch_size or plan.batch_size}, epochs: at most {epochs}"
            f"{end if patience < epochs else ''}. Other numbers: --latent-dim, "
            "--batch-size, --epochs, --set patience=N.",
            flush=True,
        )
        run.fit(
            model,
            pictures,
            validation,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            patience=patience,
            extra_callbacks=falling,
        )
        run.evaluate(model, test)
        run.pictures(model, test, *_classes(run.labels["test"]))
        run.finish()


def _falling_rate(run, model, patience):
    """Lets the rate fall where no epoch is better, well before training ends there.

    Not with several players, who would get out of step, nor where each phase has an
    optimizer of its own.
    """
    one = not model.player_names and not hasattr(model, "next_phase")
    if model.score_name is None or not one:
        return []
    rate = float(model.optimizer.learning_rate)
    return [
        callbacks.ResumedReduceLROnPlateau(
            run.history,
            monitor=f"val_{model.score_name}",
            factor=FALL,
            patience=max(2, patience // 4),
            min_lr=rate * FALL**3,
        )
    ]


def _trained(path, constructor):
    """The trained model that a training starts from."""
    model = load_model(path)
    if type(model) is not constructor or not model.has_encoder:
        raise ValueError(
            f"`--from` must name a trained {constructor.__name__}, of a class that has "
            f"an encoder. Received: {path}, a {type(model).__name__}"
        )
    return model


def _yes_or_no(name, value):
    known = {"yes": True, "no": False, True: True, False: False, None: None}
    if not isinstance(value, str | bool | None) or value not in known:
        raise ValueError(f"`{name}` must be yes or no. Received: {name}={value}")
    return known[value]


def _with_mirror_images(pictures, asked):
    """Pictures, and their mirror images where few of them could be either way round."""
    if asked is None and len(pictures) in _FEW:
        asked = mirrors.asymmetry(pictures) < _ALIKE
        if asked:
            print(
                "Learns from mirror images too: there are few pictures, which could as "
                "well be the other way round. `--set mirror=no` leaves them out.",
                flush=True,
            )
    return mirrors.mirrored(pictures) if asked else pictures


def _say_what_is_learned(model, pictures):
    """Says that clean pictures are needed, and whether these look clean."""
    level = getattr(model.corruption, "level", None)
    level = f" of {level}" if level is not None else ""
    print(
        f"It learns to take {type(model.corruption).__name__}{level} from pictures "
        "that are clean.",
        flush=True,
    )
    noise = metrics.noise_level(pictures[:500]) if min(pictures.shape[1:3]) > 9 else 0.0
    if noise > _NOISY:
        warnings.warn(
            f"The pictures look noisy themselves: a deviation of about {noise:.2f}. "
            "What is in them stays in what is restored. Train on clean ones, or from "
            "Python on pairs: `fit(noisy, clean)`, or two takes of each, "
            "`fit(take, other_take)`.",
            stacklevel=2,
        )


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
    return {**options, "image_size": size}


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


def arguments(constructor: type[keras.Model]) -> dict[str, Any]:
    """The constructor's arguments that can be given as text, with their defaults."""
    found = {}
    for cls in reversed(constructor.__mro__):
        if not issubclass(cls, keras.Model) or cls.__module__.startswith("keras.src"):
            continue
        for parameter in inspect.signature(cls.__init__).parameters.values():
            name, default = parameter.name, parameter.default
            # Labels, which classes need, come with Python only.
            if name in constructor.settled_arguments or name == "num_classes":
                continue
            plain = {int, float, str} & {*typing.get_args(parameter.annotation)}
            if name == "widths":
                found[name] = ()
            elif (
                name == "likelihood"
                or isinstance(default, (bool, int, float, str, tuple))
                or (default is None and plain)
            ):
                found[name] = default
    return found


@contextlib.contextmanager
def _tells_how_to_go_on(run):
    """Gives Ctrl-C the sentence that says what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        if (run.directory / "settings.json").exists():
            count = len(run.history)
            stopped.go_on = (
                f"{count} complete epoch{'' if count == 1 else 's'} "
                f"{'is' if count == 1 else 'are'} kept in {run.directory}. "
                f"Go on with:\n  {run.again}"
            )
        raise


def _start(
    name,
    directory,
    *,
    resume,
    command,
    what,
    options,
    settings,
    defaults,
    description,
    script=None,
):
    """Settles the run's settings; returns the `Run` and what its script is given."""
    record = {
        **what,
        "command": shlex.join(["keras-ae", *sys.argv[1:]]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    options = {**options, "track": [*options.get("track", ())] or None}
    if resume:
        saved = _saved(directory / "settings.json")
        for key, value in what.items():
            if saved.get(key) != value:
                raise ValueError(
                    f"The run in {directory} is another one ({key}: {saved.get(key)}). "
                    f"Received: {value}"
                )
        options = _kept("--{}", saved["options"], options)
        settings = _kept("--set {}", saved["settings"], settings)
        record["first_command"] = saved.get("first_command", saved["command"])
        record["first_started"] = saved.get("first_started", saved["started"])
    else:
        options = {**options, "seed": options.get("seed") or 0}
        settings = {**defaults, **settings}
    if options.get("data_dir"):
        options["data_dir"] = str(pathlib.Path(options["data_dir"]).resolve())
    record |= {"options": options, "settings": settings, "environment": environment()}
    print(f"Run directory: {directory}", flush=True)
    run = Run(
        directory,
        name,
        description=description,
        resume=resume,
        again=shlex.join([*command, "--run-dir", str(directory), "--resume"]),
        settings=record,
        script=script,
        **options,
    )
    return run, dict(settings)


def _saved(path):
    """What a run recorded in its `settings.json`."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        saved = None
    needed = {"options", "settings", "command", "started"}
    if not isinstance(saved, dict) or not needed <= saved.keys():
        raise ValueError(
            f"{path} is damaged, or not that of a run of the command line; the run "
            "can't go on."
        )
    return saved


def _kept(form, saved, given):
    """Saved values, with those given in place of the ones that may change."""
    kept = dict(saved)
    for name, value in given.items():
        if value is None or value == saved.get(name):
            continue
        if name not in _MAY_CHANGE:
            raise ValueError(
                "A resumed run keeps its settings: leave out "
                f"`{form.format(name.replace('_', '-'))}`. Received: {value}; the run "
                f"began with {saved.get(name)}"
            )
        kept[name] = value
    return kept
