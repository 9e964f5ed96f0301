"""The backend, chosen before keras is imported."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import pathlib
import signal
import sys
import tempfile
import threading

import click

from keras_ae import catalogue, processes
from keras_ae.cli.errors import ARGUMENTS
from keras_ae.cli.options import _BACKENDS


def _settle_backend(backend, directory=None, devices=None):
    """Chooses the backend before keras is imported, quiets its start; then the devices.

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
    named = os.environ.get("KERAS_BACKEND")
    if named and named not in _BACKENDS:
        raise ValueError(
            f"KERAS_BACKEND must be {', '.join(map(repr, _BACKENDS))}, or unset. "
            f"Received: KERAS_BACKEND={named!r}; `--backend` overrules it."
        )
    with _quiet():
        import keras

        from keras_ae import runs
    # JAX's processes meet before it computes anything.
    _settle_devices(devices)
    with _quiet():
        runs.environment()
        if not os.environ.get("KERAS_AE_DEBUG"):
            # Each phase of a stacked model is traced anew, which TensorFlow finds odd.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        # Saving and loading make Keras import TensorFlow on any backend, where it is
        # installed: better now, while it is quiet.
        keras.saving.serialize_keras_object(keras.layers.Identity())


def _settle_devices(devices):
    """Chooses the devices; in processes that were started together, all of those."""
    count = processes.count()
    if count > 1 and _current_backend() == "tensorflow":
        raise ValueError(
            "Processes that are started together train on PyTorch and JAX; choose "
            "`--backend torch` or `--backend jax`, or start one process. Received: "
            f"{count} processes, and the backend tensorflow"
        )
    if devices is None and count == 1:
        return
    from keras_ae import distribute

    try:
        with _quiet():
            found = distribute("all" if devices is None else devices)
    except processes.ProcessesNeeded as needed:
        from keras_ae.cli import launching

        context = click.get_current_context()
        context.exit(launching.launch(context.meta[ARGUMENTS], needed))
    if processes.is_first():
        click.echo(f"Devices: {', '.join(found)}.", err=True)
    else:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _begin(name, run_dir, resume, backend, devices):
    """Chooses a run's directory, the backend and the devices; returns the directory.

    Of processes that train together the first one has it. Each other writes what no one
    will read into a directory of its own, which begins as the first one's.
    """
    from keras_ae import machine

    machine.keep_freed_memory()
    if processes.is_first():
        directory = catalogue.run_directory(name, run_dir, resume)
        _settle_backend(backend, directory, devices)
    else:
        directory = _unread()
        _settle_backend(backend, None, devices)
    if processes.count() > 1:
        from keras_ae import runs

        runs.share(directory)
    return directory


def _unread():
    """A directory for what no one will read, as long as this process lasts."""
    own = tempfile.TemporaryDirectory()
    atexit.register(own.cleanup)
    return pathlib.Path(own.name)


@contextlib.contextmanager
def _quiet():
    """Holds back what a backend's C++ tells while it starts, unless that fails.

    It writes to the file descriptors themselves, before any log level applies. Whoever
    sets TF_CPP_MIN_LOG_LEVEL below 2, or KERAS_AE_DEBUG, sees it.
    """
    wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1")
    if wanted or os.environ.get("KERAS_AE_DEBUG"):
        with _heeding():
            yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        streams = {number: os.dup(number) for number in (1, 2)}
        for number in streams:
            os.dup2(held.fileno(), number)
        try:
            with _heeding():
                yield
        except KeyboardInterrupt:  # whatever that was told of, it is no failure
            raise
        except BaseException:
            held.seek(0)
            os.write(streams[2], held.read())
            raise
        finally:
            for number, stream in streams.items():
                os.dup2(stream, number)
                os.close(stream)


@contextlib.contextmanager
def _heeding():
    """A block that Ctrl-C ends, though a package that it imports may swallow it."""
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    # Python delivers signals to its main thread only; a shell has it ignored in the
    # background.
    if not in_main or before is not signal.default_int_handler:
        yield
        return
    asked = False

    def ask(number, frame):
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _current_backend():
    import keras

    return keras.config.backend()
