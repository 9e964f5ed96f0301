"""Presets on hubs: sent, fetched, refused; the hubs are on this machine."""

import io
import json
import sys
import time
import zipfile
from hashlib import sha256

import keras
import numpy as np
import pytest
from hub import TOKEN, Hub
from numerics import to_numpy
from test_cli import assert_one_sentence

import keras_ae
from keras_ae import presets

HF, KAGGLE = "hf://me/discs", "kaggle://me/discs/keras/small"
BOTH = pytest.mark.parametrize("uri", [HF, KAGGLE])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Both hubs, with a token that may write and empty caches."""
    for client in ("huggingface_hub", "kagglehub"):
        pytest.importorskip(client, reason=f"{client} is not installed")
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    # It reads the source of all that calls it.
    monkeypatch.setattr("kagglehub.clients.get_user_agent", lambda: "tests")
    with Hub() as hub:
        lies_at(hub.address, monkeypatch)
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
        yield hub


def lies_at(address, monkeypatch):
    """Tells both clients where the hub is, which they ask for when imported."""
    from huggingface_hub import constants, file_download, hf_api
    from kagglesdk import kaggle_env

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    # Before its version 1, the client had a copy of it.
    for module in (constants, file_download):
        name = "HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(module, name, template, raising=False)
    prod = kaggle_env.KaggleEnv.PROD
    monkeypatch.setitem(kaggle_env._env_to_endpoint, prod, address)


@pytest.fixture(scope="module")
def model():
    return keras_ae.VAE(
        2, architecture="dense", widths=(8,), image_shape=(4, 4, 1), name="discs"
    )


@pytest.mark.once
@BOTH
def test_what_was_pushed_comes_back(uri, hub, model):
    model.push_to_hub(uri, data="discs", licence="MIT")
    (files,) = hub.repositories.values()
    assert files.keys() == {"preset.json", "model.keras", "README.md"}
    for load in (
        keras_ae.from_preset,
        keras_ae.VAE.from_preset,
        keras_ae.runs.load_model,
    ):
        loaded = load(uri)
        assert loaded.get_config() == model.get_config()
        for own, other in zip(model.weights, loaded.weights, strict=True):
            np.testing.assert_allclose(
                to_numpy(other), to_numpy(own), rtol=1e-3, atol=1e-6
            )
    with pytest.raises(ValueError, match="must be of a GAN. Received: .*//me/discs"):
        keras_ae.GAN.from_preset(uri)


@pytest.mark.once
def test_a_card_goes_with_it(hub, model, tmp_path):
    model.push_to_hub(HF, private=True, data="a | b", licence="CC0-1.0")
    card = hub.repositories["me/discs"]["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    assert "library_name: keras-ae\n" in front and "license: cc0-1.0\n" in front
    assert f'keras_ae.from_preset("{HF}")' in body and "| Data | a \\| b |" in body
    assert "4 x 4 x 1" in body and f"{model.count_params():,}" in body
    assert hub.private["me/discs"]
    # One's own card, as of a run, is taken as it is, with its pictures, and no more.
    folder = tmp_path / "preset"
    model.save_to_preset(folder, licence="of my own")
    (folder / "README.md").write_text("mine")
    (folder / "secret.txt").write_text("mine")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "samples.png").write_bytes(b"png")
    presets.upload(folder, "hf://me/mine")
    sent = hub.repositories["me/mine"]
    assert sent["README.md"] == b"mine" and sent["pictures/samples.png"] == b"png"
    assert "secret.txt" not in sent
    (folder / "README.md").unlink()
    presets.upload(folder, "hf://me/other")
    card = hub.repositories["me/other"]["README.md"].decode()
    # The hub takes no names of licences that it does not know.
    assert "license:" not in card and "| Licence | of my own |" in card


@pytest.mark.once
def test_only_the_files_of_a_preset_are_fetched(hub, model, tmp_path):
    model.push_to_hub(HF)
    hub.repositories["me/discs"] |= {"code.py": b"1 / 0", "deep/model.keras": b""}
    commit = hub.commit("me/discs")
    folder = presets.find(f"{HF}@{commit}")
    assert {p.name for p in folder.rglob("*")} == {
        "preset.json",
        "model.keras",
        "README.md",
    }
    with pytest.raises(FileNotFoundError, match="no preset hf://me/discs@v9 that you"):
        presets.find(f"{HF}@v9")


@pytest.mark.once
@BOTH
def test_commands_take_it(uri, hub, model, invoke, tmp_path):
    model.push_to_hub(uri)
    drawn = invoke("sample", uri, "-n", 4, "--output", "a.png")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "a.png").exists()
    missing = uri.replace("discs", "sun")
    failed = invoke("sample", missing, "-n", 4, "--output", "b.png")
    assert_one_sentence(failed, f"no preset {missing} that you may read", "log in")


@pytest.mark.once
@BOTH
def test_what_can_not_be_had_is_told_in_a_sentence(uri, hub, model, monkeypatch):
    def told(kind, *words, uri=uri):
        with pytest.raises(kind) as caught:
            keras_ae.from_preset(uri)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    told(FileNotFoundError, "no preset", "that you may read", "TOKEN")
    model.push_to_hub(uri)
    # So that the clients try again at once.
    monkeypatch.setattr(time, "sleep", lambda _: None)
    # What breaks off on the way is not used, nor left for the next time.
    hub.broken = {"model.keras"}
    told((OSError, ValueError), uri)
    hub.broken = set()
    keras_ae.from_preset(uri)
    hub.repositories |= dict.fromkeys(("me/notes", "me/notes/small"), {"a.md": b"a"})
    told(FileNotFoundError, "no preset", uri=uri.replace("discs", "notes"))
    hub.fails = 500
    monkeypatch.setenv("KAGGLEHUB_CACHE", "elsewhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "elsewhere")
    told(OSError, "could not be read", "500")
    with pytest.raises(OSError, match="could not be written: .*500"):
        model.push_to_hub(uri)


@pytest.mark.once
@BOTH
def test_without_a_network_what_was_fetched_is_there(uri, hub, model, monkeypatch):
    model.push_to_hub(uri)
    # Of a model without a version, Kaggle is asked for the newest.
    kept = f"{KAGGLE}/1" if uri == KAGGLE else uri
    folder = presets.find(kept)
    lies_at("http://127.0.0.1:9", monkeypatch)
    assert presets.find(kept) == folder
    with pytest.raises(ConnectionError, match="can't be reached. Is there a network"):
        keras_ae.from_preset(uri.replace("discs", "moons"))
    with pytest.raises(ConnectionError, match="can't be reached"):
        model.push_to_hub(uri)


@pytest.mark.once
@BOTH
def test_who_may_not_write_is_told(uri, hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "read-only")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "read-only")
    with pytest.raises(
        PermissionError, match=f"may not write to {uri}. Check the name"
    ):
        model.push_to_hub(uri)
    assert not hub.repositories


@pytest.mark.once
def test_names_and_arguments_are_checked(model, tmp_path):
    for uri in (
        "hf://me",
        "hf://me/a/b",
        "hf://me/../x",
        "kaggle://me/discs",
        "me/discs",
    ):
        with pytest.raises(ValueError, match="`uri` must be .* Received: "):
            model.push_to_hub(uri)
    with pytest.raises(ValueError, match="`uri` must be hf://user/name or"):
        keras_ae.from_preset("hf://me")
    with pytest.raises(ValueError, match="must have no version"):
        model.push_to_hub(f"{KAGGLE}/3")
    with pytest.raises(ValueError, match="`private` can't be False on Kaggle"):
        model.push_to_hub(KAGGLE, private=False)
    with pytest.raises(ValueError, match="`model` must be built"):
        keras_ae.VAE(2).push_to_hub(HF)
    with pytest.raises(ValueError, match="is damaged"):
        presets.upload(tmp_path, HF)


@pytest.mark.once
@BOTH
def test_a_missing_client_is_named(uri, model, invoke, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ImportError, match=r'pip install "keras-ae\[hub\]"'):
        model.push_to_hub(uri)
    failed = invoke("sample", uri, "-n", 4, "--output", "a.png")
    assert_one_sentence(failed, f"{uri} needs ", 'pip install "keras-ae[hub]"')


# What a stranger may put there


def made_of(model, folder, change):
    """A preset whose configuration was changed, with the digest of what it is."""
    model.save_to_preset(folder)
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    path.write_bytes(packed.getvalue())
    facts = json.loads((folder / "preset.json").read_text())
    facts["sha256"] = sha256(path.read_bytes()).hexdigest()
    (folder / "preset.json").write_text(json.dumps(facts))
    return folder


def with_network(layer):
    """Makes a decoder of the given layer part of a model's configuration."""

    def change(config):
        network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(16)])
        network = keras.saving.serialize_keras_object(network)
        network["config"]["layers"][-1] = layer
        config["config"]["decoder"] = network

    return change


