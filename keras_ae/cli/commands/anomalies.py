"""Commands that tell what is not normal."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_ae import anomalies, catalogue, datasets, models, plots
from keras_ae.anomalies.conformal import check_rate
from keras_ae.cli.commands.alarms import (
    FIGURE_HEADS,
    as_png,
    document,
    histogram,
    tell_alarms,
    tell_figures,
    write_columns,
    write_page,
)
from keras_ae.cli.commands.anomalous_rows import score_rows
from keras_ae.cli.commands.anomalous_series import score_series
from keras_ae.cli.commands.normal import HELD_BACK, read_normal
from keras_ae.cli.commands.plans import Training, model_settings
from keras_ae.cli.commands.reading import (
    _check_distinct,
    _files,
    _read,
    as_pictures,
    check_absent,
    picture_shape,
)
from keras_ae.cli.commands.starting import (
    _kept,
    begin,
    recorded_data,
    saved_settings,
    tells_how_to_go_on,
)
from keras_ae.probability import likelihoods
from keras_ae.runs.report import elements

# Folders of normal pictures beside others.
_GOOD = ("good", "normal")
# The rate of false alarms where nobody asks for one.
_RATE = 0.01
# Of the pictures' variance, what codes have room for: what is odd should find none.
_VARIANCE = 0.8
DETECTOR = "detector.zip"
# Outlines that can be told apart.
_OUTLINES = 5
# Pictures a row of the report's sheets.
_SHOWN = 10


def fit_anomalies(
    data: str,
    directory: pathlib.Path,
    *,
    name: str,
    model_name: str,
    score: str | None = None,
    false_alarms: float | None = None,
    latent_dim: int | None = None,
    window: int | None = None,
    resume: bool = False,
    chosen: Iterable[str] = (),
    options: Mapping[str, Any],
) -> None:
    """Trains a model on normal pictures, and settles an alarm on held-back ones.

    Args:
        data: Path of a folder or zip of pictures, or of a table, or name of a data set.
        directory: Directory of the run, into which the detector goes, too.
        name: What the run is called.
        model_name: Class name of the model, case ignored.
        score: As for `AnomalyDetector`; by default `"auto"`.
        false_alarms: Rate of the alarm; by default 0.01, or the least that can be
            promised.
        latent_dim: Numbers in a code.
        window: Steps of a window, where the rows of a table are those of a series.
        resume: Whether to go on with the run in that directory.
        chosen: Settings of training and model as `name=value`.
        options: As for `recipe`.

    Raises:
        ValueError: If a setting is unknown or does not fit, the model can't give the
            score, or the pictures are too few for that rate.
        FileNotFoundError: If the pictures are not found.
    """
    model_name = catalogue.find_model(model_name)
    constructor = getattr(models, model_name)
    if constructor.needs_labels:
        raise ValueError(
            f"`--model` must be one that needs no labels. Received: {model_name}"
        )
    defaults, settings = model_settings(constructor, chosen, latent_dim)
    rule: dict[str, Any] = {
        "score": score,
        "false_alarms": false_alarms,
        "window": window,
    }
    if resume:
        saved = saved_settings(directory / "settings.json")
        # Of a run of another kind `begin` says that it is one.
        rule = _kept("--{}", saved.get("rule", rule), rule)
    rule["score"] = score = rule["score"] or "auto"
    false_alarms, window = rule["false_alarms"], rule["window"]
    command = ["keras-ae", "anomalies", "fit", data, "--model", model_name.lower()]
    for key, value in rule.items():
        if value is not None:
            command += [f"--{key.replace('_', '-')}", str(value)]
    run, settings = begin(
        name,
        directory,
        resume=resume,
        command=command,
        what={
            "model": model_name,
            "data": recorded_data(data),
            "normal": True,
            "rule": rule,
        },
        options=options,
        settings=settings,
        defaults=defaults,
        description=f"{catalogue.models()[model_name]} Trained on what is normal.",
    )
    training = Training(constructor, settings, variance=_VARIANCE)
    asked = _RATE if false_alarms is None else false_alarms
    anomalies.AnomalyDetector(training.build(), score, false_alarms=asked).check()
    with tells_how_to_go_on(run):
        normal = read_normal(run, data, training, window)
        noun, count = normal.noun, len(normal.held_back)
        least = 1 / (count + 1)
        if false_alarms is not None and false_alarms < least:
            needed = round((window or 1) / false_alarms / HELD_BACK)
            raise ValueError(
                f"`--false-alarms` must be at least {least:.2g} with {count:,} normal "
                f"{noun} held back. Received: {false_alarms:g}, which needs about "
                f"{needed:,} {'rows' if window else noun} in all."
            )
        model = training.fit(run, normal.learned, normal.tuning)
        run.evaluate(model, normal.held_back)
        if model.describes_pictures:
            run.pictures(model, normal.held_back)
        run.finish(tells_next=False)
    rate = max(_RATE, least) if false_alarms is None else false_alarms
    detector = anomalies.AnomalyDetector(
        model, score, false_alarms=rate, seed=run.seed
    ).calibrate(normal.tuning, normal.held_back, normal.learned)
    detector.save(run.directory / DETECTOR)
    print(
        f"\nAlarm   score above {detector.threshold_:.5g}: {100 * rate:.3g} % of "
        f"normal {noun}, by {count:,} held back (at least {100 * least:.2g} % "
        f"can be promised with so many)\nNext    keras-ae anomalies score "
        f"{shlex.quote(str(run.directory))} {normal.what} --output scores.csv "
        "--report scores.html",
        flush=True,
    )


def score_anomalies(
    run: str,
    pictures: Sequence[str],
    output: str,
    report: str | None = None,
    false_alarms: float | None = None,
    false_discoveries: float | None = None,
    label: str | None = None,
    limit: int | None = None,
) -> None:
    """Scores pictures, one row each, and draws the worst of them.

    Args:
        run: Directory of a run that fitted a detector, or a saved detector.
        pictures: Paths of pictures, and of folders of them.
        output: Path of the table, `.csv`.
        report: Path of a page, `.html`.
        false_alarms: Rate of the alarm instead of the fitted one.
        false_discoveries: Share of false ones among the alarms instead.
        label: Column of a table that tells its anomalies.
        limit: At most this many pictures.

    Raises:
        ValueError: If an argument does not fit, or the held-back pictures are too few
            for that rate.
        FileExistsError: If a file to be written exists.
        FileNotFoundError: If a path does not exist.
    """
    if false_discoveries is not None:
        check_rate("false_discoveries", false_discoveries)
    targets = {".csv": ("--output", output), ".html": ("--report", report)}
    for suffix, (option, path) in targets.items():
        if path is None:
            continue
        if pathlib.Path(path).suffix.lower() != suffix:
            raise ValueError(f"`{option}` must end in {suffix}. Received: {path}")
        check_absent(pathlib.Path(path))
    file = pathlib.Path(run)
    if file.is_dir():
        file = file / DETECTOR
        if not file.is_file():
            raise FileNotFoundError(
                f"There is no {DETECTOR} in {run}; `keras-ae anomalies fit NORMAL` "
                "makes a run that has one."
            )
    detector = anomalies.load(file)
    if false_alarms is not None:
        check_rate("false_alarms", false_alarms)
        detector.false_alarms = false_alarms
        # Whether it can be promised, before anything is scored.
        detector.conformal_.threshold(false_alarms)
    if isinstance(detector.model_.likelihood, likelihoods.Columns):
        if len(pictures) != 1 or not datasets.is_table(pictures[0]):
            raise ValueError(
                f"{run} knows rows of a table: give one .csv or .parquet file. "
                f"Received: {', '.join(pictures)}"
            )
        of_series = len(detector.model_.image_shape) == 2
        score = score_series if of_series else score_rows
        score(detector, pictures[0], output, report, false_discoveries, label, limit)
        return
    if label is not None:
        raise ValueError(
            "`--label` must be left out for pictures, whose folders tell the kind. "
            f"Received: {label}"
        )
    threshold = detector.threshold_
    # `test` of an industrial data set, where a whole one is given.
    paths = [_tested(pathlib.Path(path)) for path in pictures]
    files = _files(paths)[:limit]
    _check_distinct(map(str, files))
    names, chunks = [], []
    for read, images in _read(detector.model_, files):
        names += read
        chunks.append(detector.decision_function(images))
    scores = np.concatenate(chunks)
    p_values = detector.conformal_.p_values(scores)
    alarms = scores > threshold
    if false_discoveries is not None:
        alarms = anomalies.benjamini_hochberg(p_values, false_discoveries)
    kinds = _kinds(names, paths)
    columns = {"file": names, "score": scores, "p_value": p_values}
    columns["alarm"] = alarms.astype(int)
    if kinds is not None:
        columns["kind"] = kinds
    write_columns(output, columns)
    tell_alarms(detector, alarms, "pictures", false_discoveries, output)
    figures = []
    if kinds is not None:
        known = kinds != ""
        figures = tell_figures(
            scores[known], alarms[known], ~np.isin(kinds, _GOOD)[known], kinds[known]
        )
    if report is not None:
        page = _page(detector, names, scores, alarms, kinds, figures)
        write_page(report, page)


def _tested(path):
    return path / "test" if (path / "test").is_dir() else path


def _kinds(names, paths):
    """The folder that each picture is in; None where none is called good or normal."""
    folders = [path for path in paths if path.is_dir()]
    kinds = []
    for name in names:
        within = next((path for path in folders if path in name.parents), None)
        parts = name.relative_to(within).parts if within is not None else ()
        kinds.append(parts[0] if len(parts) > 1 else "")
    known = set(kinds) & {*_GOOD} and set(kinds) - {*_GOOD, ""}
    return np.array(kinds) if known else None


def _page(detector, names, scores, alarms, kinds, figures):
    """The report: scores, the worst and the borderline pictures, where they differ."""
    threshold = detector.threshold_
    known = {"held-back normal": detector.conformal_.scores}
    if kinds is None:
        known["scored"] = scores
    else:
        names_of = {kind: kind or "others" for kind in sorted(set(kinds))}
        if len(names_of) > _OUTLINES:
            names_of = {
                kind: name if kind in ("", *_GOOD) else "anomalies"
                for kind, name in names_of.items()
            }
        of = np.array([names_of[kind] for kind in kinds])
        known |= {name: scores[of == name] for name in dict.fromkeys(of.tolist())}
    chart = histogram(known, threshold)
    worst = np.argsort(-scores, kind="stable")[:_SHOWN]
    border = np.argsort(np.abs(scores - threshold), kind="stable")[:_SHOWN]
    sections = {"Scores": [elements.figure(as_png(chart), "Scores", "", wide=True)]}
    if figures:
        sections["Scores"].append(elements.table(FIGURE_HEADS, figures))
    caption = "What was given, where it differs from what is usual there, and as the "
    caption += "model reconstructs it."
    model = detector.model_
    for title, shown in (("Least usual", worst), ("Nearest to the alarm", border)):
        # Read again: not all pictures fit into memory.
        chunks = _read(model, [names[i] for i in shown])
        given = np.concatenate([images for _, images in chunks])
        rows = {
            "given": given,
            "where": plots.highlighted(
                as_pictures(model, given),
                as_pictures(model, detector.anomaly_map(given)),
            ),
            "restored": model.reconstruct(given),
        }
        size = (len(given), *picture_shape(model)[:2], -1)
        rows = {name: _rgb(np.reshape(row, size)) for name, row in rows.items()}
        sheet = plots.labelled({title: rows})
        table = [
            (str(names[i]), f"{scores[i]:.5g}", "alarm" if alarms[i] else "")
            for i in shown
        ]
        columns = [("File", ""), ("Score", "number"), ("", "")]
        sections[title] = [
            elements.figure(as_png(sheet), title, caption),
            elements.table(columns, table),
        ]
    return document(detector, alarms, "pictures", sections)


def _rgb(pictures):
    pictures = np.asarray(pictures)
    if pictures.dtype.kind == "f":
        pictures = np.uint8(255 * np.clip(pictures, 0, 1) + 0.5)
    return np.broadcast_to(pictures, (*pictures.shape[:3], 3))
