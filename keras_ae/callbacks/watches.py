"""What tells that a training goes wrong."""

from __future__ import annotations

import keras
import numpy as np

from keras_ae import metrics
from keras_ae.callbacks.checkpoints import warn
from keras_ae.checks import check_count


class AdversarialWatch(keras.callbacks.Callback):
    """Warns when a discriminator wins outright, or samples collapse, with the figure.

    It reads what adversarial models log: `discriminator_accuracy`, the share of pairs
    of a real and a generated example that the discriminator ranks rightly, and
    `diversity`, the spread of samples relative to that of the data. A Wasserstein
    critic is meant to win, so that only collapse is watched there.

    Args:
        accuracy: A higher one in each of `patience` epochs is an outright win.
        diversity: A lower one in each of `patience` epochs is a collapse.
        patience: Number of epochs, >= 1.

    Raises:
        ValueError: If the model logs neither figure, or `patience` is below 1.

    Example:

    ```python
    model.fit(x, epochs=50, callbacks=[keras_ae.callbacks.AdversarialWatch()])
    ```
    """

    def __init__(
        self, accuracy: float = 0.99, diversity: float = 0.1, patience: int = 3
    ):
        super().__init__()
        self.accuracy = accuracy
        self.diversity = diversity
        self.patience = check_count("patience", patience)

    def on_train_begin(self, logs=None):
        if "discriminator_accuracy" not in self.model.monitor_names:
            raise ValueError(
                "`AdversarialWatch` needs a model with a discriminator, such as `GAN`. "
                f"Received: a {type(self.model).__name__}"
            )
        self._wins = self._collapses = 0

    def on_epoch_end(self, epoch, logs=None):
        if epoch < getattr(self.model, "discriminator_start", 0):
            return
        accuracy = logs["discriminator_accuracy"]
        is_critic = getattr(self.model, "adversarial_loss", None) == "wasserstein"
        won = accuracy > self.accuracy and not is_critic
        self._wins = self._wins + 1 if won else 0
        collapsed = logs.get("diversity", 1.0) < self.diversity
        self._collapses = self._collapses + 1 if collapsed else 0
        if self._wins == self.patience:
            warn(
                f"Epoch {epoch + 1}: the discriminator has ranked more than "
                f"{self.accuracy:.1%} of pairs rightly for {self.patience} epochs "
                f"({accuracy:.1%} in this one). It wins outright, and little is left "
                "to learn from: lower its learning rate" + self._remedies()
            )
        if self._collapses == self.patience:
            warn(
                f"Epoch {epoch + 1}: samples have varied less than {self.diversity:.0%}"
                f" as much as the data for {self.patience} epochs "
                f"({logs['diversity']:.1%} in this one). They have collapsed: lower "
                "the learning rates, or the discriminator's alone."
            )

    def _remedies(self):
        known = {
            "spectral_norm": "spectral_norm=True",
            "gradient_penalty": "a gradient_penalty",
        }
        found = [text for name, text in known.items() if hasattr(self.model, name)]
        return f", or try {' or '.join(found)}." if found else "."


class CollapseWatch(keras.callbacks.Callback):
    """Warns when codes say hardly anything any more, with the figure.

    A variational autoencoder's posterior collapses to the prior where its decoder does
    better without codes: `metrics.active_units` counts the latent dimensions whose
    posterior mean still varies with x. A codebook collapses when few of its codes are
    used: quantized models log the `usage`.

    Args:
        x: Examples whose codes are looked at after each epoch, an array
            `(n, *image_shape)`; a few hundred suffice. Not needed for a codebook.
        active: A lower share of active latent dimensions is a collapse.
        usage: A lower share of used codes is a collapse.
        patience: Number of epochs in a row, >= 1, before there is a warning.

    Raises:
        ValueError: If `patience` is below 1, or a model without a codebook comes
            without `x`.

    Example:

    ```python
    watch = keras_ae.callbacks.CollapseWatch(x_test[:500])
    model.fit(x_train, epochs=50, callbacks=[watch])
    ```

    Reference:
        Burda et al. 2016, "Importance Weighted Autoencoders", for active units.
    """

    def __init__(
        self,
        x: np.ndarray | None = None,
        active: float = 0.1,
        usage: float = 0.1,
        patience: int = 3,
    ):
        super().__init__()
        self.x = x
        self.active = active
        self.usage = usage
        self.patience = check_count("patience", patience)

    def on_train_begin(self, logs=None):
        self._has_codebook = "usage" in self.model.monitor_names
        if self.x is None and not self._has_codebook:
            raise ValueError(
                f"`CollapseWatch` needs examples `x` for a {type(self.model).__name__}"
                ", which has no codebook. Received: x=None"
            )
        self._epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        if self._has_codebook:
            share, least = logs["usage"], self.usage
            what, remedy = "of the codes are used", "take a smaller codebook"
        else:
            codes = self.model.encode(self.x)
            if not np.isfinite(codes).all():
                # Training has diverged, which the loss tells.
                return
            share, least = metrics.active_units(codes) / codes.shape[1], self.active
            what = "of the latent dimensions are active"
            remedy = "lower `beta`, or raise it slowly (`BetaWarmUp`, `free_bits`)"
        self._epochs = self._epochs + 1 if share < least else 0
        if self._epochs == self.patience:
            warn(
                f"Epoch {epoch + 1}: {share:.1%} {what}, and fewer than {least:.0%} "
                f"were for {self.patience} epochs. Codes have collapsed: {remedy}, or "
                "go on if so few are what you want."
            )
