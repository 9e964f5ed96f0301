"""A GAN on MNIST, and whether it draws all ten digits.

A convolutional generator against a spectrally normalised discriminator. An independent
classifier, trained on the real digits, reads 1,000 samples: a GAN that has collapsed
draws some digits rarely or never. The samples come from a running average of the
generator.
"""

import numpy as np

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
    count_digits(run, model, train, test, samples)


def count_digits(run, model, train, test, samples):
    """Lets a classifier read samples, and scores how often each digit occurs."""
    classifier = keras_ae.features.train(
        train, run.labels["train"]["label"], seed=run.seed
    )
    labels = run.labels["test"]["label"]
    read = classifier.predict(test).argmax(axis=1)
    pictures = model.sample(samples, seed=run.seed)
    probabilities = classifier.predict(pictures)
    digits = probabilities.argmax(axis=1)
    shares = np.bincount(digits, minlength=10) / samples
    print("Share of each digit among the samples, as the classifier reads them:")
    print("  ".join(f"{digit}: {share:.1%}" for digit, share in enumerate(shares)))
    run.scores(
        samples=samples,
        rarest_digit_share=shares.min(),
        commonest_digit_share=shares.max(),
        sure_of=np.mean(probabilities.max(axis=1) > 0.9),
        classifier_accuracy=np.mean(read == labels),
    )
    order = np.argsort(digits, kind="stable")
    chosen = [order[digits[order] == digit][:10] for digit in range(10)]
    blank = np.zeros_like(pictures[:1])
    rows = [
        np.concatenate([pictures[row], np.repeat(blank, 10 - len(row), axis=0)])
        for row in chosen
    ]
    run.picture(
        "digits",
        keras_ae.plots.sheet(np.concatenate(rows), columns=10),
        "Samples by the digit that the classifier reads, one digit a row.",
    )
