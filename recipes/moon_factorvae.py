"""A FactorVAE and a VAE take moons apart, and a score says how far (no download).

Five independent factors are behind each picture: phase, tilt, size and the place of the
moon. A VAE knows them, mixed over its latent dimensions; a FactorVAE also asks for
independent dimensions, and comes closer to one for each factor. Both get the same
networks, likelihood, prior, pictures, steps and learning rate, with three seeds each.

The score is the mutual information gap (MIG): how much more one latent dimension says
about a factor than any other does, as a share of all there is to know. It is measured
on codes drawn from the posteriors of freshly rendered moons.

Reference:
    Kim and Mnih, Disentangling by Factorising, 2018; Chen et al., Isolating Sources of
    Disentanglement in Variational Autoencoders, 2018.
"""

import keras
import numpy as np

import keras_ae
from keras_ae import metrics
from keras_ae.datasets import moon


def main(
    run,
    latent_dim=8,
    gamma=35.0,
    beta=1.0,
    scale=0.2,
    learning_rate=5e-4,
    discriminator_learning_rate=1e-3,
    seeds=3,
):
    splits = run.load("moon-phases", image_size=24)
    # Waxing moons only: the phase of all moons is an angle, and a circle has no
    # dimension of its own.
    train, validation, test = (
        images[labels["phase"] < 0.5]
        for images, labels in zip(splits, run.labels.values(), strict=True)
    )
    phases = run.labels["test"]["phase"]
    moons, factors = moon.waxing(10_000, test.shape[1:3], seed=1802)
    epochs = run.epochs or 200

    networks = {
        "latent_dim": latent_dim,
        "architecture": "dense",
        "widths": (256, 128),
        "activation": "swish",
        "beta": beta,
        "likelihood": keras_ae.likelihoods.Gaussian(scale, activation="sigmoid"),
    }

    def vae():
        model = keras_ae.VAE(**networks)
        model.compile(keras.optimizers.Adam(learning_rate))
        return model

    def factor_vae():
        model = keras_ae.FactorVAE(
            gamma=gamma, discriminator_widths=(128, 128), **networks
        )
        model.compile(
            {
                "vae": keras.optimizers.Adam(learning_rate),
                "discriminator": keras.optimizers.Adam(
                    discriminator_learning_rate, beta_1=0.5, beta_2=0.9
                ),
            }
        )
        return model

    gaps = {"factorvae": [], "vae": []}
    models = {}
    for seed in range(run.seed, run.seed + seeds):
        for name, build in (("factorvae", factor_vae), ("vae", vae)):
            # The first FactorVAE is the run's own; the others have folders in it.
            own = not models
            part = run if own else run.child(f"{name}-seed-{seed}")
            part.seed = seed
            model = part.model(build)
            # No training ends early: both take the same steps.
            part.fit(
                model, train, validation, epochs=epochs, batch_size=100, patience=epochs
            )
            drawn = model.sample_posterior(moons, seed=seed)
            shares = metrics.mutual_information(drawn, factors)
            *_, second, first = np.sort(shares, axis=0)
            gaps[name].append(first - second)
            score = gaps[name][-1].mean()
            print(f"{name}, seed {seed}: mutual information gap {score:.3f}")
            run.scores(**{f"{name}_gap_seed_{seed}": score})
            models.setdefault(name, model)

    run.evaluate(models["factorvae"], test)
    run.pictures(models["factorvae"], test, phases[phases < 0.5], "phase")
    for name, by_seed in gaps.items():
        by_seed = np.array(by_seed)  # (seeds, factors)
        each = by_seed.mean(axis=1)
        run.scores(
            **{
                f"{name}_gap": each.mean(),
                f"{name}_gap_deviation": each.std(ddof=1) if seeds > 1 else 0.0,
            },
            **{
                f"{name}_gap_of_{factor}": gap
                for factor, gap in zip(moon.FACTORS, by_seed.mean(axis=0), strict=True)
            },
        )
        run.picture(
            f"factors_{name}",
            keras_ae.plots.traversal(traversals(models[name], moons)),
            "What one latent dimension after another does to a half moon, those that "
            f"vary most first: the {type(models[name]).__name__} of seed {run.seed}.",
        )


def traversals(model, moons):
    """What each latent dimension changes, `(latent_dim, 9, height, width, 1)`."""
    order = np.argsort(-model.encode(moons).var(axis=0))
    half_moon = moon.render(0.25, image_size=moons.shape[1:3])[0]
    return model.traverse(half_moon, dims=order, span=2.5)
