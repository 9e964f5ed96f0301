"""Scores of a model on held-back examples."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_ae import checks
from keras_ae.evaluation.digests import digest, weights_digest
from keras_ae.evaluation.measures import (
    _codes,
    _factors,
    _likelihood,
    _objective,
    _reconstruction,
    _samples,
)
from keras_ae.evaluation.scores import GROUPS, Evaluation
from keras_ae.evaluation.task import _CHUNK, _Task
from keras_ae.metrics import arrays
from keras_ae.progress import shown

CHEAP = ("objective", "reconstruction", "likelihood", "codes")
# Codes a picture in an estimate of log p(x) that was asked for by name.
IMPORTANCE_SAMPLES = 100


def evaluate(
    model: keras.Model,
    images: np.ndarray,
    scores: Iterable[str] | None = None,
    *,
    labels: np.ndarray | None = None,
    factors: np.ndarray | None = None,
    train: tuple[np.ndarray, np.ndarray] | None = None,
    features: Any = None,
    samples: int = 10_000,
    sampler: str | None = None,
    importance_samples: int | None = None,
    binarize: bool = False,
    seed: int = 0,
    data: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Scores a model on held-back pictures.

    What a model can't give (no encoder, no likelihood, no prior), or the arguments do
    not suffice for, is left out, and the reason said. Pictures are read a chunk at a
    time, and may be a memory map larger than memory; samples are drawn and turned to
    features a chunk at a time, too. A model that denoises is given pictures that are
    spoilt once, as in training.

    Args:
        model: A trained model of this package.
        images: Array `(pictures, *image_shape)`, integers (read as 0-255) or floats in
            [0, 1], which the model was not trained on.
        scores: Which of `GROUPS` to measure. Defaults to `CHEAP`, those that take
            little time: all but `"samples"` and `"factors"`.
        labels: One class a picture, for models with classes and for probes of codes.
        factors: The true factors behind the pictures, `(pictures, factors)`.
        train: Training pictures and their labels, for probes of codes.
        features: What samples and pictures are compared in: a `FeatureNetwork` of
            `keras_ae.features`.
        samples: Number of samples to draw, >= 1.
        sampler: As for the model's `sample`.
        importance_samples: Codes drawn for each picture to estimate log p(x); papers
            use 5,000. Defaults to 100 where `scores` names `"likelihood"`; otherwise
            the lower bound is all that is measured.
        binarize: Whether to score on black and white pictures that are drawn once with
            the grey values as probabilities, for models that were trained on such.
        seed: Seed of everything that is drawn.
        data: What the pictures are called, for the record.
        progress: Function of (what is measured, pictures done, pictures in all), told
            instead of standard error.

    Returns:
        The scores, and why others are missing.

    Raises:
        ValueError: If a group is unknown, or arrays do not fit each other or the model.

    Example:

    ```python
    found = keras_ae.evaluation.evaluate(model, test)
    found.values["psnr"]
    found.save("scores.json")
    ```
    """
    groups = _groups(scores)
    model.require_built("evaluate")
    images = arrays.array("images", model.in_order("images", images))
    model.check_data(images, "images", restored=False)
    if importance_samples is None:
        named = scores is not None and "likelihood" in groups
        importance_samples = IMPORTANCE_SAMPLES if named else 1
    # NumPy's numbers would not get into a file of scores.
    importance_samples = checks.check_count("importance_samples", importance_samples)
    samples = checks.check_count("samples", samples)
    seed = checks.check_seed(seed)
    labels = _rows_beside("labels", labels, images)
    factors = _rows_beside("factors", factors, images)
    if factors is not None and factors.ndim != 2:
        raise ValueError(
            "`factors` must be (pictures, factors). Received: an array of shape "
            f"{factors.shape}"
        )
    if train is not None:
        if not isinstance(train, tuple | list) or len(train) != 2:
            raise ValueError(
                "`train` must be training pictures and their labels, (x, y). Received: "
                f"a {type(train).__name__}"
            )
        pictures = arrays.array("train[0]", model.in_order("train[0]", train[0]))
        train = pictures, _rows_beside("train[1]", train[1], pictures)
    if binarize:
        images = binarized(images, seed)
        train = train and (binarized(train[0], seed), train[1])
    about = {
        "data": None if data is None else str(data),
        "pictures": len(images),
        "digest": digest(images),
        "image_shape": list(images.shape[1:]),
        "binarized": binarize,
    }
    with _as_given(model, images, seed) as given, shown() as advance:
        task = _Task(
            model=model,
            images=images,
            given=given,
            labels=labels,
            factors=factors,
            train=train,
            features=features,
            samples=samples,
            sampler=sampler,
            importance_samples=importance_samples,
            binarized=binarize,
            seed=seed,
            about=about,
            progress=progress
            or (lambda what, done, total: advance(done, total, f"score {what}")),
        )
        for group in groups:
            task.group = group
            _MEASURES[group](task)
    kind = type(model).__name__
    return Evaluation(kind, weights_digest(model), task.scores, task.left_out)


def _rows_beside(name, values, images):
    """Returns what is known of pictures as an array, or None."""
    if values is None:
        return None
    values = arrays.array(name, values)
    if not values.ndim or len(values) != len(images):
        raise ValueError(
            f"`{name}` must have one row a picture. Received: an array of shape "
            f"{values.shape} for {len(images)} pictures"
        )
    return values


def _groups(scores):
    """Names of groups, in their order."""
    if scores is None:
        return CHEAP
    scores = (scores,) if isinstance(scores, str) else tuple(scores)
    for name in scores:
        if name not in GROUPS:
            raise ValueError(
                f"`scores` must be of {', '.join(GROUPS)}. Received: {name!r}"
            )
    return tuple(group for group in GROUPS if group in scores)


_MEASURES = {
    "objective": _objective,
    "reconstruction": _reconstruction,
    "likelihood": _likelihood,
    "codes": _codes,
    "samples": _samples,
    "factors": _factors,
}


@contextlib.contextmanager
def _as_given(model, images, seed):
    """What the model is to restore pictures from: for one that denoises, spoilt ones.

    They are kept in a file, which takes the memory that floats would.
    """
    if not model.denoises:
        yield images
        return
    with tempfile.TemporaryFile() as file:
        noisy = np.memmap(file, "float32", "w+", shape=images.shape)
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            noisy[start : start + _CHUNK] = model.corrupt(chunk, seed + start)
        yield noisy


def binarized(pictures: np.ndarray, seed: int = 0) -> np.ndarray:
    """Black and white pictures, drawn once with the grey values as probabilities.

    Args:
        pictures: uint8 array of any shape.
        seed: Seed of the draw.

    Returns:
        uint8 array of the same shape, of 0 and 255.

    Raises:
        ValueError: If the pictures are not uint8.
    """
    if pictures.dtype != np.uint8:
        raise ValueError(
            f"`pictures` must be uint8, 0-255. Received: dtype={pictures.dtype}"
        )
    random = np.random.default_rng(seed)
    white = np.empty(pictures.shape, "uint8")
    for start in range(0, len(pictures), 1000):
        chunk = pictures[start : start + 1000]
        draws = random.random(chunk.shape, dtype="float32") * 255.0
        white[start : start + 1000] = np.where(draws < chunk, 255, 0)
    return white
