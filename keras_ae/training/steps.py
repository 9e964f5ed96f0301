"""One step: who learns what from a batch, and what is logged of it."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ae import backend
from keras_ae.training import inputs


class Player(NamedTuple):
    """Who learns what: `variables` descend the sum of `terms`.

    Attributes:
        terms: Function of (x, outputs, training) that returns named losses, each
            `(batch,)`. What else it returns, by names of `monitor_names`, is logged.
        variables: What the player learns.
        monitors: Function of (x, outputs, terms) that returns more figures to log.
        name: One of the model's `player_names`.
        plays: None, or a function of nothing that returns whether the player takes this
            step, a boolean scalar; otherwise its variables and optimizer stay as they
            are.
        call: None, or what the player needs of the model's `call`: a function of the
            same arguments that returns its `outputs`.
    """

    terms: Callable[..., dict[str, Any]]
    variables: Sequence[keras.Variable]
    monitors: Callable[..., dict[str, Any]] | None = None
    name: str = ""
    plays: Callable[[], Any] | None = None
    call: Callable[..., dict[str, Any]] | None = None


class Steps:
    """The steps of `fit`, `evaluate` and `predict`, and the figures that they track."""

    def train_step(self, *arguments):
        return backend.run_step(
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
        return backend.run_step(
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
        result = backend.run_step(
            self._predict_on,
            arguments,
            (self.trainable_variables, self.non_trainable_variables),
        )
        if len(arguments) == 1:
            return result
        outputs, (_, non_trainable_variables) = result
        return outputs, non_trainable_variables

    def _train_on(self, data):
        batch = self.unpack_batch(data)
        for player in self.players():

            def loss_fn(player=player):
                losses, figures = self._objective(player, *batch, training=True)
                return ops.mean(losses), figures

            optimizer = self.optimizer[player.name] if player.name else self.optimizer
            plays = None if player.plays is None else player.plays()
            figures, norm, _ = backend.minimize(
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
        batch = self.unpack_batch(data)
        # Who plays several times a batch in training is measured once.
        for player in {player.name: player for player in self.players()}.values():
            self._track(self._objective(player, *batch, training=False)[1])
        self._track_regularization()
        return self.get_metrics_result()

    def _predict_on(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.reconstruct_batch(self.check_batch(x))

    def unpack_batch(self, data):
        """Returns what to restore, what else `call` is given by name, the weights.

        Args:
            data: A batch as Keras' trainer gives it: x, (x, y) or (x, y, weights).
        """
        x, _, weight = keras.utils.unpack_x_y_sample_weight(data)
        return self.check_batch(x), {}, weight

    def check_batch(self, x):
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

    def to_floats(self, x):
        """Returns x in float32; integers are read as 0-255 and divided by 255."""
        return inputs.to_floats(x)

    def _objective(self, player, x, others, weight, training):
        """Returns a player's losses `(batch,)` and every figure to log, by name."""
        of_values, weight = self._weights(weight)
        call = self if player.call is None else player.call
        outputs = call(x, training=training, **others)
        self._check_names("call", outputs)
        outputs = MappingProxyType(outputs)
        # Of this call, not of those that terms may make.
        penalties = self.losses
        with self.likelihood.weighing(of_values):
            told = player.terms(x, outputs, training=training)
        self._check_names("terms", told)
        figures = {} if player.monitors is None else player.monitors(x, outputs, told)
        terms = self.minimised(told)
        self._check_terms(terms)
        if weight is not None:
            terms = {name: value * weight for name, value in terms.items()}
        losses = sum(terms.values())  # (batch,)
        figures = {**told, **terms, **figures}
        if player.name:
            figures[f"{player.name}_loss"] = losses
            return losses + self._regularization(player.name), figures
        if penalties:
            penalty = ops.sum(ops.stack([ops.cast(v, "float32") for v in penalties]))
            losses = losses + penalty
            figures["regularization"] = ops.broadcast_to(penalty, ops.shape(losses))
        return losses, figures

    def _check_names(self, method, returned):
        """Refuses what has no names, as what Keras' own `call` returns."""
        if not isinstance(returned, Mapping):
            raise ValueError(
                f"`{method}` of {type(self).__name__} must return a dict of tensors by "
                f"name. Received: a {type(returned).__name__}"
            )

    def _check_terms(self, terms):
        """Refuses what is no loss an example, and would be added as if it were."""
        for name, value in terms.items():
            shape = tuple(getattr(value, "shape", ()))
            if len(shape) > 1:
                raise ValueError(
                    f"`terms` of {type(self).__name__} must return losses of shape "
                    f"(batch,), such as sums over all axes but the first. Received: "
                    f"{name!r} of shape {shape}"
                )

    def minimised(self, told):
        """Returns the losses in what `terms` returned, without what is only logged."""
        return {name: told[name] for name in told if name not in self.monitor_names}

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
