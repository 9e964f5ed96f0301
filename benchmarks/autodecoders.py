"""Autoencoders beside auto-decoders on one data set, with equal decoders.

    python benchmarks/autodecoders.py --data-dir DIR

trains AE, VAE, AutoDecoder, GLO and VariationalAutoDecoder on 10,000 MNIST digits,
measures what `docs/measured/autoencoder_or_autodecoder.md` compares, keeps it in
`results/autodecoders.json` and writes the page's table anew. All have a code of 16, the
same decoder, Adam from 1e-3 to 0 along a cosine, and 100 epochs.
"""

import argparse
import functools
import json
import time
from pathlib import Path

import keras
import numpy as np

import keras_ae
from keras_ae import metrics, runs

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "autodecoders.json"
PAGE = HERE.parent / "docs" / "measured" / "autoencoder_or_autodecoder.md"
BEGIN, END = "<!-- figures: written by benchmarks/autodecoders.py -->", "<!-- end -->"
EPOCHS, BATCH = 100, 100
OLD, NEW = 9_000, 1_000
# Per digit, not per pixel.
PIXELS = 28 * 28

ROWS = (
    ("seconds_an_epoch", "training, seconds an epoch", "{:.2f}"),
    (
        "train_error",
        "squared error of a training digit, with the code learnt",
        "{:.2f}",
    ),
    (
        "train_error_searched",
        "… when it is searched for, 300 steps from 4 starts",
        "{:.2f}",
    ),
    ("test_error", "squared error of a test digit", "{:.2f}"),
    ("test_error_searched", "… searched for 300 steps from 4 starts", "{:.2f}"),
    ("encode_one_ms", "encoding one digit, ms", "{:.1f}"),
    ("encode_thousand_ms", "encoding 1,000 digits, ms a digit", "{:.3f}"),
    ("missing_error", "mean squared error of the missing half of the pixels", "{:.4f}"),
    (
        "gaussian_distance",
        "Fréchet distance of 1,000 samples, from a Gaussian of the codes",
        "{:.0f}",
    ),
    ("mixture_distance", "… from a mixture of ten Gaussians", "{:.0f}"),
    ("new_error", "1,000 digits added later: their squared error", "{:.2f}"),
    ("new_error_ratio", "… as a share of that when trained from scratch", "{:.2f}"),
    ("old_error_ratio", "… the old digits' error, as a share of before", "{:.3f}"),
)


