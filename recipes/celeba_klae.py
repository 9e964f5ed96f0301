"""A KL autoencoder on CelebA faces, 64 px, and a flow that draws its codes.

The code is a grid of 8 by 8 Gaussian vectors; the likelihood, the features of a
discriminator of patches and its verdict pull at the picture together. A rectified flow
learns where the codes of faces lie, which is what latent diffusion does. Measured on
held-back faces: how well and how sharply they are restored, how sharp samples of the
flow and of a mixture are, as a share of the faces' own sharpness, and the Fréchet
distance in the features of a classifier of CelebA's attributes. Beside samples are the
faces that they are nearest to: they should not be copies. `--set beside=runs/NAME`
measures another run's model alike.

Reference:
    Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022.
"""

import keras

import keras_ae


def main(
    run,
    latent_dim=8,
    widths=(16, 48, 96),
    beta=0.01,
    perceptual_weight=1.0,
    adversarial_weight=0.5,
    discriminator_start=3,
    learning_rate=1e-3,
    discriminator_rate=5e-4,
    flow_epochs=100,
    beside="",
):
    train, validation, test = run.load("celeba", image_size=64)
    # What is not there should be missed before hours of training, not after.
    other = run.trained(beside, test) if beside else None
    epochs = run.epochs or 20
    batch_size = run.batch_size or 32

    def build():
        model = keras_ae.KLAutoencoder(
            latent_dim,
            widths=widths,
            activation="swish",
            beta=beta,
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
    run.fit_sampler(model, "mixture", train)
    run.fit_sampler(model, "flow", train, epochs=flow_epochs)
    run.evaluate(model, test)
    run.pictures(model, test)
    models = {"klae": model} if other is None else {"klae": model, "beside": other}
    run.compare(models, train, test, run.feature_network(train))
