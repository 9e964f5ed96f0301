"""Whatever is fitted to codes, by name."""

import inspect
import math
from typing import Any

import keras
import numpy as np

from keras_ae.backend import seeding
from keras_ae.checks import check_count
from keras_ae.probability.distributions import LearnedPrior, Normal, Prior
from keras_ae.probability.priors import AutoregressiveFlow, VampPrior
from keras_ae.probability.samplers.density import (
    SecondStage,
    Standardized,
    fit_density,
)
from keras_ae.probability.samplers.mixture import _FLOOR, _check_codes, fit_mixture
from keras_ae.probability.samplers.principal import MANY, fit_principal
from keras_ae.probability.samplers.rectified_flow import RectifiedFlow

_COMPONENTS = {"gaussian": 1, "mixture": 10}
_MAKE = {"maf": AutoregressiveFlow, "two_stage": SecondStage}
# Arguments of a rectified flow, beside those of its training.
_SIZE = ("width", "blocks")
# Arguments of `fit_mixture` and `fit_density` that are no options.
_NO_OPTIONS = ("codes", "density", "values", "seed")
# What a rectified flow takes at least, however few the codes are.
_STEPS = 5000


def fit(
    sampler: str | LearnedPrior,
    codes: Any,
    seed: int = 0,
    model: keras.Model | None = None,
    **options,
) -> Prior:
    """Fits a distribution to codes.

    | `sampler` | fitted |
    |---|---|
    | `"normal"` | a normal distribution, each latent dimension by itself |
    | `"gaussian"` | a normal distribution with all covariances |
    | `"mixture"` | ten of these: `fit_mixture` |
    | `"maf"` | a masked autoregressive flow: `priors.AutoregressiveFlow` |
    | `"two_stage"` | a second VAE, of codes: `SecondStage` |
    | `"flow"` | a rectified flow, with labels one of each class: `RectifiedFlow` |
    | `"vampprior"` | 500 learned pseudo-examples' posteriors: `priors.VampPrior` |

    Of codes of more than 128 numbers the second and the third describe the principal
    components that hold 0.99 of the variance, at most 128; the rest is taken for noise.

    The last four, or one of `keras_ae.priors` of your own making, learn as
    `fit_density` says, the flows and the second VAE from codes that are shifted and
    scaled to mean 0 and variance 1.

    Args:
        sampler: One of these names, or a learned prior.
        codes: Array `(n, latent_dim)`.
        seed: Integer >= 0.
        model: The model that the codes are of; learned ones need it.
        **options: Arguments of `fit_mixture` or `fit_density`. With `"flow"`
            `labels` are integers `(n,)` from 0, the class of each code; `width` and
            `blocks` are those of `RectifiedFlow`; and with `grid=True` it is made of
            convolutions over the model's grid of codes. They take many times as long
            as dense layers, which know one place from another by themselves.

    Returns:
        The fitted distribution.

    Raises:
        ValueError: If `sampler` is none of these, an option is out of range, the codes
            are not a finite array of two dimensions, too few, or all equal, or the
            labels don't fit.

    Example:

    ```python
    distribution = keras_ae.samplers.fit("mixture", model.encode(images))
    pictures = model.decode(distribution.sample((16, model.latent_dim), seed=0))
    ```

    Reference:
        Ghosh et al., From Variational to Deterministic Autoencoders, 2020
        (https://arxiv.org/abs/1903.12436), for fitting a density after training.
    """
    if options.get("labels") is not None:
        options["labels"] = _check_labels(sampler, options["labels"], codes)
    check_options(sampler, options)
    if sampler == "normal":
        codes = _check_codes(codes)
        floor = _FLOOR * codes.var(axis=0).mean()
        return Normal(codes.mean(axis=0), np.sqrt(codes.var(axis=0) + floor))
    if isinstance(sampler, str) and sampler in _COMPONENTS:
        codes = _check_codes(codes)
        make = fit_principal if codes.shape[1] > MANY else fit_mixture
        components = {"components": _COMPONENTS[sampler], **options}
        return make(codes, seed=seed, **components)
    with seeding.seeded(seed):
        if isinstance(sampler, LearnedPrior):
            density = sampler
        elif sampler == "vampprior":
            density = VampPrior()
        elif sampler == "flow":
            options = _for_a_flow(len(codes), options)
            labels = options.get("labels")
            classes = None if labels is None else int(labels.max()) + 1
            size = {
                "width": min(max(256, 2 * codes.shape[1]), 1024),
                **{name: options.pop(name) for name in _SIZE if name in options},
            }
            if options.pop("grid", False):
                size["code_shape"] = _grid(model)
            density = Standardized(RectifiedFlow(num_classes=classes, **size))
        elif isinstance(sampler, str) and sampler in _MAKE:
            density = Standardized(_MAKE[sampler]())
        else:
            raise ValueError(
                "`sampler` must be 'normal', 'gaussian', 'mixture', 'maf', "
                "'two_stage', 'flow', 'vampprior' or one of `keras_ae.priors`. "
                f"Received: sampler={sampler!r}"
            )
        if model is None:
            raise ValueError(
                f"`model` must be the one that the codes are of: {sampler!r} learns "
                "with it. Received: model=None"
            )
        density.connect(model)
        if isinstance(density, VampPrior):
            # What codes decode to is near the examples that they are of.
            chosen = np.random.default_rng(seed).integers(
                len(codes), size=density.components
            )
            density.pseudo_examples.assign(model.decode(np.asarray(codes)[chosen]))
        if isinstance(density, Standardized):
            density.adapt(_check_codes(codes))
        if options.get("labels") is not None:
            getattr(density, "density", density).count(options["labels"])
        return fit_density(density, _check_codes(codes), seed, **options)


