"""The notebooks of the documentation: their code runs, their outputs are their own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import keras_ae

pytestmark = pytest.mark.once

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
load = keras_ae.datasets.load


def cells(path):
    return [
        cell
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]


def discs(name, split="train", *, image_size=28, limit=300, labels=False):
    """Pictures of the shape of a data set, and labels that are drawn."""
    if name == "moon-phases":
        return load(name, split, limit=1000, labels=labels)
    rng = np.random.default_rng(len(split))
    # Of a tenth of them, a part sets an alarm at 5 %.
    count = min(limit, 2000)
    rows, columns = np.mgrid[:image_size, :image_size] / image_size
    centres = rng.uniform(0.3, 0.7, (count, 2, 1, 1))
    distance = np.hypot(rows - centres[:, 0], columns - centres[:, 1])
    channels = 3 if name == "celeba" else 1
    pictures = np.uint8(255 * np.clip(6 - 20 * distance, 0, 1))[..., None]
    pictures = pictures.repeat(channels, axis=-1)
    names = ("label", "Smiling", "Eyeglasses")
    drawn = {name: rng.integers(0, 10, count) for name in names}
    drawn |= {name: drawn[name] % 2 == 0 for name in names[1:]}
    return (pictures, drawn) if labels else pictures


@pytest.mark.thorough
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keras_ae.datasets, "load", discs)
    if path.stem != "anomalies":
        monkeypatch.setitem(discs.__kwdefaults__, "limit", 200)
    found = {}
    for cell in cells(path):
        code = re.sub(r"epochs=\d+", "epochs=1", "".join(cell["source"]))
        if path.stem != "anomalies":
            code = re.sub(r"limit=\d+", "limit=200", code)
        exec(code, found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_of_this_code(path):
    book = json.loads(path.read_text("utf-8"))
    executed = book["metadata"]["executed"]
    assert executed["command"].endswith(path.stem) and executed["commit"]
    # In order, once: nothing was changed after it.
    counts = [cell["execution_count"] for cell in cells(path)]
    assert counts == [*range(1, len(counts) + 1)]
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    kinds = {output["output_type"] for output in outputs}
    assert kinds <= {"display_data", "execute_result", "stream"}
    assert all(output.get("name") != "stderr" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    # Of no interest to a reader: paths of the machine.
    texts = [text for output in outputs for text in output.get("text", ())]
    assert not [text for text in texts if re.search(r"(^|\s)/\w+/", text)]
    assert path.stat().st_size < 1_500_000


def test_every_notebook_is_listed():
    index = (NOTEBOOKS[0].parent / "index.md").read_text("utf-8")
    menu = (NOTEBOOKS[0].parents[2] / "mkdocs.yml").read_text("utf-8")
    assert len(NOTEBOOKS) == 8
    for path in NOTEBOOKS:
        assert f"({path.name})" in index
        assert f"notebooks/{path.stem}.md" in menu
