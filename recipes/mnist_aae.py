"""A semi-supervised adversarial autoencoder: 60,000 digits, 1,000 of them labelled.

The encoder of 1000-1000 units gives a style z of 10 numbers and the class y; one
discriminator holds z to N(0, I), another y to classes drawn evenly, and the labelled
digits name the classes. The paper reports 1.60 % test error with 1,000 labels and
1.90 % with 100, after thousands of epochs; this is a schedule of minutes. Labelled
digits come up ten times an epoch, and Gaussian noise on the encoder's input keeps them
from being learnt by heart. No digit is held back and no epoch chosen: the last weights
count.

Reference:
    Makhzani et al., Adversarial Autoencoders, 2015.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    labels=1000,
    latent_dim=10,
    units=1000,
    noise=0.3,
    repeats=10,
    learning_rate=1e-3,
    adversarial_rate=5e-4,
):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    digits = run.labels["train+validation"]["label"].astype("int64")
    test_digits = run.labels["test"]["label"].astype("int64")
    chosen = drawn_evenly(digits, labels, run.seed)
    known = np.full(len(train), -1)
    known[chosen] = digits[chosen]
    # The first time among all the others.
    shown = np.concatenate([np.arange(len(train)), np.tile(chosen, repeats - 1)])
    epochs = run.epochs or 25
    batch_size = run.batch_size or 100

    def build():
        encoder = keras.Sequential(
            [
                keras.Input(train.shape[1:]),
                keras.layers.Flatten(),
                keras.layers.GaussianNoise(noise),
                keras.layers.Dense(units, "relu"),
                keras.layers.Dense(units, "relu"),
                keras.layers.Dense(latent_dim + 10),
            ],
            name="encoder",
        )
        model = keras_ae.AAE(
            latent_dim=latent_dim,
            num_classes=10,
            architecture="dense",
            widths=(units, units),
            encoder=encoder,
            likelihood=keras_ae.likelihoods.Gaussian(1.0, activation="sigmoid"),
        )
        steps = epochs * -(-len(shown) // batch_size)

        def adam(rate, **kwargs):
            rate = keras.optimizers.schedules.CosineDecay(rate, steps)
            return keras.optimizers.Adam(rate, **kwargs)

        model.compile(
            optimizer={
                "autoencoder": adam(learning_rate),
                "discriminator": adam(adversarial_rate, beta_1=0.5),
                "encoder": adam(adversarial_rate, beta_1=0.5),
                "classifier": adam(learning_rate),
            }
        )
        return model

    model = run.model(build)
    run.fit(
        model,
        train[shown],
        test,
        epochs=epochs,
        batch_size=batch_size,
        labels=known[shown],
        validation_labels=test_digits,
    )

    run.evaluate(model, test, labels=test_digits)
    run.pictures(model, test, test_digits, "digit")
    columns = [model.sample(10, seed=run.seed, labels=digit) for digit in range(10)]
    run.picture(
        "styles",
        keras_ae.plots.sheet(
            np.stack(columns, axis=1).reshape(-1, *train.shape[1:]), columns=10
        ),
        "One style a row, drawn from the prior, in each of the ten classes.",
    )
    errors = model.classify(test).argmax(axis=1) != test_digits
    run.scores(
        test_error=errors.mean(), labelled=len(chosen), paper_test_error_1000=0.0160
    )


def drawn_evenly(labels, count, seed):
    """Indices of about `count` examples, as many of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = np.unique(labels)
    share = -(-count // len(classes))
    return np.concatenate([order[labels[order] == c][:share] for c in classes])
