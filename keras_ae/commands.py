"""What the command line does once keras is imported."""

from __future__ import annotations

import collections
import contextlib
import csv
import datetime
import inspect
import json
import math
import numbers
import pathlib
import shlex
import sys
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_ae import (
    callbacks,
    compression,
    datasets,
    metrics,
    models,
    plots,
    progress,
    report,
    scripts,
)
from keras_ae.datasets import mirrors
from keras_ae.runs import Run, environment, load_model

# What may change when a run goes on: how long it trains, and where its data lie.
_MAY_CHANGE = ("epochs", "data_dir", "patience", "track")
# Pictures in memory at a time, where there may be any number of them.
_CHUNK = 1024
# Values in memory at a time, where pictures may be of any size.
_VALUES = 2**26
# Estimated noise above which pictures are no longer clean.
_NOISY = 0.03
# Fewer pictures than these may have their mirror images learned from, where they make
# the error of principal components smaller by this share.
_FEW, _WORTH = 1000, 0.02
# Pictures on a sheet of originals and what was made of them.
_ON_A_SHEET = 64
# Labelled pictures that attributes are looked for in, and taken of each side.
_LABELLED, _A_SIDE = 20_000, 2000


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
    script = scripts.find_recipe(name)
    title = scripts.recipe_name(script)
    own = directory / script.name
    if resume and own.is_file():
        script = own
    defaults = scripts.settings(script)
    run, settings = _start(
        title,
        directory,
        resume=resume,
        command=["keras-ae", "recipe", name],
        what={"recipe": title},
        options=options,
        settings=scripts.choose(defaults, chosen),
        defaults=defaults,
        description=scripts.description(script),
        script=script,
    )
    with _tells_how_to_go_on(run):
        scripts.load(script)(run, **settings)
        run.finish()


class Plan(NamedTuple):
    """What a training is given where nobody says otherwise."""

    latent_dim: int
    batch_size: int
    epochs: int
    patience: int


# Numbers in a code where pictures are few.
FEW_DIMS = 16


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
    model_name = scripts.find_model(model_name)
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
    settings = scripts.choose(defaults, chosen)
    if latent_dim is not None:
        settings["latent_dim"] = latent_dim
    rate = settings.get("learning_rate", 1)
    if not isinstance(rate, numbers.Real) or not 0 < rate < math.inf:
        raise ValueError(
            "`learning_rate` must be > 0 and finite. "
            f"Received: learning_rate={settings['learning_rate']}"
        )
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
        scripts.run_name(model_name, data),
        directory,
        resume=resume,
        command=["keras-ae", "train", model_name.lower(), data],
        what=what,
        options=options,
        settings=settings,
        defaults=defaults,
        description=f"{scripts.models()[model_name]} Trained on {data}.",
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
        pictures = _with_mirror_images(pictures, validation, mirror)
        plan = training_plan(len(pictures))
        # Where it has a default of its own, that has a reason.
        asked = latent_dim or any(text.startswith("latent_dim=") for text in chosen)
        if start is not None:
            print(f"Goes on with {start}.", flush=True)
        elif not asked and given.get("latent_dim") == 2 * FEW_DIMS:
            given["latent_dim"] = plan.latent_dim
        model = run.model(build)
        if hasattr(model, "denoise"):
            _say_what_is_learned(model, pictures)
        patience = plan.patience if patience is None else patience
        codes = "" if hasattr(model, "denoise") else f"codes of {model.latent_dim}, "
        print(
            f"For {len(pictures):,} pictures: {codes}batches of "
            f"{run.batch_size or plan.batch_size}, at most {run.epochs or plan.epochs} "
            f"epochs, the end after {patience} without a better one. Other numbers: "
            "--latent-dim, --batch-size, --epochs, --set patience=N.",
            flush=True,
        )
        run.fit(
            model,
            pictures,
            validation,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            patience=patience,
        )
        run.evaluate(model, test)
        run.pictures(model, test, *_classes(run.labels["test"]))
        run.finish()


def _trained(path, constructor):
    """The trained model that a training starts from."""
    model = load_model(path)
    if type(model) is not constructor or model.encoder is None:
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


