"""Models in the form of scikit-learn, for its pipelines and searches."""

import copy
from typing import Any

import keras
import numpy as np

from keras_ae import checks
from keras_ae.backend import seeding
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.nn import seeds

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    raise ImportError(
        "`keras_ae.estimators` needs scikit-learn; install it with "
        '`pip install "keras-ae[sklearn]"`.'
    ) from error


class CodeTransformer(TransformerMixin, BaseEstimator):
    """scikit-learn transformer: `transform` encodes rows, `inverse_transform` decodes.

    Every `fit` makes and trains a new model, which is `model_` afterwards. What is
    learned in a pipeline after `StandardScaler()` is what scikit-learn's `PCA` would
    find there, without being linear.

    Args:
        Model: Class of the model, one with an encoder.
        latent_dim: Numbers in a code.
        arguments: Other arguments of the class, a dict.
        optimizer: As for `Model.compile`; None is the model's own.
        epochs: Passes over the rows.
        batch_size: Rows a step.
        seed: Seed of the weights, of the order of the rows and of all that is drawn.
        verbose: As in `keras.Model.fit`.

    Raises:
        ValueError: If the class has no encoder, or needs labels.
        ImportError: If scikit-learn is not installed.

    Example:

    ```python
    pipeline = sklearn.pipeline.make_pipeline(
        StandardScaler(), CodeTransformer(keras_ae.VAE, latent_dim=4, epochs=100)
    )
    codes = pipeline.fit_transform(rows)  # (n, 4)
    restored = pipeline.inverse_transform(codes)  # (n, columns)
    ```
    """

    def __init__(
        self,
        Model: type[Autoencoder],
        latent_dim: int = 8,
        *,
        arguments: dict[str, Any] | None = None,
        optimizer: Any = None,
        epochs: int = 50,
        batch_size: int = 32,
        seed: int = 0,
        verbose: int = 0,
    ):
        self.Model = Model
        self.latent_dim = latent_dim
        self.arguments = arguments
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.seed = seed
        self.verbose = verbose

    def fit(self, X, y=None):
        """Trains a new model on rows `(n, columns)`; `y` is ignored."""
        X = self._rows(X, reset=True)
        if not (isinstance(self.Model, type) and issubclass(self.Model, Autoencoder)):
            raise ValueError(
                "`Model` must be a class of keras_ae, of which each `fit` makes a "
                f"model. Received: Model={self.Model!r}"
            )
        if self.Model.needs_labels:
            raise ValueError(
                "`Model` must learn without labels. Received: "
                f"Model={self.Model.__name__}"
            )
        if not self.Model.has_encoder:
            how = "searches for codes" if self.Model.searches_codes else "has none"
            raise ValueError(
                "`Model` must have an encoder. Received: "
                f"Model={self.Model.__name__}, which {how}"
            )
        seed = checks.check_seed(self.seed)
        with seeding.seeded(seed):
            self.model_ = self._trained(X)
        return self

    def _trained(self, X):
        # Networks among them would go on from the fit before.
        arguments = copy.deepcopy(self.arguments or {})
        model = self.Model(latent_dim=self.latent_dim, **arguments)
        if self.optimizer is not None:
            # One that has trained a model belongs to it.
            chosen = keras.optimizers.get(self.optimizer)
            model.compile(optimizer=chosen.from_config(chosen.get_config()))
        model.fit(
            X, epochs=self.epochs, batch_size=self.batch_size, verbose=self.verbose
        )
        return model

    def transform(self, X):
        """Returns the codes of rows, `(n, code_dim)`."""
        check_is_fitted(self, "model_")
        return self.model_.encode(self._rows(X, reset=False))

    def inverse_transform(self, X):
        """Returns the rows that codes decode to, `(n, columns)`."""
        check_is_fitted(self, "model_")
        return self.model_.decode(np.asarray(X, "float32"))

    def score(self, X, y=None):
        """Returns minus the model's loss on rows, for searches; in nats for a VAE."""
        check_is_fitted(self, "model_")
        rows, seed = self._rows(X, reset=False), checks.check_seed(self.seed)
        # What loaders of batches draw, and what the model does.
        with seeding.seeded(seed), seeds.repeatable(self.model_, seed):
            found = self.model_.evaluate(rows, return_dict=True, verbose=0)
        return -found["loss"]

    def get_feature_names_out(self, input_features=None):
        """Returns names of the numbers in a code, `z0`, `z1` ..."""
        check_is_fitted(self, "model_")
        names = [f"z{index}" for index in range(self.model_.code_dim)]
        return np.array(names, dtype=object)

    def _rows(self, X, reset):
        return validate_data(self, X, reset=reset, dtype="float32")
