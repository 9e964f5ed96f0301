"""Mixtures fitted to codes."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_ae.checks import check_count, check_seed, check_weight
from keras_ae.probability.distributions import LOG_2_PI, GaussianMixture, Prior

# Share of the codes' mean variance that is added to each variance, so that a component
# of few codes, or a latent dimension that nothing uses, keeps a density.
_FLOOR = 1e-6
# EM ends in one of several optima: of some starts the best after so many steps is taken
# to the end.
_FIRST_STEPS = 10
# The starts run on a random part of so many codes; few steps are left for all of them.
_PART = 20_000
_KMEANS_STEPS = 10


def fit_mixture(
    codes: Any,
    components: int = 1,
    seed: int = 0,
    tolerance: float = 1e-3,
    max_steps: int = 100,
    starts: int = 5,
    shrinkage: float = 0.0,
) -> GaussianMixture:
    """Fits a mixture of normal distributions with full covariances to codes.

    The maximum-likelihood fit: for one component the mean and covariance of the codes,
    for several the EM algorithm, from the best of some starts by k-means++ and a few
    steps of k-means and of EM. More than 20,000 codes begin with a random part of them.
    A millionth of the codes' mean variance is added to every variance.

    With `shrinkage` each covariance is averaged with the mean of all, which counts as
    many times as codes have dimensions, so that components of few codes are no narrower
    than what they tell allows.

    A component that loses its codes is dropped: where the codes are few different
    points, the mixture has fewer components than asked for.

    Args:
        codes: Array `(n, latent_dim)`.
        components: Number of components, from 1 to n.
        seed: Integer >= 0, for the start.
        tolerance: EM ends when a step raises the mean log-likelihood of a code by less,
            in nats, >= 0.
        max_steps: Largest number of EM steps after the start, >= 1.
        starts: Number of starts, >= 1.
        shrinkage: Codes that the mean covariance counts for, for each dimension of a
            code, >= 0. The default of 0 is the maximum-likelihood fit; with 1 held-back
            codes are likelier where components have few.

    Returns:
        The fitted mixture.

    Raises:
        ValueError: If the codes are not a finite array of two dimensions, fewer than
            the components, or all equal.

    Example:

    >>> codes = np.random.default_rng(0).normal(size=(1000, 2))
    >>> mixture = keras_ae.samplers.fit_mixture(codes, components=3)
    >>> mixture.sample((5, 2), seed=0).shape
    (5, 2)

    Reference:
        Dempster, Laird and Rubin, Maximum Likelihood from Incomplete Data via the EM
        Algorithm, 1977 (https://doi.org/10.1111/j.2517-6161.1977.tb01600.x); Arthur and
        Vassilvitskii, k-means++: The Advantages of Careful Seeding, 2007
        (https://dl.acm.org/doi/10.5555/1283383.1283494), for the start; Friedman,
        Regularized Discriminant Analysis, 1989
        (https://doi.org/10.1080/01621459.1989.10478752), for the shrinkage.
    """
    codes = _check_codes(codes)
    components = check_count("components", components)
    rng = np.random.default_rng(check_seed(seed))
    max_steps = check_count("max_steps", max_steps)
    starts = check_count("starts", starts)
    check_weight("tolerance", tolerance)
    check_weight("shrinkage", shrinkage)
    if components > len(codes):
        raise ValueError(
            "A mixture needs at least one code for each component. Received: "
            f"{len(codes)} codes for components={components}"
        )
    if (codes == codes[0]).all():
        raise ValueError(
            f"`codes` must not all be equal. Received: {len(codes)} equal codes; the "
            "model does not use its latent dimensions"
        )
    floor = _FLOOR * codes.var(axis=0).mean()
    if components == 1:
        return GaussianMixture(*_maximize(codes, np.ones((len(codes), 1)), floor))

    part = codes
    if len(codes) > _PART:
        part = codes[rng.choice(len(codes), _PART, replace=False)]

    shared = shrinkage * codes.shape[1]

    def climb(data, mixture, steps):
        """EM on `data`: the mean log-likelihood reached, and the mixture."""
        last = -math.inf
        for _ in range(steps):
            log_likelihood, responsibilities = _expect(data, *mixture)
            if log_likelihood - last < tolerance:
                break
            last = log_likelihood
            mixture = _maximize(data, responsibilities, floor, shared)
        return log_likelihood, mixture

    begun = [
        _maximize(part, _cluster(part, components, rng), floor, shared)
        for _ in range(starts)
    ]
    ends = [climb(part, start, _FIRST_STEPS) for start in begun]
    _, mixture = max(ends, key=lambda end: end[0])
    for data in [codes] if part is codes else [part, codes]:
        _, mixture = climb(data, mixture, max_steps)
    return GaussianMixture(*mixture)


def mean_log_prob(distribution: Prior, codes: np.ndarray) -> float:
    """Returns the mean log-density of codes `(n, latent_dim)`, in nats.

    That of a mixture is computed by NumPy: JAX would compile each operation, for
    longer than the fit takes.
    """
    if isinstance(distribution, GaussianMixture):
        config = distribution.get_config()
        mixture = (config["means"], config["covariances"], distribution.weights)
        return float(_expect(codes, *map(np.asarray, mixture))[0])
    codes = ops.convert_to_tensor(codes, "float32")
    return float(ops.convert_to_numpy(ops.mean(distribution.log_prob(codes))))


def _check_codes(codes) -> np.ndarray:
    codes = np.asarray(codes, "float64")
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"`codes` must have shape (n, latent_dim). Received: shape {codes.shape}"
        )
    if not np.isfinite(codes).all():
        raise ValueError(
            "`codes` must be finite. Received: codes that are NaN or infinite; the "
            "model's weights are, or its training diverged."
        )
    return codes


def _squared_distances(codes, centers):
    """Squared distances `(n, centers)`."""
    squares = np.square(codes).sum(1)[:, None] + np.square(centers).sum(1)
    # Rounding may leave a little less than 0.
    return np.maximum(squares - 2.0 * codes @ centers.T, 0.0)


def _cluster(codes, components, rng):
    """Returns k-means' assignment of codes as responsibilities `(n, components)`."""
    codes = codes - codes.mean(axis=0)
    centers = codes[rng.integers(len(codes))][None]
    nearest = _squared_distances(codes, centers)[:, 0]
    # Of some draws at each step the best is taken, which makes the start more even.
    tries = 2 + int(math.log(components))
    while len(centers) < components and nearest.any():
        drawn = rng.choice(len(codes), tries, p=nearest / nearest.sum())
        distances = np.minimum(_squared_distances(codes, codes[drawn]).T, nearest)
        best = distances.sum(axis=1).argmin()
        nearest = distances[best]
        centers = np.concatenate([centers, codes[drawn[best]][None]])
    for _ in range(_KMEANS_STEPS):
        chosen = _squared_distances(codes, centers).argmin(axis=1)
        responsibilities = np.eye(len(centers))[chosen]
        counts = responsibilities.sum(axis=0)
        responsibilities = responsibilities[:, counts > 0]
        centers = responsibilities.T @ codes / counts[counts > 0][:, None]
    return responsibilities


def _expect(codes, means, covariances, weights):
    """Returns the mean log-likelihood and the responsibilities `(n, components)`."""
    joint = np.empty((len(codes), len(means)))
    for index, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        factor = np.linalg.cholesky(covariance)
        standardized = (codes - mean) @ np.linalg.inv(factor).T
        joint[:, index] = (
            math.log(weights[index])
            - 0.5 * np.einsum("nd,nd->n", standardized, standardized)
            - 0.5 * codes.shape[1] * LOG_2_PI
            - np.log(np.diag(factor)).sum()
        )
    largest = joint.max(axis=1, keepdims=True)
    responsibilities = np.exp(joint - largest)
    totals = responsibilities.sum(axis=1, keepdims=True)
    return (largest + np.log(totals)).mean(), responsibilities / totals


def _maximize(codes, responsibilities, floor, shared=0.0):
    """Returns the means, covariances and weights of the components that have codes.

    The mean covariance counts for `shared` codes in each.
    """
    counts = responsibilities.sum(axis=0)
    # A component with a part of one code says nothing.
    kept = counts > 0.5
    responsibilities, counts = responsibilities[:, kept], counts[kept]
    means = responsibilities.T @ codes / counts[:, None]
    covariances = np.empty((len(means), codes.shape[1], codes.shape[1]))
    for index, (mean, count) in enumerate(zip(means, counts, strict=True)):
        share = responsibilities[:, index]
        # Most codes belong to one component: the others cost nothing.
        ours = share > 1e-12
        scaled = (codes[ours] - mean) * np.sqrt(share[ours] / count)[:, None]
        covariances[index] = scaled.T @ scaled
        covariances[index].flat[:: codes.shape[1] + 1] += floor
    weights = counts / counts.sum()
    if shared:
        mean = np.tensordot(weights, covariances, 1)
        own = (counts / (counts + shared))[:, None, None]
        covariances = own * covariances + (1.0 - own) * mean
    return means, covariances, weights
