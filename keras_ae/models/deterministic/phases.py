"""Greedy layer-wise pretraining and fine-tuning, as one training."""

import json
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import backend
from keras_ae.datasets import Batches
from keras_ae.training import arguments, inputs
from keras_ae.training.optimizers import portable
from keras_ae.training.streaming import is_streamed, streamed


class _Progress(keras.callbacks.Callback):
    """Notes after each epoch how far the phases are, before anything is saved."""

    def __init__(self, layer, done):
        super().__init__()
        self._layer = layer
        self._done = done

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        self._done += 1
        phase = self._layer or model.depth + 1
        model.progress.assign([phase, self._done])
        if self._layer and model.pretraining == "rbm":
            encoding, decoding = (
                part[self._layer - 1] for part in (model.encoding, model.decoding)
            )
            decoding.kernel.assign(ops.transpose(encoding.kernel))


class Phases:
    """Training in phases: each layer by itself, then all of them together."""

    def build_optimizer(self):
        if self._optimized_layer is None or not self.compiled:
            return super().build_optimizer()
        with backend.build_scope(self):
            self.optimizer.build(self._layer_variables(self._optimized_layer))

    def compile(
        self, optimizer: Any = None, pretraining_optimizer: Any = None, **kwargs
    ) -> None:
        """Configures training; the constructor has done it already, with Adam(1e-3).

        Args:
            optimizer: A Keras optimizer, or its name; each phase starts with a new one
                of the same settings.
            pretraining_optimizer: Optimizer of the layers' phases, instead.
            **kwargs: As for `Autoencoder.compile`.
        """
        self._optimized_layer: int | None = None
        super().compile(optimizer, **kwargs)
        self._fine_tuning_optimizer = None
        self._pretraining_optimizer = None
        if pretraining_optimizer is not None:
            optimizer = keras.optimizers.get(pretraining_optimizer)
            self._pretraining_optimizer = _as_text(optimizer)

    def _compile_for(self, layer):
        """Gives a phase an optimizer of its own, unless it goes on with one."""
        if self._optimized_layer == layer:
            return
        if self._optimized_layer is None:
            self._fine_tuning_optimizer = _as_text(self.optimizer)
        text = self._fine_tuning_optimizer
        if layer is not None and self._pretraining_optimizer is not None:
            text = self._pretraining_optimizer
        self._optimized_layer = layer
        self._compile_with(text)

    def _compile_with(self, text):
        try:
            # It has variables from the start.
            with backend.build_scope(self):
                optimizer = keras.saving.deserialize_keras_object(json.loads(text))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Each phase starts with a new optimizer of the same settings. An "
                "optimizer or a schedule of your own must be registered for that, with "
                "`keras.saving.register_keras_serializable()`. Received: "
                f"{json.loads(text)['class_name']}"
            ) from error
        with backend.build_scope(self):
            super().compile(optimizer, **self._compile_choices)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Fine-tunes all layers by one batch; see `keras.Model.train_on_batch`."""
        self._compile_for(None)
        return super().train_on_batch(x, y, *args, **kwargs)

    def get_compile_config(self):
        return {
            **super().get_compile_config(),
            "pretraining_optimizer": self._pretraining_optimizer,
            "fine_tuning_optimizer": self._fine_tuning_optimizer,
            "optimized_layer": self._optimized_layer,
        }

    def compile_from_config(self, config):
        config = dict(config)
        pretraining_optimizer = config.pop("pretraining_optimizer")
        fine_tuning_optimizer = config.pop("fine_tuning_optimizer")
        layer = config.pop("optimized_layer")
        super().compile_from_config(config)
        self._pretraining_optimizer = pretraining_optimizer
        self._fine_tuning_optimizer = fine_tuning_optimizer
        if layer is not None:
            # Built for all layers a moment ago, it is needed for one.
            self._optimized_layer = layer
            self._compile_with(_as_text(self.optimizer))

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        initial_epoch: int = 0,
        validation_data=None,
        **kwargs,
    ) -> keras.callbacks.History:
        """Pretrains the layers that have not been, then fine-tunes all of them.

        Args:
            x: Data as for `Autoencoder.fit`, that can be read several times.
            y: Ignored.
            batch_size: Examples a step, for arrays.
            epochs: Epochs of fine-tuning, beside `pretraining_epochs`. Epochs are
                numbered through all phases.
            initial_epoch: Epochs trained before, of all phases, when a loaded model
                goes on.
            validation_data: Data as `x`, or a tuple `(x, y)`.
            **kwargs: As in `keras.Model.fit`.

        Returns:
            One Keras `History` of all phases.

        Raises:
            ValueError: If the data can be read only once, or hold weights.
        """
        options = {"batch_size": batch_size, **kwargs}
        phases = range(self.next_phase, self._fine_tuning + 1)
        return self._train(
            x, y, phases, epochs, initial_epoch, validation_data, options
        )

    def pretrain(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        *,
        initial_epoch: int = 0,
        validation_data=None,
        **kwargs,
    ) -> keras.callbacks.History:
        """Pretrains the layers that have not been; a `fit` then only fine-tunes.

        Args:
            x: As for `fit`.
            y: Ignored.
            batch_size: As for `fit`.
            initial_epoch: As for `fit`.
            validation_data: As for `fit`.
            **kwargs: As in `keras.Model.fit`; `pretraining_epochs` says how many.

        Returns:
            One Keras `History` of the phases.

        Raises:
            ValueError: As `fit`, or if all layers are pretrained already.
        """
        if "epochs" in kwargs:
            raise ValueError(
                "`epochs` must be left out of `pretrain`: `pretraining_epochs` of the "
                f"constructor says how many. Received: epochs={kwargs['epochs']}"
            )
        if self.next_phase == self._fine_tuning:
            raise ValueError(
                f"All {self.depth} layers are pretrained; `fit` fine-tunes "
                "them. Make another model to pretrain anew."
            )
        options = {"batch_size": batch_size, **kwargs}
        phases = range(self.next_phase, self._fine_tuning)
        return self._train(x, y, phases, 0, initial_epoch, validation_data, options)

    @property
    def score_name(self) -> str:
        """The logged value that tells which of two epochs of a phase is better."""
        return "mse" if self.pretraining == "rbm" else "loss"

    @property
    def next_phase(self) -> int:
        """The phase that `fit` begins with: a layer from 1, then fine-tuning."""
        return int(ops.convert_to_numpy(self.progress)[0]) if self.built else 1

    def epochs_left(self, epochs: int, done: int) -> int:
        """Returns how many epochs a `fit` would train, at most.

        Args:
            epochs: Epochs of fine-tuning that are wanted.
            done: Epochs trained before, of all phases.
        """
        planned = (*self._epochs_by_layer, epochs)[self.next_phase - 1 :]
        return max(0, sum(planned) - self._epochs_done())

    def end_phase(self) -> None:
        """Ends the pretraining of the layer whose turn it is; the next is next."""
        if self.next_phase < self._fine_tuning:
            self.progress.assign([self.next_phase + 1, 0])

    def _epochs_done(self):
        """Epochs of the next phase that are behind it already."""
        return int(ops.convert_to_numpy(self.progress)[1]) if self.built else 0

    def _train(self, x, y, phases, epochs, epoch, validation_data, options):
        arguments.bound(
            keras.Model.fit, None, epochs=epochs, initial_epoch=epoch, **options
        )
        x, options = self.prepare_fit(x, y, validation_data, options)
        validation_data = options.pop("validation_data")
        if is_streamed(x, options["y"]):
            x, options = streamed(x, options)
        callbacks = keras.tree.flatten(options.pop("callbacks", None) or [])
        if phases.start < self._fine_tuning:
            _check_finite(x, options)
            _check_validation(validation_data, options)
        _check_callbacks(callbacks)
        first_best = {id(c): getattr(c, "best", None) for c in callbacks}
        whole = keras.callbacks.History()
        whole.set_model(self)
        whole.on_train_begin()
        try:
            for layer, data, held_back in self._phases(x, validation_data, phases):
                # A second `fit` fine-tunes as long as the first; one that goes on does
                # what is left.
                done = self._epochs_done() if layer or epoch else 0
                planned = self._epochs_by_layer[layer - 1] if layer else epochs
                planned -= done
                if planned > 0:
                    self._compile_for(layer)
                    self.training_layer = layer
                    # What was traced before belongs to another phase.
                    self.train_function = self.test_function = None
                    if isinstance(data, Batches):
                        data.epoch = epoch
                    for callback in callbacks:
                        if isinstance(callback, keras.callbacks.ModelCheckpoint):
                            callback.best = first_best[id(callback)]
                        elif isinstance(callback, keras.callbacks.CSVLogger):
                            callback.append = callback.append or bool(whole.epoch)
                    history = self._feed(
                        data,
                        validation_data=held_back,
                        initial_epoch=epoch,
                        epochs=epoch + planned,
                        callbacks=[
                            _Progress(layer, done),
                            *self._own_callbacks(layer, held_back, options),
                            *callbacks,
                        ],
                        **options,
                    )
                    self.training_layer = None
                    whole.epoch += history.epoch
                    for name, values in history.history.items():
                        whole.history.setdefault(name, []).extend(values)
                    epoch += len(history.epoch)
                    if not np.isfinite(history.history["loss"][-1]):
                        # The phases above would learn from features that are NaN.
                        break
                if layer:
                    self.end_phase()
            if self.next_phase == self._fine_tuning:
                self._compile_for(None)
        finally:
            self.training_layer = None
            self.train_function = self.test_function = None
        self.history = whole
        self._end_fit(x, options.get("verbose", "auto"))
        return whole

    def _phases(self, x, validation_data, phases):
        """Yields the layer, the data and the validation data of each phase."""
        features, held_back = x, validation_data
        for layer in range(1, min(phases.stop, self._fine_tuning)):
            if phases.start == self._fine_tuning:
                break
            if layer >= phases.start:
                yield layer, features, held_back
            if layer + 1 < min(phases.stop, self._fine_tuning):
                features = self._features(features, layer)
                if isinstance(held_back, tuple):
                    held_back = (self._features(held_back[0], layer), *held_back[1:])
                elif held_back is not None:
                    held_back = self._features(held_back, layer)
        if phases.stop > self._fine_tuning:
            yield None, x, validation_data

    def _features(self, data, layer):
        """What a trained layer makes of the data of its phase."""
        encoding, units, _ = self._layer(layer)

        def function(x):
            x = self.as_taken(self.to_floats(x), layer)
            return units(encoding(x), training=False)

        name = f"features_{layer}"
        if hasattr(data, "shape"):
            return self.in_batches(name, function, data, 1024)
        if isinstance(data, Batches) and not data.binarize:
            features = self.in_batches(name, function, data.images, 1024)
            options = {"shuffle": data.shuffle, "seed": data.seed}
            return Batches(features, data.batch_size, **options)
        (batch, *_), _ = inputs.first_batch(data)
        features = self.in_batches(name, function, data, 1024)
        return Batches(features, batch.shape[0], seed=int(np.random.randint(2**31)))

    def _own_callbacks(self, layer, held_back, options):
        if layer is None or self.pretraining_patience is None:
            return []
        validated = held_back is not None or options.get("validation_split")
        return [
            keras.callbacks.EarlyStopping(
                f"val_{self.score_name}" if validated else self.score_name,
                mode="min",
                patience=self.pretraining_patience,
                restore_best_weights=True,
            )
        ]


def _as_text(optimizer):
    """An optimizer's settings as JSON; a dict would be tracked as part of the model."""
    return json.dumps(portable(keras.saving.serialize_keras_object(optimizer)))


