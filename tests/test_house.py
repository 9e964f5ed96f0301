"""The house keeps its order: one direction of imports, one file for the backend."""

import ast
import configparser
import inspect
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from house import imported_modules, imports, room_of

import keras_ae

pytestmark = pytest.mark.once


PACKAGE = Path(keras_ae.__file__).parent

# What each package or module may import of ours; nothing by default.
MAY_IMPORT = {
    "__main__": {"cli"},
    "backend": {"machine", "processes"},
    "nn": {"backend", "checks"},
    "probability": {"backend", "checks", "datasets", "nn", "progress"},
    "datasets": {"backend", "gaps", "machine", "progress"},
    "training": {"arrays", "backend", "checks", "datasets"},
    "presets": {"catalogue", "files"},
    "models": {
        "arrays",
        "backend",
        "checks",
        "datasets",
        "nn",
        "presets",
        "probability",
        "progress",
        "training",
    },
    "metrics": {"arrays", "checks", "gaps", "probability"},
    "callbacks": {
        *("checks", "files", "metrics", "nn", "plots", "processes", "training"),
    },
    "compression": {"metrics"},
    "estimators": {"backend", "checks", "models", "nn"},
    "anomalies": {
        "arrays",
        "backend",
        "checks",
        "files",
        "metrics",
        "models",
        "probability",
        "runs",
        "training",
    },
    "evaluation": {
        "checks",
        "datasets",
        "files",
        "metrics",
        "nn",
        "probability",
        "progress",
        "training",
    },
    "explorer": {"checks", "datasets", "plots", "probability"},
    "benchmark": {
        *("catalogue", "datasets", "files", "machine", "models", "plots", "processes"),
    },
    "runs": {
        "backend",
        "callbacks",
        "catalogue",
        "checks",
        "datasets",
        "evaluation",
        "files",
        "machine",
        "metrics",
        "models",
        "plots",
        "presets",
        "probability",
        "training",
    },
    "cli": {
        "anomalies",
        "backend",
        "benchmark",
        "callbacks",
        "catalogue",
        "checks",
        "compression",
        "datasets",
        "evaluation",
        "explorer",
        "files",
        "machine",
        "metrics",
        "models",
        "plots",
        "probability",
        "processes",
        "progress",
        "runs",
    },
}

ROOMS = sorted(
    path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"
)


def test_imports_run_in_one_direction():
    # Recipes stand above the package.
    found = {room: names for room, names in imports(PACKAGE).items() if names}
    found.pop("recipes", None)
    assert {room: found[room] - MAY_IMPORT.get(room, set()) for room in found} == (
        dict.fromkeys(found, set())
    )
    assert found.keys() == MAY_IMPORT.keys(), "of rooms that import nothing, no row"


def test_every_package_is_installed():
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[1] / "setup.cfg")
    listed = {*settings["options"]["packages"].split()}
    folders = {path.parent.relative_to(PACKAGE).parts for path in ROOMS}
    found = {".".join(("keras_ae", *parts)) for parts in folders}
    # In a checkout the recipes lie beside the package.
    assert listed == found | {"keras_ae.recipes"}


def users_of(prefix):
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in ROOMS
        if any(module.startswith(prefix) for module in imported_modules(path))
    }


def test_private_names_of_keras_are_in_one_file():
    assert users_of("keras.src") == {"backend/keras_private.py"}


def test_private_names_stay_in_their_room():
    assert all(user.startswith("backend/") for user in users_of("keras_ae.backend._"))
    for path in ROOMS:
        for module in imported_modules(path):
            if module.startswith("keras_ae.") and "._" in module:
                assert module.split(".")[1] == room_of(path, PACKAGE), path


def test_files_can_be_read_in_one_go():
    for path in ROOMS:
        assert len(path.read_text().splitlines()) <= 500, path


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_few_know_the_backend(path):
    # The machine asks each of them what card it found.
    if room_of(path, PACKAGE) in ("backend", "machine"):
        return
    backends = {"tensorflow", "jax", "torch"}
    assert not backends & {name.split(".")[0] for name in imported_modules(path)}
    text = path.read_text()
    assert "backend.backend()" not in text
    assert "config.backend()" not in text or room_of(path, PACKAGE) == "cli"


def loaded_after(code, **environment):
    script = (
        f"import sys; {code}; print(*sorted(m for m in sys.modules if '.' not in m))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return set(run.stdout.split())


def test_importing_the_package_imports_no_keras():
    assert "keras" not in loaded_after("import keras_ae")


def assert_registered_after(*codes):
    """Runs each in a process of its own, that of another which PyTorch is loaded in."""
    script = """
import os, sys, h5py, numpy, torch._dynamo
for code in sys.argv[1:]:
    child = os.fork()
    if not child:
        exec(code)
        import keras
        known = keras.saving.get_registered_object("keras_ae>VAE")
        os._exit(0 if known is not None else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, code
"""
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, *codes],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert run.returncode == 0, run.stderr[-2000:]


