"""Generative latent optimisation on CelebA faces, 64 px, code of 128 numbers.

A decoder alone: each training face has a code of its own in the unit ball, learned
together with the decoder. The loss is the distance of Laplacian pyramids, in which
edges weigh as much as colours. Codes of held-back faces are searched for, and new ones
drawn from a Gaussian, as in the paper, or from a mixture of ten that is fitted to the
codes of the training faces.

Reference:
    Bojanowski et al., Optimizing the Latent Space of Generative Networks, 2018.
"""

import keras

import keras_ae


def main(
    run,
    latent_dim=128,
    learning_rate=1e-3,
    code_learning_rate=1e-2,
    patience=12,
    searched=256,
):
    train, validation, test = run.load("celeba", image_size=64)
    epochs = run.epochs or 40
    batch_size = run.batch_size or 64

    def build():
        model = keras_ae.GLO(latent_dim=latent_dim, activation="swish")
        steps = epochs * -(-len(train) // batch_size)
        decay = keras.optimizers.schedules.CosineDecay
        model.compile(
            {
                "decoder": keras.optimizers.Adam(decay(learning_rate, steps)),
                # Codes have a length of at most 1: a number of one is about 0.1.
                "codes": keras.optimizers.Adam(
                    decay(code_learning_rate, steps), beta_2=0.99
                ),
            }
        )
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        # Codes of validation faces are searched for each epoch.
        validation[:64],
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
    )

    run.evaluate(model, test[:searched])
    run.pictures(model, test[:searched])
    for name, sampler in (("samples", "gaussian"), ("samples_mixture", "mixture")):
        run.picture(
            name,
            keras_ae.plots.sheet(model.sample(64, seed=run.seed, sampler=sampler)),
            f"Samples: codes drawn from the {sampler} that is fitted to those of the "
            "training faces, decoded.",
        )
