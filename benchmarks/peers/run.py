"""Runs one contestant in a process of its own: `python run.py SETTINGS.json`.

The settings name the contestant's module, whose `train(workload, x, settings, clock)`
trains as its users do, and the file that takes what was measured.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import workloads

# Where keras-ae is not installed, as beside pythae, the checkout's: what is used of it
# needs the standard library only.
sys.path.append(str(Path(__file__).parents[2]))

from keras_ae import machine  # noqa: E402


def main(path):
    settings = json.loads(Path(path).read_text())
    workload = workloads.Workload(*settings["workload"])
    x = np.load(settings["data"])
    clock = machine.Clock()
    module = importlib.import_module(settings["module"])
    # {"device": name, "device_bytes": most memory in use there, or None}
    report = module.train(workload, x, settings, clock)
    report |= clock.report()
    report |= {
        "first_epoch_after": clock.times[1] - settings["spawned"],
        "host_bytes": machine.peak_memory(),
        "versions": {"python": sys.version.split()[0], **machine.versions()},
    }
    Path(settings["report"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
