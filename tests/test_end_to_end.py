"""From nothing, and from pictures of one's own, to a run: on every backend."""

import csv
import json

import numpy as np
import pytest
from PIL import Image


@pytest.mark.once
def test_the_first_recipe(invoke, tmp_path):
    sizes = ("--epochs", 1, "--limit", 40)
    result = invoke("recipe", "moon-vae", *sizes, "--run-dir", "moons")
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "moons" / "scores.json").read_text())
    assert np.isfinite([*scores.values()]).all()
    assert scores["elbo"] < 0
    assert (tmp_path / "moons" / "report.html").exists()


@pytest.mark.thorough
def test_own_pictures_become_a_run_to_use_and_to_go_on_with(invoke, tmp_path):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        pixels = rng.integers(0, 256, (20 + index, 24, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index:02d}.png")
    whole = tmp_path / "photos" / "00.png"
    (tmp_path / "photos" / "truncated.png").write_bytes(whole.read_bytes()[:100])
    train = ("train", "Vae", "photos", "--image-size", 16)
    options = ("--set", "architecture=dense", "--set", "widths=8", "--latent-dim", 2)
    result = invoke(*train, *options, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "truncated.png" in result.stderr
    run = tmp_path / "runs" / "vae-photos"
    assert (run / "report.html").exists()
    assert "keras-ae sample" in result.stdout

    result = invoke("train", "vae", "photos", "--resume", "--epochs", 2)
    assert result.exit_code == 0, result.output
    with open(run / "history.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert invoke("evaluate", run, "photos").exit_code == 0
    for command in (("sample", run), ("reconstruct", run, "photos")):
        result = invoke(*command, "--output", f"{command[0]}.png")
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / f"{command[0]}.png") as sheet:
            assert np.asarray(sheet).std() > 0

    for index in range(10):
        (tmp_path / "photos" / f"more-{index}.png").write_bytes(whole.read_bytes())
    grown = invoke("train", "vae", "photos", "--resume", "--epochs", 3)
    assert grown.exit_code == 1
    assert "start a new run" in grown.stderr and "Traceback" not in grown.stderr
