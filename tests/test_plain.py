"""Without any acceleration, all of the contract holds too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import keras_ae
from keras_ae import backend

model = keras_ae.VAE(2, image_shape=(4,))
assert backend.PLAIN
assert not backend.fuses_steps(model) and not backend.records_steps(model)
"""


def run(*command):
    done = subprocess.run(
        [sys.executable, "-P", *command],
        cwd=Path(__file__).parent,
        env={**os.environ, "KERAS_AE_PLAIN": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.thorough
def test_nothing_is_accelerated():
    run("-c", SCRIPT)


@pytest.mark.slow
def test_the_contract_holds():
    chosen = "[VAE] or [GAN] or [GLO] or [StackedSAE]"
    found = run(
        *("-m", "pytest", "-q", "test_contract.py", "-m", "not slow", "-k", chosen)
    )
    assert int(re.search(r"(\d+) passed", found).group(1)) > 60
