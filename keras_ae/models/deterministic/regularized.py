"""Regularised deterministic autoencoders: what is smooth need not be drawn."""

import math
from collections.abc import Callable

import keras
from keras import ops

from keras_ae import backend, checks
from keras_ae.backend import keras_private
from keras_ae.models.deterministic.autoencoder import AE
from keras_ae.nn import networks
from keras_ae.nn.layers import RademacherNoise, SpectralNormalization

# Derivatives of activations by their value z = s(a).
DERIVATIVES = {
    "linear": ops.ones_like,
    "sigmoid": lambda z: z * (1.0 - z),
    "tanh": lambda z: 1.0 - ops.square(z),
}

REGULARIZERS = ("l2", "gradient_penalty", "spectral_norm")


class ContractiveAE(AE):
    """Contractive autoencoder: a code that hardly moves when x does.

        loss(x) = -log p(x | z) + weight ||∂z/∂x||²,  z = s(encoder(x))

    with the squared Frobenius norm of the Jacobian. It is exact for a single layer,
    `architecture="linear"` with `code_activation="sigmoid"`, `"tanh"` or `"linear"`:

        ||∂z/∂x||² = Σ_j s'(a_j)² ||W_j||²,  a = encoder(x)

    and otherwise Hutchinson's unbiased estimate from random signs v,

        ||∂z/∂x||² = E_v ||vᵀ ∂z/∂x||².

    The Jacobian is that of `encode`: batch normalisation, if any, is in inference mode.
    A decoder can undo a code that merely shrinks; the paper ties its weights to the
    encoder's, and weight decay on the decoder has a like effect.

    `model.encoder` gives pre-activations a, `model.encode` the codes z.

    Args:
        latent_dim: Numbers in a code.
        weight: Weight of the penalty, >= 0.
        code_activation: Activation s of the code.
        samples: Sign vectors drawn for each example, >= 1. From `latent_dim` on they
            are replaced by the unit vectors, which give the exact norm. Each costs a
            pass through the encoder, there and back.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If an argument is out of range or the activation unknown.

    Example:

    ```python
    model = keras_ae.ContractiveAE(
        128, architecture="linear", code_activation="sigmoid"
    )
    model.fit(x_train, validation_data=x_test, epochs=10)
    codes = model.encode(x_test)  # (n, 128), in (0, 1)
    ```

    Reference:
        Rifai et al., Contractive Auto-Encoders: Explicit Invariance During Feature
        Extraction, 2011 (https://mlanthology.org/icml/2011/rifai2011icml-contractive);
        Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix, 1989
        (https://doi.org/10.1080/03610918908812806).
    """

    term_names: tuple[str, ...] = ("reconstruction", "contraction")

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        weight: float = 0.1,
        code_activation: str = "linear",
        samples: int = 4,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        checks.check_weight("weight", weight)
        checks.check_activation("code_activation", code_activation)
        self.weight = weight
        self.code_activation = code_activation
        self.samples = checks.check_count("samples", samples)
        self.noise = RademacherNoise()

    def code(self, x, training=False):
        activation = keras.activations.get(self.code_activation)
        return activation(super().code(x, training))

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        return {**terms, "contraction": self.weight * self._squared_norm(x, outputs)}

    def _squared_norm(self, x, outputs):
        """Returns ||∂z/∂x||², `(batch,)`."""
        z = outputs["z"]
        is_one_layer = self.architecture == "linear" and not self._given["encoder"]
        if is_one_layer and self.code_activation in DERIVATIVES:
            slopes = DERIVATIVES[self.code_activation](z)  # (batch, latent_dim)
            kernel = ops.convert_to_tensor(self.encoder.get_layer("z").kernel)
            row_norms = ops.sum(ops.square(kernel), axis=0)  # (latent_dim,)
            return ops.sum(ops.square(slopes) * row_norms, axis=-1)
        if self.samples < self.latent_dim:
            z = ops.broadcast_to(z, (self.samples, *ops.shape(z)))
            directions = self.noise(z)  # (samples, batch, latent_dim)
        else:
            basis = math.sqrt(self.latent_dim) * ops.eye(self.latent_dim)
            shape = (self.latent_dim, *ops.shape(z))
            directions = ops.broadcast_to(basis[:, None], shape)
        return squared_jacobian_norm(backend.pure(self, self.code), x, directions)


