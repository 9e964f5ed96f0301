"""Stacked autoencoders: depth by greedy layer-wise pretraining."""

import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import inputs
from keras_ae.backend import autodiff
from keras_ae.datasets import Batches
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.deterministic.classifier import Classifier
from keras_ae.models.deterministic.sparse import activity
from keras_ae.nn.layers import (
    ContrastiveDivergence,
    check_corruption,
    get_corruption,
    get_sparsity,
)
from keras_ae.probability.likelihoods import Bernoulli, Gaussian, get_likelihood
from keras_ae.training.optimizers import portable
from keras_ae.training.trainer import streamed

PRETRAINING = ("sparse", "denoising", "plain", "rbm")


class StackedSAE(Autoencoder):
    """Stacked autoencoder: each layer learns to restore the features of the one below.

        h_0 = x,  h_k = s(W_k h_{k-1} + b_k),  z = h_K
        phase k:     min over layer k of  -log p(h_{k-1} | h_k) + sparsity(h_k)
        phase K + 1: min over all layers of  -log p(x | z)

    One `fit` runs all of it: greedily, layer by layer, each a single-layer autoencoder
    on the features of the trained layers below, which are computed once a phase; then
    fine-tuning of the unrolled network. Each phase has an optimizer of its own, from
    the same settings, and starts the callbacks anew: an `EarlyStopping` ends a phase,
    and the next one begins; the best of a `ModelCheckpoint` is that of the last phase.
    `phase` is logged with each epoch; `loss` is that of the phase. A classifier on the
    encoder comes from `classifier`.

    Args:
        layer_dims: Units of each layer, the last of which is the code.
        pretraining: What a layer learns by: `"sparse"` (`sparsity`), `"denoising"`
            (`corruption` of its input), `"plain"`, or `"rbm"`, a restricted Boltzmann
            machine trained by contrastive divergence. That is a gradient to follow, no
            score to compare: `mse` tells how well such a layer restores its input.
        pretraining_epochs: Epochs of each layer's phase, a number or one for each
            layer, >= 0.
        pretraining_patience: Epochs without a better `val_loss` (`loss` where there are
            no validation data; `val_mse` or `mse` for `"rbm"`) before a layer's phase
            ends with its best weights.
            Defaults to no early stopping but that of your callbacks.
        sparsity: `"kl"`, `"l1"`, `"k_sparse"` or a layer, as for `SparseAE`.
        corruption: `"masking"`, `"gaussian"`, `"salt_and_pepper"` or a layer, as for
            `DenoisingAE`.
        noise_level: Level of a corruption given by name.
        gibbs_steps: Steps of the Markov chain in contrastive divergence, >= 1.
        activation: Activation of the layers. Defaults to that of the sparsity, and to
            `"sigmoid"` elsewhere.
        image_shape: Shape of one example. Defaults to that of the first batch.
        likelihood: Distribution of the data given a code. Defaults to Bernoulli for
            `"rbm"`, which describes binary units, and to a Gaussian of scale 1
            elsewhere. Features are restored by squared error, or where the data are
            Bernoulli and the layers sigmoid by cross-entropy.
        **kwargs: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If there are no layers, or an argument is out of range.

    Example:

    ```python
    model = keras_ae.StackedSAE(layer_dims=(200, 200), pretraining_epochs=20)
    model.fit(x_train, validation_data=x_test, epochs=10)
    classifier = model.classifier(num_classes=10)
    classifier.fit(x_train, labels, epochs=10)
    ```

    Reference:
        Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural
        Networks, 2006 (https://doi.org/10.1126/science.1127647); Bengio et al., Greedy
        Layer-Wise Training of Deep Networks, 2007; Vincent et al., Stacked Denoising
        Autoencoders, 2010 (https://jmlr.org/papers/v11/vincent10a.html).
    """

    takes_value_weights = False
    monitor_names = ("phase", "mean_activation", "dead_units", "mse")
    settled_arguments = ("latent_dim", "architecture", "widths", "encoder", "decoder")

    def __init__(
        self,
        layer_dims: Sequence[int] = (200, 200),
        *,
        pretraining: str = "sparse",
        pretraining_epochs: int | Sequence[int] = 10,
        pretraining_patience: int | None = None,
        sparsity: Any = "kl",
        corruption: Any = "masking",
        noise_level: float | Sequence[float] | None = None,
        gibbs_steps: int = 1,
        activation: str | None = None,
        likelihood: Any = None,
        **kwargs,
    ):
        layer_dims = _check_layer_dims(layer_dims)
        self.refuse_settled(kwargs, "`layer_dims` settles the networks of StackedSAE")
        if pretraining not in PRETRAINING:
            raise ValueError(
                f"`pretraining` must be {', '.join(map(repr, PRETRAINING))}. "
                f"Received: pretraining={pretraining!r}"
            )
        if likelihood is None:
            likelihood = Bernoulli() if pretraining == "rbm" else Gaussian(scale=1.0)
        likelihood = get_likelihood(likelihood)
        if pretraining == "rbm" and not isinstance(likelihood, Bernoulli):
            raise ValueError(
                "`pretraining='rbm'` describes binary data, so `likelihood` must be "
                f"'bernoulli'. Received: a {type(likelihood).__name__} likelihood"
            )
        sparsity = get_sparsity(sparsity)
        natural = sparsity.activation if pretraining == "sparse" else "sigmoid"
        fixed = pretraining in ("sparse", "rbm")
        if fixed and activation not in (None, natural):
            raise ValueError(
                f"The units of `pretraining='{pretraining}'` are {natural} here, so "
                f"`activation` must be None. Received: activation={activation!r}"
            )
        super().__init__(
            layer_dims[-1], activation=activation, likelihood=likelihood, **kwargs
        )
        self.layer_dims = layer_dims
        self.pretraining = pretraining
        if isinstance(pretraining_epochs, list):
            pretraining_epochs = tuple(pretraining_epochs)
        self.pretraining_epochs = pretraining_epochs
        self._epochs_by_layer = _check_epochs(pretraining_epochs, len(layer_dims))
        if pretraining_patience is not None:
            inputs.check_count("pretraining_patience", pretraining_patience, minimum=0)
        self.pretraining_patience = pretraining_patience
        self.sparsity = sparsity
        self.corruption = get_corruption(corruption, noise_level)
        self.noise_level = None
        self.gibbs_steps = inputs.check_count("gibbs_steps", gibbs_steps)
        self.feature_activation = natural if activation is None else activation
        if isinstance(likelihood, Bernoulli) and self.feature_activation == "sigmoid":
            self.feature_likelihood = Bernoulli()
        else:
            self.feature_likelihood = Gaussian(1.0, activation=self.feature_activation)
        self.contrastive_divergence = ContrastiveDivergence(self.gibbs_steps)
        if pretraining == "rbm":
            self.term_names = ("reconstruction", "contrastive_divergence")
        elif pretraining == "sparse" and sparsity.has_penalty:
            self.term_names = ("reconstruction", "sparsity")

    # Building

    def build_networks(self, image_shape):
        sizes = (math.prod(image_shape), *self.layer_dims)
        for layer, (below, above) in enumerate(zip(sizes, sizes[1:], strict=False)):
            if above > below:
                keeps = {"sparse": "its sparsity", "denoising": "its corruption"}
                warnings.warn(
                    f"Layer {layer + 1} has more units ({above}) than inputs "
                    f"({below}); {keeps.get(self.pretraining, 'nothing')} keeps it "
                    "from copying them.",
                    stacklevel=2,
                )
        options = {"dtype": self.dtype_policy}
        self.encoding = [
            keras.layers.Dense(above, name=f"encoding_{layer + 1}", **options)
            for layer, above in enumerate(self.layer_dims)
        ]
        self.decoding = [
            keras.layers.Dense(below, name=f"decoding_{layer + 1}", dtype="float32")
            for layer, below in enumerate(sizes[:-1])
        ]
        self.sparsity.build((None, self.layer_dims[0]))
        if self.pretraining == "sparse":
            config = self.sparsity.get_config()
            self.units = [self.sparsity] + [
                type(self.sparsity).from_config({**config, "name": f"units_{layer}"})
                for layer in range(2, len(sizes))
            ]
        else:
            self.units = [
                keras.layers.Activation(
                    self.feature_activation, name=f"units_{layer}", dtype="float32"
                )
                for layer in range(1, len(sizes))
            ]

        x = keras.Input(image_shape, name="x")
        h = keras.layers.Flatten(**options)(x)
        for encoding, units in zip(self.encoding, self.units, strict=True):
            h = units(encoding(h))
        self.encoder = keras.Model(x, h, name="encoder")

        z = keras.Input((self.latent_dim,), name="z")
        h = z
        for layer in reversed(range(len(self.layer_dims))):
            h = self.decoding[layer](h)
            if layer:
                h = keras.layers.Activation(self.feature_activation, dtype="float32")(h)
        if len(image_shape) > 1:
            h = keras.layers.Reshape(image_shape, dtype="float32")(h)
        self.decoder = keras.Model(z, h, name="decoder")

        for below in sizes[:-1]:
            check_corruption(self.corruption, (below,))

        # The phase that is next (from 1), and how many of its epochs are done.
        self.progress = self.add_weight(
            name="progress",
            shape=(2,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )
        self.progress.assign([1, 0])

    # The mathematics

    def call(self, x, training=False):
        x = self.to_floats(x)
        if self.training_layer is None:
            z = self.encoder(x, training=training)  # (batch, layer_dims[-1])
            return {"z": z, "parameters": self.decoder(z, training=training)}
        x = ops.reshape(x, (ops.shape(x)[0], -1))  # (batch, layer_dims[k - 1])
        encoding, units, decoding = self._layer(self.training_layer)
        if self.pretraining == "rbm":
            return self.contrastive_divergence(x, up=encoding, down=decoding)
        if self.pretraining == "denoising" and training:
            x = ops.cast(self.corruption(x, training=True), "float32")
        z = units(encoding(x), training=training)  # (batch, layer_dims[k])
        return {"z": z, "parameters": decoding(z)}

    def terms(self, x, outputs, training=False):
        log_prob = self._phase_likelihood.log_prob(
            *self._as_parameters(x, outputs), training
        )
        terms = {"reconstruction": -log_prob}  # (batch,)
        nothing = ops.zeros_like(log_prob)
        if "sparsity" in self.term_names:
            terms["sparsity"] = nothing
            if self.training_layer is not None:
                _, units, _ = self._layer(self.training_layer)
                terms["sparsity"] = units.penalty(outputs["z"], training)
        if "contrastive_divergence" in self.term_names:
            terms["contrastive_divergence"] = nothing
            if self.training_layer is not None:
                terms = {
                    "reconstruction": nothing,
                    "contrastive_divergence": outputs["contrastive_divergence"],
                }
        return terms

    def monitors(self, x, outputs, terms):
        x, parameters = self._as_parameters(x, outputs)
        mse = self._phase_likelihood.mean_squared_error(x, parameters)
        phase = self.training_layer or self._fine_tuning
        return {
            "phase": ops.full_like(mse, phase),
            **activity(outputs["z"]),
            "mse": mse,
        }

    def _examples(self, x):
        if self.training_layer in (None, 1):
            return super()._examples(x)
        return ops.cast(x, "float32")  # features of the layer below

    @property
    def _fine_tuning(self):
        """Number of the last phase, in which all layers learn."""
        return len(self.layer_dims) + 1

    @property
    def _phase_likelihood(self):
        is_data = self.training_layer in (None, 1)
        return self.likelihood if is_data else self.feature_likelihood

    def _as_parameters(self, x, outputs):
        """What is to be restored, in the shape of the parameters that restore it."""
        parameters = outputs["parameters"]
        return ops.reshape(x, (-1, *parameters.shape[1:])), parameters

    def _layer(self, number):
        parts = (self.encoding, self.units, self.decoding)
        return tuple(part[number - 1] for part in parts)

    def _layer_variables(self, number):
        encoding, _, decoding = self._layer(number)
        if self.pretraining == "rbm":
            # One kernel for both directions; the decoder's is set to its transpose.
            return [encoding.kernel, encoding.bias, decoding.bias]
        likelihood = self.likelihood if number == 1 else self.feature_likelihood
        return [
            variable
            for part in (encoding, decoding, likelihood)
            for variable in part.trainable_variables
        ]

    # Phases

    # The layer that learns by itself just now, from 1; None outside pretraining.
    training_layer: int | None = None
    # The layer whose variables the optimizer was built with; None for all.
    _optimized_layer: int | None = None

    # What learns is what is trainable, for Keras' trainers and optimizers too.

    @property
    def trainable_variables(self):
        if self.training_layer is None:
            return super().trainable_variables
        return self._layer_variables(self.training_layer)

    @property
    def non_trainable_variables(self):
        learning = {id(variable) for variable in self.trainable_variables}
        return [v for v in self.variables if id(v) not in learning]

    @property
    def trainable_weights(self):
        return self.trainable_variables

    @property
    def non_trainable_weights(self):
        learning = {id(variable) for variable in self.trainable_variables}
        return [v for v in self.weights if id(v) not in learning]

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
        self._optimized_layer = None
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
            with autodiff.build_scope(self):
                optimizer = keras.saving.deserialize_keras_object(json.loads(text))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Each phase starts with a new optimizer of the same settings. An "
                "optimizer or a schedule of your own must be registered for that, with "
                "`keras.saving.register_keras_serializable()`. Received: "
                f"{json.loads(text)['class_name']}"
            ) from error
        with autodiff.build_scope(self):
            super().compile(optimizer, **self._compile_choices)

    def _build_optimizer(self):
        if self._optimized_layer is None:
            return super()._build_optimizer()
        with autodiff.build_scope(self):
            self.optimizer.build(self._layer_variables(self._optimized_layer))

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
                f"All {len(self.layer_dims)} layers are pretrained; `fit` fine-tunes "
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
        self.forget_samplers()
        x = self._inspect(x, "x", y, learns=True)
        y = self._beside_weights(x, y, options.get("sample_weight"))
        validation_data = self._inspect_validation(validation_data)
        if isinstance(x, np.memmap) and y is None:
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
                        y,
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
            x = ops.reshape(self.to_floats(x), (ops.shape(x)[0], -1))
            return units(encoding(x), training=False)

        name = f"features_{layer}"
        if hasattr(data, "shape"):
            return self._in_batches(name, function, data, 1024)
        if isinstance(data, Batches) and not data.binarize:
            features = self._in_batches(name, function, data.images, 1024)
            options = {"shuffle": data.shuffle, "seed": data.seed}
            return Batches(features, data.batch_size, **options)
        (batch, _), _ = inputs.first_batch(data)
        features = self._in_batches(name, function, data, 1024)
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

    def classifier(self, num_classes: int, **kwargs) -> Classifier:
        """Returns a Keras model that shares the encoder and tells classes apart.

        Its `fit(x, y)` fine-tunes the encoder together with a new softmax layer.

        Args:
            num_classes: Classes, >= 2; labels are integers from 0.
            **kwargs: `corruption`, which spoils x in training, `name` and `dtype`; see
                `Classifier`.
        """
        self._require_built("classifier")
        return Classifier(self.encoder, num_classes, **kwargs)


