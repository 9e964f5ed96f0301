"""Scores with everything that they depend on: what they mean, files of them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_ae.files import replacing

# The file of scores in the directory of a run.
FILE = "evaluation.json"
_FORMAT = 1

GROUPS = {
    "objective": "the loss and its terms, as training logs them",
    "reconstruction": "how near reconstructions are to the pictures",
    "likelihood": "what the model says of the pictures' probability",
    "codes": "what codes say of the pictures",
    "samples": "how near samples are to the pictures, as sets",
    "factors": "whether codes take known factors apart",
}


class Meaning(NamedTuple):
    """What a score says.

    Attributes:
        better: `"higher"`, `"lower"`, or nothing where neither is better.
        text: What it is, with its unit.
    """

    better: str
    text: str


MEANINGS = {
    "loss": Meaning("lower", "what training minimises: the sum of its terms"),
    "reconstruction": Meaning("lower", "-log p(x | z), nats a picture"),
    "kl": Meaning("", "β times the divergence from the prior, nats"),
    "mse": Meaning("lower", "squared error a value, pictures in [0, 1]"),
    "psnr": Meaning("higher", "peak signal-to-noise ratio, dB"),
    "ssim": Meaning("higher", "structural similarity, at most 1"),
    "ms_ssim": Meaning("higher", "structural similarity on five scales, at most 1"),
    "sharpness": Meaning("", "as a share of the pictures' own, 1 is as sharp"),
    "elbo": Meaning("higher", "lower bound on log p(x), nats a picture"),
    "log_likelihood": Meaning("higher", "log p(x) by importance sampling, nats"),
    "active_units": Meaning("", "latent dimensions that vary with the picture"),
    "encoded_information": Meaning("", "I(x; z), nats, log N at most of N codes"),
    "aggregate_posterior_distance": Meaning("lower", "of codes from the prior, MMD"),
    "linear_probe": Meaning("higher", "accuracy of classes read from codes"),
    "nearest_neighbour_accuracy": Meaning("higher", "of the class of 5 nearest codes"),
    "frechet_distance": Meaning("lower", "of Gaussians fitted to features; 0 is alike"),
    "kernel_distance": Meaning("lower", "of features, ± over subsets; 0 is alike"),
    "precision": Meaning("higher", "share of samples that lie among pictures"),
    "recall": Meaning("higher", "share of pictures that lie among samples"),
    "density": Meaning("higher", "how densely pictures lie about samples; about 1"),
    "coverage": Meaning("higher", "share of pictures with a sample near them"),
    "mutual_information_gap": Meaning("higher", "MIG, 1 is a dimension a factor"),
    "dci_disentanglement": Meaning("higher", "whether a dimension tells one factor"),
    "dci_completeness": Meaning("higher", "whether one dimension tells a factor"),
    "dci_informativeness": Meaning("higher", "how well codes tell factors, at most 1"),
    "sap": Meaning("higher", "gap of the two dimensions that tell a factor best"),
    "factor_vae_score": Meaning("higher", "accuracy of a vote for the shared factor"),
}


@dataclasses.dataclass(frozen=True)
class Score:
    """A figure, and everything that it depends on.

    Attributes:
        name: What was measured.
        group: One of `GROUPS`.
        value: The figure.
        error: Its standard error over pictures, or for a distance between sets its
            standard deviation over subsets; None where there is none.
        depends_on: The pictures (`data`, `pictures`, `digest`, `image_shape`,
            `binarized`), and what else the figure would not be the same without: a
            seed, a number of samples, a feature network and its digest.
    """

    name: str
    group: str
    value: float
    error: float | None = None
    depends_on: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def meaning(self) -> Meaning:
        """Whether higher or lower is better, and what it is."""
        logged = Meaning("", "as training logs it")
        if self.group == "objective" and self.name in ("elbo", "mse"):
            return logged  # of codes drawn once, and so another than that measured
        default = logged if self.group == "objective" else Meaning("", "")
        return MEANINGS.get(self.name, default)


class Evaluation(NamedTuple):
    """What `evaluate` found.

    Attributes:
        model: Class of the model that was scored.
        weights_digest: 16 hexadecimal digits of its weights.
        scores: The scores, in the order of `GROUPS`.
        left_out: Why others are missing, by the name of the score or group.
    """

    model: str
    weights_digest: str
    scores: list[Score]
    left_out: dict[str, str]

    @property
    def values(self) -> dict[str, float]:
        """The bare figures by name, of one measured in two ways the first."""
        values: dict[str, float] = {}
        for score in self.scores:
            values.setdefault(score.name, score.value)
        return values

    def with_earlier(self, earlier: Evaluation) -> Evaluation:
        """Adds what an earlier evaluation of the same weights found.

        A score takes the place of an earlier one that depends on the same.
        """
        if earlier.weights_digest != self.weights_digest:
            return self
        scores = {
            json.dumps(
                [score.group, score.name, score.depends_on], sort_keys=True
            ): score
            for score in (*earlier.scores, *self.scores)
        }
        order = [*GROUPS]
        ordered = sorted(scores.values(), key=lambda score: order.index(score.group))
        return self._replace(scores=ordered)

    def to_json(self) -> str:
        """Returns the scores, with all that they depend on, as JSON."""
        content = {
            "format": _FORMAT,
            **self._asdict(),
            "scores": [dataclasses.asdict(score) for score in self.scores],
        }
        return json.dumps(content, indent=2) + "\n"

    def save(self, path: str | os.PathLike) -> None:
        """Writes a JSON file, which `load` reads."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    def add_to(self, path: str | os.PathLike) -> None:
        """Saves the scores beside what a file holds of the same weights.

        What it holds of other weights is no longer there: the model was trained on.

        Raises:
            ValueError: If the file holds something else.
        """
        earlier = load(path) if pathlib.Path(path).exists() else self
        self.with_earlier(earlier).save(path)


