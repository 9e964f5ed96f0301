"""Principal components of MNIST: the linear yardstick, 30 numbers a digit.

The figure to compare is the summed squared error of a test digit: 13.87 in the paper,
against which its deep autoencoder reaches 3.00 (the recipe `mnist-ae`). The components
are those of all 60,000 training digits, computed in closed form: there is nothing to
choose, and the test digits decide nothing.

Reference:
    Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks,
    2006.
"""

import numpy as np

import keras_ae


def main(run, latent_dim=30):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    digits = run.labels["test"]["label"]

    model = run.model(lambda: keras_ae.PCA(latent_dim))
    run.fit(model, train, test, epochs=1, batch_size=256, monitor="loss")

    scores = run.evaluate(model, test)
    run.scores(
        summed_squared_error=scores["mse"] * test[0].size,
        paper_summed_squared_error=13.87,
        explained_variance=model.explained_variance_ratio.sum(),
    )
    components = model.components
    largest = np.abs(components).max(axis=(1, 2, 3), keepdims=True)
    run.picture(
        "components",
        keras_ae.plots.sheet(0.5 + 0.5 * components / largest),
        "The principal components, those of most variance first: grey is 0, white "
        "positive, black negative.",
    )
    run.pictures(model, test, digits, "digit")
