"""The verb `sample`: codes drawn from a prior, or from what is fitted to codes."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import distributions, inputs, samplers
from keras_ae.verbs import seed_generator

# Of the arrays of fitted samplers in a saved model.
_PREFIX = "sampler:"


class _Fitted:
    """Distributions by name, out of sight of Keras, which would train them."""

    def __init__(self):
        self.by_name = {}


class Samples:
    """What a model needs to draw new pictures: a prior, or fitted samplers.

    `SAMPLERS` are the names that `fit_sampler` knows.
    """

    SAMPLERS = ("normal", "gaussian", "mixture", "maf", "two_stage")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._fitted = _Fitted()

    @property
    def has_prior(self) -> bool:
        """Whether there is a prior over codes."""
        return hasattr(self, "prior")

    @property
    def draws_by_itself(self) -> bool:
        """Whether `sample` needs no fitted sampler."""
        return self.has_prior

    @property
    def can_sample(self) -> bool:
        """Whether `sample` knows where codes lie."""
        return self.draws_by_itself or bool(self.fitted_samplers)

    def fit_sampler(
        self, sampler: Any = "mixture", x=None, seed: int = 0, **options
    ) -> None:
        """Fits a way to draw codes to those of `x`, for `sample(n, sampler=…)`.

        It is saved with the model. Training the model any further drops it.

        Args:
            sampler: `"normal"`, `"gaussian"`, `"mixture"`, `"maf"`, `"two_stage"`, and
                for a VAE `"vampprior"`: see `samplers.fit`; or one of `keras_ae.priors`
                of your own making, which `sample` then knows by its `name`.
            x: Array `(n, *image_shape)`, or any data set that `fit` takes: the pictures
                that the model was trained on.
            seed: Integer >= 0.
            **options: As for `samplers.fit`: `components=20` for a mixture, `epochs=50`
                for one that learns.

        Raises:
            ValueError: If the sampler is unknown, or the codes do not suffice for it.

        Example:

        ```python
        model.fit_sampler("mixture", images)
        pictures = model.sample(64, sampler="mixture")
        ```
        """
        name = getattr(sampler, "name", sampler)
        if not self.SAMPLERS:
            raise ValueError(
                f"{type(self).__name__} has no encoder, and so no codes to fit a "
                f"sampler to. Received: sampler={sampler!r}; `sample` draws from the "
                "prior."
            )
        if name == sampler and sampler not in self.SAMPLERS:
            *names, last = map(repr, self.SAMPLERS)
            either = f"{', '.join(names)} or {last}" if names else last
            raise ValueError(
                f"`sampler` of {type(self).__name__} must be {either}, or one of "
                f"`keras_ae.priors`. Received: sampler={sampler!r}"
            )
        self._require_built("fit_sampler")
        inputs.check_count("seed", seed, minimum=0)
        codes = self._codes_to_fit(x, seed)
        self._fitted.by_name[name] = self._fit_sampler(sampler, codes, seed, **options)

    @property
    def fitted_samplers(self) -> tuple[str, ...]:
        """Names of what `fit_sampler` has fitted, in that order."""
        return tuple(self._fitted.by_name)

    def forget_samplers(self) -> None:
        """Drops what was fitted to codes that are no longer the model's."""
        self._fitted.by_name.clear()

    def sampler(self, name: str):
        """Returns a fitted sampler: a distribution with `sample` and `log_prob`.

        Raises:
            ValueError: If none of that name was fitted.
        """
        if name not in self._fitted.by_name:
            known = ", ".join(map(repr, self.fitted_samplers)) or "none"
            raise ValueError(
                f"`sampler` must be one that was fitted with `fit_sampler`. Received: "
                f"sampler={name!r}; fitted: {known}"
            )
        return self._fitted.by_name[name]

    def sample(
        self,
        n: int,
        seed: int | None = None,
        batch_size: int = 256,
        sampler: str | None = None,
    ) -> np.ndarray:
        """Returns the likelihood's mean for new codes.

        Args:
            n: Pictures to draw, >= 1.
            seed: Integer; the same seed gives the same codes.
            batch_size: Codes decoded at a time.
            sampler: `"prior"`, or the name of what `fit_sampler` has fitted. Defaults
                to the prior, for a model without one to the sampler fitted last.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].

        Raises:
            ValueError: If there is neither a prior nor such a sampler.
        """
        codes = self._drawn(n, seed_generator(seed), sampler)
        return self._decode_drawn(codes, batch_size)

    def _drawn(self, n, seeds, sampler=None) -> np.ndarray:
        """Codes of the shape of those that samplers are fitted to, `(n, ...)`."""
        self._require_built("sample")
        n = inputs.check_count("n", n)
        if sampler is None:
            sampler = self._default_sampler()
        if sampler == "prior" and not self.has_prior:
            raise ValueError(
                f"`sampler` must be fitted first: {type(self).__name__} has no prior "
                "over codes. Received: sampler='prior'"
            )
        distribution = self.prior if sampler == "prior" else self.sampler(sampler)
        codes = distribution.sample((n, *self._drawn_shape), seed=seeds)
        return ops.convert_to_numpy(codes)

    def _default_sampler(self):
        if self.has_prior:
            return "prior"
        if not self.fitted_samplers:
            raise ValueError(
                f"{type(self).__name__} has no prior over codes to sample from: fit "
                "a sampler to the codes of its training pictures first, "
                f"`model.fit_sampler({self.SAMPLERS[-1]!r}, x)`."
            )
        return self.fitted_samplers[-1]

    @property
    def _drawn_shape(self) -> tuple[int, ...]:
        return (self.latent_dim,)

    def _codes_to_fit(self, x, seed) -> np.ndarray:
        """Returns the codes of x, `(n, latent_dim)`."""
        return self.encode(x)[:, : self.latent_dim]

    def _fit_sampler(self, sampler, codes, seed, **options):
        return samplers.fit(sampler, codes, seed, self, **options)

    def _decode_drawn(self, codes, batch_size):
        return self.decode(codes, batch_size)

    # Saving

    def get_build_config(self):
        config = super().get_build_config()
        fitted = {
            name: keras.saving.serialize_keras_object(distribution)
            for name, distribution in self._fitted.by_name.items()
        }
        return {**config, "samplers": fitted} if fitted else config

    def build_from_config(self, config):
        config = dict(config)
        fitted = config.pop("samplers", {})
        super().build_from_config(config)
        for name, serialized in fitted.items():
            distribution = keras.saving.deserialize_keras_object(serialized)
            if isinstance(distribution, distributions.LearnedPrior):
                distribution.connect(self)
            self._fitted.by_name[name] = distribution

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for key, variable in self._sampler_variables().items():
            store[key] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        for key, variable in self._sampler_variables().items():
            if key in store.keys():  # noqa: SIM118
                variable.assign(np.asarray(store[key]))
        # Keras counts what it is given, and should count the model's own.
        keys = {*store.keys()}
        own = {key: store[key] for key in keys if not key.startswith(_PREFIX)}
        super().load_own_variables(own)

    def _sampler_variables(self):
        return {
            f"{_PREFIX}{name}:{index}": variable
            for name, distribution in self._fitted.by_name.items()
            if isinstance(distribution, distributions.LearnedPrior)
            for index, variable in enumerate(distribution.variables)
        }
