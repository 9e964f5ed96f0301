"""A network that several devices compute: what may be given a part of the batch.

A layer that is known to see each example by itself is given a part on each device,
batch normalisation with the moments of the whole batch, and any other the whole batch.
How a tensor is cut, and what computes its parts, is the engine's.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Protocol

import keras

from keras_ae.backend import _shared, keras_private

# What computes each example by itself, whatever its settings.
_EACH_BY_ITSELF = tuple(
    getattr(keras.layers, name)
    for name in (
        "Activation",
        "Add",
        "Average",
        "AveragePooling1D",
        "AveragePooling2D",
        "AveragePooling3D",
        "Conv1D",
        "Conv1DTranspose",
        "Conv2D",
        "Conv2DTranspose",
        "Conv3D",
        "Conv3DTranspose",
        "Cropping1D",
        "Cropping2D",
        "Cropping3D",
        "Dense",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "ELU",
        "Flatten",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalAveragePooling3D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "GlobalMaxPooling3D",
        "GroupNormalization",
        "Identity",
        "LeakyReLU",
        "MaxPooling1D",
        "MaxPooling2D",
        "MaxPooling3D",
        "Maximum",
        "Minimum",
        "Multiply",
        "PReLU",
        "Permute",
        "ReLU",
        "RepeatVector",
        "Rescaling",
        "Reshape",
        "SeparableConv1D",
        "SeparableConv2D",
        "Subtract",
        "UpSampling1D",
        "UpSampling2D",
        "UpSampling3D",
        "ZeroPadding1D",
        "ZeroPadding2D",
        "ZeroPadding3D",
    )
)

_ALONG_AN_AXIS = (
    keras.layers.Concatenate,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.Softmax,
)


class Parts(Protocol):
    """A tensor that is cut along its first axis, a part on each device."""

    def whole(self) -> Any:
        """Returns the tensor in one piece."""


class Run:
    """One call of a network on all devices.

    Attributes:
        kind: Of the engine's `Parts`.
    """

    kind: type[Parts]

    def has_rows(self, value: Any) -> bool:
        """Whether a value is no tensor, or one with a row an example."""
        raise NotImplementedError

    def cut(self, value: Any) -> Any:
        """Returns a tensor with a row an example in parts; anything else as it is."""
        raise NotImplementedError

    def on_each(self, operation: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        """Returns what an operation gives of each part."""
        raise NotImplementedError

    def moments(self, x: Parts, axis: int) -> tuple[Any, Any]:
        """Returns mean and variance, along all axes but one, of the whole batch."""
        raise NotImplementedError

    def call(self, network: Any, inputs: Any, training: bool | None) -> Any:
        """Returns what a network gives, in one piece."""
        outputs = self._through(network, inputs, training)
        return keras.tree.map_structure(self._whole, outputs)

    def _through(self, network, inputs, training):
        """What a network gives, some of it in parts."""
        return keras_private.run_graph(network, inputs, self._operation, training)

    def _operation(self, operation, call, args, kwargs):
        """What an operation of a network gives, in parts where it can be."""
        network = keras_private.graph(operation)
        if network is not None and len(args) == 1:
            # Keras takes tensors only for a network's inputs.
            inputs = keras.tree.map_structure(self._whole, args[0])
            return self._through(network, inputs, kwargs.get("training"))
        # Each tensor must have a row an example.
        if all(map(self.has_rows, keras.tree.flatten((args, kwargs)))):
            if _sees_each_by_itself(operation):
                return self.on_each(operation, call, args, kwargs)
            if _sees_moments(operation) and len(args) == 1:
                return self._normalized(operation, call, args, kwargs)
        args, kwargs = keras.tree.map_structure(self._whole, (args, kwargs))
        return call(*args, **kwargs)

    def _normalized(self, layer, call, args, kwargs):
        """Batch normalisation by the moments of all parts."""
        if not (kwargs.get("training") and layer.trainable):
            return self.on_each(layer, call, args, kwargs)
        x = self.cut(args[0])
        moments = functools.partial(_settled, self.moments(x, layer.axis))
        plain = functools.partial(keras.layers.BatchNormalization.call, layer)
        with (
            _shared.replaced(layer, keras_private.MOMENTS, moments),
            _shared.replaced(layer, "call", plain),
        ):
            return self.on_each(layer, call, (x,), kwargs)

    def _whole(self, value):
        return value.whole() if isinstance(value, self.kind) else value


def replaced_call(layer: keras.Layer, start: Callable[[Any], Run]):
    """A block in which several devices compute what a layer gives, if it is a network.

    Args:
        layer: Any layer.
        start: Function of what the network is given that returns the `Run`.
    """
    network = keras_private.graph(layer)
    if network is None:
        return contextlib.nullcontext()

    def call(inputs, training=None, mask=None, **kwargs):
        if mask is not None or kwargs:
            return type(layer).call(layer, inputs, training, mask, **kwargs)
        return start(inputs).call(network, inputs, training)

    return _shared.replaced(layer, "call", call)


def _settled(moments, inputs, mask):
    return moments


def _sees_each_by_itself(operation):
    """Whether an operation computes each example by itself, and draws nothing."""
    if not isinstance(operation, keras.Layer):
        return False
    return all(map(_is_known, keras_private.layers(operation)))


def _is_known(layer):
    kind = type(layer)
    # What is derived from ours may see more.
    known = kind in _EACH_BY_ITSELF or "sees_each_by_itself" in vars(kind)
    if kind in _ALONG_AN_AXIS:
        axes = keras.tree.flatten(layer.axis)
        known = all(axis == -1 or axis > 0 for axis in axes)
    elif kind is keras.layers.Dropout:
        known = not layer.rate
    elif kind is keras.layers.EinsumDense:
        given, returned = layer.equation.split("->")
        known = given.strip()[0] == returned.strip()[0]
    elif kind is keras.layers.MultiHeadAttention:
        known = layer.get_config()["attention_axes"] is None
    activation = getattr(layer, "activation", None)
    if callable(activation):
        # Nobody knows what a function of the user's looks at.
        known &= str(activation.__module__).startswith("keras.")
    return known and layer.activity_regularizer is None


def _sees_moments(layer):
    """Whether a layer sees of other examples the mean and the variance alone."""
    kind = type(layer)
    known = kind is keras.layers.BatchNormalization or "sees_moments" in vars(kind)
    if not known or layer.renorm or layer.axis == 0:
        return False
    return layer.activity_regularizer is None
