"""How a model leaves the process: files, parts of it for export, quantized weights."""

from typing import Any

import keras

from keras_ae.backend import keras_private

_VERBS = ("decode", "encode", "reconstruct")


class Exports:
    """`save`, `export`, `quantize` and `network` of all models."""

    def save(self, filepath, *args, **kwargs) -> None:
        """Saves the model to a `.keras` file, as `keras.Model.save` does.

        Raises:
            ValueError: If the file is one of HDF5, which could not be loaded.
        """
        if str(filepath).lower().endswith((".h5", ".hdf5")):
            raise ValueError(
                f"`filepath` must end in .keras. Received: {filepath}; models of HDF5 "
                "can't be loaded, weights can: `save_weights('x.weights.h5')`."
            )
        super().save(filepath, *args, **kwargs)

    def export(self, filepath, format: str = "tf_saved_model", **kwargs) -> None:
        """Exports the whole model, as `keras.Model.export` does where a backend can.

        `network("decode")` and its kin can be exported on every backend.

        Raises:
            ValueError: If the backend can't export what draws noise, or the model was
                not called yet.
            ImportError: If a package is missing that the format needs.
            OSError: If the files can't be written.
        """
        try:
            super().export(filepath, format, **kwargs)
        except (ValueError, ImportError, OSError):
            # It says what is wrong, missing or in the way.
            raise
        except Exception as error:
            raise ValueError(
                f"This {type(self).__name__} can't be exported whole to {format} on "
                f"this backend ({type(error).__name__}). Export what is needed of it: "
                "`model.network('encode')`, 'decode' or 'reconstruct'."
            ) from error

    def network(self, verb: str = "decode") -> keras.Model:
        """Returns a Keras model that does what a verb does to a batch, for export.

        Args:
            verb: `"encode"`, `"decode"` or `"reconstruct"`.

        Returns:
            A model from codes `(batch, code_dim)`, or from examples
            `(batch, *image_shape)` of floats in [0, 1], to what the verb returns. It
            has the weights of this one, not copies.

        Raises:
            ValueError: If the verb is another one, the shape of examples is not known
                yet, or a code has to be searched for or needs a label.

        Example:

        ```python
        model.network("decode").export("decoder.onnx", format="onnx")
        ```
        """
        if verb not in _VERBS:
            raise ValueError(
                f"`verb` must be {', '.join(map(repr, _VERBS))}. Received: "
                f"verb={verb!r}"
            )
        self.require_built("network")
        if verb != "decode" and (self.encoder is None or self.needs_labels):
            raise ValueError(
                f"A {type(self).__name__} has no network to {verb} with: "
                + ("it needs labels." if self.needs_labels else "it has no encoder.")
            )
        shape = (self.code_dim,) if verb == "decode" else self.built_image_shape
        x = keras.Input(shape, name="z" if verb == "decode" else "x")
        network = keras.Model(x, OneVerb(self, verb, name=verb)(x), name=verb)
        # What has never been called is not exported.
        network(x)
        return network

    def quantize(self, mode: str | None = None, **options: Any) -> None:
        """Rounds weights to few bits, as `keras.Model.quantize` does.

        The model can be saved and loaded as before. For training it has to be compiled
        anew.

        Args:
            mode: `"int8"`, `"int4"` or `"float8"`.
            **options: As of `keras.Model.quantize`.
        """
        super().quantize(mode, **options)
        # They would go on with the weights that they were compiled with.
        self._compiled_functions.clear()

    def _state(self):
        quantized = [
            keras.saving.serialize_keras_object(layer.dtype_policy)
            if getattr(layer, "quantization_mode", None)
            else None
            for layer in keras_private.layers(self)
        ]
        return {**super()._state(), "quantized": quantized if any(quantized) else None}

    def _restore(self, state):
        super()._restore(state)
        if not state.get("quantized"):
            return
        layers = keras_private.layers(self)
        for layer, policy in zip(layers, state["quantized"], strict=True):
            if policy is not None:
                layer.dtype_policy = keras.saving.deserialize_keras_object(policy)
        self._compiled_functions.clear()


@keras.saving.register_keras_serializable(package="keras_ae")
class OneVerb(keras.layers.Layer):
    """What a verb does to a batch, as a layer with the weights of the model.

    Args:
        model: A built model.
        verb: `"decode"`, `"encode"` or `"reconstruct"`.
        **kwargs: As of `keras.layers.Layer`.
    """

    def __init__(self, model: keras.Model, verb: str, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.verb = verb
        # As an attribute it would bring its optimizer and metrics along.
        self._model = lambda: model
        self.layers_of_model = [
            layer
            for layer in keras_private.tracked(model)
            if layer is not self and layer.variables
        ]

    def call(self, x):
        return getattr(self._model(), f"{self.verb}_batch")(x)

    def get_config(self):
        model = keras.saving.serialize_keras_object(self._model())
        model.pop("compile_config", None)
        return {**super().get_config(), "model": model, "verb": self.verb}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})

    # The model itself has variables and knows of its data.

    def save_own_variables(self, store):
        self._model().save_own_variables(store)

    def load_own_variables(self, store):
        self._model().load_own_variables(store)
