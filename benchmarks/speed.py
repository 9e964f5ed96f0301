"""Times `fit` side by side with its peers, on one machine and in one run.

    python benchmarks/speed.py --workload mlp --data-dir DIR --pythae PYTHON

trains the same VAE with `fit` of keras-ae, `fit` of Keras itself on a model written as
its examples are, a loop written by hand for the backend, and pythae, each in a process
of its own, in rounds that take turns. It writes times, losses, memory, versions and the
machine to `docs/measured/speed-WORKLOAD-MACHINE.json`, beside it a table (`.md`) and a
plot (`.png`), and says so if the contestants' losses disagree. Who is not installed is
named and left out. pythae trains with PyTorch and wants older packages: give it an
environment of its own (`python -m venv DIR`, `DIR/bin/pip install pythae`) and name its
interpreter with `--pythae`.

    python benchmarks/speed.py --workload cache --data-dir DIR

times instead how fast CelebA's JPEGs become a cache, beside Pillow alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_ae import machine

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
sys.path.insert(0, str(HERE / "peers"))

import workloads  # noqa: E402

BACKENDS = ("tensorflow", "jax", "torch")
# Two curves agree that differ by no more than this, as a share of the loss.
TOLERANCE = 0.02
# Of cards: operations a second in float32 and in bfloat16, bytes a second.
PEAKS = {
    "V100": (15.7e12, None, 0.9e12),
    "A100": (19.5e12, 312e12, 1.94e12),
    "H100": (66.9e12, 989e12, 3.35e12),
    "H200": (66.9e12, 989e12, 4.8e12),
}


def contestants(backends, workload):
    """Name, module, backend and needed packages of everyone who could take part."""
    found = []
    for backend in backends:
        needed = ("keras", backend)
        found.append((f"keras-ae {backend}", "fit_keras_ae", backend, needed))
        if workload.architecture != "vqvae":
            found.append((f"Keras {backend}", "fit_keras", backend, needed))
            module = f"loop_{backend}"
            found.append((f"hand-written {backend}", module, backend, (backend,)))
    found.append(("pythae", "train_pythae", "torch", ("pythae",)))
    return found


def installed(python, packages) -> bool:
    code = (
        "import importlib.util, sys; "
        "sys.exit(not all(importlib.util.find_spec(p) for p in sys.argv[1:]))"
    )
    return subprocess.run([python, "-c", code, *packages]).returncode == 0


def race(name, module, backend, python, settings):
    """Lets one contestant train in a process of its own; returns its report."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        report, path = directory / "report.json", directory / "settings.json"
        settings = {**settings, "module": module, "report": str(report)}
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        environment["KERAS_BACKEND"] = backend
        path.write_text(json.dumps({**settings, "spawned": time.time()}))
        done = subprocess.run(
            [python, str(HERE / "peers" / "run.py"), str(path)],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
        return json.loads(report.read_text())


def measure(workload, data, options):
    """Runs all rounds; returns the reports of each contestant, and who was skipped.

    The first turn of each is one step, which tells how long it takes to get there.
    """
    pythons = {"pythae": options.pythae}
    present, skipped = [], []
    for name, module, backend, needed in contestants(options.backends, workload):
        python = pythons.get(name, sys.executable)
        if installed(python, needed):
            present.append((name, module, backend, python))
        else:
            skipped.append(name)
            print(f"{name}: not installed ({' and '.join(needed)}), skipped")
    settings = {
        "workload": workload,
        "precision": options.precision,
    }
    reports = {name: [] for name, *_ in present}
    starts = {}
    with tempfile.TemporaryDirectory() as directory:
        whole, batch = (Path(directory) / f"{name}.npy" for name in ("whole", "batch"))
        np.save(whole, data)
        np.save(batch, data[: workload.batch_size])
        first = {**settings, "data": str(batch), "epochs": 1, "seed": 0}
        for contestant in present:
            starts[contestant[0]] = race(*contestant, first)["first_epoch_after"]
            print(f"{contestant[0]}: first step after {starts[contestant[0]]:.1f} s")
        settings |= {"data": str(whole), "epochs": options.epochs}
        for seed in range(options.rounds):
            # Nobody always runs after the same one.
            order = present[seed % len(present) :] + present[: seed % len(present)]
            for contestant in order:
                name = contestant[0]
                report = race(*contestant, {**settings, "seed": seed})
                reports[name].append(report)
                seconds = " ".join(f"{s:.2f}" for s in report["seconds"])
                loss = report["losses"][-1]
                print(
                    f"round {seed + 1}, {name}: epochs of {seconds} s, loss {loss:.2f}"
                )
    return reports, starts, skipped


def steady(report, clock="seconds") -> float:
    """Seconds of an epoch, compilation left out."""
    return statistics.median(machine.steady(report[clock]))


def summary(workload, pictures, reports, starts, options):
    """What is told of each contestant."""
    found = {}
    for name, rounds in reports.items():
        epochs = [steady(report) for report in rounds]
        devices = [report["device_bytes"] for report in rounds]
        kind, _, backend = name.partition(" ")
        references = {"pythae": reports.get("pythae")}
        if kind == "keras-ae":
            references["hand-written"] = reports.get(f"hand-written {backend}")
            references["Keras"] = reports.get(f"Keras {backend}")
        ratios = {
            reference: [
                steady(ours) / steady(theirs)
                for ours, theirs in zip(rounds, others, strict=True)
            ]
            for reference, others in references.items()
            if others and reference != name
        }
        found[name] = {
            "epoch_seconds": statistics.median(epochs),
            "epoch_seconds_by_round": epochs,
            "epoch_processor_seconds": statistics.median(
                steady(report, "processor_seconds") for report in rounds
            ),
            "first_epoch_seconds": statistics.median(r["seconds"][0] for r in rounds),
            "first_step_after_seconds": starts[name],
            "pictures_a_second": pictures / statistics.median(epochs),
            "ratios": {
                reference: machine.spread(rounds)
                for reference, rounds in ratios.items()
            },
            "losses": np.mean([r["losses"] for r in rounds], axis=0).tolist(),
            "host_bytes": max(r["host_bytes"] for r in rounds),
            "device_bytes": None if None in devices else max(devices),
            "device": rounds[0]["device"],
            "versions": rounds[0]["versions"],
        }
        peaks = roofline(workload, found[name], options)
        if peaks:
            found[name]["roofline"] = peaks
    return found


def roofline(workload, result, options):
    """Share of what the card could do at most, by arithmetic and by memory traffic."""
    if workload.architecture == "vqvae":
        return None
    low = options.precision != "float32"
    known = next(
        (peaks for card, peaks in PEAKS.items() if card in result["device"].upper()),
        (None, None, None),
    )
    operations = options.peak_operations or known[low]
    bandwidth = options.peak_bandwidth or known[2]
    if not operations or not bandwidth:
        return None
    needed = workloads.cost(workload)
    fastest = max(needed["operations"] / operations, needed["bytes"] / bandwidth)
    return {
        "operations_a_picture": needed["operations"],
        "bytes_a_picture": needed["bytes"],
        "peak_operations_a_second": operations,
        "peak_bytes_a_second": bandwidth,
        "operations_a_second": needed["operations"] * result["pictures_a_second"],
        "share_of_peak": fastest * result["pictures_a_second"],
    }


def disagreeing(results) -> list[str]:
    """Contestants whose loss is not, after any epoch, that of most others."""
    curves = np.array([result["losses"] for result in results.values()])
    middle = np.median(curves, axis=0)
    # The first epoch starts from other weights in each.
    apart = np.abs(curves - middle)[:, 1:] > TOLERANCE * np.abs(middle[1:])
    return [
        name for name, row in zip(results, apart.any(axis=1), strict=True) if row.any()
    ]


def table(results) -> str:
    rows = [
        "| contestant | epoch | processor | of pythae's | of the hand-written loop's | "
        "of Keras' | pictures a second | first epoch | first step | memory | loss |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]

    def ratio(result, reference):
        if reference not in result["ratios"]:
            return ""
        return "{:.2f} ({:.2f}–{:.2f})".format(*result["ratios"][reference])

    for name, result in results.items():
        memory = result["device_bytes"] or result["host_bytes"]
        cells = [
            name,
            f"{result['epoch_seconds']:.2f} s",
            f"{result['epoch_processor_seconds']:.2f} s",
            ratio(result, "pythae"),
            ratio(result, "hand-written"),
            ratio(result, "Keras"),
            f"{result['pictures_a_second']:,.0f}",
            f"{result['first_epoch_seconds']:.1f} s",
            f"{result['first_step_after_seconds']:.1f} s",
            f"{memory / 2**30:.2f} GiB",
            f"{result['losses'][-1]:.2f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    for name, result in results.items():
        if "roofline" in result:
            peak = result["roofline"]
            rows.append(
                f"\n{name}: {peak['operations_a_picture'] / 1e6:.1f} million "
                f"operations and {peak['bytes_a_picture'] / 1e3:.0f} kB a picture; "
                f"{peak['operations_a_second'] / 1e12:.2f} of "
                f"{peak['peak_operations_a_second'] / 1e12:.0f} TFLOP/s, "
                f"{peak['share_of_peak']:.1%} of what arithmetic or memory allows."
            )
    return "\n".join(rows) + "\n"


def plot(results, title, path):
    """Losses by epoch, which should lie upon each other, and times of an epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6 + 0.12 * len(results)), layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=(1, 1.2))
    figure.suptitle(title)
    markers = "osD^v<>Pp*X"
    colours = {}
    for i, (name, result) in enumerate(results.items()):
        epochs = range(1, len(result["losses"]) + 1)
        (line,) = curves.plot(
            epochs,
            result["losses"],
            marker=markers[i % len(markers)],
            markerfacecolor="none",
            linewidth=1,
            label=name,
        )
        colours[name] = line.get_color()
    curves.set(xlabel="epoch", ylabel="loss, nats a picture")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.legend(frameon=False, fontsize="small")
    names = sorted(results, key=lambda name: -results[name]["epoch_seconds"])
    times = [results[name]["epoch_seconds"] for name in names]
    spread = [
        (
            results[name]["epoch_seconds"]
            - min(results[name]["epoch_seconds_by_round"]),
            max(results[name]["epoch_seconds_by_round"])
            - results[name]["epoch_seconds"],
        )
        for name in names
    ]
    drawn = bars.barh(
        names, times, xerr=np.transpose(spread), color=[colours[name] for name in names]
    )
    bars.bar_label(drawn, fmt=" %.2f s", padding=4)
    bars.set(xlabel="seconds an epoch")
    bars.margins(x=0.15)
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def load(workload, options):
    """The pictures, read with the first backend that is installed."""
    for backend in options.backends:
        if installed(sys.executable, ("keras", backend)):
            os.environ.setdefault("KERAS_BACKEND", backend)
    import keras_ae

    pictures = options.pictures or workload.pictures
    x = keras_ae.datasets.load(
        workload.data,
        "train",
        data_dir=options.data_dir,
        image_size=workload.image_shape[0],
        limit=pictures,
    )
    return np.asarray(x).reshape(-1, *workload.image_shape)


def main(options):
    if options.workload == "cache":
        return measure_cache(options)
    workload = workloads.WORKLOADS[options.workload]
    workload = workload._replace(batch_size=options.batch_size or workload.batch_size)
    if options.quick:
        options.pictures = options.pictures or 6_000
        options.epochs, options.rounds = options.epochs or 3, options.rounds or 2
        options.backends = options.backends or BACKENDS[:1]
    options.backends = options.backends or BACKENDS
    options.epochs = options.epochs or workload.epochs
    options.rounds = options.rounds or 3
    data = load(workload, options)
    reports, starts, skipped = measure(workload, data, options)
    results = summary(workload, len(data), reports, starts, options)
    apart = disagreeing(results)
    kept = {
        "command": shown(options),
        "environment": machine.environment(),
        "workload": workload._asdict() | {"pictures": len(data)},
        "precision": options.precision,
        "rounds": options.rounds,
        "skipped": skipped,
        "losses_disagree": apart,
        "contestants": results,
    }
    device = next(iter(results.values()))["device"]
    path = written(kept, device, options)
    title = (
        f"{options.workload}: {len(data):,} pictures of {workload.data}, "
        f"batch {workload.batch_size}, "
        f"{machine.processor() if device == 'cpu' else device}"
    )
    text = table(results)
    path.with_suffix(".md").write_text(f"# {title}\n\n{text}")
    plot(results, title, path.with_suffix(".png"))
    print(f"\n{text}\n{path}")
    for contestant in apart:
        print(
            f"The loss of {contestant} is more than {TOLERANCE:.0%} from that of most "
            "others: its time can't be compared."
        )
    return kept


def measure_cache(options):
    import cache

    kept = {
        "command": "python benchmarks/speed.py --workload cache",
        "environment": machine.environment(),
        **cache.measure(options.data_dir, options.rounds or 3),
    }
    print(json.dumps(kept, indent=2))
    written(kept, "cpu", options)
    return kept


def written(kept, device, options) -> Path:
    """Writes what was measured; returns the path."""
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"speed-{options.workload}-{machine.kind(device)}.json"
    path = options.output / name
    path.write_text(json.dumps(kept, indent=2) + "\n")
    return path


def shown(options) -> str:
    """The command without what is peculiar to a machine."""
    words = ["python benchmarks/speed.py", f"--workload {options.workload}"]
    words.append(f"--backends {' '.join(options.backends)}")
    words.append(f"--rounds {options.rounds} --epochs {options.epochs}")
    if options.pictures:
        words.append(f"--pictures {options.pictures}")
    if options.batch_size:
        words.append(f"--batch-size {options.batch_size}")
    if options.precision != "float32":
        words.append(f"--precision {options.precision}")
    return " ".join(words)


def parsed(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workload", choices=(*workloads.WORKLOADS, "cache"), default="mlp"
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--epochs", type=int, help="epochs of a round")
    parser.add_argument("--pictures", type=int, help="pictures an epoch, at most")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16"), default="float32"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one backend, few pictures, two rounds"
    )
    parser.add_argument("--data-dir", help="folder of data sets (KERAS_AE_DATA)")
    parser.add_argument(
        "--pythae",
        default=sys.executable,
        metavar="PYTHON",
        help="interpreter of an environment that has pythae",
    )
    parser.add_argument("--output", type=Path, default=DOCS / "measured")
    parser.add_argument(
        "--peak-operations",
        type=float,
        help="the card's operations a second, where the script does not know it",
    )
    parser.add_argument("--peak-bandwidth", type=float, help="its bytes a second")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parsed())
