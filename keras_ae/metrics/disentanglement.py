"""Measures of disentanglement: codes beside the known factors behind the data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_ae import checks
from keras_ae.metrics import arrays
from keras_ae.metrics.codes import logistic_scores

# A factor that takes more values is a number, one of as many or fewer has classes.
_CLASSES = 20


def mutual_information(
    codes: np.ndarray, factors: np.ndarray, bins: int = 20
) -> np.ndarray:
    """What each latent dimension says about each factor, as a share of all there is.

        I(z_j; v_k) / H(v_k)

    Dimensions and factors are cut into bins of equal counts, so that scales and curves
    do not matter; what takes at most `bins` values is left as it is.

    Args:
        codes: Codes drawn from the posterior, `(n, latent_dim)`. Posterior means would
            hide how little a collapsed dimension says.
        factors: The true factors behind the same examples, `(n, factors)`. A periodic
            factor should be cut open: an angle is no number.
        bins: Number of bins, >= 2. Take a hundred examples for each pair of bins, or
            chance counts as information.

    Returns:
        Array `(latent_dim, factors)`, from 0 to 1.

    Raises:
        ValueError: If the arrays do not fit each other, are not finite, or a factor
            never varies.
    """
    codes, factors = _beside(codes, factors)
    checks.check_count("bins", bins, minimum=2)
    codes, factors = (
        [_binned(values, bins) for values in array.T] for array in (codes, factors)
    )

    def share(z, v):
        # I(z; v) = H(z) + H(v) - H(z, v); pairs are numbered by both of their bins.
        joint = _entropy(z * len(v) + v)
        return max(0.0, 1.0 + (_entropy(z) - joint) / _entropy(v))

    return np.array([[share(z, v) for v in factors] for z in codes])


def mutual_information_gap(
    codes: np.ndarray, factors: np.ndarray, bins: int = 20
) -> float:
    """Disentanglement: whether each factor is known to one latent dimension alone.

        MIG = mean_k (I(z_j; v_k) - I(z_j'; v_k)) / H(v_k)

    where z_j says most about the factor v_k, and z_j' most of the other dimensions.

    Args:
        codes: Codes drawn from the posterior, `(n, latent_dim)`, of at least two
            dimensions; see `mutual_information`.
        factors: The true factors behind the same examples, `(n, factors)`.
        bins: Number of bins for dimensions and for factors, >= 2.

    Returns:
        The score, from 0 (nothing is known, or what is known is spread over several
        dimensions) to 1 (a dimension of its own for each factor).

    Raises:
        ValueError: As for `mutual_information`.

    Example:

    ```python
    codes = model.sample_posterior(images, seed=0)
    metrics.mutual_information_gap(codes, factors)
    ```

    Reference:
        Chen, Li, Grosse and Duvenaud 2018, "Isolating Sources of Disentanglement in
        Variational Autoencoders".
    """
    codes, factors = _beside(codes, factors, least_dimensions=2)
    return _gap(mutual_information(codes, factors, bins))


class DCI(NamedTuple):
    """What `dci` returns, each from 0 to 1.

    Attributes:
        disentanglement: Whether a latent dimension serves one factor alone.
        completeness: Whether a factor is served by one latent dimension alone.
        informativeness: Whether factors can be told from codes at all.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(codes: np.ndarray, factors: np.ndarray, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness.

    Each factor is predicted from the codes by a random forest of 50 trees, which says
    how important each latent dimension was to it. Disentanglement of a dimension is 1
    less the entropy of its importances over the factors, divided by what it can be at
    most; the mean over dimensions weighs them with their importance. Completeness of a
    factor is the same of its importances over the dimensions.

    A factor of more than 20 values is a number, others have classes. Informativeness is
    the share of the error, of a guess that knows no codes, which the forest takes away
    for a quarter of the examples that is held out: squared error of numbers, wrong
    classes of others; the mean over factors. (The paper has the error itself.)

    Args:
        codes: Codes `(n, latent_dim)`, of at least two dimensions.
        factors: The true factors behind the same examples, `(n, factors)`, at least
            two; see `mutual_information`.
        seed: Seed of the forests and of which examples are held out.

    Returns:
        The three scores.

    Raises:
        ValueError: If the arrays do not fit each other, are not finite, a factor never
            varies, there are fewer than two of either, or fewer than 20 examples.
        ImportError: If scikit-learn, which the extra `keras-ae[map]` brings, is not
            installed.

    Reference:
        Eastwood and Williams 2018, "A Framework for the Quantitative Evaluation of
        Disentangled Representations".
    """
    try:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    except ImportError as error:
        raise ImportError(
            "`dci` needs scikit-learn; `pip install keras-ae[map]` brings it."
        ) from error
    codes, factors = _beside(codes, factors, least_dimensions=2, least_factors=2)
    checks.check_seed(seed)
    if len(codes) < 20:
        raise ValueError(
            "`codes` must be of 20 examples or more, to learn from and to hold out. "
            f"Received: {len(codes)}"
        )
    order = np.random.default_rng(seed).permutation(len(codes))
    held_out, learned = np.split(order, [len(order) // 4])
    importances, informativeness = [], []
    for factor in factors.T:
        classes = _classes(factor)
        kind = RandomForestRegressor if classes is None else RandomForestClassifier
        truth = factor if classes is None else classes
        # Small leaves would ask the other dimensions for the noise.
        forest = kind(
            n_estimators=50, max_features=None, min_samples_leaf=5, random_state=seed
        )
        forest.fit(codes[learned], truth[learned])
        importances.append(forest.feature_importances_)
        found, expected = forest.predict(codes[held_out]), truth[held_out]
        if classes is None:
            guess = truth[learned].mean()
            wrong, before = (np.mean((x - expected) ** 2) for x in (found, guess))
        else:
            guess = np.bincount(truth[learned]).argmax()
            wrong, before = (np.mean(x != expected) for x in (found, guess))
        informativeness.append(max(0.0, 1.0 - wrong / max(before, 1e-12)))
    importances = np.stack(importances, axis=1)  # (latent_dim, factors)
    weights = importances.sum(axis=1)
    # There are none where no forest found anything to divide.
    total = max(weights.sum(), 1e-12)
    return DCI(
        disentanglement=float(np.sum(weights * _focus(importances)) / total),
        completeness=float(np.mean(_focus(importances.T))),
        informativeness=float(np.mean(informativeness)),
    )


def _focus(importances):
    """1 for rows with one number other than 0, 0 for rows of equal numbers."""
    totals = importances.sum(axis=1, keepdims=True)
    equal = 1.0 / importances.shape[1]
    shares = np.full_like(importances, equal)
    np.divide(importances, totals, out=shares, where=totals > 0)
    entropies = -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=1)
    return 1.0 + entropies / np.log(equal)


def sap(codes: np.ndarray, factors: np.ndarray) -> float:
    """Separated attribute predictability: a gap as of `mutual_information_gap`.

        SAP = mean_k (S_jk - S_j'k)

    where the latent dimension j predicts the factor k best, and j' best of the others.
    The score S of a factor of more than 20 values is the R² of a linear regression on
    that dimension alone. That of a factor of classes is the accuracy of a linear
    classifier, each class counted alike.

    Args:
        codes: Codes `(n, latent_dim)`, of at least two dimensions.
        factors: The true factors behind the same examples, `(n, factors)`; see
            `mutual_information`.

    Returns:
        The score, from 0 to 1; at most 1 - 1 / classes where a factor has classes,
        which a dimension that says nothing guesses at that rate.

    Raises:
        ValueError: As for `mutual_information_gap`.

    Reference:
        Kumar, Sattigeri and Balakrishnan 2018, "Variational Inference of Disentangled
        Latent Concepts from Unlabeled Observations".
    """
    codes, factors = _beside(codes, factors, least_dimensions=2)
    mean, scale = arrays.mean_and_scale(codes)
    codes = (codes - mean) / scale
    scores = np.empty((codes.shape[1], factors.shape[1]))
    for k, factor in enumerate(factors.T):
        classes = _classes(factor)
        if classes is None:
            factor = (factor - factor.mean()) / factor.std()
            scores[:, k] = np.mean(codes * factor[:, None], axis=0) ** 2
            continue
        counts = np.bincount(classes)
        # Each class weighs as much, as if there were as many of each.
        weights = (len(classes) / len(counts) / counts)[classes]
        for j, code in enumerate(codes.T):
            found = logistic_scores(code[:, None], classes, code[:, None], weights)
            right = found.argmax(axis=1) == classes
            scores[j, k] = np.average(right, weights=weights)
    return _gap(scores)


def factor_vae_score(
    codes: np.ndarray,
    factors: np.ndarray,
    batch_size: int = 64,
    votes: int = 800,
    seed: int = 0,
) -> float:
    """FactorVAE's score: whether what examples share is told by one latent dimension.

    A vote draws a factor, and examples that share its value. The latent dimension that
    varies least among them, of all beside its variance over the data, votes for the
    factor. Each dimension stands for the factor that most of its votes are for; the
    score is the accuracy of that, in as many votes again.

    Values of a factor are cut into bins of equal counts where they are more than 20.

    Args:
        codes: Codes `(n, latent_dim)`; posterior means, as in the paper.
        factors: The true factors behind the same examples, `(n, factors)`, at least
            two, which do not depend on each other; see `mutual_information`.
        batch_size: Examples that a vote draws, >= 2, without replacement.
        votes: Number of votes to learn from, and again to count.
        seed: Seed of the drawing.

    Returns:
        The score, from about 1 / factors (nothing is known) to 1.

    Raises:
        ValueError: If the arrays do not fit each other, are not finite, a factor or
            all codes never vary, there is one factor only, or too few examples share a
            value.

    Example:

    ```python
    metrics.factor_vae_score(model.encode(images), factors)
    ```

    Reference:
        Kim and Mnih 2018, "Disentangling by Factorising".
    """
    codes, factors = _beside(codes, factors, least_factors=2)
    checks.check_count("batch_size", batch_size, minimum=2)
    checks.check_count("votes", votes)
    checks.check_seed(seed)
    # A dimension that never varies would win every vote.
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    if not codes.size:
        raise ValueError("`codes` must vary. Received: the same code everywhere")
    variances = codes.var(axis=0)
    groups = []  # for each factor, the rows that share a value
    for k, factor in enumerate(factors.T):
        numbers = _binned(factor, _CLASSES)
        rows = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        groups.append([group for group in rows if len(group) >= batch_size])
        if not groups[-1]:
            raise ValueError(
                "`batch_size` must be at most the number of examples that share a "
                f"value of a factor. Received: batch_size={batch_size}, but at most "
                f"{max(map(len, rows))} examples share one of column {k}"
            )
    rng = np.random.default_rng(seed)

    def count():
        """Votes of each dimension for each factor."""
        counts = np.zeros((codes.shape[1], len(groups)), "int64")
        for factor in rng.integers(len(groups), size=votes):
            group = groups[factor][rng.integers(len(groups[factor]))]
            drawn = codes[rng.choice(group, batch_size, replace=False)]
            counts[np.argmin(drawn.var(axis=0) / variances), factor] += 1
        return counts

    majority = count().argmax(axis=1)
    return float(count()[np.arange(len(majority)), majority].sum() / votes)


def _beside(codes, factors, least_dimensions=1, least_factors=1):
    """Returns codes and factors of the same examples in float64, or refuses them."""
    codes, factors = arrays.array("codes", codes), arrays.array("factors", factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise ValueError(
            "Expected codes (n, latent_dim) and factors (n, factors) of the same "
            f"examples. Received: shapes {codes.shape} and {factors.shape}"
        )
    codes = arrays.matrix("codes", codes).astype("float64")
    factors = arrays.matrix("factors", factors).astype("float64")
    constant = [k for k, factor in enumerate(factors.T) if np.ptp(factor) == 0]
    if constant:
        raise ValueError(
            "`factors` must vary, each of them. Received: the same value everywhere "
            f"in column {constant[0]}"
        )
    if codes.shape[1] < least_dimensions:
        raise ValueError(
            f"`codes` must have at least {least_dimensions} dimensions, to compare. "
            f"Received: codes of shape {codes.shape}"
        )
    if factors.shape[1] < least_factors:
        raise ValueError(
            f"`factors` must be at least {least_factors}, to compare. "
            f"Received: factors of shape {factors.shape}"
        )
    return codes, factors


def _gap(scores):
    """Mean over factors of the best dimension's score less the second best's."""
    *_, second, first = np.sort(scores, axis=0)
    return float(np.mean(first - second))


def _classes(factor):
    """Numbers of the classes of a factor, None where it is a number itself."""
    distinct, numbers = np.unique(factor, return_inverse=True)
    return numbers if len(distinct) <= _CLASSES else None


def _binned(values, bins):
    """Numbers of bins of equal counts, or of distinct values where these are few."""
    distinct, numbers = np.unique(values, return_inverse=True)
    if len(distinct) <= bins:
        return numbers
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(np.unique(edges), values, side="right")


def _entropy(numbers):
    """Entropy of whole numbers, in nats."""
    shares = np.unique(numbers, return_counts=True)[1] / len(numbers)
    return -np.sum(shares * np.log(shares))
