"""What is to be scored, and how far it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_ae.evaluation.scores import Score

# Pictures in memory at a time.
_CHUNK = 1024


@dataclasses.dataclass
class _Task:
    """What is measured, on what, and what came of it."""

    model: Any
    images: np.ndarray
    given: np.ndarray
    labels: np.ndarray | None
    factors: np.ndarray | None
    train: tuple[np.ndarray, np.ndarray] | None
    features: Any
    samples: int
    sampler: str | None
    importance_samples: int
    binarized: bool
    seed: int
    about: dict[str, Any]
    progress: Callable[[str, int, int], None]
    group: str = ""
    scores: list[Score] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        return type(self.model).__name__

    @property
    def noise(self) -> dict[str, Any]:
        """What reconstructions depend on where pictures are spoilt first."""
        if self.given is self.images:
            return {}
        corruption = self.model.corruption
        name, level = type(corruption).__name__, getattr(corruption, "level", "")
        return {"corruption": f"{name} {level}".strip(), "seed": self.seed}

    @property
    def given_labels(self) -> dict[str, Any]:
        """What a score depends on where the model is told the classes."""
        return {"given": "labels"} if self.told(slice(1)) else {}

    def told(self, rows: slice) -> dict[str, Any]:
        """The classes of these rows, for a verb of a model that needs labels.

        By itself it would take those that suit the pictures best.
        """
        if self.labels is None or not self.model.needs_labels:
            return {}
        return {"labels": self.labels[rows]}

    def chunks(self, what: str) -> Iterator[slice]:
        """Rows of the pictures, a chunk at a time, with progress."""
        count = len(self.images)
        for start in range(0, count, _CHUNK):
            yield slice(start, min(start + _CHUNK, count))
            self.progress(what, min(start + _CHUNK, count), count)

    def add(self, name, value, error=None, **depends_on):
        if np.isnan(value):
            self.left_out[name] = "is not a number here; values may be missing"
            return
        error = None if error is None or not math.isfinite(error) else float(error)
        depends_on = {**self.about, **depends_on}
        self.scores.append(Score(name, self.group, float(value), error, depends_on))

    def attempt(self, names, measure, **depends_on):
        """Adds what `measure` returns, or says what it refuses, such as too few rows.

        It returns figures, or pairs of a figure and its error, as many as `names`.
        """
        try:
            found = measure()
        except ValueError as error:
            self.left_out.update(dict.fromkeys(names, str(error)))
            return
        for name, value in zip(names, found, strict=True):
            value, error = value if isinstance(value, tuple) else (value, None)
            self.add(name, value, error, **depends_on)
