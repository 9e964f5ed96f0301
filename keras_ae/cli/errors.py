"""Everything that goes wrong, in one sentence."""

from __future__ import annotations

import os
import sys
import warnings

import click

from keras_ae import processes
from keras_ae.cli.options import _BACKENDS

# Where a context keeps what the command line was given.
ARGUMENTS = "keras_ae.arguments"
# What pip calls the packages whose modules are called otherwise.
_PACKAGES = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
}


class _Commands(click.Group):
    """Turns what goes wrong into one sentence and an exit status."""

    def main(self, args=None, prog_name="keras-ae", standalone_mode=True, **extra):
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        _open_streams()
        for stream in (sys.stdout, sys.stderr):
            # Names of files may be none in the terminal's encoding.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        sys.exit(self._run(args, prog_name, extra))

    def parse_args(self, ctx, args):
        # For processes that are started with the same.
        ctx.meta.setdefault(ARGUMENTS, [*args])
        # A shell leaves the home folder of `--run-dir=~/run` to the command.
        return super().parse_args(ctx, [_at_home(argument) for argument in args])

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
        except processes.ProcessLost as error:
            if not processes.tells_of_loss:
                return processes.LOST_STATUS
            return _fail(_sentence(error), processes.LOST_STATUS)
        except (ValueError, OSError, ImportError) as error:
            return _fail(_sentence(error))
        except Exception as error:
            # No mistake of the user's that is known of: whoever mends it wants more.
            return _fail(
                f"{type(error).__name__}: {_sentence(error)} (The variable "
                "KERAS_AE_DEBUG=1 shows where.)"
            )


def _open_streams():
    """Opens what the shell has closed, as by `>&-`.

    The next file would be written to by whoever prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is taken.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _at_home(argument):
    """An argument whose path begins with `~`, with the folder that it stands for."""
    option, equals, value = argument.partition("=")
    if option.startswith("--") and value.startswith("~"):
        return f"{option}{equals}{os.path.expanduser(value)}"
    return os.path.expanduser(argument)


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
