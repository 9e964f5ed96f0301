"""What several devices exchange in a step of each recipe, and what that lets expect.

    KERAS_BACKEND=torch python benchmarks/scaling.py --data-dir DIR [--processes 2]
        [RECIPE ...]

takes a few steps of each recipe's first model, alone and in processes that train
together as `--devices` starts them, on this machine's CPU or, where there are several
cards, on those. It counts the bytes of each exchange and the operations of each step,
times both, and writes `results/scaling.json` and `docs/measured/scaling.md`. What is in
the file already is not measured again.

From what is counted follows a model on paper of n cards that share each batch:

    t(n) = F / (n R) + o + Σ over exchanges (c(n) S / W + l)

with F operations a step in the networks, at a rate R; o of a step's own time, whatever
its batch; S bytes an exchange, of which c(n) = 2 (n - 1) / n pass the slowest link
where they are summed and (n - 1) / n where they are gathered; W the bytes a second of a
link and l its latency. Nothing overlaps: sums of gradients follow the way back, and
what networks give is gathered before anything looks at it. The efficiency is
t(1) / (n t(n)).
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras

import keras_ae
from keras_ae import catalogue, runs
from keras_ae.files import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scaling.json"
PAGE = HERE.parent / "docs" / "measured" / "scaling.md"
STEPS = 6
# Settings with which a recipe soon comes to the run's own model.
SETTINGS = {
    "mnist-missing": {"ratios": (0.5,)},
    "mnist-deep-cnn": {"depths": (20,), "steps": 50},
}
# Operations a second that networks like these reach on a card, in float32; the time of
# a step whatever its batch; and of the links within a host and between hosts, bytes a
# second and latency in seconds.
RATE, OVERHEAD = 20e12, 2e-3
LINKS = {"8 cards of a host": (200e9, 20e-6), "8 hosts of a card": (10e9, 50e-6)}
COUNT = 8


class Enough(Exception):
    """Ends a recipe whose first training was measured."""


class Measured(runs.Run):
    """A run of which a few steps are measured, and nothing is written.

    Args:
        row: Dict that gets what was found.
    """

    def __init__(self, row, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.row = row

    def child(self, name):
        return self

    def fit(self, model, train, validation, *, batch_size, labels=None, **kwargs):
        batch_size = min(self.batch_size or batch_size, len(train))
        few = train[: STEPS * batch_size]
        watch = Watch()
        model.fit(
            few,
            None if labels is None else labels[: len(few)],
            batch_size=batch_size,
            epochs=1,
            shuffle=False,
            verbose=0,
            callbacks=[watch],
        )
        self.row |= {
            "model": type(model).__name__,
            "batch_size": batch_size,
            "shape": list(model.image_shape),
            "weights": sum(v.value.nbytes for v in model.trainable_variables),
            **watch.found(),
        }
        if "RANK" not in os.environ:
            told = None if labels is None else labels[:batch_size]
            self.row["operations"] = operations(model, few, batch_size, told)
        raise Enough


class Watch(keras.callbacks.Callback):
    """Counts exchanges and operations, and times steps, once all is warm."""

    exchanges: list[tuple[str, int]] = []

    def __init__(self):
        super().__init__()
        self.marks = []

    def on_train_batch_end(self, batch, logs=None):
        self.marks.append((time.perf_counter(), len(self.exchanges)))

    def found(self):
        marks = self.marks[1:]
        steps = len(marks) - 1
        kinds = {}
        for kind, size in self.exchanges[marks[0][1] : marks[-1][1]]:
            entry = kinds.setdefault(kind, {"count": 0, "bytes": 0})
            entry["count"] += 1 / steps
            entry["bytes"] += size / steps
        seconds = [b[0] - a[0] for a, b in itertools.pairwise(marks)]
        return {"seconds": sorted(seconds)[steps // 2], "exchanges": kinds}


def count_exchanges():
    """Has what PyTorch's processes exchange counted."""
    from torch import distributed

    def counted(kind, exchange, whole):
        def call(*args, **kwargs):
            Watch.exchanges.append((kind, whole(*args)))
            return exchange(*args, **kwargs)

        return call

    for name, kind, whole in (
        ("all_reduce", "summed", lambda x, *_: x.nbytes),
        ("all_gather", "gathered", lambda parts, *_: sum(x.nbytes for x in parts)),
        ("broadcast", "sent", lambda x, *_: x.nbytes),
    ):
        exchange = getattr(distributed, name)
        setattr(distributed, name, counted(kind, exchange, whole))


