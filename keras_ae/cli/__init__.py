"""The command `keras-ae`: thin, and instant until there is something to compute.

Only what a command needs is imported, when it runs: `--help` and the listings import
neither keras nor numpy, and `--backend` still chooses the backend.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import shlex
import sys
import tempfile
import warnings

import click

import keras_ae
from keras_ae import catalogue

_BACKENDS = ("tensorflow", "jax", "torch")
# Sizes and seeds fit into 32 bits.
_COUNT = click.IntRange(1, 2**31 - 1)
_SEED = click.IntRange(0, 2**31 - 1)
# The names of `keras_ae.trackers` and the groups of `keras_ae.scores`, which import
# keras.
_TRACKERS = ("tensorboard", "mlflow", "wandb")
_SCORES = (
    "objective",
    "reconstruction",
    "likelihood",
    "codes",
    "samples",
    "factors",
)
# What pip calls the packages whose modules are called otherwise.
_PACKAGES = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
}


class _Size(click.ParamType):
    """One number, or HEIGHTxWIDTH."""

    name = "size"

    def get_metavar(self, *args, **kwargs):
        return "SIZE"

    def convert(self, value, param, context):
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(s.isdecimal() and int(s) > 0 for s in sides):
            self.fail(
                f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH.",
                param,
                context,
            )
        return int(sides[0]) if len(sides) == 1 else [int(side) for side in sides]


class _Commands(click.Group):
    """Turns what goes wrong into one sentence and an exit status."""

    def main(self, args=None, prog_name="keras-ae", standalone_mode=True, **extra):
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        for stream in (sys.stdout, sys.stderr):
            # Names of files may be none in the terminal's encoding.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        sys.exit(self._run(args, prog_name, extra))

    def _run(self, args, prog_name, extra):
        if os.environ.get("KERAS_AE_DEBUG"):
            return _status(
                super().main(args, prog_name, standalone_mode=False, **extra)
            )
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                return _status(
                    super().main(args, prog_name, standalone_mode=False, **extra)
                )
        except click.UsageError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:
            return _fail(error.format_message(), error.exit_code)
        except (KeyboardInterrupt, click.Abort) as stopped:
            return _stopped(stopped)
        except BrokenPipeError:
            # What reads the output has seen enough.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            return 0
        except ModuleNotFoundError as error:
            return _fail(_missing(error))
        except MemoryError:
            return _fail(
                "There is not enough memory; try a smaller `--batch-size` or `--limit`."
            )
        except (ValueError, OSError, ImportError) as error:
            return _fail(_sentence(error))
        except Exception as error:
            # No mistake of the user's that is known of: whoever mends it wants more.
            return _fail(
                f"{type(error).__name__}: {_sentence(error)} (The variable "
                "KERAS_AE_DEBUG=1 shows where.)"
            )


def _missing(error):
    module = (error.name or "").partition(".")[0]
    if not module:
        return _sentence(error)
    package = _PACKAGES.get(module, module)
    sentence = (
        f"The package {package} is not installed; `pip install {package}` brings it"
    )
    if module in _BACKENDS:
        sentence += ", or `--backend` chooses a backend that is installed"
    return f"{sentence}."


def _warn(message, category, filename, lineno, file=None, line=None):
    click.echo(f"Warning: {message}", err=True)


def _status(value):
    return value if isinstance(value, int) else 0


def _fail(message, status=1):
    click.echo(f"Error: {message}", err=True)
    return status


def _stopped(stopped):
    go_on = getattr(stopped.__cause__ or stopped, "go_on", "")
    click.echo(f"\nStopped.{' ' + go_on if go_on else ''}", err=True)
    return 130


def _sentence(error):
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}."
    # Keras appends what it was called with, on further lines.
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _settle_backend(backend, directory=None):
    """Chooses the backend before keras is imported, and quiets its start.

    A run that goes on keeps the backend that it began with.
    """
    if backend is None and directory is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            settings = (directory / "settings.json").read_text("utf-8")
            backend = json.loads(settings)["environment"]["backend"]
    if backend is not None:
        if "keras" in sys.modules and backend != _current_backend():
            raise ValueError(
                f"`--backend {backend}` must be chosen before keras is imported; it "
                f"runs on {_current_backend()} here."
            )
        os.environ["KERAS_BACKEND"] = backend
    with _quiet():
        import keras

        from keras_ae import runs

        runs.environment()
        if not os.environ.get("KERAS_AE_DEBUG"):
            # Each phase of a stacked model is traced anew, which TensorFlow finds odd.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        # Saving and loading make Keras import TensorFlow on any backend, where it is
        # installed: better now, while it is quiet.
        keras.saving.serialize_keras_object(keras.layers.Identity())


@contextlib.contextmanager
def _quiet():
    """Holds back what TensorFlow's C++ logs while it starts, unless that fails.

    It writes to the file descriptor itself, before any log level applies. Whoever sets
    TF_CPP_MIN_LOG_LEVEL or KERAS_AE_DEBUG sees it.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or os.environ.get("KERAS_AE_DEBUG"):
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _current_backend():
    import keras

    return keras.config.backend()


