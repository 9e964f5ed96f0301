"""Weights of terms that change as training goes on."""

from __future__ import annotations

import keras

from keras_ae.checks import check_count


class _Schedule(keras.callbacks.Callback):
    """Base of callbacks that set a number of the model at the start of each epoch.

    A subclass implements `share(epoch)`: which part of its final value it has.
    """

    number, final, needed = "kl_weight", "beta", "a KL term, such as `VAE`"

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = check_count("epochs", epochs)

    def on_train_begin(self, logs=None):
        settled = getattr(self.model, "settled_arguments", ())
        if not hasattr(self.model, self.number) or self.final in settled:
            raise ValueError(
                f"`{type(self).__name__}` needs a model with {self.needed}. Received: "
                f"a {type(self.model).__name__}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        final = getattr(self.model, self.final)
        getattr(self.model, self.number).assign(self.share(epoch) * final)


class BetaWarmUp(_Schedule):
    """Raises the weight of the KL term linearly from 0 to the model's `beta`.

    While the weight rises the loss of one epoch can't be compared with another's:
    begin early stopping after the warm-up (`start_from_epoch`).

    Args:
        epochs: Number of epochs that the rise takes. The first epoch trains at
            weight 0, epoch `epochs + 1` and all later ones at `beta`.

    Raises:
        ValueError: If `epochs` is below 1, or the model has no KL weight.

    Example:

    ```python
    model.fit(x, epochs=50, callbacks=[keras_ae.callbacks.BetaWarmUp(epochs=10)])
    ```

    Reference:
        Bowman et al. 2016, "Generating Sentences from a Continuous Space".
    """

    def share(self, epoch):
        return min(1.0, epoch / self.epochs)


class CyclicalBeta(_Schedule):
    """Raises the weight of the KL term from 0 to the model's `beta`, again and again.

    Each cycle begins at 0, where codes learn to say something, and from the middle on
    trains at `beta`. Losses can be compared at the ends of cycles.

    Args:
        epochs: Number of epochs in a cycle.

    Raises:
        ValueError: If `epochs` is below 1, or the model has no KL weight.

    Example:

    ```python
    model.fit(x, epochs=40, callbacks=[keras_ae.callbacks.CyclicalBeta(epochs=10)])
    ```

    Reference:
        Fu et al. 2019, "Cyclical Annealing Schedule: A Simple Approach to Mitigating KL
        Vanishing".
    """

    def share(self, epoch):
        return min(1.0, epoch % self.epochs / max(0.5 * self.epochs, 1.0))


class CapacityIncrease(_Schedule):
    """Raises the capacity of a `BetaVAE` linearly from 0 nats to its `capacity`.

    Args:
        epochs: Number of epochs that the rise takes. The first epoch trains at 0 nats,
            epoch `epochs + 1` and all later ones at `capacity`.

    Raises:
        ValueError: If `epochs` is below 1, or the model has no capacity.

    Example:

    ```python
    model = keras_ae.BetaVAE(latent_dim=10, beta=100.0, capacity=25.0)
    model.fit(x, epochs=60, callbacks=[keras_ae.callbacks.CapacityIncrease(epochs=50)])
    ```

    Reference:
        Burgess et al. 2018, "Understanding Disentangling in β-VAE".
    """

    number, final = "current_capacity", "capacity"
    needed = "a capacity, such as `BetaVAE(capacity=25.0)`"

    def share(self, epoch):
        return min(1.0, epoch / self.epochs)
