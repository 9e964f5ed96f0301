"""A detector in the form that PyOD's and scikit-learn's users know."""

import copy
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ae import arrays, checks
from keras_ae.anomalies.conformal import Conformal, benjamini_hochberg, check_rate
from keras_ae.anomalies.examples import as_examples, check_normal, describable
from keras_ae.anomalies.scores import SCORES, Score, smooth_errors
from keras_ae.backend.seeding import seeded
from keras_ae.files import replacing
from keras_ae.metrics import detection
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.runs import load_model
from keras_ae.training import inputs

try:
    from sklearn.base import BaseEstimator
except ModuleNotFoundError:
    BaseEstimator = object  # type: ignore[assignment, misc]

# Of the Gaussian that blurs a picture's errors, in pixels.
_WIDTH = 1.0
# What stands for an infinite error.
_FAR = 1e12
# What a saved detector consists of, and its arguments in it.
_PARTS = ("model.keras", "detector.json", "detector.npz")
# What stands for an array where a score's state has one.
_ARRAY = "array"
_SAVED = ("false_alarms", "held_back", "epochs", "batch_size", "seed", "verbose")


class AnomalyDetector(BaseEstimator):
    """Learns from normal examples what is normal, and raises an alarm at what is not.

    `fit` trains the model on most of the normal examples, unless it is trained already,
    settles the score on some that were held back, and keeps the scores of the others.
    An alarm is a conformal p-value of at most `false_alarms`: whatever the model is
    worth, so large a share of normal examples raises one and no larger.

    Args:
        model: Model with an encoder; one that was trained is used as it is, and what
            `fit` is given are then normal examples that it has not seen. Of another
            one a copy is trained, with its weights, where it has any yet, with what is
            frozen in it, and as it was compiled.
        score: `"auto"`, of pictures the reconstruction's and the code's put together,
            of rows `"nearest"`; `"reconstruction"`, -log p(x | z); `"structure"`,
            errors of a picture that hang together; `"code"`, -log of a density of the
            codes; `"nearest"`, the distance to a normal example or its reconstruction;
            `"elbo"`, -ELBO, and `"likelihood"`, -log p(x), of a VAE; `"refined"`,
            -log p(x | z) after a search for the code; or a `Score` of your own.
        false_alarms: Rate of alarms among normal examples, in (0, 1). `predict` needs
            1 / rate - 1 held-back ones; where they are fewer, set another afterwards.
        held_back: Share of the examples that the model is not trained on, in (0, 1).
        epochs: Most passes over the others; training ends where those held back are
            described no better for a tenth of them.
        batch_size: Examples a step.
        seed: Seed of the split, of the weights that are not there yet, and of all that
            is drawn.
        verbose: As in `keras.Model.fit`.

    Attributes:
        model_: The trained model.
        conformal_: Scores of held-back normal examples; see `Conformal`.
        decision_scores_: Scores of all examples that `fit` was given, `(n,)`.
        column_names_: Columns of the frame that was learned from, into whose order
            those of later ones are put; None where it was none.

    Raises:
        ValueError: If an argument is out of range, the model can't give that score, or
            the examples are too few.

    Example:

    ```python
    detector = keras_ae.AnomalyDetector(keras_ae.VAE(latent_dim=8), false_alarms=0.05)
    detector.fit(normal)
    alarms = detector.predict(new)  # (n,), 1 for an anomaly, 0 for a normal example
    where = detector.anomaly_map(new)  # of the shape of `new`
    detector.save("normal.zip")  # `keras_ae.anomalies.load` reads it
    ```

    Reference:
        Bates et al., Testing for Outliers with Conformal p-Values, 2023
        (https://arxiv.org/abs/2104.08279).
    """

    # Normal examples that are needed.
    fewest = 10

    def __init__(
        self,
        model: Autoencoder,
        score: str | Score = "auto",
        *,
        false_alarms: float = 0.01,
        held_back: float = 0.3,
        epochs: int = 100,
        batch_size: int = 32,
        seed: int = 0,
        verbose: int = 0,
    ):
        self.model = model
        self.score = score
        self.false_alarms = false_alarms
        self.held_back = held_back
        self.epochs = epochs
        self.batch_size = batch_size
        self.seed = seed
        self.verbose = verbose

    # scikit-learn asks for a method of this name, which is an argument's too.
    @property
    def score(self) -> Callable[..., float]:
        """Method of `X` and `y=None` for cross-validation; higher is better.

        Without `y` it is minus the mean of `decision_function`, which compares models
        of one kind of score; with `y`, 1 for an anomaly and 0 for a normal example, the
        AUROC. What the constructor was given is in `get_params()["score"]`.
        """
        return self._agreement

    @score.setter
    def score(self, score: str | Score) -> None:
        self.__dict__["score"] = score

    def _agreement(self, X, y=None):
        scores = self.decision_function(X)
        if y is None:
            return -float(np.mean(scores))
        return detection(scores, y, resamples=1).auroc

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the constructor's arguments; see scikit-learn's `BaseEstimator`."""
        return {**super().get_params(deep), "score": vars(self)["score"]}

    def fit(self, X, y=None) -> "AnomalyDetector":
        """Learns from normal examples `(n, ...)`; `y` is ignored.

        Raises:
            ValueError: If an argument is out of range, the model can't give the score,
                or the examples are too few.
        """
        score = self.check()
        self.column_names_ = self.model.column_names or arrays.column_names(X)
        X = as_examples(X, self.column_names_)
        if len(X) < self.fewest:
            raise ValueError(
                f"`X` must hold {self.fewest} normal examples at least. Received: "
                f"{len(X)}"
            )
        check_normal(self.model, X)
        order = np.random.default_rng(self.seed).permutation(len(X))
        trained = self.model.is_trained
        held = 1.0 if trained else self.held_back
        # A third settles the score, the others are kept for the alarm.
        count = max(int(held * len(X)), 3)
        tuned, kept, learned = np.split(order, [max(1, count // 3), count])
        if trained:
            self._settle(self.model, score, X[tuned])
        else:
            with seeded(int(self.seed)):
                model = self._trained(X[learned], X[tuned])
            self._settle(model, score, X[tuned], X[learned])
        self.decision_scores_ = self.decision_function(X)
        self.conformal_ = Conformal(self.decision_scores_[kept])
        return self

    def calibrate(self, tuning, held_back, trained_on=None) -> "AnomalyDetector":
        """Settles score and alarm of a trained model, on examples of one's own choice.

        Args:
            tuning: Normal examples `(n, ...)` that settle the score; those that ended
                the training may.
            held_back: Normal examples `(m, ...)` that nothing has learned from: the
                alarm's rate is measured on them.
            trained_on: Normal examples `(l, ...)` that the model was trained on: a
                density of codes is fitted to them rather than to half of `tuning`.

        Raises:
            ValueError: If the model is not trained, it can't give the score, or there
                are too few examples.
        """
        score = self.check()
        if not self.model.is_trained:
            raise ValueError(
                f"`model` must be trained. Received: a {type(self.model).__name__} "
                "that is not; `fit` trains it."
            )
        names = self.model.column_names or arrays.column_names(tuning)
        self.column_names_ = names
        tuning = as_examples(tuning, names, "tuning")
        held_back = as_examples(held_back, names, "held_back")
        if trained_on is not None:
            trained_on = as_examples(trained_on, names, "trained_on")
        if len(tuning) < (2 if trained_on is None else 1):
            raise ValueError(
                "`tuning` must hold one example at least, two without `trained_on`. "
                f"Received: {len(tuning)}"
            )
        for name, x in (("held_back", held_back), ("trained_on", trained_on)):
            if x is not None and not len(x):
                raise ValueError(
                    f"`{name}` must hold one example at least. Received: none"
                )
        check_normal(self.model, tuning, "tuning")
        check_normal(self.model, held_back, "held_back")
        if trained_on is not None:
            check_normal(self.model, trained_on, "trained_on")
        self._settle(self.model, score, tuning, trained_on)
        self.decision_scores_ = self.decision_function(held_back)
        self.conformal_ = Conformal(self.decision_scores_)
        return self

    def _settle(self, model, score, tuning, trained_on=None):
        _check_gives(model, score)
        self.model_ = model
        score.fit(model, tuning, self.seed, trained_on)
        self.score_ = score
        self.usual_error_, self.usual_spread_ = self._usual(tuning)

    def check(self) -> Score:
        """Returns the score, before anything was learned.

        Raises:
            ValueError: If an argument is out of range, or the model can't give it.
        """
        check_rate("false_alarms", self.false_alarms)
        check_rate("held_back", self.held_back)
        checks.check_seed(self.seed)
        if not isinstance(self.model, Autoencoder):
            raise ValueError(
                "`model` must be a model of keras_ae. Received: "
                f"{type(self.model).__name__}"
            )
        score = self._named_score()
        _check_gives(self.model, score)
        return score

    def _named_score(self):
        score = vars(self)["score"]
        if isinstance(score, Score):
            # What it learns is this detector's, whoever else was given it.
            return copy.copy(score)
        if not isinstance(score, str) or score not in SCORES:
            raise ValueError(
                f"`score` must be one of {', '.join(map(repr, SCORES))}, or a `Score`. "
                f"Received: score={score!r}"
            )
        return SCORES[score]()

    def _trained(self, train, validation):
        # What scikit-learn gives to `fit` stays as it was.
        model = _copied(self.model)
        model.column_names = self.column_names_
        stopping = []
        if model.score_name is not None:
            stopping.append(
                keras.callbacks.EarlyStopping(
                    f"val_{model.score_name}",
                    patience=max(3, self.epochs // 10),
                    restore_best_weights=True,
                )
            )
        model.fit(
            train,
            validation_data=validation,
            epochs=self.epochs,
            batch_size=min(self.batch_size, len(train)),
            verbose=self.verbose,
            callbacks=stopping,
        )
        return model

    def decision_function(self, X) -> np.ndarray:
        """Returns scores, higher where an example is less usual, `(n,)`.

        That of an example with NaN is infinite, unless the model takes gaps.
        """
        return self._scores(self._new(X))

    def _scores(self, X):
        X = self._in_range(X)
        scores = np.full(len(X), np.inf)
        known = describable(self.model_, X)
        if known.any():
            found = self.score_(self.model_, X[known], self.seed)
            found = np.asarray(found, "float64")
            scores[known] = np.where(np.isnan(found), np.inf, found)
        return scores

    def _new(self, X):
        """Examples of the shape of the normal ones, one at least, as an array."""
        shape = self._fitted_model().built_image_shape
        X = as_examples(X, self.column_names_)
        inputs.check_batch("X", X)
        if X.shape[1:] != shape:
            raise ValueError(
                f"`X` must hold examples of shape {shape}, as the normal ones. "
                f"Received: examples of shape {X.shape[1:]}"
            )
        return X

    def p_values(self, X) -> np.ndarray:
        """Returns conformal p-values, small where an example is unusual, `(n,)`."""
        return self.conformal_.p_values(self.decision_function(X))

    @property
    def threshold_(self) -> float:
        """The score above which `predict` raises an alarm."""
        self._fitted_model()
        return self.conformal_.threshold(self.false_alarms)

    def predict(self, X, false_discoveries: float | None = None) -> np.ndarray:
        """Returns 1 for an anomaly and 0 for a normal example, `(n,)`.

        Args:
            X: Examples `(n, ...)`.
            false_discoveries: Instead of the rate of false alarms among normal
                examples, the share of them that may be expected among the alarms of
                these examples, by Benjamini and Hochberg's rule.

        Raises:
            ValueError: If a rate is out of range, or held-back normal examples are too
                few for that of false alarms.
        """
        if false_discoveries is not None:
            check_rate("false_discoveries", false_discoveries)
            picked = benjamini_hochberg(self.p_values(X), false_discoveries)
            return picked.astype("int64")
        scores = self.decision_function(X)
        return (scores > self.threshold_).astype("int64")

    def update(self, X) -> "AnomalyDetector":
        """Adds normal examples to those that the alarm's rate is measured on.

        Raises:
            ValueError: If there are none, or the model can't describe one.
        """
        X = self._new(X)
        check_normal(self.model_, X)
        self.conformal_.update(self._scores(X))
        return self

    def anomaly_map(self, X) -> np.ndarray:
        """Returns how unusual each value's error is at its place, of the shape of `X`.

            (e - mean_e) / deviation_e,  e = |x - reconstruction|

        (of pictures e = |G * (x - reconstruction)|, blurred by a Gaussian of one pixel)
        with the mean and the deviation of that value's errors among normal examples.
        """
        errors = self._errors(self._new(X))
        return (errors - self.usual_error_) / self.usual_spread_

    def save(self, path: str | os.PathLike) -> None:
        """Writes model, score and alarm into one file, which `load` reads.

        Raises:
            ValueError: If there is nothing to save yet, or the score is of one's own
                making.
        """
        model = self._fitted_model()
        if type(self.score_) is not SCORES.get(self.score_.name):
            raise ValueError(
                f"`score` must be one of {', '.join(map(repr, SCORES))} to be saved. "
                f"Received: {self.score_!r}"
            )
        arrays = {}

        def kept(value):
            if isinstance(value, np.generic):
                return value.item()
            name = f"array {len(arrays)}"
            arrays[name] = value
            return {_ARRAY: name}

        about = {name: getattr(self, name) for name in (*_SAVED, "column_names_")}
        about |= {"score": self.score_.name, "state": self.score_.state()}
        with (
            replacing(pathlib.Path(path)) as temporary,
            zipfile.ZipFile(temporary, "w") as archive,
            tempfile.TemporaryDirectory() as folder,
        ):
            parts = {name: pathlib.Path(folder, name) for name in _PARTS}
            model.save(parts["model.keras"])
            parts["detector.json"].write_text(json.dumps(about, default=kept))
            np.savez(
                parts["detector.npz"],
                usual_error=self.usual_error_,
                usual_spread=self.usual_spread_,
                scores=self.conformal_.scores,
                **arrays,
            )
            for name, part in parts.items():
                archive.write(part, name)

    def _usual(self, X):
        errors = self._errors(X)
        spread = errors.std(axis=0)
        # A value that hardly errs, like a black margin, would stand out by nothing.
        share = 1.0 if self.model_.describes_pictures else 0.1
        least = share * spread.mean() + 1e-6
        return errors.mean(axis=0), np.maximum(spread, least)

    def _in_range(self, X):
        """What the likelihood can't describe becomes the least usual that it can."""
        if X.dtype.kind in "iu":
            return X
        likelihood = self.model_.likelihood
        return np.clip(X, likelihood.low, likelihood.high)

    def _errors(self, X):
        described = self._in_range(X)
        errors = np.abs(smooth_errors(self.model_, described, _WIDTH))
        # The model doesn't see how far beyond it a value lies.
        beyond = np.abs(np.subtract(X, described, dtype="float64"))
        return errors + np.nan_to_num(beyond, posinf=_FAR)

    def _fitted_model(self):
        if not hasattr(self, "model_"):
            raise ValueError(
                "AnomalyDetector must know normal examples first: call `fit`."
            )
        return self.model_


