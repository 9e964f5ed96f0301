"""A KL autoencoder on CelebA faces, 64 px, and a flow that draws its codes.

The code is a grid of 8 by 8 Gaussian vectors; the likelihood, the features of a
discriminator of patches and its verdict pull at the picture together. A rectified flow
learns where the codes of faces lie, which is what latent diffusion does. Measured on
held-back faces: how well and how sharply they are restored, how sharp samples of the
flow and of a mixture are, as a share of the faces' own sharpness, and the Fréchet
distance in the features of a classifier of CelebA's attributes. Beside samples are the
faces that they are nearest to: they should not be copies. `--set beside=runs/NAME`
measures another run's model alike.

Reference:
    Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=8,
    widths=(16, 48, 96),
    beta=0.01,
    perceptual_weight=1.0,
    adversarial_weight=0.5,
    discriminator_start=3,
    learning_rate=1e-3,
    discriminator_rate=5e-4,
    flow_epochs=100,
    beside="",
):
    # What is not there should be missed before hours of training, not after.
    other = keras_ae.runs.load_model(beside) if beside else None
    train, validation, test = run.load("celeba", image_size=64)
    if other is not None and other.built_image_shape != test.shape[1:]:
        raise ValueError(
            f"`beside` must be of pictures {test.shape[1:]}. Received: {beside}, of "
            f"{other.built_image_shape}"
        )
    epochs = run.epochs or 20
    batch_size = run.batch_size or 32

    def build():
        model = keras_ae.KLAutoencoder(
            latent_dim,
            widths=widths,
            activation="swish",
            beta=beta,
            perceptual_weight=perceptual_weight,
            adversarial_weight=adversarial_weight,
            discriminator_start=discriminator_start,
        )
        steps = epochs * -(-len(train) // batch_size)
        model.compile(
            {
                "autoencoder": keras.optimizers.Adam(
                    keras.optimizers.schedules.CosineDecay(learning_rate, steps)
                ),
                "discriminator": keras.optimizers.Adam(discriminator_rate, beta_1=0.5),
            }
        )
        return model

    model = run.model(build)
    run.fit(model, train, validation, epochs=epochs, batch_size=batch_size)
    run.fit_sampler(model, "mixture", train)
    run.fit_sampler(model, "flow", train, epochs=flow_epochs)
    run.evaluate(model, test)
    run.pictures(model, test)
    models = {"klae": model} if other is None else {"klae": model, "beside": other}
    measure(run, models, train, test)


def measure(run, models, train, test):
    """Measures and draws reconstructions and samples of all models."""
    faces = test / 255
    network = attribute_classifier(run, train)
    features = None if network is None else network.features(test)
    shown = {"faces": faces[:10]}
    for name, model in models.items():
        restored = np.clip(model.reconstruct(test), 0, 1)
        errors = np.mean(np.square(restored - faces), axis=(1, 2, 3))
        run.scores(**{f"{name}_psnr": float(np.mean(-10 * np.log10(errors)))})
        drawn = {"reconstructions": restored}
        for sampler in model.fitted_samplers or (None,):
            drawn[f"samples_{sampler or 'default'}"] = np.clip(
                model.sample(len(test), seed=run.seed, sampler=sampler), 0, 1
            )
        for kind, pictures in drawn.items():
            shown[f"{name} {kind}"] = pictures[:10]
            sharpness = keras_ae.metrics.sharpness(pictures)
            sharpness /= keras_ae.metrics.sharpness(test)
            run.scores(**{f"{name}_{kind}_sharpness": sharpness})
            if network is not None:
                distance = keras_ae.metrics.frechet_distance(
                    features, network.features(pictures)
                )
                run.scores(**{f"{name}_{kind}_frechet_distance": distance})
        samples = drawn[kind]
        run.picture(
            f"{name}_samples",
            keras_ae.plots.sheet(samples[:64], columns=16),
            f"Samples of {name}, by the sampler that was fitted last.",
        )
    run.picture(
        "side_by_side",
        keras_ae.plots.labelled({"64 pixels": shown}),
        "Held-back faces, what becomes of them, and samples.",
    )
    samples = np.clip(models["klae"].sample(10, seed=run.seed), 0, 1)
    run.picture(
        "nearest",
        keras_ae.plots.labelled(
            {"copies, or not": {"samples": samples, "nearest": nearest(samples, train)}}
        ),
        "Samples, and the training faces whose pixels are nearest.",
    )


def nearest(samples, train):
    """Returns the training picture that is nearest to each sample."""
    flat = train.reshape(len(train), -1)
    found = []
    for sample in np.rint(255 * samples).reshape(len(samples), -1).astype("int32"):
        distances = [
            np.square(part.astype("int32") - sample).sum(axis=1)
            for part in np.array_split(flat, max(1, len(flat) // 500))
        ]
        found.append(train[np.concatenate(distances).argmin()])
    return np.stack(found) / 255


def attribute_classifier(run, train):
    """A classifier of the faces' attributes for its features; None without any."""
    labels = run.labels["train"]
    names = [name for name in labels if name != "path"]
    if not names:
        print("No Fréchet distance: there is no list_attr_celeba.txt to learn from.")
        return None
    targets = np.stack([labels[name] for name in names], axis=1)
    network = keras_ae.features.train(train, targets, seed=run.seed)
    network.save(run.directory / "features.keras")
    return network
