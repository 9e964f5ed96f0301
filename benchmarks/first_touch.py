"""What a model draws of one's own data with nothing set, beside its other samplers.

    KERAS_BACKEND=jax python benchmarks/first_touch.py --data-dir DIR [--data NAME ...]

trains each model of `MODELS` on each data set of `DATA` with the batch size of
`keras-ae train` for `--steps` steps, without early stopping, and keeps what it measures
in `results/first_touch.json` as it goes. What is in the file already is not trained
again. The table is `docs/measured/first_touch.md`. `--sheets FOLDER` keeps sheets of
the samples; `--samplers` leaves out others of those that are compared with, such as the
flow, which takes a minute.

Samples are compared with held-back examples by the Fréchet distance of 30 principal
components of the training examples; a number of 0 would be perfect, and `real` is what
training examples themselves come to.
"""

import argparse
import json
import math
import time
from pathlib import Path

import keras
import numpy as np

from keras_ae import datasets, metrics, models, plots, runs
from keras_ae.cli import commands
from keras_ae.files import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "first_touch.json"
PAGE = HERE.parent / "docs" / "measured" / "first_touch.md"
SEED, COMPONENTS, SAMPLES = 0, 30, 2000
MODELS = (
    "AE",
    "VAE",
    "BetaVAE",
    "SigmaVAE",
    "IWAE",
    "WAE",
    "RAE",
    "AAE",
    "VAEGAN",
    "VQVAE",
    "AutoDecoder",
    "GLO",
    "VariationalAutoDecoder",
)
SAMPLERS = ("gaussian", "mixture", "maf")
FACES = "celeba_10k_89x109.zip"


def small_faces(where):
    faces = _pictures(FACES, where, 2000, (28, 20))
    return _split(np.rint(faces.mean(axis=-1, keepdims=True)).astype("uint8"), 1500)


def few_faces(where):
    return _split(_pictures(FACES, where, 2000, 32), 1500)


def faces(where):
    return _split(_pictures(FACES, where, 10_000, 32), 8000)


def moons(where):
    return _split(datasets.load("moon-phases", split="all", limit=4000), 3500)


def digits(where):
    return _split(_pictures("mnist", where, 10_000), 8000)


def clothes(where):
    return _split(_pictures("fashion-mnist", where, 10_000), 8000)


def table(where):
    """Normal rows of a public table, standardised."""
    with np.load(Path(where) / "tables" / "satellite.npz") as file:
        rows = file["X"][file["y"] == 0].astype("float32")
    rows = rows[np.random.default_rng(SEED).permutation(len(rows))]
    train, test = np.split(rows, [int(0.8 * len(rows))])
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    return (train - mean) / deviation, (test - mean) / deviation


DATA = {
    "small grey faces": small_faces,
    "1,500 faces": few_faces,
    "8,000 faces": faces,
    "MNIST": digits,
    "Fashion-MNIST": clothes,
    "moons": moons,
    "table": table,
}


def _pictures(name, where, limit, image_size=None):
    path = Path(where) / name
    return np.asarray(
        datasets.load(
            str(path) if path.exists() else name,
            split="train" if datasets.recognise(name) else "all",
            image_size=image_size,
            limit=limit,
            data_dir=where,
        )
    )


def _split(examples, count):
    return examples[:count], examples[count:]


class Distance:
    """Fréchet distance to held-back examples, in principal components."""

    def __init__(self, train, test):
        flat = _flat(train)
        self.mean = flat.mean(axis=0)
        axes = np.linalg.svd(flat[:4000] - self.mean, full_matrices=False)[2]
        self.axes = axes[:COMPONENTS].T
        self.test = self.project(test)

    def project(self, examples):
        return (_flat(examples) - self.mean) @ self.axes

    def __call__(self, examples):
        return float(metrics.frechet_distance(self.test, self.project(examples)))


def _flat(examples):
    floats = examples / 255 if examples.dtype == np.uint8 else examples
    return floats.reshape(len(floats), -1).astype("float64")


