"""Anomalies in twenty public tables: AUROC of detectors on the same splits.

    KERAS_BACKEND=jax python benchmarks/anomalies.py --data-dir DIR [--pyod PYTHON]

Half of a table's normal rows train; the others and all anomalies test; five seeds draw
the halves. Rows are standardised by the training half. Beside `AnomalyDetector`, one
setting for all tables, stand detectors of PyOD with their own settings, which train in
an environment of their own (`python -m venv DIR`, `DIR/bin/pip install pyod torch`).
What is in `results/anomalies.json` is not done again; the table is
`docs/measured/anomalies.md`.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "anomalies.json"
PAGE = HERE.parent / "docs" / "measured" / "anomalies.md"
SEEDS = range(5)
# Score of a denoising autoencoder, or of a VAE.
OURS = {
    "DenoisingAE": ("auto", "reconstruction", "code"),
    "VAE": ("auto", "likelihood"),
}
PYOD = ("AutoEncoder", "VAE", "IForest", "ECOD", "KNN")
OUR_NAMES = [f"{name} {score}" for name, scores in OURS.items() for score in scores]
NAMES = [*OUR_NAMES, *(f"PyOD {name}" for name in PYOD)]
# What PyOD's own interpreter runs: scores of the test rows of one split, by detector.
PEER = """
import importlib, sys
import numpy as np
path, seed, *names = sys.argv[1:]
with np.load(path) as file:
    train, test = file["train"], file["test"]
found = {}
for name in names:
    module = {"AutoEncoder": "auto_encoder"}.get(name, name.lower())
    kind = getattr(importlib.import_module("pyod.models." + module), name)
    takes = "random_state" in kind.__init__.__code__.co_varnames
    detector = kind(**({"random_state": int(seed)} if takes else {}))
    detector.fit(train)
    found["PyOD " + name] = detector.decision_function(test)
np.savez(path, **found)
"""


def split(path: Path, seed: int):
    """Training rows, test rows, and which of these are anomalies."""
    with np.load(path) as file:
        rows, anomalous = file["X"].astype("float32"), file["y"].astype(bool)
    normal = rows[~anomalous]
    order = np.random.default_rng(seed).permutation(len(normal))
    train, rest = np.split(normal[order], [len(normal) // 2])
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    test = np.concatenate([rest, rows[anomalous]])
    truth = np.arange(len(test)) >= len(rest)
    # A column that is constant in training tells by leaving that value.
    scale = np.where(deviation > 0, deviation, 1.0)
    return (train - mean) / scale, (test - mean) / scale, truth


def auroc(scores, truth) -> float:
    """Share of pairs in which the anomaly has the higher score."""
    above = stats.mannwhitneyu(scores[truth], scores[~truth]).statistic
    return float(above / (truth.sum() * (~truth).sum()))


def ours(name, train, test, seed):
    """Scores of the test rows by one of our models, by the name of the score."""
    import keras_ae
    from keras_ae import anomalies

    columns = train.shape[1]
    gaussian = keras_ae.likelihoods.Gaussian("optimal")
    dense = {"architecture": "dense", "widths": (128, 64), "likelihood": gaussian}
    if name == "VAE":
        model = keras_ae.VAE(max(2, min(16, columns // 2)), **dense)
    else:
        # Any amount of noise, so that what is far away is seen, too.
        model = keras_ae.DenoisingAE(2 * columns, noise_level=(0.05, 0.8), **dense)
    # What lies far outside is clipped to what the likelihood describes.
    train, test = (np.clip(rows, gaussian.low, gaussian.high) for rows in (train, test))
    detector = keras_ae.AnomalyDetector(model, seed=seed).fit(train)
    found = {}
    for score in OURS[name]:
        if score == "auto":
            found[f"{name} {score}"] = detector.decision_function(test)
        else:
            part = anomalies.SCORES[score]()
            part.fit(detector.model_, train, seed)
            found[f"{name} {score}"] = part(detector.model_, test, seed)
    return found


def theirs(python, train, test, seed):
    """Scores that PyOD's detectors give the test rows, by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "split.npz")
        np.savez(path, train=train, test=test)
        command = [python, "-c", PEER, path, str(seed), *PYOD]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"PyOD failed:\n{done.stderr[-2000:]}")
        with np.load(path) as file:
            return dict(file)


@contextlib.contextmanager
def timed(row, name):
    """Adds the seconds that the block takes."""
    begun = time.perf_counter()
    yield
    row["seconds"].setdefault(name, []).append(round(time.perf_counter() - begun, 1))


def page(found: dict) -> str:
    """The table: a row a data set, a column a detector, AUROC in %."""
    names = [
        name for name in NAMES if any(name in row["auroc"] for row in found.values())
    ]
    lines = [
        "# Anomalies in tables",
        "",
        "Written by `benchmarks/anomalies.py`, whose docstring says how. AUROC in %, "
        f"mean of {len(SEEDS)} splits of {len(found)} of the twenty tables; the first "
        f"{len(OUR_NAMES)} are scores of an `AnomalyDetector` of each model, the "
        "others PyOD's detectors. Bold: the best of each table.",
        "",
        f"| table | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    means = {name: [] for name in names}
    for data, row in sorted(found.items()):
        figures = {name: np.mean(row["auroc"][name]) for name in names}
        best = max(figures.values())
        cells = []
        for name, figure in figures.items():
            means[name].append(figure)
            text = f"{100 * figure:.1f}"
            cells.append(f"**{text}**" if figure == best else text)
        lines.append(f"| {data} | {' | '.join(cells)} |")
    cells = [f"{100 * np.mean(means[name]):.1f}" for name in names]
    lines.append(f"| mean | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--pyod", help="interpreter that has PyOD")
    parser.add_argument("--tables", nargs="*", help="instead of all")
    options = parser.parse_args()
    from keras_ae import runs
    from keras_ae.files import write_json

    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for path in sorted((options.data_dir / "tables").glob("*.npz")):
        if options.tables and path.stem not in options.tables:
            continue
        row = found.setdefault(path.stem, {"auroc": {}, "seconds": {}})
        wanted = NAMES if options.pyod else OUR_NAMES
        if all(len(row["auroc"].get(name, ())) == len(SEEDS) for name in wanted):
            continue
        row.update(auroc={}, seconds={}, environment=runs.environment())
        for seed in SEEDS:
            train, test, truth = split(path, seed)
            scores = {}
            for name in OURS:
                with timed(row, name):
                    scores |= ours(name, train, test, seed)
            if options.pyod:
                with timed(row, "PyOD"):
                    scores |= theirs(options.pyod, train, test, seed)
            for name, each in scores.items():
                row["auroc"].setdefault(name, []).append(auroc(each, truth))
        write_json(RESULTS, found)
        PAGE.write_text(page(found))
        told = {name: f"{np.mean(v):.3f}" for name, v in row["auroc"].items()}
        print(path.stem, told, flush=True)


if __name__ == "__main__":
    sys.exit(main())
