"""What scores models."""

from __future__ import annotations

import click

from keras_ae import processes
from keras_ae.cli.backend import _settle_backend, _unread
from keras_ae.cli.command import main
from keras_ae.cli.options import _COUNT, _JSON, _MODEL, _PATH, _SCORES, _SEED, _options


def _scoring(command):
    """Adds the options of commands that measure."""
    options = (
        click.option(
            "--scores",
            "groups",
            multiple=True,
            type=click.Choice((*_SCORES, "all")),
            help="What to measure; may be repeated. Default: what takes little time, "
            "which is all but samples and factors.",
        ),
        click.option(
            "--samples",
            type=_COUNT,
            default=10_000,
            show_default=True,
            help="Samples to compare with the pictures.",
        ),
        click.option(
            "--importance-samples",
            type=_COUNT,
            metavar="K",
            help="Codes a picture to estimate log p(x); papers use 5000 (default: 100 "
            "where `--scores likelihood` is asked for, else the lower bound only).",
        ),
        click.option(
            "--features",
            "feature_network",
            default="classifier",
            show_default=True,
            metavar="NAME|FILE",
            help="What sets of pictures are compared in: classifier (trained once on "
            "the data set's labels; without any, principal), principal (components of "
            "the pixels), inception (downloaded), or a network's .keras file.",
        ),
        click.option(
            "--binarize/--no-binarize",
            default=None,
            help="Score on black and white pixels drawn from the grey ones (default: "
            "as the run was trained, where it is recorded).",
        ),
        click.option(
            "--seed",
            type=_SEED,
            default=0,
            show_default=True,
            help="Seed of everything that is drawn.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_MODEL
@click.argument("data", type=_PATH)
@_scoring
@click.option(
    "--output",
    metavar="FILE.json",
    help="Where the scores go (default: evaluation.json in a run's directory).",
)
@_options("data-dir", "limit", "backend", "devices")
@_JSON
def evaluate(model, data, backend, devices, **options):
    """Score MODEL on DATA.

    DATA is a folder or zip of pictures, or the name of a data set. Of a data set, and
    of what a run was trained on, the test split is meant, of other pictures all. Every
    score is kept with all that it depends on.
    """
    _settle_backend(backend, devices=devices)
    if not processes.is_first():
        options["output"] = _unread() / "evaluation.json"
    from keras_ae.cli import commands

    commands.evaluate(model, data, **options)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=_PATH)
@click.option(
    "--data",
    help="The pictures to measure on or to show (default: the data set that the runs "
    "record).",
)
@_scoring
@click.option(
    "--output",
    metavar="FILE.png",
    help="Draw pictures as each model reconstructs them, and samples of each.",
)
@_options("data-dir", "limit", "backend")
def compare(runs, backend, **options):
    """Lay the scores of several RUNs side by side.

    They are those that `keras-ae evaluate` has left in the runs; `--scores` measures
    them now. Only scores that depend on the same pictures, seed, number of samples and
    feature network are compared.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.compare(runs, **options)