def _check_finite(data, options):
    """Raises `ValueError` for data whose features can't be computed once a phase."""
    inputs.check_readable_again("StackedSAE", data)
    if hasattr(data, "shape"):
        return
    if options.get("steps_per_epoch"):
        raise ValueError(
            "StackedSAE reads all of the data for each layer, so `steps_per_epoch` "
            "must be None. Received: steps_per_epoch="
            f"{options['steps_per_epoch']}; pass a part of the data set instead."
        )
    is_indexed = isinstance(data, keras.utils.PyDataset)
    batch = data[0] if is_indexed else next(iter(data))
    if keras.utils.unpack_x_y_sample_weight(batch)[2] is not None:
        raise ValueError(
            "Weights can't follow the features through the layers of a data set. Pass "
            "`x` and `sample_weight` as arrays."
        )


def _check_validation(data, options):
    """Raises `ValueError` for validation data that can't follow through the layers."""
    if data is None or isinstance(data, tuple):
        return
    inputs.check_readable_again("StackedSAE (`validation_data`)", data)
    if options.get("validation_steps"):
        raise ValueError(
            "StackedSAE reads all of `validation_data` for each layer, so "
            "`validation_steps` must be None. Received: validation_steps="
            f"{options['validation_steps']}; pass a part of the data set instead."
        )


def _check_callbacks(callbacks):
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "`BackupAndRestore` can't restore the phases of StackedSAE. Save with "
                "`ModelCheckpoint`, and go on with `keras.saving.load_model` and "
                "`fit(initial_epoch=...)`."
            )
