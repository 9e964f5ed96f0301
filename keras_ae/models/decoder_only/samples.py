"""Samples by their number or name, and the codes that they have."""

import copy
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import arrays, backend, checks
from keras_ae.datasets import Batches, LazyImages
from keras_ae.training import arguments, inputs
from keras_ae.training.columns import mask_beside
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
            y: Labels, which only `class_weight` looks at, as at those in data sets.
            batch_size, epochs, verbose, callbacks, **kwargs: As in `keras.Model.fit`.
            validation_split: Share of `x`, from its end, that is validation data.
            validation_data: Data as `x`, for whose examples codes are searched.
            mask: Booleans of the shape of `x`, which must be an array: True where a
                value was observed.
            sample_ids: Which of the model's samples `x` are, integers `(n,)`.

        Returns:
            Keras' `History`: the loss, its terms and monitors by epoch.

        Raises:
            ValueError: If the data has no end, an example no observed value, the
                samples are not those of the call before, or examples are weighed
                twice.
        """
        _refuse_distribution(self)
        y = self.beside(x, "y", y)
        weight = self.beside(x, "sample_weight", kwargs.pop("sample_weight", None))
        class_weight = kwargs.pop("class_weight", None)
        data = self.check_data(with_missing(x, mask), "x", y, learns=True)
        if not hasattr(data, "shape") and not isinstance(data, Batches):
            (batch, *_), _ = inputs.first_batch(data)
            batch_size = batch_size or batch.shape[0]
            data, labels, told = self._gathered(data, class_weight is not None)
            y = y if labels is None else labels
            if weight is not None and told is not None:
                raise ValueError(
                    "`sample_weight` must be None beside a data set that gives weights "
                    "in its batches. Received: both; leave out one of them."
                )
            weight = told if weight is None else weight
        if validation_split:
            arguments.check_split(validation_split, data)
            kept = int(len(data) * (1.0 - validation_split))
            data, validation_data = data[:kept], data[kept:]
            if weight is not None:
                validation_data = (validation_data, None, weight[kept:])
                weight = weight[:kept]
            y = None if y is None else y[:kept]
            if sample_ids is not None:
                sample_ids = np.asarray(sample_ids)[:kept]
        if class_weight is not None:
            weight = _weights_of_classes(class_weight, data, y, weight)
        rows = self._fitted_rows = self._number(_in_order(data), sample_ids)
        options = {
            "batch_size": batch_size,
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "validation_data": validation_data,
            "sample_weight": weight,
            **kwargs,
        }
        # Keras takes weights of arrays only.
        if is_streamed(data, weight):
            data, options = streamed(data, options)
        if not isinstance(data, Batches):
            return super().fit(data, rows, **options)
        options.pop("batch_size", None)
        numbered = _numbered(data, rows)
        history = super().fit(numbered, None, **options)
        data.epoch = numbered.epoch
        return history

    def _gathered(self, data, labelled=False):
        """Examples, labels if they are wanted, and weights of a data set, or None."""
        inputs.check_readable_again(type(self).__name__, data)
        if isinstance(data, Batches):
            return np.concatenate([*inputs.batches(data.images, 1024)]), None, None
        x, y, weight = zip(*inputs.unpacked_batches(data), strict=True)
        return _joined(x), _joined(y) if labelled else None, _joined(weight)

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

    def train_on_batch(
        self,
        x,
        y=None,
        sample_weight=None,
        class_weight=None,
        *args,
        sample_ids: Any = None,
        **kwargs,
    ):
        """Takes one step on one batch; see `keras.Model.train_on_batch`.

        Args:
            x: Batch `(n, *image_shape)`.
            y: Labels, which only `class_weight` looks at.
            sample_weight, class_weight, *args, **kwargs: As in
                `keras.Model.train_on_batch`.
            sample_ids: Which of the model's samples they are, integers `(n,)`. Defaults
                to all of them, in order.

        Raises:
            ValueError: If the samples are not the model's, or examples are weighed
                twice.
        """
        y = self.beside(x, "y", y)
        weight = self.beside(x, "sample_weight", sample_weight)
        x = self.check_data(x, "x", y, learns=self._in_unit_range is None)
        if class_weight is not None:
            weight = _weights_of_classes(class_weight, x, y, weight)
        rows = self._number(x, sample_ids)
        return super().train_on_batch(x, rows, weight, None, *args, **kwargs)

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
        data, weight = self.check_data(with_missing(x, mask), "x"), None
        if not hasattr(data, "shape"):
            data, _, weight = self._gathered(data)
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
            if weight is not None:
                of_old = np.ones((len(replayed), *weight.shape[1:]), weight.dtype)
                kwargs["sample_weight"] = np.concatenate([weight, of_old])
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

    A frame remains one, as its columns may have to be put in another order.

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
    mask = mask_beside(x, mask)
    frame, x = x, arrays.plain(x)
    if mask.shape != tuple(x.shape) or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"`mask` must be booleans of the shape of `x`, {tuple(x.shape)}, True "
            f"where a value was observed. Received: shape {mask.shape}, dtype "
            f"{mask.dtype}"
        )
    floats = ops.convert_to_numpy(inputs.to_floats(ops.convert_to_tensor(x)))
    masked = np.where(mask.astype(bool), floats, np.float32("nan"))
    if arrays.column_names(frame) is None:
        return masked
    # Both pandas and polars take columns by name, and new names after that.
    masked = type(frame)({str(index): column for index, column in enumerate(masked.T)})
    masked.columns = frame.columns
    return masked


def observed_values(x):
    """Examples with 0 for what is missing (NaN), and booleans of what was observed."""
    observed = ops.logical_not(ops.isnan(x))
    return ops.where(observed, x, 0.0), observed


def _joined(parts):
    """Arrays of a data set's batches as one; None where they are None."""
    arrays = [ops.convert_to_numpy(part) for part in parts if part is not None]
    return np.concatenate(arrays) if arrays else None


def _weights_of_classes(class_weight, x, y, weight):
    """What `class_weight` comes to for each example, before rows take labels' place."""
    if isinstance(x, Batches | LazyImages):
        raise ValueError(
            "`class_weight` needs an array, or a data set of another kind. Received: "
            f"a {type(x).__name__}; pass its pictures as an array, and the labels."
        )
    if weight is not None:
        raise ValueError(
            "`class_weight` must be None where `sample_weight` weighs the examples. "
            "Received: both; pass their product as `sample_weight`."
        )
    arguments.check_class_weight(class_weight, x, y)
    return arguments.weights_of_classes(class_weight, y)


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
