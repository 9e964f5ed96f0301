"""Measures of codes: how much they say, how they are spread, what they are good for."""

from __future__ import annotations

import numpy as np

from keras_ae import checks
from keras_ae.gaps import missing_of
from keras_ae.metrics import arrays
from keras_ae.probability import divergences

# Steps that a logistic regression takes at most; one or two hundred are the rule.
_STEPS = 2000


def active_units(means: np.ndarray, threshold: float = 0.01) -> int:
    """Number of latent dimensions that carry information about the data.

    Args:
        means: Posterior means, `(pictures, latent_dim)`.
        threshold: A dimension is active when the variance of its posterior mean
            over the data exceeds this.

    Returns:
        The number of active dimensions, 0 to `latent_dim`.

    Raises:
        ValueError: If `means` is not two-dimensional, holds one row only or what is
            not finite.

    Reference:
        Burda, Grosse, Salakhutdinov 2016, "Importance Weighted Autoencoders".
    """
    means = arrays.matrix("means", means, least=2)
    return int(np.sum(means.var(axis=0, dtype="float64") > threshold))


def encoded_information(
    means: np.ndarray, log_vars: np.ndarray, seed: int = 0
) -> float:
    """Mutual information of data and codes, in nats: how well codes tell data apart.

        I(x; z) = E_q(x, z) (log q(z|x) - log q(z)),   q(z) = mean_n q(z|x_n)

    over the examples given, with one code drawn from each posterior. So it is at most
    log N, for N examples, which is reached where posteriors do not overlap; a figure
    near log N tells no more than that. Together with the divergence of q(z) from the
    prior it makes up the KL term of a VAE.

    Args:
        means: Means of Gaussian posteriors, `(n, latent_dim)`, n >= 2.
        log_vars: Logarithms of their variances, of the same shape.
        seed: Seed of the codes that are drawn.

    Returns:
        The estimate, which noise may take a little below 0 where codes say nothing.

    Raises:
        ValueError: If the arrays do not fit each other or are not finite.

    Example:

    ```python
    posterior = model.posterior(test)
    metrics.encoded_information(posterior.mean, posterior.log_var)
    ```

    Reference:
        Hoffman and Johnson 2016, "ELBO surgery: yet another way to carve up the
        variational evidence lower bound".
    """
    means = arrays.matrix("means", means, least=2).astype("float64")
    log_vars = arrays.matrix("log_vars", log_vars).astype("float64")
    if means.shape != log_vars.shape:
        raise ValueError(
            "`means` and `log_vars` must have one shape. Received: shapes "
            f"{means.shape} and {log_vars.shape}"
        )
    checks.check_seed(seed)
    # A stream of its own: not the draws of made-up codes that have the same seed.
    noise = np.random.default_rng((seed, 3)).normal(size=means.shape)
    codes = means + np.exp(0.5 * log_vars) * noise
    # Logarithms without the constant that they have in common.
    log_posterior = -0.5 * np.sum(noise**2 + log_vars, axis=1)
    precisions = np.exp(-log_vars)
    constants = np.sum(means**2 * precisions + log_vars, axis=1)
    log_ratios = []
    for rows, own in arrays.chunks_for_pairs(codes, log_posterior, columns=len(means)):
        # log q(z_i|x_j) for all j: (rows, n)
        log_probs = rows @ (means * precisions).T - 0.5 * (
            rows**2 @ precisions.T + constants
        )
        highest = log_probs.max(axis=1)
        summed = np.exp(log_probs - highest[:, None]).sum(axis=1)
        log_ratios.append(own - highest - np.log(summed / len(means)))
    return float(np.mean(np.concatenate(log_ratios)))


