"""Moons as often as they are: a flow draws codes as data have them (no download).

The renderer draws phase, tilt, size and place of its moons evenly. Does a generative
model? An autoencoder learns the moons, and a rectified flow where their codes lie. The
factors of 2,000 samples are measured in the pictures and compared with those of the
training moons, measured alike: the Kolmogorov-Smirnov distance is the largest
difference of two cumulative shares. A mixture fitted to the same codes, and a VAE's
prior, are beside it; 0.04 is what as many true moons come to by chance, at times.

Reference:
    Liu et al., Flow Straight and Fast: Learning to Generate and Transfer Data with
    Rectified Flow, 2023.
"""

import keras
import numpy as np

import keras_ae
from keras_ae.datasets import moon


def main(
    run,
    latent_dim=8,
    widths=(1024, 512),
    learning_rate=1e-3,
    flow_epochs=150,
    samples=2000,
):
    train, validation, test = run.load("moon-phases", image_size=32)
    epochs = run.epochs or 60
    batch_size = run.batch_size or 100

    def build(Model):
        model = Model(
            latent_dim,
            architecture="dense",
            widths=widths,
            activation="swish",
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    beside = run.child("vae")
    models = {}
    for part, Model in ((run, keras_ae.AE), (beside, keras_ae.VAE)):
        model = part.model(lambda Model=Model: build(Model))
        part.fit(
            model,
            train,
            validation,
            epochs=epochs,
            batch_size=batch_size,
            patience=epochs,
        )
        models[Model.__name__] = model
    model = models["AE"]
    run.fit_sampler(model, "mixture", train)
    run.fit_sampler(model, "flow", train, epochs=flow_epochs)
    drawn = {
        "flow": model.sample(samples, seed=run.seed, sampler="flow"),
        "mixture": model.sample(samples, seed=run.seed, sampler="mixture"),
        "prior": models["VAE"].sample(samples, seed=run.seed, sampler="prior"),
        "test_moons": test,
        "reconstructions": model.reconstruct(test),
    }
    real = moon.measure(train[:5000])
    for name, pictures in drawn.items():
        found = moon.measure(pictures)
        apart = {factor: _distance(found[factor], real[factor]) for factor in real}
        shown = ", ".join(f"{factor} {value:.3f}" for factor, value in apart.items())
        print(f"{name.replace('_', ' ')}: {shown}")
        run.scores(**{f"{name}_{factor}": value for factor, value in apart.items()})
        run.scores(**{f"{name}_farthest": max(apart.values())})
    run.scores(samples=samples)
    run.evaluate(model, test)
    run.pictures(model, test)
    run.picture(
        "drawn",
        keras_ae.plots.labelled(
            {
                "Moons": {
                    "rendered": train[:16],
                    "flow": drawn["flow"][:16],
                    "mixture": drawn["mixture"][:16],
                    "VAE's prior": drawn["prior"][:16],
                }
            }
        ),
        "Moons that were rendered, and drawn by models.",
    )


def _distance(found, real):
    """The Kolmogorov-Smirnov distance of two sets of numbers, nan left out."""
    found, real = (np.sort(values[~np.isnan(values)]) for values in (found, real))
    if not len(found):
        return 1.0
    values = np.concatenate([found, real])
    shares = [
        np.searchsorted(some, values, side="right") / len(some)
        for some in (found, real)
    ]
    return np.abs(shares[0] - shares[1]).max()
