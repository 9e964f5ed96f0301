"""Each kind of clothing once as what is normal: AUROC of an autoencoder's anomalies.

`mnist-oneclass` on Fashion-MNIST, with the same settings.

Reference:
    Ruff et al., Deep One-Class Classification, 2018
    (https://proceedings.mlr.press/v80/ruff18a.html), for the protocol.
"""

from keras_ae.recipes.mnist_oneclass import one_class


def main(run, latent_dim=16, widths=(512, 256), learning_rate=1e-3, seeds=3):
    one_class(run, "fashion-mnist", latent_dim, widths, learning_rate, seeds)
