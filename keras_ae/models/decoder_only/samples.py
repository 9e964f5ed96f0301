"""Samples by their number or name, and the codes that they have."""

import copy
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend, checks
from keras_ae.datasets import Batches
from keras_ae.training import arguments, inputs
from keras_ae.training.streaming import is_streamed, streamed


class KeepsSamples:
    """The samples that codes were learned for: who they are, more of them, fewer."""

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks=None,
        validation_split: float = 0.0,
        validation_data=None,
        *,
        mask: Any = None,
        sample_ids: Any = None,
        **kwargs,
    ) -> keras.callbacks.History:
        """Trains the decoder and the codes of the samples.

        The first call numbers the samples 0, 1, …; a further one goes on with the same
        samples in the same order, or with those that `sample_ids` names.

        Args:
            x: Data as for any autoencoder, of a known end: data sets other than arrays
                and `Batches` are read into memory once. NaN marks a missing value.
            y: Ignored, as are labels in data sets.
            batch_size, epochs, verbose, callbacks, **kwargs: As in `keras.Model.fit`.
            validation_split: Share of `x`, from its end, that is validation data.
            validation_data: Data as `x`, for whose examples codes are searched.
            mask: Booleans of the shape of `x`, which must be an array: True where a
                value was observed.
            sample_ids: Which of the model's samples `x` are, integers `(n,)`.

        Returns:
            Keras' `History`: the loss, its terms and monitors by epoch.

        Raises:
            ValueError: If the data has no end, an example no observed value, or the
                samples are not those of the call before.
        """
        _refuse_distribution(self)
        x = with_missing(x, mask)
        data = self.check_data(x, "x", inputs.plain(y))
        if not hasattr(data, "shape") and not isinstance(data, Batches):
            (batch, *_), _ = inputs.first_batch(data)
            batch_size = batch_size or batch.shape[0]
            data = self._gathered(data)
        if validation_split:
            arguments.check_split(validation_split, data)
            kept = int(len(data) * (1.0 - validation_split))
            data, validation_data = data[:kept], data[kept:]
            if kwargs.get("sample_weight") is not None:
                weight = np.asarray(kwargs["sample_weight"])
                validation_data = (validation_data, None, weight[kept:])
                kwargs["sample_weight"] = weight[:kept]
            if sample_ids is not None:
                sample_ids = np.asarray(sample_ids)[:kept]
        rows = self._number(_in_order(data), sample_ids)
        options = {
            "batch_size": batch_size,
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "validation_data": validation_data,
            **kwargs,
        }
        # Keras takes weights of arrays only.
        if is_streamed(data, kwargs.get("sample_weight")):
            data, options = streamed(data, options)
        if not isinstance(data, Batches):
            return super().fit(data, rows, **options)
        options.pop("batch_size", None)
        numbered = _numbered(data, rows)
        history = super().fit(numbered, None, **options)
        data.epoch = numbered.epoch
        return history

    def _gathered(self, data):
        """What a data set serves, as one array."""
        inputs.check_readable_again(type(self).__name__, data)
        return np.concatenate(list(inputs.batches(_in_order(data), 1024)))

    def _number(self, images, sample_ids):
        """Returns the rows of the samples, with a new table on the first call."""
        count = images.shape[0]
        if sample_ids is not None:
            self._require_fitted("sample_ids")
            rows = self.table.positions(sample_ids)
            if len(rows) != count:
                raise ValueError(
                    "`sample_ids` must have one id an example. Received: "
                    f"{len(rows)} for {count} examples"
                )
            return rows
        if not self.table.count:
            self._replace(self.table.extended(self._start_rows(images)))
        if self.table.count != count:
            raise ValueError(
                f"The model has codes of {self.table.count} samples. Received: "
                f"{count} examples; pass the same ones in the same order, name them by "
                "`sample_ids`, or add new ones with `extend`."
            )
        return np.arange(count, dtype="int32")

    def train_on_batch(self, x, y=None, *args, sample_ids: Any = None, **kwargs):
        """Takes one step on one batch; see `keras.Model.train_on_batch`.

        Args:
            x: Batch `(n, *image_shape)`.
            y: Ignored.
            *args, **kwargs: As in `keras.Model.train_on_batch`.
            sample_ids: Which of the model's samples they are, integers `(n,)`. Defaults
                to all of them, in order.
        """
        x = self.check_data(x, "x")
        rows = self._number(x, sample_ids)
        return super().train_on_batch(x, rows, *args, **kwargs)

    @property
    def sample_ids(self) -> np.ndarray:
        """The samples that the model has codes of, integers `(n,)` in rising order."""
        self._require_fitted("sample_ids")
        return self.table.sample_ids

    def codes(self, sample_ids: Any = None) -> np.ndarray:
        """Returns the codes of training samples, `(n, latent_dim)`.

        Args:
            sample_ids: Integers `(n,)`. Defaults to all of them, in order.

        Raises:
            ValueError: If there is no such sample.
        """
        return ops.convert_to_numpy(self.mean_codes(self._rows(sample_ids)))

    def _rows(self, sample_ids=None):
        self._require_fitted("codes")
        if sample_ids is None:
            return ops.convert_to_tensor(self.table.rows)
        return self.table.take(self.table.positions(sample_ids))

    def extend(
        self,
        x,
        mask: Any = None,
        epochs: int = 0,
        replay: float = 1.0,
        batch_size: int = 256,
        steps: int = 300,
        restarts: int = 1,
        seed: int = 0,
        **kwargs,
    ) -> np.ndarray:
        """Learns new samples, and keeps what was learnt.

        Their codes are searched for with the decoder frozen. With `epochs`, decoder and
        codes then learn on, from the new samples and from old ones replayed: an old
        sample's code is drawn, and what it decoded to before is what it is to decode to
        still. The old data are not needed.

        Args:
            x: New examples, data as for `fit`.
            mask: As in `fit`.
            epochs: Epochs over the new samples, >= 0; with 0 the decoder does not
                change, nor does any old code. A learning-rate schedule of `compile`
                that has come to its end leaves nothing to learn with: `compile` again.
            replay: Old samples replayed for each new one, >= 0, at most all of them.
            batch_size: Examples at a time.
            steps, restarts: As for `encode`.
            seed: Seed of what is replayed, >= 0.
            **kwargs: As for `fit`: `callbacks`, `validation_data`, `verbose`.

        Returns:
            The new samples' ids, integers `(n,)`.

        Raises:
            ValueError: If `fit` was not called before, or an argument is out of range.
        """
        self._require_fitted("extend")
        checks.check_count("epochs", epochs, minimum=0)
        checks.check_weight("replay", replay)
        checks.check_seed(seed)
        data = self.check_data(with_missing(x, mask), "x")
        if not hasattr(data, "shape"):
            data = self._gathered(data)
        found = self._infer(data, batch_size, steps=steps, restarts=restarts)
        count = self.table.count
        old = np.random.default_rng(seed).permutation(count)
        old = np.sort(old[: round(min(replay * len(found), count))])
        replayed = np.zeros((0, *self.built_image_shape), "float32")
        if epochs and len(old):
            replayed = self.decode(self.codes(self.sample_ids[old]))
        self.forget_samplers()
        self._replace(self.table.extended(found[:, : self.row_width]))
        ids = self.sample_ids
        if epochs:
            new = ops.convert_to_numpy(inputs.to_floats(data))
            low, high = self.likelihood.low, self.likelihood.high
            self.fit(
                np.concatenate([new, np.clip(replayed, low, high)]),
                sample_ids=np.concatenate([ids[count:], ids[old]]),
                batch_size=batch_size,
                epochs=epochs,
                **kwargs,
            )
        return ids[count:]

    def remove(self, sample_ids: Any) -> None:
        """Forgets the codes of samples; their ids are not given to others.

        Args:
            sample_ids: Integers `(n,)`.

        Raises:
            ValueError: If there is no such sample, or none would be left.
        """
        self._require_fitted("remove")
        positions = self.table.positions(sample_ids)
        if len(positions) == self.table.count:
            raise ValueError(
                "`sample_ids` must leave a sample. Received: all "
                f"{self.table.count} of them; make a new model."
            )
        self.forget_samplers()
        self._replace(self.table.without(positions))

    def _require_fitted(self, verb):
        self.require_built(verb)
        if not self.table.count:
            raise ValueError(
                f"{type(self).__name__} must have learnt samples before `{verb}`. "
                "Received: a model that was not fitted; call `fit` first."
            )