def load(path: str | os.PathLike) -> Evaluation:
    """Reads what `Evaluation.save` wrote.

    Raises:
        ValueError: If the file holds something else.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        if content.pop("format") != _FORMAT:
            raise ValueError("another format")
        scores = [Score(**score) for score in content.pop("scores")]
        return Evaluation(scores=scores, **content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no scores of `keras-ae evaluate`, or it is damaged."
        ) from error


class Row(NamedTuple):
    """One score of several models.

    Attributes:
        group: One of `GROUPS`.
        name: What was measured.
        scores: The score of each model that has one, by the model's name.
        best: Names of the models with the best value, or one that is within the errors
            of it; none where one has a value only, or none is better than another.
    """

    group: str
    name: str
    scores: dict[str, Score]
    best: tuple[str, ...]


def side_by_side(
    evaluations: Mapping[str, Evaluation],
) -> tuple[list[Row], dict[str, str]]:
    """Lays the scores of several models beside each other, like beside like only.

    The loss and its terms are each model's own, and left out.

    Args:
        evaluations: What was found of each model, by the model's name.

    Returns:
        Rows of scores that depend on the same, and what can't be compared: reasons by
        the name of the score.
    """
    found: dict[tuple[str, str], dict[str, list[tuple[str, Score]]]] = {}
    for model, evaluation in evaluations.items():
        for score in evaluation.scores:
            if score.group == "objective":
                continue
            alike = found.setdefault((score.group, score.name), {})
            alike.setdefault(_basis(score), []).append((model, score))
    rows, apart = [], {}
    order = [*GROUPS]
    for (group, name), alike in sorted(
        found.items(), key=lambda item: order.index(item[0][0])
    ):
        # The basis that most models share, of several the one of the most pictures.
        most, *others = sorted(
            alike.values(),
            key=lambda pairs: (len(pairs), pairs[0][1].depends_on.get("pictures", 0)),
            reverse=True,
        )
        scores = dict(most)
        missing = {model for pairs in others for model, _ in pairs} - scores.keys()
        for model, score in (pair for pairs in others for pair in pairs):
            if model in missing:
                reason = f"{model}: {_difference(score, most[0][1])}"
                apart[name] = f"{apart[name]}; {reason}" if name in apart else reason
        if len(scores) > 1 or not missing:
            rows.append(Row(group, name, scores, _best(scores)))
    return rows, apart


def _basis(score):
    """What two scores must have in common to be compared."""
    # The digest tells which pictures they are, whatever these are called.
    basis = {key: value for key, value in score.depends_on.items() if key != "data"}
    return json.dumps(basis, sort_keys=True)


def _difference(score, other):
    """How a score's basis differs from another's."""
    ours, theirs = score.depends_on, other.depends_on
    parts = []
    for key in dict.fromkeys((*ours, *theirs)):
        mine, yours = ours.get(key), theirs.get(key)
        if mine != yours and key != "data":
            parts.append(f"{key.replace('_', ' ')} {mine}, not {yours}")
    return ", ".join(parts)


def _best(scores):
    sign = {"higher": 1, "lower": -1}.get(next(iter(scores.values())).meaning.better)
    if sign is None or len(scores) < 2:
        return ()
    best = max(scores.values(), key=lambda score: sign * score.value)

    def near(score):
        error = math.hypot(score.error or 0.0, best.error or 0.0)
        return abs(score.value - best.value) <= error

    return tuple(model for model, score in scores.items() if near(score))
