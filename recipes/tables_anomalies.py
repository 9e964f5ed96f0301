"""Alarms for public tables, each learned from half of its normal rows.

The tables are `DIR/tables/*.npz` of `--data-dir DIR`: `X` `(rows, columns)` of numbers
and `y` `(rows,)`, 1 for an anomaly, as in ADBench. Half of a table's normal rows,
standardised, train one denoising autoencoder, with the same settings for all tables;
the others and all anomalies test. Of the training half a tenth ends the training and
settles the score, on a fifth the alarm's rate is measured, and compared with that of
the normal test rows. Each seed draws other halves; figures are means over them.

Reference:
    Han et al., ADBench: Anomaly Detection Benchmark, 2022
    (https://arxiv.org/abs/2206.09426).
"""

import functools
import os
import pathlib

import keras
import numpy as np

import keras_ae

# Rates of false alarms that are asked for.
RATES = (0.01, 0.05, 0.1)
# Shares of the training half: what settles the score, what the rate is measured on.
TUNING, HELD_BACK = 0.1, 0.2


def main(run, widths=(128, 64), learning_rate=1e-3, seeds=5):
    paths = find(run.data_dir)
    found = {path.stem: [] for path in paths}
    for seed in range(run.seed, run.seed + seeds):
        for path in paths:
            # The run's own model is that of the last table and seed.
            own = path == paths[-1] and seed == run.seed + seeds - 1
            part = run if own else run.child(f"{path.stem}-seed-{seed}")
            train, normal, odd = halves(path, seed, run.limit)
            count = len(train)
            ends = np.cumsum([max(1, int(s * count)) for s in (TUNING, HELD_BACK)])
            tuning, held_back, learned = np.split(train, ends)
            keras.utils.set_random_seed(seed)
            model = part.model(
                functools.partial(build, train.shape[1], widths, learning_rate)
            )
            batch = min(32, len(learned))
            part.fit(model, learned, tuning, epochs=100, batch_size=batch, patience=10)
            detector = keras_ae.AnomalyDetector(model, seed=seed)
            detector.calibrate(tuning, held_back, learned)
            scores = detector.decision_function(np.concatenate([normal, odd]))
            anomalous = np.arange(len(scores)) >= len(normal)
            area = keras_ae.metrics.detection(scores, anomalous, resamples=1).auroc
            p_values = detector.conformal_.p_values(scores[~anomalous])
            alarms = {rate: excess(p_values, rate, len(held_back)) for rate in RATES}
            found[path.stem].append((area, alarms))
            print(f"Seed {seed}, {path.stem}: AUROC {area:.4f}", flush=True)
    areas = {name: np.mean([area for area, _ in each]) for name, each in found.items()}
    run.scores(auroc=np.mean([*areas.values()]))
    for rate in RATES:
        rates, deviations = [], []
        for each in found.values():
            share, expected, error = np.mean([alarms[rate] for _, alarms in each], 0)
            rates.append(share)
            deviations.append((share - expected) / error * np.sqrt(seeds))
        percent = f"{100 * rate:g}_percent"
        run.scores(
            **{
                f"false_alarms_at_{percent}": np.mean(rates),
                # In standard errors, of the table that has least and of that with most.
                f"least_excess_at_{percent}": min(deviations),
                f"most_excess_at_{percent}": max(deviations),
            }
        )
    run.scores(**{f"auroc_{name}": area for name, area in areas.items()})
    run.evaluate(model, normal)


def build(columns, widths, learning_rate):
    """A denoising autoencoder of rows, for noise of any strength."""
    model = keras_ae.DenoisingAE(
        2 * columns,
        noise_level=(0.05, 0.8),
        architecture="dense",
        widths=widths,
        likelihood=keras_ae.likelihoods.Gaussian("optimal"),
    )
    model.compile(keras.optimizers.Adam(learning_rate))
    return model


def find(data_dir):
    """Paths of the tables, in order of their names."""
    folder = data_dir or os.environ.get("KERAS_AE_DATA") or "."
    paths = sorted(pathlib.Path(folder, "tables").glob("*.npz"))
    if not paths:
        raise FileNotFoundError(
            f"There are no tables {pathlib.Path(folder, 'tables')}/*.npz, with `X` "
            "(rows, columns) and `y` (rows,), 1 for an anomaly; `--data-dir DIR` says "
            "where the folder `tables` is."
        )
    return paths


def halves(path, seed, limit):
    """Half of the normal rows, the other half, and the anomalies, standardised."""
    with np.load(path) as file:
        rows, anomalous = file["X"].astype("float32"), file["y"].astype(bool)
    normal = rows[~anomalous]
    normal = normal[np.random.default_rng(seed).permutation(len(normal))[:limit]]
    train, test = np.split(normal, [len(normal) // 2])
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    # A column that is constant in training tells by leaving that value.
    scale = np.where(deviation > 0, deviation, 1.0)
    parts = (train, test, rows[anomalous][:limit])
    # Beyond a hundred standard deviations all is alike.
    return [np.clip((part - mean) / scale, -100, 100) for part in parts]


def excess(p_values, rate, held_back):
    """Alarms found and to be expected, as shares, and the standard error of the first.

    A p-value is a multiple of 1 / (held_back + 1).
    """
    expected = np.floor(rate * (held_back + 1)) / (held_back + 1)
    spread = rate * (1 - rate) * (1 / held_back + 1 / len(p_values))
    return np.mean(p_values <= rate), expected, np.sqrt(spread)
