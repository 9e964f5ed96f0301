"""How a run of the command line begins, and how it goes on."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator

from keras_ae import datasets, processes
from keras_ae.runs import Run, environment

# What may change when a run goes on: how long it trains, and where its data lie.
_MAY_CHANGE = ("epochs", "data_dir", "patience", "track")


def begin(
    name,
    directory,
    *,
    resume,
    command,
    what,
    options,
    settings,
    defaults,
    description,
    script=None,
):
    """Settles the run's settings; returns the `Run` and what its script is given."""
    record = {
        **what,
        "command": shlex.join(["keras-ae", *sys.argv[1:]]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    # Curves are drawn once, however many processes train.
    track = options.get("track", ()) if processes.is_first() else ()
    options = {**options, "track": [*track] or None}
    if resume:
        saved = saved_settings(directory / "settings.json")
        for key, value in what.items():
            if saved.get(key) != value:
                raise ValueError(
                    f"The run in {directory} is another one ({key}: {saved.get(key)}). "
                    f"Received: {value}"
                )
        options = _kept("--{}", saved["options"], options)
        settings = _kept("--set {}", saved["settings"], settings)
        record["first_command"] = saved.get("first_command", saved["command"])
        record["first_started"] = saved.get("first_started", saved["started"])
    else:
        options = {**options, "seed": options.get("seed") or 0}
        settings = {**defaults, **settings}
    if options.get("data_dir"):
        options["data_dir"] = str(pathlib.Path(options["data_dir"]).resolve())
    record |= {"options": options, "settings": settings, "environment": environment()}
    print(f"Run directory: {directory}", flush=True)
    run = Run(
        directory,
        name,
        description=description,
        resume=resume,
        again=shlex.join([*command, "--run-dir", str(directory), "--resume"]),
        settings=record,
        script=script,
        **options,
    )
    return run, dict(settings)


def recorded_data(data: str) -> str:
    """A path in one spelling; `./mnist` stays a folder, and names no data set."""
    path = str(pathlib.Path(data))
    is_folder = datasets.known_name(path) and not datasets.known_name(data)
    # What begins with a dash is an option of the commands that a report tells.
    needs_dot = is_folder or path.startswith("-")
    return os.path.join(os.curdir, path) if needs_dot else path


@contextlib.contextmanager
def tells_how_to_go_on(run: Run) -> Iterator[None]:
    """Gives Ctrl-C the sentence that says what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        # What other processes write is in a temporary folder.
        if processes.is_first() and (run.directory / "settings.json").exists():
            count = len(run.history)
            stopped.go_on = (  # type: ignore[attr-defined]
                f"{count} complete epoch{'' if count == 1 else 's'} "
                f"{'is' if count == 1 else 'are'} kept in {run.directory}. "
                f"Go on with:\n  {run.again}"
            )
        raise


def saved_settings(path):
    """What a run recorded in its `settings.json`."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        saved = None
    needed = {"options", "settings", "command", "started"}
    if not isinstance(saved, dict) or not needed <= saved.keys():
        raise ValueError(
            f"{path} is damaged, or not that of a run of the command line; the run "
            "can't go on."
        )
    return saved


def _kept(form, saved, given):
    """Saved values, with those given in place of the ones that may change."""
    kept = dict(saved)
    for name, value in given.items():
        if value is None or value == saved.get(name):
            continue
        if name not in _MAY_CHANGE:
            raise ValueError(
                "A resumed run keeps its settings: leave out "
                f"`{form.format(name.replace('_', '-'))}`. Received: {value}; the run "
                f"began with {saved.get(name)}"
            )
        kept[name] = value
    return kept
