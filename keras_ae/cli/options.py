"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from keras_ae import catalogue

_BACKENDS = ("tensorflow", "jax", "torch")
# Sizes and seeds fit into 32 bits.
_COUNT = click.IntRange(1, 2**31 - 1)
_SEED = click.IntRange(0, 2**31 - 1)


class _Path(click.Path):
    """A path, which is no option where a command is told again."""

    def convert(self, value, param, context):
        value = super().convert(value, param, context)
        return f"./{value}" if str(value).startswith("-") else value


# Nothing is checked here; the shell completes it.
_PATH = _Path(readable=False)
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


_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


def _completes(names: Callable[[], dict[str, str]], files: bool = False):
    """A function that completes a name in the shell, in the case of what was typed.

    Args:
        names: Gives what there is, with descriptions.
        files: Whether a path does, too.
    """

    def complete(context, parameter, incomplete):
        lower = incomplete == incomplete.lower()
        found = [
            CompletionItem(name.lower() if lower else name, help=text.split("\n")[0])
            for name, text in names().items()
            if name.lower().startswith(incomplete.lower())
        ]
        if files and not found:
            found = [CompletionItem(incomplete, type="file")]
        return found

    return complete


_MODEL = click.argument(
    "model", type=_PATH, shell_complete=_completes(catalogue.presets, files=True)
)


# Of a picture that networks can learn on whatever machine.
_LONGEST_SIDE = 4096


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
        pixels = [int(side) for side in sides]
        if max(pixels) > _LONGEST_SIDE:
            self.fail(
                f"{value!r} is more than {_LONGEST_SIDE} pixels a side.", param, context
            )
        return pixels[0] if len(pixels) == 1 else pixels


class _Devices(click.ParamType):
    """ "all", how many, or which."""

    name = "devices"

    def get_metavar(self, *args, **kwargs):
        return "all|N|I,J"

    def convert(self, value, param, context):
        if value == "all" or not isinstance(value, str):
            return value
        parts = value.split(",")
        if not all(part.isdecimal() for part in parts):
            self.fail(
                f"{value!r} is neither 'all', a number of devices, nor which of them, "
                "numbered from 0: 0,1.",
                param,
                context,
            )
        numbers = [int(part) for part in parts]
        return numbers[0] if len(numbers) == 1 else numbers


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
        "white": click.option(
            "--white",
            type=_COUNT,
            help="Of your own pictures of 16 bits, the value that is white (default: "
            "65535, or where they end far below, as those of 12 bits, their own).",
        ),
        "key": click.option(
            "--key",
            metavar="NAME",
            help="Of shards whose samples have several pictures, which to read: what "
            "follows the first dot in a tar (seg.png), a Parquet column, a TFRecord "
            "feature.",
        ),
        "stream": click.option(
            "--stream",
            is_flag=True,
            default=None,
            help="Decode your own pictures each time they are read, and keep none on "
            "the disk (default: decode them once, into a cache).",
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
        "devices": click.option(
            "--devices",
            type=_Devices(),
            help="Devices that share each batch, with the results of one: all, how "
            "many, or which, as 0,1 (default: one).",
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


def _restored(default):
    """The option of where restored pictures go."""
    return click.option(
        "--output",
        metavar="DIR|FILE.png",
        help="Folder for the pictures, or a sheet of them with the originals (default: "
        f"{default}).",
    )


_TILE = click.option(
    "--tile",
    type=_COUNT,
    metavar="PIXELS",
    help="Restore pictures of their own size in blended tiles of this side.",
)
_TRAINING = (
    "data-dir",
    "run-dir",
    "epochs",
    "batch-size",
    "limit",
    "image-size",
    "white",
    "key",
    "stream",
    "seed",
    "backend",
    "devices",
    "track",
    "resume",
    "set",
)
