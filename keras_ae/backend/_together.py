"""Devices and processes that train together."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ae.backend import _processes
from keras_ae.backend._engine import BACKEND, engine


def distribute(devices: int | str | Sequence[int] = "all") -> list[str]:
    """Trains on several devices from here on.

    One line, before a model is made:

    ```python
    keras_ae.distribute()
    ```

    The results are those of one device, to rounding: noise, batch statistics and losses
    that look across the batch are those of the whole batch. Weights are whole on each
    device.

    On JAX each device computes an equal part of every batch. A batch that has no equal
    part for each device, such as the last of an epoch, is computed whole by all of
    them, which takes longer. `keras.distribution.DataParallel` does the same, and
    `keras.distribution.ModelParallel` cuts weights as well. In processes that are told
    RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, on one host or several, the devices
    of all of them compute together, each process is given the same data, and the first
    one's weights and seeds are taken. There it must be called before JAX computes
    anything.

    On TensorFlow the networks compute a part of every batch on each device, without
    XLA; noise, losses and updates are computed on the first one. So it is with models
    that are made in the scope of a `tf.distribute.MirroredStrategy`.

    On PyTorch a script is started once a device, on one host or several:
    `torchrun --nproc-per-node 4 script.py`. Each process is given the same data, and
    the networks compute a part of every batch in each; noise, losses and updates are
    computed by all of them alike, with the weights and the seeds of the first.

    Args:
        devices: `"all"`, how many, or which, numbered from 0. In processes that were
            started together all of those: what starts them knows how many.

    Returns:
        The devices, as the backend calls them.

    Raises:
        ValueError: If there are no such devices, on PyTorch if several are asked for in
            a process that torchrun has not started, or on JAX if it is too late.
    """
    return engine.distribute(devices)


def check_processes() -> None:
    """Raises `ValueError` in one of several processes that do not train together.

    Each would train a model of its own, and no one would be told.
    """
    count = engine.PROCESSES.alone() if engine.PROCESSES else 0
    if count > 1:
        raise ValueError(
            "`fit` must be told that several processes train together. Received: "
            f"{count} processes; call `keras_ae.distribute()` before the model is "
            "made, or start one alone."
        )


def start_together(model: keras.Model, data: Any) -> None:
    """Compares model and data of all processes; takes the first's weights and seeds.

    Of those that `distribute` has brought together; else it does nothing.

    Args:
        model: The model, built.
        data: What it is to be trained or measured on.

    Raises:
        ValueError: If they are not the same.
    """
    if are_together():
        _processes.start_together(engine.PROCESSES, model, data)


def are_together() -> bool:
    """Whether several processes train together, this one among them."""
    return engine.PROCESSES is not None and engine.PROCESSES.count() > 1


def is_first_process() -> bool:
    """Whether this is the first of the processes that train together, which tells."""
    return not are_together() or engine.PROCESSES.rank() == 0


def most_processes() -> int:
    """Returns how many processes `--devices` starts at most; 1 without PyTorch."""
    return engine.most_processes() if BACKEND == "torch" else 1


def meeting_point() -> tuple[Any, dict[str, str]]:
    """Opens a place where processes of this host meet: on PyTorch only.

    Returns:
        What keeps it open, and the environment variables that lead there.
    """
    return engine.meeting_point()


def from_first(value: Any) -> Any:
    """Returns what the first of the processes that train together has of a value."""
    return engine.PROCESSES.from_first(value) if are_together() else value
