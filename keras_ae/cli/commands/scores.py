"""The commands `evaluate` and `compare`: tables of scores, models side by side."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ae import catalogue, datasets, evaluation, plots
from keras_ae.cli.commands.reading import (
    as_pictures,
    check_absent,
    check_ends,
    check_not_of,
    check_png,
    load_pictures,
    own_record,
    picture_shape,
    recorded,
    save_image,
)
from keras_ae.cli.commands.score_tables import heading, listing, side_by_side
from keras_ae.evaluation import features, scores
from keras_ae.evaluation.scores import GROUPS
from keras_ae.runs import load_model, report

# Training pictures whose codes a probe learns from.
_PROBED = 10_000
# Moons whose factors are looked for in codes.
_MOONS = 10_000
# Pictures in a row of a comparison.
_COLUMNS = 10


def evaluate(
    path: str,
    data: str,
    groups: Sequence[str] = (),
    *,
    output: str | None = None,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Scores a model on a folder of pictures, or on the test split of a data set.

    Args:
        path: A `.keras` file or a run directory, which then keeps the scores.
        data: Path of a folder or zip of pictures, or of shards, or name of a data set.
            Of what the run was trained on the test split is meant, too.
        groups: Names of `scores.GROUPS`, or `"all"`. Defaults to those that take little
            time.
        output: Path of the file of scores, `.json`. What it holds of the same model is
            kept; nothing else is overwritten.
        as_json: Whether to print what such a file would hold, and nothing else.
        **options: `samples`, `importance_samples`, `binarize` and `seed` as for
            `evaluation.evaluate`, where to `binarize` is by default as the run was
            trained; `data_dir` and `limit` as for `datasets.load`; `feature_network`,
            what samples and pictures are compared in: `"classifier"`, which is trained
            on the data set's labels once and kept in the cache, `"inception"` or the
            path of a network.

    Raises:
        ValueError: If nothing could be measured, `output` ends otherwise or is another
            file.
        FileNotFoundError: If a path does not exist.
    """
    groups = _groups(groups)
    if output is not None:
        check_ends(output, ".json")
    model = load_model(path)
    target = _own_file(path) if output is None else pathlib.Path(output)
    if output is not None and target.exists():
        _check_same_model(target, model)
    begun = time.perf_counter()
    found = _measure(model, path, data, _split([path], data), groups, **options)
    seconds = time.perf_counter() - begun
    if not found.scores:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.left_out.items())
        raise ValueError(f"Nothing could be measured. {reasons}")
    if target is not None:
        found.add_to(target)
    if as_json:
        print(found.to_json(), end="")
        return
    print(heading(path, found))
    print(listing(found))
    if any("grey" in score.depends_on.get("measure", "") for score in found.scores):
        print(
            "\nA Bernoulli likelihood gives grey values no probability. If the model "
            "was trained on\nbinarised pictures, `--binarize` scores it on such."
        )
    print(f"\n{report.duration(seconds)}.", end=" ")
    if target is None:
        print("`--output scores.json` keeps the scores.")
        return
    print(f"The scores, with all that they depend on, are in {target}")


