"""The command `keras-ae`: what trains, and what lists."""

from __future__ import annotations

import json
import os
import pathlib
import shlex

import click

import keras_ae
from keras_ae import catalogue
from keras_ae.cli.backend import _begin, _settle_backend
from keras_ae.cli.errors import _Commands
from keras_ae.cli.options import (
    _BACKENDS,
    _COUNT,
    _JSON,
    _PATH,
    _TRAINING,
    _completes,
    _options,
)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(keras_ae.__version__, prog_name="keras-ae")
def main():
    """Autoencoders for Keras 3: train them, look at what they learned, use them.

    Start with `keras-ae recipe moon-vae`: no data needed, done in three minutes.
    """


@main.command()
@click.argument(
    "name",
    required=False,
    metavar="NAME",
    shell_complete=_completes(catalogue.recipes, files=True),
)
@_options(*_TRAINING)
@click.option(
    "--copy", metavar="DIR", help="Copy the recipe's script to DIR and do nothing else."
)
def recipe(name, copy, run_dir, backend, devices, resume, chosen, **options):
    """Run the recipe NAME.

    NAME is one that `keras-ae recipes` lists, or the path of a script of your own: copy
    one with --copy and change it.
    """
    if name is None:
        raise click.UsageError(
            "Missing argument 'NAME'; `keras-ae recipes` lists the recipes."
        )
    if copy is not None:
        _copy(catalogue.find_recipe(name), pathlib.Path(copy))
        return
    # Looked at before keras is imported: a slip is answered at once.
    script = catalogue.find_recipe(name)
    catalogue.choose_for(script, chosen)
    name_of_run = catalogue.recipe_name(script)
    directory = _begin(name_of_run, run_dir, resume, backend, devices)
    from keras_ae.cli import commands

    commands.recipe(name, directory, resume=resume, chosen=chosen, options=options)


def _copy(script, folder):
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / script.name
    if target.exists():
        raise ValueError(f"{target} exists already; it is not overwritten.")
    target.write_bytes(script.read_bytes())
    command = f"keras-ae recipe {shlex.quote(str(target))}"
    click.echo(f"{target}\nChange it, then run it: {command}")


@main.command()
@_JSON
def recipes(as_json):
    """List the recipes."""
    _list(catalogue.recipes(), as_json)


@main.command()
@_JSON
def presets(as_json):
    """List the trained models that come with keras-ae.

    Every command that takes a MODEL takes the name of one: `keras-ae sample NAME`.
    It takes those on hubs, too: `keras-ae sample hf://user/name`.
    """
    _list(catalogue.presets(), as_json)


@main.command("models")
@click.argument("name", required=False, shell_complete=_completes(catalogue.models))
@_JSON
def list_models(name, as_json):
    """List the models, or tell of the model NAME: objective, paper, recipe, figures."""
    if name is None:
        _list(catalogue.models(), as_json)
        return
    facts = catalogue.model(name)
    if not as_json:
        click.echo(f"{facts.pop('name')}  {facts.pop('summary')}\n")
    _list(facts, as_json)


def _list(descriptions, as_json):
    if as_json:
        click.echo(json.dumps(descriptions, indent=2, ensure_ascii=False))
        return
    width = max(map(len, descriptions), default=0)
    for name, text in descriptions.items():
        # A formula has several lines.
        text = text.replace("\n", "\n" + " " * (width + 2))
        click.echo(f"{name:{width}}  {text}")


@main.command()
@_options("data-dir", "backend")
@_JSON
def info(data_dir, backend, as_json):
    """Show backend, devices, versions and data."""
    _settle_backend(backend)
    from keras_ae import datasets, runs
    from keras_ae.backend import most_processes

    environment = runs.environment()
    if as_json:
        found = {name: datasets.find(name, data_dir) for name in datasets.names()}
        data = {name: path and str(path) for name, path in found.items()}
        click.echo(json.dumps({**environment, "data": data}, indent=2))
        return
    click.echo(f"backend     {environment['backend']}")
    click.echo(f"devices     {', '.join(environment['devices'])}")
    if most_processes() > 1:
        click.echo(f"--devices   up to {most_processes()}, each a process of its own")
    click.echo(f"python      {environment['python']}")
    click.echo(f"machine     {environment['machine']}")
    for package, version in environment["versions"].items():
        click.echo(f"{package:11} {version}")
    if environment["commit"] is not None:
        click.echo(f"commit      {environment['commit']}")
    where = data_dir or os.environ.get("KERAS_AE_DATA")
    click.echo(f"data folder {where or 'none (--data-dir or KERAS_AE_DATA names one)'}")
    for name in datasets.names():
        # Moon phases are computed, so that they are never looked for.
        absent = "rendered when needed" if name == "moon-phases" else "not found"
        click.echo(f"  {name:14} {datasets.find(name, data_dir) or absent}")


