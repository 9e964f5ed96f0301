"""Labels of examples: what models with classes check, learn from and draw."""

from types import NoneType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.base.verbs import seed_generator
from keras_ae.training import inputs

UNLABELLED = -1


class TakesLabels:
    """Labels beside x in training, and classes to draw in `sample`.

    A model has `num_classes`: None, for one that ignores labels, or their number. Where
    it `needs_labels`, every example that it is trained or scored on must have one;
    otherwise -1 says that an example has none. `call` is given `labels=`, `(batch,)`,
    and a code is [z, y] with `num_classes` numbers y.
    """

    @property
    def code_dim(self) -> int:
        """Numbers in a code: z, and with classes one for each of them."""
        return self.latent_dim + (self.num_classes or 0)

    @property
    def _lowest_label(self):
        return 0 if self.needs_labels else UNLABELLED

    def fit(self, x=None, y=None, *args, validation_data=None, **kwargs):
        """Trains the model; see `keras.Model.fit`, whose arguments it takes.

        Args:
            x: Data as for any autoencoder; with `num_classes` a data set gives batches
                `(x, y)`.
            y: With `num_classes` integer labels `(n,)`, from 0 to `num_classes` - 1;
                where the model does without some of them, -1 for an example without a
                label. Ignored otherwise.
            validation_data: Data as `x`, or a tuple `(x, y)`.
            *args, **kwargs: As in `keras.Model.fit`.

        Returns:
            Keras' `History`: the loss, its terms and monitors by epoch.

        Raises:
            ValueError: If labels are missing or out of range, or the first batch is
                not what the model can describe.
        """
        if isinstance(y, list | tuple):
            y = np.asarray(y)
        if self.num_classes is not None and not isinstance(x, list | tuple | NoneType):
            (_, labels, _), x = inputs.first_batch(x)
            if labels is None and y is None:
                raise self._without_labels()
            unlabelled = labels is None and np.all(to_numpy(y) == UNLABELLED)
            if unlabelled and not self.needs_labels:
                raise ValueError(
                    f"{self._wanted_labels(UNLABELLED)} Received: {len(y)} labels, all "
                    "of them -1; give some examples a label, or leave out "
                    "`num_classes`."
                )
        return super().fit(x, y, *args, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Returns the loss, its terms and monitors; see `keras.Model.evaluate`."""
        if "_use_cached_eval_dataset" not in kwargs:
            if isinstance(y, list | tuple):
                y = np.asarray(y)
            y = self._labels_beside(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def _inspect_validation(self, data):
        held = hasattr(data, "shape") or isinstance(data, tuple | list)
        if self.num_classes is not None and held:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
            y = self._labels_beside(x, y, "`validation_data=(x, y)`")
            data = (x, y, weight)
        return super()._inspect_validation(data)

    def _labels_beside(self, x, y, remedy="`y`"):
        """Says of examples in an array that come without labels that they have none."""
        if self.num_classes is None or y is not None or not hasattr(x, "shape"):
            return y
        if self.needs_labels:
            raise self._without_labels(remedy)
        return np.full(x.shape[0], UNLABELLED)

    def unpack_batch(self, data):
        x, others, weight = super().unpack_batch(data)
        _, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.num_classes is not None and y is not None:
            others["labels"] = ops.cast(ops.reshape(y, (-1,)), "int32")
        return x, others, weight

    def check_values(self, x, y, restored):
        limits = super().check_values(x, y, restored)
        if self.num_classes is None:
            return limits
        if y is not None:
            self._check_labels(y, x.shape[0], self._lowest_label)
        elif restored and self.needs_labels:
            raise self._without_labels()
        return limits

    def _check_labels(self, y, count, lowest=0):
        """Returns labels as an integer array `(count,)`, or refuses them."""
        labels = to_numpy(y)
        fits = labels.shape in ((count,), (count, 1))
        if not fits or labels.dtype.kind not in "biuf":
            remedy = "; `numpy.argmax(y, axis=1)` of one-hot labels"
            one_hot = labels.shape == (count, self.num_classes)
            raise ValueError(
                f"{self._wanted_labels(lowest)} Received: labels of shape "
                f"{labels.shape} and dtype {labels.dtype} for {count} examples"
                + (remedy if one_hot else "")
            )
        whole = np.array_equal(labels, np.round(labels))
        if not whole or labels.min() < lowest or labels.max() >= self.num_classes:
            raise ValueError(
                f"{self._wanted_labels(lowest)} Received: labels from {labels.min()} "
                f"to {labels.max()}"
            )
        return labels.reshape(-1).astype("int64")

    def _wanted_labels(self, lowest):
        unlabelled = ", or -1 for none" if lowest < 0 else ""
        return (
            f"A {type(self).__name__} with num_classes={self.num_classes} needs one "
            f"integer label an example, from 0 to {self.num_classes - 1}{unlabelled}."
        )

    def _without_labels(self, remedy="`y`"):
        wanted = self._wanted_labels(self._lowest_label)
        return ValueError(
            f"{wanted} Received: no labels; pass {remedy}, or a data set of batches "
            "(x, y)."
        )

    def _nan_unless_valid(self, labels, values):
        """Returns values `(batch,)`, NaN where a label is out of range.

        Only the first batch is looked at before training: others must not pass.
        """
        valid = ops.logical_and(labels >= self._lowest_label, labels < self.num_classes)
        return ops.where(valid, values, float("nan"))

    def sample(
        self,
        n: int,
        seed: int | None = None,
        batch_size: int = 256,
        labels: Any = None,
        sampler: str | None = None,
        *,
        mean: bool = True,
        **options,
    ) -> np.ndarray:
        """Returns the likelihood's mean for new codes, or x drawn from p(x | z).

        Args:
            n: Pictures to draw, >= 1.
            seed: Integer; the same seed gives the same codes, whatever the labels.
            batch_size: Codes decoded at a time.
            labels: With `num_classes`, the class of all pictures or one of each
                `(n,)`. Defaults to classes drawn evenly.
            sampler: `"prior"`, or the name of what `fit_sampler` has fitted, to the
                codes of all classes alike. By default what `choose_sampler` chooses.
            mean: Whether to give the mean of p(x | z), without its noise.
            **options: What the sampler's own `sample` takes.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].

        Raises:
            ValueError: If labels are out of range, or the model has no classes.
        """
        if self.num_classes is None:
            if labels is not None and sampler != "flow":
                raise ValueError(
                    "`labels` must be None for a model without classes "
                    f"(`num_classes`). Received: labels={labels!r}"
                )
            if labels is not None:
                options["labels"] = labels
            return super().sample(n, seed, batch_size, sampler, mean=mean, **options)
        is_mean = checks.check_flag("mean", mean)
        seeds = seed_generator(seed)
        z = self._drawn(n, seeds, sampler, **options)  # (n, latent_dim)
        if labels is None:
            labels = keras.random.randint((n,), 0, self.num_classes, seed=seeds)
        elif np.ndim(labels) == 0:
            labels = np.full(n, labels)
        labels = self._check_labels(labels, n)
        y = np.eye(self.num_classes, dtype="float32")[labels]  # (n, num_classes)
        codes = np.concatenate([z, y], axis=1)
        return self._decode_drawn(codes, batch_size, None if is_mean else seeds)


def to_numpy(values) -> np.ndarray:
    """Returns labels, or any tensor, as an array."""
    if isinstance(values, list | tuple | np.ndarray | np.generic):
        return np.asarray(values)
    return np.asarray(ops.convert_to_numpy(values))