def with_missing(x, mask):
    """Returns examples with NaN where a mask is False; x itself without a mask.

    Raises:
        ValueError: If the mask is not of the shape of an array x, or not boolean.
    """
    if mask is None:
        return x
    if not hasattr(x, "shape"):
        raise ValueError(
            "`mask` needs `x` to be an array. Received: a "
            f"{type(x).__name__}; put NaN into its batches where a value is missing."
        )
    mask = np.asarray(mask)
    if mask.shape != tuple(x.shape) or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"`mask` must be booleans of the shape of `x`, {tuple(x.shape)}, True "
            f"where a value was observed. Received: shape {mask.shape}, dtype "
            f"{mask.dtype}"
        )
    floats = ops.convert_to_numpy(inputs.to_floats(ops.convert_to_tensor(x)))
    return np.where(mask.astype(bool), floats, np.float32("nan"))


def observed_values(x):
    """Examples with 0 for what is missing (NaN), and booleans of what was observed."""
    observed = ops.logical_not(ops.isnan(x))
    return ops.where(observed, x, 0.0), observed


def _in_order(data):
    """What a data set serves, in the order in which `fit` would number it."""
    return data.images if isinstance(data, Batches) else data


def _numbered(batches, rows):
    """The same batches in the same order, with the rows of their samples beside."""
    numbered = copy.copy(batches)
    numbered.targets = rows
    return numbered


def _refuse_distribution(model):
    replicas = backend.replicas(model)
    if replicas > 1:
        raise ValueError(
            f"{type(model).__name__} trains on one device: a sample's code is on one. "
            f"Received: a strategy of tf.distribute with {replicas} replicas; leave "
            "its scope, and call `keras_ae.distribute` to train on several devices."
        )
