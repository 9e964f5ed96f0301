"""Measures of two sets of pictures, in a feature space (see `keras_ae.features`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_ae import checks
from keras_ae.metrics import arrays


class FeatureStatistics:
    """Number, mean and covariance of features that come batch by batch.

    Memory does not grow with their number. Batches are merged in float64 by their means
    and the products of the deviations from these, so that no digits are lost where
    features are far from 0; order and size of the batches do not matter.

    Attributes:
        count: Number of rows so far.
        mean: Array `(dimensions,)`; None before the first update.

    Example:

    ```python
    statistics = metrics.FeatureStatistics()
    for images in batches:
        statistics.update(network.features(images))
    ```

    Reference:
        Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance:
        Analysis and Recommendations".
    """

    def __init__(self):
        self.count = 0
        self.mean = None
        self._products = None  # of deviations from the mean, (dimensions, dimensions)

    def update(self, features: np.ndarray) -> FeatureStatistics:
        """Adds features.

        Args:
            features: Array `(n, dimensions)`, n >= 1.

        Returns:
            These statistics.

        Raises:
            ValueError: If features are of another shape or not finite.
        """
        features = arrays.matrix("features", features)
        if self.mean is None:
            self.mean = np.zeros(features.shape[1])
            self._products = np.zeros((features.shape[1],) * 2)
        elif features.shape[1:] != self.mean.shape:
            raise ValueError(
                f"`features` must have {len(self.mean)} dimensions, as those before. "
                f"Received: an array of shape {features.shape}"
            )
        for (rows,) in arrays.chunks(features):
            rows = rows.astype("float64")
            mean = rows.mean(axis=0)
            rows -= mean
            moved = mean - self.mean
            share = len(rows) / (self.count + len(rows))
            self._products += rows.T @ rows
            self._products += self.count * share * np.outer(moved, moved)
            self.mean = self.mean + share * moved
            self.count += len(rows)
        return self

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, `(dimensions, dimensions)`, of two rows or more."""
        if self.count < 2:
            raise ValueError(
                "A covariance needs at least two rows of features. "
                f"Received: {self.count}"
            )
        return self._products / (self.count - 1)


def frechet_distance(
    features: np.ndarray | FeatureStatistics, other: np.ndarray | FeatureStatistics
) -> float:
    """Fréchet distance of two Gaussians fitted to features.

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    with means m and covariances C of the features. It grows as samples get fewer, and
    means nothing but within one feature space: compare distances of equal sample counts
    and features of one network (`features.for_data`), and name both.

    Args:
        features: Array `(n, dimensions)`, n > dimensions; or the `FeatureStatistics` of
            as many, for sets that do not fit into memory.
        other: The same of the other set, of as many dimensions.

    Returns:
        The squared distance, >= 0; what is known as FID for the features of an
        Inception network.

    Raises:
        ValueError: If there are too few samples for the dimensions, dimensions differ
            or features are not finite.

    Example:

    ```python
    metrics.frechet_distance(network.features(test), network.features(samples))
    metrics.frechet_distance(network.statistics(train), network.statistics(samples))
    ```

    Reference:
        Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter 2017, "GANs Trained by a
        Two Time-Scale Update Rule Converge to a Local Nash Equilibrium".
    """
    ours, theirs = (
        x if isinstance(x, FeatureStatistics) else FeatureStatistics().update(x)
        for x in (features, other)
    )
    if not ours.count or not theirs.count or ours.mean.shape != theirs.mean.shape:
        raise ValueError(
            "Features must be there, dimensions alike. Received: "
            + " and ".join(
                f"{x.count} of {0 if x.mean is None else len(x.mean)} dimensions"
                for x in (ours, theirs)
            )
        )
    dimensions = len(ours.mean)
    if min(ours.count, theirs.count) <= dimensions:
        raise ValueError(
            f"Gaussians of {dimensions} dimensions need at least {dimensions + 1} "
            f"samples each. Received: {ours.count} and {theirs.count}"
        )
    # tr (C1 C2)^(1/2) is that of the symmetric C1^(1/2) C2 C1^(1/2), whose eigenvalues
    # are real and, but for rounding, not negative.
    values, vectors = np.linalg.eigh(ours.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ theirs.covariance @ root)
    distance = (
        np.sum((ours.mean - theirs.mean) ** 2)
        + np.trace(ours.covariance)
        + np.trace(theirs.covariance)
        - 2.0 * np.sqrt(np.maximum(product, 0.0)).sum()
    )
    return max(0.0, float(distance))


class KernelDistance(NamedTuple):
    """What `kernel_distance` returns.

    Attributes:
        mean: The distance, mean over the subsets.
        standard_deviation: That of a single subset's distance about the mean.
    """

    mean: float
    standard_deviation: float


