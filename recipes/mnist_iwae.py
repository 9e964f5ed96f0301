"""Importance weighted autoencoders of 1, 5 and 50 samples on binarised MNIST.

The network is Burda's of one layer, 784-200-200-50, on digits that are drawn in black
and white anew each epoch, and each model takes the same steps. Compared are the
negative log-likelihoods of the test digits, by 5,000 importance samples each, and the
active units. In the paper, after 3,280 epochs: 86.76 nats and 19 units with one sample
(a VAE), 85.54 and 22 with five, 84.78 and 25 with fifty. As there all 60,000 digits
train, and nothing is held back: the last weights are judged.

Fifty samples take fifty times as many decodings as one: on a CPU a shortened schedule,
`--epochs 10` say, keeps the order of the three and not the figures.

Reference:
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=50,
    learning_rate=1e-3,
    samples=(1, 5, 50),
    test_samples=5000,
    test_digits=10_000,
):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    digits = run.labels["test"]["label"]
    epochs = run.epochs or 200
    batch_size = run.batch_size or 100
    white = keras_ae.runs.binarized(test, seed=run.seed)[:test_digits]
    # The run's own model is the one of most samples; the others have folders in it.
    for count in sorted(samples, reverse=True):
        own = count == max(samples)
        part = run if own else run.child(f"{count}-samples")

        def build(count=count):
            model = keras_ae.IWAE(
                latent_dim,
                samples=count,
                architecture="dense",
                widths=(200, 200),
                activation="tanh",
                likelihood="bernoulli",
            )
            steps = epochs * -(-len(train) // batch_size)
            rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
            model.compile(keras.optimizers.Adam(rate))
            return model

        model = part.model(build)
        part.fit(
            model,
            train,
            test,
            epochs=epochs,
            batch_size=batch_size,
            patience=epochs,
            monitor="loss",
            binarize=True,
        )
        nats = model.log_likelihood(white, samples=test_samples, seed=run.seed)
        print(f"{count} samples: {-np.mean(nats):.2f} nats")
        run.scores(
            **{
                f"negative_log_likelihood_{count}_samples": -np.mean(nats),
                f"active_units_{count}_samples": keras_ae.metrics.active_units(
                    model.encode(white)
                ),
            }
        )
        if own:
            run.evaluate(model, test, binarize=True)
            run.pictures(model, test, digits, "digit")
    run.scores(importance_samples=test_samples)
