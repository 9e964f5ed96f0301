"""log p(x) of a VAE of default settings, beside pythae's plain VAE at equal epochs.

    python benchmarks/beside_pythae.py --data-dir DIR --pythae PYTHON

Both train on the same 20,000 digits, drawn black or white once, with 16 latent
dimensions and batches of 128; each has its own networks, start and learning rate.
pythae's rate is 1e-4 unless one says otherwise, which few epochs suffer from, so that
it is also trained with 1e-3, and keras-ae with pythae's networks. The weights of pythae
are put into the same layers of a `keras_ae.VAE`, so that one estimator, 100 importance
samples for each of 500 test digits, measures all. pythae wants older packages: give
it an environment of its own and name its interpreter. What is in
`results/beside_pythae.json` is not done again; the table is
`docs/measured/beside_pythae.md`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_ae
from keras_ae import datasets, runs
from keras_ae.files import read_json, write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "beside_pythae.json"
PAGE = HERE.parent / "docs" / "measured" / "beside_pythae.md"
LATENT_DIM, BATCH_SIZE = 16, 128
MEASURED = (1, 5, 20)
SEEDS = (0, 1, 2)
DENSE = {"architecture": "dense", "widths": (512,)}
# Options of `keras_ae.VAE`, or a learning rate of pythae.
CONTESTANTS = {
    "keras-ae": {},
    "keras-ae, pythae's networks": DENSE,
    "pythae": None,
    "pythae, rate 1e-3": 1e-3,
}


def digits(where):
    """Training and test digits, each pixel drawn once by its grey level."""
    rng = np.random.default_rng(0)
    found = []
    for split, limit in (("train", 20_000), ("test", 500)):
        grey = datasets.load("mnist", split, data_dir=where, limit=limit)
        grey = np.reshape(np.array(grey), (-1, 28, 28, 1)) / 255
        found.append(np.float32(rng.random(grey.shape) < grey))
    return found


def nats(model, x):
    return float(np.mean(model.log_likelihood(x, samples=100, seed=0)))


def of_keras_ae(options, train, test, seed):
    keras.utils.set_random_seed(seed)
    model = keras_ae.VAE(LATENT_DIM, likelihood="bernoulli", **options)
    found = {}
    epochs = 0
    for measured in MEASURED:
        model.fit(
            train,
            batch_size=BATCH_SIZE,
            initial_epoch=epochs,
            epochs=measured,
            verbose=0,
        )
        epochs = measured
        found[str(measured)] = nats(model, test)
    return found


def of_pythae(rate, train, test, seed, python):
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        np.save(folder / "x.npy", train)
        settings = {
            "data": str(folder / "x.npy"),
            "directory": directory,
            "measured": MEASURED,
            "latent_dim": LATENT_DIM,
            "batch_size": BATCH_SIZE,
            "learning_rate": rate,
            "seed": seed,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        script = HERE / "peers" / "weights_of_pythae.py"
        subprocess.run([python, script, folder / "settings.json"], check=True)
        found = {}
        for epoch in MEASURED:
            with np.load(folder / f"{epoch}.npz") as weights:
                found[str(epoch)] = nats(same(weights, test), test)
    return found


def same(weights, x):
    """A `keras_ae.VAE` of pythae's layers with its weights."""
    model = keras_ae.VAE(LATENT_DIM, likelihood="bernoulli", **DENSE)
    model.fit(x[:BATCH_SIZE], epochs=1, verbose=0)
    names = (
        ("encoder.layers.0.0", "encoder.log_var", "encoder.embedding"),
        ("decoder.layers.0.0", "decoder.layers.1.0"),
    )
    for network, layers in zip((model.encoder, model.decoder), names, strict=True):
        values = []
        for layer in layers:
            values += [weights[f"{layer}.weight"].T, weights[f"{layer}.bias"]]
        network.set_weights(values)
    return model


PROSE = """\
# A VAE of default settings, beside pythae's

Log p(x) of 500 test digits in nats after 1, 5 and 20 epochs; more is better. Of several
seeds the mean and the standard deviation.

```shell
KERAS_BACKEND=torch python benchmarks/beside_pythae.py --data-dir DIR --pythae PYTHON
```

trains on 20,000 digits, drawn black or white once, with 16 latent dimensions and
batches of 128. `keras-ae` is `VAE(16, likelihood="bernoulli").fit(x, batch_size=128)`;
pythae's is its `VAE` with its default networks, at the rate of 1e-4 that it trains with
unless told, and at 1e-3. One estimator, 100 importance samples, measures all: pythae's
weights are put into the same layers of a `keras_ae.VAE`.

With pythae's networks and rate the two differ by how weights start, Glorot's way in
Keras and uniform in ±1/√fan-in in PyTorch: started so, keras-ae has -145.9, -109.3 and
-99.8 (JAX, seed 0). A wider start of the decoder's first layer helps at first: of
variance 1/fan-in, -130.8 after one epoch and -108.0 after five; of 2/fan-in, -127.0,
-107.8, and -100.4 after 20. With a Gaussian likelihood it costs 5 to 21 nats after
three epochs of 10,000 digits, and an autoencoder is worse, too, with each of three
seeds, so that Keras' start stays.
"""


def page(found):
    lines = [
        PROSE,
        f"| contestant | seeds | {' | '.join(map(str, MEASURED))} |",
        f"|---|---|{'---|' * len(MEASURED)}",
    ]
    for name, row in found.items():
        values = np.array(
            [[each[str(epoch)] for epoch in MEASURED] for each in row["nats"].values()]
        )
        cells = [f"{mean:.2f}" for mean in values.mean(axis=0)]
        if len(values) > 1:
            pairs = zip(cells, values.std(axis=0, ddof=1), strict=True)
            cells = [f"{mean} ± {deviation:.2f}" for mean, deviation in pairs]
        lines.append(f"| {name} | {len(values)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--pythae", default=sys.executable, metavar="PYTHON")
    arguments = parser.parse_args()
    found = read_json(RESULTS)
    train, test = digits(arguments.data_dir)
    for seed in SEEDS:
        for name, setting in CONTESTANTS.items():
            row = found.setdefault(name, {"nats": {}})
            if str(seed) in row["nats"]:
                continue
            if isinstance(setting, dict):
                nats_of = of_keras_ae(setting, train, test, seed)
            else:
                nats_of = of_pythae(setting, train, test, seed, arguments.pythae)
            print(name, seed, nats_of, flush=True)
            row["nats"][str(seed)] = nats_of
            row["environment"] = runs.environment()
            write_json(RESULTS, found)
            PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