def kernel_distance(
    features: np.ndarray,
    other: np.ndarray,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """Kernel distance of two sets: the squared maximum mean discrepancy of features.

        k(x, y) = (x·y / dimensions + 1)^3

    Unlike the Fréchet distance it supposes no Gaussian and does not grow as samples get
    fewer, so that it can be told from few pictures. Each subset's estimate is unbiased,
    0 in expectation for equal distributions, and so may be negative. It means nothing
    but within one feature space.

    Args:
        features: Array `(n, dimensions)`.
        other: Array `(m, dimensions)`.
        subsets: Number of subsets.
        subset_size: Rows that are drawn from each set for each subset, without
            replacement, 2 to the number of rows there are.
        seed: Seed of the drawing.

    Returns:
        Mean and standard deviation over the subsets; the mean is what is known as KID
        for the features of an Inception network.

    Raises:
        ValueError: If there are fewer rows than `subset_size`, dimensions differ or
            features are not finite.

    Example:

    ```python
    test, samples = network.features(test), network.features(samples)
    distance = metrics.kernel_distance(test, samples)
    print(f"{distance.mean:.4f} ± {distance.standard_deviation:.4f}")
    ```

    Reference:
        Bińkowski, Sutherland, Arbel and Gretton 2018, "Demystifying MMD GANs".
    """
    features, other = _two_sets(features=features, other=other)
    checks.check_count("subsets", subsets)
    checks.check_count("subset_size", subset_size, minimum=2)
    checks.check_seed(seed)
    if subset_size > min(len(features), len(other)):
        raise ValueError(
            "`subset_size` must be at most the number of samples, "
            f"{min(len(features), len(other))}. Received: subset_size={subset_size}"
        )
    rng = np.random.default_rng(seed)

    def kernel(x, y):
        product = x @ y.T / x.shape[1] + 1.0
        return product * product * product  # a power takes several times as long

    distances = []
    for _ in range(subsets):
        x, y = (
            rows[rng.choice(len(rows), subset_size, replace=False)].astype("float64")
            for rows in (features, other)
        )
        distances.append(
            arrays.unbiased_discrepancy([kernel(x, x)], [kernel(y, y)], [kernel(x, y)])
        )
    return KernelDistance(float(np.mean(distances)), float(np.std(distances)))


class FidelityAndDiversity(NamedTuple):
    """What `fidelity_and_diversity` returns.

    Attributes:
        precision: Share of the samples that lie where data are; 0 to 1.
        recall: Share of the data that lie where samples are; 0 to 1.
        density: How densely data lie where samples are; about 1 where the two are
            alike, and more where samples keep to the middle of the data.
        coverage: Share of the data with a sample near them; 0 to 1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def fidelity_and_diversity(
    features: np.ndarray, samples: np.ndarray, neighbours: int = 5
) -> FidelityAndDiversity:
    """Whether samples look like data, and whether they show all that data show.

    A set lies within the balls about its points that reach their `neighbours`-th
    neighbours in that set.

        precision   share of samples in any ball of the data
        recall      share of data in any ball of the samples
        density     balls of the data that a sample lies in, on average / neighbours
        coverage    share of the data's balls with a sample in them

    One outlier has a large ball, which density and coverage mind less. All of them grow
    or shrink with the numbers of pictures: compare what was measured with equal ones.

    Args:
        features: Features of data, `(n, dimensions)`, n > neighbours.
        samples: Features of samples, `(m, dimensions)`, m > neighbours.
        neighbours: Which neighbour a ball reaches; 5 in Naeem et al., 3 in
            Kynkäänniemi et al.

    Returns:
        Precision, recall, density and coverage.

    Raises:
        ValueError: If there are too few rows, dimensions differ or features are not
            finite.

    Reference:
        Kynkäänniemi, Karras, Laine, Lehtinen and Aila 2019, "Improved Precision and
        Recall Metric for Assessing Generative Models"; Naeem, Oh, Uh, Choi and Yoo
        2020, "Reliable Fidelity and Diversity Metrics for Generative Models".
    """
    checks.check_count("neighbours", neighbours)
    features, samples = _two_sets(features=features, samples=samples)
    if min(len(features), len(samples)) <= neighbours:
        raise ValueError(
            f"`neighbours` must be less than the number of rows in each set. Received: "
            f"neighbours={neighbours} for {len(features)} and {len(samples)} rows"
        )
    radii, sample_radii = _radii(features, neighbours), _radii(samples, neighbours)
    within, inside, recalled, covered = 0, 0, False, False
    start = 0
    for distances in arrays.squared_distances(samples, features):
        of_samples = sample_radii[start : start + len(distances), None]
        start += len(distances)
        in_balls = distances <= radii  # (some samples, data)
        within += in_balls.sum()
        inside += in_balls.any(axis=1).sum()
        covered |= in_balls.any(axis=0)
        recalled |= (distances <= of_samples).any(axis=0)
    return FidelityAndDiversity(
        precision=float(inside / len(samples)),
        recall=float(np.mean(recalled)),
        density=float(within / (neighbours * len(samples))),
        coverage=float(np.mean(covered)),
    )


def _radii(rows, neighbours):
    """Squared distances to the k-th neighbours, and what rounding may add to them."""
    rounding = 1e-12 * np.square(np.ptp(rows, axis=0).astype("float64")).sum()
    # Each row is nearest to itself.
    nearest = [
        np.partition(distances, neighbours, axis=1)[:, neighbours]
        for distances in arrays.squared_distances(rows, rows)
    ]
    return np.concatenate(nearest) + rounding


def _two_sets(**sets):
    sets = {name: arrays.matrix(name, rows) for name, rows in sets.items()}
    arrays.check_dimensions(**sets)
    return sets.values()
