"""Runs the tests once per backend: `python -m tests [pytest arguments]`."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")


def main(arguments: list[str]) -> int:
    totals: Counter[str] = Counter()
    status = 0
    for backend in BACKENDS:
        print(f"== {backend}", flush=True)
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Two workers share two cores: PyTorch's threads would wait for one another,
            # which makes small models ten times slower.
            "OMP_NUM_THREADS": "1",
        }
        # From another folder, so that what was installed is what is tested.
        run = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest", "-n", "2", *arguments],
            cwd=Path(__file__).parent,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = ""
        for line in run.stdout:
            print(line, end="", flush=True)
        status = run.wait() or status
        for count, outcome in re.findall(r"(\d+) (passed|failed|error|skipped)", line):
            totals["failed" if outcome == "error" else outcome] += int(count)
    if not totals["passed"]:
        status = status or 1
    print(
        f"{totals['passed']} passed, {totals['failed']} failed, "
        f"{totals['skipped']} skipped"
    )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