class RAE(AE):
    """Regularised autoencoder: a smooth decoder instead of a VAE's noise.

        loss(x) = -log p(x | z) + code_penalty + decoder_penalty,  z = encoder(x)

    The penalty on codes, code_weight ||z||² / 2, keeps them together, and `regularizer`
    keeps the decoder smooth between them:

    - `"l2"`: decoder_penalty = decoder_weight Σ w² over the decoder's kernels.
    - `"gradient_penalty"`: decoder_penalty = decoder_weight ||∂decode(z)/∂z||², the
      squared Frobenius norm of the Jacobian, by Hutchinson's unbiased estimate from
      random signs. Batch normalisation, if any, is in inference mode. As in the paper,
      the encoder learns from it too.
    - `"spectral_norm"`: no penalty; each dense layer and convolution of the decoder is
      divided by its largest singular value.

    Args:
        latent_dim: Numbers in a code.
        regularizer: `"l2"`, `"gradient_penalty"` or `"spectral_norm"`.
        code_weight: Weight of the penalty on codes, >= 0.
        decoder_weight: Weight of the penalty on the decoder, >= 0. Defaults to 1e-2;
            `"spectral_norm"` has none.
        likelihood: Distribution of the data given a code. Defaults to a Gaussian of
            scale 1.
        decoder: Your own Keras model from codes to the likelihood's parameters. For
            `"spectral_norm"`, wrap its layers in
            `keras_ae.layers.SpectralNormalization`.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If an argument is unknown or out of range.

    Example:

    ```python
    model = keras_ae.RAE(latent_dim=16, regularizer="gradient_penalty")
    model.fit(x_train, validation_data=x_test, epochs=10)
    row = model.interpolate(x_test[0], x_test[1])  # (9, height, width, channels)
    ```

    Reference:
        Ghosh et al., From Variational to Deterministic Autoencoders, 2020
        (https://arxiv.org/abs/1903.12436); Miyato et al., Spectral Normalization for
        Generative Adversarial Networks, 2018 (https://arxiv.org/abs/1802.05957).
    """

    term_names: tuple[str, ...] = ("reconstruction", "code_penalty", "decoder_penalty")

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        regularizer: str = "l2",
        code_weight: float = 1e-2,
        decoder_weight: float | None = None,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        if regularizer not in REGULARIZERS:
            raise ValueError(
                f"`regularizer` must be one of {', '.join(map(repr, REGULARIZERS))}. "
                f"Received: regularizer={regularizer!r}"
            )
        checks.check_weight("code_weight", code_weight)
        if decoder_weight is not None:
            checks.check_weight("decoder_weight", decoder_weight)
            if regularizer == "spectral_norm":
                raise ValueError(
                    "`decoder_weight` must be None: `regularizer='spectral_norm'` has "
                    "no penalty to weigh. Received: "
                    f"decoder_weight={decoder_weight!r}"
                )
        self.regularizer = regularizer
        self.code_weight = code_weight
        self.decoder_weight = decoder_weight
        if regularizer == "gradient_penalty":
            self.noise = RademacherNoise()
        elif regularizer == "spectral_norm":
            self.term_names = ("reconstruction", "code_penalty")

    def build_decoder(self, **options):
        return networks.decoder(
            spectral_norm=self.regularizer == "spectral_norm", **options
        )

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        if self.regularizer == "spectral_norm" and not any(
            isinstance(layer, SpectralNormalization)
            for layer in keras_private.layers(self.decoder)
        ):
            raise ValueError(
                "`regularizer='spectral_norm'` needs a decoder with layers wrapped in "
                "`keras_ae.layers.SpectralNormalization`. Received: a decoder without; "
                "wrap its Dense and Conv2D layers."
            )

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        z = outputs["z"]
        squares = ops.sum(ops.square(z), axis=-1)  # (batch,)
        terms["code_penalty"] = 0.5 * self.code_weight * squares
        if self.regularizer != "spectral_norm":
            weight = 1e-2 if self.decoder_weight is None else self.decoder_weight
            terms["decoder_penalty"] = weight * self._roughness(x, z)
        return terms

    def _roughness(self, x, z):
        """Returns what `regularizer` keeps small, `(batch,)`."""
        if self.regularizer == "gradient_penalty":
            directions = self.noise(x)[None]  # (1, batch, *image_shape)
            return squared_jacobian_norm(
                backend.pure(self, self.decode_batch), z, directions
            )
        # Biases and the parameters of normalisation are vectors.
        kernels = [w for w in self.decoder.trainable_variables if len(w.shape) > 1]
        squares = [ops.sum(ops.square(ops.cast(w, "float32"))) for w in kernels]
        return ops.broadcast_to(sum(squares, ops.zeros(())), (ops.shape(z)[0],))


def squared_jacobian_norm(function: Callable, x, directions):
    """Estimates the squared Frobenius norm of each example's Jacobian.

        ||∂f/∂x||² = E_v ||vᵀ ∂f/∂x||²  where E[v vᵀ] = I

    Args:
        function: Function of `(batch, ...)` that treats examples one by one.
        x: Tensor `(batch, ...)`.
        directions: The v, `(samples, batch, ...)`, each of the shape of `function(x)`.

    Returns:
        Tensor `(batch,)`, differentiable again.
    """
    samples, batch = ops.shape(directions)[:2]
    repeated = ops.broadcast_to(x, (samples, *ops.shape(x)))
    repeated = ops.reshape(repeated, (-1, *x.shape[1:]))
    directions = ops.reshape(directions, (-1, *directions.shape[2:]))
    products = backend.gradient(lambda x: function(x) * directions, repeated)
    norms = ops.sum(ops.square(ops.reshape(products, (samples, batch, -1))), axis=-1)
    return ops.mean(norms, axis=0)
