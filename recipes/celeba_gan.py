"""A GAN on CelebA faces, 64 px, and the search for the code of a face.

A convolutional generator and a spectrally normalised discriminator of the size of
`celeba-vae`'s networks. A GAN has no encoder: `project` searches for the codes of
held-back faces. Its samples are sharp, and its reconstructions are other people's
faces.
"""

import keras_ae


def main(
    run,
    latent_dim=128,
    adversarial_loss="hinge",
    learning_rate=2e-4,
    ema_momentum=0.999,
):
    train, _, test = run.load("celeba", image_size=64)

    def build():
        model = keras_ae.GAN(
            latent_dim=latent_dim,
            adversarial_loss=adversarial_loss,
            spectral_norm=True,
            ema_momentum=ema_momentum,
        )
        model.optimizer.learning_rate = learning_rate
        return model

    model = run.model(build)
    run.fit(model, train, test, epochs=60, batch_size=64)
    run.evaluate(model, test)
    run.pictures(model, test)
