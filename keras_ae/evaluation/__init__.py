"""One evaluation for every model: scores, each with everything that it depends on."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_ae import inputs, metrics
from keras_ae.datasets import Batches
from keras_ae.evaluation.scores import GROUPS, Evaluation, Score
from keras_ae.metrics import arrays
from keras_ae.nn import seeds
from keras_ae.probability import distributions
from keras_ae.progress import shown

CHEAP = ("objective", "reconstruction", "likelihood", "codes")
# Codes a picture in an estimate of log p(x) that was asked for by name.
IMPORTANCE_SAMPLES = 100
# Pictures in memory at a time.
_CHUNK = 1024
# Codes, or rows of features, that are compared in pairs.
_PAIRED = 10_000
# Pictures that a kernel distance is estimated from at a time.
_SUBSET = 1000
# Blocks of pictures whose means give a standard error.
_BLOCKS = 64
# Shortest sides of pictures whose structure can be compared.
_SIDES = {"ssim": 11, "ms_ssim": 176}


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
    model._require_built("evaluate")
    images = arrays.array("images", images)
    model._inspect(images, "images", restored=False)
    if importance_samples is None:
        named = scores is not None and "likelihood" in groups
        importance_samples = IMPORTANCE_SAMPLES if named else 1
    inputs.check_count("importance_samples", importance_samples)
    inputs.check_count("samples", samples)
    inputs.check_seed(seed)
    _check_rows("labels", labels, images)
    _check_rows("factors", factors, images)
    if train is not None:
        _check_rows("train[1]", train[1], train[0])
    if binarize:
        images = binarized(images, seed)
        train = train and (binarized(train[0], seed), train[1])
    about = {
        "data": data,
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
            progress=progress or (lambda what, done, total: advance(done, total, what)),
        )
        for group in groups:
            task.group = group
            _MEASURES[group](task)
    kind = type(model).__name__
    return Evaluation(kind, weights_digest(model), task.scores, task.left_out)


def _check_rows(name, values, images):
    if values is not None and len(values) != len(images):
        raise ValueError(
            f"`{name}` must have one row a picture. Received: {len(values)} for "
            f"{len(images)} pictures"
        )


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


def weights_digest(model: keras.Model) -> str:
    """16 hexadecimal digits of a model's weights."""
    found = hashlib.sha256()
    for value in model.get_weights():
        found.update(np.ascontiguousarray(value).data)
    return found.hexdigest()[:16]


def _objective(task):
    model = task.model
    if model.needs_labels and task.labels is None:
        task.left_out["objective"] = f"{task.kind} needs `labels` for its loss"
        return
    targets = task.images
    if task.given is task.images:
        targets = task.labels if getattr(model, "num_classes", None) else None
    batch_size = min(256, len(task.images))
    batches = Batches(task.given, batch_size, shuffle=False, targets=targets)
    progress = _Progress(lambda done: task.progress("objective", done, len(batches)))
    with seeds.repeatable(model, task.seed):
        found = model.evaluate(
            batches, return_dict=True, verbose=0, callbacks=[progress]
        )
    for name, value in found.items():
        # What needs labels is not a number where there are none.
        if not np.isnan(value):
            # Some terms are estimated from all of a batch.
            task.add(name, value, model=task.kind, batch_size=batch_size, **task.noise)


class _Progress(keras.callbacks.Callback):
    def __init__(self, report):
        super().__init__()
        self._report = report

    def on_test_batch_end(self, batch, logs=None):
        self._report(batch + 1)


