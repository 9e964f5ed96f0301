"""What is done with a trained model."""

from __future__ import annotations

import click

from keras_ae.cli.backend import _settle_backend
from keras_ae.cli.command import main
from keras_ae.cli.options import (
    _COUNT,
    _MODEL,
    _PATH,
    _SEED,
    _TILE,
    _options,
    _restored,
)


@main.command()
@_MODEL
@click.argument("pictures", nargs=-1, required=True, type=_PATH)
@_restored("the sheet reconstructed.png")
@click.option(
    "--refine",
    type=_COUNT,
    metavar="STEPS",
    help="Search on from the encoder's codes for so many steps.",
)
@_TILE
@_options("limit", "backend")
def reconstruct(model, pictures, output, limit, refine, tile, backend):
    """Reconstruct PICTURES, files or folders.

    Each goes into a PNG file of its name, or onto a sheet below its original.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    output = output or commands.free("reconstructed.png")
    commands.reconstruct(model, pictures, output, limit=limit, refine=refine, tile=tile)


@main.command()
@_MODEL
@click.argument("pictures", nargs=-1, required=True, type=_PATH)
@click.option("--output", required=True, metavar="FILE.kae")
@click.option(
    "--step",
    type=float,
    default=0.3,
    show_default=True,
    help="Distance of the levels of a code, in standard deviations of the codes.",
)
@_options("limit", "backend")
def compress(model, pictures, output, step, limit, backend):
    """Compress PICTURES, files or folders, into one small file.

    It holds their codes, rounded and entropy-coded, and their names. JPEG is measured
    beside it, at the same size.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.compress(model, pictures, output, step=step, limit=limit)


@main.command()
@_MODEL
@click.argument("file", metavar="FILE.kae", type=_PATH)
@click.option("--output", required=True, metavar="DIR", help="Folder for the pictures.")
@_options("backend")
def decompress(model, file, output, backend):
    """Restore the pictures in FILE.kae.

    MODEL is the one that compressed them. Each picture goes into a PNG file of its
    name.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.decompress(model, file, output)


@main.command()
@_MODEL
@click.option("-n", "number", type=_COUNT, default=64, show_default=True)
@click.option(
    "--output",
    metavar="FILE.png",
    help="One sheet of all (default, without --separate: samples.png).",
)
@click.option("--separate", metavar="DIR", help="Folder for a PNG file of each.")
@click.option(
    "--sampler",
    metavar="NAME",
    help="How codes are drawn: prior, or a sampler that was fitted to codes: normal, "
    "gaussian, mixture, maf, two_stage, flow, vampprior, for tokens pixelcnn (default: "
    "the last that was fitted, else prior where the codes of the training data follow "
    "it, or a density fitted to them).",
)
@click.option(
    "--data",
    metavar="DATA",
    help="Fit the sampler now, to the codes of a data set or a folder of pictures "
    "(default for a model without a prior: mixture).",
)
@click.option(
    "--label",
    type=_SEED,
    help="Class to draw, from 0: of a model with classes, or of a flow fitted to the "
    "codes of a data set with classes.",
)
@_options("data-dir", "limit", "seed", "backend")
def sample(
    model,
    number,
    output,
    separate,
    sampler,
    data,
    label,
    data_dir,
    limit,
    seed,
    backend,
):
    """Draw pictures from a generative MODEL, on one sheet or each in a file."""
    _settle_backend(backend)
    from keras_ae.cli import commands

    if separate is None:
        output = output or commands.free("samples.png")
    commands.sample(
        model,
        number,
        output,
        seed,
        sampler,
        data,
        data_dir,
        limit,
        separate=separate,
        label=label,
    )


@main.command()
@_MODEL
@click.argument("a", type=_PATH)
@click.argument("b", type=_PATH)
@click.option("--output", metavar="FILE.png", help="Default: interpolation.png.")
@click.option(
    "--steps", type=click.IntRange(2, 2**31 - 1), default=9, show_default=True
)
@_options("backend")
def interpolate(model, a, b, output, steps, backend):
    """Turn picture A into picture B, step by step.

    The steps are equal between the codes of the two, from A's reconstruction to B's;
    at the ends of the row are A and B themselves.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    output = output or commands.free("interpolation.png")
    commands.interpolate(model, a, b, output, steps=steps)


