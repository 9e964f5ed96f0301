"""Names of Keras that are not public, each in one place.

Keras is bounded from above in `setup.cfg` for their sake: a new release of it is let in
when the tests have passed with it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src.backend import compute_output_spec
from keras.src.backend.common.global_state import (
    get_global_attribute,
    set_global_attribute,
)
from keras.src.backend.common.variables import AutocastScope
from keras.src.models.functional import Functional, operation_fn, unpack_singleton
from keras.src.random.seed_generator import (
    GLOBAL_SEED_GENERATOR,
    global_seed_generator,
)

# The data adapters have no public name; `fit` takes one as `x`.
from keras.src.trainers.data_adapters import (
    get_data_adapter,
    is_grain_dataset,
    is_tf_dataset,
    is_torch_dataloader,
)
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED

__all__ = [
    "MOMENTS",
    "PARALLEL_UPDATE",
    "DataAdapter",
    "apply_anywhere",
    "averages",
    "get_data_adapter",
    "global_seed",
    "graph",
    "is_data_set",
    "layers",
    "moments",
    "no_autocast",
    "replace",
    "run_graph",
    "set_unseeded",
    "tracked",
    "tried",
    "unseeded",
]

# The method of PyTorch's optimizers that updates all variables at once.
PARALLEL_UPDATE = "_parallel_update_step"
# The method of batch normalisation that returns a batch's mean and variance.
MOMENTS = "_moments"


def is_data_set(data: Any) -> bool:
    """Whether Keras reads it as a data set of TensorFlow, PyTorch or grain."""
    return is_tf_dataset(data) or is_torch_dataloader(data) or is_grain_dataset(data)


def moments(
    optimizer: keras.optimizers.Adam, variables: Sequence[keras.Variable]
) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """Returns Adam's first and second moments of these variables."""
    indices = [optimizer._get_variable_index(variable) for variable in variables]
    first, second = optimizer._momentums, optimizer._velocities
    return [first[index] for index in indices], [second[index] for index in indices]


def averages(
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns what an optimizer with `use_ema` updates, each with its average."""
    variables = optimizer._trainable_variables
    return list(zip(variables, optimizer._model_variables_moving_average, strict=True))


def apply_anywhere(optimizer: keras.optimizers.Optimizer, gradients, variables) -> None:
    """Updates variables also where loss scaling of TensorFlow wants to be in a replica.

    Args:
        optimizer: The optimizer.
        gradients: A gradient a variable, or None.
        variables: The variables to update.
    """
    apply = getattr(optimizer, "_common_apply", optimizer.apply)
    apply(gradients, variables)


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


def graph(layer: Any) -> Functional | None:
    """Returns the functional model that a layer is, or None where it is none."""
    if isinstance(layer, Functional):
        return layer if type(layer).call is Functional.call else None
    if isinstance(layer, keras.Sequential):
        return layer._functional if type(layer).call is keras.Sequential.call else None
    return None


def run_graph(network: Functional, inputs: Any, run: Callable, training: bool | None):
    """Calls a functional model, and each of its operations by `run`.

    Args:
        network: The functional model.
        inputs: What it is given.
        run: Function of an operation, of what calls it, and of its arguments: a tuple
            and a dict.
        training: Whether it is training.

    Returns:
        What the network returns, of what `run` has returned.
    """

    def each(operation):
        call = operation_fn(operation)
        options = {}
        if "training" in getattr(operation, "_call_context_args", {}):
            options = {"training": training}
        return lambda *args, **kwargs: run(operation, call, args, {**kwargs, **options})

    outputs = network._run_through_graph(
        network._standardize_inputs(inputs), operation_fn=each
    )
    return unpack_singleton(outputs)


def tried(function: Callable, shape: Sequence[int]) -> int:
    """Calls a function of a tensor of that shape without computing anything.

    Layers that it calls are built.

    Returns:
        How many losses layers have added meanwhile, by `add_loss`.
    """
    counts = []

    def call(x):
        with keras.StatelessScope(collect_losses=True) as scope:
            outputs = function(x)
        counts.append(len(scope.losses))
        return outputs

    compute_output_spec(call, keras.KerasTensor(tuple(shape)))
    return max(counts)


def no_autocast() -> AutocastScope:
    """A block in which variables are read in the precision that they have."""
    return AutocastScope(None)


def unseeded() -> Any:
    """Returns what is drawn next without a seed goes by; None if nothing was."""
    generator = get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else keras.ops.convert_to_numpy(generator.state)


def set_unseeded(state: Any) -> None:
    """Draws without a seed go on from what `unseeded` has returned."""
    if state is not None:
        global_seed_generator().state.assign(state)


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Within the block this is Keras' seed, and what has none of its own begins anew.

    After it Keras' seed and draws are as before.
    """
    news = {GLOBAL_RANDOM_SEED: seed, GLOBAL_SEED_GENERATOR: None}
    olds = {name: get_global_attribute(name) for name in news}
    for name, value in news.items():
        set_global_attribute(name, value)
    try:
        yield
    finally:
        for name, value in olds.items():
            set_global_attribute(name, value)
