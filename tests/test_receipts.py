"""Receipts: long trainings that go on where they were cut, and their verdicts."""

import importlib
import json
import time
import types
from pathlib import Path

import numpy as np
import pytest

import keras_ae

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class Few:
    """Digits enough for a step or two."""

    train = np.random.default_rng(0).integers(0, 256, (150, 28, 28, 1), "uint8")
    test = train[:40]
    white = (test > 127).astype("float32")


@pytest.fixture
def receipts(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("receipts")

    def build():
        return keras_ae.VAE(
            2, architecture="dense", widths=(4,), likelihood="bernoulli"
        )

    entry = module.Receipt(build, 3, 100.0, "Nobody", module.likelihood, warm_up=2)
    monkeypatch.setitem(module.RECEIPTS, "VAE", entry)
    monkeypatch.setattr(module, "RESULTS", Path("nowhere.json"))
    return module


@pytest.mark.once
@pytest.mark.thorough
def test_a_training_that_was_cut_ends_as_if_it_had_not_been(receipts, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    expected = receipts.train("VAE", whole, Few, 3, time.monotonic() + 1000)

    class Cut(Exception):
        pass

    def save(*arguments, save=receipts.checkpoints.save):
        save(*arguments)
        raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receipts.checkpoints, "save", save)
        # The file is written whole or not at all: this one is not.
        with pytest.raises(Cut):
            receipts.train("VAE", cut, Few, 3, time.monotonic() + 1000)
    assert not (cut / "last.keras").exists()
    # An hour that is over when the first epoch is.
    clock = types.SimpleNamespace(
        monotonic=iter([0.0, 2.0]).__next__, perf_counter=time.perf_counter
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receipts, "time", clock)
        assert receipts.train("VAE", cut, Few, 3, 1.0) is None
    model = receipts.train("VAE", cut, Few, 3, time.monotonic() + 1000)
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.once
def test_verdicts(receipts, tmp_path):
    def folder(name, values):
        directory = tmp_path / name
        directory.mkdir()
        np.save(directory / "per_example.npy", np.asarray(values, "float32"))
        found = {
            "mean": float(np.mean(values)),
            "standard_error": float(np.std(values, ddof=1) / np.sqrt(len(values))),
        }
        return directory, found

    values = np.random.default_rng(0).normal(100.0, 1.0, 400)  # error 0.05
    for name, shift, verdict in (("a", -1, "reached"), ("b", 0.08, "near")):
        _, found = folder(name, values - values.mean() + 100.0 + shift)
        assert receipts.judged("VAE", found, {})["verdict"] == verdict
    _, found = folder("c", values + 1.0)
    assert receipts.judged("VAE", found, {})["verdict"] == "short"

    # Of differences the error is that of the differences.
    beside = receipts.RECEIPTS["VAE"]._replace(published=-1.0, beside="VAE, 200 epochs")
    receipts.RECEIPTS["VAE"] = beside
    assert receipts.judged("VAE", found, {}) is None
    path, found = folder("d", values - 1.5)
    folders = {"VAE": path, "VAE, 200 epochs": folder("e", values)[0]}
    row = receipts.judged("VAE", found, folders)
    assert row["value"] == pytest.approx(-1.5, abs=1e-5)
    assert row["error"] < 1e-4 and row["verdict"] == "reached"


@pytest.mark.once
def test_the_page_is_the_table_of_what_was_recorded(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("receipts")
    recorded = json.loads(module.RESULTS.read_text())["receipts"]
    text = module.PAGE.read_text()
    assert module.page(text, recorded) == text
    for name, row in recorded.items():
        assert {key: row[key] for key in module.told(name, row)} == module.told(
            name, row
        )