def _options(*names):
    """Click options that several commands share, by name."""
    shared = {
        "data-dir": click.option(
            "--data-dir",
            metavar="DIR",
            help="Folder of data sets (default: the variable KERAS_AE_DATA).",
        ),
        "run-dir": click.option(
            "--run-dir",
            metavar="DIR",
            help="Directory of the run (default: runs/NAME, numbered if it exists).",
        ),
        "epochs": click.option("--epochs", type=_COUNT, help="Most epochs to train."),
        "batch-size": click.option(
            "--batch-size", type=_COUNT, help="Pictures a step."
        ),
        "limit": click.option(
            "--limit",
            type=_COUNT,
            help="Read at most this many pictures (of each split).",
        ),
        "image-size": click.option(
            "--image-size",
            type=_Size(),
            help="Height and width of the pictures, one number or HEIGHTxWIDTH "
            "(default: the recipe's; of your own pictures that of most of them, larger "
            "ones so that the shorter side is 64).",
        ),
        "seed": click.option(
            "--seed",
            type=_SEED,
            help="Seed of weights, order of the data and samples.",
        ),
        "backend": click.option(
            "--backend",
            type=click.Choice(_BACKENDS),
            help="What computes (default: KERAS_BACKEND, else tensorflow).",
        ),
        "track": click.option(
            "--track",
            multiple=True,
            type=click.Choice(_TRACKERS),
            help="Send curves and pictures there, too, where it is installed; may be "
            "repeated.",
        ),
        "resume": click.option(
            "--resume", is_flag=True, help="Go on with the run in the directory."
        ),
        "set": click.option(
            "--set",
            "chosen",
            multiple=True,
            metavar="NAME=VALUE",
            help="One of the script's or model's own settings; may be repeated.",
        ),
    }

    def add(command):
        for name in reversed(names):
            command = shared[name](command)
        return command

    return add


