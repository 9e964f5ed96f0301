"""A VQ-GAN on CelebA faces, 64 px: sharp faces of tokens, which a PixelCNN draws.

A face is a grid of 8 by 8 tokens, each one of 1,024 vectors; the likelihood, the
features of a discriminator of patches and its verdict pull at the picture together. A
PixelCNN then learns which tokens follow which, and draws new faces token by token.
Measured on held-back faces: how well and how sharply they are restored, how sharp
samples are, as a share of the faces' own sharpness, and the Fréchet distance in the
features of a classifier of CelebA's attributes. Beside samples are the faces that they
are nearest to: they should not be copies. `--set beside=runs/NAME` measures another
run's model alike.

Reference:
    Esser et al., Taming Transformers for High-Resolution Image Synthesis, 2021.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=16,
    num_codes=1024,
    widths=(16, 48, 96),
    perceptual_weight=1.0,
    adversarial_weight=0.5,
    discriminator_start=3,
    learning_rate=1e-3,
    discriminator_rate=5e-4,
    prior_epochs=30,
    beside="",
):
    train, validation, test = run.load("celeba", image_size=64)
    # What is not there should be missed before hours of training, not after.
    other = run.trained(beside, test) if beside else None
    epochs = run.epochs or 20
    batch_size = run.batch_size or 32

    def build():
        model = keras_ae.VQGAN(
            latent_dim,
            num_codes,
            widths=widths,
            activation="swish",
            perceptual_weight=perceptual_weight,
            adversarial_weight=adversarial_weight,
            discriminator_start=discriminator_start,
        )
        steps = epochs * -(-len(train) // batch_size)
        model.compile(
            {
                "autoencoder": keras.optimizers.Adam(
                    keras.optimizers.schedules.CosineDecay(learning_rate, steps)
                ),
                "discriminator": keras.optimizers.Adam(discriminator_rate, beta_1=0.5),
            }
        )
        return model

    model = run.model(build)
    run.fit(model, train, validation, epochs=epochs, batch_size=batch_size)
    run.fit_sampler(model, "pixelcnn", train, epochs=prior_epochs)
    run.evaluate(model, test)
    perplexity, usage = keras_ae.quantizers.code_usage(model.tokens(test), num_codes)
    run.scores(
        used_codes=keras.ops.convert_to_numpy(usage),
        codes_perplexity=keras.ops.convert_to_numpy(perplexity),
        bits=np.prod(model.token_shape) * np.log2(num_codes),
    )
    run.pictures(model, test)
    models = {"vqgan": model} if other is None else {"vqgan": model, "beside": other}
    run.compare(models, train, test, run.feature_network(train))
