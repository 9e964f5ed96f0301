"""Kills runs at random instants and resumes them: are they the run nothing disturbed?

    python tests/kills.py [--tries 20] [--seed 0] [--receipt]

`KERAS_BACKEND` says on which backend. Each try is one training with a run beside it,
pictures and a report, or with `--receipt` one of `benchmarks/receipts.py`, killed once
or several times until a start comes through, then compared with a whole one in every
file, but for times. It ends with status 1 if one differs.
"""

import argparse
import csv
import json
import multiprocessing
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RECIPE = '''"""A tiny VAE on tiny moons, and an autoencoder beside it."""
import keras_ae


def main(run):
    train, validation, test = run.load("moon-phases", image_size=8)
    networks = {"architecture": "dense", "widths": (16,)}
    training = {"epochs": 3, "batch_size": 16}
    vae = run.model(lambda: compiled(keras_ae.VAE(2, **networks)))
    run.fit(vae, train, validation, **training)
    beside = run.child("beside")
    ae = beside.model(lambda: compiled(keras_ae.AE(2, **networks)))
    beside.fit(ae, train, validation, **training)
    run.evaluate(vae, test)
    run.pictures(vae, test, run.labels["test"]["phase"], "phase")


def compiled(model):
    model.compile()
    return model
'''
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# What tells of the first of several starts, when, and how long.
RESUMED = r'<tr><th scope="row">First .*?</tr>|\| First .*\n|<details>.*?</details>'
TIMES = r"[\d.]+ (s|min|h)\b|\d{4}-\d\d-\d\d[T ][\d:.+]+|--resume"


def start(folder, directory, resume):
    """Runs the recipe in this process; ends it with its status."""
    os.chdir(folder)
    # Its words are not wanted, and a pipe would be another thing that breaks.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    from keras_ae import cli

    again = ("--resume",) if resume else ("--limit", "48")
    cli.main(["recipe", "tiny.py", "--run-dir", directory, *again])


def receipt(folder, directory, resume):
    """Trains a receipt on made digits in this process, from where it was cut."""
    os.chdir(folder)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.path.insert(0, str(BENCHMARKS))
    import receipts

    # A checkpoint every other epoch or so.
    receipts.BETWEEN = 0.2
    few = ("--epochs", "12", "--limit", "400")
    receipts.main(["VAE, code of 2", "--data-dir", ".", *few, "--runs", directory])


def made_digits(path):
    """Writes MNIST's file with digits that are noise, and black after the first."""
    rng = np.random.default_rng(0)
    digits = {}
    for split, count in (("train", 60_000), ("test", 10_000)):
        x = np.zeros((count, 28, 28), "uint8")
        x[:400] = rng.integers(0, 256, (400, 28, 28))
        digits |= {f"x_{split}": x, f"y_{split}": np.arange(count) % 10}
    np.savez_compressed(path, **digits)


def whole(context, folder, start):
    """Runs it undisturbed in `whole`; returns the seconds it took."""
    begin = time.monotonic()
    process = context.Process(target=start, args=(folder, "whole", False))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the undisturbed run ended with status {process.exitcode}")
    return time.monotonic() - begin


def killed(context, folder, start, directory, seconds, rng):
    """Starts it, kills it, and resumes until it ends; returns how often it was killed.

    Each start is given longer than the one before, so that one comes through.
    """
    for count in range(12):
        resume = (folder / directory / "settings.json").exists()
        process = context.Process(target=start, args=(folder, directory, resume))
        process.start()
        process.join(rng.uniform(0, seconds * (1 + count / 2)))
        if process.exitcode is None:
            process.kill()
            process.join()
        elif process.exitcode:
            raise SystemExit(
                f"{folder / directory}: after {count} kills it ended with status "
                f"{process.exitcode}"
            )
        else:
            return count
        if start is receipt:
            continue
        if not resume and (folder / directory).exists():
            left = [*(folder / directory).iterdir()]
            if left and not (folder / directory / "settings.json").exists():
                raise SystemExit(f"{folder / directory} can't be resumed: {left}")
    raise SystemExit(f"{folder / directory} did not end")


def differences(one, other):
    """Names of the files that differ in more than times."""
    names = [
        {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
        for run in (one, other)
    ]
    found = [f"{name} is in one only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if content(one / name) != content(other / name):
            found.append(str(name))
    return found


def content(path):
    """What a file of a run says, without times."""
    if path.suffix == ".keras":
        from keras_ae import callbacks, runs

        rows = callbacks.read_note(path)
        weights = [weight.tobytes() for weight in runs.load_model(path).get_weights()]
        return weights, [{**row, "seconds": 0} for row in rows]
    if path.name == "history.csv":
        with open(path, newline="") as file:
            return [{**row, "seconds": 0} for row in csv.DictReader(file)]
    if path.name in ("settings.json", "evaluation.json", "receipt.json"):
        read = json.loads(path.read_text())
        for name in (
            *("command", "started", "first_command", "first_started", "again"),
            *("seconds_of_the_last_session", "commit"),
        ):
            read.pop(name, None)
        return json.loads(re.sub(TIMES, "", json.dumps(read)))
    if path.suffix in (".html", ".md"):
        text = re.sub(
            r"whole|first|killed-\d+", "", re.sub(TIMES, "", path.read_text())
        )
        return re.sub(RESUMED, "", text)
    return path.read_bytes()


def campaign(tries, seed, folder, start=start):
    """Kills `tries` runs in `folder`; returns a line for each that differs."""
    (folder / "tiny.py").write_text(RECIPE)
    made_digits(folder / "mnist.npz")
    os.environ["KERAS_AE_CACHE"] = str(folder / "cache")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_ae.cli.commands", "kills"])
    rng = random.Random(seed)
    whole(context, folder, start)
    # The first start imports; this one is as long as the others.
    whole_again = folder / "whole"
    whole_again.rename(folder / "first")
    seconds = whole(context, folder, start)
    lines = [
        f"undisturbed: {line}" for line in differences(folder / "first", whole_again)
    ]
    for number in range(tries):
        directory = f"killed-{number}"
        kills = killed(context, folder, start, directory, seconds, rng)
        found = differences(folder / "whole", folder / directory)
        print(
            f"{number + 1:4} of {tries}: {kills} kills, {found or 'the same'}",
            flush=True,
        )
        lines += [f"try {number}: {line}" for line in found]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--receipt", action="store_true", help="kill a receipt")
    arguments = parser.parse_args()
    kind = receipt if arguments.receipt else start
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(arguments.tries, arguments.seed, Path(folder), kind)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
