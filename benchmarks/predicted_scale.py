"""What a decoder gains that predicts a scale for each value: log p(x) of test data.

    KERAS_BACKEND=jax python benchmarks/predicted_scale.py --data-dir DIR

Fashion-MNIST (20,000 pictures for training, with uniform noise of one grey level, so
that a density is bounded) and the first ten tables of `DIR/tables`, standardised and
clipped at ten deviations. A `SigmaVAE` with nothing else set, one σ or σ(z) for each
value, is trained on three fifths, stopped by a fifth, and told by its log p(x) of the
rest, in nats an example, of 200 codes drawn from the posterior. What is in
`results/predicted_scale.json` is not done again; the table is
`docs/measured/predicted_scale.md`.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import keras_ae
from keras_ae import datasets, runs
from keras_ae.files import read_json, write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "predicted_scale.json"
PAGE = HERE.parent / "docs" / "measured" / "predicted_scale.md"
FASHION = "fashion_mnist"
SCALES = ("learned", "predicted")
SEEDS = (0, 1, 2)


def pictures(where):
    x = datasets.load(FASHION, "all", data_dir=where, limit=24_000)
    x = np.array(x)[..., None] if np.ndim(x) == 3 else np.array(x)
    noise = np.random.default_rng(0).random(x.shape)
    return np.split(np.float32((x + noise) / 256), [20_000, 22_000])


def rows(path, seed):
    with np.load(path) as file:
        x = file["X"]
    x = np.random.default_rng(seed).permutation(x)
    train, validation, test = np.split(x, [len(x) * 3 // 5, len(x) * 4 // 5])
    mean, spread = train.mean(axis=0), train.std(axis=0)
    # A column that says nothing has nothing to be modelled.
    says = spread > 0
    return [
        np.float32(np.clip((part[:, says] - mean[says]) / spread[says], -10, 10))
        for part in (train, validation, test)
    ]


def measure(data, scale, seed):
    train, validation, test = data
    keras.utils.set_random_seed(seed)
    of_rows = train.ndim == 2
    options = {"latent_dim": max(2, min(16, train.shape[1] // 2))} if of_rows else {}
    model = keras_ae.SigmaVAE(scale=scale, **options)
    patience = 20 if of_rows else 3
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=patience, restore_best_weights=True, mode="min"
    )
    history = model.fit(
        train,
        validation_data=validation,
        epochs=300 if of_rows else 12,
        batch_size=100,
        verbose=0,
        callbacks=[stop],
    )
    log_prob = model.log_likelihood(test[:2000], samples=200 if of_rows else 50)
    return float(np.mean(log_prob)), len(history.history["loss"])


def page(found):
    lines = [
        "# log p(x) with one σ, and with a predicted σ(z) for each value",
        "",
        "`python benchmarks/predicted_scale.py`: nats an example of test data, mean "
        "and standard deviation over seeds. A gain is one where it is far beyond them.",
        "",
        "| data | one σ | σ(z) | gain |",
        "|---|---|---|---|",
    ]
    for name, row in found.items():
        one, each = (np.array(row[scale]) for scale in SCALES)
        cells = [f"{v.mean():.2f} ± {v.std():.2f}" for v in (one, each)]
        gain = each.mean() - one.mean()
        lines.append(f"| {name} | {' | '.join(cells)} | {gain:+.2f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    where = parser.parse_args().data_dir
    found = read_json(RESULTS)
    tables = sorted((where / "tables").glob("*.npz"))[:10]
    for name in (*(path.stem for path in tables), FASHION):
        if name in found:
            continue
        row = {scale: [] for scale in SCALES}
        for seed in SEEDS if name != FASHION else SEEDS[:1]:
            path = where / "tables" / f"{name}.npz"
            data = pictures(where) if name == FASHION else rows(path, seed)
            for scale in SCALES:
                log_prob, epochs = measure(data, scale, seed)
                row[scale].append(log_prob)
                print(name, scale, seed, f"{log_prob:.2f} after {epochs}", flush=True)
        found[name] = {**row, "environment": runs.environment()}
        write_json(RESULTS, found)
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
