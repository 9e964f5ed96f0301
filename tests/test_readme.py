"""The README says what the repository holds."""

import ast
import configparser
import importlib.util
import re
from pathlib import Path

import pytest

import keras_ae
from keras_ae import scripts

pytestmark = pytest.mark.once


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_tables_are_those_of_the_recorded_runs():
    spec = importlib.util.spec_from_file_location(
        "record", ROOT / "benchmarks" / "record.py"
    )
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    assert record.readme(README) == README
    zoo = Path(keras_ae.__file__).parent / "zoo.json"
    assert record.zoo(README) == zoo.read_text()
    assert {*record.SHOWN_BY} <= {*keras_ae.models.__all__}
    assert {*record.SHOWN_BY.values()} <= scripts.recipes().keys()
    assert list((ROOT / "benchmarks" / "results").glob("*.json"))


def test_python_examples_parse_and_name_what_exists():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        ast.parse(block)
    for path in re.findall(r"keras_ae\.([\w.]+)", README):
        found = keras_ae
        for name in path.split("."):
            found = getattr(found, name)


def test_every_model_and_linked_file_is_there():
    for name in keras_ae.models.__all__:
        assert f"| `{name}` |" in README
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_extra_that_is_named_can_be_installed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    files = [ROOT / "README.md", *ROOT.glob("recipes/*.py")]
    files += Path(keras_ae.__file__).parent.rglob("*.py")
    named = {
        extra.strip()
        for file in files
        for group in re.findall(r"keras-ae\[([\w,-]+)\]", file.read_text())
        for extra in group.split(",")
    }
    assert {"recipes", "map", "cuda"} <= named
    assert named <= {*extras}
