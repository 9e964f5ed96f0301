"""Trainings that are as long as a paper's, and what came of them beside its figure.

    KERAS_BACKEND=jax python benchmarks/receipts.py [NAME …] --data-dir DIR --hours 8

trains the receipts named, or all that are not done, one after the other, for so many
hours. Each has a folder in `--runs` with its last checkpoint: what was cut goes on
there the next time, with the weights and in the order of the data that it would have
had. A receipt that is done is written to `results/receipts.json`, and the table of
`docs/measured/receipts.md` anew; `--collect` does only that, with folders that come
from elsewhere.

All 60,000 training digits of MNIST train. Where pixels are drawn black or white they
are drawn anew each epoch, and judged is one seeded draw of the 10,000 test digits, by
5,000 importance samples each. The rate falls from 2e-3 to 0 along a cosine, in batches
of 100.
"""

import argparse
import functools
import math
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

import keras_ae
from keras_ae import callbacks, datasets, runs
from keras_ae.callbacks import checkpoints
from keras_ae.files import hold, read_json, replacing, write_json
from keras_ae.probability import divergences
from keras_ae.probability.distributions import Normal

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "receipts.json"
PAGE = HERE.parent / "docs" / "measured" / "receipts.md"
BEGIN, END = "<!-- receipts: written by benchmarks/receipts.py -->", "<!-- end -->"
BATCH, RATE, SAMPLES, SEED = 100, 2e-3, 5_000, 0
# Seconds of training between two checkpoints.
BETWEEN = 60

DENSE = {"architecture": "dense", "likelihood": "bernoulli"}
BURDA = {**DENSE, "latent_dim": 50, "widths": (200, 200), "activation": "tanh"}
NORMAL_300 = {**DENSE, "latent_dim": 40, "widths": (300, 300), "activation": "swish"}
SMALL = {**DENSE, "widths": (256, 128)}


class Receipt(NamedTuple):
    """A training and the figure that it should reach.

    Attributes:
        build: Makes the model.
        epochs: Epochs, over which the rate falls to 0.
        published: The paper's figure; where `beside` is named, the paper's difference
            to its own such model. None where others are only compared with this one.
        source: Whose figure, and with what.
        measure: Function of a model and the data that returns its figures, of which
            `per_example` is judged by its mean.
        unit: What is measured.
        warm_up: Epochs in which β rises to 1.
        beside: The receipt whose figure is subtracted.
        higher: Whether more is better.
        from_memory: Whether the published figure was not looked up in the paper.
        rate: Adam's learning rate at the start.
        beta_1: Adam's momentum.
    """

    build: Callable[[], keras.Model]
    epochs: int
    published: float | None
    source: str
    measure: Callable
    unit: str = "NLL, nats"
    warm_up: int = 0
    beside: str = ""
    higher: bool = False
    from_memory: bool = False
    rate: float = RATE
    beta_1: float = 0.9


class Digits:
    """MNIST as it is and, of the test digits, one seeded draw in black and white."""

    def __init__(self, data_dir: str | None, limit: int | None):
        def load(split):
            pictures, labels = datasets.load(
                "mnist", split=split, data_dir=data_dir, limit=limit, labels=True
            )
            return pictures, labels["label"]

        self.train, self.train_labels = load("train+validation")
        self.test, self.test_labels = load("test")
        self.white = runs.binarized(self.test, seed=0)


def likelihood(model, digits, samples=SAMPLES) -> dict:
    """The negative log-likelihood of each test digit, and what goes with it."""
    found = model.evaluate(digits.white, batch_size=BATCH, return_dict=True, verbose=0)
    nats = model.log_likelihood(
        digits.white, samples=samples, seed=0, chunk_size=16_384
    )
    figures = {"per_example": -nats, "elbo": float(found["elbo"])}
    posterior = model.posterior(digits.white)
    if isinstance(posterior, Normal):
        # By the KL: a dimension whose mean moves may still say nothing of its own.
        kl = divergences.kl_normal(posterior, Normal())  # (digits, latent_dim)
        figures["active_units"] = int(ops.sum(ops.mean(kl, axis=0) > 0.01))
    return figures


def neighbours(model, digits) -> dict:
    """Whether the nearest training digit is of the same class, 1 or 0 for each.

    By the features that the encoder makes its codes of, which the paper's figure is of,
    and in `codes` the mean by the codes.
    """
    from sklearn.neighbors import KNeighborsClassifier

    features = keras.Model(model.encoder.inputs, model.encoder.layers[-1].input)

    def told(represent):
        nearest = KNeighborsClassifier(1, algorithm="brute")
        nearest.fit(represent(digits.train), digits.train_labels)
        return 100.0 * (nearest.predict(represent(digits.test)) == digits.test_labels)

    return {
        "per_example": told(lambda x: features.predict(np.float32(x) / 255, verbose=0)),
        "codes": float(told(model.encode).mean()),
    }


