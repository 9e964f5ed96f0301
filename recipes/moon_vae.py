"""A VAE that finds the half moon between new moon and full moon (nothing to download).

Half the way between two pictures is a grey double exposure. Half the way between their
codes should be a picture that could be: between a new moon and a full moon, the half
moon. A VAE is trained so that every code near those of the data decodes well; a plain
autoencoder of the same networks is asked for nothing between its codes. Both are
trained here on waxing moons, and the phase of their midpoints is measured (0 is a new
moon, 0.5 a half moon, 1 a full moon).
"""

import keras
import numpy as np

import keras_ae
from keras_ae.datasets import moon


def main(run, latent_dim=8, scale=0.5, learning_rate=1e-3, patience=15):
    splits = run.load("moon-phases", image_size=32)
    # Waxing moons only: with the waning ones the phases make a circle, and half the way
    # from one side of a circle to the other there is nothing.
    train, validation, test = (
        images[labels["phase"] < 0.5]
        for images, labels in zip(splits, run.labels.values(), strict=True)
    )
    phases = run.labels["test"]["phase"]

    networks = {
        "latent_dim": latent_dim,
        "architecture": "dense",
        "activation": "swish",
        # The scale weighs reconstruction against the KL: a larger one smooths more.
        "likelihood": keras_ae.likelihoods.Gaussian(scale, activation="sigmoid"),
    }
    training = {"epochs": 60, "batch_size": 100, "patience": patience}

    def compiled(model):
        model.compile(optimizer=keras.optimizers.Adam(learning_rate))
        return model

    vae = run.model(lambda: compiled(keras_ae.VAE(**networks)))
    run.fit(vae, train, validation, **training)

    beside = run.child("ae")
    ae = beside.model(lambda: compiled(keras_ae.AE(**networks)))
    beside.fit(ae, train, validation, **training)

    run.evaluate(vae, test)
    run.pictures(vae, test, phases[phases < 0.5], "phase")
    compare(run, vae, ae, test.shape[1:3])


def compare(run, vae, ae, image_size, pairs=64):
    """Measures both models half the way from new moons to full moons."""
    random = np.random.default_rng(run.seed)
    place = {
        "tilt": random.uniform(-0.4, 0.4, pairs),
        "size": random.uniform(0.28, 0.38, pairs),
        "x": random.uniform(-0.08, 0.08, pairs),
        "y": random.uniform(-0.08, 0.08, pairs),
        "image_size": image_size,
    }
    new_moons = moon.render(0.0, **place)
    full_moons = moon.render(0.5, **place)
    rows = []
    for name, model in (("vae", vae), ("ae", ae)):
        steps = model.interpolate(new_moons, full_moons, steps=9)
        measured = [moon.measure_phase(steps[:, index]) for index in (0, 4, 8)]
        new, middle, full = (float(np.nanmean(phase)) for phase in measured)
        run.scores(
            **{
                f"{name}_new_moon_phase": new,
                f"{name}_midpoint_phase": middle,
                f"{name}_full_moon_phase": full,
                f"{name}_midpoint_from_half_moon": float(
                    np.nanmean(np.abs(measured[1] - 0.5))
                ),
            }
        )
        rows.append(steps[:3])
    run.picture(
        "new_moon_to_full_moon",
        keras_ae.plots.interpolation(np.concatenate(rows)),
        "From new moon to full moon, in equal steps between the codes: three rows of "
        "the VAE, then the same three moons through the plain autoencoder.",
    )