def _with_mirror_images(pictures, held_back, asked):
    """Pictures, and their mirror images where few of them are better learned so."""
    if asked is None and len(pictures) < _FEW:
        gain = mirrors.gain(pictures, held_back)
        if gain > _WORTH:
            print(
                f"Learns from mirror images too: there are few pictures, and with "
                f"them those held back are described {gain:.0%} better. "
                "`--set mirror=no` leaves them out.",
                flush=True,
            )
            asked = True
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
            found = scripts.choose(arguments(getattr(models, name)), chosen)
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


def reconstruct(
    path: str, pictures: Sequence[str], output: str, limit: int | None = None
) -> None:
    """Reconstructs pictures, each into a PNG file of the same name.

    Args:
        path: A `.keras` file or a run directory.
        pictures: Paths of pictures, and of folders of them.
        output: Folder for the reconstructions, created if absent; or path of a sheet,
            `.png`, of the originals above their reconstructions.
        limit: At most this many pictures; on a sheet 64 unless it says otherwise.

    Raises:
        ValueError: If two results would have one name, or one would overwrite a
            picture that was read or a file beside it.
        FileNotFoundError: If a path does not exist.
    """
    model = load_model(path)
    _restore(model, model.reconstruct, "reconstructed", pictures, output, limit)


def denoise(
    path: str, pictures: Sequence[str], output: str, limit: int | None = None
) -> None:
    """Takes the noise from pictures, each into a PNG file of the same name.

    A model without a bottleneck leaves them their size; on a sheet they all have one.

    Args:
        path: A `.keras` file or a run directory, of a model that denoises.
        pictures: Paths of noisy pictures, and of folders of them.
        output: Folder for the clean pictures, created if absent; or path of a sheet,
            `.png`, of the noisy ones above them.
        limit: At most this many pictures; on a sheet 64 unless it says otherwise.

    Raises:
        ValueError: If the model does not denoise, and as for `reconstruct`.
        FileNotFoundError: If a path does not exist.
    """
    model = load_model(path)
    if not hasattr(model, "denoise"):
        raise ValueError(
            f"This {type(model).__name__} has not learned to denoise pictures. A "
            "DenoisingAE has; `keras-ae reconstruct` works on every model."
        )
    own_size = model.keeps_pixels
    _restore(model, model.denoise, "denoised", pictures, output, limit, own_size)


def _restore(model, verb, done, pictures, output, limit, own_size=False):
    """Writes what `verb`, a method of the model, makes of each picture."""
    files = _files(pictures)
    folder = pathlib.Path(output)
    if folder.suffix.lower() == ".png" and not folder.is_dir():
        if folder.resolve() in {file.resolve() for file in files}:
            raise ValueError(f"{output} would be overwritten; choose another.")
        shown = files[: limit or _ON_A_SHEET]
        images = np.concatenate([images for _, images in _read(model, shown)])
        beside = plots.reconstructions(
            as_pictures(model, images), as_pictures(model, verb(images))
        )
        print(f"{len(images)} of {len(files)} pictures, {done} below.")
        return save_image(beside, output)
    files = files[:limit]
    targets = [folder / f"{file.stem}.png" for file in files]
    _check_distinct(targets)
    # A folder of results may be filled again, a folder of originals is left alone.
    if folder.resolve() in {file.parent.resolve() for file in files}:
        for target in filter(pathlib.Path.exists, targets):
            raise ValueError(
                f"{target} would be overwritten; choose another `--output`."
            )
    shapes = {model.built_image_shape: files}
    if own_size:
        shapes = _by_shape(model, files)
    count = 0
    with progress.shown(done, len(files)) as advance:
        for shape, group in shapes.items():
            for found, images in _read(model, group, shape):
                folder.mkdir(parents=True, exist_ok=True)
                for file, picture in zip(found, verb(images), strict=True):
                    with callbacks.replacing(folder / f"{file.stem}.png") as temporary:
                        plots.picture(picture).save(temporary)
                count += len(found)
                advance(count)
    print(f"{count} picture{'' if count == 1 else 's'} {done} in {folder}")


