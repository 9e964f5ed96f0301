"""Runs the tests: `python -m tests [--quick | --all] [pytest arguments]`.

--quick   on the first backend, before a commit: without what is marked `thorough`
(nothing) these on all three backends, and what is marked `thorough` on the first
--all     what is marked `thorough` on all three, and what is marked `slow` on the first
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

# PyTorch compiles nothing, and so takes a third of the time of the others.
BACKENDS = ("torch", "tensorflow", "jax")
# How long they take, in units of `keras-ae recipe moon-vae` on the same machine.
UNITS = {"--quick": 3, "": 13, "--all": 18}


def main(arguments: list[str]) -> int:
    speed = next((name for name in ("--quick", "--all") if name in arguments), "")
    arguments = [argument for argument in arguments if argument != speed]
    backends = BACKENDS[:1] if speed == "--quick" else BACKENDS
    print(
        f"Tests ({speed or 'without --all'}) on {', '.join(backends)}: "
        f"about {UNITS[speed]} times as long as `keras-ae recipe moon-vae`.",
        flush=True,
    )
    totals: Counter[str] = Counter()
    status = 0
    for index, backend in enumerate(backends):
        print(f"== {backend} ({index + 1} of {len(backends)})", flush=True)
        start = time.monotonic()
        code, outcomes = run(
            backend, ["-m", chosen(speed, first=index == 0), *arguments]
        )
        status = code or status
        totals += outcomes
        print(f"== {backend}: {time.monotonic() - start:.0f} s", flush=True)
    if not totals["passed"]:
        status = status or 1
    print(
        f"{totals['passed']} passed, {totals['failed']} failed, "
        f"{totals['skipped']} skipped"
    )
    return status


def chosen(speed: str, first: bool) -> str:
    """Returns pytest's expression of the marks of what runs on a backend."""
    if first:
        quick, default, everything = "not slow and not thorough", "not slow", ""
    else:
        everything = "not slow and not once"
        quick = default = f"{everything} and not thorough"
    return {"--quick": quick, "": default, "--all": everything}[speed]


def run(backend: str, arguments: list[str]) -> tuple[int, Counter[str]]:
    """Runs pytest on a backend, a process a core; returns its status and outcomes."""
    workers = os.cpu_count() or 1
    # From another folder, so that what was installed is what is tested.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "pytest", "-n", str(workers), *arguments],
        cwd=Path(__file__).parent,
        env={**os.environ, **environment(backend)},
        stdout=subprocess.PIPE,
        text=True,
    )
    line = ""
    for line in process.stdout:
        print(line, end="", flush=True)
    outcomes: Counter[str] = Counter()
    for count, outcome in re.findall(r"(\d+) (passed|failed|error|skipped)", line):
        outcomes["failed" if outcome == "error" else outcome] += int(count)
    return process.wait(), outcomes


def environment(backend: str) -> dict[str, str]:
    """Variables of a worker: one thread each, and compilers that do not try hard."""
    variables = {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    if backend == "jax":
        # TensorFlow has an XLA of its own, which stops at flags that it does not know.
        variables["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        variables["JAX_COMPILATION_CACHE_DIR"] = str(compiled())
    threads = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "TF_NUM_INTRAOP_THREADS",
    )
    return {**variables, **dict.fromkeys(threads, "1")}


def compiled() -> Path:
    """Folder for what JAX has compiled, which runs on processors of one kind only.

    It is emptied when it has grown beyond a gibibyte, by what the code once was.
    """
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text().splitlines() if processor.exists() else []
    kind = {line for line in lines if line.startswith(("model name", "flags"))}
    kind = "\n".join([platform.machine(), platform.processor(), *sorted(kind)])
    digest = hashlib.sha256(kind.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "keras-ae" / "tests" / digest
    if sum(file.stat().st_size for file in folder.glob("*")) > 2**30:
        shutil.rmtree(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
