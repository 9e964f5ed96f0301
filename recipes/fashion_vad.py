"""A variational auto-decoder on Fashion-MNIST, which also restores missing pixels.

A VAE without an encoder: each training picture owns the mean and log-variance of its
posterior, learned together with the decoder. Those of test pictures are searched for,
by the same ELBO with the decoder fixed. A pixel that is missing just does not count in
it, so that a search over the other half of the pixels restores the whole picture.

Reference:
    Zadeh et al., Variational Auto-Decoder, 2019.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=16,
    widths=(512, 256),
    learning_rate=2e-3,
    code_learning_rate=0.2,
    patience=20,
    searched=1000,
    missing_ratio=0.5,
):
    train, validation, test = run.load("fashion-mnist")
    test = test[:searched]
    labels = run.labels["test"]["label"][:searched]
    epochs = run.epochs or 60
    batch_size = run.batch_size or 128

    def build():
        model = keras_ae.VariationalAutoDecoder(
            latent_dim=latent_dim,
            architecture="dense",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
        )
        steps = epochs * -(-len(train) // batch_size)
        decay = keras.optimizers.schedules.CosineDecay
        model.compile(
            {
                "decoder": keras.optimizers.Adam(decay(learning_rate, steps)),
                # A posterior is moved once an epoch only.
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
        # Posteriors of validation pictures are searched for each epoch.
        validation[:200],
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
    )
    run.evaluate(model, test)
    run.pictures(model, test, labels, "class")

    observed = np.random.default_rng(run.seed).random(test.shape) >= missing_ratio
    restored = model.reconstruct(test, mask=observed)
    squares = np.square(restored - test / np.float32(255))
    run.scores(missing_ratio=missing_ratio, missing_mse=squares[~observed].mean())
    shown = np.where(observed, test, 128).astype("uint8")
    rows = [test[:10], shown[:10], np.rint(255 * restored[:10]).astype("uint8")]
    run.picture(
        "missing",
        keras_ae.plots.sheet(np.concatenate(rows), columns=len(rows[0])),
        f"Held-back pictures, the same with {missing_ratio:.0%} of the pixels missing "
        "(grey), and what the model makes of the others.",
    )
