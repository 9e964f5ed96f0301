"""Runs one contestant in a process of its own: `python run.py SETTINGS.json`.

The settings name the contestant's module, whose `train(workload, x, settings, clock)`
trains as its users do, and the file that takes what was measured.
"""

import importlib
import json
import resource
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import workloads

PACKAGES = (
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "jaxlib",
    "torch",
    "pythae",
    "numpy",
)


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
        self.times.append(time.time())
        self.processor_times.append(time.process_time())

    def epoch(self, loss: float) -> None:
        """An epoch has ended, with this mean loss."""
        self.start()
        self.losses.append(float(loss))


def versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main(path):
    settings = json.loads(Path(path).read_text())
    workload = workloads.Workload(*settings["workload"])
    x = np.load(settings["data"])
    clock = Clock()
    module = importlib.import_module(settings["module"])
    # {"device": name, "device_bytes": most memory in use there, or None}
    report = module.train(workload, x, settings, clock)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    report |= {
        "seconds": np.diff(clock.times).tolist(),
        "processor_seconds": np.diff(clock.processor_times).tolist(),
        "losses": clock.losses,
        "first_epoch_after": clock.times[1] - settings["spawned"],
        "host_bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "versions": versions(),
    }
    Path(settings["report"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
