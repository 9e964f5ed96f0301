"""Runs that go on from a trained model and compare several."""

import json

import numpy as np
import pytest

import keras_ae
from keras_ae import metrics, runs
from keras_ae.runs import comparing

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (240, 8, 8, 1), "uint8")


@pytest.fixture(scope="module")
def model(pictures):
    model = keras_ae.VAE(2, architecture="dense", widths=(8,))
    model.compile("adam")
    model.fit(pictures, epochs=1, verbose=0)
    return model


def test_models_are_compared_on_the_same_pictures(tmp_path, pictures, model):
    train, test = pictures[:160], pictures[160:]
    model.save(tmp_path / "trained.keras")
    run = runs.Run(tmp_path / "run", seed=3)
    run.adopt(run.trained(tmp_path / "trained.keras", train), train)
    run.fit_sampler(model, "gaussian", train)
    run.fit_sampler(model, "mixture", train, components=2)
    network = keras_ae.features.principal(train, dimensions=4)
    run.compare({"ours": model}, train, test, network, draws=2)

    found = json.loads((tmp_path / "run" / "scores.json").read_text())
    restored = np.clip(model.reconstruct(test), 0, 1)
    assert found["ours_psnr"] == pytest.approx(metrics.psnr(test / 255, restored), 1e-5)
    real = network.features(test)
    for sampler in ("gaussian", "mixture"):
        drawn = [
            network.features(np.clip(model.sample(80, seed=s, sampler=sampler), 0, 1))
            for s in (3, 4)
        ]
        distances = [metrics.frechet_distance(real, x) for x in drawn]
        label = f"ours_samples_{sampler}"
        mean = pytest.approx(np.mean(distances), 1e-4)
        assert found[f"{label}_frechet_distance"] == mean
        deviation = pytest.approx(np.std(distances, ddof=1), 1e-2)
        assert found[f"{label}_frechet_distance_deviation"] == deviation
        shares = [metrics.fidelity_and_diversity(real, x) for x in drawn]
        recall = pytest.approx(np.mean([share.recall for share in shares]))
        assert found[f"{label}_recall"] == recall
    drawn = {path.stem for path in (tmp_path / "run" / "pictures").iterdir()}
    assert drawn >= {"ours_samples", "ours_nearest", "side_by_side"}

    run.finish()
    card = (tmp_path / "run" / "README.md").read_text()
    assert "elsewhere: only what draws its codes was fitted here" in card
    saved = runs.load_model(tmp_path / "run")
    assert saved.fitted_samplers == ("gaussian", "mixture")


def test_a_copy_is_nearest_to_itself(pictures, monkeypatch):
    # In parts, of which the last is a remainder.
    monkeypatch.setattr(comparing, "_CHUNK", 70)
    copies = pictures[[0, 69, 70, 239]] / np.float32(255)
    np.testing.assert_array_equal(comparing.nearest(copies, pictures), copies)
    rng = np.random.default_rng(1)
    others = rng.random((5, 8, 8, 1), "float32")
    distances = np.square(others[:, None] - pictures[None] / 255).sum(axis=(2, 3, 4))
    expected = pictures[distances.argmin(axis=1)] / np.float32(255)
    np.testing.assert_array_equal(comparing.nearest(others, pictures), expected)


def test_models_of_other_pictures_and_none_are_refused(tmp_path, pictures, model):
    model.save(tmp_path / "trained.keras")
    run = runs.Run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"a model of pictures \(4, 4, 1\)"):
        run.trained(tmp_path / "trained.keras", pictures[:, :4, :4])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run.trained(tmp_path / "nowhere", pictures)


def test_few_pictures_and_no_labels_compare_no_sets(tmp_path, pictures, model, capsys):
    run = runs.Run(tmp_path / "run")
    assert run.feature_network(pictures) is None
    network = keras_ae.features.principal(pictures, dimensions=8)
    run.compare({"ours": model}, pictures, pictures[:8], network)
    assert "needs more than 8 held-back pictures. There are 8." in (
        capsys.readouterr().out
    )
    found = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert not [name for name in found if "frechet" in name]
