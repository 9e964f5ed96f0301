"""A conditional VAE on dynamically binarised MNIST: told the digit, it codes the style.

The network, the schedule and the 60,000 digits of `mnist-vae`, with each digit's label
given to encoder and decoder, beside the same VAE without labels. Test digits give the
ELBO of both, and by importance sampling -log p(x | y) given the label and, with the ten
classes summed over, -log p(x), which is what compares with the VAE's. The classes of
test digits are told by Bayes' rule from their ELBOs; and an independent classifier,
trained on the real digits, reads how many samples are of the class that was asked for.
Nothing is held back, as in `mnist-vae`: the best weights are those of the lowest
training loss.

Reference:
    Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional
    Generative Models, 2015; Kingma et al., Semi-Supervised Learning with Deep
    Generative Models, 2014.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=50,
    learning_rate=2e-3,
    patience=200,
    importance_samples=1000,
    samples=10_000,
):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    labels = run.labels["train+validation"]["label"].astype("int64")
    digits = run.labels["test"]["label"].astype("int64")
    epochs = run.epochs or 200
    batch_size = run.batch_size or 100

    def build(Model, **kwargs):
        model = Model(
            latent_dim=latent_dim,
            architecture="dense",
            widths=(200, 200),
            activation="tanh",
            likelihood="bernoulli",
            **kwargs,
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(optimizer=keras.optimizers.Adam(rate))
        return model

    training = {
        "epochs": epochs,
        "batch_size": batch_size,
        "patience": patience,
        "monitor": "loss",
        "binarize": True,
    }
    model = run.model(lambda: build(keras_ae.ConditionalVAE, num_classes=10))
    run.fit(model, train, test, labels=labels, validation_labels=digits, **training)
    unconditional = run.child("vae")
    vae = unconditional.model(lambda: build(keras_ae.VAE))
    unconditional.fit(vae, train, test, **training)

    run.evaluate(model, test, binarize=True, labels=digits)
    run.pictures(model, test, digits, "digit")
    # One seeded draw of black and white test digits, that of `run.evaluate`.
    white = keras_ae.runs.binarized(test, seed=run.seed)

    def nats(model, samples, **kwargs):
        return -np.mean(model.log_likelihood(white, samples, run.seed, **kwargs))

    run.scores(
        negative_log_likelihood_given_label=nats(
            model, importance_samples, labels=digits
        ),
        # As many codes in all, a tenth of them for each class.
        negative_log_likelihood=nats(model, max(1, importance_samples // 10)),
        vae_negative_log_likelihood=nats(vae, importance_samples),
        vae_elbo=vae.evaluate(white, verbose=0, return_dict=True)["elbo"],
        importance_samples=importance_samples,
        classify_accuracy=np.mean(model.classify(white).argmax(axis=1) == digits),
    )

    classifier = keras_ae.features.train(train, labels, seed=run.seed)

    def accuracy(pictures, asked):
        return np.mean(classifier.predict(pictures).argmax(axis=1) == asked)

    asked = np.arange(samples) % 10
    run.scores(
        classifier_accuracy=accuracy(test, digits),
        samples_read_as_asked=accuracy(
            model.sample(samples, seed=run.seed, labels=asked), asked
        ),
    )
    columns = [model.sample(10, seed=run.seed, labels=digit) for digit in range(10)]
    run.picture(
        "styles",
        keras_ae.plots.sheet(
            np.stack(columns, axis=1).reshape(-1, *train.shape[1:]), columns=10
        ),
        "One style a row, drawn from the prior, in each of the ten classes.",
    )
