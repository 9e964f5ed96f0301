"""PoincareVAE: a variational autoencoder whose codes lie in hyperbolic space."""

import numpy as np
from keras import ops

from keras_ae.models.variational.noise_transformed import DrawnVAE
from keras_ae.models.variational.vae import VAE
from keras_ae.probability import manifolds


class PoincareVAE(DrawnVAE):
    """Poincaré VAE: codes in hyperbolic space, which has room for trees.

        loss(x) = reconstruction + kl
                = -log p(x | z) + β (log q(z | x) - log p(z)),  z ~ q(z | x)

    where q and p are wrapped normal distributions in the space of curvature -c:

        q(z | x): z = exp_{mean(x)}(v),  v ~ N(0, diag(exp(log_var(x))))
        p(z):     z = exp_0(v),          v ~ N(0, I)

    The volume of hyperbolic space grows exponentially with the distance from the
    origin, as the number of a tree's leaves with its depth. The KL is estimated from
    the sampled code.

    A code is log_0(z), the vector that leads to z from the origin, whose length is the
    hyperbolic distance: it has no border where numbers run out. `encode` returns it,
    `decode` takes any, and the decoder is an ordinary network of it, without the
    paper's gyroplane layer. `to_ball` gives the points of the Poincaré ball.

    Args:
        latent_dim: Numbers in a code.
        curvature: c > 0; the curvature of the space is -c. Towards 0 it is a `VAE`.
        likelihood: Distribution of the data given a code.
        beta: Weight of the KL, >= 0.
        encoder: Your own Keras model from x to a dict of `"mean"`, a code, and
            `"log_var"`, each `(batch, latent_dim)`.
        **kwargs: As for `VAE`, without `prior` and `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.PoincareVAE(latent_dim=2, curvature=1.0)
    model.fit(x_train, epochs=50)
    points = model.to_ball(model.encode(x_test))  # (n, 2), in the unit disc
    ```

    Reference:
        Mathieu et al., Continuous Hierarchical Representations with Poincaré
        Variational Auto-Encoders, 2019 (https://arxiv.org/abs/1901.06033); Nagano et
        al., A Wrapped Normal Distribution on Hyperbolic Space, 2019
        (https://arxiv.org/abs/1902.02992).
    """

    settled_arguments: tuple[str, ...] = ("prior", "free_bits")
    keeps_to_prior = True

    def __init__(self, latent_dim: int = 10, *, curvature: float = 1.0, **kwargs):
        self.refuse_settled(kwargs, "the prior is a wrapped normal distribution")
        super().__init__(latent_dim, **kwargs)
        self.curvature = curvature
        self.prior = manifolds.WrappedNormal(np.zeros(latent_dim), 1.0, curvature)

    def posterior(self, x, training=False) -> manifolds.WrappedNormal:
        """Returns q(z | x), for means `(batch, latent_dim)`."""
        normal = VAE.posterior(self, x, training)
        return manifolds.WrappedNormal(normal.mean, normal.stddev, self.curvature)

    def to_ball(self, z) -> np.ndarray:
        """Returns the points of the Poincaré ball, of radius 1 / √c, for codes `z`.

        Args:
            z: Array `(n, latent_dim)`, as `encode` returns it.

        Returns:
            Array `(n, latent_dim)`; beyond a distance of about 17 / √c it is the
            border, as far as float32 can tell.
        """
        return ops.convert_to_numpy(self.prior.space.to_ball(np.asarray(z)))
