"""What the benchmarks of speed say of the machine, and how they sum up rounds."""

import os
import platform
import re
import statistics
from collections.abc import Sequence
from pathlib import Path


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
    """What a result says of the machine."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {cores()} CPU cores",
        "processor": processor(),
    }


def kind(device: str) -> str:
    """A machine's name as part of a file's: its card, or its cores."""
    if device == "cpu":
        return f"{cores()}-cpu-core{'s' * (cores() > 1)}"
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def spread(values: Sequence[float]) -> list[float]:
    """The median, the least and the greatest of the rounds."""
    return [statistics.median(values), min(values), max(values)]
