"""Distributions over codes in curved spaces: the sphere and hyperbolic space.

As in `keras_ae.distributions` everything is computed in float32, log-probabilities are
in nats, and `seed` is an integer or a `keras.random.SeedGenerator`. Densities are with
respect to the area of the sphere and the volume of hyperbolic space.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.checks import check_count
from keras_ae.probability.distributions import Normal, Seed, float32

# Cells of an angle's distribution, and how many standard deviations they reach.
CELLS = 256
REACH = 6.0


def norm(x):
    """Returns the Euclidean norm `(..., 1)` of x `(..., dim)`, with a gradient at 0."""
    return ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)


def unit(x):
    """Returns x `(..., dim)` at length 1, on the sphere."""
    return x / norm(x)


class UniformOnSphere:
    """Uniform distribution on the unit sphere of codes of `latent_dim` numbers.

    Args:
        latent_dim: Numbers in a code, d >= 2; the sphere has d - 1 dimensions.

    Raises:
        ValueError: If `latent_dim` is not an integer >= 2.

    Example:

    >>> prior = keras_ae.manifolds.UniformOnSphere(3)
    >>> z = prior.sample((5, 3), seed=0)  # of length 1
    >>> prior.log_prob(z)[0]  # -log 4π
    -2.5310
    """

    def __init__(self, latent_dim: int):
        self.latent_dim = check_count("latent_dim", latent_dim, minimum=2)
        half = latent_dim / 2
        self.log_area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)

    def log_prob(self, z):
        """Returns log p(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        return ops.full(ops.shape(z)[:-1], -self.log_area, dtype="float32")

    def sample(self, shape: Sequence[int], seed: Seed = None):
        """Draws codes of shape `shape`, `(..., latent_dim)`."""
        return unit(keras.random.normal(shape, dtype="float32", seed=seed))


class VonMisesFisher:
    """Von Mises-Fisher distribution on the unit sphere: a round bump about a direction.

        q(z) = exp(κ mean·z) / ((2π)^{d/2} κ^{1-d/2} I_{d/2-1}(κ)),  |z| = 1

    where I_v is the modified Bessel function of the first kind. κ = 0 is uniform; for
    large κ the variance in each direction along the sphere is about 1 / κ.

    Args:
        mean: Mean direction, tensor `(..., latent_dim)` of any length but 0.
        concentration: κ >= 0, tensor `(...)`.

    Example:

    >>> posterior = keras_ae.manifolds.VonMisesFisher([[0.0, 0.0, 1.0]], [10.0])
    >>> z, log_prob = posterior.draw(keras.random.normal((100, 1, 4)))
    >>> posterior.kl()  # from the uniform distribution, (1,)

    Reference:
        Davidson et al., Hyperspherical Variational Auto-Encoders, 2018
        (https://arxiv.org/abs/1804.00891).
    """

    # All that is random about a code but its compass direction is the angle θ between
    # it and the mean, of the density sin(θ)^{d-2} exp(κ cos θ). One sum over its range
    # gives the Bessel function, its derivative, the KL and an inverse distribution
    # function: draws are exact, take a single number and have the true gradient, which
    # those of rejection sampling lack without a correction. With tan(θ/2) = √b
    # tan(φ/2), Wood's envelope, φ is spread alike for every κ, so that the same cells
    # serve all of them.

    def __init__(self, mean: Any, concentration: Any):
        self.mean = unit(float32(mean))
        self.concentration = float32(concentration)
        d = self.latent_dim
        self._uniform = UniformOnSphere(d)
        spread = min(math.pi / 2, REACH / math.sqrt(max(d - 2, 1)))
        self._low, self._width = math.pi / 2 - spread, 2 * spread / CELLS
        phi = self._low + self._width * (np.arange(CELLS) + 0.5)
        log_uniform = (d - 2) * np.log(np.sin(phi))  # of κ = 0

        kappa = self.concentration[..., None]
        # b changes where the sum is taken, not what it comes to: no gradient.
        twice = 2.0 * ops.stop_gradient(kappa)
        self._b = (d - 1) / (twice + ops.sqrt(ops.square(twice) + (d - 1) ** 2))
        stretch, drop = self._stretched(float32(phi))  # (..., cells)
        log_masses = float32(log_uniform) - (d - 1) * ops.log(stretch) - kappa * drop
        log_total = ops.logsumexp(log_masses, axis=-1, keepdims=True)
        self._masses = ops.exp(log_masses - log_total)
        self._mean_drop = ops.sum(self._masses * drop, axis=-1)
        # log E exp(-κ (1 - cos θ)) of uniform codes, (...)
        self._log_normalizer = (0.5 * (d - 1) * ops.log(self._b) + log_total)[
            ..., 0
        ] - float(np.logaddexp.reduce(log_uniform))

    def _stretched(self, phi):
        """cos²(φ/2) + b sin²(φ/2), and 1 - cos θ, which has digits where θ is small."""
        sine = ops.square(ops.sin(phi / 2))
        stretch = 1.0 - sine + self._b * sine
        return stretch, 2.0 * self._b * sine / stretch

    @property
    def latent_dim(self) -> int:
        """Number of numbers in a code."""
        return self.mean.shape[-1]

    def log_prob(self, z):
        """Returns log q(z) in nats, `(...)` for z of length 1, `(..., latent_dim)`."""
        z = float32(z)
        return self._log_prob(0.5 * ops.sum(ops.square(z - self.mean), axis=-1))

    def _log_prob(self, drop):
        log_ratio = -self.concentration * drop - self._log_normalizer
        return log_ratio - self._uniform.log_area

    def kl(self):
        """Returns the KL divergence from the uniform distribution, `(...)`, in nats."""
        return -self.concentration * self._mean_drop - self._log_normalizer

    def draw(self, noise):
        """Returns the codes of given standard normal noise, and their log-density.

        Args:
            noise: Tensor `(..., latent_dim + 1)`: one number for the angle to the mean,
                the others for the direction along the sphere.

        Returns:
            Codes `(..., latent_dim)` of length 1, and their log q, `(...)`, in nats.
        """
        noise = float32(noise)
        uniform = 0.5 + 0.5 * ops.erf(noise[..., :1] / math.sqrt(2.0))
        below = ops.cumsum(self._masses, axis=-1) - self._masses  # (..., cells)
        # Each cell below the code counts in full, its own in part. Masses under the
        # resolution of float32 divide nothing.
        shares = ops.clip((uniform - below) / (self._masses + 1e-7), 0.0, 1.0)
        phi = self._low + self._width * ops.sum(shares, axis=-1, keepdims=True)
        stretch, drop = self._stretched(phi)  # (..., 1)
        sine = ops.sqrt(self._b) * ops.sin(phi) / stretch
        along = noise[..., 1:]
        for _ in range(2):  # once more for noise almost along the mean
            toward = ops.sum(along * self.mean, axis=-1, keepdims=True)
            along = unit(along - toward * self.mean)
        z = (1.0 - drop) * self.mean + sine * along
        return z, self._log_prob(drop[..., 0])


class HyperbolicSpace:
    """Hyperbolic space, its points given by vectors at the origin.

    A point is named by the vector whose direction and length lead to it from the
    origin, log_0 of the point: any vector is one, at any distance. (In the Poincaré
    ball float32 has no digits for what is more than about 15 / √c away.) Other tangent
    vectors are those carried from the origin without turning; their Euclidean norm is
    hyperbolic length.

    Args:
        curvature: c > 0; the curvature of the space is -c.

    Raises:
        ValueError: If `curvature` is not a number > 0.

    Example:

    >>> space = keras_ae.manifolds.HyperbolicSpace(1.0)
    >>> space.to_ball([[3.0, 4.0]])  # tanh(5 / 2) / 5 of it
    [[0.5920, 0.7893]]

    Reference:
        Ganea et al., Hyperbolic Neural Networks, 2018
        (https://arxiv.org/abs/1805.09112).
    """

    def __init__(self, curvature: float = 1.0):
        if (
            isinstance(curvature, bool)
            or not isinstance(curvature, numbers.Real)
            or not 0 < curvature < math.inf
        ):
            raise ValueError(
                "`curvature` must be a number > 0, minus the curvature of the space. "
                f"Received: curvature={curvature!r}"
            )
        self.root = math.sqrt(curvature)

    def exp(self, x, v):
        """Returns the point `(..., dim)` where the geodesic from x along v ends.

        It is the Möbius sum of the two points that x and v name.
        """
        a, b = self.root * norm(x), self.root * norm(v)  # (..., 1)
        toward_x, toward_v = self.root * x / a, self.root * v / b
        cosine = ops.sum(toward_x * toward_v, axis=-1, keepdims=True)
        # The end on the hyperboloid, (sinh a cosh b + cosh a sinh b cosine) toward_x
        # + sinh b (toward_v - cosine toward_x), divided by exp(a + b).
        ahead = (1.0 - cosine) * (ops.exp(-2.0 * b) - ops.exp(-2.0 * a))
        ahead = 0.25 * (ahead - (1.0 + cosine) * ops.expm1(-2.0 * (a + b)))
        aside = -0.5 * ops.exp(-a) * ops.expm1(-2.0 * b)
        end = ahead * toward_x + aside * (toward_v - cosine * toward_x)
        size = ops.sqrt(ops.sum(ops.square(end), axis=-1, keepdims=True) + 1e-30)
        # arcsinh(size exp(a + b)), which would overflow far away.
        near = ops.arcsinh(size * ops.exp(ops.minimum(a + b, 10.0)))
        far = a + b + ops.log(size + ops.hypot(size, ops.exp(-a - b)))
        return end * ops.where(a + b < 10.0, near, far) / (self.root * size)

    def log(self, x, z):
        """Returns the tangent vector at x that leads to z, `(..., dim)`."""
        return self.exp(-x, z)

    def distance(self, x, z):
        """Returns the hyperbolic distance of two points, `(...)`."""
        return norm(self.log(x, z))[..., 0]

    def to_ball(self, z):
        """Returns points `(..., dim)` of the Poincaré ball, of radius 1 / √c."""
        z = float32(z)
        length = self.root * norm(z)
        return z * ops.tanh(length / 2.0) / length

    def log_stretch(self, distance):
        """Returns log(sinh(√c r) / (√c r)) for the distances r, of their shape.

        It is the log of what a small length across the direction to a point is
        stretched by, at the distance r.
        """
        r = self.root * distance
        large = ops.maximum(r, 0.3)
        log_sinh = large + ops.log1p(-ops.exp(-2.0 * large)) - math.log(2.0)
        series = ops.square(r) / 6.0 - ops.power(ops.minimum(r, 0.3), 4) / 180.0
        return ops.where(r < 0.3, series, log_sinh - ops.log(large))


class WrappedNormal:
    """Normal distribution in a tangent space, wrapped onto hyperbolic space.

        z = exp_mean(v),  v ~ N(0, diag(stddev²))
        log q(z) = log N(v; 0, diag(stddev²)) - (d - 1) log(sinh(√c |v|) / (√c |v|))

    Points are vectors at the origin, as in `HyperbolicSpace`.

    Args:
        mean: Points, tensor `(..., latent_dim)`.
        stddev: Standard deviation, > 0, in units of hyperbolic distance: a number or
            tensor `(..., latent_dim)`.
        curvature: c > 0; the curvature of the space is -c.

    Raises:
        ValueError: If `stddev` or `curvature` is not > 0, or `mean` not finite.

    Example:

    >>> prior = keras_ae.manifolds.WrappedNormal([0.0, 0.0], 1.0)
    >>> z = prior.sample((5, 2), seed=0)
    >>> prior.log_prob(z).shape
    (5,)

    Reference:
        Nagano et al., A Wrapped Normal Distribution on Hyperbolic Space, 2019
        (https://arxiv.org/abs/1902.02992); Mathieu et al., Continuous Hierarchical
        Representations with Poincaré Variational Auto-Encoders, 2019
        (https://arxiv.org/abs/1901.06033).
    """

    def __init__(self, mean: Any, stddev: Any = 1.0, curvature: float = 1.0):
        flat = Normal(mean, stddev)
        self.mean, self.stddev = flat.mean, flat.stddev
        self.space = HyperbolicSpace(curvature)

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions."""
        return self.mean.shape[-1]

    def log_prob(self, z):
        """Returns log q(z) in nats, `(...)` for z of shape `(..., latent_dim)`."""
        return self._log_prob(self.space.log(self.mean, float32(z)))

    def _log_prob(self, v):
        stretch = self.space.log_stretch(norm(v)[..., 0])
        return Normal(0.0, self.stddev).log_prob(v) - (self.latent_dim - 1) * stretch

    def draw(self, noise):
        """Returns the codes of given standard normal noise, and their log-density.

        Args:
            noise: Tensor `(..., latent_dim)`.

        Returns:
            exp_mean(stddev noise), `(..., latent_dim)`, and log q, `(...)`, in nats.
        """
        v = self.stddev * float32(noise)
        return self.space.exp(self.mean, v), self._log_prob(v)

    def sample(self, shape: Sequence[int], seed: Seed = None):
        """Draws codes of shape `shape`, `(..., latent_dim)`."""
        return self.draw(keras.random.normal(shape, dtype="float32", seed=seed))[0]
