"""README and documentation say what the repository holds, and their code runs."""

import ast
import configparser
import importlib.util
import io
import re
import shlex
import tarfile
from pathlib import Path

import click
import keras
import numpy as np
import pytest
from PIL import Image
from scipy import stats

import keras_ae
from keras_ae import catalogue, cli

pytestmark = pytest.mark.once


ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


@pytest.fixture(scope="module")
def record():
    spec = importlib.util.spec_from_file_location(
        "record", ROOT / "benchmarks" / "record.py"
    )
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    return record


def test_tables_are_those_of_the_recorded_runs(record):
    for page, text in record.pages().items():
        assert page.read_text() == text, page
    zoo = Path(keras_ae.__file__).parent / "zoo.json"
    assert record.zoo() == zoo.read_text()
    assert {*record.SHOWN_BY} <= {*keras_ae.models.__all__}
    assert {*record.SHOWN_BY.values()} <= catalogue.recipes().keys()
    assert list((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_name_what_exists(page):
    for block in blocks(page):
        ast.parse(block)
    for path in re.findall(r"(?<!::: )keras_ae\.([\w.]+\w)", page.read_text()):
        found = keras_ae
        for name in path.split("."):
            found = getattr(found, name)


def test_every_linked_file_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)


def test_every_public_name_is_in_the_reference():
    text = "\n".join(page.read_text() for page in PAGES)
    shown = {*re.findall(r"^::: keras_ae\.([\w.]+)", text, re.M)}
    assert {*keras_ae.models.__all__, "Classifier"} <= shown
    for name, module in keras_ae._MODULES.items():
        inside = {path for path in shown if path.split(".")[0] == name}
        assert module in shown or inside or name in ("models", "base"), name


def test_readme_can_be_read_at_once():
    assert len(PAGES[0].read_text().splitlines()) <= 200


def test_runs_are_named_as_the_commands_name_them():
    text = "\n".join(page.read_text() for page in PAGES)
    names = {*catalogue.recipes(), "benchmark"}
    for model, data in re.findall(r"keras-ae train (\w+) ([\w./]+)", text):
        names.add(catalogue.run_name(model, data))
    normal = r"keras-ae anomalies fit ([\w./]+)(?: --model (\w+))?"
    for data, model in re.findall(normal, text):
        names.add(catalogue.run_name(f"anomalies-{model or 'vae'}", data))
    shown = {*re.findall(r"\bruns/([\w-]+)", text)}
    assert shown and shown <= names


def told_commands(text):
    """The words after `keras-ae` of all commands, those of a line in backticks too."""
    text = text.replace("\\\n", "")
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        for command in re.findall(r"keras-ae ([a-z].*)", block):
            # The last of what another shell is given.
            inner = command.count("'") % 2
            yield shlex.split(command.rstrip("'") if inner else command, comments=True)
    for command in re.findall(r"(?<!`)`keras-ae ([^`]+)`", text):
        words = shlex.split(command)
        # An option alone is no whole command.
        if len(words) > 1 and not words[1].startswith("-"):
            yield words


def test_commands_are_those_that_there_are():
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    found = [words for page in pages for words in told_commands(page.read_text())]
    assert len(found) > 60
    for words in found:
        command, context = cli.main, cli.main.make_context("keras-ae", [*words])
        while isinstance(command, click.Group):
            _, command, words = command.resolve_command(context, words)
            # Raises where an option is unknown, or an argument is missing.
            context = command.make_context(command.name, [*words], context)


def test_presets_are_those_that_there_are():
    text = (ROOT / "docs" / "guides" / "presets.md").read_text()
    moons = [name for name in catalogue.presets() if name.startswith("moon-")]
    assert f"and {['no', 'one', 'two', 'three', 'four'][len(moons) - 1]} more)" in text
    named = {*re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text)} - {"keras-ae"}
    assert {*catalogue.presets()} - {*moons} <= named


