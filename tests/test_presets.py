"""Trained models by name: what is saved of them, what is shipped, what is refused."""

import json
import zipfile

import keras
import numpy as np
import pytest
from contract import few_everywhere
from numerics import to_numpy
from test_cli import assert_one_sentence

import keras_ae
from keras_ae import catalogue, presets

SHIPPED = [*catalogue.presets()]


def trained(Model, images, **kwargs):
    keras.utils.set_random_seed(1)
    model = Model(2, architecture="dense", widths=(40,), **kwargs)
    model.fit(images, epochs=2, batch_size=8, verbose=0)
    return model


@pytest.mark.parametrize(
    "Model", few_everywhere([keras_ae.VAE, keras_ae.GAN, keras_ae.AE], [keras_ae.VAE])
)
def test_a_preset_is_the_model_but_for_rounding(Model, images, tmp_path):
    model = trained(Model, images)
    model.save(tmp_path / "whole.keras")
    model.save_to_preset(tmp_path / "preset", data="discs", licence="none")
    size = (tmp_path / "preset" / "model.keras").stat().st_size
    assert size < 0.5 * (tmp_path / "whole.keras").stat().st_size
    loaded = keras_ae.from_preset(tmp_path / "preset")
    assert type(loaded) is Model and loaded.get_config() == model.get_config()
    for own, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(
            to_numpy(other), to_numpy(own), rtol=1e-3, atol=1e-6, err_msg=own.path
        )
    # Where it draws from is kept.
    np.testing.assert_allclose(
        loaded.sample(3, seed=0), model.sample(3, seed=0), atol=0.05
    )
    assert np.isfinite(loaded.fit(images, epochs=1, verbose=0).history["loss"]).all()
    facts = json.loads((tmp_path / "preset" / "preset.json").read_text())
    assert facts["model"] == Model.__name__ and facts["licence"] == "none"
    assert facts["image_shape"] == [12, 10, 1]
    assert facts["parameters"] == model.count_params()


def test_the_class_is_checked(images, tmp_path):
    trained(keras_ae.BetaVAE, images).save_to_preset(tmp_path / "preset")
    assert isinstance(keras_ae.VAE.from_preset(tmp_path / "preset"), keras_ae.BetaVAE)
    with pytest.raises(ValueError, match="must be of a GAN. Received: .*BetaVAE"):
        keras_ae.GAN.from_preset(tmp_path / "preset")


@pytest.mark.once
def test_nothing_is_lost_or_taken_for_another(images, tmp_path):
    model = keras_ae.VAE(2, architecture="dense", widths=(40,))
    with pytest.raises(ValueError, match="`model` must be built"):
        model.save_to_preset(tmp_path / "preset")
    model.build((None, *images.shape[1:]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="mine is not empty"):
        model.save_to_preset(tmp_path / "mine")
    kernel = model.decoder.layers[1].kernel
    kernel.assign(np.full(kernel.shape, 1e5))
    with pytest.raises(ValueError, match="must fit into half precision.*100000"):
        model.save_to_preset(tmp_path / "large")
    assert not [*(tmp_path / "large").iterdir()]
    kernel.assign(np.ones(kernel.shape))
    with pytest.raises(ValueError, match="as JSON knows them. Received: .*int64"):
        model.save_to_preset(tmp_path / "preset", pictures=np.int64(3))
    model.save_to_preset(tmp_path / "preset")
    path = tmp_path / "preset" / "model.keras"
    whole = path.read_bytes()
    # What only training needs, and what a run leaves, is not there.
    assert {*zipfile.ZipFile(path).namelist()} == {
        "metadata.json",
        "config.json",
        "model.weights.h5",
    }
    assert b"compile_config" not in zipfile.ZipFile(path).read("config.json")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="not the file that was saved: its SHA-256"):
        presets.load(tmp_path / "preset")
    path.unlink()
    with pytest.raises(ValueError, match="is damaged"):
        presets.load(tmp_path / "preset")
    path.write_bytes(whole)
    (tmp_path / "preset" / "preset.json").write_text("[]")
    with pytest.raises(ValueError, match="is damaged"):
        presets.load(tmp_path / "preset")
    with pytest.raises(FileNotFoundError, match=f"no preset sun-vae: .*{SHIPPED[0]}"):
        keras_ae.from_preset("sun-vae")


