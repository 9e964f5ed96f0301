"""SphericalVAE: a variational autoencoder whose codes lie on a sphere."""

from keras import ops

from keras_ae import checks
from keras_ae.models.variational.noise_transformed import DrawnVAE
from keras_ae.models.variational.vae import LOG_VAR_RANGE
from keras_ae.probability import manifolds


class SphericalVAE(DrawnVAE):
    """Hyperspherical VAE: codes on the unit sphere, without a preferred place.

        loss(x) = reconstruction + kl
                = -log p(x | z) + β KL(q(z | x) || p(z)),  z ~ q(z | x)
        q(z | x) = vMF(z; mean(x), κ(x)),  p(z) uniform on the sphere |z| = 1

    The KL is in closed form. A normal prior draws all codes to one point, the origin; a
    uniform one on the sphere pulls nowhere, which suits clusters and directions. Its
    area shrinks with the dimension: it is at its best up to about 20 numbers in a code.

    The concentration is κ = latent_dim exp(-log_var): at a log-variance of 0, as in
    `VAE`, codes vary about as much as the prior's. `encode` returns the mean direction;
    `decode` takes codes of any length and sets it to 1, so that `interpolate` follows
    the sphere either way.

    Args:
        latent_dim: Numbers in a code, d >= 2; the sphere has d - 1 dimensions.
        likelihood: Distribution of the data given a code.
        beta: Weight of the KL, >= 0.
        encoder: Your own Keras model from x to a dict of `"mean"`, of any length, and
            `"log_var"`, whose mean counts, each `(batch, latent_dim)`.
        **kwargs: As for `VAE`, without `prior` and `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.SphericalVAE(latent_dim=3, likelihood="bernoulli")
    model.fit(x_train, epochs=50)
    directions = model.encode(x_test)  # (n, 3), of length 1
    ```

    Reference:
        Davidson et al., Hyperspherical Variational Auto-Encoders, 2018
        (https://arxiv.org/abs/1804.00891).
    """

    settled_arguments: tuple[str, ...] = ("prior", "free_bits")
    keeps_to_prior = True

    def __init__(self, latent_dim: int = 10, **kwargs):
        self.refuse_settled(kwargs, "the prior is uniform on the sphere")
        super().__init__(latent_dim, **kwargs)
        checks.check_count("latent_dim", latent_dim, minimum=2)
        self.prior = manifolds.UniformOnSphere(self.latent_dim)

    def posterior(self, x, training=False) -> manifolds.VonMisesFisher:
        """Returns q(z | x), for mean directions `(batch, latent_dim)`."""
        heads = self.encoder(self.to_floats(x), training=training)
        log_var = ops.mean(ops.cast(heads["log_var"], "float32"), axis=-1)
        return manifolds.VonMisesFisher(
            heads["mean"],
            self.latent_dim * ops.exp(-ops.clip(log_var, *LOG_VAR_RANGE)),
        )

    def divergence(self, posterior, z, log_posterior):
        return posterior.kl()

    @property
    def noise_dim(self):
        return self.latent_dim + 1

    def _code(self, z):
        return manifolds.unit(z)

    def code_log_prob(self, z):
        # The same everywhere on the sphere, and any length stands for one direction.
        return ops.zeros_like(z[:, 0])

    def parameters_batch(self, z):
        return super().parameters_batch(self._code(z))
