"""Shared by all tests: seeds, and real data where it lies beside the checkout."""

import gc
import math
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from command import keras_ae_command

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Rewriting the graphs of small models takes longer than running them.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


# What is alive now stays so: collecting garbage need not look at it, nor look often.
gc.freeze()
gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """What is tested of one story is so in one process, which trains its model once."""
    from xdist.scheduler import LoadScopeScheduling

    class Stories(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            story = re.search(r"test_contract\.py::.*(\[\w+\])$", nodeid)
            return story[1] if story else nodeid

    return Stories(config, log)


def memory():
    """Returns the bytes that this process holds; infinity where that can't be read."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return math.inf
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def forget():
    """Frees models that are no more: TensorFlow's graphs are large, and cyclic."""
    # To collect takes seconds, after every file minutes of a run.
    is_large = memory() > 3 * 2**30
    keras.utils.clear_session(free_memory=is_large)
    if is_large:
        # What is left is of compilers, and stays: the next time is sooner done.
        gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """Models go with their file."""
    yield
    forget()


def seed(module):
    """Starts the streams of random numbers anew."""
    keras.utils.set_random_seed(0)
    if hasattr(module, "RNG"):
        module.RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeded(request):
    """Every test draws the same numbers, whichever ran before it in its process."""
    seed(request.module)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    """So does what several tests share: it is made before `seeded` is."""
    if fixturedef.scope == "module":
        seed(request.module)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Function that runs `keras-ae ...` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERAS_AE_DATA", raising=False)
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path / "cache"))

    def invoke(*arguments):
        return keras_ae_command(*arguments)

    return invoke


@pytest.fixture(scope="session")
def real_data():
    """Function of a file name in the folder of real data; skips where it is absent."""

    def path(name):
        if not (DATA / name).exists():
            pytest.skip(f"real data not found: {DATA / name}")
        return DATA / name

    return path


@pytest.fixture(scope="session")
def images():
    """A small batch of grey pictures, (32, 12, 10, 1) uint8: bright discs."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:12, :10]
    centers = rng.uniform(3, 7, (32, 2, 1, 1))
    distance = np.hypot(rows - centers[:, 0], columns - centers[:, 1])
    return np.uint8(255 * np.clip(3.5 - distance, 0, 1))[..., None]
