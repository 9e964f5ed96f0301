"""What every autoencoder shares: building, one training step, the verbs, saving."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ae import inputs
from keras_ae.backend import autodiff, dispatch
from keras_ae.datasets import Batches
from keras_ae.models.base.sampling import Samples
from keras_ae.models.base.verbs import Verbs
from keras_ae.nn import networks
from keras_ae.probability import likelihoods
from keras_ae.training import feeding, optimizers
from keras_ae.training.running_means import Figure, Figures


class Player(NamedTuple):
    """Who learns what: `variables` descend the sum of `terms`.

    Attributes:
        terms: Function of (x, outputs, training) that returns named losses, each
            `(batch,)`. It may add to `outputs` what its monitors look at.
        variables: What the player learns.
        monitors: Function of (x, outputs, terms) that returns figures to log.
        name: One of the model's `player_names`.
        plays: None, or a function of nothing that returns whether the player takes this
            step, a boolean scalar; otherwise its variables and optimizer stay as they
            are.
    """

    terms: Callable[..., dict[str, Any]]
    variables: Sequence[keras.Variable]
    monitors: Callable[..., dict[str, Any]] | None = None
    name: str = ""
    plays: Callable[[], Any] | None = None


class _BuildsFromImageShape(type(keras.Model)):
    """Builds a model that knows its `image_shape` when its constructor has run."""

    def __call__(cls, *args, **kwargs):
        model = super().__call__(*args, **kwargs)
        if model.image_shape is not None and not model.built:
            model.build((None, *model.image_shape))
        return model


class Autoencoder(Samples, Verbs, keras.Model, metaclass=_BuildsFromImageShape):
    """Base of all models: an encoder, a decoder, a likelihood and named loss terms.

    A subclass says what its network computes (`call`, a dict of tensors) and what it
    minimises (`terms`, a dict of losses per example). The loss is the mean over the
    batch of the sum of the terms, in training and validation alike, and each term is
    logged under its name: the logged loss is the sum of the logged terms. Terms are in
    nats, summed over pixels and over latent dimensions.

    A model of several players (`players`, `player_names`) has terms and an optimizer
    for each of them. Then the loss is the sum of all players' terms, and of weights'
    regularisers. The sum of a player's own terms is logged as `{player}_loss`, in
    training beside `{player}_gradient_norm`, the norm of its gradient (with
    `tf.distribute` the mean of that on each replica).

    Every constructor argument is kept as the attribute of the same name, which is what
    `get_config` returns.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example: `(features,)`, `(height, width)`,
            `(height, width, channels)` or, for dense networks and your own, any other.
            Defaults to the shape of the first batch that `fit` meets.
        architecture: The networks: `"linear"`, `"dense"`, `"conv"`, `"residual"`, or
            `"auto"` (convolutions for pictures of at least 16 by 16 pixels).
        widths: Units of each dense layer, or filters of each stage of stride 2, of the
            encoder; the decoder mirrors them. See `networks.resolve` for defaults.
        activation: Activation of the hidden layers.
        likelihood: Distribution of the data given a code: `"bernoulli"`,
            `"continuous_bernoulli"`, `"gaussian"`, `"laplace"`,
            `"discretized_logistic"`, or an instance from `keras_ae.likelihoods`.
        encoder: Your own encoder, a Keras model, instead of a named architecture.
        decoder: Your own decoder, a Keras model from codes `(batch, latent_dim)` to the
            likelihood's parameters `(batch, *image_shape)`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras model.
    """

    term_names: tuple[str, ...] = ("reconstruction",)
    monitor_names: tuple[str, ...] = ("mse",)
    player_names: tuple[str, ...] = ()
    # Of the monitors, those that may be NaN for some examples: see `Figures`.
    partly_known: tuple[str, ...] = ()
    # The logged value that tells which weights are best; None for the last ones.
    score_name: str | None = "loss"
    encoder_heads: tuple[str, ...] = ("z",)
    # Whether a code has the pixels themselves, and is no summary of the picture.
    keeps_pixels: bool = False
    # Whether every example that `fit` and `evaluate` are given must have a label.
    needs_labels: bool = False
    # Whether a `y` of the shape of `x` may be something else than `x` again.
    takes_targets: bool = False
    # Whether `sample_weight` may weigh each value of x: its loss is the likelihood's.
    takes_value_weights: bool = True
    # Arguments of this constructor that a subclass settles itself and does not take.
    settled_arguments: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.__signature__ = _signature(cls)
        keras.saving.register_keras_serializable(package="keras_ae")(cls)

    def __init__(
        self,
        latent_dim: int = 32,
        image_shape: Sequence[int] | None = None,
        architecture: str = "auto",
        widths: Sequence[int] | None = None,
        activation: str = "relu",
        likelihood: Any = "gaussian",
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_dim = inputs.check_count("latent_dim", latent_dim)
        self._asked_shape = None if image_shape is None else _image_shape(image_shape)
        networks.resolve((64, 64), architecture, widths)
        self.architecture = architecture
        self.widths = None if widths is None else tuple(widths)
        self.activation = activation
        self.likelihood = likelihoods.get_likelihood(likelihood)
        self.encoder = encoder
        self.decoder = decoder
        self._given = {"encoder": encoder is not None, "decoder": decoder is not None}
        self._compiled_functions = {}
        self._evaluating = False
        self.compile()

    @classmethod
    def refuse_settled(cls, arguments: dict[str, Any], reason: str) -> None:
        """Raises `ValueError` for an argument that the class settles itself."""
        for name in cls.settled_arguments:
            if name in arguments:
                raise ValueError(
                    f"`{name}` must be left out: {reason}. "
                    f"Received: {name}={arguments[name]!r}"
                )

    # Building

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of one example; None until it is known."""
        return getattr(self, "built_image_shape", self._asked_shape)

    def build(self, input_shape):
        image_shape = _image_shape(input_shape[1:])
        if self.image_shape not in (None, image_shape):
            raise ValueError(
                f"{type(self).__name__} was made for examples of shape "
                f"{self.image_shape} (`image_shape`). Received examples of shape "
                f"{image_shape}; resize them or make another model."
            )
        if self._asked_shape is None and not any(self._given.values()):
            # What is said explicitly is not questioned.
            networks.check_channels_last(image_shape, self.architecture)
        self.built_image_shape = image_shape
        self.build_networks(image_shape)
        of_activity = [
            layer.name
            for layer in self._flatten_layers(include_self=False)
            if getattr(layer, "activity_regularizer", None) is not None
        ]
        if of_activity and self.player_names:
            raise ValueError(
                "Networks of a model of several players may have regularizers of "
                "weights, not of activities. Received: an `activity_regularizer` of "
                f"{', '.join(of_activity)}"
            )
        regularized = bool(self.losses) or bool(of_activity)
        names = (
            *self.term_names,
            *(("regularization",) if regularized else ()),
            *self.monitor_names,
            *(f"{player}_loss" for player in self.player_names),
            *self._training_figures,
        )
        self.figures = Figures(names, self.partly_known)
        self._loss_figure = Figure("loss", lambda: self.get_metrics_result()["loss"])
        self.built = True
        self._build_optimizer()

    def network_options(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Returns arguments for `networks.encoder` and `networks.decoder`."""
        return {
            "image_shape": image_shape,
            "latent_dim": self.code_dim,
            "architecture": self.architecture,
            "widths": self.widths,
            "activation": self.activation,
            "dtype": self.dtype_policy,
        }

    def encoder_options(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Returns arguments for `networks.encoder`, with what only it is given."""
        return {**self.network_options(image_shape), "heads": self.encoder_heads}

    def build_networks(self, image_shape: tuple[int, ...]) -> None:
        """Makes the networks; a subclass adds what else has variables."""
        options = self.encoder_options(image_shape)
        if self.encoder is None:
            self.encoder = self.build_encoder(**options)
        if self.decoder is None:
            self.decoder = self.build_decoder(**self.network_options(image_shape))
        heads = networks.head_dims(options["heads"], options["latent_dim"])
        expected = {name: (units,) for name, units in heads.items()}
        if len(expected) == 1:
            (expected,) = expected.values()
        networks.check("encoder", self.encoder, options["image_shape"], expected)
        networks.check("decoder", self.decoder, (self.code_dim,), image_shape)

    def add_number(self, name: str, value: float) -> keras.Variable:
        """Returns a number as a variable, which a callback can change in training.

        A Python number would be frozen when the step is traced.
        """
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=False,
            dtype="float32",
        )

    def build_encoder(self, **options) -> keras.Model:
        """Makes the encoder from the arguments of `networks.encoder`."""
        return networks.encoder(**options)

    def build_decoder(self, **options) -> keras.Model:
        """Makes the decoder from the arguments of `networks.decoder`."""
        return networks.decoder(**options)

    # Training

    def compile(
        self,
        optimizer: Any = None,
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        jit_compile: bool | str = "auto",
        steps_per_execution: int | str = "auto",
        **kwargs,
    ) -> None:
        """Configures training; the constructor has done it already, with Adam(1e-3).

        Args:
            optimizer: A Keras optimizer, or its name. For a model of several players a
                dict of them by player, or one of which each player gets its own; the
                others keep the default.
            loss, loss_weights, metrics, weighted_metrics: Not used: the model names its
                own terms, and the likelihood is an argument of the constructor.
            jit_compile: As in `keras.Model.compile`.
            steps_per_execution: How many steps `fit` takes in one dispatch, and between
                calls of the callbacks' `on_train_batch_end`. By default it chooses,
                and takes one where a callback does something at each batch.
            **kwargs: `run_eagerly` and `auto_scale_loss`, as in `keras.Model.compile`.

        Raises:
            ValueError: If a loss or metrics are passed, or an optimizer for a name
                that is no player.
        """
        unused = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        for name, value in unused.items():
            if value is not None:
                raise ValueError(
                    f"`{name}` must be None: {type(self).__name__} minimises its own "
                    f"terms ({', '.join(self.term_names)}); choose what it "
                    f"reconstructs with `likelihood=`. Received: {name}={value!r}"
                )
        # The choice is saved, not what it came to: "auto" differs between backends.
        self._compile_choices = {
            "jit_compile": jit_compile,
            "steps_per_execution": steps_per_execution,
            **kwargs,
        }
        if steps_per_execution != "auto":
            inputs.check_count("steps_per_execution", steps_per_execution)
        self.steps_choice = steps_per_execution
        if self.optimizer_names:
            scaled = kwargs.pop("auto_scale_loss", True)
            kwargs["auto_scale_loss"] = False
            with autodiff.build_scope(self):
                optimizer = optimizers.for_players(
                    optimizer,
                    self.optimizer_names,
                    self.default_optimizers(),
                    scale_loss=scaled and self.dtype_policy.name == "mixed_float16",
                )
        elif isinstance(optimizer, dict):
            raise ValueError(
                f"`optimizer` must be one Keras optimizer: {type(self).__name__} has "
                f"one player. Received: optimizers for {', '.join(map(str, optimizer))}"
            )
        super().compile(
            optimizer=keras.optimizers.Adam(1e-3) if optimizer is None else optimizer,
            jit_compile=jit_compile,
            steps_per_execution=self._steps_told,
            **kwargs,
        )
        if self.built:
            self._build_optimizer()

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """What has an optimizer of its own: each player of several."""
        return self.player_names

    def default_optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Returns what each of `optimizer_names` learns with by default."""
        return {name: keras.optimizers.Adam(1e-3) for name in self.optimizer_names}

    def _variables_by_optimizer(self):
        return {player.name: player.variables for player in self.players()}

    def _build_optimizer(self):
        variables = self.trainable_variables
        if self.optimizer_names:
            variables = {
                name: owned if self.trainable else []
                for name, owned in self._variables_by_optimizer().items()
            }
        # With the networks, so that whatever is saved holds the optimizer's state.
        with autodiff.build_scope(self):
            self.optimizer.build(variables)

    def get_compile_config(self):
        optimizer = keras.saving.serialize_keras_object(self.optimizer)
        return {"optimizer": optimizers.portable(optimizer), **self._compile_choices}

    def compile_from_config(self, config):
        config = dict(config)
        optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"))
        self.compile(optimizer, **config)

    def players(self) -> list[Player]:
        """Who plays, in order, on each batch. One player learns everything."""
        return [Player(self.terms, self.trainable_variables, self.monitors)]

    def call(self, x, training=False) -> dict[str, Any]:
        """Returns what the network computes on a batch, a dict of tensors."""
        raise NotImplementedError

    def terms(self, x, outputs, training=False) -> dict[str, Any]:
        """Returns the named losses, each `(batch,)`, in nats."""
        raise NotImplementedError

    def monitors(self, x, outputs, terms) -> dict[str, Any]:
        """Returns figures to log that are not part of the loss, each `(batch,)`."""
        return {"mse": self.likelihood.mean_squared_error(x, outputs["parameters"])}

    @property
    def _steps_told(self):
        """Steps in an execution, but for what `fit` chooses."""
        return 1 if self.steps_choice == "auto" else self.steps_choice

    @contextlib.contextmanager
    def _executing(self, steps):
        """Sets the number of steps in an execution, as long as the block lasts."""
        before, self.steps_per_execution = self.steps_per_execution, steps
        try:
            yield
        finally:
            self.steps_per_execution = before

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        if dispatch.fuses_steps(self):
            self.train_function = dispatch.many_steps(self, self.train_step)
        elif dispatch.records_steps(self):
            self.train_function = dispatch.recorded(self, self.train_step)
        else:
            super().make_train_function(force)

    def make_test_function(self, force=False):
        if self.test_function is not None and not force:
            return
        if dispatch.fuses_steps(self):
            self.test_function = dispatch.many_steps(self, self.test_step)
        elif dispatch.records_steps(self):
            self.test_function = dispatch.recorded(self, self.test_step)
        else:
            super().make_test_function(force)

    def _forget_recorded(self, *functions):
        """Lets whatever has been changed between calls have its effect."""
        for function in functions:
            if hasattr(getattr(self, function), "steps"):
                setattr(self, function, None)

    def train_step(self, *arguments):
        return autodiff.run_step(
            self._train_on,
            arguments,
            (
                self.trainable_variables,
                self.non_trainable_variables,
                self.optimizer.variables,
                self.metrics_variables,
            ),
        )

    def test_step(self, *arguments):
        return autodiff.run_step(
            self._test_on,
            arguments,
            (
                self.trainable_variables,
                self.non_trainable_variables,
                self.metrics_variables,
            ),
        )

    def predict_step(self, *arguments):
        # JAX's trainer takes two groups of variables here and wants one of them back.
        result = autodiff.run_step(
            self._predict_on,
            arguments,
            (self.trainable_variables, self.non_trainable_variables),
        )
        if len(arguments) == 1:
            return result
        outputs, (_, non_trainable_variables) = result
        return outputs, non_trainable_variables

    def _train_on(self, data):
        batch = self._unpack(data)
        for player in self.players():

            def loss_fn(player=player):
                losses, figures = self._objective(player, *batch, training=True)
                return ops.mean(losses), figures

            optimizer = self.optimizer[player.name] if player.name else self.optimizer
            plays = None if player.plays is None else player.plays()
            figures, norm, _ = autodiff.minimize(
                self,
                loss_fn,
                player.variables if self.trainable else [],
                optimizer,
                condition=plays,
                with_norm=bool(player.name),
            )
            if player.name:
                # Loss scaling expects a gradient to overflow now and then.
                finite = ops.isfinite(norm)
                norm = ops.where(finite, norm, 0.0), finite
                figures = {**figures, f"{player.name}_gradient_norm": norm}
            self._track(figures)
        self._track_regularization()
        self.end_step()
        return self.get_metrics_result()

    def end_step(self) -> None:
        """What follows the players' updates in a training step: a running average."""

    def _test_on(self, data):
        batch = self._unpack(data)
        # Who plays several times a batch in training is measured once.
        for player in {player.name: player for player in self.players()}.values():
            self._track(self._objective(player, *batch, training=False)[1])
        self._track_regularization()
        return self.get_metrics_result()

    def _predict_on(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self._reconstruct(self._examples(x))

    def _unpack(self, data):
        """Returns what to restore, what else `call` is given by name, the weights."""
        x, _, weight = keras.utils.unpack_x_y_sample_weight(data)
        return self._examples(x), {}, weight

    def _examples(self, x):
        """Returns a batch in float32, or refuses its shape."""
        shape = tuple(x.shape[1:])
        if None in shape and len(shape) == len(self.built_image_shape):
            # tf.data knows the shape of what it decodes only when it has decoded it.
            x = ops.reshape(x, (-1, *self.built_image_shape))
        elif shape != self.built_image_shape:
            raise ValueError(
                f"{type(self).__name__} was built for examples of shape "
                f"{self.built_image_shape}. Received a batch of shape {tuple(x.shape)}"
            )
        return self.to_floats(x)

    def _objective(self, player, x, others, weight, training):
        """Returns a player's losses `(batch,)` and every figure to log, by name."""
        of_values, weight = self._weights(weight)
        outputs = self(x, training=training, **others)
        # Of this call, not of those that terms may make.
        penalties = self.losses
        with self.likelihood.weighing(of_values):
            terms = player.terms(x, outputs, training=training)
        figures = {} if player.monitors is None else player.monitors(x, outputs, terms)
        if weight is not None:
            terms = {name: value * weight for name, value in terms.items()}
        losses = sum(terms.values())  # (batch,)
        figures = {**terms, **figures}
        if player.name:
            figures[f"{player.name}_loss"] = losses
            return losses + self._regularization(player.name), figures
        if penalties:
            penalty = ops.sum(ops.stack([ops.cast(v, "float32") for v in penalties]))
            losses = losses + penalty
            figures["regularization"] = ops.broadcast_to(penalty, ops.shape(losses))
        return losses, figures

    def _weights(self, weight):
        """Splits `sample_weight` into weights of values and weights of examples.

        Returns:
            Tensors `(batch, *image_shape)` and `(batch,)`, one of them None at least.
        """
        if weight is None:
            return None, None
        of_values = self._weighs_values(weight.shape)
        weight = ops.cast(weight, "float32")
        return (weight, None) if of_values else (None, ops.reshape(weight, (-1,)))

    def _weighs_values(self, shape):
        """Whether a `sample_weight` of this shape has one weight a value of x."""
        shape = tuple(shape)[1:]
        if shape in ((), (1,)):
            return False
        if shape == self.built_image_shape and self.takes_value_weights:
            return True
        a_value = f", or (n, {str(self.built_image_shape)[1:]}, one a value of `x`"
        raise ValueError(
            "`sample_weight` must have the shape (n,), one weight an example"
            f"{a_value if self.takes_value_weights else ''}. "
            f"Received: weights of shape (n, {str(shape)[1:]}"
        )

    def _check_weight(self, weight):
        """Refuses weights in an array that can't weigh anything."""
        if not hasattr(weight, "shape") or not len(weight.shape):
            weight = np.asarray(weight)
        self._weighs_values(weight.shape)
        low = float(ops.convert_to_numpy(weight).min(initial=0))
        high = float(ops.convert_to_numpy(weight).max(initial=0))
        if not (low >= 0 and np.isfinite(high)):
            raise ValueError(
                "`sample_weight` must be finite and >= 0. Received: weights from "
                f"{low:g} to {high:g}"
            )

    def _beside_weights(self, x, y, weight):
        """Checks weights, and returns labels to ignore where there are none.

        Keras drops weights without labels.
        """
        if weight is None:
            return y
        self._check_weight(weight)
        return np.zeros(x.shape[0], "float32") if y is None else y

    def _regularization(self, name=None):
        """Sum of the weights' regularisers: of one of several players, or of all.

        Where several players own a weight, it is regularised by the first of them.
        """
        owners = {}
        for player in self.players():
            for variable in player.variables:
                owners.setdefault(id(variable), (variable, player.name))
        penalties = [
            ops.cast(variable.regularizer(variable), "float32")
            for variable, owner in owners.values()
            if variable.regularizer is not None and name in (None, owner)
        ]
        return sum(penalties, ops.zeros(()))

    def _track_regularization(self):
        if self.player_names and "regularization" in self.figures.names:
            self._track({"regularization": self._regularization()})

    def _track(self, figures):
        unknown = figures.keys() - set(self.figures.names)
        if unknown:
            raise ValueError(
                f"{type(self).__name__} must list its terms in `term_names` and its "
                f"figures in `monitor_names`. Received: {sorted(unknown)}, in neither"
            )
        self.figures.update_state(figures)

    @property
    def metrics(self):
        return [self._loss_figure, *self.figures.each] if self.built else []

    @property
    def metrics_names(self):
        """Names of what `evaluate` returns as a list."""
        return [
            metric.name
            for metric in self.metrics
            if metric.name not in self._training_figures
        ]

    def _flatten_metrics_in_order(self, logs):
        """What Keras' methods return instead of a dict, in that order."""
        return [logs[name] for name in self.metrics_names]

    @property
    def metrics_variables(self):
        if not self.built:
            return []
        own = [
            variable for metric in self._own_metrics for variable in metric.variables
        ]
        return [*self.figures.variables, *own]

    @property
    def _own_metrics(self):
        """Those that a subclass adds to `metrics`."""
        ours = (self._loss_figure, *self.figures.each)
        return [metric for metric in self.metrics if metric not in ours]

    def reset_metrics(self):
        if self.built:
            for metric in (self.figures, *self._own_metrics):
                metric.reset_state()

    @property
    def _training_figures(self):
        """What only training knows."""
        return tuple(f"{player}_gradient_norm" for player in self.player_names)

    def get_metrics_result(self):
        """Returns the loss, which is the sum of the terms, and all logged figures."""
        hidden = self._training_figures if self._evaluating else ()
        results = {
            name: value
            for name, value in self.figures.result().items()
            if name not in hidden
        }
        for metric in self._own_metrics:
            # On PyTorch a result may be the variable itself, which is reset in place.
            results[metric.name] = keras.tree.map_structure(ops.copy, metric.result())
        terms = [results[name] for name in self.term_names]
        if "regularization" in results:
            terms.append(results["regularization"])
        return {"loss": sum(terms), **results}

    # Data

    def to_floats(self, x):
        """Returns x in float32; integers are read as 0-255 and divided by 255."""
        return inputs.to_floats(x)

    def fit(self, x=None, y=None, *args, validation_data=None, **kwargs):
        """Trains the model; see `keras.Model.fit`, whose arguments it takes.

        On JAX and TensorFlow many short steps are taken in one dispatch (see
        `compile`). On PyTorch a step is recorded at the second batch of a shape,
        compared at the third, and from then on its kernels run alone; what Python code
        decides in a step it decides once a `fit`, except with
        `compile(run_eagerly=True)`. On JAX and PyTorch, arrays that fit on an
        accelerator are moved there once, as they are, and cut into batches and scaled
        there. A tensor stays on the device that it is on; a `tf.data.Dataset` and a
        `keras.utils.PyDataset` are streamed. `model.feeding` tells what the last `fit`
        has chosen. None of it changes a result by more than rounding.

        Args:
            x: An array or tensor `(n, *image_shape)`, a frame of pandas or polars, a
                `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`, a
                grain loader, or a generator of batches. 8-bit pictures are read as
                0-255; everything else must be floats.
            y: Labels, which are ignored, or `x` again: that is what is restored.
            validation_data: Data as `x`, or a tuple `(x, y)`.
            *args, **kwargs: As in `keras.Model.fit`.

        Returns:
            Keras' `History`: the loss, its terms and monitors by epoch.

        Raises:
            ValueError: If the first batch is not what the model can describe.
        """
        self.forget_samplers()
        y = inputs.plain(y)
        x = self._inspect(x, "x", y, learns=True)
        y = self._beside_weights(x, y, kwargs.get("sample_weight"))
        validation_data = self._inspect_validation(validation_data)
        if isinstance(x, np.memmap) and y is None and not args:
            x, kwargs = streamed(x, kwargs)
        history = self._feed(x, y, *args, validation_data=validation_data, **kwargs)
        self._end_fit(x, args[2] if len(args) > 2 else kwargs.get("verbose", "auto"))
        return history

    def _end_fit(self, x, verbose):
        """Keeps data to look for their codes, and tells whoever looks on where."""
        self.remember(x)
        if verbose in (0, "0") or self._chooses_later:
            return
        choice = self.choose_sampler()
        if choice is not None:
            print(choice)

    def _feed(self, *args, **kwargs):
        """Runs Keras' `fit`, fed as fast as the backend can."""
        arguments = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs)
        arguments, self.feeding = feeding.prepare(
            self, {k: v for k, v in arguments.arguments.items() if k != "self"}
        )
        self._forget_recorded("train_function", "test_function")
        with self._executing(self.feeding.steps_per_execution):
            return keras.Model.fit(self, **arguments)

    def _inspect_validation(self, data):
        """Inspects validation data: a tuple `(x, y, weights)`, a data set or None."""
        if data is None:
            return None
        if not isinstance(data, tuple | list):
            return self._inspect(data, "validation_data")
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        y = inputs.plain(y)
        x = self._inspect(x, "validation_data", y)
        return x, self._beside_weights(x, y, weight), weight

    def epochs_left(self, epochs: int, done: int) -> int:
        """Returns how many epochs a `fit` of `epochs` would train after `done`."""
        return max(0, epochs - done)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Returns the loss, its terms and monitors; see `keras.Model.evaluate`."""
        y = inputs.plain(y)
        if "_use_cached_eval_dataset" not in kwargs:
            x = self._inspect(x, "x", y)
        # After `batch_size` and `verbose`.
        weight = args[2] if len(args) > 2 else kwargs.get("sample_weight")
        y = self._beside_weights(x, y, weight)
        cached = kwargs.get("_use_cached_eval_dataset")
        steps = self.steps_per_execution if cached else self._steps_told
        if not cached:
            # A callback may evaluate while the other function trains.
            self._forget_recorded("test_function")
        self._evaluating = True
        try:
            with self._executing(steps):
                return super().evaluate(x, y, *args, **kwargs)
        finally:
            self._evaluating = False

    def predict(self, x, *args, **kwargs):
        """Returns the reconstructions; see `keras.Model.predict`."""
        x = self._inspect(x, "x", restored=False)
        with self._executing(self._steps_told):
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Takes one step on one batch; see `keras.Model.train_on_batch`."""
        x = self._inspect(x, "x", y, learns=not self.built)
        self._forget_recorded("train_function")
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """Evaluates one batch; see `keras.Model.test_on_batch`."""
        x = self._inspect(x, "x", y)
        self._forget_recorded("test_function")
        self._evaluating = True
        try:
            return super().test_on_batch(x, y, *args, **kwargs)
        finally:
            self._evaluating = False

    def predict_on_batch(self, x):
        """Reconstructs one batch; see `keras.Model.predict_on_batch`."""
        return super().predict_on_batch(self._inspect(x, "x", restored=False))

    def _inspect(self, data, name, y=None, restored=True, learns=False):
        """Builds from the first batch, or refuses it; returns the data, unconsumed.

        Args:
            data: What the user passed as `name`.
            name: How errors call it.
            y: What the user passed beside it.
            restored: Whether the data are what is to be restored, not only encoded.
            learns: Whether the model will be trained on them.
        """
        data = inputs.plain(data)
        if autodiff.is_traced(data):
            self._require_built("map")
            return data
        if isinstance(data, list | tuple):
            raise ValueError(
                f"`{name}` must be one array (examples, ...) or a data set of batches. "
                f"Received a {type(data).__name__} of {len(data)} items; pictures of "
                "one size become an array with `numpy.stack`."
            )
        if data is None:
            raise ValueError(f"`{name}` must be given. Received: {name}=None")
        (batch, target), data = inputs.first_batch(data)
        if not hasattr(batch, "shape") or len(batch.shape) < 2:
            raise ValueError(
                f"`{name}` must hold batches (batch, features), (batch, height, width) "
                "or (batch, height, width, channels). Received: "
                f"{getattr(batch, 'shape', type(batch).__name__)}"
            )
        if batch.shape[0] == 0:
            raise ValueError(f"`{name}` must not be empty. Received no examples.")
        if not self.built:
            with autodiff.build_scope(self):
                self.build((None, *batch.shape[1:]))
        if tuple(batch.shape[1:]) != self.built_image_shape:
            raise ValueError(
                f"`{name}` must hold examples of shape {self.built_image_shape}. "
                f"Received examples of shape {tuple(batch.shape[1:])}"
            )
        y = y if target is None else target
        if restored and not self.takes_targets:
            inputs.check_target(type(self).__name__, batch, y)
        limits = self._check_values(batch, y, restored)
        if learns:
            # Resizing and conversion leave rounding errors at the ends of the range.
            self.in_unit_range = limits[0] >= -1e-4 and limits[1] <= 1 + 1e-4
        return data

    def _check_values(self, x, y, restored):
        """Refuses a first batch; returns the range of what is to be restored."""
        return inputs.check_values(x, self.likelihood)

    # Saving

    def get_config(self):
        config = {"name": self.name, "trainable": self.trainable}
        config["dtype"] = keras.saving.serialize_keras_object(self.dtype_policy)
        parameters = itertools.chain.from_iterable(
            inspect.signature(cls.__init__).parameters.values()
            for cls in type(self).__mro__
            if issubclass(cls, Autoencoder)
        )
        for parameter in parameters:
            if parameter.name == "self" or parameter.kind in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                continue
            if parameter.name in self.settled_arguments:
                continue
            value = getattr(self, parameter.name)
            if not self._given.get(parameter.name, True):
                value = None
            if parameter.name == "image_shape":
                # What came with the data is built from the file.
                value = self._asked_shape
            config[parameter.name] = keras.saving.serialize_keras_object(value)
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


