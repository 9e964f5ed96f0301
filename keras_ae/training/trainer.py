"""Configuring, fitting and evaluating a model, on data of any kind."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae import arrays, backend, checks
from keras_ae.datasets import LazyImages
from keras_ae.training import arguments, feeding, inputs, optimizers, outcome
from keras_ae.training.columns import KnowsColumns
from keras_ae.training.streaming import is_streamed, served, streamed


class Trainer(KnowsColumns):
    """`compile`, `fit`, `evaluate` and `predict` of all models."""

    # Whether `compile` was called, and not only by the constructor.
    chooses_optimizer: bool = True

    @property
    def is_trained(self) -> bool:
        """Whether it has learned, before it was saved or compiled anew as well."""
        # Steps are counted anew then; what `fit` has seen of the data stays known.
        steps = ops.convert_to_numpy(getattr(self.optimizer, "iterations", 0))
        return self.built and (self.in_unit_range is not None or int(steps) > 0)

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
            optimizer: A Keras optimizer, its name or its config. For a model of several
                players a dict of them by player, or one of which each player gets its
                own; the others keep the default.
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
            checks.check_count("steps_per_execution", steps_per_execution)
        self.steps_choice = steps_per_execution
        if self.optimizer_names:
            scaled = kwargs.pop("auto_scale_loss", True)
            kwargs["auto_scale_loss"] = False
            with backend.build_scope(self):
                optimizer = optimizers.for_players(
                    optimizer,
                    self.optimizer_names,
                    self.default_optimizers(),
                    scale_loss=scaled and self.dtype_policy.name == "mixed_float16",
                )
        elif isinstance(optimizer, dict) and not optimizers.is_config(optimizer):
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
            self.build_optimizer()
        self.chooses_optimizer = True
        self.note_trainable()

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """What has an optimizer of its own: each player of several."""
        return self.player_names

    def default_optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Returns what each of `optimizer_names` learns with by default."""
        return {name: keras.optimizers.Adam(1e-3) for name in self.optimizer_names}

    def variables_by_optimizer(self) -> dict[str, list[keras.Variable]]:
        """Returns the variables that each of `optimizer_names` updates."""
        return {player.name: player.variables for player in self.players()}

    def build_optimizer(self) -> None:
        """Builds the optimizer, when the networks and it are there."""
        if not self.compiled:
            return
        variables = self.trainable_variables
        if self.optimizer_names:
            variables = {
                name: owned if self.trainable else []
                for name, owned in self.variables_by_optimizer().items()
            }
        # With the networks, so that whatever is saved holds the optimizer's state.
        with backend.build_scope(self):
            self.optimizer.build(variables)

    def note_trainable(self) -> None:
        """Keeps in mind what is trainable, as the optimizer has been built for it."""
        # A phase of a model learns some of them only.
        self._was_trainable = {id(v): bool(v.trainable) for v in self.variables}

    def _follow_trainable(self):
        """Lets a change of `trainable` take effect, or says how it does."""
        before = self._was_trainable
        self.note_trainable()
        changed = [
            key
            for key, learns in self._was_trainable.items()
            if learns != before.get(key, learns)
        ]
        if not changed:
            return
        if self.chooses_optimizer:
            self._was_trainable = before
            raise ValueError(
                "`trainable` must not be changed after `compile`, which chooses what "
                f"is learned. Received: {len(changed)} variables that were frozen or "
                "thawed since then; call `compile` again."
            )
        self.compile()
        self.chooses_optimizer = False

    def get_compile_config(self):
        optimizer = keras.saving.serialize_keras_object(self.optimizer)
        return {"optimizer": optimizers.portable(optimizer), **self._compile_choices}

    def compile_from_config(self, config):
        config = dict(config)
        optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"))
        self.compile(optimizer, **config)

    @property
    def _steps_told(self):
        """Steps in an execution, but for what `fit` chooses."""
        return 1 if self.steps_choice == "auto" else self.steps_choice

    @contextlib.contextmanager
    def _executing(self, steps):
        """Sets the number of steps in an execution, as long as the block lasts."""
        before, self.steps_per_execution = self.steps_per_execution, steps
        try:
            with backend.spread_batches():
                yield
        finally:
            self.steps_per_execution = before

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        if backend.fuses_steps(self):
            self.train_function = backend.many_steps(self, self.train_step)
        elif backend.records_steps(self):
            self.train_function = backend.recorded(self, self.train_step)
        else:
            super().make_train_function(force)

    def make_test_function(self, force=False):
        if self.test_function is not None and not force:
            return
        if backend.fuses_steps(self):
            self.test_function = backend.many_steps(self, self.test_step)
        elif backend.records_steps(self):
            self.test_function = backend.recorded(self, self.test_step)
        else:
            super().make_test_function(force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing: Keras would look at a batch that replicas must share evenly."""

    def _forget_recorded(self, *functions):
        """Lets whatever has been changed between calls have its effect."""
        now = arguments.settings_of(self)
        for name in functions:
            before, self._traced_with[name] = self._traced_with.get(name, now), now
            if hasattr(getattr(self, name), "steps") or before != now:
                setattr(self, name, None)

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

        The first `fit` starts a decoder at the mean of the data; see `StartsAtMean`.

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
            ValueError: If the first batch is not what the model can describe, or in one
                of several processes that `keras_ae.distribute` has not brought together
                or that are given different models or data.
        """
        backend.check_processes()
        options = arguments.bound(keras.Model.fit, None, None, *args, **kwargs)
        x, options = self.prepare_fit(x, y, validation_data, options)
        backend.start_together(self, x)
        x = self.begin_fit(x)
        if is_streamed(x, options["y"]):
            x, options = streamed(x, options)
        try:
            with self.choosing_later():
                history = self._feed(**{**options, "x": x})
        except KeyboardInterrupt:
            # In a notebook what was learned until then is looked at.
            self._keep_data(x)
            raise
        self._end_fit(x, options.get("verbose", "auto"))
        return history

    def prepare_fit(self, x, y, validation_data, options):
        """Looks at what `fit` is given before anything is learned.

        Args:
            x, y, validation_data: What the user passed.
            options: The other arguments of `fit`, by name.

        Returns:
            The data, and all other arguments as Keras takes them.
        """
        self.forget_samplers()
        y = self.beside(x, "y", y)
        weight = self.beside(x, "sample_weight", options.get("sample_weight"))
        x = self.check_data(x, "x", y, learns=True)
        if options.get("validation_split") and validation_data is None:
            arguments.check_split(options["validation_split"], x)
        if options.get("class_weight") is not None:
            arguments.check_class_weight(options["class_weight"], x, y)
        held_back = self._inspect_validation(validation_data)
        batch_size = options.get("validation_batch_size") or options.get("batch_size")
        return x, {
            **options,
            "y": self._beside_weights(x, inputs.readable(y), weight),
            "sample_weight": weight,
            "validation_data": served(held_back, batch_size),
        }

    def _end_fit(self, x, verbose):
        """Keeps data to look for their codes, and tells whoever looks on where."""
        self._keep_data(x)
        if verbose in (0, "0") or self._chooses_later or not backend.is_first_process():
            return
        choice = self.choose_sampler()
        if choice is not None:
            print(choice)

    def _keep_data(self, x):
        # Of what callbacks have drawn.
        self.forget_samplers()
        self.remember(x)

    def _feed(self, *args, **kwargs):
        """Runs Keras' `fit`, fed as fast as the backend can."""
        options = arguments.bound(keras.Model.fit, *args, **kwargs)
        if not backend.is_first_process():
            options["verbose"] = 0
        self._follow_trainable()
        with backend.spread_batches():
            options, self.feeding = feeding.prepare(self, options)
        self._forget_recorded("train_function", "test_function")
        with self._executing(self.feeding.steps_per_execution):
            return outcome.trained(self, options)

    def _inspect_validation(self, data):
        """Inspects validation data: a tuple `(x, y, weights)`, a data set or None."""
        if data is None:
            return None
        if not isinstance(data, tuple | list):
            return self.check_data(data, "validation_data")
        if not 0 < len(data) <= 3:
            raise ValueError(
                "`validation_data` must be x, (x, y) or (x, y, sample_weight). "
                f"Received: a {type(data).__name__} of {len(data)} items"
            )
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        y, weight = self.beside(x, "y", y), self.beside(x, "sample_weight", weight)
        x = self.check_data(x, "validation_data", y)
        return x, self._beside_weights(x, inputs.readable(y), weight), weight

    def epochs_left(self, epochs: int, done: int) -> int:
        """Returns how many epochs a `fit` of `epochs` would train after `done`."""
        return max(0, epochs - done)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Returns the loss, its terms and monitors; see `keras.Model.evaluate`."""
        options = arguments.bound(keras.Model.evaluate, None, None, *args, **kwargs)
        cached = options.get("_use_cached_eval_dataset")
        y = self.beside(x, "y", y)
        weight = self.beside(x, "sample_weight", options.get("sample_weight"))
        if not cached:
            x = self.check_data(x, "x", y)
            backend.start_together(self, x)
            # A callback may evaluate while the other function trains.
            self._forget_recorded("test_function")
        y = self._beside_weights(x, inputs.readable(y), weight)
        if isinstance(x, LazyImages):
            x, y = served((x, y, weight), options.get("batch_size")), None
        options |= {"x": x, "y": y, "sample_weight": weight}
        if not backend.is_first_process():
            options["verbose"] = 0
        self._evaluating = True
        try:
            with self._executing(
                self.steps_per_execution if cached else self._steps_told
            ):
                return super().evaluate(**options)
        finally:
            self._evaluating = False

    def predict(self, x, *args, **kwargs):
        """Returns the reconstructions; see `keras.Model.predict`."""
        options = arguments.bound(keras.Model.predict, None, *args, **kwargs)
        x = self.check_data(x, "x", restored=False)
        options["x"] = served(x, options.get("batch_size"))
        with self._executing(self._steps_told):
            return super().predict(**options)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Takes one step on one batch; see `keras.Model.train_on_batch`."""
        before = self._in_unit_range
        method = keras.Model.train_on_batch
        options = self._one_batch(method, x, y, before is not False, *args, **kwargs)
        self.forget_samplers(data=False)
        self._forget_recorded("train_function")
        self._follow_trainable()
        with backend.spread_batches():
            return super().train_on_batch(**options)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """Evaluates one batch; see `keras.Model.test_on_batch`."""
        method = keras.Model.test_on_batch
        options = self._one_batch(method, x, y, False, *args, **kwargs)
        self._forget_recorded("test_function")
        self._evaluating = True
        try:
            with backend.spread_batches():
                return super().test_on_batch(**options)
        finally:
            self._evaluating = False

    def _one_batch(self, method, x, y, learns, *args, **kwargs):
        """What `method` is given beside the model, looked at, by name."""
        options = arguments.bound(method, x, y, *args, **kwargs)
        y = self.beside(x, "y", y)
        weight = self.beside(x, "sample_weight", options.get("sample_weight"))
        x = self.check_data(x, "x", y, learns=learns)
        y = self._beside_weights(x, inputs.readable(y), weight)
        return {**options, "x": x, "y": y, "sample_weight": weight}

    def predict_on_batch(self, x):
        """Reconstructs one batch; see `keras.Model.predict_on_batch`."""
        x = self.check_data(x, "x", restored=False)
        with backend.spread_batches():
            return super().predict_on_batch(x)

    def check_data(self, data, name, y=None, restored=True, learns=False):
        """Builds from the first batch, or refuses it; returns the data, unconsumed.

        Args:
            data: What the user passed as `name`.
            name: How errors call it.
            y: What the user passed beside it.
            restored: Whether the data are what is to be restored, not only encoded.
            learns: Whether the model will be trained on them.

        Raises:
            ValueError: If they are none that the model can describe.
        """
        if backend.is_traced(data):
            self.require_built("map")
            return data
        names = arrays.column_names(data)
        data = self.in_order(name, data)
        if data is None:
            raise ValueError(f"`{name}` must be given. Received: {name}=None")
        if isinstance(data, list | tuple):
            raise ValueError(
                f"`{name}` must be one array (examples, ...) or a data set of batches. "
                f"Received a {type(data).__name__} of {len(data)} items; pictures of "
                "one size become an array with `numpy.stack`."
            )
        (batch, target, weight), data = inputs.first_batch(data)
        inputs.check_batch(name, batch)
        if not self.built and self._asked_shape is None and batch is not data:
            inputs.check_batched(name, batch.shape, self.architecture, data)
        if not self.built:
            with backend.build_scope(self):
                self.build((None, *batch.shape[1:]))
        if tuple(batch.shape[1:]) != self.built_image_shape:
            one = tuple(batch.shape) == self.built_image_shape
            raise ValueError(
                f"`{name}` must hold examples of shape {self.built_image_shape}. "
                f"Received examples of shape {tuple(batch.shape[1:])}"
                + (f"; {inputs.ONE_EXAMPLE}" if one else "")
            )
        y = y if target is None else target
        if weight is not None and restored:
            self._check_weight(weight)
        if restored and not self.takes_targets:
            inputs.check_target(type(self).__name__, batch, y)
        limits = self.check_values(batch, y, restored)
        if learns:
            # Resizing and conversion leave rounding errors at the ends of the range.
            self.in_unit_range = limits[0] >= -1e-4 and limits[1] <= 1 + 1e-4
            self.column_names = self.column_names or names
        return data

    def check_values(self, x, y, restored):
        """Refuses a first batch; returns the range of what is to be restored.

        Args:
            x: Examples.
            y: What was passed beside them, or None.
            restored: As in `check_data`.
        """
        return inputs.check_values(x, self.likelihood)

    def _check_weight(self, weight):
        """Refuses weights in an array that can't weigh anything."""
        if not hasattr(weight, "shape") or not len(weight.shape):
            weight = np.asarray(weight)
        if not arrays.is_numeric(weight):
            raise ValueError(
                "`sample_weight` must be numbers, one an example. Received: weights of "
                f"dtype {weight.dtype}"
            )
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
        if weight is None or not hasattr(x, "shape"):
            return y
        self._check_weight(weight)
        return np.zeros(x.shape[0], "float32") if y is None else y
