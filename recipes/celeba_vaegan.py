"""A VAE-GAN on CelebA faces, 64 px, beside the VAE of the same encoder and decoder.

The VAE is that of `celeba-vae`, whose reconstructions are averages of all faces that a
code may stand for. The VAE-GAN reconstructs what a discriminator looks at, and is
judged by it; a little weight on the pixels keeps colours true. Measured of both, on
held-back faces: how sharp reconstructions and samples are, as a share of the faces' own
sharpness, and the Fréchet distance in the features of a classifier of CelebA's
attributes. `--set vae=runs/celeba-vae` takes a trained VAE instead of training one.
"""

import keras

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
    train, validation, test = run.load("celeba", image_size=64)
    # What is not there should be missed before hours of training, not after.
    trained_vae = run.trained(vae, test) if vae else None
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
    models = {"vae": trained_vae, "vaegan": model}
    run.compare(models, train, test, run.feature_network(train))