def _by_shape(model, files):
    """Files by the shape that a model is given their pictures in, of their own size."""
    groups, broken = collections.defaultdict(list), []
    for file in files:
        try:
            size = datasets.pictures.upright_size(file.read_bytes())
        except OSError:  # said when it is decoded
            broken.append(file)
        else:
            groups[*size, *model.built_image_shape[2:]].append(file)
    first = next(iter(groups), model.built_image_shape)
    groups[first] = broken + groups[first]
    return groups


def _check_distinct(targets):
    for target, count in collections.Counter(targets).items():
        if count > 1:
            raise ValueError(
                f"{count} pictures would be written to {target}; rename them or "
                "choose an `--output` of its own for each."
            )


def compress(
    path: str,
    pictures: Sequence[str],
    output: str,
    step: float = compression.STEP,
    limit: int | None = None,
) -> None:
    """Compresses pictures into one small file, and says how JPEG would do.

    Args:
        path: A `.keras` file or a run directory.
        pictures: Paths of pictures, and of folders of them.
        output: Path of the result, `.kae`.
        step: As for `compression.compress`.
        limit: At most this many pictures.

    Raises:
        ValueError: If two pictures have one name, or `output` ends otherwise.
        FileExistsError: If `output` exists: it may be all that is left of others.
        FileNotFoundError: If a path does not exist.
    """
    target = pathlib.Path(output)
    if target.suffix.lower() != ".kae":
        raise ValueError(f"`--output` must end in .kae. Received: {output}")
    check_absent(target)
    model = load_model(path)
    files = _files(pictures)[:limit]
    _check_distinct([f"{file.stem}.png" for file in files])
    found, images = [], []
    for names, chunk in _read(model, files):
        found += [name.stem for name in names]
        images.append(chunk)
    images = np.concatenate(images)
    data = compression.compress(model, images, step, names=found)
    target.parent.mkdir(parents=True, exist_ok=True)
    with callbacks.replacing(target) as temporary:
        temporary.write_bytes(data)
    codes = compression.read_codes(model, data)
    psnr = 0.0
    for start in range(0, len(codes), _CHUNK):
        chunk = images[start : start + _CHUNK]
        restored = model.decode(codes[start : start + _CHUNK])
        psnr += metrics.psnr(chunk, restored) * len(chunk) / len(codes)
    _report(target, len(data), psnr, as_pictures(model, images))


def _report(target, size, psnr, images):
    """Prints a table of our file and of JPEG."""
    count, height, width, _ = images.shape
    print(
        f"{count:,} picture{'' if count == 1 else 's'} of {width} x {height} pixels "
        f"written to {target}\n"
    )
    rows = [(target.name, size, psnr)]
    try:
        jpeg = compression.jpeg(images, size)
    except ValueError as error:
        remark = f"No JPEG beside it. {error}"
    else:
        rows.append(("JPEG", jpeg.size, jpeg.psnr))
        which = "its lowest, and larger even so"
        if jpeg.size <= size:
            which = "the best that is no larger"
        remark = (
            f"JPEG has all pictures on one sheet, at quality {jpeg.quality}: {which}."
        )
    names = max(len(name) for name, _, _ in rows)
    print(f"{'':{names}}  {'bytes':>11}  bits per pixel  PSNR in dB")
    for name, bytes_, decibels in rows:
        bits = 8 * bytes_ / (count * height * width)
        print(f"{name:{names}}  {bytes_:11,}  {bits:14.4f}  {decibels:10.2f}")
    print(f"\n{remark}")


