"""Writes what this version makes of models and runs, for later versions to read.

    KERAS_BACKEND=torch python tests/written.py

One model of each class, trained for two epochs, what it gives for a few pictures, and
one run go to `tests/written`; the public names too. What is there already stays as it
was written: tests/test_written.py reads it for ever after.
"""

import shutil
import sys
import types
from pathlib import Path

import keras
import numpy as np
from contract import SETTINGS, fit, make, non_default, owns_codes, settings

import keras_ae
from keras_ae import models, runs

FOLDER = Path(__file__).parent / "written"
SHAPE = (6, 5, 1)


def pictures():
    """Sixteen grey pictures, floats in [0, 1]."""
    rows = np.linspace(0, 3, SHAPE[0])[:, None]
    columns = np.linspace(0, 2, SHAPE[1])
    phases = np.arange(16)[:, None, None]
    return np.float32(0.5 + 0.5 * np.sin(rows + phases) * np.cos(columns))[..., None]


def given(model, x):
    """What a model gives for the pictures that it was trained on, by name."""
    if owns_codes(type(model)):
        codes = model.codes()
        return {"codes": codes, "decoded": model.decode(codes)}
    if model.encoder is None:
        codes = np.linspace(-1, 1, 4 * model.latent_dim, dtype="float32")
        codes = codes.reshape(4, -1)
        return {"decoded": model.decode(codes)}
    labels = {}
    if model.needs_labels:
        labels["labels"] = np.arange(len(x)) % model.num_classes
    return {
        "codes": model.encode(x, **labels),
        "reconstructed": model.reconstruct(x, **labels),
    }


def write_model(name):
    """Writes `NAME.keras` and `NAME.npz`."""
    Model, x = getattr(models, name), pictures()
    keras.utils.set_random_seed(0)
    if name == "PCA":
        model = Model(2)
        model.fit(x, verbose=0)
    else:
        small = {"widths": (4,)} if settings(Model).keys() >= {*SETTINGS} else {}
        model = make(Model, **{**non_default(Model), **small})
        model.compile(keras.optimizers.Adam(1e-2))
        fit(model, x)
    if "normal" in model.SAMPLERS:
        model.fit_sampler("normal", x)
    model.save(FOLDER / f"{name}.keras")
    np.savez_compressed(FOLDER / f"{name}.npz", **given(model, x))


def write_run():
    """Writes the directory of a run, `run`."""
    run = runs.Run(FOLDER / "run", "written", description="A run to read.", seed=1)
    x = np.uint8(255 * pictures())

    def build():
        model = keras_ae.VAE(2, architecture="dense", widths=(4,))
        model.compile(keras.optimizers.Adam(1e-2))
        return model

    model = run.model(build)
    run.fit(model, x[:12], x[12:], epochs=2, batch_size=4)
    run.evaluate(model, x[12:])
    # The report is made anew, and names the folder in which it is.
    run.finish()
    for name in ("report.html", "README.md"):
        (run.directory / name).unlink()
    shutil.rmtree(run.directory / "pictures")


def public_names():
    """Every `NAME` and `MODULE.NAME` that is public in the package, in order."""
    found = {*keras_ae.__all__}
    for name in keras_ae.__all__:
        module = getattr(keras_ae, name)
        if isinstance(module, types.ModuleType):
            found |= {
                f"{name}.{inner}"
                for inner, value in vars(module).items()
                if not inner.startswith("_")
                and str(getattr(value, "__module__", "")).startswith(module.__name__)
            }
    return sorted(found)


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in models.__all__:
        if not (FOLDER / f"{name}.keras").exists():
            write_model(name)
            print(name, (FOLDER / f"{name}.keras").stat().st_size, flush=True)
    if not (FOLDER / "run").exists():
        write_run()
    names = FOLDER / "names.txt"
    if not names.exists():
        names.write_text("\n".join(public_names()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