def compare(
    paths: Sequence[str],
    *,
    data: str | None = None,
    groups: Sequence[str] = (),
    output: str | None = None,
    **options: Any,
) -> None:
    """Lays the scores of models beside each other, and their pictures.

    Args:
        paths: Run directories, or `.keras` files.
        data: Path of a folder or zip of pictures, or name of a data set. Defaults to
            what the runs were trained on, where all record the same.
        groups: What to measure now, on `data`, as for `evaluate`. By default the scores
            that `evaluate` has left in the runs are read.
        output: Path of a picture, `.png`: held-back pictures as each model reconstructs
            them, and samples of each.
        **options: As for `evaluate`.

    Raises:
        ValueError: If there are fewer than two models, no scores or no data, or for a
            picture if the models' pictures differ in size.
        FileNotFoundError: If a path does not exist.
    """
    if len(paths) < 2:
        raise ValueError(f"Two runs or more can be compared. Received: {paths[0]}")
    for path in paths:
        if [*paths].count(path) > 1:
            raise ValueError(f"Each run can be named once. Received: {path} twice")
    for path in paths:
        if not pathlib.Path(path).exists() and not catalogue.is_preset(path):
            raise FileNotFoundError(
                f"There is no model file, run directory or preset {path}."
            )
    if output is not None:
        check_png(output)
    names = _names(paths)
    data = data or _recorded_data(paths)
    if output is not None and data is not None:
        check_not_of(data, output)
    if data is None and (groups or output is not None):
        raise ValueError(
            "`--data` must name the pictures: the runs do not all record the same."
        )
    # Without a model to run, the table is there at once.
    needed = groups or output is not None
    models = {
        name: load_model(path) if needed else None
        for name, path in zip(names, paths, strict=True)
    }
    evaluations = {}
    for (name, model), path in zip(models.items(), paths, strict=True):
        kept = _own_file(path)
        if groups:
            split = _split(paths, data)
            found = _measure(model, path, data, split, _groups(groups), **options)
            if kept is not None:
                found.add_to(kept)
            evaluations[name] = found
        if kept is not None and kept.is_file():
            found = scores.load(kept)
            if groups or _is_of_its_weights(found, kept, path):
                evaluations[name] = found
    missing = _missing(names, paths, evaluations)
    if output is None and not evaluations:
        raise ValueError(" ".join(missing))
    print("\n".join([*missing, *side_by_side(evaluations)]))
    if output is None:
        return
    _check_one_size(models)
    first = next(iter(models.values()))
    split = _split(paths, data)
    images, _ = _pictures(first, paths[0], data, split, options)
    seed = options.get("seed", 0)
    title = "held back" if split == "test" else "originals"
    save_image(plots.labelled(_blocks(models, title, images, seed)), output)


# Measuring


def _groups(names):
    """Groups that were asked for, None for the default."""
    if "all" in names:
        return tuple(GROUPS)
    return tuple(names) or None


def _split(paths, data):
    """The test split of a data set, or of what one of the runs was trained on."""
    records = [own_record(path, data) for path in paths]
    # A run that learned what is normal has a split of its own.
    drawn = any(r and "all" not in r.get("splits", ()) for r in records)
    return "test" if drawn or datasets.recognise(data) else "all"


def _measure(
    model,
    path,
    data,
    split,
    groups,
    *,
    samples=10_000,
    importance_samples=None,
    feature_network="classifier",
    binarize=None,
    seed=0,
    **loading,
):
    """Evaluates a model on a data set."""
    images, found = _pictures(model, path, data, split, loading)
    wanted = evaluation.CHEAP if groups is None else groups
    if binarize is None:
        binarize = recorded(path).get("training", {}).get("binarize", False)
        if binarize:
            _say("Scored on binarised pictures, as the run was trained.")
    labels = found.get("label")
    train = None
    # Where all are scored, a probe would be asked about what it learned from.
    if labels is not None and "codes" in wanted and split == "test":
        limit = min(_PROBED, loading.get("limit") or _PROBED)
        pictures, known = _pictures(
            model, path, data, "train", {**loading, "limit": limit}
        )
        train = pictures, known["label"]
    network = None
    if "samples" in wanted and model.can_sample:
        network = _feature_network(model, path, data, feature_network, loading)
    result = evaluation.evaluate(
        model,
        images,
        None if groups is None else [g for g in groups if g != "factors"],
        labels=labels,
        train=train,
        features=network,
        samples=samples,
        importance_samples=importance_samples,
        binarize=binarize,
        data=f"{data} ({'test split' if split == 'test' else 'all pictures'})",
        seed=seed,
    )
    if labels is not None and split == "all":
        for name in ("linear_probe", "nearest_neighbour_accuracy"):
            if name in result.left_out:
                result.left_out[name] = (
                    "needs pictures to learn from that are not scored"
                )
    return _with_factors(result, model, data, seed) if "factors" in wanted else result


def _pictures(model, path, data, split, loading):
    """Pictures of a split, with what is known of them."""
    return load_pictures(
        model, path, data, split, loading.get("data_dir"), loading.get("limit")
    )


def _say(text):
    """Tells what is done on stderr: stdout may be JSON."""
    print(text, file=sys.stderr, flush=True)


