"""Pictures that are drawn as training goes on."""

from __future__ import annotations

import os
import pathlib

import keras
import numpy as np

from keras_ae import plots
from keras_ae.callbacks.checkpoints import reason, warn
from keras_ae.files import replacing
from keras_ae.training import optimizers


class SampleSheet(keras.callbacks.Callback):
    """Saves one sheet of pictures per chosen epoch, to see a model learn.

    A generative model (one with `sample`) is drawn from with the same seed each
    time, so that the sheets can be compared. Another, and one whose codes do not follow
    its prior (`KLAutoencoder`), reconstructs `images`.

    Args:
        directory: Folder for `epoch-0001.png`, ...; created if absent.
        every: Number of epochs between sheets. The first epoch always has one.
        images: Pictures to reconstruct, `(pictures, height, width, channels)`;
            needed for models that can't be sampled.
        number: Number of pictures on a sheet.
        seed: Seed of the samples.

    Raises:
        ValueError: If `every` or `number` is below 1, or a model that can't be
            sampled comes without `images`.

    Example:

    ```python
    model.fit(x, callbacks=[keras_ae.callbacks.SampleSheet("sheets", every=5)])
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        every: int = 1,
        images: np.ndarray | None = None,
        number: int = 64,
        seed: int = 0,
    ):
        super().__init__()
        for name, value in (("every", every), ("number", number)):
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1. Received: {name}={value}")
        self.directory = pathlib.Path(directory)
        self.every = every
        self.images = None if images is None else images[:number]
        self.number = number
        self.seed = seed

    def on_train_begin(self, logs=None):
        if not self.model.can_sample and self.images is None:
            raise ValueError(
                f"`SampleSheet` can't sample a {type(self.model).__name__}: pass "
                "`images=` to reconstruct instead."
            )

    def _draws(self):
        # In training, codes that do not follow their prior are none to draw from it.
        known = not (self.model.learns_choice and self.images is not None)
        return known and self.model.can_sample

    def on_epoch_end(self, epoch, logs=None):
        if epoch and (epoch + 1) % self.every:
            return
        with optimizers.averaged_weights(self.model):
            if self._draws():
                pictures = self.model.sample(self.number, seed=self.seed)
            else:
                pictures = self.model.reconstruct(self.images)
        path = self.directory / f"epoch-{epoch + 1:04d}.png"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                plots.sheet(pictures).save(temporary)
        except OSError as error:
            warn(f"The sample sheet {path} could not be written ({reason(error)}).")
