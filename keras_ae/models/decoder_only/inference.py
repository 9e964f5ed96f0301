"""The search for codes of new samples."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ae import backend, checks
from keras_ae.models.base import latent_search, sampling
from keras_ae.models.decoder_only.samples import observed_values, with_missing
from keras_ae.training import inputs

# A search has converged where the gradient has fallen to this share of its largest.
CONVERGED = 0.1
# Training moves a code once an epoch, behind a decoder that moves at every step. In so
# many steps after it, codes come to rest: of 1,500 faces of 28 by 20 the distance of
# samples falls from 2.3 to 0.8, and in five times the steps to 0.7.
_SETTLING_STEPS = 10
# So many examples at least, and so many values of examples, come to rest, which takes
# some ten seconds; after a long training as many as take a twentieth of its time. Of
# 8,000 pictures of clothes, samples of a GLO come to 0.76 with 1,000 and to 0.51 with
# 2,000.
_SETTLED = 1000
_SETTLED_VALUES = 3 * 2**19
_SETTLED_TIME = 0.05 / _SETTLING_STEPS


class Inferred(NamedTuple):
    """What a search for codes came to.

    Attributes:
        codes: Codes, `(n, latent_dim)`.
        error: Mean squared error of what they decode to, over the observed values of
            each example, `(n,)`.
        converged: Whether the search came to rest: whether the norm of the gradient
            fell below a tenth of its largest, booleans `(n,)`.
    """

    codes: np.ndarray
    error: np.ndarray
    converged: np.ndarray


class Infers:
    """Codes of samples that training has not seen, which are searched for."""

    # Rows in the table of codes of what `fit` was given last.
    _fitted_rows: np.ndarray | None = None

    def infer(
        self,
        x,
        mask: Any = None,
        steps: int | None = None,
        restarts: int = 1,
        candidates: int = 1000,
        learning_rate: float = 0.2,
        batch_size: int = 256,
    ) -> Inferred:
        """Searches for the codes of examples, with the decoder fixed.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes. NaN marks a
                missing value.
            mask: Booleans of the shape of `x`, which must be an array: True where a
                value was observed.
            steps: Steps of the search, >= 1. Defaults to `search_steps`.
            restarts: Nearest training codes to start from, >= 1; the best end counts.
            candidates: Training codes, spread over all of them, that the nearest are
                chosen from, >= `restarts`.
            learning_rate: Rate of the first step, > 0, in standard deviations of the
                training codes; it falls to 0.
            batch_size: Examples at a time, for arrays.

        Returns:
            `Inferred`: the codes, the error that they come to, and which of them came
            to rest.

        Raises:
            ValueError: If an argument is out of range, or an example has no observed
                value.
        """
        x = self.check_data(with_missing(x, mask), "x")
        found = self._infer(x, batch_size, steps, restarts, candidates, learning_rate)
        codes = self.mean_codes(ops.convert_to_tensor(found[:, : self.row_width]))
        *_, error, slope = found.T
        return Inferred(ops.convert_to_numpy(codes), error, slope < CONVERGED)

    def encode(self, x, batch_size: int = 256, **kwargs) -> np.ndarray:
        """Returns the codes of `x`, `(n, latent_dim)`, that `infer` finds.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.
            **kwargs: `mask`, `steps`, `restarts`, `candidates` and `learning_rate` of
                `infer`.
        """
        return self.infer(x, batch_size=batch_size, **kwargs).codes

    def reconstruct(self, x, batch_size: int = 256, **kwargs) -> np.ndarray:
        """Returns the decoded codes of `x`, missing values filled in.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.
            **kwargs: As for `encode`.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].
        """
        return self.decode(self.encode(x, batch_size, **kwargs), batch_size)

    @property
    def draws_by_itself(self):
        return True

    def remember(self, data):
        """Keeps some of the samples that there are codes of, to see where these rest.

        Args:
            data: All samples, in the order in which `fit` was given them, if it was;
                others are not kept.
        """
        data = getattr(data, "images", data)
        everything = np.arange(self.table.count)
        if not hasattr(data, "shape") or data.shape[0] != len(everything):
            return
        rows = everything if self._fitted_rows is None else self._fitted_rows
        if not np.array_equal(np.sort(rows), everything):
            return
        count = max(_SETTLED, _SETTLED_VALUES // max(1, math.prod(data.shape[1:])))
        # A model that was loaded has none.
        history = getattr(self, "history", None)
        epochs = len(history.epoch) if history else 0
        count = max(count, round(_SETTLED_TIME * epochs * self.table.count))
        examples = sampling.copied(data, min(sampling.EXAMPLES, count))
        # The same ones, as the choice depends on the numbers alone.
        self._fitted.data = examples, inputs.some_examples(rows, len(examples))

    def default_sampler(self):
        if not self.has_prior:
            self._require_fitted("sample")
        return super().default_sampler()

    def known_codes(self):
        if not self.table.count:
            return None
        rng = np.random.default_rng(0)
        if self._fitted.data is None:
            rows = ops.convert_to_numpy(self.table.rows)
            count = min(len(rows), sampling.EXAMPLES)
            rows = rng.choice(rows, count, replace=False)
        else:
            rows = self.in_batches("settle", self._settle, self._fitted.data, 256)
        return self._drawn_codes(rows, rng)

    def _settle(self, x, rows):
        """The rows of some samples, descended from where they are, (batch, width)."""
        x, observed = observed_values(self.to_floats(x))
        _, spread = self._starts(256)
        objective = self._search_objective()
        found = latent_search.descend(
            lambda rows, step: objective(x, rows, observed, step),
            self.table.take(rows),
            _SETTLING_STEPS,
            0.2 * spread,
            self.search_turns,
        )
        return self.constrain(found.z)

    def _drawn_codes(self, rows, rng):
        """Codes of some rows as the decoder is given them, `(n, latent_dim)`."""
        return ops.convert_to_numpy(self.mean_codes(rows))

    def sampler(self, name: str):
        """Returns a sampler, fitted now to the codes of all samples if it was not yet.

        Raises:
            ValueError: If the model was not fitted, or the sampler is unknown.
        """
        if name in self.SAMPLERS and name not in self.fitted_samplers:
            # What `sample` draws from by default stays what it was.
            codes = self.codes_to_fit(None, seed=0)
            self._fitted.by_name[name] = self._fit_sampler(name, codes, seed=0)
        return super().sampler(name)

    def codes_to_fit(self, x, seed):
        self._require_fitted("sample")
        return self.codes() if x is None else self.encode(x)

    def encode_batch(self, x):
        x, observed = observed_values(self.to_floats(x))
        return self.mean_codes(self._search(x, observed, self.search_steps).z)

    def _infer(
        self,
        x,
        batch_size,
        steps=None,
        restarts=1,
        candidates=1000,
        learning_rate=0.2,
    ):
        """Rows, errors and slopes beside each other, `(n, row_width + 2)`."""
        steps = checks.check_count(
            "steps", self.search_steps if steps is None else steps
        )
        checks.check_count("restarts", restarts)
        checks.check_count("candidates", candidates, minimum=restarts)
        if restarts > max(self.table.count, 1):
            raise ValueError(
                f"`restarts` must be at most the number of training samples, "
                f"{self.table.count}. Received: restarts={restarts}"
            )
        checks.check_positive("learning_rate", learning_rate)
        settings = {
            "steps": steps,
            "restarts": restarts,
            "candidates": candidates,
            "learning_rate": learning_rate,
        }
        function = functools.partial(self._search_and_measure, **settings)
        return self.in_batches(f"infer {settings}", function, x, batch_size)

    def _search_and_measure(self, x, **settings):
        x, observed = observed_values(self.to_floats(x))
        found = self._search(x, observed, **settings)
        parameters = self.decoder(self.mean_codes(found.z), training=False)
        error = self.likelihood.mean_squared_error(x, parameters, observed)
        return ops.concatenate([found.z, error[:, None], found.slope[:, None]], axis=1)

    def _search(
        self, x, observed, steps, restarts=1, candidates=256, learning_rate=0.2
    ):
        """Finds the rows of a batch."""

        starts, spread = self._starts(candidates)
        found = latent_search.search(
            x,
            lambda rows: self.decode_batch(self.mean_codes(rows)),
            self._search_objective(),
            starts,
            restarts,
            steps,
            learning_rate * spread,
            observed,
            self.search_turns,
        )
        return found._replace(z=self.constrain(found.z))

    def _search_objective(self):
        """Function of (examples, rows, observed, step) to what is minimised, `(n,)`."""

        def objective(x, rows, observed, step):
            # NaN again, which is how `terms` is told.
            x = ops.where(observed, x, float("nan"))
            outputs = self.decoded(self.constrain(rows), False, step)
            return sum(self.minimised(self.terms(x, outputs)).values())

        return backend.pure(self, objective)

    def _starts(self, candidates):
        """Rows to start a search from, and the standard deviation of the codes."""
        count = self.table.count
        if not count:
            return ops.zeros((1, self.row_width)), 1.0
        chosen = np.linspace(0, count - 1, min(candidates, count)).astype("int32")
        rows = self.table.take(ops.convert_to_tensor(chosen))
        z = self.mean_codes(rows)
        spread = ops.sqrt(ops.mean(ops.square(z - ops.mean(z, axis=0))))
        return rows, ops.maximum(spread, 1e-3)
