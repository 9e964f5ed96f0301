"""A convolutional VAE on CelebA faces, 64 px, code of 128 numbers.

The likelihood is a Gaussian whose scale is the optimal one. Then β = 1 restores faces
best, but spends so many nats on a code that codes drawn from the prior lie where none
of a few thousand faces was: the samples are ghosts. A larger β gives up sharpness for
samples that are faces.
"""

import keras

import keras_ae


def main(run, latent_dim=128, beta=15.0, learning_rate=1e-3, patience=12):
    train, validation, test = run.load("celeba", image_size=64)
    epochs = run.epochs or 30
    batch_size = run.batch_size or 64

    def build():
        model = keras_ae.VAE(latent_dim=latent_dim, beta=beta, activation="swish")
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
