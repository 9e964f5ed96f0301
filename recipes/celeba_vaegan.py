"""A VAE-GAN on CelebA faces, 64 px, beside the VAE of the same encoder and decoder.

The VAE is that of `celeba-vae`, whose reconstructions are averages of all faces that a
code may stand for. The VAE-GAN reconstructs what a discriminator looks at, and is
judged by it; a little weight on the pixels keeps colours true. Measured of both, on
held-back faces: how sharp reconstructions and samples are, as a share of the faces' own
sharpness, and the Fréchet distance in the features of a classifier of CelebA's
attributes. `--set vae=runs/celeba-vae` takes a trained VAE instead of training one.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=128,
    beta=5.0,
    gamma=None,
    pixel_weight=0.1,
    adversarial_loss="non_saturating",
    discriminator_rate=1e-3,
    vae="",
    vae_beta=15.0,
):
    # What is not there should be missed before hours of training, not after.
    trained_vae = keras_ae.runs.load_model(vae) if vae else None
    train, validation, test = run.load("celeba", image_size=64)
    if trained_vae is not None and trained_vae.built_image_shape != test.shape[1:]:
        raise ValueError(
            f"`vae` must be of pictures {test.shape[1:]}. Received: {vae}, of "
            f"{trained_vae.built_image_shape}"
        )
    networks = {"latent_dim": latent_dim, "activation": "swish"}
    training = {"epochs": 30, "batch_size": 64}

    def build():
        model = keras_ae.VAEGAN(
            **networks,
            beta=beta,
            gamma=gamma,
            pixel_weight=pixel_weight,
            adversarial_loss=adversarial_loss,
        )
        adam = keras.optimizers.Adam(discriminator_rate, beta_1=0.5)
        model.compile({"discriminator": adam})
        return model

    def build_vae():
        model = keras_ae.VAE(**networks, beta=vae_beta)
        epochs = run.epochs or training["epochs"]
        batch_size = run.batch_size or training["batch_size"]
        rate = keras.optimizers.schedules.CosineDecay(
            1e-3, epochs * -(-len(train) // batch_size)
        )
        model.compile(keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(model, train, validation, **training)
    if trained_vae is None:
        beside = run.child("vae")
        trained_vae = beside.model(build_vae)
        beside.fit(trained_vae, train, validation, **training, patience=12)

    run.evaluate(model, test)
    run.pictures(model, test)
    compare(run, {"vae": trained_vae, "vaegan": model}, train, test)


def compare(run, models, train, test):
    """Draws and measures reconstructions and samples of both models."""
    network = attribute_classifier(run, train)
    faces_sharpness = keras_ae.metrics.sharpness(test)
    rows = {"reconstructions": [test[:10] / 255], "samples": []}
    for name, model in models.items():
        drawn = {
            "reconstructions": model.reconstruct(test),
            "samples": model.sample(len(test), seed=run.seed),
        }
        for kind, pictures in drawn.items():
            pictures = np.clip(pictures, 0, 1)
            rows[kind].append(pictures[: 10 if kind == "reconstructions" else 30])
            sharpness = keras_ae.metrics.sharpness(pictures) / faces_sharpness
            run.scores(**{f"{name}_{kind}_sharpness": sharpness})
            if network is not None:
                distance = keras_ae.metrics.frechet_distance(
                    network.features(test), network.features(pictures)
                )
                run.scores(**{f"{name}_{kind}_frechet_distance": distance})
    run.picture(
        "reconstructions_side_by_side",
        keras_ae.plots.sheet(np.concatenate(rows["reconstructions"]), columns=10),
        "Held-back faces, the VAE's reconstructions, the VAE-GAN's.",
    )
    run.picture(
        "samples_side_by_side",
        keras_ae.plots.sheet(np.concatenate(rows["samples"]), columns=10),
        "Samples: three rows of the VAE, then three of the VAE-GAN.",
    )


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
