"""Deterministic autoencoders: a code is a point."""

from typing import Any

from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.probability.likelihoods import Gaussian


class AE(Autoencoder):
    """Autoencoder: the code z = encoder(x) from which decoder(z) restores x.

        loss(x) = -log p(x | z),  z = encoder(x)

    With a Gaussian likelihood of scale 1, the default, this is half the squared error,
    summed over pixels, plus log(2π) / 2 a pixel. `architecture="linear"` finds the
    subspace of PCA.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example; see `Autoencoder`, also for the arguments
            below. Defaults to the shape of the first batch.
        architecture: `"auto"`, `"linear"`, `"dense"`, `"conv"` or `"residual"`.
        widths: Units or filters of the encoder's layers.
        activation: Activation of the hidden layers.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        encoder: Your own Keras model from x to codes `(batch, latent_dim)`.
        decoder: Your own Keras model from codes to the likelihood's parameters.
        **kwargs: `name`, `dtype` and `trainable`.

    Example:

    ```python
    model = keras_ae.AE(latent_dim=30)
    model.fit(x_train, validation_data=x_test, epochs=10)
    codes = model.encode(x_test)  # (n, 30)
    restored = model.decode(codes)  # (n, height, width, channels)
    ```

    Reference:
        Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural
        Networks, 2006 (https://doi.org/10.1126/science.1127647).
    """

    def __init__(self, latent_dim: int = 32, *, likelihood: Any = None, **kwargs):
        if likelihood is None:
            likelihood = Gaussian(scale=1.0)
        super().__init__(latent_dim, likelihood=likelihood, **kwargs)

    def code(self, x, training=False):
        """Returns the codes of a batch, `(batch, latent_dim)`."""
        return self.encoder(self.to_floats(x), training=training)

    def call(self, x, training=False):
        z = self.code(x, training)  # (batch, latent_dim)
        parameters = self.decoder(z, training=training)  # (batch, *image_shape)
        return {"z": z, "parameters": parameters}

    def terms(self, x, outputs, training=False):
        log_prob = self.likelihood.log_prob(x, outputs["parameters"], training)
        return {"reconstruction": -log_prob}

    def encode_batch(self, x):
        return self.code(x)
