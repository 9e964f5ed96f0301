"""VQ-VAE on MNIST: each digit is 49 tokens, a grid of 7 by 7, out of 128 codes.

The figures to look at are the mean squared error of a test digit's pixels, which should
be below 0.0043, and the share of the codes that the test digits use, which should be
above 90 %: a codebook that collapses has few codes in use. A PixelCNN then learns which
tokens follow which, and draws new digits token by token; an independent classifier,
trained on the real digits, says of how many it is more than 90 % sure.

Reference:
    van den Oord et al., Neural Discrete Representation Learning, 2017.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=16,
    num_codes=128,
    widths=(64, 128),
    scale=0.1,
    learning_rate=1e-3,
    patience=10,
    prior_epochs=30,
    samples=1000,
):
    train, validation, test = run.load("mnist")
    digits = run.labels["test"]["label"]
    epochs = run.epochs or 20
    batch_size = run.batch_size or 128

    def build():
        model = keras_ae.VQVAE(
            latent_dim,
            num_codes,
            architecture="conv",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(scale, activation="sigmoid"),
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        validation,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
    )

    run.evaluate(model, test)
    perplexity, usage = keras_ae.quantizers.code_usage(model.tokens(test), num_codes)
    run.scores(
        used_codes=keras.ops.convert_to_numpy(usage),
        codes_perplexity=keras.ops.convert_to_numpy(perplexity),
        tokens=np.prod(model.token_shape),
        bits=np.prod(model.token_shape) * np.log2(num_codes),
    )

    run.fit_sampler(model, "pixelcnn", train, epochs=prior_epochs)
    nats = model.sampler("pixelcnn").log_prob(model.tokens(test[:1000]))
    drawn = model.sample(samples, seed=run.seed)
    classifier = keras_ae.features.train(
        train, run.labels["train"]["label"], seed=run.seed
    )
    run.scores(
        tokens_negative_log_likelihood=-np.mean(keras.ops.convert_to_numpy(nats)),
        samples=samples,
        recognised_samples=recognised(classifier, drawn),
        recognised_test_digits=recognised(classifier, test),
        rarest_digit_share=np.bincount(
            classifier.predict(drawn).argmax(axis=1), minlength=10
        ).min()
        / samples,
    )
    run.pictures(model, test, digits, "digit")


def recognised(classifier, pictures):
    """Share of pictures whose digit a classifier is sure of."""
    return np.mean(classifier.predict(pictures).max(axis=1) > 0.9)
