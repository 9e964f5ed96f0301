"""Stacked sparse autoencoders: pretrained layer by layer, then fine-tuned."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.deterministic.classifier import Classifier
from keras_ae.models.deterministic.phases import Phases
from keras_ae.models.deterministic.sparse import activity
from keras_ae.nn import networks
from keras_ae.nn.layers import (
    ContrastiveDivergence,
    check_corruption,
    get_corruption,
    get_sparsity,
)
from keras_ae.probability.likelihoods import Bernoulli, Gaussian, get_likelihood

PRETRAINING = ("sparse", "denoising", "plain", "rbm")


class StackedSAE(Phases, Autoencoder):
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

    Pictures and volumes may have convolutional layers below the dense ones, `filters`.
    Then s(W_k h_{k-1} + b_k) is a convolution, which another one undoes, and a unit is
    a filter: its activations at all places share one mean, and each pays. The features
    of all examples, four bytes a value, must fit into memory: 10,000 pictures of 64 by
    64 by 16 filters take 2.6 GB, a quarter of it after a step of 2.

    Args:
        layer_dims: Units of each dense layer, the last of which is the code.
        filters: Filters of each convolutional layer, which come below the dense ones.
            Defaults to none.
        strides: Step of the filters, 1 or 2, a number or one for each convolutional
            layer; 2 halves the sides.
        kernel_size: Side of the filters, >= 1.
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
    monitor_names: tuple[str, ...] = ("phase", "mean_activation", "dead_units", "mse")
    # Its layers are learned one by one, each with a decoder of its own.
    starts_at_mean = False
    settled_arguments: tuple[str, ...] = (
        "latent_dim",
        "architecture",
        "widths",
        "encoder",
        "decoder",
    )

    def __init__(
        self,
        layer_dims: Sequence[int] = (200, 200),
        *,
        filters: Sequence[int] = (),
        strides: int | Sequence[int] = 2,
        kernel_size: int = 3,
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
        layer_dims = _check_counts("layer_dims", layer_dims)
        filters = _check_counts("filters", filters, least=0)
        strides = tuple(strides) if isinstance(strides, list) else strides
        strides_by_layer = _check_strides(strides, len(filters))
        checks.check_count("kernel_size", kernel_size)
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
        if pretraining == "rbm" and filters:
            raise ValueError(
                "`pretraining='rbm'` is of dense layers, so `filters` must be empty. "
                f"Received: filters={filters!r}"
            )
        if likelihood.numbers_per_value > 1:
            raise ValueError(
                f"`likelihood` of a `{type(self).__name__}`, of mirrored layers, "
                "must take one number a value. Received: a "
                f"{type(likelihood).__name__} with scale='predicted'"
            )
        sparsity = get_sparsity(sparsity)
        natural = sparsity.activation if pretraining == "sparse" else "sigmoid"
        fixed = pretraining in ("sparse", "rbm")
        if fixed and activation not in (None, natural):
            raise ValueError(
                f"The units of `pretraining='{pretraining}'` are {natural} here, so "
                f"`activation` must be None. Received: activation={activation!r}"
            )
        options = {"activation": activation, "likelihood": likelihood, **kwargs}
        super().__init__(layer_dims[-1], **options)
        self.layer_dims = layer_dims
        self.filters = filters
        self.strides = strides
        self._strides_by_layer = strides_by_layer
        self.kernel_size = kernel_size
        self.depth = len(filters) + len(layer_dims)
        self.pretraining = pretraining
        if isinstance(pretraining_epochs, list):
            pretraining_epochs = tuple(pretraining_epochs)
        self.pretraining_epochs = pretraining_epochs
        self._epochs_by_layer = _check_epochs(pretraining_epochs, self.depth)
        if pretraining_patience is not None:
            checks.check_count("pretraining_patience", pretraining_patience, minimum=0)
        self.pretraining_patience = pretraining_patience
        self.sparsity = sparsity
        self.corruption = get_corruption(corruption, noise_level)
        self.noise_level = None
        self.gibbs_steps = checks.check_count("gibbs_steps", gibbs_steps)
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
        if self.filters and len(image_shape) < 2:
            raise ValueError(
                "Convolutional layers need pictures or volumes, so `filters` must be "
                f"empty for examples of shape {tuple(image_shape)}. Received: "
                f"filters={self.filters!r}"
            )
        self.encoding, self.decoding, self._shapes = networks.stacked_layers(
            image_shape,
            self.filters,
            self._strides_by_layer,
            self.kernel_size,
            self.layer_dims,
            self.dtype_policy,
        )
        sizes = [math.prod(shape) for shape in self._shapes]
        for layer, (below, above) in enumerate(zip(sizes, sizes[1:], strict=False)):
            if above > below:
                keeps = {"sparse": "its sparsity", "denoising": "its corruption"}
                warnings.warn(
                    f"Layer {layer + 1} has more units ({above}) than inputs "
                    f"({below}); {keeps.get(self.pretraining, 'nothing')} keeps it "
                    "from copying them.",
                    stacklevel=2,
                )
        self.sparsity.build((None, (*self.filters, *self.layer_dims)[0]))
        if self.pretraining == "sparse":
            config = self.sparsity.get_config()
            self.units = [self.sparsity] + [
                type(self.sparsity).from_config({**config, "name": f"units_{layer}"})
                for layer in range(2, self.depth + 1)
            ]
        else:
            self.units = [
                keras.layers.Activation(
                    self.feature_activation, name=f"units_{layer}", dtype="float32"
                )
                for layer in range(1, self.depth + 1)
            ]

        x = keras.Input(image_shape, name="x")
        h = x
        for shape, encoding, units in zip(
            self._shapes[:-1], self.encoding, self.units, strict=True
        ):
            h = units(encoding(_shaped(h, shape, self.dtype_policy)))
        self.encoder = keras.Model(x, h, name="encoder")

        z = keras.Input((self.latent_dim,), name="z")
        h = z
        for layer in reversed(range(self.depth)):
            h = self.decoding[layer](h)
            if layer:
                h = keras.layers.Activation(self.feature_activation, dtype="float32")(h)
                h = _shaped(h, self.encoding[layer - 1].output.shape[1:], "float32")
        self.decoder = keras.Model(
            z, _shaped(h, image_shape, "float32"), name="decoder"
        )

        for shape in self._shapes[:-1]:
            check_corruption(self.corruption, shape)

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
        x = self.as_taken(x, self.training_layer)  # (batch, layer_dims[k - 1])
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
                terms["sparsity"] = _penalty(units, outputs["z"], training)
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

    def check_batch(self, x):
        if self.training_layer in (None, 1):
            return super().check_batch(x)
        return ops.cast(x, "float32")  # features of the layer below

    @property
    def _fine_tuning(self):
        """Number of the last phase, in which all layers learn."""
        return self.depth + 1

    @property
    def _phase_likelihood(self):
        is_data = self.training_layer in (None, 1)
        return self.likelihood if is_data else self.feature_likelihood

    def _as_parameters(self, x, outputs):
        """What is to be restored, in the shape of the parameters that restore it."""
        parameters = outputs["parameters"]
        return ops.reshape(x, (-1, *parameters.shape[1:])), parameters

    def as_taken(self, x, number: int):
        """Returns x, or the features of the layer below, as layer `number` takes it."""
        return ops.reshape(x, (ops.shape(x)[0], *self._shapes[number - 1]))

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

    def classifier(self, num_classes: int, **kwargs) -> Classifier:
        """Returns a Keras model that shares the encoder and tells classes apart.

        Its `fit(x, y)` fine-tunes the encoder together with a new softmax layer.
        Samplers that were fitted before then fit codes that are no more: fit others.

        Args:
            num_classes: Classes, >= 2; labels are integers from 0.
            **kwargs: `corruption`, which spoils x in training, `name` and `dtype`; see
                `Classifier`.
        """
        self.require_built("classifier")
        return Classifier(self.encoder, num_classes, **kwargs)


def _shaped(x, shape, dtype):
    """A symbolic tensor in the shape that the next layer takes."""
    if tuple(x.shape[1:]) == tuple(shape):
        return x
    if len(shape) == 1:
        return keras.layers.Flatten(dtype=dtype)(x)
    return keras.layers.Reshape(shape, dtype=dtype)(x)


def _penalty(sparsity, z, training):
    """What features `(batch, ..., filters)` pay, over all places, `(batch,)`."""
    places = ops.reshape(z, (-1, z.shape[-1]))
    penalty = sparsity.penalty(places, training)
    return ops.sum(ops.reshape(penalty, (ops.shape(z)[0], -1)), axis=-1)


def _check_counts(name, counts, least=1):
    if (
        not isinstance(counts, tuple | list)
        or len(counts) < least
        or any(
            not isinstance(count, int | np.integer)
            or isinstance(count, bool)
            or not 1 <= count <= checks.LARGEST
            for count in counts
        )
    ):
        number = "one or more integers" if least else "integers"
        raise ValueError(
            f"`{name}` must be a list of {number} >= 1, such as (200, 200). "
            f"Received: {name}={counts!r}"
        )
    return tuple(map(int, counts))


def _check_strides(strides, layers):
    given = strides if isinstance(strides, tuple) else (strides,)
    fits = len(given) == layers or not isinstance(strides, tuple)
    if not fits or any(isinstance(s, bool) or s not in (1, 2) for s in given):
        raise ValueError(
            "`strides` must be 1 or 2, or one of them for each of the "
            f"{layers} convolutional layers. Received: strides={strides!r}"
        )
    return given if isinstance(strides, tuple) else given * layers


def _check_epochs(epochs, layers):
    given = epochs if isinstance(epochs, tuple) else (epochs,) * layers
    if len(given) != layers or any(
        not isinstance(count, int | np.integer)
        or isinstance(count, bool)
        or not 0 <= count <= checks.LARGEST
        for count in given
    ):
        raise ValueError(
            "`pretraining_epochs` must be an integer >= 0, or one for each of the "
            f"{layers} layers. Received: pretraining_epochs={epochs!r}"
        )
    return given