def _reconstruction(task):
    if task.model.encoder is None:
        task.left_out["reconstruction"] = (
            f"{task.kind} has no encoder: a code would have to be searched for each "
            "picture"
        )
        return
    measures = {"mse": metrics.mse}
    if task.binarized:
        task.left_out["psnr"] = "means nothing of black and white pictures"
    else:
        measures["psnr"] = metrics.psnr
        sides = task.images.shape[1:3] if task.images.ndim > 2 else (0,)
        for name, least in _SIDES.items():
            if min(sides) >= least:
                measures[name] = getattr(metrics, name)
            else:
                task.left_out[name] = f"needs pictures of {least} by {least} pixels"
    sharp = "ssim" in measures
    means = {name: [] for name in measures}
    sizes, sharpness = [], np.zeros(2)
    block = max(1, len(task.images) // _BLOCKS)
    for rows in task.chunks("reconstruction"):
        chunk = task.images[rows]
        restored = task.model.reconstruct(task.given[rows])
        if sharp:
            sharpness += len(chunk) * np.array(
                [metrics.sharpness(restored), metrics.sharpness(chunk)]
            )
        for start in range(0, len(chunk), block):
            pair = chunk[start : start + block], restored[start : start + block]
            sizes.append(len(pair[0]))
            for name, measure in measures.items():
                means[name].append(measure(*pair))
    for name, values in means.items():
        task.add(name, *_mean_of_blocks(values, sizes), **task.noise)
    if sharp and sharpness[1] > 0:
        task.add("sharpness", sharpness[0] / sharpness[1], **task.noise)


def _likelihood(task):
    model = task.model
    if not hasattr(model, "log_likelihood"):
        task.left_out["likelihood"] = (
            f"{task.kind} has no posterior over codes to bound log p(x) with"
        )
        return
    given = {}
    if model.needs_labels and task.labels is not None:
        given = {"given": "labels"}
    measure = _measure(model.likelihood, task.images)
    for name, samples in (("elbo", 1), ("log_likelihood", task.importance_samples)):
        if name == "log_likelihood" and samples == 1:
            task.left_out[name] = (
                "takes many decodings a picture: ask for `likelihood` by name"
            )
            continue
        nats = [
            model.log_likelihood(
                task.images[rows],
                samples,
                seed=task.seed + rows.start,
                **({"labels": task.labels[rows]} if given else {}),
            )
            for rows in task.chunks(name.replace("_", " "))
        ]
        mean, error = _mean_of_blocks(np.concatenate(nats))
        drawn = {"importance_samples": samples} if samples > 1 else {}
        task.add(name, mean, error, measure=measure, **drawn, **given, seed=task.seed)


def _measure(likelihood, images):
    """What a likelihood gives of these pictures: only like can be compared to like."""
    kind = type(likelihood).__name__
    if kind == "DiscretizedLogistic":
        return "probability of 8-bit values"
    if kind != "Bernoulli":
        return "density of values in [0, 1]"
    highest = 255 if images.dtype.kind in "iu" else 1
    for start in range(0, len(images), _CHUNK):
        if not np.isin(images[start : start + _CHUNK], (0, highest)).all():
            return "cross-entropy of grey values, not normalised"
    return "probability of black and white"


def _codes(task):
    model = task.model
    if model.encoder is None:
        task.left_out["codes"] = f"{task.kind} has no encoder"
        return
    if model.keeps_pixels:
        task.left_out["codes"] = f"{task.kind} keeps the pixels themselves in its codes"
        return
    if len(task.images) < 2:
        task.left_out["codes"] = "one picture's code says nothing of codes"
        return
    means = np.concatenate(
        [_encode(model, task.given[rows]) for rows in task.chunks("codes")]
    )
    has_posterior = hasattr(model, "sample_posterior")
    few = slice(0, _PAIRED)
    drawn = means[few]
    if has_posterior:
        task.add("active_units", metrics.active_units(means))
        drawn = model.sample_posterior(task.images[few], task.seed)
    paired = {"codes": len(drawn), "seed": task.seed}
    log_vars = None
    if has_posterior:
        log_vars = _log_vars(model, task.images[few], means)
    if log_vars is not None:
        task.attempt(
            ["encoded_information"],
            lambda: [metrics.encoded_information(means[few], log_vars, task.seed)],
            **paired,
        )
    if model.has_prior:
        prior_codes = keras.ops.convert_to_numpy(
            model.prior.sample(drawn.shape, seed=task.seed)
        )
        task.attempt(
            ["aggregate_posterior_distance"],
            lambda: [metrics.aggregate_posterior_distance(drawn, prior_codes)],
            **paired,
        )
    _probes(task, means)


def _probes(task, codes):
    """Scores how well classes can be told from codes."""
    if task.labels is None or task.train is None:
        task.left_out["linear_probe"] = task.left_out["nearest_neighbour_accuracy"] = (
            "needs labels, and training pictures with theirs"
        )
        return
    pictures, labels = task.train
    train_codes = np.concatenate(
        [
            _encode(task.model, pictures[start : start + _CHUNK])
            for start in range(0, len(pictures), _CHUNK)
        ]
    )
    for name in ("linear_probe", "nearest_neighbour_accuracy"):
        accuracy = getattr(metrics, name)

        def share(accuracy=accuracy):
            right = accuracy(train_codes, labels, codes, task.labels)
            return [(right, math.sqrt(right * (1.0 - right) / len(codes)))]

        task.attempt(
            [name],
            share,
            training_pictures=len(pictures),
            training_digest=digest(pictures),
        )


def _encode(model, images):
    # A model with classes appends them to the code.
    return model.encode(images)[:, : model.latent_dim]


def _log_vars(model, images, means):
    """Log-variances of posteriors; None where these are not diagonal normal ones."""
    posterior = model.posterior(images[:1])
    if type(posterior) is not distributions.Normal:
        return None
    # The encoder of a hierarchy gives only a part of its posterior.
    mean = keras.ops.convert_to_numpy(posterior.mean)
    if not np.allclose(mean, means[:1], rtol=1e-3, atol=1e-3):
        return None
    return model._in_batches(
        "log_var", lambda x: model.posterior(x).log_var, images, batch_size=256
    )


def _samples(task):
    model, network = task.model, task.features
    if not model.can_sample:
        task.left_out["samples"] = (
            f"{task.kind} has no prior to draw codes from: `model.fit_sampler(...)` "
            "fits one"
        )
        return
    if network is None:
        task.left_out["samples"] = (
            "needs `features`, a network of `keras_ae.features` to compare sets in"
        )
        return
    ours, theirs = _Features(network), _Features(network)
    for rows in task.chunks("features of pictures"):
        ours.update(task.images[rows])
    for start in range(0, task.samples, _CHUNK):
        count = min(_CHUNK, task.samples - start)
        seed = task.seed + start
        drawn = model.sample(count, seed=seed, sampler=task.sampler)
        theirs.update(np.clip(drawn, 0.0, 1.0))
        task.progress("features of samples", start + count, task.samples)
    about = {
        "samples": task.samples,
        "sampler": task.sampler or model._default_sampler(),
        "features": network.name,
        "features_digest": network.digest,
        "resize": network.resize,
        "seed": task.seed,
    }
    task.attempt(
        ["frechet_distance"],
        lambda: [metrics.frechet_distance(ours.statistics, theirs.statistics)],
        **about,
    )
    x, y = ours.rows, theirs.rows
    # Subsets of all the rows would be one and the same.
    size = min(_SUBSET, len(x) // 2, len(y) // 2)
    task.attempt(
        ["kernel_distance"],
        lambda: [
            tuple(metrics.kernel_distance(x, y, subset_size=size, seed=task.seed))
        ],
        subset_size=size,
        **about,
    )
    task.attempt(
        metrics.FidelityAndDiversity._fields,
        lambda: metrics.fidelity_and_diversity(x, y),
        rows=[len(x), len(y)],
        **about,
    )


class _Features:
    """Features of pictures that come chunk by chunk: statistics of all, some rows."""

    def __init__(self, network):
        self._network = network
        self._rows = []
        self.statistics = metrics.FeatureStatistics()

    def update(self, images):
        if images.ndim == 3:
            images = images[..., None]
        features = self._network.features(images)
        self.statistics.update(features)
        wanted = _PAIRED - sum(map(len, self._rows))
        self._rows.append(features[: max(0, wanted)])

    @property
    def rows(self):
        return np.concatenate(self._rows)


def _factors(task):
    if task.model.encoder is None:
        task.left_out["factors"] = f"{task.kind} has no encoder"
        return
    if task.factors is None:
        task.left_out["factors"] = "needs `factors`, the true ones behind the pictures"
        return
    means = np.concatenate(
        [_encode(task.model, task.images[rows]) for rows in task.chunks("factors")]
    )
    drawn = means
    if hasattr(task.model, "sample_posterior"):
        drawn = task.model.sample_posterior(task.images, task.seed)
    factors, seed = task.factors, task.seed
    about = {"factors": factors.shape[1], "seed": seed}
    # Means would hide how little a collapsed dimension says.
    task.attempt(
        ["mutual_information_gap"],
        lambda: [metrics.mutual_information_gap(drawn, factors)],
        **about,
    )
    try:
        task.attempt(
            [f"dci_{field}" for field in metrics.DCI._fields],
            lambda: metrics.dci(means, factors, seed=seed),
            **about,
        )
    except ImportError as error:
        task.left_out["dci"] = str(error)
    task.attempt(["sap"], lambda: [metrics.sap(means, factors)], **about)
    task.attempt(
        ["factor_vae_score"],
        lambda: [metrics.factor_vae_score(means, factors, seed=seed)],
        **about,
    )


_MEASURES = {
    "objective": _objective,
    "reconstruction": _reconstruction,
    "likelihood": _likelihood,
    "codes": _codes,
    "samples": _samples,
    "factors": _factors,
}


def _mean_of_blocks(values, sizes=None):
    """Mean over pictures and its standard error, from means of blocks of them."""
    values = np.asarray(values, "float64")
    sizes = np.ones(len(values)) if sizes is None else np.asarray(sizes, "float64")
    mean = np.average(values, weights=sizes)
    if len(values) < 2 or not np.isfinite(mean):
        return mean, None
    spread = np.sum(np.square(sizes * (values - mean))) / np.sum(sizes) ** 2
    return mean, math.sqrt(spread * len(values) / (len(values) - 1))


@contextlib.contextmanager
def _as_given(model, images, seed):
    """What the model is to restore pictures from: for one that denoises, spoilt ones.

    They are kept in a file, which takes the memory that floats would.
    """
    if not hasattr(model, "corrupt"):
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


def digest(images: np.ndarray) -> str:
    """16 hexadecimal digits of pictures: equal where every value is equal.

    Args:
        images: Array of any shape and type.
    """
    found = hashlib.sha256(f"{images.dtype.str} {images.shape}".encode())
    for start in range(0, len(images), _CHUNK):
        found.update(np.ascontiguousarray(images[start : start + _CHUNK]).data)
    return found.hexdigest()[:16]
