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
OURS = ("auto", "reconstruction", "code", "likelihood")
PYOD = ("AutoEncoder", "VAE", "IForest", "ECOD", "KNN")
# What PyOD's own interpreter runs: scores of the test rows of one split.
PEER = """
import importlib, sys
import numpy as np
name, path, seed = sys.argv[1:]
module = importlib.import_module("pyod.models." + {"AutoEncoder": "auto_encoder"}.get(
    name, name.lower()))
with np.load(path) as file:
    train, test = file["train"], file["test"]
kind = getattr(module, name)
takes = "random_state" in kind.__init__.__code__.co_varnames
detector = kind(**({"random_state": int(seed)} if takes else {}))
detector.fit(train)
np.save(path + ".npy", detector.decision_function(test))
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


def ours(train, test, seed):
    """Scores of the test rows, by the name of the score."""
    import keras_ae
    from keras_ae import anomalies

    columns = train.shape[1]
    model = keras_ae.VAE(
        max(2, min(16, columns // 2)),
        architecture="dense",
        widths=(128, 64),
        likelihood=keras_ae.likelihoods.Gaussian("optimal"),
    )
    detector = keras_ae.AnomalyDetector(model, seed=seed).fit(train)
    found = {"auto": detector.decision_function(test)}
    for name in OURS[1:]:
        score = anomalies.SCORES[name]()
        score.fit(detector.model_, train, seed)
        found[name] = score(detector.model_, test, seed)
    return found


def theirs(python, name, train, test, seed):
    """Scores that a detector of PyOD gives the test rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "split.npz")
        np.savez(path, train=train, test=test)
        command = [python, "-c", PEER, name, path, str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"PyOD's {name} failed:\n{done.stderr[-2000:]}")
        return np.load(path + ".npy")


def page(found: dict) -> str:
    """The table: a row a data set, a column a detector, AUROC in %."""
    names = [
        name
        for name in (*OURS, *PYOD)
        if any(name in row["auroc"] for row in found.values())
    ]
    lines = [
        "# Anomalies in tables",
        "",
        "Written by `benchmarks/anomalies.py`, whose docstring says how. AUROC in %, "
        f"mean of {len(SEEDS)} splits; the first {len(OURS)} are scores of one "
        "`AnomalyDetector` of a `VAE`, the others PyOD's.",
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
        wanted = [*OURS, *(PYOD if options.pyod else ())]
        if all(len(row["auroc"].get(name, ())) == len(SEEDS) for name in wanted):
            continue
        row.update(auroc={}, seconds={}, environment=runs.environment())
        for seed in SEEDS:
            train, test, truth = split(path, seed)
            begun = time.perf_counter()
            scores = ours(train, test, seed)
            row["seconds"].setdefault("ours", []).append(time.perf_counter() - begun)
            for name in PYOD if options.pyod else ():
                begun = time.perf_counter()
                scores[name] = theirs(options.pyod, name, train, test, seed)
                took = time.perf_counter() - begun
                row["seconds"].setdefault(name, []).append(took)
            for name, each in scores.items():
                row["auroc"].setdefault(name, []).append(auroc(each, truth))
        write_json(RESULTS, found)
        PAGE.write_text(page(found))
        told = {name: f"{np.mean(v):.3f}" for name, v in row["auroc"].items()}
        print(path.stem, told, flush=True)


if __name__ == "__main__":
    sys.exit(main())