def bigan() -> keras.Model:
    """The paper's networks for MNIST, as its authors' code has them."""
    layers = keras.layers
    leaky = functools.partial(layers.LeakyReLU, 0.2)

    def dense(inputs, units):
        return layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            # Of which the gradient is 2.5e-5 of the weights.
            kernel_regularizer=keras.regularizers.L2(1.25e-5),
        )(inputs)

    def normalized(inputs):
        return layers.BatchNormalization(center=False, scale=False)(inputs)

    x, z = keras.Input((28, 28, 1)), keras.Input((50,))
    h = leaky()(dense(layers.Flatten()(x), 1024))
    features = leaky()(normalized(dense(h, 1024)))
    encoder = keras.Model(x, dense(features, 50))

    h = layers.ReLU()(normalized(dense(z, 1024)))
    h = layers.ReLU()(normalized(layers.add([dense(h, 1024), dense(z, 1024)])))
    generator = keras.Model(z, layers.Reshape((28, 28, 1))(dense(h, 784)))

    h = leaky()(dense(layers.Flatten()(x), 1024))
    h = leaky()(normalized(layers.add([dense(h, 1024), dense(z, 1024)])))
    discriminator = keras.Model([x, z], dense(h, 1))
    return keras_ae.BiGAN(
        50, encoder=encoder, generator=generator, discriminator=discriminator
    )


def _vae(model=keras_ae.VAE, **arguments):
    return lambda: model(**{**BURDA, **arguments})


BURDA_2016 = "Burda et al. 2016"
PYTHAE = "pythae's reproduction of Rainforth et al. 2018"
SYLVESTER = "van den Berg et al. 2018"
DAVIDSON = "Davidson et al. 2018"
SHORT = "VAE, 200 epochs"
FLOW = {"epochs": 200, "measure": likelihood, "warm_up": 20, "beside": SHORT}

RECEIPTS = {
    "VAE": Receipt(_vae(), 2000, 86.76, BURDA_2016, likelihood),
    "IWAE, k = 5": Receipt(
        _vae(keras_ae.IWAE, samples=5), 2000, 85.54, BURDA_2016, likelihood
    ),
    "IWAE, k = 50": Receipt(
        _vae(keras_ae.IWAE, samples=50), 300, 84.78, BURDA_2016, likelihood
    ),
    "MIWAE, 8 x 8": Receipt(
        _vae(keras_ae.MIWAE, samples=8, bounds=8), 400, 85.09, PYTHAE, likelihood
    ),
    "CIWAE, k = 64": Receipt(
        _vae(keras_ae.CIWAE, samples=64), 400, 84.74, PYTHAE, likelihood
    ),
    "PIWAE, 8 x 8": Receipt(
        _vae(keras_ae.PIWAE, samples=8, bounds=8), 400, 84.58, PYTHAE, likelihood
    ),
    "VAE, 300-300-40": Receipt(
        lambda: keras_ae.VAE(**NORMAL_300), 200, None, "", likelihood, warm_up=20
    ),
    "VampPrior": Receipt(
        lambda: keras_ae.VAE(**NORMAL_300, prior=keras_ae.priors.VampPrior(500)),
        200,
        82.43 - 84.45,
        "Norouzi et al. 2020, gated networks",
        likelihood,
        warm_up=20,
        beside="VAE, 300-300-40",
    ),
    SHORT: Receipt(_vae(), 200, None, "", likelihood, warm_up=20),
    "HierarchicalVAE": Receipt(
        _vae(
            keras_ae.HierarchicalVAE,
            latent_dim=100,
            upper_dims=(50,),
            upper_widths=(100, 100),
        ),
        published=85.33 - 86.76,
        source=f"{BURDA_2016}, two layers, k = 1",
        **FLOW,
    ),
    "PlanarFlowVAE": Receipt(
        _vae(keras_ae.PlanarFlowVAE, steps=16),
        published=81.91 - 82.14,
        source=SYLVESTER,
        from_memory=True,
        **FLOW,
    ),
    "IAFVAE": Receipt(
        _vae(keras_ae.IAFVAE, flow_widths=(320,)),
        published=80.79 - 82.14,
        source=SYLVESTER,
        from_memory=True,
        # With no KL in the first epoch its codes flee, which it recovers from late.
        **{**FLOW, "warm_up": 0},
    ),
    "SylvesterFlowVAE": Receipt(
        _vae(keras_ae.SylvesterFlowVAE),
        published=80.29 - 82.14,
        source=f"{SYLVESTER}, Householder",
        from_memory=True,
        **FLOW,
    ),
    "HamiltonianVAE": Receipt(
        _vae(keras_ae.HamiltonianVAE),
        published=-1.2,
        source="Caterini et al. 2018",
        from_memory=True,
        **FLOW,
    ),
    "FullCovarianceVAE": Receipt(
        _vae(keras_ae.FullCovarianceVAE), published=None, source="", **FLOW
    ),
}
for dimensions, theirs in ((2, 132.50 - 135.73), (5, 108.43 - 110.21)):
    plane = f"VAE, code of {dimensions}"
    RECEIPTS[plane] = Receipt(
        lambda d=dimensions: keras_ae.VAE(d, **SMALL), 100, None, "", likelihood
    )
    RECEIPTS[f"SphericalVAE, sphere of {dimensions} dimensions"] = Receipt(
        lambda d=dimensions: keras_ae.SphericalVAE(d + 1, **SMALL),
        100,
        theirs,
        DAVIDSON,
        likelihood,
        beside=plane,
        from_memory=True,
    )
