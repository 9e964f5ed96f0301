"""The README says what the repository holds."""

import ast
import configparser
import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ae
from keras_ae import catalogue

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
    assert record.zoo() == zoo.read_text()
    assert {*record.SHOWN_BY} <= {*keras_ae.models.__all__}
    assert {*record.SHOWN_BY.values()} <= catalogue.recipes().keys()
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


def example(heading):
    (section,) = re.findall(rf"### {heading}\n(.*?)\n###", README, re.S)
    return re.search(r"```python\n(.*?)```", section, re.S)[1]


def test_rows_of_a_table_are_learned_as_it_says(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    length = rng.normal(170, 10, 1100)
    weight = rng.normal(length - 100, 5)
    weight[-1] = 150 - length[-1]
    table = pandas.DataFrame({"length": length, "weight": weight})
    monkeypatch.chdir(tmp_path)
    table.to_csv("measurements.csv", index=False)
    code = example("Rows of a table").replace("epochs=200", "epochs=5, verbose=0")
    found = {"pandas": pandas, "keras": keras, "keras_ae": keras_ae}
    keras.utils.set_random_seed(0)
    exec(code, found)
    assert found["nats"].argmin() == 999
    assert found["new_rows"].shape == (100, 2)
    assert 150 < found["new_rows"][:, 0].mean() < 190


def test_a_loss_term_of_ones_own_is_minimised_logged_and_saved(images, tmp_path):
    found = {"keras": keras, "keras_ae": keras_ae}
    exec(example("A loss term of your own"), found)
    model = found["SmoothAE"](2, roughness_weight=0.5)
    history = model.fit(images, epochs=2, verbose=0).history
    total = np.add(history["reconstruction"], history["roughness"])
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    assert min(history["roughness"]) > 0
    model.save(tmp_path / "smooth.keras")
    again = keras.saving.load_model(tmp_path / "smooth.keras")
    assert again.roughness_weight == 0.5
    np.testing.assert_array_equal(again.encode(images), model.encode(images))


def test_every_model_and_linked_file_is_there():
    for name, facts in catalogue.docstrings().items():
        assert f"| `{name}` |" in README
        assert facts["objective"] and "(http" in facts["paper"], name
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
