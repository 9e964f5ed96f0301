"""The command line: instant listings, one-sentence errors, verbs on a saved model."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_ae
from keras_ae import catalogue, cli, datasets
from keras_ae.cli.commands import plans, reading, starting

pytestmark = pytest.mark.once


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Path of a VAE of 16 x 12 colour pictures, untrained."""
    path = tmp_path_factory.mktemp("models") / "vae.keras"
    model = keras_ae.VAE(
        3,
        image_shape=(16, 12, 3),
        architecture="dense",
        widths=(8,),
        likelihood=keras_ae.likelihoods.Gaussian(1.0, activation="sigmoid"),
    )
    model.save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Folder of twelve pictures of different sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        size = (20 + index, 24, 3)
        pixels = rng.integers(0, 256, size).astype("uint8")
        Image.fromarray(pixels).save(folder / f"photo-{index:02d}.png")
    return folder


def assert_one_sentence(result, *words, status=1):
    assert result.exit_code == status, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    "command", [["--help"], ["recipes"], ["models"], ["models", "vae"]]
)
def test_help_and_listings_import_no_keras(command):
    code = (
        "import sys\nfrom keras_ae import cli\n"
        f"status = cli.main.main({command}, standalone_mode=False)\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'numpy', 'matplotlib'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["recipe", "mnist-a"], {"mnist-aae", "mnist-ae"}),
        (["recipe", "./my"], {"./my"}),
        (["models", "Sp"], {"SparseAE", "SphericalVAE"}),
        (["train", "sp"], {"sparseae", "sphericalvae"}),
        (["benchmark", "ae", "pc"], {"pca"}),
        (["sample", "runs/"], {"runs/"}),
        (["reconstruct", "moon-v"], {"moon-vae"}),
        (["den"], {"denoise"}),
    ],
)
def test_the_shell_completes_names_and_files(words, found):
    line = ["keras-ae", *words]
    variables = {
        "_KERAS_AE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(words)),
    }
    code = "from keras_ae.cli import main; main(prog_name='keras-ae')"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {item.partition(",")[2] for item in told.splitlines()} == found


def test_listings_as_json(invoke):
    recipes = json.loads(invoke("recipes", "--json").stdout)
    assert recipes == catalogue.recipes()
    model = json.loads(invoke("models", "vae", "--json").stdout)
    assert model == catalogue.model("VAE")
    info = json.loads(invoke("info", "--json").stdout)
    assert info["backend"] == keras.config.backend()
    assert info["data"]["moon-phases"] is None


def test_recipes_lists_the_folder(invoke):
    result = invoke("recipes")
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert {"celeba-ae", "celeba-vae", "mnist-ae", "mnist-vae", "moon-vae"} <= {*names}
    assert all(len(line.split()) > 3 for line in result.stdout.splitlines())


def test_models_lists_the_registry(invoke):
    lines = invoke("models").stdout.splitlines()
    assert [line.split()[0] for line in lines] == keras_ae.models.__all__
    assert all(len(line.split()) > 3 for line in lines)


def test_models_tells_of_one(invoke):
    told = invoke("models", "stacked-sae").stdout
    assert told.startswith("StackedSAE  ")
    assert "https://jmlr.org/papers/v11/vincent10a.html" in told
    assert "recipe     mnist-sdae" in told and "1.28 % (Vincent et al. 2010)" in told
    assert "code_penalty + decoder_penalty" in invoke("models", "rae").stdout
    assert_one_sentence(invoke("models", "vea"), "Unknown model: vea", "VAEGAN")


@pytest.mark.parametrize(
    ("words", "like"),
    [
        (("models", "betavea"), "Did you mean BetaVAE"),
        (("train", "dae", "."), "Did you mean DenoisingAE?"),
        (("models", "zzz"), "Unknown model: zzz. There are"),
        (("recipe", "moonvae"), "Did you mean moon-vae"),
        (("sample", "moonvae", "--output", "a.png"), "Did you mean moon-vae"),
        (("sample", "zzz", "--output", "a.png"), "zzz. `keras-ae presets` lists"),
    ],
)
def test_a_slip_of_a_name_is_answered_with_those_like_it(invoke, words, like):
    assert_one_sentence(invoke(*words), like)


def test_a_recipe_without_a_name_tells_where_names_are(invoke):
    assert_one_sentence(invoke("recipe"), "`keras-ae recipes` lists", status=2)


@pytest.mark.parametrize(
    ("level", "seen"), [(None, ""), ("3", ""), ("2", ""), ("1", "loud"), ("0", "loud")]
)
def test_the_start_is_as_loud_as_it_was_asked_to_be(monkeypatch, capfd, level, seen):
    monkeypatch.delenv("KERAS_AE_DEBUG", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level or "")
    if level is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    with cli.backend._quiet():
        os.write(2, b"loud")
    assert capfd.readouterr().err == seen


def test_ctrl_c_is_heard_though_a_package_swallows_it():
    # As a terminal has it, whoever runs the tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    swallowed = contextlib.suppress(BaseException)
    try:
        with pytest.raises(KeyboardInterrupt), cli.backend._quiet(), swallowed:
            # At once, where a signal may be dealt with by whatever comes next.
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="a shell closes what is printed to")
def test_what_is_printed_goes_nowhere_where_that_is_closed(tmp_path):
    code = (
        "import keras_ae.cli as c; c.errors._open_streams(); import os, sys; "
        "file = open('mine', 'w'); os.write(1, b'told'); sys.stdout.flush()"
    )
    command = f'exec {sys.executable} -c "{code}" >&-'
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "mine").read_text() == ""


def test_info_names_backend_versions_and_data(invoke, tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(1))
    result = invoke("info", "--data-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"backend     {keras.config.backend()}" in result.stdout
    assert keras.__version__ in result.stdout
    assert str(tmp_path / "mnist.npz") in result.stdout


@pytest.mark.parametrize("name", catalogue.recipes())
def test_every_recipe_has_settings_that_can_be_read(name):
    path = catalogue.find_recipe(name)
    settings = catalogue.settings(path)
    assert settings
    again = [f"{key}={value}" for key, value in settings.items()]
    lists = {key: [*v] for key, v in settings.items() if isinstance(v, tuple)}
    assert catalogue.choose(settings, again) == {**settings, **lists}
    assert callable(catalogue.load(path))


def test_settings_are_read_as_the_type_of_their_default():
    defaults = {"rate": 0.1, "widths": (5,), "on": True, "name": "a", "any": None}
    given = ["rate=1", "widths=7,8", "on=no", "name=1", "any=2.5"]
    chosen = catalogue.choose(defaults, given)
    assert chosen == {
        "rate": 1.0,
        "widths": [7, 8],
        "on": False,
        "name": "1",
        "any": 2.5,
    }


def test_copy_gives_a_script_to_change(invoke, tmp_path):
    result = invoke("recipe", "moon-vae", "--copy", "mine")
    assert result.exit_code == 0, result.output
    copied = tmp_path / "mine" / "moon_vae.py"
    assert copied.read_text() == catalogue.find_recipe("moon-vae").read_text()
    assert f"keras-ae recipe {os.path.join('mine', 'moon_vae.py')}" in result.stdout
    assert_one_sentence(invoke("recipe", "moon-vae", "--copy", "mine"), "overwritten")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("big", "neither a number of pixels nor HEIGHTxWIDTH"),
        ("8x8x3", "neither"),
        ("0", "neither"),
        ("64x99999", "more than 4096 pixels a side"),
    ],
)
def test_sizes_of_pictures_can_be_learned(invoke, size, said):
    result = invoke("train", "vae", "moon-phases", "--image-size", size)
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())


