"""How well scores tell anomalies from what is normal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_ae.checks import check_count, check_numbers, check_seed
from keras_ae.metrics import arrays


class Detection(NamedTuple):
    """Figures of one set of scores, each in [0, 1].

    Attributes:
        auroc: Share of pairs in which the anomaly has the higher score, equal ones
            counted half; 0.5 by chance.
        average_precision: Mean of the precision at each anomaly's score; the share of
            anomalies by chance.
        false_alarms_at_95: Share of normal examples above the threshold that 95 % of
            the anomalies reach; lower is better.
        intervals: Of each figure above by name, the middle 95 % of those of bootstrap
            resamples, `(low, high)`.
    """

    auroc: float
    average_precision: float
    false_alarms_at_95: float
    intervals: dict[str, tuple[float, float]]


def detection(
    scores: Any, anomalous: Any, resamples: int = 1000, seed: int = 0
) -> Detection:
    """Measures how well scores tell anomalies from what is normal.

    Args:
        scores: Higher where an example is less usual, `(n,)`.
        anomalous: Which examples are anomalies, booleans or 0 and 1, `(n,)`.
        resamples: Bootstrap resamples, drawn from normal examples and anomalies apart.
        seed: Seed of these.

    Returns:
        AUROC, average precision and rate of false alarms, with intervals.

    Raises:
        ValueError: If the arrays don't fit, a score is NaN, or one kind is missing.

    Example:

    >>> import keras_ae
    >>> keras_ae.metrics.detection([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1]).auroc
    0.75

    Reference:
        Davis and Goadrich, The Relationship between Precision-Recall and ROC Curves,
        2006; Efron, Bootstrap Methods: Another Look at the Jackknife, 1979.
    """
    scores = check_numbers("scores", arrays.array("scores", scores))
    anomalous = arrays.array("anomalous", anomalous)
    if scores.ndim != 1 or scores.shape != anomalous.shape:
        raise ValueError(
            "`scores` and `anomalous` must have one value an example. Received: arrays "
            f"of shapes {scores.shape} and {anomalous.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError("`scores` must not hold NaN.")
    if not np.isin(anomalous, (0, 1)).all():
        raise ValueError("`anomalous` must hold booleans, or 0 and 1.")
    resamples = check_count("resamples", resamples)
    rng = np.random.default_rng(check_seed(seed))
    found = np.sort(scores[anomalous == 1])
    normal = np.sort(scores[anomalous == 0])
    if not len(found) or not len(normal):
        raise ValueError(
            "`anomalous` must have anomalies and normal examples. Received: "
            f"{len(found):,} of {len(scores):,} are anomalies"
        )
    again = {name: np.empty(resamples) for name in _FIGURES}
    for index in range(resamples):
        one, other = (
            np.sort(rng.choice(values, len(values))) for values in (found, normal)
        )
        for name, figure in _FIGURES.items():
            again[name][index] = figure(one, other)
    intervals = {}
    for name, values in again.items():
        low, high = np.quantile(values, [0.025, 0.975])
        intervals[name] = (float(low), float(high))
    figures = {name: float(figure(found, normal)) for name, figure in _FIGURES.items()}
    return Detection(**figures, intervals=intervals)


def _auroc(found, normal):
    below = np.searchsorted(normal, found, side="left")
    up_to = np.searchsorted(normal, found, side="right")
    return (below + up_to).mean() / (2 * len(normal))


def _average_precision(found, normal):
    # At each anomaly's score: what is at or above it, of both kinds.
    true = len(found) - np.searchsorted(found, found, side="left")
    false = len(normal) - np.searchsorted(normal, found, side="left")
    return np.mean(true / (true + false))


def _false_alarms_at_95(found, normal):
    threshold = found[int(np.floor(0.05 * len(found)))]
    above = len(normal) - np.searchsorted(normal, threshold, side="left")
    return above / len(normal)


_FIGURES: dict[str, Callable] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
    "false_alarms_at_95": _false_alarms_at_95,
}
