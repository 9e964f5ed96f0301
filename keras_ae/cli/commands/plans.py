"""What a training is given where nobody says otherwise."""

from __future__ import annotations

import inspect
import math
import typing
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_ae import callbacks, catalogue, checks, datasets, metrics
from keras_ae.datasets import Schema, folders, mirrors
from keras_ae.models.base.grids import GridCodes
from keras_ae.probability import likelihoods
from keras_ae.runs import Run

# Estimated noise above which pictures are no longer clean.
_NOISY = 0.03
# So many pictures have their mirror images learned from, where those are described
# worse than the pictures themselves by at most this share: fewer could not tell.
_FEW, _ALIKE = range(50, 1000), 0.1


class Plan(NamedTuple):
    """What a training is given where nobody says otherwise."""

    batch_size: int
    epochs: int
    patience: int


# A code is as long as the principal components that hold so much of the variance.
VARIANCE = 0.9
# Lengths of codes, powers of two, and how many pictures and values tell which.
_SHORTEST, _LONGEST, _LOOKED_AT, _VALUES = 8, 128, 1000, 2**26
# Numbers in a code: what many classes have by default, and of a table's rows at most.
_DEFAULT_DIMS, _ROW_DIMS = 32, 16
# What is left of the learning rate each time that it falls.
FALL = 0.3
# Steps without a better epoch before training ends. After a quarter of them the rate
# falls, from the best epoch: of 8,000 faces 16 more at the first rate gained one nat.
_PATIENCE = 1250
# Noise of pictures that nobody has told of, a level drawn for each.
_NOISE = (0.02, 0.3)
# So many values hold all pictures that are cut into tiles.
_ROOM = 2**30
# Pixels of a batch, at most: 128 pictures of 128 x 128, or 32 of 256 x 256, which most
# networks train on within 8 GiB.
_BATCH_PIXELS = 2**21