def measure(name, train, distance, sheet=None, steps=2000, samplers=SAMPLERS):
    """Trains a model with nothing set; returns its distances by sampler."""
    batch_size = commands.training_plan(len(train)).batch_size
    epochs = math.ceil(steps / math.ceil(len(train) / batch_size))
    keras.utils.set_random_seed(SEED)
    model = getattr(models, name)()
    start = time.perf_counter()
    with model.choosing_later():
        history = model.fit(
            train, batch_size=batch_size, epochs=epochs, verbose=0
        ).history
    fitted = time.perf_counter() - start
    model.remember(train)
    start = time.perf_counter()
    choice = model.choose_sampler()
    chosen = time.perf_counter() - start
    samples = model.sample(SAMPLES, seed=SEED)
    distances = {"default": distance(samples)}
    if model.has_prior:
        prior = model.sample(SAMPLES, seed=SEED, sampler="prior")
        distances["prior"] = distance(prior)
    # Codes that are searched for take minutes: once for all samplers.
    codes = model.codes_to_fit(train, SEED)
    model.codes_to_fit = lambda x, seed: codes
    for sampler in samplers:
        if sampler in model.SAMPLERS:
            model.fit_sampler(sampler, train)
            drawn = model.sample(SAMPLES, seed=SEED, sampler=sampler)
            distances[sampler] = distance(drawn)
    if sheet is not None and samples.ndim > 2:
        plots.sheet(samples[:64]).save(sheet)
    return {
        "chosen": choice.sampler if choice else "prior",
        "distances": distances,
        "epochs": epochs,
        "steps": steps,
        "seconds_of_fit": fitted,
        "seconds_of_choice": chosen,
        "logged": {key: values[-1] for key, values in history.items()},
    }


def page(results):
    """The table, one row a model and data set."""
    lines = [
        "# First touch",
        "",
        "Fréchet distances of samples of models that were trained with nothing set, "
        "by what they are drawn from; * marks rows that had no flow beside them. "
        "Written by `benchmarks/first_touch.py`, whose docstring says how.",
        "",
        "| data | model | steps | default | what it is | prior | best other | seconds "
        "of `fit` | of choosing |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for data, found in results.items():
        lines.append(f"| {data} | real | | {found['real']:.3f} | | | | | |")
        for name, row in found["models"].items():
            if "refused" in row:
                lines.append(f"| {data} | {name} | | | {row['refused']} | | | | |")
                continue
            distances = dict(row["distances"])
            default, prior = distances.pop("default"), distances.get("prior")
            best = min(distances, key=distances.get) if distances else None
            mark = "" if "maf" in distances else " *"
            lines.append(
                f"| {data} | {name} | {row['steps']:,}{mark} | {default:.3f} | "
                f"{row['chosen']} | "
                + (f"{prior:.3f}" if prior is not None else "")
                + " | "
                + (f"{best} {distances[best]:.3f}" if best else "")
                + f" | {row['seconds_of_fit']:.0f} | {row['seconds_of_choice']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--data", nargs="*", default=[*DATA])
    parser.add_argument("--models", nargs="*", default=[*MODELS])
    parser.add_argument("--samplers", nargs="*", default=[*SAMPLERS], choices=SAMPLERS)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for data in arguments.data:
        train, test = DATA[data](arguments.data_dir)
        distance = Distance(train, test)
        found = results.setdefault(data, {"models": {}})
        found["real"] = distance(train[: len(test)])
        found["environment"] = runs.environment()
        for name in arguments.models:
            if name in found["models"]:
                continue
            sheet = arguments.sheets and arguments.sheets / f"{data}-{name}.png"
            try:
                row = measure(
                    name, train, distance, sheet, arguments.steps, arguments.samplers
                )
            except ValueError as error:
                row = {"refused": str(error)}
            where = runs.environment()
            where = {key: where[key] for key in ("commit", "backend")}
            found["models"][name] = row | where
            print(data, name, found["models"][name], flush=True)
            write_json(RESULTS, results)
            PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