def load(path: str | os.PathLike) -> AnomalyDetector:
    """Loads a detector that `AnomalyDetector.save` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is another one, or damaged.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no detector {path}.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in _PARTS:
                    archive.extract(name, folder)
            with np.load(pathlib.Path(folder, "detector.npz")) as file:
                arrays = dict(file)
            about = json.loads(
                pathlib.Path(folder, "detector.json").read_text(),
                object_hook=lambda part: (
                    arrays[part[_ARRAY]] if _ARRAY in part else part
                ),
            )
            score = SCORES[about.pop("score")]()
            score.restore(about.pop("state"))
            error, spread = arrays["usual_error"], arrays["usual_spread"]
            conformal = Conformal(arrays["scores"])
            arguments = {name: about[name] for name in _SAVED}
            names = about.get("column_names_")
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a detector that `AnomalyDetector.save` wrote, or it is "
                f"damaged ({error})."
            ) from error
        model = load_model(pathlib.Path(folder, "model.keras"))
    detector = AnomalyDetector(model, score.name, **arguments)
    detector.model_, detector.score_ = model, score
    detector.usual_error_, detector.usual_spread_ = error, spread
    detector.conformal_ = conformal
    detector.column_names_ = names and tuple(names)
    return detector


def _copied(model):
    """A model of the same kind to train, that begins as the given one is."""
    copied = type(model).from_config(model.get_config())
    if model.built:
        copied.build_from_config(model.get_build_config())
    # Before it is built, too: of networks of one's own.
    copied.set_weights(model.get_weights())
    # This says what is frozen, too.
    copied.compile_from_config(model.get_compile_config())
    copied.chooses_optimizer = model.chooses_optimizer
    return copied


def _check_gives(model, score):
    lacking = score.lacks(model)
    if lacking:
        raise ValueError(
            f"`model` must have {lacking} for score={score.name!r}. Received: a "
            f"{type(model).__name__}"
        )
