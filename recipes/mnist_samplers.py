"""Which way to draw codes suits which autoencoder: samplers compared on MNIST.

An autoencoder, a regularized one and a VAE, all of the same dense networks, are trained
on the same digits. To the codes of each, for the VAE drawn from its posteriors, several
distributions are fitted afterwards, of which new codes are drawn. The score is the
Fréchet distance of 10,000 samples to the test digits, in the features of one classifier
that is trained on the real digits, beside that of the model's reconstructions, which
samples can hardly beat, and that of training digits. Ghosh et al. found that a fitted
mixture of ten components takes most of the distance away that a fitted normal leaves.

Reference:
    Ghosh et al., From Variational to Deterministic Autoencoders, 2020.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=16,
    widths=(512, 256),
    learning_rate=1e-3,
    patience=10,
    sampler_epochs=30,
    flow_epochs=100,
    samples=10_000,
):
    train, validation, test = run.load("mnist")
    digits = run.labels["test"]["label"]
    epochs = run.epochs or 40
    batch_size = run.batch_size or 128

    def build(Model):
        model = Model(
            latent_dim,
            architecture="dense",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    classifier = keras_ae.features.train(
        train, run.labels["train"]["label"], seed=run.seed
    )
    features = classifier.features(test)

    def distance(pictures):
        return keras_ae.metrics.frechet_distance(
            features, classifier.features(pictures)
        )

    run.scores(training_digits_frechet_distance=distance(train[: len(test)]))
    # The run's own model is the VAE; the others have folders in it.
    for Model in (keras_ae.VAE, keras_ae.AE, keras_ae.RAE):
        name = Model.__name__.lower()
        part = run if Model is keras_ae.VAE else run.child(name)
        model = part.model(lambda Model=Model: build(Model))
        part.fit(
            model,
            train,
            validation,
            epochs=epochs,
            batch_size=batch_size,
            patience=patience,
        )
        pictures = {}
        for sampler in (*(["prior"] if model.draws_by_itself else []), *model.SAMPLERS):
            if sampler != "prior":
                lengths = {
                    **dict.fromkeys(("maf", "two_stage", "vampprior"), sampler_epochs),
                    "flow": flow_epochs,
                }
                learned = {"epochs": lengths[sampler]} if sampler in lengths else {}
                part.fit_sampler(model, sampler, train, **learned)
            pictures[sampler] = model.sample(samples, seed=run.seed, sampler=sampler)
        scores = {
            "reconstructions": distance(model.reconstruct(test)),
            **{sampler: distance(drawn) for sampler, drawn in pictures.items()},
        }
        for sampler, score in scores.items():
            print(f"{name}, {sampler}: Fréchet distance {score:.1f}")
        run.scores(**{f"{name}_{key}": score for key, score in scores.items()})
        run.picture(
            f"samples_{name}",
            keras_ae.plots.sheet(
                np.concatenate([drawn[:12] for drawn in pictures.values()]), columns=12
            ),
            f"Samples of the {Model.__name__}, a sampler a row: {', '.join(pictures)}.",
        )
        if part is run:
            run.evaluate(model, test)
            run.pictures(model, test, digits, "digit")
    run.scores(samples=samples)
