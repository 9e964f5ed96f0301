"""PoincareVAE: a variational autoencoder whose codes lie in hyperbolic space."""

import numpy as np
from keras import ops

from keras_ae import manifolds
from keras_ae.models.drawn import DrawnVAE
from keras_ae.models.variational import VAE

# How far from the origin a posterior's mean may be, in units of 1 / √curvature: short
# of the border, where float32 ends.
FARTHEST = 8.0


class PoincareVAE(DrawnVAE):
    """Poincaré VAE: codes in hyperbolic space, which has room for trees.

        loss(x) = reconstruction + kl
                = -log p(x | z) + β (log q(z | x) - log p(z)),  z ~ q(z | x)

    in the Poincaré ball |z| < 1 / √c, where q and p are wrapped normal distributions:

        q(z | x): z = exp_{mean(x)}(v),  v ~ N(0, diag(exp(log_var(x))))
        p(z):     z = exp_0(v),          v ~ N(0, I)

    The volume of hyperbolic space grows exponentially with the distance from the
    origin, as the number of a tree's leaves with its depth. The KL is estimated from
    the sampled code. The decoder is an ordinary network that is given log_0(z), the
    code as a vector of hyperbolic length; the paper's gyroplane layer is not used.

    `encode` returns points of the ball. `decode` draws codes from outside back to the
    border: `traverse` wants a `span` below 1 / √c. The prior lies about √latent_dim
    from the origin, and float32 has points up to about 12 / √c: a code of more than
    64 numbers wants a smaller curvature.

    Args:
        latent_dim: Numbers in a code.
        curvature: c > 0; the curvature of the space is -c. Towards 0 it is a `VAE`.
        likelihood: Distribution of the data given a code.
        beta: Weight of the KL, >= 0.
        encoder: Your own Keras model from x to a dict of `"mean"`, a tangent vector at
            the origin, and `"log_var"`, each `(batch, latent_dim)`.
        **kwargs: As for `VAE`, without `prior` and `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.PoincareVAE(latent_dim=2, curvature=1.0)
    model.fit(x_train, epochs=50)
    points = model.encode(x_test)  # (n, 2), in the unit disc
    ```

    Reference:
        Mathieu et al., Continuous Hierarchical Representations with Poincaré
        Variational Auto-Encoders, 2019 (https://arxiv.org/abs/1901.06033); Nagano et
        al., A Wrapped Normal Distribution on Hyperbolic Space, 2019
        (https://arxiv.org/abs/1902.02992).
    """

    settled_arguments = ("prior", "free_bits")

    def __init__(self, latent_dim: int = 10, *, curvature: float = 1.0, **kwargs):
        self.refuse_settled(kwargs, "the prior is a wrapped normal distribution")
        super().__init__(latent_dim, **kwargs)
        self.curvature = curvature
        self.prior = manifolds.WrappedNormal(np.zeros(latent_dim), 1.0, curvature)

    def posterior(self, x, training=False) -> manifolds.WrappedNormal:
        """Returns q(z | x), for means `(batch, latent_dim)` in the ball."""
        normal = VAE.posterior(self, x, training)
        ball = self.prior.ball
        length = manifolds.norm(normal.mean)
        farthest = FARTHEST / ball.root
        shortened = normal.mean * farthest * ops.tanh(length / farthest) / length
        return manifolds.WrappedNormal(
            ball.exp_at_origin(shortened), normal.stddev, self.curvature
        )

    def _code(self, z):
        return self.prior.ball.log_at_origin(z)
