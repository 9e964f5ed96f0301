"""What a DenoisingAE with nothing set makes of noise in three minutes, beside filters.

    KERAS_BACKEND=torch python benchmarks/denoising.py --data-dir DIR [--seconds 180]

Faces of CelebA at their own size, grey and in colour, and digits, with Gaussian noise
of 0.1, 0.2 and 0.4. PSNR of 100 held-back pictures; the width of the blur and the
strength of non-local means, which is told the noise, are chosen on 30 others. Training
is `fit` with Adam at a rate of 1.5e-3 that falls to 0 as a cosine over the time. What
is in `results/denoising.json` is not done again; the table is
`docs/measured/denoising.md`.
"""

import argparse
import json
import math
import time
from pathlib import Path

import keras
import numpy as np
from skimage.restoration import denoise_nl_means

import keras_ae
from keras_ae import datasets, machine, metrics, runs
from keras_ae.files import read_json, write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "denoising.json"
PAGE = HERE.parent / "docs" / "measured" / "denoising.md"
LEVELS = (0.1, 0.2, 0.4)
WIDTHS = np.arange(0.3, 3.1, 0.1)
STRENGTHS = (0.4, 0.6, 0.8, 1.0)
FACES = "celeba_10k_89x109.zip"
RATE = 1.5e-3


def colour(where):
    return datasets.load(where / FACES, "all", image_size=(109, 89), limit=4130)


def grey(where):
    weights = np.float32([0.299, 0.587, 0.114])
    return np.rint(colour(where) @ weights).astype("uint8")[..., None]


def digits(where):
    return datasets.load("mnist", "all", data_dir=where, limit=20_130)


# Pictures, and how many of them a step takes.
DATA = {"grey faces": (grey, 8), "faces": (colour, 8), "digits": (digits, 32)}


class Clock(keras.callbacks.Callback):
    """Lowers the rate as a cosine over some seconds, and ends training with them."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_begin(self, batch, logs=None):
        # The first step compiles, which the three minutes do not count.
        if not hasattr(self, "begin") and batch:
            self.begin, self.steps = time.monotonic(), 0
        if hasattr(self, "begin"):
            self.steps += 1
            passed = min((time.monotonic() - self.begin) / self.seconds, 1.0)
            rate = RATE * 0.5 * (1 + math.cos(math.pi * passed))
            self.model.optimizer.learning_rate = rate
            self.model.stop_training = passed >= 1.0


def noisy(pictures, level, seed):
    noise = np.random.default_rng(seed).normal(0, level, pictures.shape)
    return np.float32(pictures / 255 + noise)


def non_local_means(x, level, strength):
    options = {"h": strength * level, "sigma": level, "patch_size": 5}
    restored = [denoise_nl_means(p, channel_axis=-1, **options) for p in x]
    return np.reshape(restored, x.shape)  # a last axis of one is dropped


def filtered(method, choices, tried, held_back, level):
    """PSNR of held-back pictures after the filter that is best for the others."""

    def reached(pictures, choice, seed):
        restored = np.clip(method(noisy(pictures, level, seed), choice), 0, 1)
        return metrics.psnr(pictures, restored)

    best = max(choices, key=lambda choice: reached(tried, choice, 2))
    return reached(held_back, best, 1)


def measure(name, level, where, seconds):
    load, batch_size = DATA[name]
    pictures = np.array(load(where))
    train, tried, held_back = np.split(pictures, [-130, -100])
    keras.utils.set_random_seed(0)
    model = keras_ae.DenoisingAE(noise_level=level)
    model.compile(keras.optimizers.Adam(RATE))
    clock = Clock(seconds)
    while not model.stop_training:
        model.fit(train, batch_size=batch_size, verbose=0, callbacks=[clock])
    spoilt = noisy(held_back, level, 1)
    return {
        "noisy": metrics.psnr(held_back, np.clip(spoilt, 0, 1)),
        "blur": filtered(metrics.blur, WIDTHS, tried, held_back, level),
        "non-local means": filtered(
            lambda x, strength: non_local_means(x, level, strength),
            STRENGTHS,
            tried,
            held_back,
            level,
        ),
        "DenoisingAE": metrics.psnr(held_back, model.denoise(spoilt)),
        "steps": clock.steps,
        "seconds": seconds,
        "cores": machine.cores(),
        "shape": list(held_back.shape[1:]),
        "environment": runs.environment(),
    }


def page(found):
    lines = [
        "# Noise: a DenoisingAE with nothing set, after three minutes of training",
        "",
        "`python benchmarks/denoising.py`; PSNR in dB of 100 held-back pictures. The "
        "gain is what a DenoisingAE has above the better of the two filters.",
        "",
        "| data | noise | noisy | blur | non-local means | DenoisingAE | gain | steps "
        "| CPU cores |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in sorted(found.items()):
        name, level = key.rsplit(" ", 1)
        best = max(row["blur"], row["non-local means"])
        figures = [row[n] for n in ("noisy", "blur", "non-local means", "DenoisingAE")]
        figures.append(row["DenoisingAE"] - best)
        cells = " | ".join(f"{figure:.1f}" for figure in figures)
        cells += f" | {row['steps']:,} | {row['cores']}"
        lines.append(f"| {name} | {level} | {cells} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--data", nargs="*", choices=DATA, default=[*DATA])
    parser.add_argument("--levels", nargs="*", type=float, default=LEVELS)
    arguments = parser.parse_args()
    found = read_json(RESULTS)
    for name in arguments.data:
        for level in arguments.levels:
            key = f"{name} {level}"
            if key not in found:
                found[key] = measure(name, level, arguments.data_dir, arguments.seconds)
                write_json(RESULTS, found)
                print(key, json.dumps(found[key])[:200], flush=True)
    PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
