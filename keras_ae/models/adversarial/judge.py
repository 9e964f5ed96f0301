"""A discriminator that judges what an autoencoder restores, and how loud it speaks."""

from collections.abc import Callable

import keras
from keras import ops

from keras_ae import backend

# Beyond these, one of two gradients has vanished and there is nothing to balance.
RATIOS = (1e-4, 1e4)
MOMENTUM = 0.95


class Judged:
    """What models share whose pictures a discriminator judges from some epoch on.

    The model has `discriminator_start`, the number of that epoch.
    """

    add_weight: Callable[..., keras.Variable]

    def add_state(self, name: str, shape: tuple[int, ...], initializer: str):
        """Returns a variable that nothing trains, in float32."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=False,
            dtype="float32",
            autocast=False,
            aggregation="mean",
        )

    def started(self):
        """Returns whether the discriminator is to be heard, a boolean scalar."""
        return ops.convert_to_tensor(self.epoch) >= self.discriminator_start

    def follow_norms(self, averages, losses, shown, counts) -> None:
        """Updates running averages of the norms of losses' gradients.

        Args:
            averages: The variable that holds them, one for each loss.
            losses: Functions of `shown` to losses `(batch,)`.
            shown: Where the gradients are taken, `(batch, ...)`.
            counts: Boolean scalar: whether the averages are to move.
        """
        shown = ops.stop_gradient(shown)
        norms = []
        for loss in losses:
            gradient = backend.gradient(backend.pure(self, loss), shown)
            gradient = ops.reshape(gradient, (ops.shape(gradient)[0], -1))
            norms.append(ops.mean(ops.norm(ops.stop_gradient(gradient), axis=1)))
        before = ops.convert_to_tensor(averages)
        after = MOMENTUM * before + (1 - MOMENTUM) * ops.stack(norms)
        counts = ops.logical_and(counts, ops.all(ops.isfinite(after)))
        averages.assign(ops.where(counts, after, before))

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks=None,
        **kwargs,
    ) -> keras.callbacks.History:
        """Trains the model; see `Autoencoder.fit`.

        Args:
            x: Data as for `Autoencoder.fit`.
            y: Ignored.
            batch_size, epochs, verbose, callbacks, **kwargs: As in `keras.Model.fit`.
                The discriminator starts by the number of the epoch, which
                `initial_epoch` begins with.

        Returns:
            Keras' `History`: the loss, its terms and monitors by epoch.
        """
        counter = _CountEpochs()
        if isinstance(callbacks, keras.callbacks.CallbackList):
            counter.set_model(self)
            callbacks.callbacks.append(counter)
        else:
            callbacks = [counter, *keras.tree.flatten(callbacks or [])]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)


class _CountEpochs(keras.callbacks.Callback):
    """Tells the model the number of the epoch, which its players go by."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.epoch.assign(epoch)


def ratio(wanted, received):
    """Returns what brings one norm to another, 1 as long as there is none.

    Averages that start at 0 are too small alike, which their ratio does not feel.
    """
    quotient = wanted / ops.maximum(received, 1e-12)
    return ops.where(wanted > 0, ops.clip(quotient, *RATIOS), 1.0)


def feature_distance(real, restored):
    """Returns ½ ||f - f'||² / mean(f²), `(batch,)`, of features `(batch, ...)`.

    That is -log N(f; f', I) but for a constant, in nats and summed over features,
    whatever their scale.
    """
    axes = tuple(range(1, len(real.shape)))
    real, restored = ops.cast(real, "float32"), ops.cast(restored, "float32")
    scale = ops.maximum(ops.mean(ops.square(real)), 1e-12)
    return 0.5 * ops.sum(ops.square(real - restored), axis=axes) / scale


def with_features(discriminator: keras.Model, name: str | None) -> keras.Model:
    """Returns the discriminator, with one of its layers' features as first output.

    Args:
        discriminator: A functional or `Sequential` model.
        name: Name of the layer. Defaults to the end of the middle stage of
            convolutions, or to the middle hidden layer where there are none.

    Raises:
        ValueError: If it is another kind of model, or has no such layer.
    """
    if not getattr(discriminator, "inputs", None):
        raise ValueError(
            "`discriminator` must be a functional or Sequential Keras model, so that a "
            "layer's features can be seen. Received: a "
            f"{type(discriminator).__name__}"
        )
    layers = [
        layer
        for layer in discriminator.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]
    if name is None:
        layer = _middle(discriminator, layers)
    else:
        found = [layer for layer in layers if layer.name == name]
        if not found:
            raise ValueError(
                "`feature_layer` must be one of the discriminator's layers: "
                f"{', '.join(layer.name for layer in layers)}. Received: "
                f"feature_layer={name!r}"
            )
        layer = found[0]
    outputs = [layer.output, discriminator.outputs[0]]
    return keras.Model(discriminator.inputs[0], outputs)


def _middle(discriminator, layers):
    """The end of the middle stage of convolutions, or the middle hidden layer."""
    # Of all layers of one size the last; those of the picture's size are no stage.
    ends = {layer.output.shape[1:-1]: layer for layer in layers[:-1]}
    size = discriminator.inputs[0].shape[1:]
    stages = [layer for sides, layer in ends.items() if sides != size[: len(sides)]]
    hidden = stages or [layer for layer in layers[:-1] if layer.weights]
    return hidden[len(hidden) // 2] if hidden else layers[-min(2, len(layers))]
