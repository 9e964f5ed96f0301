"""CONTRIBUTING's steps are all that a new model needs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import keras_ae

pytestmark = [pytest.mark.once, pytest.mark.thorough]

ROOT = Path(__file__).parents[1]
PACKAGE = Path(keras_ae.__file__).parent
STEPS = (ROOT / "CONTRIBUTING.md").read_text()


def insert(path, before, line):
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, f"{line}{before}"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package and its tests, with the model of the steps added."""
    root = tmp_path_factory.mktemp("copy")
    package, tests = root / "keras_ae", root / "tests"
    shutil.copytree(PACKAGE, package)
    shutil.copytree(ROOT / "tests", tests)
    # 1 and 2: the class, in a file of its family.
    (code,) = re.findall(r"```python\n(.*?)```", STEPS, re.S)
    written = "\n".join(line.removeprefix("   ") for line in code.splitlines())
    (package / "models" / "variational" / "squared.py").write_text(
        f'"""A VAE of the guide."""\n\n{written}\n'
    )
    # 3: registered.
    registry = package / "models" / "__init__.py"
    insert(
        registry,
        "from keras_ae.models.variational.vae import VAE\n",
        "from keras_ae.models.variational.squared import SquaredKLVAE\n",
    )
    insert(registry, '    "StackedSAE",\n', '    "SquaredKLVAE",\n')
    insert(package / "__init__.py", '    "StackedSAE",\n', '    "SquaredKLVAE",\n')
    # 4: arguments other than the defaults.
    insert(
        tests / "contract.py",
        '    "StackedSAE": {',
        '    "SquaredKLVAE": {"beta": 0.3},\n',
    )
    return root


def run(copy, *command):
    done = subprocess.run(
        [sys.executable, "-P", *command],
        cwd=copy / "tests",
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_contract_runs_on_it(copy):
    found = run(copy, "-m", "pytest", "-q", "test_contract.py", "-k", "SquaredKLVAE")
    assert int(re.search(r"(\d+) passed", found).group(1)) > 20


def test_the_command_line_knows_it(copy):
    assert "SquaredKLVAE" in run(copy, "-m", "keras_ae", "models")
    told = run(copy, "-m", "keras_ae", "models", "squaredklvae")
    assert "KL(q(z | x) || p(z))²" in told and "Kingma and Welling" in told
