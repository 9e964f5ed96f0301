"""The machine: what it is, how long it takes, and how much of its memory.

Nothing but the standard library is imported until a device is asked for, so that the
peers of `benchmarks/` can measure themselves with it in environments of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "keras-ae",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "jaxlib",
    "torch",
    "pythae",
    "numpy",
)


def cores() -> int:
    """Cores that this process and those it starts may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Its maker's name for it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*: (.*)", text)
    return found[1] if found else platform.processor()


def environment() -> dict[str, str]:
    """What a result says of the machine, and of the code that it ran."""
    found = {
        "machine": f"{platform.system()} {platform.machine()}, {cores()} CPU cores",
        "processor": processor(),
        "commit": commit(),
    }
    return {name: text for name, text in found.items() if text is not None}


def commit() -> str | None:
    """Commit of the checkout that this package is run from, `-dirty` if changed since.

    None where it is installed, or where there is no git.
    """
    checkout = Path(__file__).parents[1]
    # Installed, it may lie in somebody else's checkout.
    if not (checkout / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        said = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    except OSError:
        return None
    return said.stdout.strip() or None


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def kind(device: str) -> str:
    """A machine's name as part of a file's: its card, or its cores."""
    if device == "cpu":
        return f"{cores()}-cpu-core{'s' * (cores() > 1)}"
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def device(backend: str) -> dict[str, Any]:
    """What a backend computes on.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.

    Returns:
        The `device` by its maker's name, `"cpu"` where there is no accelerator, and
        `device_bytes`, most memory of it that was in use, None where it has none of its
        own.
    """
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]()


def _tensorflow():
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    if not cards:
        return {"device": "cpu", "device_bytes": None}
    name = tf.config.experimental.get_device_details(cards[0]).get("device_name")
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return {"device": name or "gpu", "device_bytes": peak}


def _jax():
    import jax

    # Of other processes it is not known.
    device = jax.local_devices()[0]
    memory = device.memory_stats() or {}
    return {
        "device": device.device_kind,
        "device_bytes": memory.get("peak_bytes_in_use"),
    }


def _torch():
    import torch

    if not torch.cuda.is_available():
        return {"device": "cpu", "device_bytes": None}
    return {
        "device": torch.cuda.get_device_name(0),
        "device_bytes": torch.cuda.max_memory_allocated(),
    }


def peak_memory() -> int | None:
    """Most bytes of main memory that this process has had; None where unknown."""
    # On Linux `ru_maxrss` counts what the process that started this one had, too.
    with contextlib.suppress(OSError, ValueError):
        text = Path("/proc/self/status").read_text()
        (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", text)
        return 1024 * int(kibibytes)
    with contextlib.suppress(ImportError):
        import resource

        # macOS counts in bytes, others in KiB.
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


# `mallopt`'s numbers of its parameters, and what a training needs of each: arrays up to
# 256 MiB lie on the one heap, which keeps 2 GiB that are free and grows by 64 MiB.
_ALLOCATION = {-1: 2**31 - 1, -2: 2**26, -3: 2**28, -8: 1}


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, for what it needs next.

    A step frees what it computed. glibc gives large blocks back to the system, which
    clears each page that is taken again: of a convolutional step on a CPU up to a third
    of the time. To be called before a backend is imported, whose threads would have
    heaps of their own.

    Returns:
        Whether it does. Other C libraries are left as they are, and so is whatever the
        environment says of glibc's allocation: MALLOC_..., GLIBC_TUNABLES.
    """
    said = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if said or platform.libc_ver()[0] != "glibc":
        return False
    allocation = ctypes.CDLL(None).mallopt
    return all([allocation(*parameter) for parameter in _ALLOCATION.items()])


class Clock:
    """Times epochs from the call that trains to the end of each.

    Attributes:
        times: Of the clock on the wall, at the start and each epoch's end.
        processor_times: Seconds that the process has computed for, on all cores, until
            then. Other work on the machine hardly changes them.
        losses: By epoch.
    """

    def __init__(self):
        self.times, self.processor_times, self.losses = [], [], []

    def start(self) -> None:
        """Training begins."""
        self.times.append(time.time())
        self.processor_times.append(time.process_time())

    def epoch(self, loss: float) -> None:
        """An epoch has ended, with this mean loss."""
        # Reading it waits for what a device has still to do.
        self.losses.append(float(loss))
        self.start()

    def report(self) -> dict[str, list[float]]:
        """Lists by epoch: `seconds`, `processor_seconds` and `losses`."""
        return {
            "seconds": _differences(self.times),
            "processor_seconds": _differences(self.processor_times),
            "losses": self.losses,
        }


def _differences(times):
    return [after - before for before, after in itertools.pairwise(times)]


def spread(values: Sequence[float]) -> list[float]:
    """The median, the least and the greatest of several measurements."""
    return [statistics.median(values), min(values), max(values)]


def steady(by_epoch: Sequence[float]) -> Sequence[float]:
    """Measurements of epochs without the first, which compiles; a single one as is."""
    return by_epoch[1:] or by_epoch
