"""BetaTCVAE, BetaVAE and VAE take moons apart, and a score says how far (no download).

Five independent factors are behind each picture: phase, tilt, size and the place of the
moon. A large β asks for codes that say little and are independent; BetaTCVAE weighs
only the second, the total correlation, and so may keep more of the picture at the same
β. All get the same networks, likelihood, prior, pictures, steps and learning rate, with
three seeds each. The score is the mutual information gap (MIG) of codes drawn from the
posteriors of freshly rendered moons, beside it the mean squared error.

Reference:
    Chen et al., Isolating Sources of Disentanglement in Variational Autoencoders, 2018;
    Higgins et al., β-VAE, 2017.
"""

import keras
import numpy as np

import keras_ae
from keras_ae.datasets import moon


def main(run, latent_dim=8, beta=6.0, scale=0.2, learning_rate=5e-4, seeds=3):
    splits = run.load("moon-phases", image_size=24)
    # Waxing moons only, whose phase is a number.
    train, validation, test = (
        images[labels["phase"] < 0.5]
        for images, labels in zip(splits, run.labels.values(), strict=True)
    )
    phases = run.labels["test"]["phase"]
    moons, factors = moon.waxing(10_000, test.shape[1:3], seed=1802)
    epochs = run.epochs or 200
    makers = {
        "betatcvae": lambda **networks: keras_ae.BetaTCVAE(beta=beta, **networks),
        "betavae": lambda **networks: keras_ae.BetaVAE(beta=beta, **networks),
        "vae": keras_ae.VAE,
    }

    def build(name):
        model = makers[name](
            latent_dim=latent_dim,
            architecture="dense",
            widths=(256, 128),
            activation="swish",
            likelihood=keras_ae.likelihoods.Gaussian(scale, activation="sigmoid"),
        )
        model.compile(keras.optimizers.Adam(learning_rate))
        return model

    found = {name: [] for name in makers}
    for seed in range(run.seed, run.seed + seeds):
        for name, by_seed in found.items():
            # The first BetaTCVAE is the run's own; the others have folders in it.
            own = (name, seed) == ("betatcvae", run.seed)
            part = run if own else run.child(f"{name}-seed-{seed}")
            part.seed = seed
            model = part.model(lambda name=name: build(name))
            # No training ends early: all take the same steps.
            part.fit(
                model, train, validation, epochs=epochs, batch_size=100, patience=epochs
            )
            drawn = model.sample_posterior(moons, seed=seed)
            gap = keras_ae.metrics.mutual_information_gap(drawn, factors)
            mse = model.evaluate(test, verbose=0, return_dict=True)["mse"]
            print(
                f"{name}, seed {seed}: mutual information gap {gap:.3f}, mse {mse:.5f}"
            )
            by_seed.append((gap, mse))
            if own:
                run.evaluate(model, test)
                run.pictures(model, test, phases[phases < 0.5], "phase")
                order = np.argsort(-model.encode(moons).var(axis=0))
                half_moon = moon.render(0.25, image_size=test.shape[1:3])[0]
                run.picture(
                    "factors",
                    keras_ae.plots.traversal(
                        model.traverse(half_moon, dims=order, span=2.5)
                    ),
                    "What one latent dimension after another does to a half moon, "
                    f"those that vary most first: the BetaTCVAE of seed {seed}.",
                )
    for name, by_seed in found.items():
        gaps, errors = np.transpose(by_seed)
        run.scores(
            **{
                f"{name}_gap": gaps.mean(),
                f"{name}_gap_deviation": gaps.std(ddof=1) if seeds > 1 else 0.0,
                f"{name}_mse": errors.mean(),
            }
        )