def decompress(path: str, file: str, output: str) -> None:
    """Restores compressed pictures, each into a PNG file of its name.

    Args:
        path: A `.keras` file or a run directory: the model that compressed them.
        file: Path of the compressed pictures.
        output: Folder for the pictures; created if absent.

    Raises:
        ValueError: If the file can't be restored with this model, or holds names that
            are not those of files.
        FileExistsError: If one of the pictures exists: it may be the original.
        FileNotFoundError: If a path does not exist.
    """
    datasets.folders.check_file(file)
    data = pathlib.Path(file).read_bytes()
    model = load_model(path)
    picture_shape(model)
    try:
        codes = compression.read_codes(model, data)
        names = compression.read_names(data)
    except ValueError as error:
        raise ValueError(f"{file} can't be restored. {error}") from error
    if names is None:
        digits = len(str(len(codes)))
        names = [f"{number:0{digits}}" for number in range(1, len(codes) + 1)]
    for name in names:
        # Whoever made the file chose the names: none may lead out of the folder.
        if pathlib.Path(name).name != name or "\0" in name:
            raise ValueError(
                f"{file} can't be restored. It holds a name that is not that of a "
                f"file: {name!r}"
            )
    folder = pathlib.Path(output)
    targets = [folder / f"{name}.png" for name in names]
    _check_distinct(targets)
    for target in targets:
        check_absent(target)
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(codes), _CHUNK):
        restored = as_pictures(model, model.decode(codes[start : start + _CHUNK]))
        for target, picture in zip(
            targets[start : start + _CHUNK], restored, strict=True
        ):
            with callbacks.replacing(target) as temporary:
                plots.picture(picture).save(temporary)
    count = len(codes)
    print(f"{count:,} picture{'' if count == 1 else 's'} restored in {folder}")


def check_absent(target):
    if target.exists() or target.is_symlink():
        raise FileExistsError(
            f"{target} exists already and is not overwritten; choose another "
            "`--output`."
        )


def sample(
    path: str,
    number: int,
    output: str | None,
    seed: int | None = None,
    sampler: str | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    limit: int | None = None,
    *,
    separate: str | None = None,
) -> None:
    """Draws pictures from a generative model.

    Args:
        path: A `.keras` file or a run directory.
        number: Number of pictures.
        output: Path of a sheet of all, `.png`, or None.
        seed: Seed of the draw; without one, each draw is another.
        sampler: What codes are drawn from: see `Autoencoder.sample`.
        data: Path of a folder or zip of pictures, or name of a data set, whose training
            split it is: the sampler is fitted to their codes first. The model's file
            stays as it is.
        data_dir: Folder of data sets.
        limit: At most this many pictures are read.
        separate: Folder for a file of each, or None.

    Raises:
        ValueError: If the model can't be sampled so, `output` ends otherwise, or a file
            would be overwritten.
    """
    if output is not None:
        check_png(output)
    files = []
    if separate is not None:
        digits = len(str(number))
        files = [
            pathlib.Path(separate) / f"{index:0{digits}}.png"
            for index in range(1, number + 1)
        ]
        for file in filter(pathlib.Path.exists, files):
            raise ValueError(f"{file} would be overwritten; choose another folder.")
    model = load_model(path)
    if not (model.SAMPLERS or model.draws_by_itself):
        raise ValueError(f"This {type(model).__name__} {model.no_samplers}.")
    if data is not None:
        sampler = sampler or ("mixture" if "mixture" in model.SAMPLERS else "pixelcnn")
        split = "train" if datasets.known_name(data) else "all"
        images, _ = load_pictures(model, data, split, data_dir, limit)
        print(
            f"Fitting {sampler} to the codes of {len(images):,} pictures.", flush=True
        )
        model.fit_sampler(sampler, images, seed=seed or 0)
    if sampler is None and not model.can_sample:
        raise ValueError(
            f"This {type(model).__name__} has no prior over codes to sample from: fit "
            "a sampler to the codes of the pictures that it was trained on, with "
            "`--data` and the name of the data set or their folder."
        )
    if sampler is None and (choice := model.choose_sampler()) is not None:
        print(choice, flush=True)
    pictures = as_pictures(model, model.sample(number, seed=seed, sampler=sampler))
    for file, picture in zip(files, pictures, strict=False):
        file.parent.mkdir(parents=True, exist_ok=True)
        with callbacks.replacing(file) as temporary:
            plots.picture(picture).save(temporary)
    if files:
        print(f"{number:,} picture{'' if number == 1 else 's'} in {separate}")
    if output is not None:
        save_image(plots.sheet(pictures), output)


