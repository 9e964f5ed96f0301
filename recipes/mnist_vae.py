"""Burda's one-layer VAE on dynamically binarised MNIST, 784-200-200-50.

Each epoch draws new black and white digits from the grey values. The figure to compare
is the negative log-likelihood of the test digits, by 5,000 importance samples each:
86.76 nats in the paper, after 3,280 epochs, with 19 active units. As in the paper all
60,000 digits train and nothing is held back: the best weights are those of the lowest
training loss, and the curve of the test digits decides nothing.

Reference:
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016.
"""

import keras
import numpy as np

import keras_ae


def main(run, latent_dim=50, learning_rate=2e-3, patience=200, samples=5000):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    digits = run.labels["test"]["label"]
    epochs = run.epochs or 200
    batch_size = run.batch_size or 100

    def build():
        model = keras_ae.VAE(
            latent_dim=latent_dim,
            architecture="dense",
            widths=(200, 200),
            activation="tanh",
            likelihood="bernoulli",
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(optimizer=keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        test,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        monitor="loss",
        binarize=True,
    )

    run.evaluate(model, test, binarize=True)
    run.pictures(model, test, digits, "digit")
    # Of one seeded draw of black and white test digits.
    white = keras_ae.runs.binarized(test, seed=run.seed)
    nats = model.log_likelihood(white, samples=samples, seed=run.seed)
    run.scores(
        negative_log_likelihood=-float(np.mean(nats)),
        importance_samples=samples,
        paper_negative_log_likelihood=86.76,
        paper_active_units=19,
    )