def training_plan(pictures: int, pixels: int = 1) -> Plan:
    """Returns what suits a number of pictures.

    Steps are about as many whatever it is, so that few pictures are seen more often;
    batches are small enough for tens of steps an epoch, and for the memory.

    Args:
        pictures: How many there are.
        pixels: Of each.
    """
    batch_size = 2 ** round(math.log2(max(pictures, 1) / 40))
    batch_size = min(max(batch_size, 16), 128, max(1, _BATCH_PIXELS // pixels))
    epochs = round(25_000 * batch_size / pictures)
    epochs = min(max(epochs, 20), 400)
    patience = round(_PATIENCE / math.ceil(pictures / batch_size))
    return Plan(batch_size, epochs, min(max(5, patience), max(5, epochs // 10)))


def code_length(pictures: np.ndarray, variance: float = VARIANCE) -> int:
    """Returns how many numbers a code of such pictures needs, a power of two.

    Of the principal components that hold a share of the variance, no more than there
    are: shorter codes restore pictures worse, from longer ones samples are worse.

    Args:
        pictures: Array `(n, *image_shape)`.
        variance: Share of the variance that the components are to hold, in (0, 1).
    """
    count = min(_LOOKED_AT, max(100, _VALUES // math.prod(pictures.shape[1:])))
    chosen = np.sort(np.random.default_rng(0).permutation(len(pictures))[:count])
    flat = np.nan_to_num(pictures[chosen].reshape(len(chosen), -1).astype("float32"))
    flat -= flat.mean(axis=0)
    held = np.cumsum(np.linalg.eigvalsh(flat @ flat.T)[::-1])
    components = 1 + int(np.searchsorted(held, variance * held[-1]))
    return min(max(2 ** int(math.log2(components)), _SHORTEST), _LONGEST)


def tiles_plan(tiles: int) -> Plan:
    """Returns what suits a number of tiles, for a model that restores them.

    It learns more of each, every pixel of which is an example, and each step takes
    longer.
    """
    epochs = min(max(round(48_000 / tiles), 10), 200)
    return Plan(16, epochs, max(5, epochs // 5))


def model_settings(
    constructor: type[keras.Model],
    chosen: Iterable[str],
    latent_dim: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a training can be told, with its defaults, and what it was told.

    Args:
        constructor: Class of the model.
        chosen: `learning_rate`, `patience`, `mirror` and arguments of the constructor,
            as `name=value`.
        latent_dim: Numbers in a code, where the command has an option for it.

    Raises:
        ValueError: If a setting is unknown, or its value does not fit.
    """
    # The players of an adversarial model have rates of their own.
    rate = None if constructor.player_names else 1e-3
    # Mirror images are for few pictures that may be either way round.
    defaults = {"learning_rate": rate, "mirror": None, **arguments(constructor)}
    if constructor.score_name is not None:
        # By the number of pictures.
        defaults["patience"] = None
    if defaults.get("corruption") == "gaussian":
        # As it is in files.
        defaults["corruption"] = "clipped_gaussian"
    if defaults.get("latent_dim") == _DEFAULT_DIMS:
        # By the pictures; where a class has a default of its own, that has a reason.
        defaults["latent_dim"] = None
    settings = catalogue.choose(defaults, [*chosen])
    given = settings.get("latent_dim", latent_dim)
    if latent_dim not in (None, given):
        raise ValueError(
            f"`--latent-dim {latent_dim}` must be left out, or `--set "
            f"latent_dim={given}`. Received both"
        )
    if latent_dim is not None:
        settings["latent_dim"] = latent_dim
    checks.check_positive("learning_rate", settings.get("learning_rate", 1))
    if settings.get("patience") is not None:
        checks.check_count("patience", settings["patience"], minimum=0)
    return defaults, settings


def arguments(constructor: type[keras.Model]) -> dict[str, Any]:
    """The constructor's arguments that can be given as text, with their defaults."""
    found = {}
    for cls in reversed(constructor.__mro__):
        if not issubclass(cls, keras.Model) or cls.__module__.startswith("keras.src"):
            continue
        for parameter in inspect.signature(cls.__init__).parameters.values():
            name, default = parameter.name, parameter.default
            # Labels, which classes need, come with Python only.
            if name in constructor.settled_arguments or name == "num_classes":
                continue
            plain = {int, float, str} & {*typing.get_args(parameter.annotation)}
            if name == "widths":
                found[name] = ()
            elif (
                name == "likelihood"
                or isinstance(default, (bool, int, float, str, tuple))
                or (default is None and plain)
            ):
                found[name] = default
    return found


class Training:
    """Trains a model as it was told to, and where it was not, as suits the pictures.

    Args:
        constructor: Class of the model.
        settings: What was chosen, over the defaults of `model_settings`.
        trained: A model to go on with.
        variance: For `code_length`, where nobody says how long codes are.

    Raises:
        ValueError: If the constructor refuses a setting.
    """

    def __init__(
        self,
        constructor: type[keras.Model],
        settings: Mapping[str, Any],
        trained: keras.Model | None = None,
        variance: float = VARIANCE,
    ):
        settings = dict(settings)
        self.variance = variance
        self.constructor = constructor
        self.trained = trained
        self.patience = settings.pop("patience", None)
        self.learning_rate = settings.pop("learning_rate")
        self.mirror = _yes_or_no("mirror", settings.pop("mirror", None))
        # What the constructor chooses by itself; 0 is a value like any other.
        self.given = {
            name: value
            for name, value in settings.items()
            if value is not None and (name != "widths" or value)
        }
        if self.given.get("corruption") == "clipped_gaussian":
            self.given.setdefault("noise_level", _NOISE)
        self.dims_by_plan = "latent_dim" in settings.keys() - self.given.keys()
        self.learns_from_tiles = False
        # What the constructor refuses, it refuses before the data are read.
        self.build()

    def load(self, run: Run, data: str) -> tuple[np.ndarray, ...]:
        """Loads training, validation and test pictures, as suits the model.

        What restores pictures of any size learns from tiles of larger ones: made
        smaller, they would hold neither their noise nor their details.
        """
        restores = self.constructor.denoises and self.trained is None
        if self.given.get("architecture", "auto") != "auto" or not restores:
            return run.load(data)
        if run.image_size is not None or datasets.recognise(data) is not None:
            return run.load(data)
        size = folders.own_size(data, _ROOM, run.key)
        if min(size) <= folders.LARGEST_SIDE:
            return run.load(data)
        self.learns_from_tiles = True
        side = folders.LARGEST_SIDE
        print(
            f"Learns from tiles of {side} x {side} pixels, of pictures of {size[0]} x "
            f"{size[1]}. `--image-size HEIGHTxWIDTH` makes these smaller instead.",
            flush=True,
        )
        return run.load(data, image_size=size, tiles=side)

    def describe(self, schema: Schema, of_series: bool = False) -> None:
        """Settles the likelihood of a table's rows, and how long their codes are.

        Args:
            schema: Of the table.
            of_series: Whether windows of its rows are learned, along time.
        """
        known = arguments(self.constructor)
        if "likelihood" not in known:
            raise ValueError(
                "`--model` must be one that takes a likelihood, to learn a table. "
                f"Received: {self.constructor.__name__}"
            )
        given = self.given.get("likelihood")
        if given != known["likelihood"]:
            raise ValueError(
                "`likelihood` must be left out: each column of a table has that of its "
                f"kind. Received: likelihood={given}"
            )
        self.given["likelihood"] = likelihoods.Columns(schema)
        if self.given.get("corruption") == "clipped_gaussian":
            # The values of a table don't end at 0 and 1.
            self.given["corruption"] = "gaussian"
            if self.given["noise_level"] is _NOISE:
                del self.given["noise_level"]
        if of_series:
            given = self.given.get("architecture", "auto")
            if given not in ("auto", "sequence"):
                raise ValueError(
                    "`architecture` must be left out: windows of a series have that of "
                    f"a sequence. Received: architecture={given}"
                )
            self.given["architecture"] = "sequence"
        elif self.dims_by_plan:
            self.given["latent_dim"] = max(2, min(_ROW_DIMS, schema.width // 2))
            self.dims_by_plan = False

    def build(self) -> keras.Model:
        """Makes the model, or returns the one to go on with, compiled."""
        model = self.trained
        if model is None:
            model = self.constructor(**self.given)
        if not model.player_names:
            model.compile(optimizer=keras.optimizers.Adam(self.learning_rate))
        elif self.learning_rate is not None:
            model.optimizer.learning_rate = self.learning_rate
        return model

    def fit(
        self, run: Run, pictures: np.ndarray, validation: np.ndarray
    ) -> keras.Model:
        """Trains on `pictures` until `validation` ends it; says what it does.

        Raises:
            ValueError: If the model to go on with takes pictures of another shape.
        """
        if self.trained is not None:
            takes, given = self.trained.built_image_shape, tuple(pictures.shape[1:])
            if given != takes:
                raise ValueError(
                    f"The model to go on with takes examples of shape {takes}. "
                    f"Received: {given}"
                )
        pictures = self._with_mirror_images(pictures)
        if self.learns_from_tiles:
            plan = tiles_plan(len(pictures))
        else:
            plan = training_plan(len(pictures), math.prod(pictures.shape[1:-1]))
        if self.dims_by_plan and self.trained is None:
            self.given["latent_dim"] = code_length(pictures, self.variance)
        model = run.model(self.build)
        if model.denoises:
            _say_what_is_learned(model, pictures)
        patience = plan.patience if self.patience is None else self.patience
        place = " numbers a place" if isinstance(model, GridCodes) else ""
        codes = "" if model.denoises else f"codes of {model.latent_dim}{place}, "
        epochs = run.epochs or plan.epochs
        falling = _falling_rate(run, model, patience)
        ends = [f"the rate falls after {rate.patience}" for rate in falling]
        ends.append(f"the end after {patience}")
        end = f", {', '.join(ends)} without a better one"
        noun = "pictures" if pictures.ndim > 2 else "rows"
        if model.architecture == "sequence":
            noun = "windows"
        print(
            f"For {len(pictures):,} {noun}: {codes}batches of "
            f"{run.batch_size or plan.batch_size}, epochs: at most {epochs}"
            f"{end if patience < epochs else ''}. Other numbers: --latent-dim, "
            "--batch-size, --epochs, --set patience=N.",
            flush=True,
        )
        run.fit(
            model,
            pictures,
            validation,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            patience=patience,
            extra_callbacks=falling,
        )
        return model

    def _with_mirror_images(self, pictures):
        """Pictures, and mirror images where few of them could be either way round."""
        asked = self.mirror
        if pictures.ndim < 3 or self.given.get("architecture") == "sequence":
            if asked:
                raise ValueError("`mirror` must be left out for rows of a table.")
            return pictures
        if asked is None and len(pictures) in _FEW:
            asked = mirrors.asymmetry(pictures) < _ALIKE
            if asked:
                print(
                    "Learns from mirror images too: there are few pictures, which "
                    "could as well be the other way round. `--set mirror=no` leaves "
                    "them out.",
                    flush=True,
                )
        return mirrors.mirrored(pictures) if asked else pictures


def _falling_rate(run, model, patience):
    """Lets the rate fall where no epoch is better, well before training ends there.

    Training then goes on from the best epoch: 3,000 faces were best after 21, and what
    came after at a third of the rate, from the last of them, did not come near.

    Not with several players, who would get out of step, nor where each phase has an
    optimizer of its own.
    """
    one = not model.player_names and not hasattr(model, "next_phase")
    if model.score_name is None or not one:
        return []
    rate = float(model.optimizer.learning_rate)
    return [
        callbacks.ResumedReduceLROnPlateau(
            run.history,
            run.best_path,
            monitor=f"val_{model.score_name}",
            factor=FALL,
            patience=max(2, patience // 4),
            min_lr=rate * FALL**3,
        )
    ]


def _yes_or_no(name, value):
    known = {"yes": True, "no": False, True: True, False: False, None: None}
    if not isinstance(value, str | bool | None) or value not in known:
        raise ValueError(f"`{name}` must be yes or no. Received: {name}={value}")
    return known[value]


def _say_what_is_learned(model, pictures):
    """Says that clean pictures are needed, and whether these look clean."""
    level = getattr(model.corruption, "level", None)
    if isinstance(level, Sequence):
        level = " to ".join(map(str, level))
    level = f" of {level}" if level is not None else ""
    size = ""
    if pictures.ndim > 2:
        size = f", at {pictures.shape[1]} x {pictures.shape[2]} pixels"
    print(
        f"It learns to take {type(model.corruption).__name__}{level} from pictures "
        f"that are clean{size}. Other noise: --set noise_level=X, a share of white.",
        flush=True,
    )
    large = pictures.ndim > 2 and min(pictures.shape[1:3]) > 9
    noise = metrics.noise_level(pictures[:500]) if large else 0.0
    if noise > _NOISY:
        warnings.warn(
            f"The pictures look noisy themselves: a deviation of about {noise:.2f}. "
            "What is in them stays in what is restored. Train on clean ones, or from "
            "Python on pairs: `fit(noisy, clean)`, or two takes of each, "
            "`fit(take, other_take)`.",
            stacklevel=2,
        )
