"""Principal components of MNIST: the linear yardstick, 30 numbers a digit.

The figure to compare is the summed squared error of a test digit: 13.87 in the paper,
against which its deep autoencoder reaches 3.00 (the recipe `mnist-ae`). The components
are those of all 60,000 training digits, computed in closed form: there is nothing to
choose, and the test digits decide nothing. Beside it a linear autoencoder descends to
the same subspace, which is measured too.

Reference:
    Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks,
    2006; Baldi and Hornik, Neural Networks and Principal Component Analysis, 1989.
"""

import keras
import numpy as np

import keras_ae


def main(run, latent_dim=30, learning_rate=1e-2, linear_epochs=60):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    digits = run.labels["test"]["label"]
    batch_size = min(run.batch_size or 1000, len(train))

    model = run.model(lambda: keras_ae.PCA(latent_dim))
    run.fit(model, train, test, epochs=1, batch_size=batch_size, monitor="loss")

    def build():
        linear = keras_ae.AE(latent_dim, architecture="linear")
        steps = linear_epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        linear.compile(keras.optimizers.Adam(rate))
        return linear

    beside = run.child("linear-ae")
    linear = beside.model(build)
    beside.fit(
        linear,
        train,
        test,
        epochs=linear_epochs,
        batch_size=batch_size,
        patience=linear_epochs,
        monitor="loss",
    )

    error, linear_error = (
        keras_ae.metrics.mse(test, found.reconstruct(test)) * test[0].size
        for found in (model, linear)
    )
    kernel = keras.ops.convert_to_numpy(linear.decoder.layers[1].kernel)
    run.evaluate(model, test)
    run.scores(
        summed_squared_error=error,
        paper_summed_squared_error=13.87,
        linear_ae_summed_squared_error=linear_error,
        largest_angle_to_linear_ae_in_degrees=largest_angle(
            model.components.reshape(latent_dim, -1), kernel
        ),
        explained_variance=model.explained_variance_ratio.sum(),
    )
    run.picture(
        "components",
        keras_ae.plots.filters(model.components),
        "The principal components, those of most variance first: grey is 0, white "
        "positive, black negative.",
    )
    run.pictures(model, test, digits, "digit")


def largest_angle(a, b):
    """Largest principal angle between the subspaces that the rows span, in degrees."""
    bases = [np.linalg.qr(rows.T.astype("float64"))[0] for rows in (a, b)]
    cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    return float(np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))))
