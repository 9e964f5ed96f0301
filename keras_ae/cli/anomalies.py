"""Commands that tell what is not normal."""

from __future__ import annotations

import click

from keras_ae import catalogue
from keras_ae.cli.backend import _begin, _settle_backend
from keras_ae.cli.command import main
from keras_ae.cli.options import _COUNT, _PATH, _TRAINING, _completes, _options

# The names of `keras_ae.anomalies.SCORES`, which imports keras.
_SCORES = (
    "auto",
    "reconstruction",
    "structure",
    "peak",
    "code",
    "nearest",
    "elbo",
    "likelihood",
    "refined",
)


@main.group()
def anomalies():
    """Learn what is normal, and raise an alarm at what is not."""


@anomalies.command()
@click.argument("normal", metavar="NORMAL", type=_PATH)
@click.option(
    "--model",
    default="vae",
    show_default=True,
    metavar="MODEL",
    shell_complete=_completes(catalogue.models),
    help="What learns; it needs an encoder.",
)
@click.option(
    "--score",
    type=click.Choice(_SCORES),
    help="What is unusual: the reconstruction, errors in it that hang together, the "
    "code, these two (auto), the distance to the nearest normal picture, the ELBO, the "
    "likelihood, or the reconstruction after a search (default: auto).",
)
@click.option(
    "--false-alarms",
    type=float,
    metavar="RATE",
    help="Share of normal pictures that may raise an alarm (default: 0.01, or the "
    "least that so few pictures can promise).",
)
@click.option("--latent-dim", type=_COUNT, help="Numbers in a code.")
@click.option(
    "--window",
    type=_COUNT,
    metavar="STEPS",
    help="Where the rows of a table are steps of a series: how many are one example.",
)
@_options(*_TRAINING)
def fit(normal, model, backend, devices, run_dir, resume, **options):
    """Learn from NORMAL pictures or rows alone what is normal.

    NORMAL is a folder or zip of pictures, or the name of a data set; in a folder that
    has one, its `normal`, `good` or `train/good`. Or it is a table, .csv or .parquet,
    of numbers and categories; with --window its rows are a series, a row a step. A
    fifth is held back, and the alarm's rate measured on it.
    For example: keras-ae anomalies fit my_parts
    """
    name = catalogue.run_name(f"anomalies-{catalogue.find_model(model)}", normal)
    directory = _begin(name, run_dir, resume, backend, devices)
    from keras_ae.cli import commands

    training = {key: options.pop(key) for key in ("chosen", "latent_dim", "window")}
    rule = {key: options.pop(key) for key in ("score", "false_alarms")}
    commands.fit_anomalies(
        normal,
        directory,
        name=name,
        model_name=model,
        resume=resume,
        options=options,
        **training,
        **rule,
    )


@anomalies.command()
@click.argument("run", metavar="RUN", type=_PATH)
@click.argument("pictures", nargs=-1, required=True, type=_PATH)
@click.option(
    "--output", required=True, metavar="FILE.csv", help="A line a picture or row."
)
@click.option(
    "--report",
    metavar="FILE.html",
    help="A page with the distribution of the scores and the worst pictures.",
)
@click.option(
    "--false-alarms",
    type=float,
    metavar="RATE",
    help="Share of normal pictures that may raise an alarm (default: as fitted).",
)
@click.option(
    "--false-discoveries",
    type=float,
    metavar="RATE",
    help="Instead: share of the alarms that may be false.",
)
@click.option(
    "--label",
    metavar="COLUMN",
    help="Of a table: the column that is 1 for anomalies and 0 for normal rows.",
)
@_options("limit", "backend")
def score(run, pictures, backend, **options):
    """Score PICTURES, files or folders, or a table, by what RUN knows to be normal.

    RUN is a directory that `keras-ae anomalies fit` left, or a saved detector. Folders
    called `good` or `normal` beside others say which pictures are anomalies, --label
    says it of rows; the report then tells how well they are found.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.score_anomalies(run, pictures, **options)
