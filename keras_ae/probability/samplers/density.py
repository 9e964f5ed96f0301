"""Densities that learn, fitted to codes."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import progress
from keras_ae.backend import seeding
from keras_ae.checks import (
    check_count,
    check_counts,
    check_positive,
    check_seed,
    check_share,
)
from keras_ae.datasets import Batches
from keras_ae.nn import networks
from keras_ae.nn.layers import GaussianSampling
from keras_ae.probability import divergences
from keras_ae.probability.distributions import LearnedPrior, Normal, Seed, float32
from keras_ae.probability.likelihoods import Gaussian
from keras_ae.probability.samplers.mixture import _FLOOR


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
    labels: np.ndarray | None = None,
) -> LearnedPrior:
    """Trains a density by maximum likelihood, with early stopping.

    Args:
        density: A built layer with `log_prob(values)`, `(batch,)`; a method with an
            argument `training` is told that it is being trained. One that has a
            `loss(values, training)`, `(batch,)`, minimises that instead, a
            `RectifiedFlow`.
        values: Array `(n, ...)`: codes, or tokens.
        seed: Integer >= 0, for the order of the values.
        epochs: Most passes over the values, >= 1.
        batch_size: Values a step, >= 1.
        learning_rate: Adam's at the start, > 0; it falls to 0 along a cosine.
        patience: Epochs without a higher likelihood of the held-back values before
            training ends, >= 1. The best weights are kept.
        held_back: Share of the values on which that is measured, from 0, for none and
            the weights after all epochs, to below 1.
        verbose: As in `keras.Model.fit`.
        labels: None, or the class of each value, integers `(n,)`, for a density whose
            `loss` takes `labels`.

    Returns:
        The density.

    Raises:
        ValueError: If an argument is out of range, or the values are too few to hold
            some back.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        check_count(name, value)
    check_count("patience", patience)
    check_positive("learning_rate", learning_rate)
    check_share("held_back", held_back)
    rng = np.random.default_rng(check_seed(seed))
    count = math.ceil(held_back * len(values))
    if count >= len(values):
        raise ValueError(
            "A density needs more than one value to learn from and to hold back. "
            f"Received: {len(values)}"
        )
    order = rng.permutation(len(values))
    part = (lambda rows: None) if labels is None else labels.__getitem__
    held, train = (
        (values[rows], part(rows)) for rows in (order[:count], order[count:])
    )
    batches = _batches(*train, batch_size, seed=seed)
    with seeding.seeded(seed):
        trainer = _Trainer(density)
        rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, epochs * len(batches)
        )
        trainer.compile(keras.optimizers.Adam(rate))
        stopping, validation = [], None
        if count:
            validation = _batches(*held, batch_size, shuffle=False)
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


def _batches(values, labels, batch_size, **kwargs):
    size = min(batch_size, len(values))
    return Batches(values, size, targets=labels, **kwargs)


class _Trainer(keras.Model):
    """Minimises the mean of a density's loss."""

    def __init__(self, density):
        super().__init__(name="density")
        self.density = density

    def build(self, input_shape):
        self.built = True

    def call(self, x):
        return x

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        labels = {} if y is None else {"labels": y}
        return ops.mean(_loss(self.density, x, training, **labels))


def _loss(density, x, training, **labels):
    if hasattr(density, "loss"):
        return density.loss(x, training, **labels)
    if labels:
        raise ValueError(
            "`labels` must be None for a density without classes. Received: labels for "
            f"a {type(density).__name__}"
        )
    return -_log_prob(density, x, training)


def _log_prob(density, x, training):
    if "training" in inspect.signature(density.log_prob).parameters:
        return density.log_prob(x, training=training)
    return density.log_prob(x)


class Wrapping(LearnedPrior):
    """Base of what draws by another density.

    Args:
        density: The other one, or its serialized configuration.
        **kwargs: `name` and `dtype`.
    """

    def __init__(self, density: Any, **kwargs):
        super().__init__(**kwargs)
        if isinstance(density, dict):
            density = keras.saving.deserialize_keras_object(density)
        self.density = density

    def get_config(self):
        density = keras.saving.serialize_keras_object(self.density)
        return {**super().get_config(), "density": density}


class Standardized(Wrapping):
    """A density of codes that are shifted and scaled to mean 0 and variance 1.

        log p(z) = log q((z - mean) / stddev) - Σ log stddev

    Args:
        density: q, one of `keras_ae.priors` or a `SecondStage`.
    """

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

    def _standardized(self, z):
        return (float32(z) - float32(self.mean)) / float32(self.stddev)

    def loss(self, z, training=False, **labels):
        """What training minimises, `(batch,)`, of standardized codes."""
        return _loss(self.density, self._standardized(z), training, **labels)

    def log_prob(self, z, training=False):
        log_prob = _log_prob(self.density, self._standardized(z), training)
        return log_prob - ops.sum(ops.log(float32(self.stddev)))

    def sample(self, shape: Sequence[int], seed: Seed = None, **options):
        drawn = self.density.sample(shape, seed, **options)
        return float32(self.mean) + float32(self.stddev) * drawn


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
