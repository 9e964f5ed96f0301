"""One optimizer for each player of a model."""

import contextlib
import copy
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ae.backend import keras_private


@keras.saving.register_keras_serializable(package="keras_ae")
class PlayerOptimizers(keras.optimizers.Optimizer):
    """One optimizer for each player of a model, which Keras sees as one.

    Keras saves a single optimizer, and on JAX carries only its variables through the
    training loop; here these are the variables of all players' optimizers. The learning
    rate is that of the first player; setting it to a number multiplies those of the
    others by the same factor. Keras' callbacks for learning rates know `optimizers`.

    Args:
        optimizers: A Keras optimizer, or its name, for each player's name.
        name: Name of the whole.

    Example:

    ```python
    model.compile({"generator": "adam", "discriminator": keras.optimizers.Adam(4e-4)})
    model.optimizer["discriminator"].learning_rate
    ```
    """

    def __init__(self, optimizers: Mapping[str, Any], name: str = "player_optimizers"):
        super().__init__(learning_rate=0.0, name=name)
        self.by_player = {
            player: keras.optimizers.get(optimizer)
            for player, optimizer in optimizers.items()
        }
        for player, optimizer in self.by_player.items():
            # Keras' callbacks log rates under the optimizers' names.
            optimizer.name = player
        self._first_rates = [_rate(optimizer) for optimizer in self.optimizers]

    def __getitem__(self, player: str) -> keras.optimizers.Optimizer:
        return self.by_player[player]

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The players' optimizers, in the order of the players."""
        return list(self.by_player.values())

    def build(self, variables: Mapping[str, Sequence[keras.Variable]]) -> None:
        """Builds each player's optimizer.

        Args:
            variables: What each player learns, by the player's name.
        """
        for player, owned in variables.items():
            self[player].build(list(owned))
        # Keras' own way of setting would take them for variables of the optimizer.
        object.__setattr__(self, "_owned", dict(variables))
        self.built = True

    @property
    def variables(self) -> list[keras.Variable]:
        return [v for optimizer in self.optimizers for v in optimizer.variables]

    @property
    def iterations(self):
        return self.optimizers[0].iterations

    @property
    def learning_rate(self):
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, rate):
        if not isinstance(rate, numbers.Real):
            raise ValueError(
                "`learning_rate` of several players must be a number. Received: "
                f"{rate!r}; set a schedule for each player, as in "
                "optimizer['discriminator'].learning_rate = schedule"
            )
        rates = [_rate(optimizer) for optimizer in self.optimizers]
        # Rates of 0 have no ratio to keep.
        rates = rates if rates[0] else self._first_rates
        for optimizer, own in zip(self.optimizers, rates, strict=True):
            optimizer.learning_rate = float(rate * own / rates[0] if rates[0] else rate)

    def finalize_variable_values(self, variables) -> None:
        for player, owned in self._owned.items():
            self[player].finalize_variable_values(list(owned))

    # Each player's optimizer is saved on its own, as an attribute of this one.

    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass

    def get_config(self) -> dict:
        optimizers = {
            player: keras.saving.serialize_keras_object(optimizer)
            for player, optimizer in self.by_player.items()
        }
        return {"optimizers": optimizers, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizers = {
            player: keras.saving.deserialize_keras_object(
                optimizer, custom_objects=custom_objects
            )
            for player, optimizer in config["optimizers"].items()
        }
        return cls(optimizers, name=config["name"])


def _rate(optimizer):
    return float(ops.convert_to_numpy(optimizer.learning_rate))


def for_players(
    optimizer: Any,
    players: Sequence[str],
    defaults: Mapping[str, keras.optimizers.Optimizer],
    scale_loss: bool = False,
) -> PlayerOptimizers:
    """Returns one optimizer a player, from what a user passed to `compile`.

    Args:
        optimizer: None; a dict of optimizers or their names by player; or one for all,
            of which each player gets its own.
        players: The players' names.
        defaults: An optimizer for each player that is given none.
        scale_loss: Whether to scale losses dynamically, which float16 needs.

    Raises:
        ValueError: If there is an optimizer for a name that is no player.
    """
    if isinstance(optimizer, PlayerOptimizers):
        optimizer = optimizer.by_player
    if is_config(optimizer):
        optimizer = keras.optimizers.get(optimizer)
    if optimizer is None:
        optimizer = {}
    if isinstance(optimizer, Mapping):
        unknown = [name for name in optimizer if name not in players]
        if unknown:
            raise ValueError(
                f"`optimizer` must have one of the players {', '.join(players)} for "
                f"each key. Received: optimizers for {', '.join(map(str, unknown))}, "
                "no players of this model"
            )
        chosen = {**defaults, **optimizer}
    else:
        config = keras.optimizers.serialize(keras.optimizers.get(optimizer))
        config = portable(config)
        # Keras takes some of a config away as it reads it.
        # `keras.optimizers.deserialize` does not know all of them.
        chosen = {
            name: keras.saving.deserialize_keras_object(copy.deepcopy(config))
            for name in players
        }
    chosen = {name: keras.optimizers.get(chosen[name]) for name in players}
    if len({id(optimizer) for optimizer in chosen.values()}) < len(players):
        raise ValueError(
            "`optimizer` must have an optimizer of its own for each player. Received: "
            "one and the same for several; make two of them."
        )
    if scale_loss:
        loss_scaling = keras.optimizers.LossScaleOptimizer
        chosen = {
            name: value if isinstance(value, loss_scaling) else loss_scaling(value)
            for name, value in chosen.items()
        }
    return PlayerOptimizers(chosen)


def averages(
    optimizer: keras.optimizers.Optimizer | None,
) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns variables with the running averages of them that an optimizer keeps.

    Args:
        optimizer: Of one player or of several.

    Returns:
        Pairs of a variable and its average; none without `use_ema=True`.
    """
    if isinstance(optimizer, PlayerOptimizers):
        return [pair for each in optimizer.optimizers for pair in averages(each)]
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if optimizer is None or not (optimizer.built and optimizer.use_ema):
        return []
    return keras_private.averages(optimizer)


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[bool]:
    """The running averages of a model's weights are in their place for a while.

    Those that optimizers with `use_ema=True` keep as they train; without such an
    optimizer nothing changes. `fit` ends with the averages in the model.

    Args:
        model: A model, compiled or not.

    Yields:
        Whether there are averages.
    """
    pairs = averages(getattr(model, "optimizer", None))
    kept = [ops.convert_to_numpy(variable) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            # A copy: on JAX the two would be one array, which a step may give away.
            variable.assign(ops.convert_to_numpy(average))
        yield bool(pairs)
    finally:
        for (variable, _), value in zip(pairs, kept, strict=True):
            variable.assign(value)


def is_config(optimizer: Any) -> bool:
    """Whether it is what `keras.optimizers.serialize` makes of one optimizer."""
    return isinstance(optimizer, Mapping) and {"class_name", "config"} <= {*optimizer}


def adopt_schedules(old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer):
    """Gives a loaded optimizer the schedules of a new one made for more epochs.

    Args:
        old: Optimizer with state, changed in place.
        new: Optimizer of the same kind, as `compile` made it.
    """
    if isinstance(old, PlayerOptimizers):
        for player, optimizer in old.by_player.items():
            adopt_schedules(optimizer, new[player])
        return
    new = getattr(new, "inner_optimizer", new)
    schedule = new.get_config().get("learning_rate")
    if isinstance(schedule, dict):
        old.learning_rate = keras.saving.deserialize_keras_object(schedule)


def portable(config):
    """An optimizer's config by its public name, which every backend can load.

    On PyTorch, Keras' optimizers are of classes of their own that it saves by module.
    """
    if not isinstance(config, dict):
        return config
    config = {name: portable(value) for name, value in config.items()}
    if str(config.get("module")).startswith("keras.src.backend."):
        config |= {"module": "keras.optimizers", "registered_name": None}
    return config
