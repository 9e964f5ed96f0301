"""Several processes that train together: how they compare what they have.

How it is exchanged is the engine's.
"""

import random
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from keras_ae import processes
from keras_ae.backend import _shared, keras_private

# Steps from one comparison of the batches' values, and of the weights, to the next.
OFTEN = 100

LOST = (
    "Another process of this training has ended or can't be reached, so that this one "
    "ends too; what it says, or the system's log, tells why."
)


class Exchange(Protocol):
    """What an engine exchanges between the processes that train together."""

    def numbers(self, number: int) -> list[int]:
        """Returns the number that each process has, from 0 to 2**32 - 1."""

    def gather(self, value: Any) -> list[Any]:
        """Returns what each process has of a small value, which can be pickled."""

    def from_first(self, value: Any) -> Any:
        """Returns what the first process has of a value, which can be pickled."""

    def take_firsts(self, model: keras.Model) -> None:
        """Assigns the first process' values to the variables of `state`."""

    def random_state(self) -> Any:
        """Returns what the engine's own random numbers go by."""

    def set_random_state(self, state: Any) -> None:
        """Goes on from what `random_state` has returned."""


def port_taken(where: str) -> ValueError:
    """Returns the error of a port that another program uses."""
    return ValueError(
        f"The processes must meet at a port that is free. Received: {where}, which "
        "another program uses; choose another one with MASTER_PORT, `torchrun "
        "--master-port`, or `--rdzv-endpoint` over hosts."
    )


def not_met(where: str) -> processes.ProcessLost:
    """Returns the error of processes of which some did not come."""
    return processes.ProcessLost(
        f"The processes did not meet at {where}: see that all of them were started "
        "and that their hosts reach that one."
    )


def check_all(devices: Any, found: Sequence[str], count: int) -> None:
    """Refuses some of the devices in one of several processes.

    Args:
        devices: As in `keras_ae.distribute`.
        found: What all processes have.
        count: How many processes there are.
    """
    if len(_shared.chosen_devices(devices, found)) < len(found):
        raise ValueError(
            f"`devices` must be 'all' or {len(found)} in one of {count} processes that "
            f"were started together. Received: devices={devices!r}"
        )


def compare(exchange: Exchange, batch: Any, thorough: bool) -> None:
    """Refuses batches that are not the same in all processes.

    Args:
        exchange: The engine's.
        batch: Arrays or tensors in any structure.
        thorough: Whether values are compared, too, not only shapes.
    """
    parts = [part for part in keras.tree.flatten(batch) if part is not None]
    shapes = [tuple(part.shape) for part in parts]
    number = zlib.crc32(repr(shapes).encode())
    if thorough:
        for part in parts:
            number = _checksum(part, number)
    if len({*exchange.numbers(number)}) > 1:
        said = _said(exchange, ", ".join(map(str, shapes)), "of other values")
        raise ValueError(
            "All processes must be given the same batches, in the same order. "
            f"Received: {said}; give each of them all of the data, and seed what "
            "shuffles them."
        )


def _checksum(array, start=0):
    """A number of some rows of an array."""
    rows = array[:: max(1, len(array) // 16)] if len(array.shape) else array
    rows = np.ascontiguousarray(ops.convert_to_numpy(rows))
    return zlib.crc32(rows.reshape(-1).view(np.uint8), start)


def _said(exchange, mine, otherwise):
    """What each process has, in words."""
    found = exchange.gather(mine)
    if len({*found}) == 1:
        return f"{found[0]} in each, but {otherwise}"
    other = next(rank for rank, said in enumerate(found) if said != found[0])
    return f"{found[0]} in the first process, {found[other]} in process {other}"


def start_together(exchange: Exchange, model: keras.Model, data: Any) -> None:
    """Compares model and data of all processes; takes the first's weights and seeds.

    Args:
        exchange: The engine's.
        model: The model, built.
        data: What it is to be trained or measured on.

    Raises:
        ValueError: If they are not the same.
    """
    # Names are numbered by what a process has made before.
    shapes = [(tuple(v.shape), str(v.dtype)) for v in state(model)]
    weights = sum(int(np.prod(shape)) for shape, _ in shapes)
    mine = f"{type(model).__name__} of {weights:,} numbers"
    number = zlib.crc32(repr(shapes).encode())
    data = getattr(data, "images", data)
    if hasattr(data, "shape"):
        mine += f" and examples {tuple(data.shape)}"
        number = _checksum(data, number)
    if len({*exchange.gather((mine, number))}) > 1:
        raise ValueError(
            "All processes must train the same model on the same examples. Received: "
            f"{_said(exchange, mine, 'of other shapes or values')}; give each of them "
            "the same arguments and all of the data."
        )
    exchange.take_firsts(model)
    _take_first_seeds(exchange)


def state(model: keras.Model) -> list[keras.Variable]:
    """Returns all variables that a step may assign."""
    variables = [*model.variables, *model.metrics_variables]
    variables += model.optimizer.variables if model.compiled else []
    return [*{id(variable): variable for variable in variables}.values()]


def _take_first_seeds(exchange):
    """Goes on with the first process' random numbers, in all that Keras draws from."""
    found = [
        random.getstate(),
        np.random.get_state(),
        exchange.random_state(),
        keras_private.unseeded(),
    ]
    ours, numpys, engines, seed = exchange.from_first(found)
    random.setstate(ours)
    np.random.set_state(numpys)
    exchange.set_random_state(engines)
    keras_private.set_unseeded(seed)
