"""A VAE on dynamically binarised Fashion-MNIST, 784-300-300-40.

Each epoch draws new black and white pictures from the grey values, and all 60,000
train. The figure to compare is the negative log-likelihood of the test pictures by
importance sampling: 228.70 nats for a VAE of gated networks of this size that was
trained far longer.

Reference:
    Norouzi, Fleet and Norouzi, Exemplar VAE, 2020, for the figure.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=40,
    widths=(300, 300),
    learning_rate=1e-3,
    warm_up=10,
    importance_samples=1000,
):
    train, test = run.load("fashion-mnist", splits=("train+validation", "test"))
    classes = run.labels["test"]["label"]
    epochs = run.epochs or 100
    batch_size = run.batch_size or 100

    def build():
        model = keras_ae.VAE(
            latent_dim,
            architecture="dense",
            widths=widths,
            activation="swish",
            likelihood="bernoulli",
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        test,
        epochs=epochs,
        batch_size=batch_size,
        patience=epochs,
        monitor="loss",
        binarize=True,
        extra_callbacks=[keras_ae.callbacks.BetaWarmUp(min(warm_up, epochs))],
    )
    run.evaluate(model, test, binarize=True)
    run.pictures(model, test, classes, "class")
    white = keras_ae.runs.binarized(test, seed=run.seed)
    nats = model.log_likelihood(white, samples=importance_samples, seed=run.seed)
    run.scores(
        negative_log_likelihood=-np.mean(nats), importance_samples=importance_samples
    )