def test_an_unknown_name_or_value_lists_what_there_is(invoke):
    assert_one_sentence(invoke("recipe", "sun-vae"), "sun-vae", "moon-vae", "celeba-ae")
    assert_one_sentence(invoke("recipe", "none.py"), "none.py")
    unknown = invoke("recipe", "moon-vae", "--set", "latents=3")
    assert_one_sentence(unknown, "Unknown setting: latents", "latent_dim=8")
    wrong = invoke("recipe", "moon-vae", "--set", "latent_dim=many")
    assert_one_sentence(wrong, "`latent_dim` must be a whole number", "latent_dim=8")
    assert_one_sentence(invoke("recipe", "moon-vae", "--set", "nothing"), "name=value")
    for recipe, setting, wanted in (
        ("fashion-oneclass", "seeds=0", ">= 1"),
        ("fashion-oneclass", "widths=64,0", ">= 1"),
        ("mnist-missing", "ratios=", "a list of at least one"),
        ("moon-vae", "patience=-1", ">= 0"),
        ("moon-vae", "learning_rate=0", "> 0 and finite"),
    ):
        name, _, value = setting.partition("=")
        refused = invoke("recipe", recipe, "--set", setting)
        assert_one_sentence(refused, f"`{name}` must be {wanted}", f"{name}={value}")
    assert_one_sentence(
        invoke("train", "transformer", "photos"), "transformer", "AE, VAE"
    )
    assert invoke("recipe", "moon-vae", "--epochs", 0).exit_code == 2
    assert invoke("recipe", "moon-vae", "--backend", "mxnet").exit_code == 2


def test_a_setting_of_zero_is_a_value(invoke, photos, tmp_path):
    train = ("train", "vae", photos, "--image-size", 8, "--epochs", 1)
    small = ("--set", "architecture=dense", "--set", "widths=", "--run-dir", "run")
    result = invoke(*train, *small, "--set", "beta=0")
    assert result.exit_code == 0, result.output
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert model.beta == 0 and float(model.kl_weight) == 0
    assert model.widths is None
    assert rows_of(tmp_path / "run" / "history.csv")[0]["kl"] == "0.0"


def test_patience_is_of_steps():
    patience = {n: plans.training_plan(n).patience for n in (300, 8000, 100_000)}
    assert patience == {300: 40, 8000: 20, 100_000: 5}


def test_batches_of_large_pictures_are_small_enough_for_the_memory():
    few, many = (plans.training_plan(n).batch_size for n in (400, 100_000))
    assert (few, many) == (16, 128)
    of_pixels = [
        plans.training_plan(100_000, side**2).batch_size
        for side in (64, 128, 256, 2048)
    ]
    assert of_pixels == [128, 128, 32, 1]


def test_a_grid_of_codes_is_told_by_the_numbers_of_a_place(invoke, photos):
    train = ("train", "vqvae", photos, "--image-size", 8, "--epochs", 1)
    result = invoke(*train, "--latent-dim", 3)
    assert "codes of 3 numbers a place, batches" in result.stdout


def test_a_setting_that_is_none_by_default_takes_a_number(invoke, photos, tmp_path):
    train = ("train", "vaegan", photos, "--image-size", 8, "--epochs", 1)
    small = ("--set", "architecture=dense", "--run-dir", "run")
    result = invoke(*train, *small, "--set", "gamma=1", "--latent-dim", 2)
    assert result.exit_code == 0, result.output
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert model.gamma == 1 and not hasattr(model, "gradient_norms")


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_script_without_main_is_refused(invoke, tmp_path):
    (tmp_path / "empty.py").write_text('"""Nothing."""\n')
    assert_one_sentence(invoke("recipe", "empty.py"), "no `main(run, ...)`")
    (tmp_path / "broken.py").write_text("def main(run:\n")
    assert_one_sentence(invoke("recipe", "broken.py"), "not a Python script")


