"""What the KL is for: without it the posteriors shrink to points, in between nothing.

A VAE is told a code with noise, z = μ(x) + σ(x) ε. Nothing but the KL keeps it from
turning the noise off: with β = 0 the posterior's σ falls from epoch to epoch, beside
codes that spread, and what is left is an autoencoder, whose prior draws no digits.
With β = 1 it does not. On paper a prior N(0, 0.01²) makes the same model, all shrunk
by a hundred, where KL = 5000 (μ² + σ²) - log σ - 5.105 for one number of a code; but
weights and steps are made for numbers about 1, and it learns far less in the same
epochs. And one number a code says less than three, by nats and to the eye.

Reference:
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014.
"""

import keras
import numpy as np

import keras_ae


class Spread(keras.callbacks.Callback):
    """Logs the mean σ of the posteriors of `x`, and it as a share of all that moves."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def on_epoch_end(self, epoch, logs=None):
        logs.update(spread(self.model, self.x))


def spread(model, x):
    """Mean σ of the posteriors of `x`, and its share of the codes' deviation."""
    drawn = np.stack([model.sample_posterior(x, seed=seed) for seed in range(16)])
    stddev = drawn.std(axis=0).mean(axis=0)  # (latent_dim,)
    noise = stddev / drawn.std(axis=(0, 1))
    return {"stddev": float(stddev.mean()), "noise": float(noise.mean())}


def main(run, latent_dim=8, learning_rate=1e-3, patience=10):
    train, validation, test = run.load("mnist")
    digits = run.labels["test"]["label"]
    narrow = keras_ae.distributions.Normal(stddev=0.01)
    variants = {
        "beta_1": {"latent_dim": latent_dim},
        "beta_0": {"latent_dim": latent_dim, "beta": 0.0},
        "narrow_prior": {"latent_dim": latent_dim, "prior": narrow},
        "one_number": {"latent_dim": 1},
        "three_numbers": {"latent_dim": 3},
    }

    def build(options):
        model = keras_ae.VAE(
            architecture="dense",
            widths=(256, 256),
            activation="swish",
            likelihood="bernoulli",
            **options,
        )
        model.compile(keras.optimizers.Adam(learning_rate))
        return model

    curves, samples = {}, []
    restored = [np.float32(test[:12]) / 255.0]
    for name, options in variants.items():
        # The run's own model is the one with the KL and the usual prior.
        part = run if name == "beta_1" else run.child(name)
        model = part.model(lambda options=options: build(options))
        part.fit(
            model,
            train,
            validation,
            epochs=20,
            batch_size=128,
            patience=patience,
            extra_callbacks=[Spread(validation[:500])],
        )
        found = model.evaluate(test, verbose=0, return_dict=True)
        figures = {
            **spread(model, test[:2000]),
            # The term of β = 0 is 0, the divergence is not.
            "kl": -found["elbo"] - found["reconstruction"],
            "mse": found["mse"],
            "elbo": found["elbo"],
        }
        run.scores(**{f"{name}_{key}": value for key, value in figures.items()})
        if model.latent_dim == latent_dim:
            for key in ("stddev", "noise"):
                curves[f"{name} {key}"] = [row[key] for row in part.history]
        samples.append(model.sample(12, seed=run.seed, sampler="prior"))
        restored.append(model.reconstruct(test[:12]))
        if part is run:
            run.evaluate(model, test)
            run.pictures(model, test, digits, "digit")
    rows = ", ".join(name.replace("_", " ") for name in variants)
    run.picture(
        "noise",
        keras_ae.plots.loss_curves(curves),
        "The posterior's mean σ by epoch, and it as a share of the codes' deviation: 0 "
        "is an autoencoder, 1 a code that says nothing.",
    )
    run.picture(
        "prior",
        keras_ae.plots.sheet(np.concatenate(samples), columns=12),
        f"Samples from the prior, a model a row: {rows}.",
    )
    run.picture(
        "restored",
        keras_ae.plots.sheet(np.concatenate(restored), columns=12),
        f"Test digits, and as they are restored, a model a row: {rows}.",
    )