class _Progress(keras.callbacks.Callback):
    """Notes after each epoch how far the phases are, before anything is saved."""

    def __init__(self, layer, done):
        super().__init__()
        self._layer = layer
        self._done = done

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        self._done += 1
        phase = self._layer or len(model.layer_dims) + 1
        model.progress.assign([phase, self._done])
        if self._layer and model.pretraining == "rbm":
            encoding, decoding = (
                part[self._layer - 1] for part in (model.encoding, model.decoding)
            )
            decoding.kernel.assign(ops.transpose(encoding.kernel))


def _as_text(optimizer):
    """An optimizer's settings as JSON; a dict would be tracked as part of the model."""
    return json.dumps(portable(keras.saving.serialize_keras_object(optimizer)))


def _check_layer_dims(layer_dims):
    if (
        not isinstance(layer_dims, tuple | list)
        or not layer_dims
        or any(
            not isinstance(units, int)
            or isinstance(units, bool)
            or not 1 <= units <= inputs.LARGEST
            for units in layer_dims
        )
    ):
        raise ValueError(
            "`layer_dims` must be a list of one or more integers >= 1, such as "
            f"(200, 200). Received: layer_dims={layer_dims!r}"
        )
    return tuple(layer_dims)


def _check_epochs(epochs, layers):
    given = epochs if isinstance(epochs, tuple) else (epochs,) * layers
    if len(given) != layers or any(
        not isinstance(count, int)
        or isinstance(count, bool)
        or not 0 <= count <= inputs.LARGEST
        for count in given
    ):
        raise ValueError(
            "`pretraining_epochs` must be an integer >= 0, or one for each of the "
            f"{layers} layers. Received: pretraining_epochs={epochs!r}"
        )
    return given


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
