"""A Wasserstein autoencoder on CelebA faces, 64 px, code of 64 numbers.

The encoder gives one code a face, without noise, and the maximum mean discrepancy holds
the codes of a batch as a whole to the prior: faces that are drawn from it are decoded
like faces that are restored. As in the paper a code has 64 numbers; the weight of the
penalty is that of half the squared error, which the loss here is.

Reference:
    Tolstikhin et al., Wasserstein Auto-Encoders, 2018.
"""

import keras

import keras_ae


def main(run, latent_dim=64, penalty_weight=2000.0, learning_rate=1e-3, patience=12):
    train, validation, test = run.load("celeba", image_size=64)
    epochs = run.epochs or 30
    batch_size = run.batch_size or 64

    def build():
        model = keras_ae.WAE(
            latent_dim=latent_dim, penalty_weight=penalty_weight, activation="swish"
        )
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(optimizer=keras.optimizers.Adam(rate))
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
    run.pictures(model, test)
