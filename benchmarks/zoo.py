"""The variational and quantized zoo, trained alike.

    KERAS_BACKEND=jax python benchmarks/zoo.py --data-dir DIR

trains each model of `ENTRIES` on MNIST with the same networks, steps and rates, keeps
what it measures in `results/zoo.json` as it goes, and writes the tables of
`docs/measured/zoo.md` anew. Models that are in the file already are not trained again;
`--entries` names some that are to be.

Models that give a likelihood learn digits whose pixels are drawn black or white anew
each epoch, and are compared by the negative log-likelihood of test digits. The others
learn grey digits and are compared by the squared error of test digits.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

import keras_ae
from keras_ae import metrics, runs
from keras_ae.files import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "zoo.json"
PAGE = HERE.parent / "docs" / "measured" / "zoo.md"
BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"
BATCH, SEED = 100, 0
TEST_DIGITS, SAMPLES = 2_000, 500
EPOCHS = {"likelihood": 20, "reconstruction": 20, "tokens": 5}

DENSE = {"architecture": "dense", "widths": (400,)}
CONVOLUTIONAL = {"architecture": "conv", "widths": (32, 64)}
BINARY = {**DENSE, "likelihood": "bernoulli", "latent_dim": 40}
SMALL = {**BINARY, "latent_dim": 10}


class Entry(NamedTuple):
    """A row: its group, what makes the model, and a published figure."""

    group: str
    build: Callable[[], keras.Model]
    published: str = ""


def _binary(model, published="", **arguments):
    return Entry("likelihood", lambda: model(**{**BINARY, **arguments}), published)


def _grey(model, **arguments):
    return Entry("reconstruction", lambda: model(**{**DENSE, **arguments}))


def _tokens(model, **arguments):
    return Entry("tokens", lambda: model(**{**CONVOLUTIONAL, **arguments}))


ENTRIES = {
    "VAE": _binary(keras_ae.VAE, "89.78, static digits"),
    "BetaVAE": _binary(keras_ae.BetaVAE),
    "BetaTCVAE": _binary(keras_ae.BetaTCVAE),
    "FactorVAE": _binary(keras_ae.FactorVAE),
    "DIPVAE": _binary(keras_ae.DIPVAE),
    "InfoVAE": _binary(keras_ae.InfoVAE),
    "IWAE": _binary(keras_ae.IWAE, "86.82, 50 samples, static digits"),
    "MIWAE": _binary(keras_ae.MIWAE, "85.09"),
    "CIWAE": _binary(keras_ae.CIWAE, "84.74"),
    "PIWAE": _binary(keras_ae.PIWAE, "84.58"),
    "FullCovarianceVAE": _binary(keras_ae.FullCovarianceVAE),
    "PlanarFlowVAE": _binary(keras_ae.PlanarFlowVAE),
    "SylvesterFlowVAE": _binary(keras_ae.SylvesterFlowVAE),
    "IAFVAE": _binary(keras_ae.IAFVAE),
    "HamiltonianVAE": _binary(keras_ae.HamiltonianVAE),
    "HierarchicalVAE": _binary(keras_ae.HierarchicalVAE),
    "VAE, mixture of 50 as prior": Entry(
        "likelihood",
        lambda: keras_ae.VAE(**BINARY, prior=keras_ae.priors.LearnedMixture(50)),
    ),
    "VAE, VampPrior of 500": Entry(
        "likelihood",
        lambda: keras_ae.VAE(**BINARY, prior=keras_ae.priors.VampPrior(500)),
        "85.79, static digits",
    ),
    "VAE, flow as prior": Entry(
        "likelihood",
        lambda: keras_ae.VAE(**BINARY, prior=keras_ae.priors.AutoregressiveFlow()),
    ),
    "VAE, code of 10": _binary(keras_ae.VAE, **SMALL),
    # On the sphere of 10 dimensions, in space of 11.
    "SphericalVAE": _binary(
        keras_ae.SphericalVAE,
        "93.13, code of 40, static digits",
        **{**SMALL, "latent_dim": 11},
    ),
    "PoincareVAE": _binary(keras_ae.PoincareVAE, **SMALL),
    "PCA": Entry("reconstruction", lambda: keras_ae.PCA(latent_dim=32)),
    "AE": _grey(keras_ae.AE, latent_dim=32),
    "ContractiveAE": _grey(keras_ae.ContractiveAE, latent_dim=32),
    "RAE": _grey(keras_ae.RAE, latent_dim=32),
    "SparseAE": _grey(keras_ae.SparseAE, latent_dim=128),
    "WAE": _grey(keras_ae.WAE, latent_dim=32),
    "AAE": _grey(keras_ae.AAE, latent_dim=32),
    "SigmaVAE": _grey(keras_ae.SigmaVAE, latent_dim=32),
    "MSSSIMVAE": _grey(keras_ae.MSSSIMVAE, latent_dim=32),
    "BiGAN": _grey(keras_ae.BiGAN, latent_dim=32),
    "VQVAE": _tokens(keras_ae.VQVAE),
    "ResidualVQVAE": _tokens(keras_ae.ResidualVQVAE),
    "FSQVAE": _tokens(keras_ae.FSQVAE),
    "LFQVAE": _tokens(keras_ae.LFQVAE),
}

COLUMNS = {
    "likelihood": (
        ("negative_log_likelihood", "NLL, nats", "{:.2f}"),
        ("standard_error", "± standard error", "{:.2f}"),
        ("elbo", "ELBO, nats", "{:.2f}"),
        ("active_units", "active units", "{}"),
    ),
    "reconstruction": (
        ("summed_squared_error", "squared error of a digit", "{:.2f}"),
        ("ssim", "SSIM", "{:.3f}"),
    ),
    "tokens": (
        ("summed_squared_error", "squared error of a digit", "{:.2f}"),
        ("ssim", "SSIM", "{:.3f}"),
        ("bits", "bits a digit, at most", "{:.0f}"),
        ("used_codes", "codes in use", "{:.0%}"),
    ),
}


def measure(entry: Entry, data_dir: str | None, epochs: int) -> dict:
    """Trains a model; returns its figures."""
    keras.utils.set_random_seed(SEED)
    binary = entry.group == "likelihood"
    train = keras_ae.datasets.load("mnist", split="train+validation", data_dir=data_dir)
    test = keras_ae.datasets.load("mnist", split="test", data_dir=data_dir)
    model = entry.build()
    model.build((None, *train.shape[1:]))
    begun = time.perf_counter()
    if isinstance(model, keras_ae.PCA):
        model.fit(train)
    else:
        steps = epochs * -(-len(train) // BATCH)
        rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
        optimizer = keras.optimizers.Adam(rate)
        if "discriminator" in model.player_names:
            # Who contends with a discriminator keeps the model's own rates.
            alone = {"vae"} & {*model.player_names}
            optimizer = dict.fromkeys(alone, optimizer)
        model.compile(optimizer)
        batches = keras_ae.datasets.Batches(train, BATCH, seed=SEED, binarize=binary)
        model.fit(batches, epochs=epochs, shuffle=False, verbose=2)
    figures = {"training_seconds": round(time.perf_counter() - begun)}
    if binary:
        white = runs.binarized(test, seed=SEED)
        found = model.evaluate(white, batch_size=BATCH, return_dict=True, verbose=0)
        nats = model.log_likelihood(white[:TEST_DIGITS], samples=SAMPLES, seed=SEED)
        return figures | {
            "negative_log_likelihood": -float(np.mean(nats)),
            "standard_error": float(np.std(nats, ddof=1) / np.sqrt(len(nats))),
            "elbo": float(found["elbo"]),
            "active_units": metrics.active_units(model.encode(white)),
        }
    restored = model.reconstruct(test)
    figures |= {
        "summed_squared_error": metrics.mse(test, restored) * test[0].size,
        "ssim": metrics.ssim(test, restored),
    }
    if entry.group == "tokens":
        tokens = model.tokens(test)
        figures |= {
            "bits": float(tokens[0].size * np.log2(model.quantizer.num_codes)),
            "used_codes": len(np.unique(tokens)) / model.quantizer.num_codes,
        }
    return figures


def page(text: str, results: dict) -> str:
    """The page's text with its tables written anew."""
    for group, columns in COLUMNS.items():
        with_published = group == "likelihood"
        rows = [
            [
                name,
                *(form.format(figures[key]) for key, _, form in columns),
                *([figures["published"]] if with_published else []),
                str(figures["epochs"]),
                f"{figures['training_seconds'] / 60:.0f}",
                figures["backend"],
            ]
            for name, figures in results["models"].items()
            if ENTRIES[name].group == group
        ]
        heads = ["model", *(head for _, head, _ in columns)]
        heads += ["published"] if with_published else []
        heads += ["epochs", "minutes", "backend"]
        lines = [heads, ["---"] * len(heads), *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        before, rest = text.split(BEGIN.format(group))
        _, after = rest.split(END.format(group))
        text = f"{before}{BEGIN.format(group)}\n\n{table}\n\n{END.format(group)}{after}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", help="folder that holds mnist.npz")
    parser.add_argument("--entries", nargs="+", choices=ENTRIES, metavar="NAME")
    parser.add_argument("--groups", nargs="+", choices=COLUMNS)
    parser.add_argument("--epochs", type=int, help="instead of the group's own")
    options = parser.parse_args()
    results = {"models": {}}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    if options.entries:
        chosen = options.entries
    else:
        chosen = [name for name in ENTRIES if name not in results["models"]]
    if options.groups:
        chosen = [name for name in chosen if ENTRIES[name].group in options.groups]
    for name in chosen:
        epochs = options.epochs or EPOCHS[ENTRIES[name].group]
        figures = measure(ENTRIES[name], options.data_dir, epochs)
        print(name, figures, flush=True)
        environment = runs.environment()
        # Another process may have written its models meanwhile.
        if RESULTS.exists():
            results = json.loads(RESULTS.read_text())
        results["command"] = "python benchmarks/zoo.py"
        results.setdefault("environments", {})[environment["backend"]] = environment
        measured = {
            **results["models"],
            name: {
                **figures,
                "epochs": epochs,
                "seed": SEED,
                "backend": environment["backend"],
            },
        }
        results["models"] = {
            name: {**measured[name], "published": entry.published}
            for name, entry in ENTRIES.items()
            if name in measured
        }
        write_json(RESULTS, results)
        PAGE.write_text(page(PAGE.read_text(), results))


if __name__ == "__main__":
    main()
