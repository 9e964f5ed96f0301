"""From scores of normal examples to p-values, and to an alarm whose rate holds."""

import math

import numpy as np

from keras_ae import checks


class Conformal:
    """Split-conformal p-values: where a score stands among those of normal examples.

        p(s) = (1 + #{i: s_i >= s}) / (n + 1)

    for n scores s_i of normal examples that nothing else has learned from. If another
    example is normal too, exchangeable with these, then P(p <= α) <= α, whatever gave
    the scores; where no two scores are equal it is the largest multiple of 1 / (n + 1)
    that is at most α.

    Args:
        scores: Scores of normal examples, higher where one is less usual, `(n,)`.

    Raises:
        ValueError: If there is none, or one is not finite.

    Example:

    ```python
    normal = keras_ae.anomalies.Conformal(model_scores)
    suspicious = normal.p_values(new_scores) <= 0.01
    ```

    Reference:
        Laxhammar and Falkman, Conformal Prediction for Distribution-Independent Anomaly
        Detection in Streaming Vessel Data, 2010; Bates et al., Testing for Outliers
        with Conformal p-Values, 2023 (https://arxiv.org/abs/2104.08279).
    """

    def __init__(self, scores: np.ndarray):
        self.scores = np.sort(_finite(scores))
        if not len(self.scores):
            raise ValueError("`scores` must hold one score at least. Received none.")

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Returns the p-value of each score, in (0, 1], `(n,)`."""
        scores = np.asarray(scores, "float64")
        below = np.searchsorted(self.scores, scores, side="left")
        # What is not a number is as unusual as can be.
        above = np.where(np.isnan(scores), 0, len(self.scores) - below)
        return (1 + above) / (len(self.scores) + 1)

    @property
    def smallest_rate(self) -> float:
        """The lowest rate of false alarms that so many normal scores can promise."""
        return 1 / (len(self.scores) + 1)

    def threshold(self, false_alarms: float) -> float:
        """Returns the score above which a p-value is at most `false_alarms`.

        Raises:
            ValueError: If the rate is not in (0, 1), or the scores are too few for it.
        """
        check_rate("false_alarms", false_alarms)
        count = len(self.scores)
        if false_alarms < self.smallest_rate:
            needed = math.ceil(1 / false_alarms) - 1
            raise ValueError(
                f"`false_alarms` must be at least {self.smallest_rate:.2g} with "
                f"{count} held-back normal examples. Received: "
                f"false_alarms={false_alarms:g}, which needs {needed} of them; "
                "`update` adds some."
            )
        # Rounding must not ask for one score more.
        rank = math.ceil((count + 1) * (1 - false_alarms) - 1e-9)
        return float(self.scores[rank - 1])

    def update(self, scores: np.ndarray) -> None:
        """Adds scores of more normal examples."""
        self.scores = np.sort(np.concatenate([self.scores, _finite(scores)]))


def benjamini_hochberg(p_values: np.ndarray, rate: float) -> np.ndarray:
    """Picks examples of which on average at most a share is normal after all.

    All up to the largest p_(k) with p_(k) <= rate k / n, of n p-values in order.

    Args:
        p_values: Of one batch, `(n,)`.
        rate: Expected share of false ones among those that are picked, in (0, 1).

    Returns:
        Booleans `(n,)`.

    Reference:
        Benjamini and Hochberg, Controlling the False Discovery Rate, 1995.
    """
    check_rate("rate", rate)
    p_values = np.asarray(p_values, "float64")
    order = np.sort(p_values)
    passed = order <= rate * np.arange(1, len(order) + 1) / max(len(order), 1)
    if not passed.any():
        return np.zeros(p_values.shape, bool)
    return p_values <= order[np.flatnonzero(passed)[-1]]


def check_rate(name: str, value) -> float:
    """Returns a rate in (0, 1), or refuses it."""
    value = checks.check_share(name, value)
    if value == 0:
        raise ValueError(f"`{name}` must be above 0. Received: {name}=0")
    return value


def _finite(scores):
    scores = np.asarray(scores, "float64")
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(
            "`scores` must be finite numbers, one a normal example. Received: an array "
            f"of shape {scores.shape}"
            + ("" if np.isfinite(scores).all() else " with NaN or infinity in it")
        )
    return scores
