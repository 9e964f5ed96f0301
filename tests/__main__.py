"""Runs the tests once per backend: `python -m tests [pytest arguments]`."""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")

# Small models spend most of their time in JAX's compiler: it need not try hard, nor do
# anything twice.
XLA = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as cache:
        return run({**XLA, "JAX_COMPILATION_CACHE_DIR": cache}, arguments)


def run(options: dict[str, str], arguments: list[str]) -> int:
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
            **options,
        }
        # From another folder, so that what was installed is what is tested.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest", "-n", "2", *arguments],
            cwd=Path(__file__).parent,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = ""
        for line in process.stdout:
            print(line, end="", flush=True)
        status = process.wait() or status
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
