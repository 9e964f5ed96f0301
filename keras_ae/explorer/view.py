"""What there is to see of a trained model: pictures of codes, and what it can do."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_ae import checks
from keras_ae.explorer.directions import DIGITS, Directions, principal_directions
from keras_ae.probability import samplers

# Codes that are drawn where no pictures were given.
_DRAWN = 500
# Samplers that are fitted in seconds.
_QUICK = ("normal", "gaussian", "mixture")
# Pictures with and without an attribute that its vector is computed from, at least.
_A_SIDE = 10
# More values than these are a scale, or too many classes to choose from.
_MOST_CLASSES = 20
# Pictures on the way from one to another, the two included.
WAY = 21


class Refinement(NamedTuple):
    """What the encoder guesses of a picture, and what a search makes of that.

    Attributes:
        guess: The picture that the guessed code decodes to.
        refined: That of the code that was found.
        before: Mean squared error of `guess`.
        after: That of `refined`.
    """

    guess: np.ndarray
    refined: np.ndarray
    before: float
    after: float


class View:
    """A model, codes of it, and what can be shown of both.

    Pictures are given and returned one at a time, in the model's shape.

    Args:
        model: A trained model of pictures.
        x: Pictures `(n, *image_shape)` to encode, or None: then codes are those that
            the model owns, those of samples drawn from it, or of its prior.
        labels: Values by name, each `(n,)`, or columns of a frame: attributes, classes
            or numbers; where they are not known, NaN, or None among words.
        data: What `x` is, in words.
        seed: Integer >= 0, of what is drawn.

    Attributes:
        directions: The principal directions of the codes; None for a model whose codes
            are no vectors, or are not known.
        codes: The codes `(n, latent_dim)`, or None.
        examples: Pictures of the codes, or None.
        source: Whose codes they are, in words.
        classes: How many classes a model has that is told one; 0 of others.
        attributes: By name the way from codes without to codes with an attribute.
        samplers: Names of what new pictures can be drawn from.
        interpolates: Whether there is a way from one picture to another.
        refines: Whether guesses can be refined.

    Raises:
        ValueError: If the model describes no pictures, there is nothing to show, or a
            label has not a value for each picture.
    """

    def __init__(
        self,
        model: keras.Model,
        x: np.ndarray | None = None,
        labels: Mapping[str, np.ndarray] | None = None,
        *,
        data: str = "the data",
        seed: int = 0,
    ):
        checks.check_seed(seed)
        model.require_built("explore")
        kind, shape = type(model).__name__, model.built_image_shape
        if not model.describes_pictures or len(shape) > 3:
            raise ValueError(
                "`model` must describe pictures to be explored. Received: a "
                f"{kind} of examples of shape {shape}"
            )
        self.model = model
        labels = _by_name(labels)
        x = None if x is None else model.as_array("x", x)
        self._lock = threading.Lock()
        self._fitted: dict[str, Any] = {}
        self._seed = seed
        between = not model.has_tokens and not model.keeps_pixels
        reads = shape[2:] in ((), (1,), (3,))
        self.interpolates = bool(model.has_encoder and between and reads)
        self.refines = self.interpolates and not model.needs_labels
        self.classes: int = getattr(model, "num_classes", None) or 0
        self.codes: Any = None
        self.examples: Any = None
        self.labels: dict[str, np.ndarray] = {}
        self.source = ""
        self.directions: Directions | None = None
        self.attributes: dict[str, np.ndarray] = {}
        if between and len(model.code_shape) == 1:
            self._look(x, labels, data)
        elif x is not None:
            self.examples = x
        self.samplers = self._samplers()
        if self.directions is None and not (self.samplers or self.interpolates):
            why = "has tokens for codes" if model.has_tokens else "has no known codes"
            raise ValueError(
                f"There is nothing to explore of this {kind}: it {why}, and nothing to "
                "draw new ones from; fit a sampler first, `model.fit_sampler`."
            )

    def _look(self, x, labels, data):
        """Finds codes, and of what they are."""
        model = self.model
        size = model.prior_dim
        if x is not None and model.has_encoder:
            for name, values in labels.items():
                if len(values) != len(x):
                    raise ValueError(
                        "`labels` must have a value for each picture. Received: "
                        f"{len(values):,} of {name!r} for {len(x):,} pictures"
                    )
            self.codes, self.examples = model.encode(x)[:, :size], x
            self.source = f"{len(x):,} pictures of {data}"
            self.labels = {name: _plain(values) for name, values in labels.items()}
        elif model.searches_codes and model.known_codes() is not None:
            self.codes = model.known_codes()
            self.source = f"{len(self.codes):,} of the examples it was trained on"
        elif model.has_encoder and model.can_sample:
            self.examples = model.sample(_DRAWN, seed=self._seed)
            self.codes = model.encode(self.examples)[:, :size]
            self.source = f"{_DRAWN:,} samples that were drawn from the model"
        elif model.has_prior:
            self.codes = model.prior_codes(_DRAWN, self._seed)
            self.source = f"{_DRAWN:,} draws from the prior, as no data were found"
            if not model.has_encoder:
                self.source = f"{_DRAWN:,} draws from the prior"
        else:
            return
        self.directions = principal_directions(self.codes)
        if self.examples is None:
            chosen = np.linspace(0, len(self.codes) - 1, min(_DRAWN, len(self.codes)))
            self.codes = self.codes[chosen.astype(int)]
            self.examples = model.decode(self._with_class(self.codes))
        self.attributes = self._attributes()

    def _attributes(self):
        found = {}
        for name, values in self.labels.items():
            for title, (has, has_not) in _sides(name, values).items():
                if min(has.sum(), has_not.sum()) < _A_SIDE:
                    continue
                if self.classes and title.startswith(f"{name} "):
                    # A class, which the model is told.
                    continue
                codes = self.codes.astype("float64")
                vector = codes[has].mean(axis=0) - codes[has_not].mean(axis=0)
                found[title] = vector
        return found

    def _samplers(self):
        model = self.model
        names = ("prior",) if model.has_prior else ()
        names += model.fitted_samplers
        if self.codes is not None and model.SAMPLERS:
            names += tuple(name for name in _QUICK if name not in names)
        return names

    # The picture

    def code(self, positions: np.ndarray, rest: np.ndarray | float = 0.0) -> np.ndarray:
        """Returns the code `(latent_dim,)` of sliders.

        Args:
            positions: Standard deviations along the directions, `(count,)`.
            rest: What the code has beside them, `(latent_dim,)`.
        """
        return self.known_directions.codes(np.asarray(positions)[None])[0] + rest

    def picture(
        self,
        code: np.ndarray,
        label: int = 0,
        attribute: str | None = None,
        strength: float = 0.0,
    ) -> np.ndarray:
        """Decodes one code.

        Args:
            code: `(latent_dim,)`.
            label: Class, of a model that is told one.
            attribute: One of `attributes` to add.
            strength: Length of that step, in vectors; below 0 it is taken away.

        Returns:
            The picture, of the model's shape.

        Raises:
            ValueError: If there is no such attribute or class.
        """
        if attribute is not None:
            if attribute not in self.attributes:
                raise ValueError(
                    f"`attribute` must be one of {', '.join(self.attributes)}. "
                    f"Received: attribute={attribute!r}"
                )
            code = code + strength * self.attributes[attribute]
        if self.classes and not 0 <= label < self.classes:
            raise ValueError(
                f"`label` must be from 0 to {self.classes - 1}. Received: label={label}"
            )
        codes = self._with_class(np.asarray(code, "float32")[None], label)
        with self._lock:
            return self.model.decode(codes)[0]

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws one of the codes, as `Directions.split` returns it.

        Args:
            seed: Integer >= 0.
        """
        index = np.random.default_rng(seed).integers(len(self.codes))
        return self.known_directions.split(self.codes[index].astype("float64"))

    def moved(self, positions: np.ndarray, first: float, second: float) -> np.ndarray:
        """Returns positions with others along the first two directions.

        Args:
            positions: `(count,)`.
            first: Of the first direction, in standard deviations.
            second: Of the second, where there is one.
        """
        positions = np.array(positions, "float64")
        positions[:2] = np.round((first, second), DIGITS)[: len(positions)]
        return positions

    def _with_class(self, codes, label=0):
        """Codes as the decoder takes them: beside them a class, where there are any."""
        if not self.classes:
            return codes
        told = np.eye(self.classes, dtype="float32")[label]
        told = np.broadcast_to(told, (len(codes), self.classes))
        return np.concatenate([codes, told], axis=1)

    @property
    def known_directions(self) -> Directions:
        """The directions.

        Raises:
            ValueError: If there are none.
        """
        if self.directions is None:
            raise ValueError(
                f"The codes of this {type(self.model).__name__} have no directions."
            )
        return self.directions

    # More pictures

    def way(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Returns pictures on the way from `a` to `b`, `(21, *image_shape)`."""
        with self._lock:
            return self.model.interpolate(a, b, steps=WAY)

    def refine(self, picture: np.ndarray, steps: int) -> Refinement:
        """Searches on from the code that the encoder guesses for a picture.

        Args:
            picture: Of the model's shape.
            steps: Steps of the search, >= 1.
        """
        with self._lock:
            guess = self.model.reconstruct(picture[None])[0]
            found = self.model.refine(picture[None], steps=steps)
            refined = self.model.decode(found.codes)[0]
        return Refinement(guess, refined, float(found.before[0]), float(found.after[0]))

    def sample(self, sampler: str, count: int, seed: int) -> np.ndarray:
        """Draws new pictures, `(count, *image_shape)`.

        What the model itself draws from by default is left as it is.

        Args:
            sampler: One of `samplers`.
            count: Number of pictures.
            seed: Integer >= 0.

        Raises:
            ValueError: If there is no such sampler, or it can't be fitted.
        """
        if sampler not in self.samplers:
            raise ValueError(
                f"`sampler` must be one of {', '.join(self.samplers)}. "
                f"Received: sampler={sampler!r}"
            )
        model = self.model
        with self._lock:
            if sampler == "prior" or sampler in model.fitted_samplers:
                return model.sample(count, seed=seed, sampler=sampler)
            if sampler not in self._fitted:
                fitted = samplers.fit(sampler, self._codes_to_fit(), self._seed, model)
                self._fitted[sampler] = fitted
            drawn = self._fitted[sampler].sample((count, model.prior_dim), seed=seed)
            codes = keras.ops.convert_to_numpy(drawn)
            told = np.random.default_rng(seed).integers(
                max(1, self.classes), size=count
            )
            return model.decode(self._with_class(codes, told))

    def _codes_to_fit(self):
        if self.model.has_encoder:
            return self.model.codes_to_fit(self.examples, self._seed)
        return self.codes

    def example(self, index: int) -> np.ndarray | None:
        """Returns one of the pictures that there are, or None where there are none."""
        if self.examples is None:
            return None
        return self.examples[index % len(self.examples)]


def _by_name(labels):
    """Labels of pictures as a dict, of a frame its columns."""
    if isinstance(labels, Mapping | None):
        return dict(labels or {})
    if hasattr(labels, "columns"):
        return {str(name): labels[name] for name in labels.columns}
    raise ValueError(
        "`labels` must be a dict of values by name, or a frame. Received: a "
        f"{type(labels).__name__}; `{{'class': y}}` gives one of them a name."
    )


def _plain(values):
    """An array of numbers or words, of which what is not known is one of its own."""
    values = np.asarray(values)
    if values.dtype.kind != "O":
        return values
    return np.array(["unknown" if value is None else str(value) for value in values])


def _sides(name, values):
    """Which pictures have what a label says, and which have not, by what it is called.

    Of those whose value is NaN it is not known.
    """
    if name == "path" or values.ndim != 1:
        return {}
    numbers = values.dtype.kind in "biuf"
    known = ~np.isnan(values) if numbers else np.full(len(values), True)
    found = np.unique(values[known])
    if numbers and np.isin(found, (0, 1)).all():
        sides = {name: values == 1}
    elif numbers and (values.dtype.kind == "f" or len(found) > _MOST_CLASSES):
        sides = {f"high {name}": values > np.nanmedian(values)}
    elif len(found) > _MOST_CLASSES:
        return {}
    else:
        sides = {f"{name} {value}": values == value for value in found}
    return {title: (known & has, known & ~has) for title, has in sides.items()}
