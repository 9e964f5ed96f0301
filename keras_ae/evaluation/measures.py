"""The scores, group by group."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_ae import metrics
from keras_ae.datasets import Batches
from keras_ae.evaluation.digests import digest
from keras_ae.evaluation.task import _CHUNK
from keras_ae.metrics.pictures import in_unit_interval
from keras_ae.nn import seeds
from keras_ae.probability import distributions

# Codes, or rows of features, that are compared in pairs.
_PAIRED = 10_000
# Pictures that a kernel distance is estimated from at a time.
_SUBSET = 1000
# Blocks of pictures whose means give a standard error.
_BLOCKS = 64
# Shortest sides of pictures whose structure can be compared.
_SIDES = {"ssim": 11, "ms_ssim": 176}


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
    if not task.model.has_encoder:
        task.left_out["reconstruction"] = (
            f"{task.kind} has no encoder: a code would have to be searched for each "
            "picture"
        )
        return
    measures = {"mse": metrics.mse}
    if not task.model.describes_pictures:
        task.left_out["psnr"] = "needs pictures"
    elif task.binarized:
        task.left_out["psnr"] = "means nothing of black and white pictures"
    elif not in_unit_interval(task.images):
        task.left_out["psnr"] = "needs values in [0, 1]"
    else:
        measures["psnr"] = metrics.psnr
        sides = task.images.shape[1:3]
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
        restored = task.model.reconstruct(task.given[rows], **task.told(rows))
        if sharp:
            sharpness += len(chunk) * np.array(
                [metrics.sharpness(restored), metrics.sharpness(chunk)]
            )
        for start in range(0, len(chunk), block):
            pair = chunk[start : start + block], restored[start : start + block]
            sizes.append(len(pair[0]))
            for name, measure in measures.items():
                means[name].append(measure(*pair))
    about = {**task.noise, **task.given_labels}
    for name, values in means.items():
        task.add(name, *_mean_of_blocks(values, sizes), **about)
    if sharp and sharpness[1] > 0:
        task.add("sharpness", sharpness[0] / sharpness[1], **about)


def _likelihood(task):
    model = task.model
    if not model.bounds_likelihood:
        task.left_out["likelihood"] = (
            f"{task.kind} has no posterior over codes to bound log p(x) with"
        )
        return
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
                **task.told(rows),
            )
            for rows in task.chunks(name.replace("_", " "))
        ]
        mean, error = _mean_of_blocks(np.concatenate(nats))
        drawn = {"importance_samples": samples} if samples > 1 else {}
        about = {"measure": measure, **drawn, **task.given_labels, "seed": task.seed}
        task.add(name, mean, error, **about)


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
    if not model.has_encoder:
        task.left_out["codes"] = f"{task.kind} has no encoder"
        return
    if model.keeps_pixels:
        task.left_out["codes"] = f"{task.kind} keeps the pixels themselves in its codes"
        return
    if len(task.images) < 2:
        task.left_out["codes"] = "one picture's code says nothing of codes"
        return
    means = np.concatenate(
        [
            _encode(model, task.given[rows], **task.told(rows))
            for rows in task.chunks("codes")
        ]
    )
    has_posterior, given = model.has_posterior, task.given_labels
    few = slice(0, _PAIRED)
    drawn = means[few]
    if has_posterior:
        task.attempt(["active_units"], lambda: [metrics.active_units(means)], **given)
        drawn = model.sample_posterior(task.images[few], task.seed, **task.told(few))
    paired = {"codes": len(drawn), **given, "seed": task.seed}
    log_vars = None
    if has_posterior:
        log_vars = _log_vars(model, task.images[few], means, task.told(few))
    if log_vars is not None:
        task.attempt(
            ["encoded_information"],
            lambda: [metrics.encoded_information(means[few], log_vars, task.seed)],
            **paired,
        )
    if model.has_prior:
        prior_codes = model.prior_codes(len(drawn), task.seed)
        task.attempt(
            ["aggregate_posterior_distance"],
            lambda: [metrics.aggregate_posterior_distance(drawn, prior_codes)],
            **paired,
        )
    if given:
        # Of codes that were made with the classes it would tell what was told.
        means = np.concatenate(
            [_encode(model, task.given[rows]) for rows in task.chunks("probes")]
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


def _encode(model, images, **told):
    # A model with classes appends them to the code.
    return model.encode(images, **told)[:, : model.prior_dim]


def _log_vars(model, images, means, told):
    """Log-variances of posteriors; None where these are not diagonal normal ones."""
    one = {name: labels[:1] for name, labels in told.items()}
    posterior = model.posterior(images[:1], **one)
    if type(posterior) is not distributions.Normal:
        return None
    # The encoder of a hierarchy gives only a part of its posterior.
    mean = keras.ops.convert_to_numpy(posterior.mean)
    if not np.allclose(mean, means[:1], rtol=1e-3, atol=1e-3):
        return None

    def log_var(x, *parts):
        return model.posterior(x, **dict(zip(told, parts, strict=True))).log_var

    data = (images, *told.values()) if told else images
    return model.in_batches(" ".join(["log_var", *told]), log_var, data, 256)


def _samples(task):
    model, network = task.model, task.features
    if not model.can_sample:
        task.left_out["samples"] = (
            f"{task.kind} has no prior that codes follow: `model.fit_sampler(...)` "
            "fits a sampler to them"
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
        "sampler": task.sampler or model.default_sampler(),
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
    if not task.model.has_encoder:
        task.left_out["factors"] = f"{task.kind} has no encoder"
        return
    if task.factors is None:
        task.left_out["factors"] = "needs `factors`, the true ones behind the pictures"
        return
    means = np.concatenate(
        [
            _encode(task.model, task.images[rows], **task.told(rows))
            for rows in task.chunks("factors")
        ]
    )
    drawn = means
    if task.model.has_posterior:
        told = task.told(slice(None))
        drawn = task.model.sample_posterior(task.images, task.seed, **told)
    factors, seed = task.factors, task.seed
    about = {"factors": factors.shape[1], **task.given_labels, "seed": seed}
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


def _mean_of_blocks(values, sizes=None):
    """Mean over pictures and its standard error, from means of blocks of them."""
    values = np.asarray(values, "float64")
    sizes = np.ones(len(values)) if sizes is None else np.asarray(sizes, "float64")
    mean = np.average(values, weights=sizes)
    if len(values) < 2 or not np.isfinite(mean):
        return mean, None
    spread = np.sum(np.square(sizes * (values - mean))) / np.sum(sizes) ** 2
    return mean, math.sqrt(spread * len(values) / (len(values) - 1))
