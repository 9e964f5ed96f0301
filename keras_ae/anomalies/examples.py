"""Examples as a detector is given them: arrays that its model can describe."""

from typing import Any

import numpy as np

from keras_ae import arrays
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.training import inputs


def as_examples(X: Any, columns: tuple[str, ...] | None, name: str = "X") -> np.ndarray:
    """Returns examples as an array, a frame's columns in the order of `columns`.

    Raises:
        ValueError: If they are no examples, or integers that no model reads.
    """
    found = arrays.column_names(X)
    X = np.asarray(arrays.beside(name, X))
    if X.ndim < 2:
        raise ValueError(
            f"`{name}` must hold examples, (n, features) or (n, height, width, "
            f"channels). Received: an array of shape {X.shape}"
        )
    if len(X):
        inputs.check_batch(name, X)
        # Scores look at values alone, and would take any integer for a pixel.
        if X.dtype.kind in "iu":
            inputs.check_values(X)
    return arrays.reordered(X, found, columns, name) if found and columns else X


def describable(model: Autoencoder, X: np.ndarray) -> np.ndarray:
    """Returns which examples are finite, or have gaps that the model takes, `(n,)`."""
    if X.dtype.kind != "f":
        return np.full(len(X), True)
    values = X.reshape(len(X), -1)
    if model.searches_codes:
        return ~np.isinf(values).any(axis=1) & ~np.isnan(values).all(axis=1)
    return np.isfinite(values).all(axis=1)


def check_normal(model: Autoencoder, X: np.ndarray, name: str = "X") -> None:
    """Raises `ValueError` for normal examples beside which nothing is unusual."""
    refused = ~describable(model, X)
    if refused.any():
        gaps = model.searches_codes
        raise ValueError(
            f"`{name}` must hold finite values{', some in each example' * gaps}. "
            f"Received: {'infinity, or NaN alone,' if gaps else 'NaN or infinity'} in "
            f"{refused.sum()} of {len(X)} examples, the first at position "
            f"{refused.argmax()}; leave them out, or fill the gaps."
        )