def aggregate_posterior_distance(codes: np.ndarray, prior_codes: np.ndarray) -> float:
    """How far codes of data, as a whole, are from codes of the prior.

    The squared maximum mean discrepancy with the inverse multiquadratic kernel of
    `divergences.mmd`, in which C is the mean squared distance of two codes from the
    prior. Where it is far from 0, the decoder is asked for what it never learned when
    codes are drawn from the prior.

    Args:
        codes: Codes drawn from the posterior, `(n, latent_dim)`, n >= 2.
        prior_codes: Codes drawn from the prior, `(m, latent_dim)`, m >= 2.

    Returns:
        The unbiased estimate: 0 in expectation where the two are alike, and so maybe
        negative; at most 14.

    Raises:
        ValueError: If dimensions differ, there are too few codes, they are not finite
            or all those of the prior are the same.

    Example:

    ```python
    codes = model.sample_posterior(test, seed=0)
    prior_codes = model.prior.sample(codes.shape, seed=0)
    metrics.aggregate_posterior_distance(codes, prior_codes)
    ```

    Reference:
        Tolstikhin, Bousquet, Gelly and Schölkopf 2018, "Wasserstein Auto-Encoders".
    """
    codes = arrays.matrix("codes", codes, least=2)
    prior_codes = arrays.matrix("prior_codes", prior_codes, least=2)
    arrays.check_dimensions(codes=codes, prior_codes=prior_codes)
    constant = 2.0 * prior_codes.var(axis=0, ddof=1, dtype="float64").sum()
    if not constant:
        raise ValueError(
            "`prior_codes` must differ. Received: the same code everywhere"
        )
    kernel = divergences.get_kernel("inverse_multiquadratic")

    def similarities(x, y):
        for squares in arrays.squared_distances(x, y):
            yield kernel(squares / constant)

    return float(
        arrays.unbiased_discrepancy(
            similarities(codes, codes),
            similarities(prior_codes, prior_codes),
            similarities(codes, prior_codes),
        )
    )


def linear_probe(
    codes: np.ndarray,
    labels: np.ndarray,
    test_codes: np.ndarray,
    test_labels: np.ndarray,
) -> float:
    """Accuracy of a linear classifier of codes: whether classes lie apart.

    A multinomial logistic regression on codes that are brought to mean 0 and variance 1
    (with the training codes' own), with a penalty of half the sum of squared weights.

    Args:
        codes: Codes `(n, latent_dim)` to learn from.
        labels: Their classes `(n,)`, of any kind, two or more.
        test_codes: Codes `(m, latent_dim)` of other examples.
        test_labels: Their classes `(m,)`.

    Returns:
        Share of the test codes whose class is found, 0 to 1.

    Raises:
        ValueError: If the arrays do not fit each other, codes are not finite, or there
            is one class only.

    Example:

    ```python
    metrics.linear_probe(
        model.encode(train), train_labels, model.encode(test), test_labels
    )
    ```

    Reference:
        Alain and Bengio 2017, "Understanding Intermediate Layers Using Linear
        Classifier Probes".
    """
    codes, numbers, test_codes, test_numbers = _labelled(
        codes, labels, test_codes, test_labels
    )
    mean, scale = arrays.mean_and_scale(codes)
    scores = logistic_scores(
        (codes - mean) / scale, numbers, (test_codes - mean) / scale
    )
    return float(np.mean(scores.argmax(axis=1) == test_numbers))


def nearest_neighbour_accuracy(
    codes: np.ndarray,
    labels: np.ndarray,
    test_codes: np.ndarray,
    test_labels: np.ndarray,
    neighbours: int = 5,
) -> float:
    """Accuracy of the class that most of the nearest codes have.

    Distances are Euclidean, of codes as they are. Of classes that are equally frequent
    among the neighbours, the first in order is taken.

    Args:
        codes: Codes `(n, latent_dim)` whose classes are known.
        labels: Their classes `(n,)`, of any kind, two or more.
        test_codes: Codes `(m, latent_dim)` of other examples.
        test_labels: Their classes `(m,)`.
        neighbours: Number of neighbours that vote, 1 to n.

    Returns:
        Share of the test codes whose class is found, 0 to 1.

    Raises:
        ValueError: If the arrays do not fit each other, codes are not finite, there is
            one class only or fewer codes than `neighbours`.
    """
    codes, numbers, test_codes, test_numbers = _labelled(
        codes, labels, test_codes, test_labels
    )
    if checks.check_count("neighbours", neighbours) > len(codes):
        raise ValueError(
            f"`neighbours` must be at most the number of codes, {len(codes)}. "
            f"Received: neighbours={neighbours}"
        )
    classes = np.eye(numbers.max() + 1, dtype="int64")
    found = []
    for distances in arrays.squared_distances(test_codes, codes):
        nearest = np.argpartition(distances, neighbours - 1, axis=1)[:, :neighbours]
        found.append(classes[numbers[nearest]].sum(axis=1).argmax(axis=1))
    return float(np.mean(np.concatenate(found) == test_numbers))


