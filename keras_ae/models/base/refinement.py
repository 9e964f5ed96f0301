"""The verb `refine`: an encoder's guess, and from there a search for the code."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ae import backend, checks
from keras_ae.models.base import latent_search
from keras_ae.probability.distributions import float32
from keras_ae.training.columns import mask_beside

# How often what is missing is filled in before the encoder's guess is taken.
_ROUNDS = 3


class Refined(NamedTuple):
    """What a search that began at the encoder's guess came to.

    Attributes:
        codes: Codes, `(n, code_dim)`.
        before: Mean squared error of what the guesses decode to, over the observed
            values of each example, `(n,)`.
        after: That of what `codes` decode to.
    """

    codes: np.ndarray
    before: np.ndarray
    after: np.ndarray


class Refines:
    """Codes that are searched for, from where the encoder takes them to be."""

    latent_dim: int
    code_dim: int
    prior: Any
    likelihood: keras.layers.Layer
    built_image_shape: tuple[int, ...]
    column_names: tuple[str, ...] | None

    def refine(
        self,
        x,
        mask: Any = None,
        steps: int = 100,
        learning_rate: float = 0.05,
        batch_size: int = 64,
    ) -> Refined:
        """Improves the encoder's codes of `x`, with the decoder fixed.

            argmax_z log p(x | z) + log p(z),  from z = encode(x)

        by Adam, without log p(z) where the model has no prior of its codes. An encoder
        has learnt one guess for all; the search looks at each example by itself. With
        a mask p(x | z) is that of the observed values: what the encoder is given for
        the others is filled in by the model itself.

        Args:
            x: Array `(n, *image_shape)`.
            mask: Booleans of the shape of `x`: True where a value was observed. What x
                is elsewhere counts for nothing, if it is a number in range.
            steps: Steps of the search, >= 1.
            learning_rate: Rate of the first step, > 0, as a share of the root mean
                square of the guessed codes; it falls to 0.
            batch_size: Examples at a time.

        Returns:
            `Refined`: codes that are at least as likely as the guess, and the errors
            of both.

        Raises:
            ValueError: If an argument is out of range, the model has no encoder or one
                that needs labels, or its codes are tokens or the pixels themselves.

        Reference:
            Kim et al., Semi-Amortized Variational Autoencoders, 2018
            (https://arxiv.org/abs/1802.02550), whose search this is at its end.
        """
        reasons = {
            "has no encoder whose guess could be refined": not self.has_encoder,
            "has tokens for codes, between which there is nothing": self.has_tokens,
            "keeps the pixels in its codes": self.keeps_pixels,
            "needs labels to encode": self.needs_labels,
        }
        for reason, holds in reasons.items():
            if holds:
                raise ValueError(f"A {type(self).__name__} can't refine: it {reason}.")
        checks.check_count("steps", steps)
        checks.check_positive("learning_rate", learning_rate)
        mask = mask_beside(x, mask, self.column_names)
        x = self.check_data(x, "x")
        if not hasattr(x, "shape"):
            raise ValueError(
                "`x` must be an array to be refined. Received: a "
                f"{type(x).__name__}; gather its batches into one."
            )
        x = ops.convert_to_numpy(self.to_floats(ops.convert_to_tensor(x)))
        x, observed = _filled(x, mask)
        z = self.encode(x, batch_size)
        for _ in range(0 if mask is None else _ROUNDS):
            x = np.where(observed, x, self.decode(z, batch_size)).astype("float32")
            z = self.encode(x, batch_size)
        size = max(float(np.sqrt(np.mean(np.square(z)))), 1e-3)
        rates = np.full((len(x), 1), learning_rate * size, "float32")

        def refined(x, observed, z, rates):
            return self._refined(x, observed, z, rates, steps)

        name = f"refine {steps}"
        found = self.in_batches(name, refined, (x, observed, z, rates), batch_size)
        return Refined(found[:, :-2], found[:, -2], found[:, -1])

    def code_log_prob(self, z):
        """Returns log p(z) of a batch of codes, in nats `(batch,)`, for `refine`.

        It is 0 where the model does not know it.
        """
        if not self.has_prior:
            return ops.zeros_like(z[:, 0])
        return self.prior.log_prob(z[:, : self.prior_dim])

    def _refined(self, x, observed, guess, rates, steps):
        """Codes and both errors beside each other, `(batch, code_dim + 2)`."""
        # What is not the latent's, such as a label, stays as it is.
        free = np.arange(self.code_dim) < self.prior_dim

        def decoded(z):
            return self.parameters_batch(ops.where(free, z, guess))

        def objective(z, index):
            log_prob = self.likelihood.log_prob(x, decoded(z), observed=observed)
            return -log_prob - float32(self.code_log_prob(z))

        pure: Callable = backend.pure(self, objective)
        guess = float32(guess)
        found = latent_search.descend(pure, guess, steps, rates)
        better = found.objective < pure(guess, 0)
        z = ops.where(better[:, None], found.z, guess)
        z = ops.where(free, z, guess)
        errors = [
            self.likelihood.mean_squared_error(x, decoded(codes), observed)[:, None]
            for codes in (guess, z)
        ]
        return ops.concatenate([z, *errors], axis=1)


def _filled(x, mask):
    """Examples with the mean of what is observed elsewhere, and what is observed."""
    if mask is None:
        return x, np.ones(x.shape, bool)
    if mask.shape != x.shape or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"`mask` must be booleans of the shape of `x`, {x.shape}, True where a "
            f"value was observed. Received: shape {mask.shape}, dtype {mask.dtype}"
        )
    mask = mask.astype(bool)
    axes = tuple(range(1, x.ndim))
    counts = mask.sum(axis=axes, keepdims=True)
    if not counts.all():
        raise ValueError(
            "`mask` must leave each example a value. Received: none for example "
            f"{int(np.argmin(counts.ravel()))}"
        )
    means = np.where(mask, x, 0.0).sum(axis=axes, keepdims=True) / counts
    return np.where(mask, x, means).astype("float32"), mask
