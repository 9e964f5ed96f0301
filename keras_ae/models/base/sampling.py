"""The verb `sample`: codes drawn from a prior, or from what is fitted to codes."""

import contextlib
import inspect
import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.base.choice import Choice, Fitted, choose
from keras_ae.models.base.verbs import seed_generator
from keras_ae.probability import distributions, samplers
from keras_ae.training import inputs

# Of the arrays of fitted samplers in a saved model.
_PREFIX = "sampler:"
_STATE = "known of the data"
# What a model keeps of its training data, to look where its codes are: so many
# examples and bytes at most.
EXAMPLES = 5_000
_BYTES = 2**26


class Samples:
    """What a model needs to draw new pictures: a prior, or fitted samplers.

    `SAMPLERS` are the names that `fit_sampler` knows.
    """

    SAMPLERS: tuple[str, ...] = (
        "normal",
        "gaussian",
        "mixture",
        "maf",
        "two_stage",
        "flow",
    )
    # Whether codes are drawn from the prior by default, wherever those of data are: the
    # decoder has learned from the prior's, or a manifold has no normal distributions.
    keeps_to_prior: bool = False
    # Why there are no `SAMPLERS`, for a sentence that begins with the class.
    no_samplers = (
        "has no encoder, and so no codes to fit a sampler to; `sample` draws from the "
        "prior"
    )
    # Whether codes are far from the prior by design, and a sampler must be trained,
    # which takes too long to do when saving.
    learns_choice: bool = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._fitted = Fitted()
        self._chooses_later = False

    @property
    def has_prior(self) -> bool:
        """Whether there is a prior over codes."""
        return hasattr(self, "prior")

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape that a code has, all in a row: `(code_dim,)`, or a grid's."""
        return (self.code_dim,)

    @property
    def prior_dim(self) -> int:
        """The first so many numbers of a code are what is drawn to sample."""
        return self.latent_dim

    @property
    def draws_by_itself(self) -> bool:
        """Whether `sample` needs no fitted sampler."""
        return self.has_prior

    @property
    def can_sample(self) -> bool:
        """Whether `sample` knows where codes lie."""
        known = self.SAMPLERS and self._fitted.data is not None
        alone = self.draws_by_itself and not self._needs_choice
        return bool(alone or self.fitted_samplers or known)

    @property
    def _needs_choice(self):
        # Whoever looks on while it trains sees what there is.
        return self.learns_choice and not self._chooses_later

    def fit_sampler(
        self, sampler: Any = "mixture", x=None, seed: int = 0, **options
    ) -> None:
        """Fits a way to draw codes to those of `x`, for `sample(n, sampler=…)`.

        It is saved with the model, and what `sample` draws from by default from now
        on. Training the model any further drops it.

        Args:
            sampler: `"normal"`, `"gaussian"`, `"mixture"`, `"maf"`, `"two_stage"`,
                `"flow"`, and for a VAE `"vampprior"`: see `samplers.fit`; or one of
                `keras_ae.priors` of your own making, which `sample` then knows by its
                `name`.
            x: Array `(n, *image_shape)`, or any data set that `fit` takes: the pictures
                that the model was trained on.
            seed: Integer >= 0.
            **options: As for `samplers.fit`: `components=20` for a mixture, `epochs=50`
                for one that learns, `labels=` for a flow of classes.

        Raises:
            ValueError: If the sampler is unknown, or the codes do not suffice for it.

        Example:

        ```python
        model.fit_sampler("mixture", images)
        pictures = model.sample(64, sampler="mixture")
        ```
        """
        is_name = isinstance(sampler, str)
        name = sampler if is_name else getattr(sampler, "name", None)
        if not self.SAMPLERS:
            raise ValueError(
                f"{type(self).__name__} {self.no_samplers}. Received: "
                f"sampler={sampler!r}"
            )
        if name is None or (is_name and sampler not in self.SAMPLERS):
            *names, last = map(repr, self.SAMPLERS)
            either = f"{', '.join(names)} or {last}" if names else last
            raise ValueError(
                f"`sampler` of {type(self).__name__} must be {either}, or one of "
                "`keras_ae.priors`. Received: "
                + (f"sampler={sampler!r}" if is_name else f"a {type(sampler).__name__}")
            )
        self.require_built("fit_sampler")
        checks.check_seed(seed)
        codes = self.codes_to_fit(x, seed)
        self._fitted.by_name[name] = self._fit_sampler(sampler, codes, seed, **options)
        self._fitted.choice = Choice(name, None)

    @property
    def fitted_samplers(self) -> tuple[str, ...]:
        """Names of what `fit_sampler` has fitted, in that order."""
        return tuple(self._fitted.by_name)

    def forget_samplers(self, data: bool = True) -> None:
        """Drops what was fitted to codes that are no longer the model's.

        Args:
            data: Whether the data that it was trained on are forgotten, too.
        """
        self._fitted.forget_densities()
        if data:
            self._fitted.data = None

    def remember(self, data: Any) -> None:
        """Keeps a part of the data that the model is trained on, for `choose_sampler`.

        `fit` calls it.

        Args:
            data: Data as for `fit`. Of arrays random examples are copied; other data
                sets are read when a sampler is to be chosen.
        """
        if not self.SAMPLERS or self.keeps_to_prior or isinstance(data, Iterator):
            return
        data = getattr(data, "images", data)
        self._fitted.data = copied(data) if hasattr(data, "shape") else data

    @contextlib.contextmanager
    def choosing_later(self) -> Iterator[None]:
        """As long as the block lasts, `fit` chooses no sampler, and none is kept.

        For who loads the best weights after it, and for `fit` itself, whose callbacks
        may save or sample: codes of one epoch are not those of the next.
        """
        before, self._chooses_later = self._chooses_later, True
        try:
            yield
        finally:
            self._chooses_later = before

    def choose_sampler(self) -> Choice | None:
        """Looks where the codes of the training data are: where `sample` should draw.

        A normal distribution and mixtures of 3, 10, 20 and 40, whose covariances are
        shrunk, are fitted to codes, in a VAE to draws from their posteriors. Unless
        they make held-back codes likelier than the prior does, by more than a tenth of
        a nat, the prior is taken; else the one that makes them likeliest. What
        `fit_sampler` was asked for is taken as it is. The model keeps the choice, and
        is saved with it; `fit` drops it.

        Returns:
            The `Choice`, which says why when it is printed. None for a model that has
            no codes to look at: it was not trained by `fit`, or is a GAN.
        """
        looks = self.SAMPLERS and self.built and not self.keeps_to_prior
        if self._chooses_later:
            self._fitted.forget_densities()
        if looks and self._fitted.choice is None:
            codes = self.known_codes()
            if codes is not None:
                self._fitted.choice = self._choose(codes)
        return self._fitted.choice

    def known_codes(self):
        """Codes of training data, `(n, ...)`, or None."""
        data = self._fitted.data
        if data is None:
            return None
        if not hasattr(data, "shape"):
            data = inputs.first_examples(data, EXAMPLES)
        return self.codes_to_fit(data, seed=0)

    def _choose(self, codes):
        prior = self.prior if self.has_prior else None
        choice, density = choose(codes, prior)
        if density is not None:
            self._fitted.by_name[choice.sampler] = density
        return choice

    def sampler(self, name: str):
        """Returns a fitted sampler: a distribution with `sample` and `log_prob`.

        Raises:
            ValueError: If none of that name was fitted.
        """
        if not isinstance(name, str) or name not in self._fitted.by_name:
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
        *,
        mean: bool = True,
        **options,
    ) -> np.ndarray:
        """Returns the likelihood's mean for new codes, or x drawn from p(x | z).

        Args:
            n: Pictures to draw, >= 1.
            seed: Integer; the same seed gives the same codes.
            batch_size: Codes decoded at a time.
            sampler: `"prior"`, or the name of what `fit_sampler` has fitted. By
                default what it has fitted last, else what `choose_sampler` chooses: the
                prior where the codes of the training data follow it, or a density that
                is fitted to them.
            mean: Whether to give the mean of p(x | z). Draws from it have its noise:
                they are samples of p(x), which means are not.
            **options: What the sampler's own `sample` takes: `steps`, `labels` and
                `guidance` of a `"flow"`, `temperature` of a `"pixelcnn"`.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].

        Raises:
            ValueError: If there is neither a prior nor such a sampler, or it does not
                take these options.
        """
        is_mean = checks.check_flag("mean", mean)
        seeds = seed_generator(seed)
        codes = self._drawn(n, seeds, sampler, **options)
        return self._decode_drawn(codes, batch_size, None if is_mean else seeds)

    def prior_codes(self, n: int, seed: int | None = None) -> np.ndarray:
        """Returns codes drawn from the prior, `(n, prior_dim)`.

        Args:
            n: Codes to draw, >= 1.
            seed: Integer; the same seed gives the same codes.

        Raises:
            ValueError: If the model has no prior.
        """
        return self._drawn(n, seed_generator(seed), "prior")

    def _drawn(self, n, seeds, sampler=None, **options) -> np.ndarray:
        """Codes of the shape of those that samplers are fitted to, `(n, ...)`."""
        self.require_built("sample")
        n = checks.check_count("n", n)
        if sampler in (None, "auto"):
            sampler = self.default_sampler()
        if sampler == "prior" and not self.has_prior:
            raise ValueError(
                f"`sampler` must be fitted first: {type(self).__name__} has no prior "
                "over codes. Received: sampler='prior'"
            )
        distribution = self.prior if sampler == "prior" else self.sampler(sampler)
        _check_options(sampler, distribution, options)
        codes = distribution.sample((n, *self._drawn_shape), seed=seeds, **options)
        return ops.convert_to_numpy(codes)

    def default_sampler(self) -> str:
        """Returns the name of the sampler that `sample` draws codes from by default."""
        choice = self.choose_sampler()
        if choice is not None:
            return choice.sampler
        if self.has_prior and not self._needs_choice:
            return "prior"
        if not self.SAMPLERS:
            raise ValueError(f"{type(self).__name__} {self.no_samplers}.")
        if not self.fitted_samplers:
            why, name = "no prior over codes", "mixture"
            if self.has_prior:
                why, name = "codes that do not follow its prior", "flow"
            raise ValueError(
                f"{type(self).__name__} has {why} to sample from: fit a sampler to the "
                f"codes of its training pictures first, `model.fit_sampler({name!r}, "
                "x)`."
            )
        return self.fitted_samplers[-1]

    @property
    def _drawn_shape(self) -> tuple[int, ...]:
        return (self.prior_dim,)

    def codes_to_fit(self, x, seed) -> np.ndarray:
        """Returns the codes of x, `(n, prior_dim)`."""
        return self.encode(x)[:, : self.prior_dim]

    def _fit_sampler(self, sampler, codes, seed, **options):
        return samplers.fit(sampler, codes, seed, self, **options)

    def _decode_drawn(self, codes, batch_size, seeds=None):
        """Means for what was drawn, or with `seeds` draws from p(x | z)."""
        if seeds is None:
            return self.decode(codes, batch_size)
        return self.sample_likelihood(codes, seeds, batch_size)

    def set_weights(self, weights):
        """Sets all weights, and drops samplers; see `keras.Model.set_weights`."""
        super().set_weights(weights)
        self.forget_samplers(data=False)

    # Saving

    def build_from_config(self, config):
        config = dict(config)
        # Where files of 0.1 have them.
        samplers = config.pop("samplers", {})
        super().build_from_config(config)
        self._restore({"samplers": samplers})

    def _state(self):
        """What is known of the codes and of the data, for a file."""
        if self._chooses_later:
            self._fitted.forget_densities()
        elif not self.learns_choice:
            self.choose_sampler()
        choice = self._fitted.choice
        return {
            **super()._state(),
            "samplers": {
                name: keras.saving.serialize_keras_object(distribution)
                for name, distribution in self._fitted.by_name.items()
            },
            "choice": choice and list(choice),
        }

    def _restore(self, state):
        super()._restore(state)
        if "samplers" in state:
            # What was fitted to the codes of other weights is none of these.
            self._fitted.by_name = {}
        for name, serialized in state.get("samplers", {}).items():
            distribution = keras.saving.deserialize_keras_object(serialized)
            if isinstance(distribution, distributions.LearnedPrior):
                distribution.connect(self)
            self._fitted.by_name[name] = distribution
        choice = state.get("choice")
        self._fitted.choice = choice and Choice(*choice)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        text = json.dumps(self._state()) if self.built else ""
        # Also a model that is built before it is loaded reads variables.
        store[_STATE] = np.frombuffer(text.encode(), "uint8")
        for key, variable in self._sampler_variables().items():
            store[key] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        keys = {*store.keys()}
        if _STATE in keys and len(store[_STATE]):
            self._restore(json.loads(np.asarray(store[_STATE]).tobytes()))
        for key, variable in self._sampler_variables().items():
            if key in keys:
                variable.assign(np.asarray(store[key]))
        # Keras counts what it is given, and should count the model's own.
        ours = {key for key in keys if key.startswith(_PREFIX)} | {_STATE}
        super().load_own_variables({key: store[key] for key in keys - ours})

    def _sampler_variables(self):
        return {
            f"{_PREFIX}{name}:{index}": variable
            for name, distribution in self._fitted.by_name.items()
            if isinstance(distribution, distributions.LearnedPrior)
            for index, variable in enumerate(distribution.variables)
        }


def _check_options(name, distribution, options):
    unwrapped = distribution
    while hasattr(unwrapped, "density"):
        unwrapped = unwrapped.density
    known = {*inspect.signature(unwrapped.sample).parameters} - {"shape", "seed"}
    for option, value in options.items():
        if option not in known:
            names = ", ".join(f"`{other}`" for other in sorted(known)) or "none"
            remedy = "; sampler 'flow', fitted with `labels`, draws by class"
            raise ValueError(
                f"`{option}` is no option of sampler {name!r}, which takes {names}. "
                f"Received: {option}={value!r}{remedy if option == 'labels' else ''}"
            )


def copied(data: Any, count: int = EXAMPLES) -> np.ndarray:
    """Returns at most `count` random examples of an array, no more than fit in 64 MB.

    A hundred are always taken.
    """
    size = max(1, int(np.prod(data.shape[1:]))) * _itemsize(data)
    return inputs.some_examples(data, min(count, max(100, _BYTES // size)))


def _itemsize(data):
    # NumPy has no bfloat16.
    name = keras.backend.standardize_dtype(data.dtype).replace("bfloat", "float")
    return np.dtype(name).itemsize