_RESTORED = click.option(
    "--output",
    required=True,
    metavar="DIR|FILE.png",
    help="Folder for the pictures, or a sheet of them with the originals.",
)
_TRAINING = (
    "data-dir",
    "run-dir",
    "epochs",
    "batch-size",
    "limit",
    "image-size",
    "seed",
    "backend",
    "track",
    "resume",
    "set",
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
@click.argument("name")
@_options(*_TRAINING)
@click.option(
    "--copy", metavar="DIR", help="Copy the recipe's script to DIR and do nothing else."
)
def recipe(name, copy, run_dir, backend, resume, chosen, **options):
    """Run the recipe NAME.

    NAME is one that `keras-ae recipes` lists, or the path of a script of your own: copy
    one with --copy and change it.
    """
    if copy is not None:
        _copy(catalogue.find_recipe(name), pathlib.Path(copy))
        return
    # Looked at before keras is imported: a slip is answered at once.
    script = catalogue.find_recipe(name)
    catalogue.choose(catalogue.settings(script), chosen)
    directory = catalogue.run_directory(catalogue.recipe_name(script), run_dir, resume)
    _settle_backend(backend, directory)
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
def recipes():
    """List the recipes."""
    _list(catalogue.recipes())


@main.command("models")
@click.argument("name", required=False)
def list_models(name):
    """List the models, or tell of the model NAME: objective, paper, recipe, figures."""
    if name is None:
        _list(catalogue.models())
        return
    facts = catalogue.model(name)
    click.echo(f"{facts.pop('name')}  {facts.pop('summary')}\n")
    _list(facts)


def _list(descriptions):
    width = max(map(len, descriptions), default=0)
    for name, text in descriptions.items():
        click.echo(f"{name:{width}}  {text}")


@main.command()
@_options("data-dir", "backend")
def info(data_dir, backend):
    """Show backend, devices, versions and data."""
    _settle_backend(backend)
    from keras_ae import datasets, runs

    environment = runs.environment()
    click.echo(f"backend     {environment['backend']}")
    click.echo(f"devices     {', '.join(environment['devices'])}")
    click.echo(f"python      {environment['python']}")
    click.echo(f"machine     {environment['machine']}")
    for package, version in environment["versions"].items():
        click.echo(f"{package:11} {version}")
    where = data_dir or os.environ.get("KERAS_AE_DATA")
    click.echo(f"data folder {where or 'none (--data-dir or KERAS_AE_DATA names one)'}")
    for name in datasets.names():
        # Moon phases are computed, so that they are never looked for.
        absent = "rendered when needed" if name == "moon-phases" else "not found"
        click.echo(f"  {name:14} {datasets.find(name, data_dir) or absent}")


@main.command()
@click.argument("model")
@click.argument("data", metavar="FOLDER")
@click.option("--latent-dim", type=_COUNT, help="Numbers in a code.")
@click.option(
    "--from",
    "start",
    metavar="RUN",
    help="Go on with the trained model of another run, or of a .keras file.",
)
@_options(*_TRAINING)
def train(model, data, latent_dim, start, run_dir, backend, resume, chosen, **options):
    """Train MODEL on the pictures in FOLDER.

    FOLDER is a folder or zip of pictures, or the name of a data set; `keras-ae models`
    lists the models. For example: keras-ae train vae my_photos --latent-dim 64
    """
    name = catalogue.run_name(catalogue.find_model(model), data)
    directory = catalogue.run_directory(name, run_dir, resume)
    _settle_backend(backend, directory)
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
@click.argument("models", nargs=-1, metavar="[MODEL]...")
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
    default=[128],
    show_default=True,
    help="Pictures a step; may be repeated.",
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
@click.argument("run", metavar="RUN")
@_options("backend")
def report(run, backend):
    """Write report.html and the model card of a finished RUN anew.

    RUN is a run directory. A card of your own making stays.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    click.echo(commands.write_report(run))


@main.command()
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
@_RESTORED
@_options("limit", "backend")
def reconstruct(model, pictures, output, limit, backend):
    """Reconstruct PICTURES, files or folders.

    Each goes into a PNG file of its name, or onto a sheet below its original.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.reconstruct(model, pictures, output, limit=limit)


@main.command()
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
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
@click.argument("model")
@click.argument("file", metavar="FILE.kae")
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
@click.argument("model")
@click.option("-n", "number", type=_COUNT, default=64, show_default=True)
@click.option("--output", metavar="FILE.png", help="One sheet of all.")
@click.option("--separate", metavar="DIR", help="Folder for a PNG file of each.")
@click.option(
    "--sampler",
    metavar="NAME",
    help="How codes are drawn: prior, or a sampler that was fitted to codes: normal, "
    "gaussian, mixture, maf, two_stage, vampprior, for tokens pixelcnn (default: prior "
    "where the codes of the training data follow it, else a density fitted to them).",
)
@click.option(
    "--data",
    metavar="DATA",
    help="Fit the sampler now, to the codes of a data set or a folder of pictures "
    "(default for a model without a prior: mixture).",
)
@_options("data-dir", "limit", "seed", "backend")
def sample(
    model, number, output, separate, sampler, data, data_dir, limit, seed, backend
):
    """Draw pictures from a generative MODEL, on one sheet or each in a file."""
    if output is None and separate is None:
        raise click.UsageError("Give `--output FILE.png`, `--separate DIR`, or both.")
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.sample(
        model, number, output, seed, sampler, data, data_dir, limit, separate=separate
    )


@main.command()
@click.argument("model")
@click.argument("a")
@click.argument("b")
@click.option("--output", required=True, metavar="FILE.png")
@click.option(
    "--steps", type=click.IntRange(2, 2**31 - 1), default=9, show_default=True
)
@_options("backend")
def interpolate(model, a, b, output, steps, backend):
    """Turn picture A into picture B, step by step.

    The steps are equal between the codes of the two.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.interpolate(model, a, b, output, steps=steps)


@main.command()
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
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

    commands.attribute(model, pictures, output, **options)


@main.command("map")
@click.argument("model")
@click.argument("data")
@click.option("--output", required=True, metavar="FILE.png")
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

    commands.latent_map(model, data, output, **options)


@main.command()
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True)
@_RESTORED
@_options("limit", "backend")
def denoise(model, pictures, output, limit, backend):
    """Take the noise from PICTURES, files or folders.

    Each goes into a PNG file of its name, or onto a sheet below the noisy one. MODEL
    must be one that denoises.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.denoise(model, pictures, output, limit=limit)


@main.command()
@click.argument("model")
@click.argument("data", metavar="FOLDER")
@click.option("--output", required=True, metavar="FILE.npz|.csv")
@_options("data-dir", "limit", "backend")
def embed(model, data, output, data_dir, limit, backend):
    """Write the codes of the pictures in FOLDER.

    FOLDER is a folder or zip of pictures, or the name of a data set.
    """
    _settle_backend(backend)
    from keras_ae.cli import commands

    commands.embed(model, data, output, data_dir=data_dir, limit=limit)


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
            "the data set's labels), inception, or a network's .keras file.",
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
@click.argument("model")
@click.argument("data")
@_scoring
@click.option(
    "--output",
    metavar="FILE.json",
    help="Where the scores go (default: evaluation.json in a run's directory).",
)
@_options("data-dir", "limit", "backend")
def evaluate(model, data, backend, **options):
    """Score MODEL on DATA.

    DATA is a folder or zip of pictures, or the name of a data set, whose test split is
    meant. Every score is kept with all that it depends on.
    """
    _settle_backend(backend)
    from keras_ae.cli import scoreboard

    scoreboard.evaluate(model, data, **options)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
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
    from keras_ae.cli import scoreboard

    scoreboard.compare(runs, **options)


if __name__ == "__main__":
    main()
