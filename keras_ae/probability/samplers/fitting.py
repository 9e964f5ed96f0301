"""Whatever is fitted to codes, by name."""

from typing import Any

import keras
import numpy as np

from keras_ae.probability.distributions import LearnedPrior, Normal, Prior
from keras_ae.probability.priors import AutoregressiveFlow, VampPrior
from keras_ae.probability.samplers.density import (
    SecondStage,
    Standardized,
    fit_density,
    seeded,
)
from keras_ae.probability.samplers.mixture import _FLOOR, _check_codes, fit_mixture


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
    | `"vampprior"` | 500 learned pseudo-examples' posteriors: `priors.VampPrior` |

    The last three, or one of `keras_ae.priors` of your own making, learn as
    `fit_density` says, the flow and the second VAE from codes that are shifted and
    scaled to mean 0 and variance 1.

    Args:
        sampler: One of these names, or a learned prior.
        codes: Array `(n, latent_dim)`.
        seed: Integer >= 0.
        model: The model that the codes are of; learned ones need it.
        **options: Arguments of `fit_mixture` or `fit_density`.

    Returns:
        The fitted distribution.

    Raises:
        ValueError: If `sampler` is none of these, or the codes are not a finite array
            of two dimensions, too few, or all equal.

    Example:

    ```python
    distribution = keras_ae.samplers.fit("mixture", model.encode(images))
    pictures = model.decode(distribution.sample((16, model.latent_dim), seed=0))
    ```

    Reference:
        Ghosh et al., From Variational to Deterministic Autoencoders, 2020
        (https://arxiv.org/abs/1903.12436), for fitting a density after training.
    """
    if sampler == "normal":
        codes = _check_codes(codes)
        floor = _FLOOR * codes.var(axis=0).mean()
        return Normal(codes.mean(axis=0), np.sqrt(codes.var(axis=0) + floor))
    if sampler == "gaussian":
        return fit_mixture(codes, 1, seed, **options)
    if sampler == "mixture":
        return fit_mixture(codes, seed=seed, **{"components": 10, **options})
    names = {"maf": AutoregressiveFlow, "two_stage": SecondStage}
    with seeded(seed):
        if isinstance(sampler, LearnedPrior):
            density = sampler
        elif sampler == "vampprior":
            density = VampPrior()
        elif isinstance(sampler, str) and sampler in names:
            density = Standardized(names[sampler]())
        else:
            raise ValueError(
                "`sampler` must be 'normal', 'gaussian', 'mixture', 'maf', "
                "'two_stage', 'vampprior' or one of `keras_ae.priors`. Received: "
                f"sampler={sampler!r}"
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
        return fit_density(density, _check_codes(codes), seed, **options)