def operations(model, few, batch_size, labels):
    """Returns the operations of matrices and convolutions in a step of a model."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            result = function(*args, **kwargs)
            count = flop_registry.get(function.overloadpacket)
            if count is not None:
                self.total += count(*args, **kwargs, out_val=result)
            return result

    with Counter() as counter:
        if not hasattr(model, "table"):
            model.train_on_batch(few[:batch_size], labels)
            return counter.total
        # One that has a code for each example takes all of them.
        model.fit(few, batch_size=batch_size, epochs=1, shuffle=False, verbose=0)
    return counter.total // STEPS


def measure(name, data_dir):
    """Returns what is found of a recipe's first training, or why nothing is."""
    path, row = catalogue.find_recipe(name), {}
    with tempfile.TemporaryDirectory() as folder:
        run = Measured(row, folder, name, limit=4096, data_dir=data_dir)
        try:
            catalogue.load(path)(run, **SETTINGS.get(name, {}))
        except Enough:
            return row
        except (ValueError, FileNotFoundError, TypeError) as error:
            return {"left out": str(error).splitlines()[0]}
    return {"left out": "it trains otherwise than by `run.fit`"}


def work(arguments):
    """Measures in this process, alone or one of several, and prints a row."""
    if "RANK" in os.environ:
        count_exchanges()
        keras_ae.distribute()
    for name in arguments.recipes:
        row = measure(name, arguments.data_dir)
        if os.environ.get("RANK", "0") == "0":
            print("ROW " + json.dumps(row), flush=True)


def measured(name, data_dir, processes):
    """Returns the row of a recipe, of processes that are started for it."""
    command = [__file__, "--work", "--data-dir", data_dir, name]
    if processes > 1:
        count = f"--nproc-per-node={processes}"
        command = ["-m", "torch.distributed.run", count, *command]
    done = subprocess.run(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("ROW ")]
    if done.returncode or not rows:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}.")
    return json.loads(rows[-1].removeprefix("ROW "))


def seconds_of(row, exchanges, count, link):
    """Returns the time of a step on paper."""
    width, latency = link
    share = {"summed": 2 * (count - 1) / count, "sent": 1.0}
    spent = row["operations"] / (count * RATE) + OVERHEAD
    for kind, exchange in exchanges.items() if count > 1 else ():
        size = share.get(kind, (count - 1) / count) * exchange["bytes"]
        spent += size / width + exchange["count"] * latency
    return spent


def page(results):
    """The table, one row a recipe."""
    columns = ["recipe", "model", "batch", "Gflop a step", "MB summed", "MB gathered"]
    columns += ["exchanges a step"]
    columns += [f"{where}, {how}" for where in LINKS for how in ("same", "8 times")]
    lines = [
        "# Several devices, on paper",
        "",
        "Per step of each recipe: operations in matrices and convolutions, and what "
        "processes exchange, both counted as they train together on PyTorch; then the "
        "efficiency that this lets expect of 8 cards, with the recipe's batch and with "
        "one of 8 times as many examples. Written by `benchmarks/scaling.py`, whose "
        "docstring has the model: cards of "
        f"{RATE / 1e12:.0f} Tflop/s and {OVERHEAD * 1e3:.0f} ms a step, "
        + "; ".join(
            f"{where}: {width / 1e9:.0f} GB/s, {latency * 1e6:.0f} µs"
            for where, (width, latency) in LINKS.items()
        )
        + ". Those are assumptions: several cards were not at hand. 1 / 8 is what 8 "
        "cards make of a step that none of them shortens.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for name, row in results["recipes"].items():
        if "left out" in row:
            continue
        exchanges = row["exchanges"]
        summed, gathered = (
            exchanges.get(kind, {"bytes": 0})["bytes"] / 1e6
            for kind in ("summed", "gathered")
        )
        cells = [
            name,
            row["model"],
            str(row["batch_size"]),
            f"{row['operations'] / 1e9:.1f}",
            f"{summed:.2f}",
            f"{gathered:.2f}",
            f"{sum(e['count'] for e in exchanges.values()):.0f}",
        ]
        for link in LINKS.values():
            for times in (1, COUNT):
                larger = {**row, "operations": times * row["operations"]}
                more = {
                    kind: {
                        **e,
                        "bytes": e["bytes"] * (1 if kind == "summed" else times),
                    }
                    for kind, e in exchanges.items()
                }
                alone, shared = (seconds_of(larger, more, n, link) for n in (1, COUNT))
                cells.append(f"{alone / (COUNT * shared):.0%}")
        lines.append("| " + " | ".join(cells) + " |")
    left = [
        f"- `{name}` is left out: {row['left out']}"
        for name, row in results["recipes"].items()
        if "left out" in row
    ]
    lines += ["", *left] if left else []
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=[*catalogue.recipes()])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"recipes": {}}
    found = results["recipes"]
    results |= {"processes": arguments.processes, "environment": runs.environment()}
    for name in arguments.recipes:
        if name in found:
            continue
        found[name] = measured(name, arguments.data_dir, 1)
        if "left out" not in found[name]:
            together = measured(name, arguments.data_dir, arguments.processes)
            if "left out" in together:
                found[name] = together
            else:
                found[name] |= {
                    "exchanges": together["exchanges"],
                    "seconds_together": together["seconds"],
                }
        # Recipes are many: what is cut keeps those that are done.
        write_json(RESULTS, results)
        PAGE.write_text(page(results))
    return None


if __name__ == "__main__":
    main()
