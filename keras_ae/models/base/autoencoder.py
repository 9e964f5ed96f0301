"""What every autoencoder shares: its arguments, building, saving."""

import inspect
import os
import tempfile
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, Self

import keras
import numpy as np

from keras_ae import checks, presets
from keras_ae.backend import keras_private
from keras_ae.models.base.exporting import Exports
from keras_ae.models.base.refinement import Refines
from keras_ae.models.base.sampling import Samples
from keras_ae.models.base.starting import StartsAtMean
from keras_ae.models.base.terms import TellsTerms
from keras_ae.models.base.verbs import Verbs
from keras_ae.nn import networks
from keras_ae.probability import likelihoods
from keras_ae.probability.distributions import Registered
from keras_ae.training.running_means import Figure, Figures
from keras_ae.training.steps import Player, Steps
from keras_ae.training.trainer import Trainer


class _Complete(type(keras.Model)):
    """Compiles a model when its constructor has run; builds it where it can.

    So that subclasses may set their attributes in any order.
    """

    def __call__(cls, *args, **kwargs):
        model = super().__call__(*args, **kwargs)
        if not model.compiled:
            model.compile()
            model.chooses_optimizer = False
        if model.image_shape is not None and not model.built:
            model.build((None, *model.image_shape))
        return model


class Autoencoder(
    Registered,
    Samples,
    Refines,
    TellsTerms,
    Exports,
    StartsAtMean,
    Verbs,
    Trainer,
    Steps,
    keras.Model,
    metaclass=_Complete,
):
    """Base of all models: an encoder, a decoder, a likelihood and named loss terms.

    A subclass says what its network computes (`call`, a dict of tensors) and what it
    minimises (`terms`, a dict of losses per example). The loss is the mean over the
    batch of the sum of the terms, in training and validation alike, and each term is
    logged under its name: the logged loss is the sum of the logged terms. Terms are in
    nats, summed over pixels and over latent dimensions.

    A model of several players (`players`, `player_names`) has terms and an optimizer
    for each of them. Then the loss is the sum of all players' terms, and of weights'
    regularisers. The sum of a player's own terms is logged as `{player}_loss`, in
    training beside `{player}_gradient_norm`, the norm of its gradient.

    Every constructor argument is kept as the attribute of the same name, which is what
    `get_config` returns. A model is compiled, with Adam, when its constructor has run;
    one that needs the optimizer calls `self.compile()` itself.

    Args:
        latent_dim: Numbers in a code.
        image_shape: Shape of one example: `(features,)`, `(height, width)`,
            `(height, width, channels)`, `(depth, height, width, channels)`, with
            `"sequence"` `(time, channels)` or, for dense networks and your own, any.
            Defaults to the shape of the first batch that `fit` meets.
        architecture: The networks: `"linear"`, `"dense"`, `"conv"`, `"residual"`,
            `"sequence"` (convolutions along time), or `"auto"` (convolutions for
            pictures of at least 16 by 16 pixels).
        widths: Units of each dense layer, or filters of each stage of stride 2, of the
            encoder; the decoder mirrors them. See `networks.resolve` for defaults.
        activation: Activation of the hidden layers.
        likelihood: Distribution of the data given a code: `"bernoulli"`,
            `"continuous_bernoulli"`, `"gaussian"`, `"laplace"`,
            `"discretized_logistic"`, `"student_t"`, or an instance from
            `keras_ae.likelihoods`, of which a second model makes one of its own.
        encoder: Your own encoder, a Keras model, instead of a named architecture.
        decoder: Your own decoder, a Keras model from codes `(batch, latent_dim)` to the
            likelihood's parameters `(batch, *image_shape)`, or
            `(batch, *image_shape, 2)` where it predicts a scale for each value too.
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
    # What its instances can do beside the verbs of all models.
    has_encoder: bool = True
    searches_codes: bool = False  # `infer`
    denoises: bool = False  # `denoise`, `corrupt`
    has_posterior: bool = False  # `sample_posterior`
    bounds_likelihood: bool = False  # `log_likelihood`
    has_tokens: bool = False  # `tokens`, `decode_tokens`, `token_shape`
    # Whether a code has the pixels themselves, and is no summary of the picture.
    keeps_pixels: bool = False
    # Of the files of 16-bit pictures that it learned from, the value that is white.
    white: int | None = None
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
        self.latent_dim = checks.check_count("latent_dim", latent_dim)
        self._asked_shape = None if image_shape is None else _image_shape(image_shape)
        networks.resolve((64, 64), architecture, widths)
        self.architecture = architecture
        self.widths = None if widths is None else tuple(widths)
        checks.check_activation("activation", activation)
        self.activation = activation
        self.likelihood = likelihoods.get_likelihood(likelihood).of_one_model()
        self.encoder = encoder
        self.decoder = decoder
        self._given = {"encoder": encoder is not None, "decoder": decoder is not None}
        self._compiled_functions = {}
        self._traced_with = {}
        self._evaluating = False

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

    @property
    def describes_pictures(self) -> bool:
        """Whether examples are pictures or volumes, and no rows or series."""
        return len(self.built_image_shape) > 1 and self.architecture != "sequence"

    def build(self, input_shape):
        image_shape = _image_shape(input_shape[1:])
        if self.image_shape not in (None, image_shape):
            raise ValueError(
                f"{type(self).__name__} was made for examples of shape "
                f"{self.image_shape} (`image_shape`). Received examples of shape "
                f"{image_shape}; resize them or make another model."
            )
        if self.built:
            return
        if self._asked_shape is None and not any(self._given.values()):
            # What is said explicitly is not questioned.
            networks.check_channels_last(image_shape, self.architecture)
        self.built_image_shape = image_shape
        self.build_networks(image_shape)
        of_activity = [
            layer.name
            for layer in keras_private.layers(self)[1:]
            if getattr(layer, "activity_regularizer", None) is not None
        ]
        adds_losses = self._try_what_is_others(image_shape)
        if self.player_names and (of_activity or adds_losses):
            received = "losses of `add_loss`"
            if of_activity:
                received = f"an `activity_regularizer` of {', '.join(of_activity)}"
            raise ValueError(
                "Networks of a model of several players may have regularizers of "
                f"weights, not of activities. Received: {received}"
            )
        regularized = bool(self.losses) or bool(of_activity) or adds_losses
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
        self.build_optimizer()
        self.note_trainable()

    def _try_what_is_others(self, image_shape):
        """Calls what a user has written, to build its layers; whether it adds losses.

        The optimizer learns only what was there when it was built.
        """
        layers = keras_private.layers(self)
        ours = {type(layer).__module__.partition(".")[0] for layer in layers}
        if ours <= {"keras", "keras_ae"} or self.searches_codes:
            return False

        def step(x):
            for player in self.players():
                outputs = MappingProxyType((player.call or self.call)(x))
                player.terms(x, outputs)
            return x

        try:
            return keras_private.tried(step, (2, *image_shape)) > 0
        except Exception:
            # It may need batches of another size; training says what else is wrong.
            return False

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
            self.decoder = self.make_decoder(image_shape)
        heads = networks.head_dims(options["heads"], options["latent_dim"])
        expected = {name: (units,) for name, units in heads.items()}
        if len(expected) == 1:
            (expected,) = expected.values()
        networks.check("encoder", self.encoder, options["image_shape"], expected)
        self.check_decoder(image_shape)

    def make_decoder(self, image_shape: tuple[int, ...]) -> keras.Model:
        """Makes a decoder that gives all numbers that the likelihood needs a value."""
        shape = self.likelihood.parameters_shape(image_shape)
        if shape == image_shape:
            return self.build_decoder(**self.network_options(image_shape))
        # Grey pictures get channels, and what has channels or columns gets more.
        grey = networks.with_channels(image_shape, self.architecture) != image_shape
        wide = shape if grey else (*shape[:-2], shape[-2] * shape[-1])
        decoder = self.build_decoder(**self.network_options(wide))
        outputs = keras.layers.Reshape(shape, dtype="float32")(decoder.output)
        return keras.Model(decoder.input, outputs, name="decoder")

    def check_decoder(self, image_shape: tuple[int, ...], name: str = "decoder"):
        """Refuses a decoder that does not give what the likelihood needs."""
        shape = self.likelihood.parameters_shape(image_shape)
        networks.check(name, self.decoder, (self.code_dim,), shape)

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

    # What a subclass says

    def players(self) -> list[Player]:
        """Who plays, in order, on each batch. One player learns everything."""
        return [Player(self.terms, self.trainable_variables, self.monitors)]

    def call(self, x, training=False) -> dict[str, Any]:
        """Returns what the network computes on a batch, a dict of tensors."""
        raise NotImplementedError

    def terms(self, x, outputs, training=False) -> dict[str, Any]:
        """Returns the named losses, each `(batch,)`, in nats.

        What it returns by names of `monitor_names` is logged and not minimised.
        """
        raise NotImplementedError

    def monitors(self, x, outputs, terms) -> dict[str, Any]:
        """Returns figures to log that are not part of the loss, each `(batch,)`."""
        return {"mse": self.likelihood.mean_squared_error(x, outputs["parameters"])}

    # Saving

    def build_from_config(self, config):
        if config and "white" in config:
            # Where files of 0.1 have it.
            self.white = config["white"]
            config = {name: config[name] for name in config if name != "white"}
        super().build_from_config(config)

    def _state(self):
        return {**super()._state(), "white": self.white}

    def _restore(self, state):
        super()._restore(state)
        self.white = state.get("white", self.white)

    def get_compile_config(self):
        config = super().get_compile_config()
        learns = [layer.trainable for layer in keras_private.layers(self)]
        return config if all(learns) else {**config, "learns": learns}

    def compile_from_config(self, config):
        config = dict(config)
        learns = config.pop("learns", ())
        layers = keras_private.layers(self)
        # Another version may make other layers.
        if len(learns) == len(layers):
            for layer, flag in zip(layers, learns, strict=True):
                # That of a network is given to its layers, which come after it.
                if layer.trainable != flag:
                    layer.trainable = flag
        super().compile_from_config(config)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike) -> Self:
        """Returns a trained model: see `keras_ae.presets.load`.

        Args:
            preset: Name of a preset that comes with the package, path of a folder that
                `save_to_preset` has written, or where one is on a hub:
                `hf://user/name`, or `kaggle://user/model/framework/variation`.

        Raises:
            FileNotFoundError: If there is none.
            ImportError, OSError: As `keras_ae.presets.find`, of one on a hub.
            ValueError: If it is damaged, or a model of another class.

        Example:

        ```python
        model = keras_ae.VAE.from_preset("moon-vae")
        moons = model.sample(16, seed=0)  # (16, 32, 32, 1)
        ```
        """
        model = presets.load(preset)
        if not isinstance(model, cls):
            raise ValueError(
                f"`preset` must be of a {cls.__name__}. Received: {preset}, which is a "
                f"{type(model).__name__}"
            )
        return model

    def save_to_preset(self, folder: str | os.PathLike, **facts: Any) -> None:
        """Writes the model for others to use: see `keras_ae.presets.save`.

        Its weights are halved, and what only training needs is left out; `save` keeps
        all of it.

        Args:
            folder: New or empty folder.
            **facts: What else `preset.json` says of it, such as `data` and `licence`.

        Raises:
            ValueError: If the model is not built, or `folder` is not empty.
        """
        presets.save(self, folder, **facts)

    def push_to_hub(self, uri: str, private: bool | None = None, **facts: Any) -> None:
        """Sends the model as a preset, with a card: see `keras_ae.presets.upload`.

        Args:
            uri: Where to: `hf://user/name`, or `kaggle://user/model/keras/variation`.
            private: Whether to make it private. Defaults to the hub's way.
            **facts: As for `save_to_preset`.

        Raises:
            ValueError: If the model is not built, or `uri` of another form.
            ImportError: If the hub's client is not installed.
            PermissionError: If you may not write there.
            OSError: If the hub can't be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_to_preset(folder, **facts)
            presets.upload(folder, uri, private)

    def get_config(self):
        known = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy,
            # What came with the data is built from the file.
            "image_shape": self._asked_shape,
            **{name: None for name, given in self._given.items() if not given},
        }
        names = []
        for name, parameter in type(self).__signature__.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                names += ["name", "trainable", "dtype"]
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                names.append(name)
        lost = [name for name in names if name not in known and not hasattr(self, name)]
        if lost:
            raise ValueError(
                f"Arguments of {type(self).__name__} must be kept as attributes of "
                f"the same names, which are saved. Received: none for {lost}"
            )
        return {
            name: keras.saving.serialize_keras_object(
                known[name] if name in known else getattr(self, name)
            )
            for name in names
        }

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


def _image_shape(shape: Any) -> tuple[int, ...]:
    # A `tf.TensorShape` is no tuple.
    is_list = isinstance(shape, Iterable) and not isinstance(shape, str)
    shape = tuple(shape) if is_list else (shape,)
    if not shape or any(
        not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1
        for size in shape
    ):
        raise ValueError(
            "`image_shape` must be (features,), (height, width), (height, width, "
            "channels) or the shape of any other array, all sizes known and positive. "
            f"Received: image_shape={shape}"
        )
    return tuple(int(size) for size in shape)
