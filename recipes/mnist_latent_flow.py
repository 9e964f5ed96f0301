"""New digits from an autoencoder, by a flow that learns where its codes lie.

A plain autoencoder has no prior. A mixture of normal distributions fitted to its codes
draws digits of which some are none; a rectified flow, a network that carries noise to
codes, learns their distribution far better, and that of each class. The score is the
Fréchet distance of samples to the test digits, in the features of one classifier that
is trained on the real digits, beside that of reconstructions, which samples can hardly
beat, and that of training digits; and how often the classifier reads the digit that was
asked for.

Reference:
    Liu et al., Flow Straight and Fast: Learning to Generate and Transfer Data with
    Rectified Flow, 2023.
"""

import keras
import numpy as np

import keras_ae

GUIDANCE = 1.5


def main(
    run,
    latent_dim=16,
    widths=(512, 256),
    learning_rate=1e-3,
    flow_epochs=100,
    samples=10_000,
):
    train, validation, test = run.load("mnist")
    digits = run.labels["train"]["label"]
    epochs = run.epochs or 40
    batch_size = run.batch_size or 128

    def build():
        model = keras_ae.AE(
            latent_dim,
            architecture="dense",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(model, train, validation, epochs=epochs, batch_size=batch_size, patience=10)
    classifier = keras_ae.features.train(train, digits, seed=run.seed)
    features = classifier.features(test)

    def distance(pictures):
        return keras_ae.metrics.frechet_distance(
            features, classifier.features(pictures)
        )

    run.fit_sampler(model, "mixture", train)
    run.fit_sampler(model, "flow", train, labels=digits, epochs=flow_epochs)
    asked = np.arange(samples) % 10

    def draw(sampler="flow", count=samples, **options):
        return model.sample(count, seed=run.seed, sampler=sampler, **options)

    drawn = {
        "mixture": draw("mixture"),
        "flow": draw(),
        "flow_in_3_steps": draw(steps=3),
        "flow_of_classes": draw(labels=asked),
        "flow_guided": draw(labels=asked, guidance=GUIDANCE),
    }
    run.scores(
        training_digits_frechet_distance=distance(train[: len(test)]),
        reconstructions_frechet_distance=distance(model.reconstruct(test)),
        **{f"{name}_frechet_distance": distance(x) for name, x in drawn.items()},
    )
    for name in ("flow_of_classes", "flow_guided"):
        read = classifier.predict(drawn[name]).argmax(axis=1)
        run.scores(**{f"{name}_read_as_asked": np.mean(read == asked)})
    run.scores(samples=samples)
    run.evaluate(model, test)
    run.pictures(model, test, run.labels["test"]["label"], "digit")
    run.picture(
        "beside_a_mixture",
        keras_ae.plots.labelled(
            {
                "Digits drawn": {
                    "flow": drawn["flow"][:16],
                    "flow, 3 steps": drawn["flow_in_3_steps"][:16],
                    "mixture of ten": drawn["mixture"][:16],
                }
            }
        ),
        "Digits drawn by the flow, and by a mixture of normal distributions.",
    )
    classes = np.repeat(np.arange(10), 12)
    run.picture(
        "classes",
        keras_ae.plots.sheet(draw(count=len(classes), labels=classes), columns=12),
        "Digits drawn by the flow, a class a row.",
    )