def interpolate(path: str, a: str, b: str, output: str, steps: int = 9) -> None:
    """Turns one picture into another, in equal steps between their codes.

    Args:
        path: A `.keras` file or a run directory.
        a: Path of the first picture.
        b: Path of the last picture.
        output: Path of the sheet, `.png`.
        steps: Number of pictures in the row.

    Raises:
        ValueError: If `output` ends otherwise, or is one of the two pictures.
    """
    check_png(output)
    files = [_files([name])[0] for name in (a, b)]
    for file in files:
        if pathlib.Path(output).resolve() == file.resolve():
            raise ValueError(f"{file} would be overwritten; choose another `--output`.")
    model = load_model(path)
    ends = [images for file in files for _, images in _read(model, [file])]
    row = model.interpolate(*ends, steps=steps)[0]
    save_image(plots.sheet(as_pictures(model, row), columns=steps), output)


def attribute(
    path: str,
    pictures: Sequence[str],
    output: str | None = None,
    *,
    added: Sequence[str] = (),
    removed: Sequence[str] = (),
    strength: float = 2.0,
    data: str = "celeba",
    data_dir: str | None = None,
    limit: int = 16,
) -> None:
    """Gives pictures attributes, or takes them away, on one sheet.

    Each row is a picture, its reconstruction and five equal steps to the full strength.

    Args:
        path: A `.keras` file or a run directory.
        pictures: Paths of pictures, and of folders of them.
        output: Path of the sheet, `.png`; by default `attribute.png`, which is not
            overwritten.
        added: Names of attributes to add, case ignored.
        removed: Names of attributes to take away.
        strength: Length of the last step, in attribute vectors.
        data: Name or path of a data set with attributes, from whose training split the
            vectors are computed.
        data_dir: Folder of data sets.
        limit: At most this many pictures.

    Raises:
        ValueError: If there is no such attribute, or `output` ends otherwise or is one
            of the pictures.
        FileExistsError: If there is an `attribute.png` and no `output`.
        FileNotFoundError: If a path does not exist.
    """
    if not added and not removed:
        raise ValueError("Nothing to change: name an attribute with `--add`.")
    if output is None:
        output = "attribute.png"
        check_absent(pathlib.Path(output))
    check_png(output)
    files = _files(pictures)[:limit]
    if pathlib.Path(output).resolve() in {file.resolve() for file in files}:
        raise ValueError(f"{output} would be overwritten; choose another `--output`.")
    model = load_model(path)
    labelled, found = load_pictures(model, data, "train", data_dir, _LABELLED)
    signs = {}
    for option, names, sign in (("--add", added, 1), ("--remove", removed, -1)):
        for name in names:
            name = _attribute(found, name, option, data)
            if signs.setdefault(name, sign) != sign:
                raise ValueError(f"{name} can't be both added and taken away.")
    vector = np.zeros(model.code_dim, "float32")
    for name, sign in signs.items():
        chosen = [np.flatnonzero(found[name] == side)[:_A_SIDE] for side in (1, 0)]
        rows = np.sort(np.concatenate(chosen))
        print(
            f"{name}: {len(chosen[0]):,} pictures with it, {len(chosen[1]):,} without"
        )
        _say_search(model, len(rows))
        vector += sign * model.attribute_vector(labelled[rows], found[name][rows])
    strengths = np.linspace(0, strength, 6)
    shown = []
    for _, images in _read(model, files):
        changed = as_pictures(model, model.add_attribute(images, vector, strengths))
        changed = changed.reshape(len(images), len(strengths), *changed.shape[1:])
        originals = as_pictures(model, images) / 255
        shown.append(np.concatenate([originals[:, None], changed], axis=1))
    save_image(plots.interpolation(np.concatenate(shown)), output)


def _attribute(found, name, option, data):
    """The full name of one of a data set's attributes."""
    known = [
        label
        for label, values in found.items()
        if values.dtype.kind in "biu" and np.isin(values, (0, 1)).all()
    ]
    matching = [label for label in found if label.lower() == name.lower()]
    if matching and matching[0] in known:
        return matching[0]
    if matching:
        raise ValueError(
            f"`{option}` must name an attribute that a picture has or has not. "
            f"Received: {name}, of which {data} has "
            f"{len(np.unique(found[matching[0]])):,} values"
        )
    if not known:
        raise ValueError(
            f"{data} has no attributes, yes or no for each picture; `--data` names a "
            "data set that has, such as celeba."
        )
    raise ValueError(f"`{option}` must be one of {', '.join(known)}. Received: {name}")