def _signature(cls) -> inspect.Signature:
    """What a class takes, with what it passes on in `**kwargs`, as `help` shows it."""
    parameters, rest = {}, []
    for parent in cls.__mro__:
        if "__init__" not in vars(parent) or not issubclass(parent, Autoencoder):
            continue
        rest = []
        for parameter in [*inspect.signature(parent.__init__).parameters.values()][1:]:
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = [parameter]
            elif parameter.name not in (*parameters, *cls.settled_arguments):
                if parameters and parent.__init__ is not cls.__init__:
                    parameter = parameter.replace(kind=parameter.KEYWORD_ONLY)
                parameters[parameter.name] = parameter
        if not rest:
            break
    return inspect.Signature([*parameters.values(), *rest])


def _image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not shape or any(
        not isinstance(size, int | np.integer) or size < 1 for size in shape
    ):
        raise ValueError(
            "`image_shape` must be (features,), (height, width), (height, width, "
            "channels) or the shape of any other array, all sizes known and positive. "
            f"Received: image_shape={shape}"
        )
    return tuple(int(size) for size in shape)


def streamed(images, options):
    """Batches of a memory map, of which Keras would hold several copies in memory."""
    options = dict(options)
    if options.get("validation_split"):
        return images, options
    shuffle = options.pop("shuffle", True)
    batch_size = options.pop("batch_size", None) or 32
    # Like Keras' own order, it follows `keras.utils.set_random_seed`.
    seed = int(np.random.randint(2**31))
    streamed = Batches(images, batch_size, shuffle=shuffle, seed=seed)
    return streamed, {**options, "shuffle": False}
