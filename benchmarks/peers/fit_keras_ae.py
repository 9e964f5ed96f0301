"""`fit` of keras-ae, as its users call it: pictures in uint8, no option set."""

import math

import keras
from keras import layers

import keras_ae
from keras_ae import machine


class Epochs(keras.callbacks.Callback):
    """Tells the clock of each epoch's end."""

    def __init__(self, clock, constant=0.0):
        super().__init__()
        self.clock, self.constant = clock, constant

    def on_epoch_end(self, epoch, logs=None):
        self.clock.epoch(logs["loss"] - self.constant)


def model(workload):
    """Returns the model, and what its loss has that the other contestants leave out."""
    if workload.architecture == "vqvae":
        return vqvae(workload)
    gaussian = workload.likelihood == "gaussian"
    built = keras_ae.VAE(
        workload.latent_dim,
        architecture=workload.architecture,
        widths=workload.widths,
        likelihood=keras_ae.likelihoods.Gaussian(1.0) if gaussian else "bernoulli",
    )
    constant = 0.5 * math.log(2 * math.pi) * workload.values if gaussian else 0.0
    return built, constant


def vqvae(workload):
    """pythae's VQ-VAE for MNIST, layer for layer."""
    rows, columns = workload.grid
    code = rows * columns * workload.latent_dim

    def convolution(filters, size, strides=1):
        return layers.Conv2D(filters, size, strides, padding="same")

    def residual(x):
        h = convolution(32, 3)(layers.ReLU()(x))
        return layers.Add()([x, convolution(128, 1)(layers.ReLU()(h))])

    inputs = keras.Input(workload.image_shape)
    x = convolution(64, 4, 2)(inputs)
    x = convolution(128, 4, 2)(x)
    x = convolution(128, 3, 2)(x)
    x = residual(residual(x))
    x = layers.Flatten()(convolution(workload.latent_dim, 1)(x))
    encoder = keras.Model(inputs, x)

    def transposed(filters, **options):
        return layers.Conv2DTranspose(filters, 3, 2, **options)

    inputs = keras.Input((code,))
    x = layers.Reshape((rows, columns, workload.latent_dim))(inputs)
    x = convolution(128, 1)(x)
    x = layers.Cropping2D(1)(transposed(128)(x))  # 4 x 4 become 7 x 7
    x = layers.ReLU()(residual(residual(x)))
    x = layers.ReLU()(transposed(64, padding="same")(x))
    decoder = keras.Model(inputs, transposed(1, padding="same")(x))
    built = keras_ae.VQVAE(
        workload.latent_dim,
        num_codes=256,
        architecture="conv",
        widths=workload.widths,
        encoder=encoder,
        decoder=decoder,
        # Squared error and commitment as pythae weighs them: a sum and a mean.
        likelihood=keras_ae.likelihoods.Gaussian(math.sqrt(0.5), activation="sigmoid"),
        commitment_weight=0.25 / code,
        reset_threshold=0.0,
    )
    return built, 0.5 * math.log(math.pi) * workload.values


def train(workload, x, settings, clock):
    keras.utils.set_random_seed(settings["seed"])
    keras.config.set_dtype_policy(settings["precision"])
    built, constant = model(workload)
    clock.start()
    # Peers start at zero, and losses are compared.
    built.starts_at_mean = False
    built.fit(
        x,
        batch_size=workload.batch_size,
        epochs=settings["epochs"],
        callbacks=[Epochs(clock, constant)],
    )
    return machine.device(keras.config.backend())