def test_models_load_whichever_was_imported_first(tmp_path):
    path = str(tmp_path / "model.keras")
    keras_ae.AE(2, image_shape=(4,)).save(path)
    assert_registered_after(
        *(
            f"import {order}; keras.saving.load_model({path!r})"
            for order in ("keras, keras_ae", "keras_ae, keras")
        )
    )


@pytest.mark.thorough
def test_models_are_registered_whatever_came_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("import keras\nraise KeyError\n")
    assert_registered_after(
        # They are among what the models import themselves.
        "import keras_ae.nn.layers",
        "import keras_ae.probability.distributions",
        "import keras_ae.training.inputs",
        "import keras_ae.backend",
        "import keras_ae, importlib; importlib.reload(keras_ae)",
        "import keras_ae; del sys.modules['keras_ae']; import keras_ae",
        # A module that fails.
        "import keras_ae, contextlib; keras_ae.__path__.append('.')\n"
        "with contextlib.suppress(KeyError): import keras_ae.broken",
    )


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_need_no_tensorflow(backend):
    pytest.importorskip(backend)
    loaded = loaded_after(
        "import keras_ae; keras_ae.VAE(2, image_shape=(4,)); import keras_ae.cli",
        KERAS_BACKEND=backend,
    )
    assert "keras" in loaded
    assert not {"tensorflow", "tensorflow_probability"} & loaded


def test_what_a_model_can_do_is_what_it_says():
    for name in keras_ae.models.__all__:
        Model = getattr(keras_ae, name)
        says = {
            "searches_codes": ("infer",),
            "denoises": ("denoise", "corrupt"),
            "has_posterior": ("sample_posterior",),
            "bounds_likelihood": ("log_likelihood",),
            "has_tokens": ("tokens", "decode_tokens", "token_shape"),
        }
        for attribute, methods in says.items():
            for method in methods:
                assert getattr(Model, attribute) == hasattr(Model, method), name


def test_names_of_models_are_not_those_of_keras():
    """Of Keras' own and of PyTorch's modules, which models are on that backend."""
    meant = {
        *("_flatten_metrics_in_order", "_maybe_symbolic_build"),
        *("build", "build_from_config", "call"),
        *("compile", "compile_from_config", "evaluate", "fit", "from_config"),
        *("get_build_config", "get_compile_config", "get_config"),
        *("export", "get_metrics_result", "quantize", "save"),
        *("load_own_variables", "make_test_function", "make_train_function"),
        *("metrics", "metrics_names", "metrics_variables", "non_trainable_variables"),
        *("non_trainable_weights", "predict", "predict_on_batch", "predict_step"),
        *("reset_metrics", "save_own_variables", "set_weights"),
        *("test_on_batch", "test_step"),
        *("train_on_batch", "train_step", "trainable_variables", "trainable_weights"),
    }
    for name in keras_ae.models.__all__:
        for base in getattr(keras_ae, name).__mro__:
            if not base.__module__.startswith("keras_ae"):
                continue
            own = {n for n in vars(base) if not n.startswith("__")}
            assert not (own & {*dir(keras.Model)}) - meant, base


def test_hooks_are_documented():
    for base in keras_ae.base.Autoencoder.__mro__:
        if not base.__module__.startswith("keras_ae"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or not inspect.isfunction(value):
                continue
            assert inspect.getdoc(getattr(base, name)) or hasattr(keras.Model, name), (
                base.__name__,
                name,
            )


def test_signatures_tell_every_argument():
    for name in keras_ae.models.__all__:
        Model = getattr(keras_ae, name)
        parameters = inspect.signature(Model).parameters
        needed = {"num_classes": 2} if Model.needs_labels else {}
        config = {*Model(**needed).get_config()} - {"name", "trainable", "dtype"}
        assert config == parameters.keys() - {"kwargs"}
    assert [*inspect.signature(keras_ae.VAE).parameters][:2] == [
        "latent_dim",
        "likelihood",
    ]


def test_python_runs_the_package_as_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "keras_ae", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 0 and "Usage: keras-ae" in run.stdout


def test_editors_see_the_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    aliases = [alias for node in block.body for alias in node.names]
    seen = {alias.asname or alias.name for alias in aliases} - {"*"}
    public = {*keras_ae.__all__, "estimators"}
    assert seen | {*keras_ae.models.__all__} == public


@pytest.mark.thorough
def test_public_modules_can_be_imported():
    loaded_after(
        "from keras_ae.distributions import Normal; import keras_ae.layers; "
        "import keras_ae.nn.layers as layers; assert keras_ae.layers is layers; "
        "assert layers.__spec__.name == 'keras_ae.nn.layers'; "
        "import keras; assert keras.saving.get_registered_object('keras_ae>VAE'); "
        "import importlib; "
        "[importlib.import_module('keras_ae.' + name) for name in keras_ae._MODULES]",
        KERAS_BACKEND="torch",
    )


def test_public_names_are_there():
    for name in keras_ae.__all__:
        assert getattr(keras_ae, name) is not None
    assert set(keras_ae.__all__) <= set(dir(keras_ae))
    assert set(keras_ae.models.__all__) <= set(keras_ae.__all__)
    with pytest.raises(AttributeError, match="no attribute 'VEA'"):
        keras_ae.VEA  # noqa: B018