@main.command()
@click.argument("model", shell_complete=_completes(catalogue.models))
@click.argument("data", metavar="FOLDER", type=_PATH)
@click.option("--latent-dim", type=_COUNT, help="Numbers in a code.")
@click.option(
    "--from",
    "start",
    metavar="MODEL",
    shell_complete=_completes(catalogue.presets, files=True),
    help="Go on with a trained model: of another run, of a .keras file or a preset.",
)
@_options(*_TRAINING)
def train(
    model,
    data,
    latent_dim,
    start,
    run_dir,
    backend,
    devices,
    resume,
    chosen,
    **options,
):
    """Train MODEL on the pictures in FOLDER.

    FOLDER is a folder or zip of pictures, shards of them (.tar, .parquet, .tfrecord)
    as a folder or as a quoted pattern, 'shards/{000..099}.tar', or the name of a data
    set; `keras-ae models` lists the models. For example: keras-ae train vae my_photos
    --latent-dim 64
    """
    name = catalogue.run_name(catalogue.find_model(model), data)
    directory = _begin(name, run_dir, resume, backend, devices)
    from keras_ae.cli import commands

    commands.train(
        model,
        data,
        directory,
        latent_dim=latent_dim,
        start=start,
        resume=resume,
        chosen=chosen,
        options=options,
    )


@main.command()
@click.argument(
    "models",
    nargs=-1,
    metavar="[MODEL]...",
    shell_complete=_completes(catalogue.models),
)
@click.option(
    "--data",
    metavar="DATA",
    default="moon-phases",
    show_default=True,
    help="A folder or zip of pictures, or the name of a data set.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(_BACKENDS),
    help="What computes (default: KERAS_BACKEND, else tensorflow); may be repeated.",
)
@click.option(
    "--batch-size",
    "batch_sizes",
    multiple=True,
    type=_COUNT,
    help="Pictures a step (default: 128, or all where there are fewer); may be "
    "repeated.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(("float32", "mixed_bfloat16", "mixed_float16")),
    default=["float32"],
    show_default=True,
    help="Of the computation, weights are kept in float32; may be repeated.",
)
@click.option(
    "--image-size",
    "image_sizes",
    multiple=True,
    type=_COUNT,
    help="Height and width of the pictures (default: the data's own); may be repeated.",
)
@click.option(
    "--devices",
    multiple=True,
    type=_COUNT,
    default=[1],
    show_default=True,
    help="How many devices share each batch; may be repeated.",
)
@click.option(
    "--limit",
    type=_COUNT,
    default=2000,
    show_default=True,
    help="Pictures an epoch, at most.",
)
@click.option(
    "--epochs",
    type=_COUNT,
    default=3,
    show_default=True,
    help="Epochs of a training; the first one compiles.",
)
@click.option(
    "--rounds",
    type=_COUNT,
    default=2,
    show_default=True,
    help="Trainings of each configuration, which take turns.",
)
@click.option(
    "--output",
    metavar="DIR",
    help="Folder for benchmark.json, .md and .png (default: runs/benchmark, numbered "
    "if it exists).",
)
@_options("data-dir", "set")
def benchmark(models, backends, output, chosen, **options):
    """Measure what it costs to train MODELs on this machine.

    Options that may be repeated make every combination a configuration, which trains in
    a process of its own: pictures a second, compilation, memory and loss. Without a
    MODEL: ae, vae and vqvae.
    """
    from keras_ae import benchmark

    models = [catalogue.find_model(model) for model in models or benchmark.MODELS]
    settings = None
    if chosen:
        # What a model can be told, only the models themselves know.
        _settle_backend(backends[0] if backends else None)
        from keras_ae.cli import commands

        settings = commands.shared_settings(models, chosen)
    benchmark.command(
        models, output=output, backends=backends, settings=settings, **options
    )


@main.command()
@click.argument("run", metavar="RUN", type=_PATH)
@_options("backend")
def report(run, backend):
    """Write report.html and the model card of a finished RUN anew.

    RUN is a run directory. A card of your own making stays.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    click.echo(commands.write_report(run))
