"""A classifier on a pretrained encoder."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend, checks
from keras_ae.nn.layers import check_corruption, get_corruption
from keras_ae.training import inputs


@keras.saving.register_keras_serializable(package="keras_ae")
class Classifier(keras.Model):
    """A softmax layer on an encoder, for supervised fine-tuning.

        p(y | x) = softmax(W encoder(x) + b)

    The encoder is shared, not copied: `fit` fine-tunes it for the autoencoder too. The
    constructor compiles with Adam(1e-3), cross-entropy and accuracy; `compile` with
    what you like, as for any Keras model.

    Args:
        encoder: Keras model from x to codes `(batch, latent_dim)`.
        num_classes: Number of classes, >= 2; labels are integers from 0.
        corruption: What spoils x in training, as for `DenoisingAE`; a deep classifier
            learns less by heart that way. Defaults to nothing.
        **kwargs: `name` and `dtype`.

    Attributes:
        head: The softmax layer.

    Example:

    ```python
    classifier = stacked.classifier(num_classes=10)
    classifier.fit(x_train, labels, validation_data=(x_test, test_labels), epochs=10)
    probabilities = classifier.predict(x_test)  # (n, 10)
    ```
    """

    def __init__(
        self, encoder: keras.Model, num_classes: int, corruption: Any = None, **kwargs
    ):
        super().__init__(**kwargs)
        shape = getattr(encoder, "output_shape", None)
        if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] is None:
            raise ValueError(
                "`encoder` must be a built Keras model that gives codes (batch, "
                f"latent_dim). Received: {encoder!r}, which gives {shape}"
            )
        self.num_classes = checks.check_count("num_classes", num_classes, minimum=2)
        self.encoder = encoder
        self.corruption = None if corruption is None else get_corruption(corruption)
        self.head = keras.layers.Dense(
            num_classes, activation="softmax", dtype="float32", name="head"
        )
        self.build(encoder.input_shape)
        self.compile(
            keras.optimizers.Adam(1e-3),
            keras.losses.SparseCategoricalCrossentropy(),
        )

    def compile(
        self, optimizer="rmsprop", loss=None, *, metrics=("accuracy",), **kwargs
    ):
        """Configures training; see `keras.Model.compile`.

        Args:
            optimizer: A Keras optimizer, or its name.
            loss: A Keras loss, or its name. A sparse one takes integer labels `(n,)`,
                another labels `(n, num_classes)`, one-hot or smoothed.
            metrics: Keras metrics, or their names.
            **kwargs: As in `keras.Model.compile`.
        """
        # Without metrics Keras would keep those of the call before.
        metrics = [] if metrics is None else list(metrics)
        super().compile(optimizer, loss, metrics=metrics, **kwargs)
        name = loss if isinstance(loss, str) else type(loss).__name__
        self._is_sparse = "sparse" in name.lower()
        with backend.build_scope(self):
            self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    def build(self, input_shape):
        self.head.build(self.encoder.output_shape)
        if self.corruption is not None:
            check_corruption(self.corruption, self.encoder.input_shape[1:])
        self.built = True

    def call(self, x, training=False):
        x = inputs.to_floats(x)
        if training and self.corruption is not None:
            x = self.corruption(x, training=True)
        z = self.encoder(x, training=training)  # (batch, latent_dim)
        return self.head(z)  # (batch, num_classes)

    def fit(self, x=None, y=None, *args, validation_data: Any = None, **kwargs):
        """Trains on examples and labels; see `keras.Model.fit`.

        Args:
            x: Array `(n, *image_shape)`, or a data set of batches `(x, y)`.
            y: Labels `(n,)`, integers from 0 to `num_classes` - 1; see also `compile`.
            validation_data: A tuple `(x, y)`, or a data set as x.
            *args, **kwargs: As in `keras.Model.fit`.

        Raises:
            ValueError: If labels are missing, of another number than the examples, out
                of range or all alike.
        """
        x, y = self.check_data(x, y, varied=True)
        if isinstance(validation_data, tuple | list):
            held_back = self.check_data(*validation_data[:2])
            validation_data = (*held_back, *validation_data[2:])
        elif validation_data is not None:
            validation_data, _ = self.check_data(validation_data)
        return super().fit(x, y, *args, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Returns loss and accuracy; see `keras.Model.evaluate`."""
        if "_use_cached_eval_dataset" not in kwargs:
            x, y = self.check_data(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Takes one step on one batch; see `keras.Model.train_on_batch`."""
        return super().train_on_batch(*self.check_data(x, y), *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """Evaluates one batch; see `keras.Model.test_on_batch`."""
        return super().test_on_batch(*self.check_data(x, y), *args, **kwargs)

    def check_data(self, x, y=None, varied=False):
        """Refuses examples and labels that don't fit; returns x and y, unconsumed."""
        wanted = (
            f"one integer from 0 to {self.num_classes - 1} for each example, as `y` or "
            "in the batches (x, y) of a data set"
        )
        if x is None:
            raise ValueError("`x` must be given. Received: x=None")
        is_array = hasattr(x, "shape")
        (batch, labels, _), x = inputs.first_batch(x)
        y = np.asarray(y) if isinstance(y, list | tuple) else y
        labels = y if is_array else labels
        expected = tuple(self.encoder.input_shape[1:])
        if tuple(batch.shape[1:]) != expected:
            raise ValueError(
                f"The encoder takes examples of shape {expected}. Received: examples "
                f"of shape {tuple(batch.shape[1:])}"
            )
        inputs.check_values(batch)
        if labels is None:
            raise ValueError(f"A classifier needs labels: {wanted}. Received: y=None")
        if not isinstance(labels, np.ndarray):
            labels = np.asarray(ops.convert_to_numpy(labels))
        if labels.shape == (batch.shape[0], self.num_classes) and not self._is_sparse:
            return x, y
        if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
            raise ValueError(
                f"Labels must be {wanted}. Received: labels of dtype {labels.dtype} "
                f"and shape {labels.shape}"
            )
        if labels.ndim == 2 and labels.shape[1] != 1:
            raise ValueError(
                f"Labels must be {wanted}; one-hot labels need a loss such as "
                "'categorical_crossentropy', or `numpy.argmax(y, axis=1)`. Received: "
                f"labels of shape {labels.shape}"
            )
        if len(labels) != batch.shape[0]:
            raise ValueError(
                f"Labels must be {wanted}. Received: {len(labels)} labels for "
                f"{batch.shape[0]} examples"
            )
        whole = labels.dtype.kind in "iub" or np.array_equal(labels, np.round(labels))
        if not whole or labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(
                f"Labels must be {wanted}. Received: labels from {labels.min()} to "
                f"{labels.max()}"
            )
        if varied and is_array and len(labels) > 1 and labels.min() == labels.max():
            raise ValueError(
                "Labels must be of two classes at least: there is nothing to tell "
                f"apart. Received: {len(labels)} labels, all {labels[0]}"
            )
        return x, y

    def get_config(self):
        config = {"name": self.name, "num_classes": self.num_classes}
        for name in ("encoder", "corruption", "dtype_policy"):
            value = keras.saving.serialize_keras_object(getattr(self, name))
            config[name.removesuffix("_policy")] = value
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(
                    value, custom_objects=custom_objects
                )
                for name, value in config.items()
            }
        )
