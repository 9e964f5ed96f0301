"""An editor, and a type checker, know the package's names and arguments."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_ae

pytestmark = [pytest.mark.once, pytest.mark.thorough]

SCRIPT = """
import numpy as np
import keras_ae
from keras_ae.likelihoods import Gaussian

model = keras_ae.VAE(latent_dim=3, likelihood=Gaussian(scale=1.0))
history = model.fit(np.zeros((4, 8)), epochs=1)
z: np.ndarray = model.encode(np.zeros((4, 8)))
keras_ae.VAE(latent_dim="three")
keras_ae.NoSuchModel()
reveal_type(keras_ae.VAE)
"""


def test_a_users_script_is_checked(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    # mypy finds what is installed by itself, but not an editable install.
    root = Path(keras_ae.__file__).parents[1]
    path = {} if root.name == "site-packages" else {"MYPYPATH": str(root)}
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", "script.py"],
        cwd=tmp_path,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
    ).stdout
    ours = [line for line in found.splitlines() if line.startswith("script.py:")]
    errors = {line.split(":")[1] for line in ours if ": error:" in line}
    assert errors == {"9", "10"}, found
    assert 'Argument "latent_dim" to "VAE" has incompatible type "str"' in found
    assert 'Module has no attribute "NoSuchModel"' in found
    assert "keras_ae.models.variational.vae.VAE" in found
