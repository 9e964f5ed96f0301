"""A GAN on MNIST, and whether it draws all ten digits.

A convolutional generator against a spectrally normalised discriminator. An independent
classifier, trained on the real digits, reads 1,000 samples: a GAN that has collapsed
draws some digits rarely or never. The samples come from a running average of the
generator.
"""

import keras_ae


def main(
    run,
    latent_dim=64,
    adversarial_loss="non_saturating",
    learning_rate=2e-4,
    ema_momentum=0.999,
    samples=1000,
):
    train, _, test = run.load("mnist")

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
    run.fit(model, train, test, epochs=20, batch_size=128)
    run.evaluate(model, test)
    run.pictures(model, test, run.labels["test"]["label"], "digit")