def _with_factors(found, model, data, seed):
    """Adds scores of disentanglement on moons, the data whose factors are known."""
    if datasets.recognise(data) != "moon-phases":
        found.left_out["factors"] = (
            f"the factors behind the pictures of {data} are not known; those of "
            "moon-phases are"
        )
        return found
    height, width, _ = picture_shape(model)
    # The phase of all moons is an angle, that of waxing ones a number.
    moons, factors = datasets.moon.waxing(_MOONS, (height, width), seed)
    more = evaluation.evaluate(
        model,
        moons.reshape(-1, *model.built_image_shape),
        ["factors"],
        factors=factors,
        data="waxing moons, rendered",
        seed=seed,
    )
    found.left_out.update(more.left_out)
    return found._replace(scores=[*found.scores, *more.scores])


def _feature_network(model, path, data, choice, loading):
    if choice == "inception":
        return features.inception()
    if choice not in ("classifier", "principal"):
        return features.load(choice)
    images, known = _pictures(model, path, data, "train", loading)
    images = as_pictures(model, images)
    targets = _targets(known)
    if choice == "principal" or targets is None:
        network = features.principal(images)
        why = "" if targets is not None else ", which has no labels"
        _say(
            f"Sets are compared in {network.name} of {data}{why}. They see little of "
            "sharpness; `--features inception` downloads a network that does."
        )
        return network
    folder = datasets.cache.directory() / "features"
    _say(
        f"Sets are compared in the features of a classifier of {data}, trained once "
        f"and kept in {folder}"
    )
    return features.for_data(images, targets, folder)


def _targets(known):
    """Classes, or a matrix of attributes, of pictures; None where there are neither."""
    if "label" in known:
        labels = known["label"]
        if labels.dtype.kind in "biu" and labels.min() >= 0:
            return labels
        return np.unique(labels, return_inverse=True)[1]
    attributes = [
        values
        for values in known.values()
        if values.dtype.kind in "biu" and np.isin(values, (0, 1)).all()
    ]
    return np.stack(attributes, axis=1) if attributes else None


# Files


def _own_file(path):
    """Where a run keeps its scores; None for a `.keras` file."""
    path = pathlib.Path(path)
    return path / scores.FILE if path.is_dir() else None


def _check_same_model(target, model):
    """Refuses to write over scores of another model, or over another file."""
    try:
        same = scores.load(target).weights_digest == evaluation.weights_digest(model)
    except (OSError, ValueError):
        same = False
    if not same:
        check_absent(target)


def _is_of_its_weights(found, kept, path):
    """Whether scores are of the weights that a run has now."""
    saved = kept.with_name("model.keras")
    if not saved.exists() or saved.stat().st_mtime <= kept.stat().st_mtime:
        return True
    return found.weights_digest == evaluation.weights_digest(load_model(path))


def _recorded_data(paths):
    found = {recorded(path).get("data") for path in paths}
    return found.pop() if len(found) == 1 else None


def _names(paths):
    """Names of runs, short where they differ so."""
    short = [pathlib.Path(path).resolve().stem for path in paths]
    return short if len(set(short)) == len(paths) else [str(path) for path in paths]


def _missing(names, paths, evaluations):
    """Sentences on models whose scores are not known."""
    sentences = []
    for name, path in zip(names, paths, strict=True):
        kept = _own_file(path)
        if name in evaluations:
            continue
        if kept is None:
            sentences.append(
                f"{name} keeps no scores: `--scores reconstruction` measures them now."
            )
        else:
            yet = "of the weights that it has now" if kept.exists() else "yet"
            sentences.append(
                f"{name} has no scores {yet}: `keras-ae evaluate {path} DATA` measures "
                "them."
            )
    return sentences


# Pictures


def _check_one_size(models):
    shapes = {name: model.built_image_shape for name, model in models.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(
            f"{name} of {' x '.join(map(str, shape))}" for name, shape in shapes.items()
        )
        raise ValueError(
            f"There is no picture of models whose pictures differ in size: {listed}."
        )


def _blocks(models, title, images, seed):
    """The same pictures as each model reconstructs them, and samples of each."""
    count = min(_COLUMNS, len(images))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(int)]
    first = next(iter(models.values()))
    restored = {title: as_pictures(first, chosen)}
    drawn = {}
    for name, model in models.items():
        # A decoder-only model searches for the codes; a GAN has none.
        if model.has_encoder or model.searches_codes:
            restored[name] = as_pictures(model, model.reconstruct(chosen))
        if model.can_sample:
            drawn[name] = as_pictures(model, model.sample(count, seed=seed))
    blocks = {"Reconstructions": restored, "Samples": drawn}
    return {heading: rows for heading, rows in blocks.items() if rows}