def logistic_scores(
    codes: np.ndarray,
    numbers: np.ndarray,
    test_codes: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Fits a multinomial logistic regression and returns its scores of other codes.

        minimise  Σ_i w_i cross-entropy_i + ||W||^2 / 2

    The curvature of the cross-entropy is nowhere more than half of that of a linear
    regression (Böhning 1992). Steps that this curvature allows never overshoot, and
    Nesterov's momentum, begun anew where it leads uphill, makes them few. There is one
    minimum, so that nothing depends on chance.

    Args:
        codes: Codes `(n, latent_dim)` of about unit variance.
        numbers: Numbers of their classes, `(n,)`, 0 to classes - 1.
        test_codes: Codes `(m, latent_dim)`.
        weights: Weights w `(n,)` of the examples; 1 by default.

    Returns:
        Array `(m, classes)`, the highest at the likeliest class.
    """
    codes, test_codes = (
        np.concatenate([x, np.ones((len(x), 1))], axis=1) for x in (codes, test_codes)
    )
    weights = np.ones(len(codes)) if weights is None else weights
    weights = weights[:, None]
    targets = np.eye(numbers.max() + 1)[numbers]
    penalty = np.ones((codes.shape[1], 1))
    penalty[-1] = 1e-6  # the constant is free, but for a class that is the only one
    curvature = 0.5 * (weights * codes).T @ codes + np.diag(penalty[:, 0])
    step = np.linalg.inv(curvature)
    found = ahead = np.zeros((codes.shape[1], targets.shape[1]))
    momentum = 1.0
    for _ in range(_STEPS):
        scores = codes @ ahead
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        gradient = codes.T @ (weights * (probabilities - targets)) + penalty * ahead
        if np.abs(gradient).max() < 1e-4 * weights.sum():
            break
        before, found = found, ahead - step @ gradient
        if np.sum(gradient * (found - before)) > 0:
            momentum = 1.0
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = found + (momentum - 1.0) / following * (found - before)
        momentum = following
    return test_codes @ ahead


def _labelled(codes, labels, test_codes, test_labels):
    """Returns codes in float64 and classes as numbers, those never met as -1."""
    codes = arrays.matrix("codes", codes).astype("float64")
    test_codes = arrays.matrix("test_codes", test_codes).astype("float64")
    arrays.check_dimensions(codes=codes, test_codes=test_codes)
    labels = _classes("labels", labels)
    test_labels = _classes("test_labels", test_labels)
    texts = [classes.dtype.kind in "SU" for classes in (labels, test_labels)]
    if texts[0] != texts[1]:
        raise ValueError(
            "`labels` and `test_labels` must be both texts or both numbers. Received: "
            f"dtypes {labels.dtype} and {test_labels.dtype}"
        )
    for name, classes, rows in (
        ("labels", labels, codes),
        ("test_labels", test_labels, test_codes),
    ):
        if classes.shape != (len(rows),):
            raise ValueError(
                f"`{name}` must be {len(rows)} classes, one a code. Received: an array "
                f"of shape {classes.shape}"
            )
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"`labels` must be of two classes or more. Received: {classes[0]} only"
        )
    places = np.minimum(np.searchsorted(classes, test_labels), len(classes) - 1)
    test_numbers = np.where(classes[places] == test_labels, places, -1)
    return codes, numbers, test_codes, test_numbers


def _classes(name, labels):
    """Returns classes as an array of texts or of numbers, none of them missing."""
    labels = arrays.array(name, labels)
    missing = missing_of(labels)
    if missing.any():
        raise ValueError(
            f"`{name}` must be known of each code. Received: {missing.sum():,} of "
            f"{missing.size:,} that are missing; leave these examples out."
        )
    # Texts of a frame come as objects.
    return np.array(labels.tolist()) if labels.dtype == object else labels