def latent_map(
    path: str,
    data: str,
    output: str,
    *,
    method: str = "auto",
    labels: str | None = None,
    thumbnails: bool = True,
    data_dir: str | None = None,
    limit: int = 2000,
    seed: int = 0,
) -> None:
    """Draws the codes of a folder of pictures, or of a data set, in two dimensions.

    Args:
        path: A `.keras` file or a run directory.
        data: Path of a folder or zip of pictures, or name of a data set, whose test
            split is meant.
        output: Path of the map, `.png`.
        method: As for `plots.latent_map`.
        labels: Which label of the pictures gives the colour; by default the first
            that tells them apart.
        thumbnails: Whether to draw some of the pictures where their codes lie.
        data_dir: Folder of data sets.
        limit: At most this many pictures; of a folder spread over all of it.
        seed: Seed of t-SNE and UMAP.

    Raises:
        ValueError: If there is no such label, or `output` ends otherwise or is one of
            the pictures.
        ImportError: If the package that the method needs is not installed.
    """
    check_png(output)
    target = pathlib.Path(output).resolve()
    if target.exists() and pathlib.Path(data).resolve() in target.parents:
        raise ValueError(f"{output} would be overwritten; choose another `--output`.")
    model = load_model(path)
    known = datasets.known_name(data)
    # Pictures of a folder come in the order of its sub-folders, so that the first of
    # them would show a few of the classes only.
    in_order = known is None and not datasets.celeba.is_celeba(data)
    images, found = load_pictures(
        model, data, "test" if known else "all", data_dir, None if in_order else limit
    )
    if len(images) > limit:
        chosen = np.linspace(0, len(images) - 1, limit).astype(int)
        images = images[chosen]
        found = {name: values[chosen] for name, values in found.items()}
    values, label_name = _classes(found)
    if labels is not None:
        values, label_name = _label(found, labels, data), labels
    codes = _encode(model, images)
    figure = plots.latent_map(
        codes,
        values,
        label_name,
        images=as_pictures(model, images) if thumbnails else None,
        method=method,
        seed=seed,
    )
    names = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
    names["auto"] = "PCA" if codes.shape[1] > 2 else "the codes themselves"
    print(
        f"{len(codes):,} pictures of {data}{' (test split)' if known else ''} by "
        f"{names[method]}"
        + (f", coloured by {label_name}" if label_name else "")
        + (
            f"; at most {limit:,} (`--limit`) are drawn."
            if len(codes) == limit
            else "."
        )
    )
    save_image(figure, output)


def _label(found, name, data):
    """One of the labels of a data set, by name."""
    names = [label for label in found if label != "path"]
    if name not in names:
        there = f"one of {', '.join(names)}" if names else "left out: there are none"
        raise ValueError(f"`--labels` of {data} must be {there}. Received: {name}")
    return found[name]