def test_a_script_imports_what_lies_beside_it(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "my scripts"
    folder.mkdir()
    (folder / "beside_it.py").write_text("message = 'found beside it'\n")
    script = (
        "import beside_it\n\ndef main(run):\n    raise OSError(beside_it.message)\n"
    )
    (folder / "mine.py").write_text(script)
    assert_one_sentence(invoke("recipe", folder / "mine.py"), "found beside it")


@pytest.mark.once
def test_a_path_may_begin_at_home(invoke, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for option in (["--copy", "~/mine"], ["--copy=~/more"]):
        assert invoke("recipe", "moon-vae", *option).exit_code == 0
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"mine", "more"}
    assert not (tmp_path / "~").exists()


@pytest.mark.once
@pytest.mark.parametrize("named", ["openvino", "tensorfow"])
def test_a_backend_that_is_none_is_refused(invoke, monkeypatch, named):
    monkeypatch.setenv("KERAS_BACKEND", named)
    result = invoke("info")
    assert_one_sentence(
        result, "'jax', 'torch', or unset. Received", f"={named!r}; `--"
    )


def test_another_backend_after_keras_is_refused(invoke):
    other = "torch" if keras.config.backend() == "jax" else "jax"
    assert_one_sentence(invoke("info", "--backend", other), "before keras is imported")


def test_data_that_are_missing_or_no_pictures_are_named(invoke, tmp_path):
    missing = tmp_path / "nowhere"
    assert_one_sentence(invoke("train", "vae", missing), str(missing))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_sentence(invoke("train", "vae", empty), str(empty))
    (empty / "notes.jpg").write_text("not a picture")
    assert_one_sentence(invoke("train", "vae", empty), "notes.jpg")
    assert_one_sentence(invoke("recipe", "celeba-vae"), "CelebA")
    result = invoke("recipe", "celeba-vae", "--data-dir", missing)
    assert_one_sentence(result, str(missing))
    assert not (tmp_path / "runs").exists()


def test_bad_arguments_of_a_model_are_named(invoke, photos, tmp_path):
    result = invoke("train", "vae", photos, "--set", "architecture=cubist")
    assert_one_sentence(result, "`architecture` must be one of", "cubist")
    result = invoke("train", "vae", photos, "--set", "beta=-1")
    assert_one_sentence(result, "`beta` must be >= 0")
    result = invoke("train", "vae", photos, "--set", "widths=wide")
    assert_one_sentence(result, "`widths` must be a list such as 512,256", "wide")
    result = invoke("train", "vae", photos, "--set", "patience=long")
    assert_one_sentence(result, "`patience` must be an integer >= 0", "long")
    result = invoke("train", "vae", photos, "--set", "learning_rate=-1")
    assert_one_sentence(result, "`learning_rate` must be > 0")
    both = ("--latent-dim", 4, "--set", "latent_dim=8")
    result = invoke("train", "vae", photos, *both)
    assert_one_sentence(result, "`--latent-dim 4` must be left out, or `--set latent")
    result = invoke("train", "vae", photos, "--set", "activation=bent")
    assert_one_sentence(result, "activation", "bent")
    assert not (tmp_path / "runs").exists()
    assert invoke("train", "vae", photos, "--latent-dim", 0).exit_code == 2


def test_reconstruct_writes_one_picture_for_each(invoke, saved, photos, tmp_path):
    result = invoke("reconstruct", saved, photos, "--output", "out", "--limit", 5)
    assert result.exit_code == 0, result.output
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == [f"photo-{i:02d}.png" for i in range(5)]
    with Image.open(made[0]) as image:
        assert (image.size, image.mode) == ((12, 16), "RGB")
        seen = np.asarray(image)
    model = keras.saving.load_model(saved)
    x = keras_ae.datasets.read_pictures([photos / made[0].name], (16, 12, 3))
    expected = np.rint(np.clip(model.reconstruct(x)[0], 0, 1) * 255)
    np.testing.assert_allclose(seen, expected, atol=1)

    own = invoke("reconstruct", saved, photos, "--output", photos)
    assert_one_sentence(own, "would be overwritten")
    copy = shutil.copytree(photos, tmp_path / "copy")
    # Names of two folders are alike.
    twice = invoke("reconstruct", saved, photos, copy, "--output", "both")
    assert twice.exit_code == 0, twice.output
    made = {path.relative_to(tmp_path / "both") for path in tmp_path.glob("both/*/*")}
    originals = [*photos.iterdir(), *copy.iterdir()]
    assert made == {path.relative_to(tmp_path) for path in originals}
    (copy / "photo-00.bmp").write_bytes((copy / "photo-00.png").read_bytes())
    twice = invoke("reconstruct", saved, copy, "--output", "out")
    assert_one_sentence(twice, "2 pictures would be written to")


def test_only_results_are_written_over(invoke, saved, photos, tmp_path):
    results = ("reconstruct", saved, photos, "--output", "out", "--limit", 2)
    for _ in range(2):
        assert invoke(*results).exit_code == 0
    # Another picture of that name, which is not the one that is read.
    other = tmp_path / "out" / "photo-01.png"
    Image.new("L", (6, 8)).save(other)
    before = other.read_bytes()
    assert_one_sentence(invoke(*results), f"{other.name} would be overwritten")
    assert other.read_bytes() == before


def test_folders_are_no_files_and_not_named_like_pictures(
    invoke, saved, photos, tmp_path
):
    (tmp_path / "notes").write_text("mine")
    compressed = invoke("compress", saved, photos, "--output", "a.kae")
    assert compressed.exit_code == 0, compressed.output
    for *command, option in (
        ("reconstruct", saved, photos, "--output"),
        ("sample", saved, "--separate"),
        ("decompress", saved, "a.kae", "--output"),
    ):
        for name, what in (("beside.JPG", "name of a picture"), ("notes", "a file")):
            refused = invoke(*command, option, name)
            message = f"`{option}` must be a folder"
            assert_one_sentence(refused, message, f"Received: {name}, ", what)
    assert not (tmp_path / "beside.JPG").exists()


def test_a_sheet_shows_originals_and_reconstructions(invoke, saved, photos, tmp_path):
    result = invoke("reconstruct", saved, photos, "--output", "beside.png")
    assert result.exit_code == 0, result.output
    assert "reconstructed below" in result.output
    with Image.open(tmp_path / "beside.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    model = keras.saving.load_model(saved)
    x = keras_ae.datasets.read_pictures([photos], (16, 12, 3))
    expected = keras_ae.plots.reconstructions(x, model.reconstruct(x))
    np.testing.assert_allclose(sheet, np.asarray(expected.convert("RGB")), atol=1)
    own = invoke("reconstruct", saved, photos, "--output", photos / "photo-00.png")
    assert_one_sentence(own, "would be overwritten")


def test_train_goes_on_with_a_trained_model(invoke, saved, photos, tmp_path):
    start = shutil.copy(saved, tmp_path / "start.keras")
    train = ("train", "vae", "photos", "--from", start, "--epochs", 1)
    assert_one_sentence(invoke(*train, "--latent-dim", 3), "leave out latent_dim")
    other = invoke("train", "ae", "photos", "--from", saved)
    assert_one_sentence(other, "must name a trained AE", "a VAE")
    grey = tmp_path / "grey"
    grey.mkdir()
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.convert("L").save(grey / path.name)
    shape = invoke("train", "vae", "grey", "--from", saved)
    assert_one_sentence(shape, "shape (16, 12, 3). Received: (16, 12, 1)")
    assert not (tmp_path / "runs" / "vae-grey").exists()
    # Weights that hardly move are those that were trained.
    result = invoke(*train, "--set", "learning_rate=1e-9")
    assert result.exit_code == 0, result.output
    assert "Goes on with" in result.stdout
    # Nothing is said of an early end that can't be.
    assert "epochs: at most 1. Other numbers" in result.stdout
    went_on = keras.saving.load_model(tmp_path / "runs" / "vae-photos" / "model.keras")
    before = keras.saving.load_model(saved)
    x = keras_ae.datasets.read_pictures([photos], (16, 12, 3))
    np.testing.assert_allclose(went_on.encode(x), before.encode(x), atol=1e-3)
    # Its own checkpoint is enough to go on from.
    start.unlink()
    again = invoke("train", "vae", "photos", "--resume", "--epochs", 2)
    assert again.exit_code == 0, again.output
    settings = json.loads((tmp_path / "runs/vae-photos/settings.json").read_text())
    assert settings["from"] == str(start)


def test_a_path_that_begins_with_a_dash_is_no_option_when_it_is_told_again():
    args = ["vae", "--", "-photos"]
    with cli.train.make_context("train", args) as context:
        assert context.params["data"] == "./-photos"


@pytest.mark.parametrize(
    "data, recorded",
    [
        *(("photos/", "photos"), ("mnist", "mnist"), ("./mnist", "./mnist")),
        ("./-photos", "./-photos"),
    ],
)
def test_a_folder_is_not_recorded_as_the_data_set_of_its_name(data, recorded):
    assert starting.recorded_data(data) == recorded
    assert datasets.known_name(data) == datasets.known_name(recorded)


def test_originals_are_never_overwritten(invoke, saved, photos, tmp_path):
    # The picture of another name would be written over one that nobody mentioned.
    with Image.open(photos / "photo-00.png") as image:
        image.save(photos / "photo-01.jpg")
    before = {path: path.read_bytes() for path in photos.iterdir()}
    one = invoke("reconstruct", saved, photos / "photo-01.jpg", "--output", photos)
    assert_one_sentence(one, "photo-01.png would be overwritten")
    ends = [photos / "photo-00.png", photos / "photo-01.png"]
    row = invoke("interpolate", saved, *ends, "--output", ends[1])
    assert_one_sentence(row, "photo-01.png would be overwritten")
    assert before == {path: path.read_bytes() for path in photos.iterdir()}

    # Two members of one name would become one file.
    shutil.make_archive(tmp_path / "packed", "zip", photos)
    packed = invoke("reconstruct", saved, "packed.zip", "--output", "out")
    assert_one_sentence(packed, "packed.zip", "unpack it")


def test_sheets_are_png_files(invoke, saved, photos):
    for output in ("sheet.jpg", "sheet"):
        sample = invoke("sample", saved, "--output", output)
        assert_one_sentence(sample, "`--output` must end in .png", output)
    ends = [photos / "photo-00.png", photos / "photo-01.png"]
    row = invoke("interpolate", saved, *ends, "--output", "row.gif")
    assert_one_sentence(row, "`--output` must end in .png", "row.gif")
    row = invoke("interpolate", saved, ends[0], photos, "--output", "row.png")
    assert_one_sentence(row, "must be one picture each", "photos")


def test_sample_repeats_with_its_seed(invoke, saved, tmp_path):
    sheets = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        output = f"{name}.png"
        result = invoke("sample", saved, "-n", 4, "--output", output, "--seed", seed)
        assert result.exit_code == 0, result.output
        # It was saved untrained.
        assert "drawn from the prior" in result.stdout and "`--data`" in result.stdout
        with Image.open(output) as image:
            sheets.append(np.asarray(image))
    assert (sheets[0] == sheets[1]).all() and (sheets[0] != sheets[2]).any()


def test_sample_writes_single_pictures(invoke, saved, tmp_path):
    folder = tmp_path / "singles"
    result = invoke("sample", saved, "-n", 3, "--separate", folder, "--seed", 1)
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted(folder.iterdir())] == [
        "1.png",
        "2.png",
        "3.png",
    ]
    with Image.open(folder / "1.png") as image:
        assert image.size == (12, 16)
    again = invoke("sample", saved, "-n", 3, "--separate", folder)
    assert_one_sentence(again, "would be overwritten")


def test_sample_draws_the_class_that_is_asked_for(invoke, tmp_path, monkeypatch):
    digits = np.random.default_rng(0).integers(256, size=(40, 8, 8, 1), dtype="uint8")
    classes = {"label": np.arange(40) % 3}
    monkeypatch.setattr(keras_ae.datasets, "load", lambda *_, **__: (digits, classes))
    monkeypatch.setattr(keras_ae.samplers.fitting, "_STEPS", 1)
    small = {"image_shape": (8, 8, 1), "architecture": "dense", "widths": (4,)}
    keras_ae.ConditionalVAE(2, num_classes=3, **small).save("conditional.keras")
    keras_ae.AE(2, **small).save("ae.keras")
    flow = ("ae.keras", "--data", "mnist", "--sampler", "flow")
    for options in (flow, ("conditional.keras",)):
        drawn = []
        for label in (1, 2, 2):
            asked = ("--label", label, "--seed", 1, "-n", 4, "--output", "a.png")
            result = invoke("sample", *options, *asked)
            assert result.exit_code == 0, result.output
            drawn.append((tmp_path / "a.png").read_bytes())
        assert drawn[0] != drawn[1] == drawn[2]
        asked = ("--label", 3, "--output", "a.png")
        assert_one_sentence(invoke("sample", *options, *asked), "from 0 to 2")
    keras_ae.VAE(2, **small).save("vae.keras")
    asked = ("--label", 1, "--output", "a.png")
    refused = invoke("sample", "vae.keras", *asked)
    assert_one_sentence(refused, "`labels` is no option of sampler 'prior'", "'flow'")


def test_sample_fits_a_sampler_to_pictures(invoke, photos, tmp_path):
    keras_ae.AE(2, image_shape=(8, 8, 3), widths=(4,)).save("ae.keras")
    before = (tmp_path / "ae.keras").read_bytes()
    options = ("--data", photos, "--seed", 1, "-n", 4, "--output", "a.png")
    normal = invoke("sample", "ae.keras", "--sampler", "normal", *options)
    assert normal.exit_code == 0, normal.output
    assert "Fitting normal to the codes" in normal.output
    assert (tmp_path / "a.png").exists()
    # The model's file stays as it is.
    assert (tmp_path / "ae.keras").read_bytes() == before
    unknown = invoke("sample", "ae.keras", "--sampler", "glow", *options)
    assert_one_sentence(unknown, "of AE must be", "'glow'")
    unfitted = invoke("sample", "ae.keras", "--sampler", "flow", *options[2:])
    assert_one_sentence(unfitted, "Sampler flow must be fitted", "add `--data`")


def test_interpolate_makes_a_row(invoke, saved, photos):
    ends = [photos / "photo-00.png", photos / "photo-01.png"]
    result = invoke("interpolate", saved, *ends, "--steps", 5, "--output", "row.png")
    assert result.exit_code == 0, result.output
    with Image.open("row.png") as image:
        row = np.asarray(image.convert("RGB"), int)
    # Small pictures are shown larger; at the ends are the pictures themselves.
    scale = image.height // 16
    assert image.width > 6 * image.height / 16 * 12
    originals = datasets.read_pictures(ends, (16, 12, 3))
    places = (slice(0, 12 * scale, scale), slice(-12 * scale, None, scale))
    for original, columns in zip(originals, places, strict=True):
        shown = row[: 16 * scale : scale, columns]
        np.testing.assert_allclose(shown, original, atol=1)


@pytest.fixture
def faces(tmp_path):
    """Folder of data sets with a small CelebA of two attributes."""
    folder = tmp_path / "data" / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["30", "Smiling Wearing_Hat"]
    for index in range(30):
        pixels = rng.integers(0, 256, (218, 178, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index:06d}.png")
        rows.append(f"{index:06d}.png {index % 2 * 2 - 1} {index % 3 // 2 * 2 - 1}")
    (folder.parent / "list_attr_celeba.txt").write_text("\n".join(rows))
    return tmp_path / "data"


def test_attribute_shows_steps_to_its_full_strength(invoke, saved, photos, faces):
    attribute = ("attribute", saved, photos, "--data-dir", faces, "--limit", 3)
    options = ("--add", "smiling", "--remove", "Wearing_Hat", "--strength", 0.5)
    result = invoke(*attribute, *options)
    assert result.exit_code == 0, result.output
    assert "Smiling: " in result.stdout and "Wearing_Hat: " in result.stdout
    model = keras.saving.load_model(saved)
    images, labels = keras_ae.datasets.load(
        "celeba", image_size=(16, 12), data_dir=faces, labels=True
    )
    vector = model.attribute_vector(images, labels["Smiling"])
    vector -= model.attribute_vector(images, labels["Wearing_Hat"])
    x = keras_ae.datasets.read_pictures(sorted(photos.iterdir())[:3], (16, 12, 3))
    rows = model.add_attribute(x, vector, np.linspace(0, 0.5, 6))
    rows = np.concatenate([x[:, None] / 255, rows], axis=1)
    expected = keras_ae.plots.interpolation(rows)
    with Image.open("attribute.png") as image:
        assert image.size == expected.size
        np.testing.assert_allclose(
            np.asarray(image).astype(int), np.asarray(expected).astype(int), atol=1
        )


def test_attribute_overwrites_nothing_unasked(invoke, saved, photos, faces):
    attribute = ("attribute", saved, photos, "--data-dir", faces, "--add", "Smiling")
    assert invoke(*attribute).exit_code == 0
    assert_one_sentence(invoke(*attribute), "attribute.png exists already", "--output")
    again = invoke(*attribute, "--output", "attribute.png")
    assert again.exit_code == 0, again.output
    photo = photos / "photo-00.png"
    before = photo.read_bytes()
    over = invoke(*attribute, "--output", photo)
    assert_one_sentence(over, "photo-00.png would be overwritten")
    assert photo.read_bytes() == before
    assert_one_sentence(invoke(*attribute, "--output", "a.jpg"), "must end in .png")


def test_results_have_a_name_by_default(invoke, saved, photos, tmp_path):
    picture = photos / "photo-00.png"
    for verb, name in {
        ("sample", saved, "-n", "2"): "samples.png",
        ("reconstruct", saved, photos): "reconstructed.png",
        ("interpolate", saved, picture, photos / "photo-01.png"): "interpolation.png",
        ("map", saved, photos): "map.png",
        ("embed", saved, photos): "codes.npz",
    }.items():
        result = invoke(*verb)
        assert result.exit_code == 0, result.output
        written = (tmp_path / name).read_bytes()
        assert_one_sentence(invoke(*verb), f"{name} exists already", "--output")
        assert (tmp_path / name).read_bytes() == written
    separate = invoke("sample", saved, "-n", "2", "--separate", "each")
    assert separate.exit_code == 0, separate.output
    assert len([*(tmp_path / "each").iterdir()]) == 2


def test_attributes_that_are_none_are_refused(invoke, saved, photos, faces, tmp_path):
    photo = photos / "photo-00.png"
    attribute = ("attribute", saved, photo, "--data-dir", faces)
    unknown = invoke(*attribute, "--add", "Smirking")
    assert_one_sentence(unknown, "one of Smiling, Wearing_Hat", "Smirking")
    text = invoke(*attribute, "--remove", "path")
    assert_one_sentence(text, "`--remove`", "path", "values")
    assert_one_sentence(invoke(*attribute), "`--add`")
    both = invoke(*attribute, "--add", "Smiling", "--remove", "smiling")
    assert_one_sentence(both, "Smiling can't be both")
    far = invoke(*attribute, "--add", "Smiling", "--strength", "inf")
    assert_one_sentence(far, "`strength` must be a finite number")
    folder = invoke(*attribute, "--data", photos, "--add", "Smiling")
    assert_one_sentence(folder, "photos has no attributes", "celeba")
    nowhere = invoke("attribute", saved, photo, "--add", "Smiling")
    assert_one_sentence(nowhere, "celeba is not on this machine")
    grey = keras_ae.AE(2, image_shape=(8, 8, 1), architecture="dense", widths=(4,))
    grey.save(tmp_path / "grey.keras")
    moons = ("attribute", "grey.keras", photo, "--data", "moon-phases", "--add")
    assert_one_sentence(invoke(*moons, "phase"), "`--add`", "phase", "values")
    assert_one_sentence(invoke(*moons, "Smiling"), "moon-phases has no attributes")
    assert not (tmp_path / "attribute.png").exists()


def test_map_draws_codes_coloured_by_the_folders(invoke, saved, photos, tmp_path):
    for index, path in enumerate(sorted(photos.iterdir())):
        folder = photos / ("cats" if index < 6 else "dogs")
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    result = invoke("map", saved, photos, "--output", "maps/map.png")
    assert result.exit_code == 0, result.output
    assert "12 pictures" in result.stdout
    assert "by PCA, coloured by folder" in result.stdout
    with Image.open("maps/map.png") as image:
        small = np.asarray(image)
    assert (small[..., 3] == 0).any() and (small[..., 3] == 255).any()
    # A few of a folder are not only those of its first sub-folder.
    few = invoke("map", saved, photos, "--output", "a.png", "--limit", 4)
    assert "4 pictures" in few.stdout and "coloured by folder" in few.stdout
    assert "`--limit`" in few.stdout
    plain = invoke("map", saved, photos, "--output", "b.png", "--no-thumbnails")
    assert plain.exit_code == 0, plain.output
    with Image.open("b.png") as image:
        assert image.size < small.shape[1::-1]

    unknown = invoke("map", saved, photos, "--output", "c.png", "--labels", "breed")
    assert_one_sentence(unknown, "must be one of folder", "breed")
    assert_one_sentence(invoke("map", saved, photos, "--output", "c.jpg"), ".png")
    photo = photos / "cats" / "photo-00.png"
    before = photo.read_bytes()
    over = invoke("map", saved, photos, "--output", photo)
    assert_one_sentence(over, "photo-00.png would be overwritten")
    assert photo.read_bytes() == before


def test_map_of_a_data_set_means_its_test_split(invoke, tmp_path):
    model = keras_ae.AE(2, image_shape=(8, 8, 1), architecture="dense", widths=(4,))
    model.save(tmp_path / "ae.keras")
    result = invoke("map", "ae.keras", "moon-phases", "--output", "map.png")
    assert result.exit_code == 0, result.output
    assert "1,000 pictures of moon-phases (test split)" in result.stdout
    assert "by the codes themselves, coloured by phase" in result.stdout
    tilt = ("map", "ae.keras", "moon-phases", "--labels", "tilt", "--limit", 9)
    assert (
        "by PCA, coloured by tilt"
        in invoke(*tilt, "--method", "pca", "--output", "map.png").stdout
    )
    wrong = invoke(*tilt[:-4], "--labels", "age", "--output", "map.png")
    assert_one_sentence(wrong, "phase, tilt, size, x, y", "age")


def test_map_by_neighbours_needs_a_package(invoke, saved, photos, monkeypatch):
    tsne = ("map", saved, photos, "--method", "tsne", "--output")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn.manifold", None)
        assert_one_sentence(invoke(*tsne, "a.png"), "`pip install scikit-learn`")
    pytest.importorskip("sklearn")
    result = invoke(*tsne, "a.png")
    assert result.exit_code == 0, result.output
    assert "12 pictures" in result.stdout and "by t-SNE" in result.stdout


def test_train_tells_how_well_it_denoises_pictures_of_any_size(invoke, tmp_path):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(24):
        pixels = np.full((20, 17 + index % 2), 20 * (index % 10), "uint8")
        pixels[4:9, 3:12] += 50
        if index > 18:
            pixels = rng.integers(0, 256, pixels.shape).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index:02d}.png")
    result = invoke("train", "denoisingae", "photos", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert (
        "take ClippedGaussianCorruption of 0.02 to 0.3 from pictures that are clean, "
        "at 20 x 18 pixels" in result.stdout
    )
    assert "Learns from tiles" not in result.stdout
    assert re.search(r"noisy .* dB, blurred .* dB, denoised .* dB", result.stdout)
    run = tmp_path / "runs" / "denoisingae-photos"
    scores = json.loads((run / "scores.json").read_text())
    assert {"psnr_noisy", "psnr_blurred", "psnr_denoised"} <= scores.keys()
    assert {path.stem for path in (run / "pictures").glob("*.png")} >= {"denoised"}
    result = invoke("denoise", run, "photos", "--output", "clean")
    assert result.exit_code == 0, result.output
    for name, size in (("00.png", (17, 20)), ("01.png", (18, 20))):
        with Image.open(tmp_path / "clean" / name) as made:
            assert made.size == size
    drawn = invoke("sample", run, "--output", "drawn.png")
    assert_one_sentence(drawn, "keeps all of a picture in its code")


def test_a_denoiser_learns_from_tiles_of_large_pictures(invoke, tmp_path):
    (tmp_path / "scans").mkdir()
    for index in range(10):
        pixels = np.full((140, 200), 20 * index, "uint8")
        pixels[:, ::2] += 50
        Image.fromarray(pixels).save(tmp_path / "scans" / f"{index:02d}.png")
    result = invoke("train", "denoisingae", "scans", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "tiles of 64 x 64 pixels, of pictures of 140 x 200" in result.stdout
    assert "64 x 64 x 1 tiles: 48 train, 6 validation, 6 test" in result.stdout
    saved = keras_ae.runs.load_model(tmp_path / "runs" / "denoisingae-scans")
    assert saved.image_shape == (64, 64, 1)
    smaller = ("--image-size", "16x20", "--run-dir", "smaller")
    result = invoke("train", "denoisingae", "scans", "--epochs", 1, *smaller)
    assert "of 16 x 20" not in result.stdout and "16 x 20 x 1: 8" in result.stdout
    bottleneck = ("--set", "architecture=conv", "--run-dir", "bottleneck")
    result = invoke("train", "denoisingae", "scans", "--epochs", 1, *bottleneck)
    assert "64 x 91 x 1: 8 train" in result.stdout


def test_codes_are_as_long_as_principal_components_that_hold_most():
    length = plans.code_length
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(1200, 40)))[0]
    # Of 40 equal components, 36 hold nine tenths.
    pictures = 128 + 400 * (rng.normal(size=(1500, 40)) @ basis.T)
    pictures = pictures.reshape(-1, 20, 20, 3).astype("float32")
    assert length(pictures) == 32
    assert length(pictures, 0.5) == 16
    assert length(np.full((30, 8, 8, 1), 9, "uint8")) == 8
    noise = rng.integers(0, 256, (600, 20, 20, 1), "uint8")
    assert length(noise) == 128
    missing = np.where(rng.random(pictures.shape) < 1e-4, np.nan, pictures)
    assert length(missing) == length(np.nan_to_num(missing))


def test_noise_ends_at_black_and_white_in_pictures_not_in_tables():
    settings, _ = plans.model_settings(keras_ae.DenoisingAE, [], None)
    training = plans.Training(keras_ae.DenoisingAE, settings)
    drawn = training.build().corruption
    assert type(drawn) is keras_ae.layers.ClippedGaussianCorruption
    assert tuple(drawn.level) == (0.02, 0.3)
    training.describe(datasets.Schema.of({"length": np.arange(20.0)}))
    of_rows = training.build().corruption
    assert type(of_rows) is keras_ae.layers.GaussianCorruption
    assert of_rows.level == keras_ae.layers.GaussianCorruption().level


def test_noisy_pictures_are_no_lesson_in_denoising(invoke, tmp_path):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        pixels = rng.normal(128, 40, (16, 16)).clip(0, 255).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index:02d}.png")
    result = invoke("train", "denoisingae", "photos", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "look noisy themselves" in result.stderr


def test_denoise_writes_one_clean_picture_for_each(invoke, saved, photos, tmp_path):
    model = keras_ae.DenoisingAE(3, image_shape=(16, 12, 3), widths=(8,))
    model.save(tmp_path / "dae.keras")
    denoise = ("denoise", "dae.keras", photos, "--output")
    result = invoke(*denoise, "clean", "--limit", 2)
    assert result.exit_code == 0, result.output
    assert "2 pictures denoised in clean" in result.stdout
    made = sorted((tmp_path / "clean").iterdir())
    assert [path.name for path in made] == ["photo-00.png", "photo-01.png"]
    x = keras_ae.datasets.read_pictures([photos / made[0].name], (16, 12, 3))
    expected = np.rint(np.clip(model.denoise(x)[0], 0, 1) * 255)
    with Image.open(made[0]) as image:
        np.testing.assert_allclose(np.asarray(image), expected, atol=1)
    assert_one_sentence(invoke(*denoise, photos), "would be overwritten")
    other = invoke("denoise", saved, photos, "--output", "clean")
    assert_one_sentence(other, "This VAE has not learned to denoise", "DenoisingAE")


def test_large_pictures_are_restored_in_tiles(invoke, saved, tmp_path):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (1, 40, 72, 3), dtype="uint8")
    (tmp_path / "large").mkdir()
    Image.fromarray(x[0]).save(tmp_path / "large" / "wide.png")
    options = {"image_shape": (16, 16, 3), "widths": (8,)}
    models = {
        "reconstruct": keras_ae.VQVAE(3, num_codes=8, **options),
        "denoise": keras_ae.DenoisingAE(3, **options),
    }
    for verb, model in models.items():
        model.save(tmp_path / f"{verb}.keras")
        command = (verb, f"{verb}.keras", "large", "--tile", 32, "--output", verb)
        result = invoke(*command)
        assert result.exit_code == 0, result.output
        expected = np.clip(getattr(model, verb)(x, tile=32)[0], 0, 1)
        with Image.open(tmp_path / verb / "wide.png") as image:
            np.testing.assert_allclose(np.asarray(image) / 255, expected, atol=3e-3)
    for arguments, words in (
        ((saved, "large", "--tile", 32), ("`tile` needs a model whose codes", "VAE")),
        (
            ("reconstruct.keras", "large", "--tile", 32, "--refine", 5),
            ("`tile` must be left out with `refine`", "refine=5"),
        ),
        (("reconstruct.keras", "large", "--tile", 31), ("multiple", "31")),
    ):
        assert_one_sentence(invoke("reconstruct", *arguments, "--output", "o"), *words)


