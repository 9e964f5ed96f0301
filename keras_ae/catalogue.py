"""What there is to run, read from source alone: neither keras nor a recipe is imported.

The folder of recipes is their registry: `celeba-vae` is `celeba_vae.py`, its
description the first line of its docstring, its settings the keyword arguments of its
`main`. The registry of models is `keras_ae.models.__all__`.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
import math
import pathlib
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_PACKAGE = pathlib.Path(__file__).parent
PRESETS = _PACKAGE / "presets"
# How the names of presets on hubs begin.
HUBS = ("hf://", "kaggle://")
# How the names of whole numbers end that may be 0 in a recipe: nothing to wait for, or
# to do first.
_FROM_ZERO = ("epochs", "patience", "start", "warm_up")


def recipes() -> dict[str, str]:
    """Descriptions of the recipes by name.

    Raises:
        FileNotFoundError: If the installation carries no recipes.
    """
    found = sorted(_folder().glob("*.py"))
    return {
        recipe_name(path): description(path)
        for path in found
        if not path.stem.startswith("_")
    }


def find_recipe(name: str) -> pathlib.Path:
    """Path of a recipe, given by its name or as the path of a script.

    Raises:
        ValueError: If there is no such recipe; the message lists those there are.
        FileNotFoundError: If the script does not exist.
    """
    if name.endswith(".py"):
        path = pathlib.Path(name)
        if not path.is_file():
            raise FileNotFoundError(f"There is no recipe script {name}.")
        return path
    known = recipes()
    wanted = name.lower().replace("_", "-")
    if wanted not in known:
        raise ValueError(
            f"Unknown recipe: {name}.{did_you_mean(name, known)} There are "
            f"{', '.join(known)}; a path to a script of your own ends in .py."
        )
    return _folder() / f"{wanted.replace('-', '_')}.py"


def recipe_name(path: pathlib.Path) -> str:
    """Name of a recipe, from the path of its script."""
    return path.stem.replace("_", "-")


def presets() -> dict[str, str]:
    """Descriptions of the trained models that come with the package, by name."""
    found = {}
    for path in sorted(PRESETS.glob("*/preset.json")):
        facts = json.loads(path.read_text("utf-8"))
        shape = " x ".join(map(str, facts["image_shape"]))
        found[path.parent.name] = (
            f"{facts['model']} of {facts['data']}, {shape}; "
            f"{(path.parent / 'model.keras').stat().st_size / 1e6:.1f} MB"
        )
    return found


def is_preset(name: str) -> bool:
    """Whether it is named as one that comes with the package, or as one on a hub."""
    return name.startswith(HUBS) or name in presets()


def description(path: pathlib.Path) -> str:
    """First line of a script's docstring."""
    return _first_line(_parse(path))


