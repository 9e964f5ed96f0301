"""Names of Keras that are not public, each in one place.

Keras is bounded from above in `setup.cfg` for their sake: a new release of it is let in
when the tests have passed with it.
"""

from collections.abc import Sequence

import keras

# The data adapters have no public name; `fit` takes one as `x`.
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

__all__ = [
    "PARALLEL_UPDATE",
    "DataAdapter",
    "get_data_adapter",
    "layers",
    "moments",
    "replace",
    "tracked",
]

# The method of PyTorch's optimizers that updates all variables at once.
PARALLEL_UPDATE = "_parallel_update_step"


def moments(
    optimizer: keras.optimizers.Adam, variables: Sequence[keras.Variable]
) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """Returns Adam's first and second moments of these variables."""
    indices = [optimizer._get_variable_index(variable) for variable in variables]
    first, second = optimizer._momentums, optimizer._velocities
    return [first[index] for index in indices], [second[index] for index in indices]


def layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a model and all layers in it, those in layers too."""
    return list(model._flatten_layers())


def tracked(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers that are attributes of a model, or in lists that are."""
    return list(model._layers)


def replace(model: keras.layers.Layer, name: str, layer: keras.layers.Layer) -> None:
    """Puts another layer in the place of one of a model that is built."""
    model._tracker.unlock()
    model._tracker.untrack(getattr(model, name))
    setattr(model, name, layer)
    model._tracker.lock()