def embed(
    path: str,
    data: str,
    output: str,
    data_dir: str | None = None,
    limit: int | None = None,
) -> None:
    """Writes the codes of all pictures of a folder, or of a data set.

    Args:
        path: A `.keras` file or a run directory.
        data: Path of a folder or zip of pictures, or name of a data set.
        output: Path of the result: `.npz` (arrays `codes`, and `path` or the labels of
            the data set) or `.csv` (the same as columns, codes as `z0`, `z1`, ...).
        data_dir: Folder of data sets.
        limit: At most this many pictures.

    Raises:
        ValueError: If `output` ends otherwise.
    """
    target = pathlib.Path(output)
    if target.suffix not in (".npz", ".csv"):
        raise ValueError(f"`--output` must end in .npz or .csv. Received: {output}")
    model = load_model(path)
    codes, columns = [], {}
    if _is_plain_folder(data):
        names = []
        for found, images in _read(model, _files([data])[:limit]):
            codes.append(_encode(model, images))
            names += [str(file) for file in found]
        columns["path"] = np.array(names)
    else:
        images, columns = load_pictures(model, data, "all", data_dir, limit)
        for start in range(0, len(images), _CHUNK):
            codes.append(_encode(model, images[start : start + _CHUNK]))
    codes = np.concatenate(codes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with callbacks.replacing(target) as temporary:
        if target.suffix == ".npz":
            np.savez(temporary, codes=codes, **columns)
        else:
            # Names of files may be none in UTF-8.
            with open(
                temporary, "w", newline="", encoding="utf-8", errors="backslashreplace"
            ) as file:
                table = csv.writer(file)
                table.writerow([*columns, *(f"z{i}" for i in range(codes.shape[1]))])
                table.writerows(zip(*columns.values(), *codes.T, strict=True))
    print(f"{len(codes)} codes of {codes.shape[1]} numbers written to {target}")


def _say_search(model, count):
    """Says why it takes long to find the codes of a model without an encoder."""
    if model.encoder is None:
        print(
            f"{type(model).__name__} has no encoder: searching for the codes of "
            f"{count:,} pictures, which may take minutes.",
            flush=True,
        )


def _encode(model, images):
    """Codes of pictures; says what a search for them came to."""
    _say_search(model, len(images))
    if not hasattr(model, "infer"):
        return model.encode(images)
    found = model.infer(images)
    print(
        f"Mean squared error reached: {found.error.mean():.4g}; "
        f"{np.sum(~found.converged):,} of {len(images):,} searches did not come to "
        "rest."
    )
    return found.codes


def _is_plain_folder(data):
    """Whether `data` is a folder of pictures, not a data set with its own crop."""
    return (
        datasets.known_name(data) is None
        and pathlib.Path(data).is_dir()
        and not datasets.celeba.is_celeba(data)
    )


def picture_shape(model):
    """Height, width and channels of the model's pictures."""
    shape = model.built_image_shape
    if len(shape) not in (2, 3):
        raise ValueError(
            f"The model describes vectors of shape {shape}, not pictures; use it from "
            "Python."
        )
    return (*shape, 1)[:3]


def as_pictures(model, images):
    """What the model takes or gives, as pictures of height, width and channels."""
    return images.reshape(-1, *picture_shape(model))


def load_pictures(model, data, split, data_dir, limit):
    """Pictures and labels of a data set, folder or zip, at the model's size."""
    height, width, channels = picture_shape(model)
    images, labels = datasets.load(
        data,
        split=split,
        image_size=(height, width),
        limit=limit,
        data_dir=data_dir,
        labels=True,
    )
    if not len(images):
        raise ValueError(f"There are no pictures in {data}.")
    if images.shape[-1] != channels:
        raise ValueError(
            f"The model describes pictures of {channels} channels. Received: "
            f"{data}, of {images.shape[-1]}"
        )
    return images.reshape(-1, *model.built_image_shape), labels


def _files(paths):
    """Paths of pictures, folders replaced by the pictures in them."""
    files = []
    for path in paths:
        if pathlib.Path(path).is_file() and str(path).lower().endswith(".zip"):
            raise ValueError(
                f"Expected pictures, or folders of them. Received: {path}; unpack it."
            )
        if pathlib.Path(path).is_dir():
            found = datasets.folders.Pictures(path).names
            if not found:
                raise FileNotFoundError(f"There are no pictures in {path}.")
            files += [pathlib.Path(path, name) for name in found]
        else:
            files.append(pathlib.Path(path))
    return files


def _read(model, files, shape=None) -> Iterator[tuple[list[pathlib.Path], np.ndarray]]:
    """Yields chunks of paths and their pictures, at the model's size by default."""
    picture_shape(model)
    shape = shape or model.built_image_shape
    size = max(1, min(_CHUNK, _VALUES // math.prod(shape)))
    for start in range(0, len(files), size):
        chunk = files[start : start + size]
        images, names = datasets.read_pictures(chunk, shape, names=True)
        yield [pathlib.Path(name) for name in names], images


def check_png(output):
    if pathlib.Path(output).suffix.lower() != ".png":
        raise ValueError(f"`--output` must end in .png. Received: {output}")


def save_image(image, output):
    """Writes a PIL image or a matplotlib figure."""
    target = pathlib.Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    save = getattr(image, "savefig", None) or image.save
    with callbacks.replacing(target) as temporary:
        save(temporary)
    print(f"Written to {target}")