def settings(path: pathlib.Path) -> dict[str, Any]:
    """A recipe's own settings: the keyword arguments of `main` and their defaults.

    Raises:
        ValueError: If the script has no `main(run, ...)`, or a default that is not a
            plain value.
    """
    for node in _parse(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            break
    else:
        raise ValueError(f"{path} is no recipe: it defines no `main(run, ...)`.")
    arguments = node.args.args[len(node.args.args) - len(node.args.defaults) :]
    pairs: list[tuple] = [*zip(arguments, node.args.defaults, strict=True)]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    try:
        return {argument.arg: ast.literal_eval(default) for argument, default in pairs}
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The settings of {path} must have plain values (numbers, texts, lists of "
            "them) as defaults."
        ) from error


def choose(defaults: Mapping[str, Any], pairs: Iterable[str]) -> dict[str, Any]:
    """Values given as `name=value`, each read as the type of its default.

    Args:
        defaults: Default values by name; `None` takes any number or text, an empty
            list whole numbers.
        pairs: Texts such as `"latent_dim=16"`; a list is `"widths=512,256"`.

    Returns:
        The values given, by name.

    Raises:
        ValueError: If a name is unknown or a value does not fit; the message lists
            what there is.
    """
    chosen = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise ValueError(f"`--set` takes name=value. Received: {pair}")
        if name not in defaults:
            raise ValueError(f"Unknown setting: {name}. {_listing(defaults)}")
        try:
            chosen[name] = _read(text.strip(), defaults[name])
        except ValueError as error:
            raise ValueError(
                f"`{name}` must be {_kind(defaults[name])}. Received: {pair}. "
                f"{_listing(defaults)}"
            ) from error
    return chosen


def choose_for(path: pathlib.Path, pairs: Iterable[str]) -> dict[str, Any]:
    """Values of a recipe's settings, given as `name=value`: see `choose`.

    Raises:
        ValueError: As `choose`, or if there are none of what a recipe counts, or a
            learning rate is not a finite number > 0.
    """
    defaults = settings(path)
    chosen = choose(defaults, pairs)
    for name, value in chosen.items():
        default = defaults[name]
        values = value if isinstance(default, (list, tuple)) else [value]
        lowest = 0 if name.endswith(_FROM_ZERO) else 1
        if not values:
            wanted = "a list of at least one"
        elif _counts(default) and min(values) < lowest:
            wanted = f">= {lowest}"
        elif name.endswith("_rate") and not 0 < value < math.inf:
            wanted = "> 0 and finite"
        else:
            continue
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={_show(value)}")
    return chosen


def _counts(default):
    if isinstance(default, (list, tuple)):
        return all(map(_counts, default))
    return isinstance(default, int) and not isinstance(default, bool)


def load(path: pathlib.Path) -> Callable:
    """The `main` of a recipe."""
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def models() -> dict[str, str]:
    """Descriptions of the models by class name."""
    return {name: facts["summary"] for name, facts in docstrings().items()}


def docstrings() -> dict[str, dict[str, str]]:
    """What the docstring of each model says, by class name.

    Returns:
        `family`, the folder that it is in; `summary`, its first line; `objective`, its
        first formula, of one or more lines; `paper`, its references, of which the model
        needs one.
    """
    names, found = [], {}
    for path in sorted((_PACKAGE / "models").rglob("*.py")):
        for node in _parse(path).body:
            if isinstance(node, ast.ClassDef):
                text = ast.get_docstring(node) or ""
                found[node.name] = {"family": path.parent.name, **_sections(text)}
            elif path.parent.name == "models" and isinstance(node, ast.Assign):
                targets = [getattr(target, "id", None) for target in node.targets]
                if "__all__" in targets:
                    names = ast.literal_eval(node.value)
    return {name: found[name] for name in names}


def _sections(text):
    """Summary, objective and paper of a docstring."""
    head, *paragraphs = text.split("\n\n")
    formulas = (p for p in paragraphs if p.startswith("    "))
    _, _, references = text.partition("Reference:\n")
    return {
        "summary": " ".join(head.split()),
        "objective": textwrap.dedent(next(formulas, "")),
        "paper": " ".join(references.split()),
    }


def model(name: str) -> dict[str, str]:
    """What there is to say of a model.

    Its objective and paper, and where a run is recorded the recipe, what it measured,
    the published figure, ours and the protocol.

    Raises:
        ValueError: If there is no such model.
    """
    name = find_model(name)
    recorded = json.loads((_PACKAGE / "zoo.json").read_text(encoding="utf-8"))
    facts = {**docstrings()[name], **recorded.get(name, {})}
    return {"name": name, **{key: value for key, value in facts.items() if value}}


def run_name(model: str, data: str) -> str:
    """What a training of a model on a folder of pictures is called: `vae-my-photos`."""
    path = pathlib.Path(data).resolve()
    # Of a pattern of shards, the folder that they are in.
    while not path.exists() and any(sign in path.name for sign in "*?[{"):
        path = path.parent
    stem = path.stem
    stem = "".join(c if c.isalnum() else "-" for c in stem.lower()).strip("-")
    return f"{model.lower()}-{stem or 'pictures'}"


def find_model(name: str) -> str:
    """Class name of a model, case ignored.

    Raises:
        ValueError: If there is no such model; the message lists those there are.
    """
    known = models()
    for known_name in known:
        if known_name.lower() == name.lower().replace("-", "").replace("_", ""):
            return known_name
    raise ValueError(
        f"Unknown model: {name}.{did_you_mean(name, known)} There are "
        f"{', '.join(known)}."
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence, after a space, with the names that `name` is most like, or none.

    Names that it abbreviates, as `cvae` ConditionalVAE, come before those that are
    spelt alike.
    """
    lower = {other.lower(): other for other in known}
    like = [other for other in known if name and _capitals(other) == name.lower()]
    like = like or [
        lower[other] for other in difflib.get_close_matches(name.lower(), lower, n=3)
    ]
    return f" Did you mean {' or '.join(like)}?" * bool(like)


def _capitals(name):
    return "".join(filter(str.isupper, name)).lower()


def run_directory(
    name: str, run_dir: str | None = None, resume: bool = False
) -> pathlib.Path:
    """The directory to run in: a new one, or on resuming one that holds a run.

    Args:
        name: What the run is called.
        run_dir: The directory that the user names. Defaults to `runs/NAME`, numbered
            where that exists; on resuming, to the newest of these.
        resume: Whether to go on with a run.

    Raises:
        ValueError: If a new run would overwrite something.
        FileNotFoundError: If there is no run to resume.
    """
    if run_dir is not None:
        directory = pathlib.Path(run_dir)
        if directory.exists() and not directory.is_dir():
            raise ValueError(f"`--run-dir` must be a folder. Received: {run_dir}")
        if resume and not (directory / "settings.json").is_file():
            raise FileNotFoundError(f"There is no run to resume in {directory}.")
        if not resume and directory.is_dir() and any(directory.iterdir()):
            raise ValueError(
                f"{directory} is not empty; nothing is overwritten. Go on with its run "
                "by `--resume`, or choose another `--run-dir`."
            )
        return directory
    newest = max(_run_numbers(name), default=0)
    if not resume:
        # Not a number below, of a run that was removed: the newest has the largest.
        newest += 1
        while _numbered(name, newest).exists():
            newest += 1
    elif not newest:
        raise FileNotFoundError(
            f"There is no run of {name} to resume in {pathlib.Path('runs').resolve()}; "
            "`--run-dir` says where it is."
        )
    return _numbered(name, newest)


def _numbered(name, number):
    return pathlib.Path("runs") / (name if number == 1 else f"{name}-{number}")


def _run_numbers(name):
    """Numbers of the runs in `runs` that are called so: of `NAME` 1, of `NAME-3` 3."""
    for path in pathlib.Path("runs").glob("*/settings.json"):
        named = re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", path.parent.name)
        if named is None:
            continue
        try:
            known = json.loads(path.read_text(encoding="utf-8")).get("name", name)
        except (ValueError, AttributeError):  # said when it is resumed
            known = name
        # `vae-photos-3` may be a run of a folder `photos-3`.
        if known == name:
            yield int(named[1] or 1)


def _folder():
    # In a wheel the recipes lie in the package, in a checkout beside it.
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError("This installation of keras-ae carries no recipes.")


def _parse(path):
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a Python script: {error}") from error


def _first_line(node):
    return (ast.get_docstring(node) or "").partition("\n")[0].strip()


def _read(text, default):
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise ValueError(text)
        return text.lower() in ("true", "yes", "1")
    if isinstance(default, (tuple, list)):
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        parts = [part.strip().strip("'\"") for part in parts]
        return [_read(part, default[0] if default else 0) for part in parts]
    if default is None:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
        return [*value] if isinstance(value, tuple) else value
    return type(default)(text)


def _kind(default):
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    kinds |= {tuple: "a list such as 512,256", list: "a list such as 512,256"}
    return kinds.get(type(default), "a text")


def _listing(defaults):
    if not defaults:
        return "There are no settings here."
    listed = ", ".join(f"{name}={_show(value)}" for name, value in defaults.items())
    return f"Settings and their defaults: {listed}."


def _show(value):
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value)
    return value
