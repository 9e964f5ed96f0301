"""Processes that `--devices` starts on PyTorch, and that end together.

`python -m keras_ae.cli.launching ...` is one of them: the command `keras-ae ...`, which
ends when what has started it does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from keras_ae import machine, processes

_BETWEEN = 0.1  # seconds from one look at the processes to the next
# Seconds for a process to end when it is told to, or to show why others have lost it.
_PATIENCE = 10.0


def launch(arguments: Sequence[str], needed: processes.ProcessesNeeded) -> int:
    """Runs `keras-ae` with these arguments in several processes of this host.

    The first one writes and tells. When it has ended, or another fails or is killed,
    all end, with one sentence; Ctrl-C is handed to the first.

    Args:
        arguments: Of the command line.
        needed: What was asked for.

    Returns:
        The status to end with.
    """
    from keras_ae import backend

    count = len(needed.devices)
    # It is closed with the last reference to what keeps it open.
    kept_open, told = backend.meeting_point()
    told |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    told["KERAS_BACKEND"] = backend.BACKEND
    # The same package as here, however it was found.
    told["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    if needed.are_cards:
        told["CUDA_VISIBLE_DEVICES"] = _visible(needed.devices)
    elif "OMP_NUM_THREADS" not in os.environ:
        told["OMP_NUM_THREADS"] = str(max(1, machine.cores() // count))
    command = [sys.executable, "-P", "-m", "keras_ae.cli.launching", *arguments]
    started: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory() as folder, _handing_on(started):
        try:
            for rank in range(count):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                streams: dict[str, Any] = {}
                if rank > 0:
                    # What it leaves is removed, whatever ends it.
                    own["TMPDIR"] = folder
                    said = open(_said(folder, rank), "wb")  # noqa: SIM115
                    streams = {"stdout": subprocess.DEVNULL, "stderr": said}
                started.append(
                    subprocess.Popen(
                        command,
                        env={**os.environ, **told, **own},
                        # Its end tells that this process is no more.
                        stdin=subprocess.PIPE,
                        start_new_session=True,
                        **streams,
                    )
                )
            rank, status = _awaited(started)
            return _status(rank, status, folder)
        finally:
            _end(started)
            del kept_open


def _visible(cards):
    """These cards, as CUDA numbers them, of those that are visible here."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    known = visible if visible != [""] else None
    return ",".join(known[card].strip() if known else str(card) for card in cards)


def _said(folder, rank):
    return Path(folder) / f"{rank}.txt"


@contextlib.contextmanager
def _handing_on(started: Sequence[subprocess.Popen]) -> Iterator[None]:
    """A block in which Ctrl-C goes to the first process, which knows what to keep."""
    if threading.current_thread() is not threading.main_thread():
        # Python delivers signals to its main thread only.
        yield
        return

    def interrupt(number, frame):
        for process in started[:1]:
            process.send_signal(signal.SIGINT)

    def terminate(number, frame):
        sys.exit(128 + number)

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: terminate}
    before = {number: signal.signal(number, own) for number, own in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _awaited(started):
    """Number and status of the process whose end is everyone's."""
    patience = None
    while True:
        ended = {
            rank: process.returncode
            for rank, process in enumerate(started)
            if process.poll() is not None
        }
        if 0 in ended and ended[0] != processes.LOST_STATUS:
            return 0, ended[0]
        failed = {rank: status for rank, status in ended.items() if status}
        for rank, status in failed.items():
            if status != processes.LOST_STATUS:
                return rank, status
        if failed:
            patience = patience or time.monotonic() + _PATIENCE
            if time.monotonic() > patience:
                return min(failed.items())
        time.sleep(_BETWEEN)


def _status(rank, status, folder):
    """What to end with; says what the first process has not said itself."""
    if status < 0:
        click.echo(
            f"Error: Process {rank} of those that trained together was killed (signal "
            f"{-status}), so that all have ended; `--resume` goes on after the last "
            "complete epoch.",
            err=True,
        )
        return 1
    if rank > 0 or status == processes.LOST_STATUS:
        said = _said(folder, rank)
        lines = said.read_text(errors="replace").splitlines() if rank else []
        errors = [line for line in lines if line.startswith("Error: ")]
        lost = f"Error: Process {rank} of those that trained together has ended."
        click.echo((errors or lines[-1:] or [lost])[-1], err=True)
    return status


def _end(started):
    for process in started:
        process.terminate()
    until = time.monotonic() + _PATIENCE
    for process in started:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _follow():
    """Ends this process when the one that has started it does, however that ends."""

    def wait():
        with contextlib.suppress(OSError):
            # Not by `sys.stdin`, whose lock would be held when Python ends.
            os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Runs `keras-ae` as one of several processes."""
    _follow()
    processes.tells_of_loss = False
    try:
        from keras_ae.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    main()


if __name__ == "__main__":
    main()