def test_rows_of_a_table_are_learned_as_it_says(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    length = rng.normal(170, 10, 1100)
    weight = rng.normal(length - 100, 5)
    weight[-1] = 150 - length[-1]
    kind = np.where(weight > 70, "heavy", "light")
    table = pandas.DataFrame({"length": length, "weight": weight, "kind": kind})
    monkeypatch.chdir(tmp_path)
    table.to_csv("measurements.csv", index=False)
    *_, code = blocks(ROOT / "docs" / "guides" / "data.md")
    code = code.replace("epochs=200", "epochs=5, verbose=0")
    found = {"keras": keras, "keras_ae": keras_ae}
    keras.utils.set_random_seed(0)
    exec(code, found)
    assert found["nats"].argmin() == 999
    new = found["new_table"]
    assert 150 < new["length"].mean() < 190
    assert set(new["kind"]) <= {"heavy", "light"}


def test_shards_are_learned_as_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_AE_CACHE", "cache")
    (tmp_path / "shards").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        with tarfile.open(f"shards/{number:03}.tar", "w") as file:
            for row in range(20):
                data = io.BytesIO()
                pixels = rng.integers(0, 256, (16, 16, 3), "uint8")
                Image.fromarray(pixels).save(data, "JPEG")
                member = tarfile.TarInfo(f"{number:03}/{row:04}.jpg")
                member.size = data.tell()
                data.seek(0)
                file.addfile(member, data)
    _, code, _ = blocks(ROOT / "docs" / "guides" / "data.md")
    # Of 16 pixels; few enough steps.
    code = code.replace("image_size=64", "image_size=16")
    code = code.replace("epochs=20", "epochs=1, verbose=0")
    found = {"keras_ae": keras_ae}
    exec(code, found)
    assert found["train"].shape == (32, 16, 16, 3)
    assert found["held_back"].shape == (4, 16, 16, 3)


def test_a_loss_term_of_ones_own_is_minimised_logged_and_saved(images, tmp_path):
    found = {"keras": keras, "keras_ae": keras_ae}
    code, *_ = blocks(ROOT / "docs" / "guides" / "extending.md")
    exec(code, found)
    model = found["SmoothAE"](2, roughness_weight=0.5)
    history = model.fit(images, epochs=2, verbose=0).history
    total = np.add(history["reconstruction"], history["roughness"])
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    assert min(history["roughness"]) > 0
    model.save(tmp_path / "smooth.keras")
    again = keras.saving.load_model(tmp_path / "smooth.keras")
    assert again.roughness_weight == 0.5
    np.testing.assert_array_equal(again.encode(images), model.encode(images))


def test_a_likelihood_of_ones_own_is_minimised_and_saved(images, tmp_path):
    found = {"keras": keras, "keras_ae": keras_ae}
    _, code, _ = blocks(ROOT / "docs" / "guides" / "extending.md")
    exec(code, found)
    x, likelihood = np.full((1, 1), 0.3), found["Logistic"](scale=0.2)
    log_prob = keras.ops.convert_to_numpy(likelihood.log_prob(x, np.zeros((1, 1))))
    np.testing.assert_allclose(log_prob, stats.logistic.logpdf(0.3, scale=0.2), 1e-5)
    model = found["model"]
    model.fit(images, verbose=0)
    assert model.sample(2, seed=0, mean=False).shape == (2, *images.shape[1:])
    model.save(tmp_path / "logistic.keras")
    again = keras.saving.load_model(tmp_path / "logistic.keras")
    assert again.likelihood.scale == 0.2


def test_a_number_of_ones_own_changes_in_training_and_is_saved(images, tmp_path):
    found = {"keras": keras, "keras_ae": keras_ae}
    *_, code = blocks(ROOT / "docs" / "guides" / "extending.md")
    exec(code, found)
    model = found["GrowingBetaVAE"](2, epochs_to_full=4)
    grow = found["Grow"]()
    history = model.fit(images, epochs=3, verbose=0, callbacks=[grow]).history
    assert history["kl"][0] == 0 and min(history["kl"][1:]) > 0
    model.save(tmp_path / "growing.keras")
    again = keras.saving.load_model(tmp_path / "growing.keras")
    assert again.epochs_to_full == 4 and float(again.share) == 0.5


def test_every_model_is_in_the_table():
    table = (ROOT / "docs" / "models" / "index.md").read_text()
    for name, facts in catalogue.docstrings().items():
        assert f"| [`{name}`](" in table
        assert facts["objective"] and "(http" in facts["paper"], name


# Pages whose code other tests run, and those without any.
ELSEWHERE = {"data", "explore", "extending"}
RUN = [page for page in PAGES if blocks(page) and page.stem not in ELSEWHERE]


@pytest.mark.thorough
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_code_runs(page, tmp_path, monkeypatch):
    """Page by page, on a few discs, an epoch each."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    # A kernel distance is a mean over subsets of a thousand; an alarm at 5 % needs a
    # hundred.
    few = {"adversarial": 40, "decoder_only": 40}
    count = {"evaluation": 1000, "anomalies": 100, **few}.get(page.stem, 80)
    centres = rng.uniform(8, 20, (count, 2, 1, 1))
    distance = np.hypot(rows - centres[:, 0], columns - centres[:, 1])
    discs = np.uint8(255 * np.clip(8 - distance, 0, 1))[..., None]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path))
    monkeypatch.setattr(keras_ae.datasets, "load", lambda *_, **__: discs)
    labels = Labels(np.arange(count) % 10)
    found = {"keras": keras, "keras_ae": keras_ae, "labels": labels}
    found |= {"train": discs, "test": discs[::-1], "faces": discs, "new": discs[:5]}
    found["normal"] = discs
    found["pages"] = np.tile(discs[:2], (1, 4, 4, 1))[:, :100, :100]
    found["noisy_pages"] = found["posters"] = found["pages"]
    found["observed"] = rng.random(discs.shape) < 0.5
    found["model"] = keras_ae.AE(2, architecture="linear")
    found["model"].fit(discs, verbose=0)
    for code in blocks(page):
        exec(re.sub(r"epochs=\d+", "epochs=1", code), found)


class Labels(np.ndarray):
    """Classes, and of what other attribute is asked for whether they are even."""

    def __new__(cls, classes):
        return np.asarray(classes).view(cls)

    def __getitem__(self, key):
        return self % 2 == 0 if isinstance(key, str) else super().__getitem__(key)


def test_every_extra_that_is_named_can_be_installed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    files = [*PAGES, *ROOT.glob("recipes/*.py")]
    files += Path(keras_ae.__file__).parent.rglob("*.py")
    named = {
        extra.strip()
        for file in files
        for group in re.findall(r"keras-ae\[([\w,-]+)\]", file.read_text())
        for extra in group.split(",")
    }
    assert {"recipes", "map", "cuda"} <= named
    assert named <= {*extras}
