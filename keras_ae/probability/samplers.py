"""Ways to draw codes: distributions fitted to the codes of a data set.

What is fitted has `sample(shape, seed)` and `log_prob(z)`, as a prior has. Those in
closed form and the mixture are fitted in float64; the others are networks, trained by
maximum likelihood.
"""

import contextlib
import inspect
import math
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import progress
from keras_ae.datasets import Batches
from keras_ae.inputs import (
    check_count,
    check_counts,
    check_seed,
    check_share,
    check_weight,
)
from keras_ae.nn import networks
from keras_ae.nn.layers import GaussianSampling
from keras_ae.probability import divergences
from keras_ae.probability.distributions import (
    LOG_2_PI,
    GaussianMixture,
    LearnedPrior,
    Normal,
    Prior,
    Seed,
    float32,
)
from keras_ae.probability.likelihoods import Gaussian
from keras_ae.probability.priors import AutoregressiveFlow, VampPrior

# Share of the codes' mean variance that is added to each variance, so that a component
# of few codes, or a latent dimension that nothing uses, keeps a density.
_FLOOR = 1e-6
# EM ends in one of several optima: of some starts the best after so many steps is taken
# to the end.
_FIRST_STEPS = 10
# The starts run on a random part of so many codes; few steps are left for all of them.
_PART = 20_000
_KMEANS_STEPS = 10


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