@main.command()
@_MODEL
@click.argument("pictures", nargs=-1, required=True, type=_PATH)
@click.option(
    "--add",
    "added",
    multiple=True,
    metavar="NAME",
    help="Attribute to add, such as Smiling; may be repeated.",
)
@click.option(
    "--remove",
    "removed",
    multiple=True,
    metavar="NAME",
    help="Attribute to take away; may be repeated.",
)
@click.option(
    "--strength",
    type=float,
    default=2.0,
    show_default=True,
    help="How far to go; 1 is from the mean of those without to that of those with it.",
)
@click.option(
    "--data",
    default="celeba",
    show_default=True,
    help="Data set with attributes to learn from.",
)
@click.option(
    "--limit",
    type=_COUNT,
    default=16,
    show_default=True,
    help="Change at most this many pictures.",
)
@click.option("--output", metavar="FILE.png", help="Default: attribute.png.")
@_options("data-dir", "backend")
def attribute(model, pictures, output, backend, **options):
    """Give PICTURES, files or folders, an attribute such as a smile.

    Each row of the sheet is a picture, its reconstruction and five steps to the full
    strength.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    output = output or commands.free("attribute.png")
    commands.attribute(model, pictures, output, **options)


@main.command("map")
@_MODEL
@click.argument("data", type=_PATH)
@click.option("--output", metavar="FILE.png", help="Default: map.png.")
@click.option(
    "--method",
    type=click.Choice(("auto", "pca", "tsne", "umap")),
    default="auto",
    show_default=True,
    help="How codes come to two dimensions; auto: PCA, if they have more.",
)
@click.option(
    "--labels",
    metavar="NAME",
    help="Label that gives the colour (default: the first that differs).",
)
@click.option(
    "--thumbnails/--no-thumbnails",
    default=True,
    show_default=True,
    help="Draw some of the pictures where their codes lie.",
)
@click.option(
    "--limit",
    type=_COUNT,
    default=2000,
    show_default=True,
    help="Draw at most this many codes.",
)
@click.option(
    "--seed",
    type=_SEED,
    default=0,
    show_default=True,
    help="Seed of t-SNE and UMAP.",
)
@_options("data-dir", "backend")
def latent_map(model, data, output, backend, **options):
    """Draw a map of the codes of DATA.

    DATA is a folder or zip of pictures, or the name of a data set, whose test split is
    meant.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    output = output or commands.free("map.png")
    commands.latent_map(model, data, output, **options)


@main.command()
@_MODEL
@click.argument("pictures", nargs=-1, required=True, type=_PATH)
@_restored("the folder denoised")
@_TILE
@_options("limit", "backend")
def denoise(model, pictures, output, limit, tile, backend):
    """Take the noise from PICTURES, files or folders.

    Each goes into a PNG file of its name, or onto a sheet below the noisy one. MODEL
    must be one that denoises.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.denoise(model, pictures, output or "denoised", limit=limit, tile=tile)


@main.command()
@_MODEL
@click.argument("data", metavar="FOLDER", type=_PATH)
@click.option("--output", metavar="FILE.npz|.csv", help="Default: codes.npz.")
@_options("data-dir", "limit", "backend")
def embed(model, data, output, data_dir, limit, backend):
    """Write the codes of the pictures in FOLDER.

    FOLDER is a folder or zip of pictures, or of shards, or the name of a data set.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    output = output or commands.free("codes.npz")
    commands.embed(model, data, output, data_dir=data_dir, limit=limit)


@main.command()
@_MODEL
@click.option(
    "--data",
    metavar="DATA",
    help="A data set or a folder of pictures, whose codes are shown (default: what the "
    "model was trained on, where it is at hand).",
)
@click.option(
    "--limit",
    type=_COUNT,
    default=2000,
    show_default=True,
    help="Encode at most this many pictures.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to serve the page at; 0.0.0.0 is every network of this machine.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port of the page (default: the first free one from 7860).",
)
@click.option(
    "--seed", type=_SEED, default=0, show_default=True, help="Seed of what is drawn."
)
@_options("data-dir", "backend")
def explore(model, backend, **options):
    """Open a page to explore MODEL in a browser.

    It has sliders along the principal directions of the codes, a map to click on,
    attributes, the way between two pictures of your own, and samplers beside each
    other. Ctrl-C ends it.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.explore(model, **options)