def check_options(sampler: str | LearnedPrior, options: dict[str, Any]) -> None:
    """Raises `ValueError` for options that what is fitted does not have.

    Args:
        sampler: As for `fit`, or `"pixelcnn"`.
        options: By name.
    """
    fits = fit_mixture if sampler in [*_COMPONENTS] else fit_density
    known = [] if sampler == "normal" else [*inspect.signature(fits).parameters]
    known = [name for name in known if name not in _NO_OPTIONS]
    if sampler == "flow":
        known += [*_SIZE, "grid"]
    for name in options:
        if name not in known:
            raise ValueError(
                f"Options of sampler {sampler!r} are {', '.join(known) or 'none'}. "
                f"Received: {name}={options[name]!r}"
            )


def _check_labels(sampler, labels, codes):
    flow = getattr(sampler, "density", sampler)
    classes = getattr(flow, "num_classes", None)
    if flow != "flow" and classes is None:
        raise ValueError(
            "`labels` are for sampler='flow', or a `RectifiedFlow` with `num_classes`. "
            f"Received: sampler={sampler!r}"
        )
    labels = np.asarray(labels)
    shapes = (len(codes),), (len(codes), 1)
    whole = labels.dtype.kind in "iu" and labels.shape in shapes
    low, high = (labels.min(), labels.max()) if whole else (0, 0)
    if not whole or low < 0 or (classes is not None and high >= classes):
        until = "" if classes is None else f" to {classes - 1}"
        raise ValueError(
            f"`labels` must be {len(codes)} integers from 0{until}, one for each code. "
            f"Received: labels of shape {labels.shape} and dtype {labels.dtype}"
            + (f", from {low} to {high}" if whole else "")
        )
    return labels.reshape(-1).astype("int32")


def _grid(model):
    shape = model.code_shape
    if len(shape) == 1:
        raise ValueError(
            "`grid` needs a model whose codes are grids, such as a `KLAutoencoder` of "
            f"pictures. Received: grid=True with a {type(model).__name__} of codes "
            f"{shape}"
        )
    return shape


def _for_a_flow(count, options):
    """Options of `fit_density`: few codes need many epochs."""
    options = {"batch_size": 256, **options}
    steps = math.ceil(count / check_count("batch_size", options["batch_size"]))
    epochs = max(100, math.ceil(_STEPS / steps))
    return {"epochs": epochs, "patience": max(10, epochs // 10), **options}