def decaying(rate: float, examples: int) -> keras.optimizers.schedules.CosineDecay:
    steps = EPOCHS * -(-examples // BATCH)
    return keras.optimizers.schedules.CosineDecay(rate, steps)


def train(Model, x, **arguments):
    """Returns a trained model and the seconds of an epoch, the first left out."""
    keras.utils.set_random_seed(0)
    likelihood = keras_ae.likelihoods.Gaussian(0.2, activation="sigmoid")
    model = Model(
        16,
        architecture="dense",
        widths=(256, 128),
        likelihood=likelihood,
        image_shape=x.shape[1:],
        **arguments,
    )
    adam = keras.optimizers.Adam
    if issubclass(Model, keras_ae.AutoDecoder):
        codes = adam(decaying(0.1, len(x)), beta_2=0.9)
        model.compile({"decoder": adam(decaying(1e-3, len(x))), "codes": codes})
    else:
        model.compile(adam(decaying(1e-3, len(x))))
    model.fit(x, batch_size=BATCH, epochs=1, verbose=0)
    start = time.perf_counter()
    model.fit(x, batch_size=BATCH, epochs=EPOCHS, initial_epoch=1, verbose=0)
    return model, (time.perf_counter() - start) / (EPOCHS - 1)


def error(x, restored, mask=True) -> float:
    """Mean squared error per pixel, over the pixels of a mask."""
    mask = np.broadcast_to(mask, x.shape)
    return float(np.mean(np.square(x / 255 - restored)[mask]))


def seconds(function) -> float:
    """The least of three times, after a first call that compiles."""
    function()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(Model, x, test, observed, features):
    model, epoch = train(Model, x)
    without_encoder = issubclass(Model, keras_ae.AutoDecoder)
    learnt = model.codes() if without_encoder else model.encode(x)
    figures = {
        "seconds_an_epoch": epoch,
        "train_error": PIXELS * error(x, model.decode(learnt)),
        "test_error": PIXELS * error(test, model.reconstruct(test)),
        "encode_one_ms": 1e3 * seconds(lambda: model.encode(test[:1])),
        "encode_thousand_ms": seconds(lambda: model.encode(test)),
    }
    if without_encoder:
        for name, digits in (("train", x), ("test", test)):
            found = model.infer(digits, steps=300, restarts=4)
            figures[f"{name}_error_searched"] = PIXELS * float(found.error.mean())
        figures["converged"] = float(model.infer(test).converged.mean())
        filled = model.reconstruct(test, mask=observed)
    else:
        filled = model.reconstruct(np.where(observed, test, 0).astype("uint8"))
    figures["missing_error"] = error(test, filled, ~observed)
    for name in ("gaussian", "mixture"):
        fitted = keras_ae.samplers.fit(name, learnt)
        codes = fitted.sample((len(test), learnt.shape[1]), seed=0)
        samples = model.decode(keras.ops.convert_to_numpy(codes))
        figures[f"{name}_distance"] = metrics.frechet_distance(
            features.features(test), features.features(samples)
        )
    if without_encoder:
        figures |= extend(Model, x, model)
    return figures


def extend(Model, x, from_scratch):
    """Adds the last digits to a model of the first ones, and looks at both."""
    old, new = x[:OLD], x[OLD:]
    model, _ = train(Model, old)
    before = error(old, model.decode(model.codes()))
    adam = keras.optimizers.Adam
    model.compile({"decoder": adam(3e-4), "codes": adam(0.03, beta_2=0.9)})
    start = time.perf_counter()
    ids = model.extend(new, epochs=40, replay=4.0, batch_size=BATCH, verbose=0)
    took = time.perf_counter() - start
    new_error = error(new, model.decode(model.codes(ids)))
    scratch = error(new, from_scratch.decode(from_scratch.codes()[OLD:]))
    after = error(old, model.decode(model.codes(model.sample_ids[:OLD])))
    return {
        "extend_seconds": took,
        "new_error": PIXELS * new_error,
        "new_error_ratio": new_error / scratch,
        "old_error_ratio": after / before,
    }


def table(results) -> str:
    models = results["models"]
    lines = ["| | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    for name, title, form in ROWS:
        cells = [form.format(m[name]) if name in m else "" for m in models.values()]
        lines.append("| " + " | ".join((title, *cells)) + " |")
    return "\n".join(lines)


def page(text: str, results) -> str:
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}"


def main(data_dir):
    load = functools.partial(keras_ae.datasets.load, "mnist", data_dir=data_dir)
    digits, labels = load("train", labels=True)
    x, test = digits[: OLD + NEW], load("test")[:1000]
    features = keras_ae.features.train(digits, labels["label"], seed=0)
    observed = np.random.default_rng(0).random(test.shape) < 0.5
    figures = {}
    for name in ("AE", "VAE", "AutoDecoder", "GLO", "VariationalAutoDecoder"):
        Model = getattr(keras_ae, name)
        figures[name] = measure(Model, x, test, observed, features)
        print(name, json.dumps(figures[name]), flush=True)
    return {
        "command": "python benchmarks/autodecoders.py",
        "seed": 0,
        "epochs": EPOCHS,
        "features": f"{features.name}, {features.digest}",
        "environment": runs.environment(),
        "models": figures,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    results = main(parser.parse_args().data_dir)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    PAGE.write_text(page(PAGE.read_text(), results))