RECEIPTS["BiGAN"] = Receipt(
    bigan,
    50,
    97.35,
    "Donahue et al. 2017, log of their code",
    neighbours,
    unit="1-NN accuracy of the encoder's last hidden layer, %",
    higher=True,
    rate=2e-4,
    beta_1=0.5,
)


def train(name: str, folder: Path, digits: Digits, epochs: int, until: float):
    """Trains from the last checkpoint on; returns the model, or None when cut."""
    receipt = RECEIPTS[name]
    binary = receipt.measure is likelihood
    last, history = folder / "last.keras", []
    keras.utils.set_random_seed(SEED)
    if last.exists():
        model = runs.load_model(last)
        history = callbacks.read_note(last)
    else:
        model = receipt.build()
        steps = epochs * -(-len(digits.train) // BATCH)
        rate = keras.optimizers.schedules.CosineDecay(receipt.rate, steps)
        model.compile(keras.optimizers.Adam(rate, receipt.beta_1))
    done = len(history)
    batches = datasets.Batches(
        digits.train, BATCH, seed=SEED, binarize=binary, epoch=done
    )
    several = 1
    while done < epochs:
        if time.monotonic() > until:
            return None
        begun = time.perf_counter()
        model.fit(
            batches,
            initial_epoch=done,
            epochs=min(done + several, epochs),
            shuffle=False,
            verbose=0,
            callbacks=[
                callbacks.EpochSeeds(SEED),
                *([callbacks.BetaWarmUp(receipt.warm_up)] if receipt.warm_up else []),
                callbacks.Rows(history),
            ],
        )
        took = (time.perf_counter() - begun) / (len(history) - done)
        # The first epoch compiles.
        several = max(1, round(BETWEEN / took)) if done else 2
        done = len(history)
        with replacing(last) as temporary:
            checkpoints.save(model, temporary, history)
        row = history[-1]
        print(
            f"{name}: epoch {done} of {epochs}, loss {row['loss']:.2f}, "
            f"{took:.2f} s an epoch",
            flush=True,
        )
    return model


def receipt(name: str, options, digits: Digits, until: float) -> bool:
    """Trains and measures; returns whether the receipt is done."""
    epochs = options.epochs or RECEIPTS[name].epochs
    # A shortened training is another one, which must not go on as this.
    is_short = options.epochs or options.limit
    shortened = f"-{options.epochs}-{options.limit}" if is_short else ""
    stem = name.replace(" ", "-").replace(",", "")
    folder = Path(options.runs) / f"{stem}{shortened}"
    folder.mkdir(parents=True, exist_ok=True)
    let_go = hold(folder)
    begun = time.perf_counter()
    model = train(name, folder, digits, epochs, until)
    if model is None:
        let_go()
        return False
    seconds = round(time.perf_counter() - begun)
    figures = RECEIPTS[name].measure(model, digits)
    each = np.asarray(figures.pop("per_example"), "float64")
    np.save(folder / "per_example.npy", each.astype("float32"))
    figures |= {
        "name": name,
        "mean": float(each.mean()),
        "standard_error": float(each.std(ddof=1) / math.sqrt(len(each))),
        "epochs": epochs,
        "seed": SEED,
        "seconds_of_the_last_session": seconds,
        "training_digits": len(digits.train),
        "test_digits": len(digits.test),
        "commit": commit(),
        "environment": runs.environment(),
    }
    write_json(folder / "receipt.json", figures)
    let_go()
    print(
        f"{name}: {figures['mean']:.2f} ± {figures['standard_error']:.2f}", flush=True
    )
    return True


def commit() -> str | None:
    """The commit that trains, None outside a checkout."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


def judged(name: str, found: dict, folders: dict[str, Path]) -> dict | None:
    """What came of a receipt: ours, its error and the verdict; None while open."""
    entry = RECEIPTS[name]
    value, error = found["mean"], found["standard_error"]
    if entry.beside:
        if entry.beside not in folders:
            return None
        # Of the same digits: their differences vary less than they do.
        each, theirs = (
            np.load(folders[key] / "per_example.npy").astype("float64")
            for key in (name, entry.beside)
        )
        difference = each - theirs
        value = float(difference.mean())
        error = float(difference.std(ddof=1) / math.sqrt(len(difference)))
    row = {"value": value, "error": error}
    if entry.published is not None:
        missing = (
            (entry.published - value) if entry.higher else (value - entry.published)
        )
        row["verdict"] = "reached"
        if missing > 0:
            row["verdict"] = "near" if missing <= 2 * error else "short"
    return row


def collect(root: Path) -> None:
    """Writes what is done to `RESULTS`, and the page's table anew."""
    results = read_json(RESULTS) if RESULTS.exists() else {"receipts": {}}
    folders, done = {}, {}
    for path in sorted(root.glob("*/receipt.json")):
        found = read_json(path)
        entry = RECEIPTS.get(found["name"])
        whole = entry and found["epochs"] == entry.epochs
        if whole and found["training_digits"] == 60_000:
            folders[found["name"]] = path.parent
            done[found["name"]] = found
    for name, found in done.items():
        row = judged(name, found, folders)
        if row is not None:
            row = {**found, **row}
            results["receipts"][name] = {**row, **told(name, row)}
    results["command"] = "python benchmarks/receipts.py"
    order = list(RECEIPTS)
    results["receipts"] = dict(
        sorted(results["receipts"].items(), key=lambda item: order.index(item[0]))
    )
    write_json(RESULTS, results)
    PAGE.write_text(page(PAGE.read_text(), results["receipts"]))


def told(name: str, row: dict) -> dict[str, str]:
    """A receipt's row in words."""
    entry = RECEIPTS[name]
    sign = "+.2f" if entry.beside else ".2f"
    measured = entry.unit
    if entry.beside:
        measured += f" less that of {entry.beside}"
    published = ""
    if entry.published is not None:
        published = f"{entry.published:{sign}}{'†' * entry.from_memory}, {entry.source}"
    return {
        "measured": measured,
        "published": published,
        "ours": f"{row['value']:{sign}} ± {row['error']:.2f}",
        "verdict": row.get("verdict", ""),
        "protocol": f"{row['epochs']:,} epochs, seed {row['seed']}, "
        f"{row['environment']['backend']}, {row['environment']['device']}",
    }


def page(text: str, found: dict) -> str:
    """The page's text with its table written anew."""
    heads = ("model", "measured", "published", "ours", "verdict", "protocol")
    lines = [heads, ["---"] * len(heads)]
    lines += [(name, *(row[head] for head in heads[1:])) for name, row in found.items()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="receipts to train")
    parser.add_argument("--data-dir", help="folder that holds mnist.npz")
    parser.add_argument("--runs", default="runs/receipts", help="folder of checkpoints")
    parser.add_argument("--hours", type=float, default=8.0, help="time to train for")
    parser.add_argument("--epochs", type=int, help="instead of the receipt's own")
    parser.add_argument("--limit", type=int, help="train on so many digits only")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in RECEIPTS:
            parser.error(f"NAME must be one of {'; '.join(RECEIPTS)}. Received: {name}")
    root = Path(options.runs)
    if not options.collect:
        until = time.monotonic() + 3600 * options.hours
        kept = read_json(RESULTS)["receipts"] if RESULTS.exists() else {}
        chosen = options.names or [name for name in RECEIPTS if name not in kept]
        digits = Digits(options.data_dir, options.limit)
        still_open = [
            name for name in chosen if not receipt(name, options, digits, until)
        ]
        if still_open:
            print(f"Still open: {'; '.join(still_open)}.")
        if options.epochs or options.limit:
            print("Nothing is recorded of a shortened training.")
            return
    collect(root)


if __name__ == "__main__":
    main()