@pytest.mark.parametrize(
    "module, package",
    [("skimage.filters", "scikit-image"), ("sklearn", "scikit-learn"), ("jax", "jax")],
)
def test_a_missing_package_is_called_by_its_name(invoke, tmp_path, module, package):
    error = f"ModuleNotFoundError('No module', name={module!r})"
    (tmp_path / "needy.py").write_text(f"def main(run):\n    raise {error}\n")
    result = invoke("recipe", "needy.py")
    assert_one_sentence(result, f"`pip install {package}` brings it")
    assert ("--backend" in result.stderr) == (package == "jax")


def test_embed_writes_codes_with_their_names(invoke, saved, photos, tmp_path):
    for output in ("codes.npz", "codes.csv"):
        assert invoke("embed", saved, photos, "--output", output).exit_code == 0
    with np.load("codes.npz") as file:
        codes, paths = file["codes"], file["path"]
    assert codes.shape == (12, 3)
    assert paths[1].endswith("photo-01.png")
    with open("codes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert table[1]["path"] == paths[1]
    np.testing.assert_allclose(float(table[1]["z2"]), codes[1, 2], rtol=1e-4)
    # Beside a picture that can't be read, a zip's codes still name theirs.
    (photos / "photo-00.png").write_text("not a picture")
    shutil.make_archive(tmp_path / "packed", "zip", photos)
    assert invoke("embed", saved, "packed.zip", "--output", "zip.csv").exit_code == 0
    with open("zip.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["path"] == "photo-01.png" and row["folder"] == ""
    np.testing.assert_allclose(float(row["z2"]), codes[1, 2], rtol=1e-4)
    kept = invoke("embed", saved, photos, "--output", "codes.csv")
    assert_one_sentence(kept, "codes.csv exists already")
    wrong = invoke("embed", saved, photos, "--output", "codes.txt")
    assert_one_sentence(wrong, ".npz or .csv", "codes.txt")


def test_grey_pictures_are_taken_for_colour(invoke, saved, photos, tmp_path):
    grey, zipped = tmp_path / "grey", tmp_path / "grey.zip"
    grey.mkdir()
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.convert("L").save(grey / path.name)
    shutil.make_archive(grey, "zip", grey)
    for data, output in ((grey, "a.npz"), (zipped, "b.npz")):
        result = invoke("embed", saved, data, "--output", output)
        assert result.exit_code == 0, result.output
    one, other = (np.load(tmp_path / name)["codes"] for name in ("a.npz", "b.npz"))
    np.testing.assert_array_equal(one, other)
    result = invoke("evaluate", saved, grey, "--scores", "reconstruction")
    assert result.exit_code == 0, result.output
    # The other way something would be lost.
    keras_ae.AE(2, image_shape=(16, 12, 1), widths=(8,)).save("grey.keras")
    refused = invoke("evaluate", "grey.keras", photos)
    assert_one_sentence(refused, "1 channels. Received", ", of 3; make them grey")


def test_windows_of_a_series_are_no_pictures(invoke, photos):
    model = keras_ae.AE(2, image_shape=(16, 3), architecture="sequence", widths=(4,))
    model.save("series.keras")
    for command, output in (("reconstruct", "out"), ("map", "a.png")):
        refused = invoke(command, "series.keras", photos, "--output", output)
        assert_one_sentence(refused, "shape (16, 3), not pictures; use it from Python")


def test_a_broken_picture_costs_no_other(invoke, saved, photos, monkeypatch):
    monkeypatch.setattr(reading, "_CHUNK", 1)
    (photos / "photo-11.png").write_text("no picture")
    # One of them is named by itself, too.
    named = (photos, photos / "photo-00.png")
    result = invoke("reconstruct", saved, *named, "--output", "out")
    assert result.exit_code == 0, result.output
    assert "11 pictures reconstructed" in result.stdout
    assert "1 of 12 pictures could not be read" in result.stderr
    denoiser = keras_ae.DenoisingAE(3, image_shape=(16, 12, 3), widths=(8,))
    denoiser.save("dae.keras")
    with Image.open(photos / "photo-00.png") as image:
        image.resize((40, 40)).save("large.png")
    # Broken beyond its size, of which there is no other.
    pixels = Path("large.png").read_bytes()
    (photos / "photo-11.png").write_bytes(pixels[: len(pixels) // 2])
    result = invoke("denoise", "dae.keras", photos, "--output", "clean")
    assert result.exit_code == 0, result.output
    assert "11 pictures denoised" in result.stdout
    for path in photos.iterdir():
        path.write_text("no picture")
    nothing = invoke("embed", saved, photos, "--output", "codes.csv")
    assert_one_sentence(nothing, "None of the pictures could be read")


def scores_in(text):
    """Names and figures of a printed table."""
    lines = re.findall(r"^  ([a-z ]+?)  +(-?[\d.,]+(?:e-\d+)?)\b", text, re.MULTILINE)
    return {name: float(figure.replace(",", "")) for name, figure in lines}


def test_evaluate_prints_scores(invoke, saved, photos, tmp_path):
    result = invoke("evaluate", saved, photos, "--limit", 4, "--output", "s.json")
    assert result.exit_code == 0, result.output
    assert "4 pictures of 16 x 12 x 3" in result.stdout
    shown = scores_in(result.stdout)
    assert {"loss", "elbo", "mse", "psnr", "active units"} <= {*shown}
    kept = keras_ae.scores.load(tmp_path / "s.json")
    np.testing.assert_allclose(shown["psnr"], kept.values["psnr"], rtol=0.05)
    assert {score.depends_on["pictures"] for score in kept.scores} == {4}
    # The same model's scores join those that are there, others are not overwritten.
    more = invoke("evaluate", saved, photos, "--scores", "codes", "--output", "s.json")
    assert more.exit_code == 0, more.output
    both = keras_ae.scores.load(tmp_path / "s.json").scores
    assert {score.depends_on["pictures"] for score in both} == {4, 12}
    printed = invoke("evaluate", saved, photos, "--limit", 4, "--json")
    printed = json.loads(printed.stdout)["scores"]
    assert {score["name"] for score in printed} == {score.name for score in kept.scores}
    for name, text in (("other.json", "{}"), ("scores.json", '{"psnr": 20}')):
        (tmp_path / name).write_text(text)
        taken = invoke("evaluate", saved, photos, "--output", name)
        assert_one_sentence(taken, "not overwritten", name)
        assert (tmp_path / name).read_text() == text


def test_evaluate_writes_no_file_in_place_of_a_folder(invoke, saved, photos, tmp_path):
    for name in ("results/", "results", "runs"):
        (tmp_path / "runs").mkdir(exist_ok=True)
        result = invoke("evaluate", saved, photos, "--limit", 4, "--output", name)
        assert_one_sentence(result, "`--output` must end in .json", name)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["moon-phases", "Moon_Phases"])
def test_evaluate_on_a_data_set_means_its_test_split(invoke, tmp_path, name):
    model = keras_ae.AE(2, image_shape=(8, 8, 1), architecture="dense", widths=(4,))
    model.save(tmp_path / "ae.keras")
    result = invoke("evaluate", "ae.keras", name, "--scores", "reconstruction")
    assert result.exit_code == 0, result.output
    assert "1,000 pictures" in result.stdout and "test split" in result.stdout
    test = keras_ae.datasets.load("moon-phases", "test", image_size=8)
    expected = keras_ae.metrics.psnr(test, model.reconstruct(test))
    shown = scores_in(result.stdout)["psnr"]
    np.testing.assert_allclose(shown, expected, rtol=1e-2)


def test_evaluate_on_what_a_run_learned_means_its_test_split(invoke, saved, photos):
    model = keras.saving.load_model(saved)
    command = ("--scores", "reconstruction", "--json")
    for folder, splits, expected in (
        ("learned", {"train": 10, "validation": 1, "test": 1}, ("test split", 1)),
        ("normal", {"all": 12}, ("all pictures", 12)),
    ):
        run = run_of(model, Path(folder), data="photos", splits=splits)
        result = invoke("evaluate", run, f"{photos}/", *command)
        assert result.exit_code == 0, result.output
        about = json.loads(result.stdout)["scores"][0]["depends_on"]
        assert about["data"].endswith(f"photos/ ({expected[0]})")
        assert about["pictures"] == expected[1]


def test_evaluate_says_what_it_can_not_measure(invoke, saved, photos, tmp_path):
    assert invoke("evaluate", saved, photos, "--scores", "fid").exit_code == 2
    missing = invoke("evaluate", "no-run", photos)
    assert_one_sentence(missing, "no-run")
    (tmp_path / "empty").mkdir()
    assert_one_sentence(invoke("evaluate", saved, "empty"), "empty")
    factors = invoke("evaluate", saved, photos, "--scores", "factors")
    assert_one_sentence(factors, "Nothing could be measured", "moon-phases")
    network = ("--scores", "samples", "--features", "none.keras")
    assert_one_sentence(invoke("evaluate", saved, photos, *network), "none.keras")


def test_sets_without_labels_are_compared_in_principal_components(
    invoke, saved, photos
):
    scores = ("--scores", "samples", "--samples", 20, "--output", "scores.json")
    result = invoke("evaluate", saved, photos, *scores)
    assert result.exit_code == 0, result.output
    assert "principal-10-components-16x12px" in result.stdout
    assert "no labels" in result.stderr and "--features inception" in result.stderr
    found = keras_ae.scores.load("scores.json")
    distance = next(s for s in found.scores if s.name == "frechet_distance")
    assert distance.value > 0


def run_of(model, folder, **settings):
    folder.mkdir()
    model.save(folder / "model.keras")
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def test_compare_lays_runs_side_by_side(invoke, photos, tmp_path):
    shape = {"image_shape": (8, 8, 1), "architecture": "dense", "widths": (4,)}
    trained = {"data": "moon-phases", "training": {"binarize": True}}
    one = run_of(keras_ae.VAE(2, likelihood="bernoulli", **shape), tmp_path / "one")
    other = run_of(keras_ae.AE(2, **shape), tmp_path / "other", data="moon-phases")
    assert_one_sentence(invoke("compare", one, other), "keras-ae evaluate", "no scores")
    assert_one_sentence(invoke("compare", one), "Two runs or more")
    assert_one_sentence(invoke("compare", one, one), "Each run can be named once")
    absent = invoke("compare", one, tmp_path / "absent")
    assert_one_sentence(absent, "no model file, run directory or preset", "absent")
    picture = ("--output", "compare.png")
    assert_one_sentence(invoke("compare", one, other, *picture), "`--data`")
    (one / "settings.json").write_text(json.dumps(trained))
    few = ("--limit", 12, "--scores", "reconstruction")
    result = invoke("compare", one, other, *few, "--no-binarize", *picture)
    assert result.exit_code == 0, result.output
    assert re.search(r"psnr +[\d.]+ ± [\d.]+ .* [\d.]+ ± [\d.]+", result.stdout)
    with Image.open("compare.png") as image:
        assert image.width > 300 and image.height > 150
    # Scored as it was trained, that run's pictures are others.
    result = invoke("evaluate", one, "moon-phases", *few)
    assert "as the run was trained" in result.stderr and "binarised" in result.stdout
    # Where it is printed as JSON, it is nothing else.
    printed = json.loads(invoke("evaluate", one, "moon-phases", *few, "--json").stdout)
    assert all(score["depends_on"]["binarized"] for score in printed["scores"])
    (one / "evaluation.json").unlink()
    assert invoke("evaluate", one, "moon-phases", *few).exit_code == 0
    result = invoke("compare", one, other)
    assert result.exit_code == 0, result.output
    assert "Not comparable" in result.stdout and "binarized" in result.stdout
    # Scores stay those of their weights, however often these are written.
    os.utime(one / "model.keras", (time.time() + 10,) * 2)
    assert invoke("compare", one, other).stdout == result.stdout
    keras_ae.VAE(2, likelihood="bernoulli", **shape).save(one / "model.keras")
    os.utime(one / "model.keras", (time.time() + 10,) * 2)
    result = invoke("compare", one, other)
    assert "one has no scores of the weights that it has now" in result.stdout
    # Models that keep no scores have a picture all the same, over none of the user's.
    shutil.copy(one / "model.keras", "file.keras")
    shutil.copy(other / "model.keras", "other.keras")
    files = ("compare", "file.keras", "other.keras", "--data")
    result = invoke(*files, "moon-phases", "--output", "files.png", "--limit", 12)
    assert result.exit_code == 0, result.output
    assert "file keeps no scores: `--scores" in result.stdout
    own = invoke(*files, photos, "--output", photos / "photo-00.png")
    assert_one_sentence(own, "would be overwritten")

    shape["image_shape"] = (10, 8, 1)
    larger = run_of(keras_ae.AE(2, **shape), tmp_path / "larger", data="moon-phases")
    result = invoke("compare", other, larger, *picture)
    assert_one_sentence(result, "differ in size", "10 x 8 x 1")
    assert "psnr" in result.stdout and "larger has no scores yet" in result.stdout


def test_a_tracker_that_is_not_installed_is_named(invoke, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    result = invoke("train", "ae", photos, "--track", "mlflow")
    assert_one_sentence(result, "pip install mlflow")
    assert invoke("train", "ae", photos, "--track", "neptune").exit_code == 2
    assert cli.options._TRACKERS == keras_ae.trackers.NAMES
    assert (*keras_ae.scores.GROUPS,) == cli.options._SCORES


def test_embed_crops_celeba_as_training_does(invoke, saved, tmp_path):
    folder = tmp_path / "faces" / "img_align_celeba"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 256, (218, 178, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index:06d}.png")
    result = invoke("embed", saved, "faces", "--output", "codes.npz")
    assert result.exit_code == 0, result.output
    faces = keras_ae.datasets.load("faces", "all", image_size=(16, 12))
    expected = keras.saving.load_model(saved).encode(faces)
    with np.load("codes.npz") as file:
        np.testing.assert_allclose(file["codes"], expected, atol=1e-4)
        assert file["path"][2] == "img_align_celeba/000002.png"


def test_what_nobody_expected_is_one_sentence_too(invoke, tmp_path):
    (tmp_path / "odd.py").write_text('def main(run):\n    {}["settings"]\n')
    assert_one_sentence(
        invoke("recipe", "odd.py"), "KeyError", "settings", "KERAS_AE_DEBUG"
    )


def test_what_is_no_model_of_ours_is_refused(invoke, tmp_path):
    sample = ("--output", "a.png")
    assert_one_sentence(invoke("sample", "none.keras", *sample), "none.keras")
    assert_one_sentence(invoke("sample", tmp_path, *sample), "no model.keras")
    (tmp_path / "text.keras").write_text("hello")
    assert_one_sentence(invoke("sample", "text.keras", *sample), "not a .keras file")
    other = keras.Sequential([keras.layers.Dense(2)])
    other.build((None, 3))
    other.save(tmp_path / "other.keras")
    result = invoke("sample", "other.keras", *sample)
    assert_one_sentence(result, "other.keras holds a Sequential", "AE, VAE")
    keras_ae.AE(2, image_shape=(4, 4, 1), widths=(4,)).save(tmp_path / "ae.keras")
    assert_one_sentence(invoke("sample", "ae.keras", *sample), "no prior", "`--data`")
