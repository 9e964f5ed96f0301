"""Processes that train together, as torchrun starts them: who this one is."""

from __future__ import annotations

import os
from collections.abc import Sequence

# What torchrun tells each process that it starts.
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# What a process ends with that has lost another one: it is not the one to blame.
LOST_STATUS = 75
# Whether this process says that it has lost another; what has started it may say why.
tells_of_loss = True


class ProcessLost(ConnectionError):
    """Another process of the training has ended, or can't be reached."""


class ProcessesNeeded(ValueError):
    """What was asked for takes a process for each device.

    Args:
        devices: Numbers of the devices.
        are_cards: Whether they are graphics cards, not parts of the CPU.
    """

    def __init__(self, devices: Sequence[int], are_cards: bool):
        self.devices = tuple(devices)
        self.are_cards = are_cards
        visible = ""
        if are_cards and self.devices != tuple(range(len(self.devices))):
            visible = f"CUDA_VISIBLE_DEVICES={','.join(map(str, self.devices))} "
        super().__init__(
            "On PyTorch each device computes in a process of its own. Received: "
            f"{len(self.devices)} devices, and one process; start it as `{visible}"
            f"torchrun --nproc-per-node {len(self.devices)} script.py` (`keras-ae "
            f"train --devices {len(self.devices)}` does so itself)."
        )


def are_started() -> bool:
    """Whether this is a process that torchrun, or what does as it does, has started."""
    return all(os.environ.get(name) for name in _TOLD)


def count() -> int:
    """Returns how many processes were started together, on all hosts; 1 without."""
    return int(os.environ["WORLD_SIZE"]) if are_started() else 1


def is_first() -> bool:
    """Whether this process is the first of those, which writes and tells."""
    return not are_started() or int(os.environ["RANK"]) == 0