def fit_density(
    density: LearnedPrior,
    values: np.ndarray,
    seed: int = 0,
    epochs: int = 100,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    patience: int = 10,
    held_back: float = 0.1,
    verbose: int = 0,
) -> LearnedPrior:
    """Trains a density by maximum likelihood, with early stopping.

    Args:
        density: A built layer with `log_prob(values)`, `(batch,)`; a method with an
            argument `training` is told that it is being trained.
        values: Array `(n, ...)`: codes, or tokens.
        seed: Integer >= 0, for the order of the values.
        epochs: Most passes over the values, >= 1.
        batch_size: Values a step, >= 1.
        learning_rate: Adam's, at the start; it falls to 0 along a cosine.
        patience: Epochs without a higher likelihood of the held-back values before
            training ends, >= 1. The best weights are kept.
        held_back: Share of the values on which that is measured, from 0, for none and
            the weights after all epochs, to below 1.
        verbose: As in `keras.Model.fit`.

    Returns:
        The density.

    Raises:
        ValueError: If an argument is out of range, or the values are too few to hold
            some back.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        check_count(name, value)
    check_count("patience", patience)
    check_share("held_back", held_back)
    rng = np.random.default_rng(check_seed(seed))
    count = math.ceil(held_back * len(values))
    if count >= len(values):
        raise ValueError(
            "A density needs more than one value to learn from and to hold back. "
            f"Received: {len(values)}"
        )
    order = rng.permutation(len(values))
    held, train = values[order[:count]], values[order[count:]]
    batches = Batches(train, min(batch_size, len(train)), seed=seed)
    with seeded(seed):
        trainer = _MaximumLikelihood(density)
        rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, epochs * len(batches)
        )
        trainer.compile(keras.optimizers.Adam(rate))
        stopping, validation = [], None
        if count:
            validation = Batches(held, min(batch_size, count), shuffle=False)
            stopping = [
                keras.callbacks.EarlyStopping(
                    patience=patience, restore_best_weights=True
                )
            ]
        with progress.shown("density of the codes, epochs", epochs) as advance:
            trained = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: verbose or advance(epoch + 1)
            )
            trainer.fit(
                batches,
                epochs=epochs,
                validation_data=validation,
                shuffle=False,
                callbacks=[*stopping, trained],
                verbose=verbose,
            )
    return density


class _MaximumLikelihood(keras.Model):
    """Minimises the mean of -log p(x)."""

    def __init__(self, density):
        super().__init__(name="maximum_likelihood")
        self.density = density

    def build(self, input_shape):
        self.built = True

    def call(self, x, training=False):
        return _log_prob(self.density, x, training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return -ops.mean(y_pred)


def _log_prob(density, x, training):
    if "training" in inspect.signature(density.log_prob).parameters:
        return density.log_prob(x, training=training)
    return density.log_prob(x)


@contextlib.contextmanager
def seeded(seed):
    """Makes layers that are built within start alike, and leaves other draws alone."""
    # Where Keras takes the seed of an initializer or a generator that has none.
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@keras.saving.register_keras_serializable(package="keras_ae")
class Standardized(LearnedPrior):
    """A density of codes that are shifted and scaled to mean 0 and variance 1.

        log p(z) = log q((z - mean) / stddev) - Σ log stddev

    Args:
        density: q, one of `keras_ae.priors` or a `SecondStage`.
    """

    def __init__(self, density: LearnedPrior, **kwargs):
        super().__init__(**kwargs)
        if isinstance(density, dict):
            density = keras.saving.deserialize_keras_object(density)
        self.density = density

    def connect(self, model):
        self.density.connect(model)
        super().connect(model)

    def build(self, input_shape):
        options = {"shape": input_shape[-1:], "trainable": False}
        self.mean = self.add_weight(name="mean", initializer="zeros", **options)
        self.stddev = self.add_weight(name="stddev", initializer="ones", **options)
        self.built = True

    def adapt(self, codes: np.ndarray) -> None:
        """Takes mean and variance from codes `(n, latent_dim)`."""
        variances = codes.var(axis=0)
        self.mean.assign(codes.mean(axis=0))
        self.stddev.assign(np.sqrt(variances + _FLOOR * variances.mean()))

    def log_prob(self, z, training=False):
        stddev = float32(self.stddev)
        standardized = (float32(z) - float32(self.mean)) / stddev
        log_prob = _log_prob(self.density, standardized, training)
        return log_prob - ops.sum(ops.log(stddev))

    def sample(self, shape: Sequence[int], seed: Seed = None):
        drawn = self.density.sample(shape, seed)
        return float32(self.mean) + float32(self.stddev) * drawn

    def get_config(self):
        density = keras.saving.serialize_keras_object(self.density)
        return {**super().get_config(), "density": density}


@keras.saving.register_keras_serializable(package="keras_ae")
class SecondStage(LearnedPrior):
    """A second VAE, whose data are the codes of the first.

        p(z) = ∫ N(z; decoder(u), γ² I) N(u; 0, I) du

    with as many dimensions of u as of z and the optimal γ. `log_prob` is its ELBO, a
    lower bound estimated from one u.

    Args:
        widths: Units of the hidden layers of encoder and decoder.

    Raises:
        ValueError: If a width is below 1.

    Reference:
        Dai and Wipf, Diagnosing and Enhancing VAE Models, 2019
        (https://arxiv.org/abs/1903.05789).
    """

    def __init__(self, widths: Sequence[int] = (256, 256), **kwargs):
        super().__init__(**kwargs)
        self.widths = check_counts("widths", widths)
        self.sampling = GaussianSampling()
        self.likelihood = Gaussian("optimal")

    def build(self, input_shape):
        options = {
            "image_shape": input_shape[-1:],
            "latent_dim": input_shape[-1],
            "architecture": "dense",
            "widths": self.widths,
        }
        self.encoder = networks.encoder(heads=("mean", "log_var"), **options)
        self.decoder = networks.decoder(**options)
        self.built = True

    def log_prob(self, z, training=False):
        z = float32(z)  # (batch, latent_dim)
        heads = self.encoder(z)
        # Posteriors start narrow: where they are as wide as the prior, u says nothing
        # of z, and training may stay there.
        posterior = Normal.from_log_var(heads["mean"], heads["log_var"] - 4.0)
        u = self.sampling(posterior.mean, posterior.log_var)
        kl = ops.sum(divergences.kl_normal(posterior, Normal()), axis=-1)
        return self.likelihood.log_prob(z, self.decoder(u), training) - kl

    def sample(self, shape: Sequence[int], seed: Seed = None):
        # Two draws from one integer seed would be alike.
        seed = keras.random.SeedGenerator(seed) if isinstance(seed, int) else seed
        u = Normal().sample(shape, seed)
        return self.likelihood.sample(self.decoder(u), seed)

    def get_config(self):
        return {**super().get_config(), "widths": self.widths}


def fit_mixture(
    codes: Any,
    components: int = 1,
    seed: int = 0,
    tolerance: float = 1e-3,
    max_steps: int = 100,
    starts: int = 5,
) -> GaussianMixture:
    """Fits a mixture of normal distributions with full covariances to codes.

    The maximum-likelihood fit: for one component the mean and covariance of the codes,
    for several the EM algorithm, from the best of some starts by k-means++ and a few
    steps of k-means and of EM. More than 20,000 codes begin with a random part of them.
    A millionth of the codes' mean variance is added to every variance.

    A component that loses its codes is dropped: where the codes are few different
    points, the mixture has fewer components than asked for.

    Args:
        codes: Array `(n, latent_dim)`.
        components: Number of components, from 1 to n.
        seed: Integer >= 0, for the start.
        tolerance: EM ends when a step raises the mean log-likelihood of a code by less,
            in nats, >= 0.
        max_steps: Largest number of EM steps after the start, >= 1.
        starts: Number of starts, >= 1.

    Returns:
        The fitted mixture.

    Raises:
        ValueError: If the codes are not a finite array of two dimensions, fewer than
            the components, or all equal.

    Example:

    >>> codes = np.random.default_rng(0).normal(size=(1000, 2))
    >>> mixture = keras_ae.samplers.fit_mixture(codes, components=3)
    >>> mixture.sample((5, 2), seed=0).shape
    (5, 2)

    Reference:
        Dempster, Laird and Rubin, Maximum Likelihood from Incomplete Data via the EM
        Algorithm, 1977 (https://doi.org/10.1111/j.2517-6161.1977.tb01600.x); Arthur and
        Vassilvitskii, k-means++: The Advantages of Careful Seeding, 2007
        (https://dl.acm.org/doi/10.5555/1283383.1283494), for the start.
    """
    codes = _check_codes(codes)
    components = check_count("components", components)
    rng = np.random.default_rng(check_seed(seed))
    max_steps = check_count("max_steps", max_steps)
    starts = check_count("starts", starts)
    check_weight("tolerance", tolerance)
    if components > len(codes):
        raise ValueError(
            "A mixture needs at least one code for each component. Received: "
            f"{len(codes)} codes for components={components}"
        )
    if (codes == codes[0]).all():
        raise ValueError(
            f"`codes` must not all be equal. Received: {len(codes)} equal codes; the "
            "model does not use its latent dimensions"
        )
    floor = _FLOOR * codes.var(axis=0).mean()
    if components == 1:
        return GaussianMixture(*_maximize(codes, np.ones((len(codes), 1)), floor))

    part = codes
    if len(codes) > _PART:
        part = codes[rng.choice(len(codes), _PART, replace=False)]

    def climb(data, mixture, steps):
        """EM on `data`: the mean log-likelihood reached, and the mixture."""
        last = -math.inf
        for _ in range(steps):
            log_likelihood, responsibilities = _expect(data, *mixture)
            if log_likelihood - last < tolerance:
                break
            last = log_likelihood
            mixture = _maximize(data, responsibilities, floor)
        return log_likelihood, mixture

    begun = [
        _maximize(part, _cluster(part, components, rng), floor) for _ in range(starts)
    ]
    ends = [climb(part, start, _FIRST_STEPS) for start in begun]
    _, mixture = max(ends, key=lambda end: end[0])
    for data in [codes] if part is codes else [part, codes]:
        _, mixture = climb(data, mixture, max_steps)
    return GaussianMixture(*mixture)


def _check_codes(codes) -> np.ndarray:
    codes = np.asarray(codes, "float64")
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"`codes` must have shape (n, latent_dim). Received: shape {codes.shape}"
        )
    if not np.isfinite(codes).all():
        raise ValueError(
            "`codes` must be finite. Received: codes that are NaN or infinite; the "
            "model's weights are, or its training diverged."
        )
    return codes


def _squared_distances(codes, centers):
    """Squared distances `(n, centers)`."""
    squares = np.square(codes).sum(1)[:, None] + np.square(centers).sum(1)
    # Rounding may leave a little less than 0.
    return np.maximum(squares - 2.0 * codes @ centers.T, 0.0)


def _cluster(codes, components, rng):
    """Returns k-means' assignment of codes as responsibilities `(n, components)`."""
    codes = codes - codes.mean(axis=0)
    centers = codes[rng.integers(len(codes))][None]
    nearest = _squared_distances(codes, centers)[:, 0]
    # Of some draws at each step the best is taken, which makes the start more even.
    tries = 2 + int(math.log(components))
    while len(centers) < components and nearest.any():
        drawn = rng.choice(len(codes), tries, p=nearest / nearest.sum())
        distances = np.minimum(_squared_distances(codes, codes[drawn]).T, nearest)
        best = distances.sum(axis=1).argmin()
        nearest = distances[best]
        centers = np.concatenate([centers, codes[drawn[best]][None]])
    for _ in range(_KMEANS_STEPS):
        chosen = _squared_distances(codes, centers).argmin(axis=1)
        responsibilities = np.eye(len(centers))[chosen]
        counts = responsibilities.sum(axis=0)
        responsibilities = responsibilities[:, counts > 0]
        centers = responsibilities.T @ codes / counts[counts > 0][:, None]
    return responsibilities


def _expect(codes, means, covariances, weights):
    """Returns the mean log-likelihood and the responsibilities `(n, components)`."""
    joint = np.empty((len(codes), len(means)))
    for index, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        factor = np.linalg.cholesky(covariance)
        standardized = (codes - mean) @ np.linalg.inv(factor).T
        joint[:, index] = (
            math.log(weights[index])
            - 0.5 * np.einsum("nd,nd->n", standardized, standardized)
            - 0.5 * codes.shape[1] * LOG_2_PI
            - np.log(np.diag(factor)).sum()
        )
    largest = joint.max(axis=1, keepdims=True)
    responsibilities = np.exp(joint - largest)
    totals = responsibilities.sum(axis=1, keepdims=True)
    return (largest + np.log(totals)).mean(), responsibilities / totals


def _maximize(codes, responsibilities, floor):
    """Returns the means, covariances and weights of the components that have codes."""
    counts = responsibilities.sum(axis=0)
    # A component with a part of one code says nothing.
    kept = counts > 0.5
    responsibilities, counts = responsibilities[:, kept], counts[kept]
    means = responsibilities.T @ codes / counts[:, None]
    covariances = np.empty((len(means), codes.shape[1], codes.shape[1]))
    for index, (mean, count) in enumerate(zip(means, counts, strict=True)):
        share = responsibilities[:, index]
        # Most codes belong to one component: the others cost nothing.
        ours = share > 1e-12
        scaled = (codes[ours] - mean) * np.sqrt(share[ours] / count)[:, None]
        covariances[index] = scaled.T @ scaled
        covariances[index].flat[:: codes.shape[1] + 1] += floor
    return means, covariances, counts / counts.sum()