LAMBDA = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
STRANGER = {
    "module": "os",
    "class_name": "system",
    "config": {"command": "false"},
    "registered_name": "evil>system",
}
READING = {
    "module": "keras.layers",
    "class_name": "StringLookup",
    "config": {"name": "words", "vocabulary": __file__, "trainable": True},
    "registered_name": None,
}


HUGE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {"units": 2**50},
    "registered_name": None,
}


@pytest.mark.once
@pytest.mark.parametrize(
    "change, why",
    [
        (with_network(LAMBDA), "`Lambda` layer"),
        (with_network(STRANGER), "Could not locate class 'system'"),
        (with_network(READING), "vocabulary"),
        (with_network(HUGE), ""),
        (lambda config: config.update(STRANGER), "Could not locate class 'system'"),
    ],
    ids=["lambda", "unregistered", "reads files", "huge", "no model"],
)
def test_nothing_of_a_stranger_runs(change, why, model, tmp_path, invoke):
    folder = made_of(model, tmp_path / "strange", change)
    with pytest.raises(ValueError, match="could not be loaded as a model") as caught:
        keras_ae.from_preset(folder)
    assert "\n" not in str(caught.value) and why in str(caught.value)
    failed = invoke("sample", "strange", "-n", 4, "--output", "a.png")
    assert_one_sentence(failed, "could not be loaded as a model", why)


@pytest.mark.once
def test_what_would_fill_a_memory_is_refused(model, tmp_path):
    folder = tmp_path / "bomb"
    model.save_to_preset(folder)
    with zipfile.ZipFile(folder / "model.keras", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(100 * 2**20))
    facts = json.loads((folder / "preset.json").read_text())
    facts["sha256"] = sha256((folder / "model.keras").read_bytes()).hexdigest()
    (folder / "preset.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="made to fill a memory"):
        keras_ae.from_preset(folder)