@pytest.mark.once
def test_what_is_shipped_says_where_it_comes_from():
    assert "moon-vae" in SHIPPED
    sizes = []
    for name in SHIPPED:
        folder = presets.find(name)
        facts = json.loads((folder / "preset.json").read_text())
        assert facts["command"].startswith(f"keras-ae recipe {name}")
        for fact in ("data", "licence", "description", "scores", "environment"):
            assert facts[fact], (name, fact)
        text = (folder / "preset.json").read_text() + (folder / "README.md").read_text()
        # Neither what was not shipped, nor where it was trained.
        assert "pictures/" not in text and "--data-dir" not in text
        assert f'from_preset("{name}")' in text
        sizes.append((folder / "model.keras").stat().st_size)
    assert sum(sizes) <= 30e6


@pytest.mark.parametrize("name", few_everywhere(SHIPPED, SHIPPED[:2]))
def test_what_is_shipped_draws_pictures(name):
    model = keras_ae.from_preset(name)
    pictures = model.sample(4, seed=0)
    assert pictures.shape == (4, *model.image_shape)
    assert 0 <= pictures.min() < 0.2 and 0.7 < pictures.max() <= 1


def test_the_moons_of_the_preset_are_restored():
    """Trained on the default backend, it is as good on each."""
    moons, labels = keras_ae.datasets.load(
        "moon-phases", "test", limit=200, labels=True
    )
    # It has seen waxing moons only.
    moons = moons[labels["phase"] < 0.5]
    model = keras_ae.VAE.from_preset("moon-vae")
    mse = model.evaluate(moons, verbose=0, return_dict=True)["mse"]
    facts = json.loads((presets.find("moon-vae") / "preset.json").read_text())
    assert mse == pytest.approx(facts["scores"]["mse"], rel=0.2)


@pytest.mark.once
def test_commands_take_presets_by_name(invoke, tmp_path):
    listed = invoke("presets")
    assert listed.exit_code == 0 and "VAE of moon-phases, 32 x 32 x 1" in listed.output
    drawn = invoke("sample", "moon-vae", "-n", 4, "--output", "moons.png")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "moons.png").exists()
    # What lies here goes first.
    (tmp_path / "moon-vae").mkdir()
    again = invoke("sample", "moon-vae", "-n", 4, "--output", "again.png")
    assert_one_sentence(again, "There is no model.keras in moon-vae")
    keras_ae.VAE.from_preset("moon-vae").save_to_preset(tmp_path / "mine")
    content = bytearray((tmp_path / "mine" / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "mine" / "model.keras").write_bytes(content)
    damaged = invoke("sample", "mine", "-n", 4, "--output", "again.png")
    assert_one_sentence(damaged, "not the file that was saved", "SHA-256 is not that")
    misspelt = invoke("sample", "mime", "-n", 4, "--output", "again.png")
    assert_one_sentence(misspelt, "or preset mime. Did you mean mine?")
    missing = invoke("sample", "sun-vae", "-n", 4, "--output", "again.png")
    assert_one_sentence(missing, "no model file, run directory or preset sun-vae")


@pytest.mark.once
def test_training_goes_on_with_a_preset(invoke, tmp_path):
    train = ("train", "vae", "moon-phases", "--limit", 60, "--epochs", 1)
    rate = ("--set", "learning_rate=1e-9")
    result = invoke(*train, "--from", "moon-vae", *rate, "--run-dir", "mine")
    assert result.exit_code == 0, result.output
    assert "Goes on with moon-vae." in result.output
    moons = keras_ae.datasets.load("moon-phases", "test", limit=8)
    preset = keras_ae.from_preset("moon-vae")
    went_on = keras_ae.runs.load_model(tmp_path / "mine")
    np.testing.assert_allclose(
        went_on.encode(moons), preset.encode(moons), rtol=1e-3, atol=1e-3
    )
    missing = invoke(*train, "--from", "sun-vae", "--run-dir", "other")
    assert_one_sentence(missing, "no model file, run directory or preset", "sun-vae")
