"""Trackers: what is logged, on fakes of the packages and on TensorBoard itself."""

import json
import sys
import types

import keras
import pytest

import keras_ae
from keras_ae import runs
from keras_ae.callbacks import trackers


@pytest.fixture
def calls(monkeypatch):
    """What fakes of mlflow and wandb, in place of the packages, were called with."""
    calls = []

    def note(name, result=None):
        def called(*arguments, **options):
            calls.append((name, arguments, options))
            return result

        return called

    mlflow = types.ModuleType("mlflow")
    mlflow.active_run = lambda: None
    run = types.SimpleNamespace(info=types.SimpleNamespace(run_id="mlflow-1"))
    mlflow.start_run = note("start_run", run)
    for name in ("log_params", "log_metrics", "log_image", "end_run"):
        setattr(mlflow, name, note(name))
    wandb = types.ModuleType("wandb")
    wandb.run = None
    wandb.Image = lambda picture: ("image", picture)
    names = ("log", "define_metric", "finish")
    run = types.SimpleNamespace(id="wandb-1", **{name: note(name) for name in names})
    wandb.init = note("init", run)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return calls


def fit(images, tracker, epochs=3, **options):
    model = keras_ae.VAE(2, architecture="dense", widths=(4,))
    callbacks = [tracker]
    model.fit(
        images,
        validation_data=images[:8],
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        **options,
    )
    return model


@pytest.mark.once
def test_mlflow_gets_figures_settings_and_pictures(images, calls, tmp_path):
    settings = {"latent_dim": 2, "options": {"seed": 0, "limit": None}}
    options = {"images": images[:4], "every": 2, "directory": tmp_path / "run"}
    fit(images, trackers.MLflow("discs", settings, **options))
    by_name = {name: (arguments, options) for name, arguments, options in calls}
    assert by_name["start_run"][1] == {"run_id": None, "run_name": "discs"}
    assert by_name["log_params"][0] == ({"latent_dim": 2, "options.seed": 0},)
    figures = [(a[0], o["step"]) for name, a, o in calls if name == "log_metrics"]
    assert [step for _, step in figures] == [1, 2, 3]
    assert {"loss", "kl", "elbo", "val_loss", "val_elbo"} <= figures[0][0].keys()
    assert all(type(value) is float for value in figures[0][0].values())
    pictures = [(o["key"], o["step"]) for name, _, o in calls if name == "log_image"]
    kinds = ("samples", "reconstructions")
    assert pictures == [(kind, step) for step in (1, 2) for kind in kinds]
    assert calls[-1][0] == "end_run"
    # Training that goes on goes on in the same run, whose settings are there already.
    calls.clear()
    fit(images, trackers.MLflow("discs", settings, **options), initial_epoch=2)
    assert calls[0] == ("start_run", (), {"run_id": "mlflow-1", "run_name": "discs"})
    assert [name for name, *_ in calls] == ["start_run", "log_metrics", "end_run"]


@pytest.mark.once
def test_wandb_gets_the_same(images, calls, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "discs")
    fit(images, trackers.WandB("run", {"a": 1}, directory=tmp_path), epochs=1)
    _, _, options = calls[0]
    assert options["project"] == "discs" and options["config"] == {"a": 1}
    assert options["id"] is None and options["resume"] == "allow"
    logged = [arguments[0] for name, arguments, _ in calls if name == "log"]
    figures, samples = logged
    assert figures["epoch"] == samples["epoch"] == 1 and "val_elbo" in figures
    kind, picture = samples["samples"]
    assert kind == "image" and picture.mode == "RGB" and picture.width > 80
    assert calls[-1][0] == "finish"
    ids = json.loads((tmp_path / trackers.FILE).read_text())
    assert ids == {"wandb": "wandb-1"}


@pytest.mark.once
def test_a_run_that_is_active_stays_so(images, calls, monkeypatch):
    run = sys.modules["mlflow"].start_run()
    monkeypatch.setattr(sys.modules["mlflow"], "active_run", lambda: run)
    calls.clear()
    fit(images, trackers.MLflow(), epochs=1)
    assert not {"start_run", "end_run"} & {name for name, *_ in calls}


