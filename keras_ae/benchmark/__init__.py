"""What training costs on this machine: models by backend, batch, precision and size.

Every configuration trains in a process of its own, as backend and precision need it and
memory is counted so, in rounds that take turns: what slows the machine down for a while
slows all of them. This process imports no keras.
"""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_ae import catalogue, datasets, files, machine
from keras_ae.benchmark.timesheet import described, outcome, page, plot, table

MODELS = ("AE", "VAE", "VQVAE")
BACKENDS = ("tensorflow", "jax", "torch")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
FILE = "benchmark.json"
_BATCH_SIZE = 128
# What the process of one training runs.
_TRAINING = "keras_ae.benchmark.training"


class Configuration(NamedTuple):
    """What is trained, and how.

    Attributes:
        model: Class name of the model.
        backend: One of `BACKENDS`.
        batch_size: Pictures a step, None before it is settled by their number.
        precision: One of `PRECISIONS`, Keras' dtype policy.
        image_size: Height and width, None for the data set's own.
        devices: How many share each batch.
    """

    model: str
    backend: str
    batch_size: int | None
    precision: str
    image_size: int | None
    devices: int


def run(
    models: Sequence[str] = MODELS,
    *,
    data: str | os.PathLike = "moon-phases",
    backends: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    precisions: Sequence[str] = ("float32",),
    image_sizes: Sequence[int] = (),
    devices: Sequence[int] = (1,),
    limit: int | None = 2000,
    epochs: int = 3,
    rounds: int = 2,
    data_dir: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | os.PathLike | None = None,
    progress: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Trains each model in each way, and measures what that costs.

    What fails, for want of memory or of a backend, is told with the reason and does not
    stop the others. Ctrl-C ends the measurement: what was measured is returned.

    Args:
        models: Class names of models, case ignored.
        data: Name of a data set, or path of a folder or zip of pictures.
        backends: Of `"tensorflow"`, `"jax"` and `"torch"`. Defaults to the one that
            KERAS_BACKEND names, else TensorFlow.
        batch_sizes: Pictures a step. Defaults to 128, or to all where there are fewer.
        precisions: Of `"float32"`, `"mixed_bfloat16"` and `"mixed_float16"`.
        image_sizes: Heights and widths of the pictures. Defaults to the data set's own.
        devices: How many devices share each batch, as after `keras_ae.distribute`; on
            PyTorch in a process each.
        limit: At most this many pictures an epoch, None for all.
        epochs: Epochs of each training, of which the first compiles.
        rounds: Trainings of each configuration, with seeds from 0.
        data_dir: Folder of data sets; by default `KERAS_AE_DATA`.
        settings: Arguments of the models' constructors.
        output: Folder that takes `benchmark.json` after each training, and in the end
            a table, `benchmark.md`, and a plot, `benchmark.png`.
        progress: Function that is told, in parts of lines, what is being done.

    Returns:
        What `benchmark.json` holds: `environment`, what was asked for, and a list
        `configurations`. Each has `pictures_a_second`, the median of all epochs but the
        first, beside its `spread` (least, greatest); by median of the rounds
        `epoch_seconds`, `epoch_processor_seconds` (of all cores),
        `first_epoch_seconds` (with compilation) and `first_step_after_seconds` (from
        the start of the process to the end of the first step, or of the first steps
        where several are one dispatch); `losses` by epoch, the rounds' mean;
        `host_bytes` and `device_bytes`, most memory in use (of the first of several
        processes), None where there is none;
        `parameters`, `feeding` (see `model.feeding`), `device`, `versions`, each
        training in `rounds`, and `error`, the reason of a failure or None.

    Raises:
        ValueError: If an argument is out of range, or `output` holds a benchmark.
        FileNotFoundError: If the data are not found.

    Example:

    ```python
    found = keras_ae.benchmark.run(
        ["vae", "vqvae"], data="mnist", backends=["tensorflow", "jax"], output="speed"
    )
    print(keras_ae.benchmark.table(found))
    ```
    """
    sizes = batch_sizes or (None,), image_sizes or (None,)
    plan = _plan(models, backends, sizes[0], precisions, sizes[1], devices)
    for name, value in (("epochs", epochs), ("rounds", rounds)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be an integer >= 1. Received: {value!r}")
    folder = None if output is None else pathlib.Path(output)
    if folder is not None and (folder / FILE).exists():
        raise ValueError(
            f"{folder / FILE} exists already; it is not overwritten. Choose another "
            "folder (`output`)."
        )
    loading = {"data": str(data), "limit": limit, "data_dir": None}
    if data_dir is not None:
        loading["data_dir"] = str(data_dir)
    entries = _entries(plan, loading)
    plan = [*entries]
    results = {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "environment": machine.environment(),
        **loading,
        "epochs": epochs,
        "rounds": rounds,
        "settings": dict(settings or {}),
        "stopped": False,
        "configurations": list(entries.values()),
    }
    tell = progress or (lambda text: None)
    turns, begun = _turns(plan, rounds), time.perf_counter()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        for number, (seed, configuration) in enumerate(turns, 1):
            entry = entries[configuration]
            if entry["error"]:
                continue
            tell(f"[{number}/{len(turns)}] {described(entry, results)}: ")
            wanted = {**loading, "epochs": epochs, "seed": seed}
            report = _train_apart(configuration, wanted, results["settings"])
            _take(entry, report)
            each = (time.perf_counter() - begun) / number
            tell(outcome(entry, report) + _left(each * (len(turns) - number)) + "\n")
            if folder is not None:
                files.write_json(folder / FILE, results)
    except KeyboardInterrupt:
        results["stopped"] = True
        tell("stopped\n")
    if folder is not None:
        _write(results, folder)
    return results


def command(
    models: Sequence[str], output: str | os.PathLike | None = None, **options: Any
) -> None:
    """Measures, says how far it has come, and prints the table.

    Args:
        models: As for `run`.
        output: Folder for the results; by default `runs/benchmark`, numbered where
            that exists.
        **options: As for `run`.

    Raises:
        ValueError: As for `run`, or if nothing could be measured.
        KeyboardInterrupt: If Ctrl-C was pressed, after the table.
    """
    folder = catalogue.run_directory("benchmark") if output is None else output

    def say(text):
        print(text, end="", flush=True)

    results = run(models, output=folder, progress=say, **options)
    print(f"\n{table(results)}\n\nTable, plot and figures are in {folder}", flush=True)
    done = sum(len(entry["rounds"]) for entry in results["configurations"])
    if results["stopped"]:
        stopped = KeyboardInterrupt()
        stopped.go_on = "What was measured is kept."  # type: ignore[attr-defined]
        raise stopped
    if not done:
        raise ValueError("Nothing could be measured; the reasons are above.")


# What is to be measured


def _plan(models, backends, batch_sizes, precisions, image_sizes, devices):
    """All configurations, each once."""
    backends = backends or (os.environ.get("KERAS_BACKEND") or BACKENDS[0],)
    for name, values, known in (
        ("backends", backends, BACKENDS),
        ("precisions", precisions, PRECISIONS),
    ):
        for value in values:
            if value not in known:
                raise ValueError(
                    f"`{name}` must be of {', '.join(known)}. Received: {value}"
                )
    for name, values in (
        ("batch_sizes", batch_sizes),
        ("image_sizes", image_sizes),
        ("devices", devices),
    ):
        for value in values:
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"`{name}` must be integers >= 1. Received: {value!r}")
    models = [catalogue.find_model(model) for model in models]
    lists = (models, backends, batch_sizes, precisions, image_sizes, devices)
    plan = [*map(Configuration._make, itertools.product(*map(dict.fromkeys, lists)))]
    if not plan:
        raise ValueError("There is nothing to measure: a list of choices is empty.")
    return plan


def _turns(plan, rounds):
    """Seed and configuration of each training; nobody always follows the same one."""
    return [
        (seed, configuration)
        for seed in range(rounds)
        for start in [seed % len(plan)]
        for configuration in plan[start:] + plan[:start]
    ]


def _entries(plan, loading):
    """What is known of each configuration before anything is measured."""
    shapes, entries = {}, {}
    for configuration in plan:
        size = configuration.image_size
        if size not in shapes:
            # What has to be decoded or downloaded is so here, once.
            images, _ = _load(loading, size)
            shapes[size] = images.shape
        count, *image_shape = shapes[size]
        if configuration.batch_size is None:
            settled = min(_BATCH_SIZE, count)
            configuration = configuration._replace(batch_size=settled)
        if configuration.batch_size > count:
            raise ValueError(
                f"`batch_sizes` must be at most {count:,}, the number of pictures. "
                f"Received: {configuration.batch_size}"
            )
        entries[configuration] = {
            **configuration._asdict(),
            "pictures": count,
            "image_shape": image_shape,
            "rounds": [],
            "error": _absent(configuration.backend),
        }
    return entries


def _load(loading, image_size):
    return datasets.load(
        loading["data"],
        "train",
        image_size=image_size,
        limit=loading["limit"],
        data_dir=loading["data_dir"],
        labels=True,
    )


def _absent(backend):
    if importlib.util.find_spec(backend) is None:
        return f"{backend} is not installed"
    return None


# Trainings, each in a process of its own, or in several


def _train_apart(configuration, wanted, settings):
    """Trains in a new process; returns its report, or one with an `error`."""
    with tempfile.TemporaryDirectory() as directory:
        report = pathlib.Path(directory, "report.json")
        request = {**wanted, **configuration._asdict(), "settings": settings}
        request |= {"report": str(report), "spawned": time.time()}
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        environment["KERAS_BACKEND"] = configuration.backend
        # The same package as here, however it was found.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        launcher = []
        if configuration.backend == "torch" and configuration.devices > 1:
            count = configuration.devices
            launcher = ["torch.distributed.run", "--standalone"]
            launcher += ["--nproc-per-node", str(count), "-m"]
            environment.setdefault(
                "OMP_NUM_THREADS", str(max(1, machine.cores() // count))
            )
        done = subprocess.run(
            [sys.executable, "-P", "-m", *launcher, _TRAINING, json.dumps(request)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("KERAS_AE_DEBUG") else subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            return json.loads(report.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"error": _ended(done.returncode, done.stderr)}


def _ended(status, stderr):
    """Why a process ended that has left no report."""
    if status < 0:
        name = signal.Signals(-status).name
        short_of_memory = ", as when memory runs out" * (name == "SIGKILL")
        return f"the process was ended by {name}{short_of_memory}"
    lines = (stderr or "").strip().splitlines()
    return f"the process ended with status {status}: {lines[-1] if lines else ''}"


# What was measured


def _take(entry, report):
    """Adds a training to what is known of its configuration."""
    if "error" in report:
        entry["error"] = report["error"]
        return
    told = ("device", "parameters", "feeding", "versions")
    entry |= {name: report.pop(name) for name in told}
    rounds = entry["rounds"]
    rounds.append(report)

    def median(measure):
        return statistics.median(map(measure, rounds))

    def most(name):
        known = [report[name] for report in rounds]
        return None if None in known else max(known)

    seconds = [s for report in rounds for s in machine.steady(report["seconds"])]
    speed, *spread = machine.spread([entry["pictures"] / s for s in seconds])
    by_epoch = zip(*(report["losses"] for report in rounds), strict=True)
    entry |= {
        "pictures_a_second": speed,
        "spread": spread,
        "epoch_seconds": statistics.median(seconds),
        "epoch_processor_seconds": median(
            lambda report: statistics.median(
                machine.steady(report["processor_seconds"])
            )
        ),
        "first_epoch_seconds": median(lambda report: report["seconds"][0]),
        "first_step_after_seconds": median(lambda report: report["first_step_after"]),
        "losses": [
            None if None in losses else statistics.fmean(losses) for losses in by_epoch
        ],
        "host_bytes": most("host_bytes"),
        "device_bytes": most("device_bytes"),
    }


def _left(seconds):
    """How long the rest will take, roughly."""
    if seconds < 1:
        return ""
    minutes = round(seconds / 60)
    time_left = f"{minutes} min" if minutes > 1 else f"{round(seconds)} s"
    return f" (about {time_left} left)"


def _write(results, folder):
    """Writes all files."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / FILE, results)
    with files.replacing(folder / "benchmark.md") as temporary:
        temporary.write_text(page(results), encoding="utf-8")
    if any(entry["rounds"] for entry in results["configurations"]):
        with files.replacing(folder / "benchmark.png") as temporary:
            plot(results).savefig(temporary)
