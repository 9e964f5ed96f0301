"""VQ-VAE on CelebA faces, 64 px: a face is 64 tokens, a grid of 8 by 8, out of 512.

A PixelCNN then learns which tokens follow which, and draws new faces token by token.

Reference:
    van den Oord et al., Neural Discrete Representation Learning, 2017.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=32,
    num_codes=512,
    widths=(32, 64, 128),
    scale=0.1,
    learning_rate=1e-3,
    patience=10,
    prior_epochs=30,
):
    train, validation, test = run.load("celeba", image_size=64)
    epochs = run.epochs or 30
    batch_size = run.batch_size or 64

    def build():
        model = keras_ae.VQVAE(
            latent_dim,
            num_codes,
            architecture="conv",
            widths=widths,
            activation="swish",
            likelihood=keras_ae.likelihoods.Gaussian(scale),
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
        bits=np.prod(model.token_shape) * np.log2(num_codes),
    )
    run.fit_sampler(model, "pixelcnn", train, epochs=prior_epochs)
    nats = model.sampler("pixelcnn").log_prob(model.tokens(test[:1000]))
    run.scores(
        tokens_negative_log_likelihood=-np.mean(keras.ops.convert_to_numpy(nats))
    )
    run.pictures(model, test)
