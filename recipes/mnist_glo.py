"""Generative latent optimisation on MNIST: digits from a decoder alone.

There is neither an encoder nor a discriminator: each training digit has a code of its
own in the unit ball, and codes and decoder descend the distance of Laplacian pyramids
together. New codes are drawn from what is fitted to those of the training digits: one
Gaussian, as in the paper, or a mixture of ten. An independent classifier, trained on
the real digits, reads the samples, and its features give their Fréchet distance to test
digits, beside that of training digits, which is as low as it gets.

A code of 32 numbers restores digits less sharply than one of 64, and gives better
samples.

Reference:
    Bojanowski et al., Optimizing the Latent Space of Generative Networks, 2018.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=32,
    learning_rate=1e-3,
    code_learning_rate=1e-2,
    patience=8,
    searched=1000,
    samples=10_000,
):
    train, validation, test = run.load("mnist")
    labels = run.labels["test"]["label"]
    epochs = run.epochs or 25
    batch_size = run.batch_size or 128

    def build():
        model = keras_ae.GLO(latent_dim=latent_dim)
        steps = epochs * -(-len(train) // batch_size)
        decay = keras.optimizers.schedules.CosineDecay
        model.compile(
            {
                "decoder": keras.optimizers.Adam(decay(learning_rate, steps)),
                # Codes have a length of at most 1: a number of one is about 0.1.
                "codes": keras.optimizers.Adam(
                    decay(code_learning_rate, steps), beta_2=0.99
                ),
            }
        )
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        # Codes of validation digits are searched for each epoch.
        validation[:100],
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
    )
    run.evaluate(model, test[:searched])
    run.pictures(model, test[:searched], labels[:searched], "digit")

    classifier = keras_ae.features.train(
        train, run.labels["train"]["label"], seed=run.seed
    )
    features = classifier.features(test)
    run.scores(
        classifier_accuracy=np.mean(classifier.predict(test).argmax(axis=1) == labels),
        training_digits_frechet_distance=keras_ae.metrics.frechet_distance(
            features, classifier.features(train[: len(test)])
        ),
    )
    for sampler in ("gaussian", "mixture"):
        pictures = model.sample(samples, seed=run.seed, sampler=sampler)
        run.scores(
            **{
                f"{sampler}_{name}": score
                for name, score in judged(pictures, classifier, features).items()
            }
        )
        run.picture(
            "samples" if sampler == "gaussian" else "samples_mixture",
            keras_ae.plots.sheet(pictures[:64]),
            f"Samples: codes drawn from the {sampler} that is fitted to those of the "
            "training digits, decoded.",
        )


def judged(pictures, classifier, features):
    """Scores of samples by what a classifier reads and by its features."""
    probabilities = classifier.predict(pictures)
    counts = np.bincount(probabilities.argmax(axis=1), minlength=10)
    return {
        "rarest_digit_share": counts.min() / len(pictures),
        "commonest_digit_share": counts.max() / len(pictures),
        "sure_of": np.mean(probabilities.max(axis=1) > 0.9),
        "frechet_distance": keras_ae.metrics.frechet_distance(
            features, classifier.features(pictures)
        ),
    }