class _Raises(keras.callbacks.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        raise self.error


@pytest.mark.once
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(RuntimeError("lost"), "FAILED", 1), (KeyboardInterrupt(), "KILLED", 255)],
)
def test_runs_end_with_a_training_that_raises(images, calls, error, status, code):
    model = keras_ae.VAE(2, architecture="dense", widths=(4,))
    tracked = [trackers.MLflow(), trackers.WandB(), _Raises(error)]
    with pytest.raises(type(error)):
        model.fit(images, verbose=0, callbacks=tracked)
    assert calls[-2:] == [
        ("end_run", (status,), {}),
        ("finish", (), {"exit_code": code}),
    ]
    # What has ended before is left alone.
    calls.clear()
    with pytest.raises(ValueError, match="must hold examples"):
        model.fit(images[:, 1:], verbose=0, callbacks=tracked)
    assert not calls


@pytest.mark.once
def test_a_run_that_its_tracker_refuses_ends(images, calls):
    def refuse(*arguments):
        raise RuntimeError("another value")

    sys.modules["mlflow"].log_params = refuse
    with pytest.raises(RuntimeError, match="another value"):
        fit(images, trackers.MLflow("discs", {"a": 1}), epochs=1)
    assert [name for name, *_ in calls] == ["start_run", "end_run"]


@pytest.mark.once
def test_tensorboards_files_are_closed_by_a_training_that_raises(images, tmp_path):
    pytest.importorskip("tensorboard")
    model = keras_ae.VAE(2, architecture="dense", widths=(4,))
    board = trackers.TensorBoard(tmp_path, write_graph=False, update_freq=1)
    closed = []
    board._close_writers = lambda: closed.append(True)
    with pytest.raises(RuntimeError, match="lost"):
        tracked = [board, _Raises(RuntimeError("lost"))]
        model.fit(images, verbose=0, callbacks=tracked)
    assert closed


@pytest.mark.once
def test_a_tracker_that_fails_does_not_end_training(images, calls, capsys):
    def fail(*arguments, **options):
        raise RuntimeError("server is down")

    sys.modules["mlflow"].log_metrics = sys.modules["mlflow"].end_run = fail
    model = fit(images, trackers.MLflow(), epochs=2)
    assert model.built
    warned = capsys.readouterr().err
    assert "Epoch 2 could not be logged by MLflow (server is down)" in warned
    assert "The end of the training could not be logged by MLflow" in warned


@pytest.mark.once
def test_a_run_is_tracked_and_so_are_those_beside_it(images, calls, tmp_path):
    run = runs.Run(tmp_path / "run", "discs", track=["mlflow", "wandb"])
    model = run.model(lambda: keras_ae.AE(2, architecture="dense", widths=(4,)))
    run.fit(model, images, images[:8], epochs=1, batch_size=16)
    names = [name for name, *_ in calls]
    assert {"log_metrics", "log_image", "end_run", "log", "finish"} <= {*names}
    assert run.child("other").track == ("mlflow", "wandb")
    ids = json.loads((tmp_path / "run" / trackers.FILE).read_text())
    assert ids == {"mlflow": "mlflow-1", "wandb": "wandb-1"}


@pytest.mark.parametrize("name", trackers.NAMES)
def test_what_is_not_installed_is_said_at_once(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"`pip install {name}` brings it"):
        runs.Run(tmp_path / "run", track=[name])
    with pytest.raises(ValueError, match="`track` must be of tensorboard, .*'neptune'"):
        runs.Run(tmp_path / "run", track=["neptune"])


def test_bad_arguments_are_named(calls):
    with pytest.raises(ValueError, match="`every` must be an integer >= 1"):
        trackers.MLflow(every=0)


@pytest.mark.once
def test_tensorboard_gets_our_figures_and_pictures(images, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import event_accumulator

    board = trackers.TensorBoard(tmp_path, images=images[:4], every=2)
    fit(images, board)

    def events(folder):
        found = event_accumulator.EventAccumulator(
            str(tmp_path / folder), {"tensors": 0}
        )
        return found.Reload()

    assert {"epoch_loss", "epoch_kl", "epoch_elbo"} <= {
        *events("train").Tags()["tensors"]
    }
    validated = events("validation")
    assert {"epoch_loss", "epoch_elbo"} <= {*validated.Tags()["tensors"]}
    assert [event.step for event in validated.Tensors("epoch_elbo")] == [0, 1, 2]
    pictures = events("pictures")
    assert {*pictures.Tags()["tensors"]} == {"samples", "reconstructions"}
    samples = pictures.Tensors("samples")
    assert [event.step for event in samples] == [0, 1]
    width, height, png = samples[0].tensor_proto.string_val
    assert png.startswith(b"\x89PNG") and int(width) > 80 and int(height) > 80
