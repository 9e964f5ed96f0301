"""Runs: what they leave, and that they go on as if they had never stopped."""

import csv
import errno
import itertools
import json
import signal
import subprocess
import zipfile

import keras
import numpy as np
import pytest
from command import keras_ae_command
from numerics import to_numpy

import keras_ae
from keras_ae import callbacks, catalogue, evaluation, files, machine, metrics, runs
from keras_ae.runs.training import TimeLeft
from keras_ae.training import optimizers

# A recipe that trains in a second; `stop` presses Ctrl-C in that epoch.
SCRIPT = '''"""A tiny VAE on tiny moons."""
import os
import signal

import keras

import keras_ae


class CtrlC(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch + 1 == self.epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.now and batch == 1 and not os.path.exists("pressed"):
            open("pressed", "w").close()
            os.kill(os.getpid(), signal.SIGINT)


def main(run, latent_dim=2, rate=1e-3, patience=9, stop=0, draw=False):
    train, validation, test = run.load("moon-phases", image_size=8)
    model = run.model(
        lambda: compiled(
            keras_ae.VAE(latent_dim, architecture="dense", widths=(16,)), rate
        )
    )
    run.fit(
        model,
        train,
        validation,
        epochs=4,
        batch_size=16,
        patience=patience,
        extra_callbacks=[CtrlC(stop)],
    )
    run.evaluate(model, test)
    if draw:
        run.pictures(model, test, run.labels["test"]["phase"], "phase")


def compiled(model, rate):
    rate = keras.optimizers.schedules.ExponentialDecay(rate, 4, 0.5)
    model.compile(optimizer=keras.optimizers.Adam(rate))
    return model
'''


def run_cli(*arguments):
    return keras_ae_command(*arguments)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Function that runs `keras-ae ...` in an empty folder with `tiny.py` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(SCRIPT)
    return run_cli


def rows(path):
    with open(path, newline="") as file:
        found = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    for row in found:
        del row["seconds"]
    return found


def assert_same_training(one, other):
    first, second = rows(one / "history.csv"), rows(other / "history.csv")
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose([*a.values()], [*b.values()], rtol=1e-4)
    for name in ("model.keras", "last.keras"):
        weights = [runs.load_model(run / name).get_weights() for run in (one, other)]
        for a, b in zip(*weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.py").write_text(SCRIPT)
    options = ("--limit", 48, "--run-dir", folder / "run", "--set", "draw=yes")
    result = run_cli("recipe", folder / "tiny.py", *options)
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_a_commit_is_that_of_the_package_s_own_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        command = ["git", *who, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True)

    package, installed = tmp_path / "keras_ae", tmp_path / "site-packages" / "keras_ae"
    for folder in (package, installed):
        folder.mkdir(parents=True)
        (folder / "machine.py").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "First")
    head = git("rev-parse", "--short=12", "HEAD").stdout.strip()
    monkeypatch.setattr(machine, "__file__", str(package / "machine.py"))
    assert machine.commit() == head
    (package / "machine.py").write_text("changed = True")
    assert machine.commit() == f"{head}-dirty"
    monkeypatch.setattr(machine, "__file__", str(installed / "machine.py"))
    assert machine.commit() is None
    assert "commit" not in machine.environment()


def test_a_run_leaves_everything_that_tells_of_it(whole):
    settings = json.loads((whole / "settings.json").read_text())
    assert settings["recipe"] == "tiny"
    assert settings["options"]["limit"] == 48 and settings["options"]["seed"] == 0
    assert settings["settings"]["latent_dim"] == 2
    assert settings["training"]["epochs"] == 4
    assert settings["environment"]["versions"]["keras"] == keras.__version__
    assert settings["environment"]["backend"] == keras.config.backend()
    assert settings["environment"]["commit"] == machine.commit()
    assert (whole / "tiny.py").read_text() == SCRIPT

    history = rows(whole / "history.csv")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert {"loss", "kl", "val_loss", "val_elbo"} <= history[0].keys()
    scores = json.loads((whole / "scores.json").read_text())
    assert {"loss", "elbo", "mse", "psnr", "active_units"} <= scores.keys()

    pictures = {path.stem for path in (whole / "pictures").glob("*.png")}
    expected = (
        "reconstructions samples interpolation traversal latent_map manifold loss"
    )
    assert pictures == {*expected.split(), *(f"epoch-000{i}" for i in (1, 2, 3, 4))}
    html = (whole / "report.html").read_text()
    assert html.count("data:image/png;base64,") == len(pictures)
    assert "keras.saving.load_model(" in html
    assert "keras.saving.load_model(" in (whole / "README.md").read_text()

    best = min(history, key=lambda row: row["val_loss"])["epoch"]
    model = runs.load_model(whole)
    assert int(model.optimizer.iterations) == best * 3  # 48 pictures in batches of 16
    assert [*whole.glob(".*")] == []  # no temporary file


@pytest.mark.once
def test_a_run_never_overwrites_another(invoke, tmp_path):
    first = ("recipe", "tiny.py", "--limit", 16, "--epochs", 1)
    assert invoke(*first).exit_code == 0
    assert invoke(*first).exit_code == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"tiny", "tiny-2"}
    result = invoke(*first, "--run-dir", "runs/tiny")
    assert result.exit_code == 1
    assert "not empty" in result.stderr and "--resume" in result.stderr


@pytest.mark.thorough
def test_a_resumed_run_is_the_run_that_did_not_stop(invoke, whole, tmp_path):
    begin = ("recipe", "tiny.py", "--run-dir", "parts")
    assert invoke(*begin, "--limit", 48, "--epochs", 2).exit_code == 0
    result = invoke(*begin, "--resume", "--epochs", 4)
    assert result.exit_code == 0, result.output
    assert "Going on after epoch 2" in result.stdout
    assert_same_training(whole, tmp_path / "parts")


def test_ctrl_c_keeps_complete_epochs_and_says_how_to_go_on(invoke, whole, tmp_path):
    begin = ("recipe", "tiny.py", "--run-dir", "parts")
    result = invoke(*begin, "--limit", 48, "--set", "stop=3")
    assert result.exit_code == 130
    assert "2 complete epochs are kept in parts" in result.stderr
    command = "keras-ae recipe tiny.py --run-dir parts --resume"
    assert command in result.stderr
    assert len(rows(tmp_path / "parts" / "history.csv")) == 2
    # What is best so far knows where its codes are.
    assert runs.load_model(tmp_path / "parts").choose_sampler() is not None
    result = invoke(*command.split()[1:])
    assert result.exit_code == 0, result.output
    assert_same_training(whole, tmp_path / "parts")


def test_a_rate_falls_in_a_resumed_training_as_it_would_have():
    def rates(*ends):
        keras.utils.set_random_seed(0)
        model = keras_ae.AE(2, architecture="dense", widths=(4,))
        history = []
        for begin, end in itertools.pairwise((0, *ends)):
            falling = callbacks.ResumedReduceLROnPlateau(
                [*history], monitor="loss", patience=2, factor=0.5, min_delta=1e9
            )
            model.fit(
                np.ones((8, 4, 4), "float32"),
                initial_epoch=begin,
                epochs=end,
                verbose=0,
                callbacks=[falling, callbacks.Rows(history)],
            )
        return [row["learning_rate"] for row in history]

    expected = 1e-3 * 0.5 ** np.array([0, 0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(rates(7), expected, rtol=1e-6)
    # A fall at the end of epoch 3 is in the checkpoint, and one short of epoch 5.
    for cut in (3, 4):
        np.testing.assert_allclose(rates(cut, 7), expected, rtol=1e-6)


@pytest.mark.once
def test_an_interrupt_serves_one_training_after_another():
    interrupt = callbacks.Interrupt()
    press = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: signal.raise_signal(signal.SIGINT)
    )
    model = keras_ae.AE(2, architecture="dense", widths=(4,))
    x = np.random.default_rng(0).uniform(size=(8, 6)).astype("float32")
    with pytest.raises(callbacks.Interrupted), interrupt.listening():
        model.fit(x, verbose=0, callbacks=[press, interrupt])
    with interrupt.listening():
        history = model.fit(x, epochs=2, verbose=0, callbacks=[interrupt])
    assert len(history.epoch) == 2


class Told(keras.callbacks.Callback):
    """Logs a score that each epoch is given, whatever was learned."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.scores[epoch]


def test_a_rate_falls_from_the_best_epoch(tmp_path):
    x = np.random.default_rng(0).random((16, 4, 4), "float32")

    def train(directory, *ends):
        directory.mkdir()
        keras.utils.set_random_seed(0)
        model = keras_ae.AE(2, architecture="dense", widths=(4,))
        history, weights = [], []
        last, best = directory / "last.keras", directory / "best.keras"
        for begin, end in itertools.pairwise((0, *ends)):
            if begin:
                model = keras_ae.runs.load_model(last)
            falling = callbacks.ResumedReduceLROnPlateau(
                [*history],
                best,
                monitor="score",
                mode="min",
                patience=2,
                factor=0.5,
            )
            checkpoint = callbacks.Checkpoint(
                last, best, monitor="score", history=history
            )
            rows = callbacks.Rows(history)
            model.fit(
                x,
                initial_epoch=begin,
                epochs=end,
                shuffle=False,
                verbose=0,
                callbacks=[
                    Told((3.0, 2.0, 4.0, 4.0, 4.0)),
                    falling,
                    rows,
                    checkpoint,
                    keras.callbacks.LambdaCallback(
                        on_epoch_end=lambda *_, model=model: weights.append(
                            keras.ops.convert_to_numpy(model.decoder.weights[0])
                        )
                    ),
                ],
            )
        return weights, [row["learning_rate"] for row in history]

    weights, rates = train(tmp_path / "whole", 5)
    np.testing.assert_allclose(rates, [1e-3] * 4 + [5e-4], rtol=1e-6)
    # Epochs 3 and 4 are no better than epoch 2: it is where training goes on.
    np.testing.assert_array_equal(weights[3], weights[1])
    assert np.abs(weights[2] - weights[1]).max() > 1e-4
    assert np.abs(weights[4] - weights[3]).max() > 1e-4
    for cut in (3, 4):
        found, _ = train(tmp_path / str(cut), cut, 5)
        np.testing.assert_allclose(found, weights, atol=1e-6)


@pytest.mark.once
def test_long_training_is_told_of_once(capsys):
    rows = [{"seconds": 100.0}]
    callback = TimeLeft(rows)
    callback.set_params({"epochs": 20})
    callback.on_epoch_end(2)
    assert capsys.readouterr().out == ""
    rows[-1] = {"seconds": 30.0}
    for epoch in (3, 4):
        callback.on_epoch_end(epoch)
    (line,) = capsys.readouterr().out.split("\n")[1:-1]
    assert line.startswith("An epoch takes 30 s: at most 8 min 0 s more. Ctrl-C")
    rows[-1] = {"seconds": 0.4}
    callback = TimeLeft(rows)
    callback.set_params({"epochs": 900})
    callback.on_epoch_end(2)
    callback.on_epoch_end(3)
    assert "An epoch takes less than 1 s: at most" in capsys.readouterr().out
    rows[-1] = {"seconds": 30.0}
    callback = TimeLeft(rows)
    callback.set_params({"epochs": 5})
    callback.on_epoch_end(2)
    callback.on_epoch_end(3)
    assert capsys.readouterr().out == ""


@pytest.mark.once
def test_a_full_disk_leaves_the_previous_checkpoint_whole(
    invoke, tmp_path, monkeypatch
):
    save = callbacks.save
    run = tmp_path / "full"
    kept = []

    def full(model, path, history):
        if len(history) in (2, 3):
            kept.append((run / "last.keras").read_bytes())
            path.write_bytes(b"half a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(model, path, history)

    monkeypatch.setattr(callbacks.checkpoints, "save", full)
    begin = ("recipe", "tiny.py", "--run-dir", run)
    result = invoke(*begin, "--limit", 48, "--epochs", 3)
    assert result.exit_code == 0, result.output
    warnings = [line for line in result.stderr.splitlines() if "last.keras" in line]
    assert len(warnings) == 2
    assert "no space left on device" in warnings[0]
    assert "the previous one is kept and training goes on" in warnings[0]
    assert kept[0] == (run / "last.keras").read_bytes()
    assert len(rows(run / "history.csv")) == 3
    assert [*run.glob(".*")] == []

    # The file is of epoch 1, and the run goes on from there.
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    result = invoke(*begin, "--resume", "--epochs", 4)
    assert "Going on after epoch 1" in result.stdout
    assert len(rows(run / "history.csv")) == 4


@pytest.mark.once
def test_history_on_a_full_disk_is_written_with_the_next_epoch(
    tmp_path, monkeypatch, capsys
):
    table = [{"epoch": 0, "loss": 2.0}]
    path = tmp_path / "history.csv"
    callback = callbacks.HistoryFile(path, table)
    callback.on_epoch_end(0)
    before = path.read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    table.append({"epoch": 1, "loss": 1.5})
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.checkpoints.os, "fsync", full)
        callback.on_epoch_end(1)
    assert path.read_text() == before
    assert "no space left" in capsys.readouterr().err
    table.append({"epoch": 2, "loss": 1.0})
    callback.on_epoch_end(2)
    assert path.read_text().split() == ["epoch,loss", "1,2.0", "2,1.5", "3,1.0"]


@pytest.mark.once
def test_early_stopping_remembers_the_epochs_before(invoke, tmp_path):
    # At rate 0 only the first epoch improves on anything.
    begin = ("recipe", "tiny.py", "--run-dir", "still")
    settings = ("--set", "rate=0", "--set", "patience=2")
    result = invoke(*begin, "--limit", 16, "--epochs", 9, *settings)
    assert result.exit_code == 0, result.output
    trained = len(rows(tmp_path / "still" / "history.csv"))
    assert trained < 9
    result = invoke(*begin, "--resume")
    assert "ended by early stopping" in result.stdout
    assert "a larger patience (`--set patience=...`)" in result.stdout
    assert len(rows(tmp_path / "still" / "history.csv")) == trained
    result = invoke(*begin, "--resume", "--set", f"patience={trained + 1}")
    assert result.exit_code == 0, result.output
    assert len(rows(tmp_path / "still" / "history.csv")) > trained


@pytest.mark.slow
@pytest.mark.parametrize(("stops", "patience"), [((2, 3, 6), 9), ((4,), 0)])
def test_a_stacked_run_goes_on_in_its_phase(invoke, tmp_path, stops, patience):
    vae = 'keras_ae.VAE(latent_dim, architecture="dense", widths=(16,))'
    stacked = (
        'keras_ae.StackedSAE((8, 4), pretraining="denoising", pretraining_epochs=2)'
    )
    assert vae in SCRIPT
    (tmp_path / "stacked.py").write_text(SCRIPT.replace(vae, stacked))
    rate = 1e-3 if patience else 0.0
    options = ["--limit", 48, "--set", f"patience={patience}", "--set", f"rate={rate}"]
    run = ["recipe", "stacked.py", "--run-dir"]
    result = invoke(*run, "whole", *options)
    assert result.exit_code == 0, result.output
    phases = [row["phase"] for row in rows(tmp_path / "whole" / "history.csv")]
    assert phases == ([1, 1, 2, 2, 3, 3, 3, 3] if patience else phases)
    assert sorted({*phases}) == [1, 2, 3]
    for stop in stops:
        (tmp_path / "pressed").unlink(missing_ok=True)
        name = f"stopped-{stop}"
        result = invoke(*run, name, *options, "--set", f"stop={stop}")
        assert result.exit_code == 130, result.output
        result = invoke(*run, name, "--resume")
        assert result.exit_code == 0, result.output
        assert_same_training(tmp_path / "whole", tmp_path / name)
        assert runs.load_model(tmp_path / name).next_phase == 3


@pytest.mark.once
def test_a_resumed_run_keeps_its_settings(invoke):
    begin = ("recipe", "tiny.py", "--run-dir", "run")
    assert invoke(*begin, "--limit", 16, "--epochs", 1).exit_code == 0
    for change in (("--seed", 3), ("--set", "latent_dim=3"), ("--limit", 20)):
        result = invoke(*begin, "--resume", *change)
        assert result.exit_code == 1
        assert "A resumed run keeps its settings" in result.stderr
    result = invoke("recipe", "tiny.py", "--run-dir", "elsewhere", "--resume")
    assert result.exit_code == 1
    assert "no run to resume in elsewhere" in result.stderr


def test_more_epochs_go_on_along_the_longer_schedule(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1)).astype("uint8")

    def train(epochs, resume):
        def build():
            model = keras_ae.AE(2, widths=(4,))
            # At its end the rate is 0: what trains on along it learns nothing.
            rate = keras.optimizers.schedules.CosineDecay(1e-2, epochs * 2)
            model.compile(optimizer=keras.optimizers.Adam(rate))
            return model

        run = runs.Run(tmp_path / "run", resume=resume, epochs=epochs)
        model = run.model(build)
        run.fit(model, pictures, pictures, epochs=9, batch_size=8)
        return run, model

    train(2, resume=False)
    run, model = train(4, resume=True)
    assert int(model.optimizer.iterations) == 8
    before, after = (run.history[epoch]["val_loss"] for epoch in (1, 3))
    assert after < before - 1e-4


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["AE", pytest.param("VAEGAN", marks=pytest.mark.once)])
def test_a_run_keeps_running_averages_and_goes_on_from_the_weights(kind, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")

    def train(name, epochs, resume=False):
        def build():
            # The optimal scale differs from batch to batch.
            fixed = keras_ae.likelihoods.Gaussian(0.2)
            options = {"likelihood": fixed} if kind == "AE" else {}
            model = getattr(keras_ae, kind)(2, widths=(4,), **options)
            model.compile(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8))
            return model

        run = runs.Run(tmp_path / name, resume=resume, epochs=epochs)
        model = run.model(build)
        run.fit(model, pictures, pictures, epochs=9, batch_size=8)
        return run, model

    def weights(path):
        model = runs.load_model(path)
        pairs = optimizers.averages(model.optimizer)
        assert pairs
        return [[to_numpy(v) for v in side] for side in zip(*pairs, strict=True)]

    whole, model = train("whole", 3)
    (best, _), (last, averages) = weights(whole.best_path), weights(whole.last_path)
    assert np.argmin([row["val_loss"] for row in whole.history]) == 2
    for value, average in zip(best, averages, strict=True):
        np.testing.assert_array_equal(value, average)
    assert max(np.abs(b - w).max() for b, w in zip(best, last, strict=True)) > 1e-3
    if kind == "AE":
        # What the average scores is what validation said.
        np.testing.assert_allclose(
            model.evaluate(pictures, batch_size=16, verbose=0, return_dict=True)["mse"],
            whole.history[-1]["val_mse"],
            rtol=0.05,
        )
    train("parts", 1)
    parts, _ = train("parts", 3, resume=True)
    for one, other in zip(weights(parts.last_path), (last, averages), strict=True):
        for value, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_a_damaged_record_of_a_run_is_named(invoke, tmp_path):
    begin = ("recipe", "tiny.py", "--run-dir", "run")
    assert invoke(*begin, "--limit", 16, "--epochs", 1).exit_code == 0
    for text in ("{", "[]", "{}"):
        (tmp_path / "run" / "settings.json").write_text(text)
        result = invoke(*begin, "--resume")
        assert result.exit_code == 1
        assert "settings.json is damaged" in result.stderr


@pytest.mark.once
def test_a_run_that_began_meanwhile_is_not_overwritten(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1)).astype("uint8")
    kept = []
    for message in (None, "holds a run already"):
        run = runs.Run(tmp_path / "run")
        model = run.model(lambda: keras_ae.AE(2, widths=(4,)))
        arguments = (model, pictures, pictures)
        if message is None:
            run.fit(*arguments, epochs=1, batch_size=8)
        else:
            with pytest.raises(ValueError, match=message):
                run.fit(*arguments, epochs=1, batch_size=8)
        kept.append((tmp_path / "run" / "model.keras").read_bytes())
    assert kept[0] == kept[1]


@pytest.mark.once
def test_the_newest_run_has_the_largest_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # x-2 was removed, and x-7 is the first run of something called x-7.
    for folder, name in (("x", "x"), ("x-3", "x"), ("x-7", "x-7")):
        (tmp_path / "runs" / folder).mkdir(parents=True)
        settings = tmp_path / "runs" / folder / "settings.json"
        settings.write_text(json.dumps({"name": name}))
    assert catalogue.run_directory("x", resume=True).name == "x-3"
    assert catalogue.run_directory("x").name == "x-4"
    (tmp_path / "runs" / "x-4").mkdir()
    assert catalogue.run_directory("x").name == "x-5"


@pytest.mark.once
def test_files_that_are_no_run_are_not_overwritten(tmp_path):
    for name in ("model.keras", "history.csv", "README.md"):
        (tmp_path / name).write_text("mine")
    pictures = np.zeros((8, 4, 4, 1), "uint8")
    run = runs.Run(tmp_path)
    model = run.model(lambda: keras_ae.AE(2, widths=(4,)))
    with pytest.raises(ValueError, match=r"with model\.keras, history\.csv, and noth"):
        run.fit(model, pictures, pictures, epochs=1, batch_size=8)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


@pytest.mark.once
def test_an_error_lets_go_of_the_directory(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1)).astype("uint8")
    run = runs.Run(tmp_path / "run")
    child = run.child("beside")
    model = child.model(lambda: keras_ae.AE(2, widths=(4,)))

    def stop(epoch, logs):
        assert {run.directory, child.directory} <= files._HELD.keys()
        raise RuntimeError

    stopping = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
    arguments = {"epochs": 1, "batch_size": 8}
    with pytest.raises(RuntimeError):
        child.fit(model, pictures, pictures, extra_callbacks=[stopping], **arguments)
    assert not {run.directory, child.directory} & files._HELD.keys()
    # It is the same run still, which may begin again.
    child.fit(model, pictures, pictures, **arguments)
    assert child.best_path.exists()


@pytest.mark.once
def test_a_run_that_was_cut_in_a_model_beside_it_goes_on(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1)).astype("uint8")

    def train(run):
        model = run.model(lambda: keras_ae.AE(2, widths=(4,)))
        run.fit(model, pictures, pictures, epochs=1, batch_size=8)

    train(runs.Run(tmp_path / "run").child("beside"))
    assert catalogue.run_directory("any", str(tmp_path / "run"), resume=True)
    with pytest.raises(ValueError, match="holds a run already"):
        train(runs.Run(tmp_path / "run"))
    run = runs.Run(tmp_path / "run", resume=True)
    train(run.child("beside"))
    train(run)
    train(run.child("another"))
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["training"]["pictures"] == 8
    # What is known of it is not lost where a model beside it comes first again.
    train(runs.Run(tmp_path / "run", resume=True).child("beside"))
    assert json.loads((tmp_path / "run" / "settings.json").read_text()) == settings


@pytest.mark.once
def test_only_models_that_search_for_codes_validate_on_few_pictures(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(runs.training, "SEARCHED", 1)
    pictures = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1)).astype("uint8")
    for Model, few in ((keras_ae.AE, False), (keras_ae.AutoDecoder, True)):
        run = runs.Run(tmp_path / Model.__name__)
        # It has no networks, and so no encoder, before it has seen the pictures.
        model = run.model(lambda Model=Model: Model(2, widths=(4,)))
        run.fit(model, pictures, pictures, epochs=1, batch_size=9)
        used = pictures[:1] if few else pictures
        mse = model.evaluate(used, verbose=0, return_dict=True)["mse"]
        np.testing.assert_allclose(run.history[-1]["val_mse"], mse, rtol=1e-4)


@pytest.mark.once
def test_scores_are_of_all_the_pictures_given(tmp_path, monkeypatch):
    for module in (evaluation.task, evaluation.measures, evaluation.scoring):
        monkeypatch.setattr(module, "_CHUNK", 7)
    pictures = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1)).astype("uint8")
    run = runs.Run(tmp_path / "run", seed=3)
    model = run.model(lambda: keras_ae.VAE(3, widths=(4,), likelihood="bernoulli"))
    with pytest.raises(ValueError, match="`train` must hold at least one picture"):
        run.fit(model, pictures[:0], pictures, epochs=1, batch_size=8)
    run.fit(model, pictures, pictures, epochs=1, batch_size=8)
    psnr = metrics.psnr(pictures, model.reconstruct(pictures))
    np.testing.assert_allclose(run.evaluate(model, pictures)["psnr"], psnr, rtol=1e-5)
    white = evaluation.binarized(pictures, seed=3)
    monkeypatch.setattr(metrics, "active_units", lambda codes: codes.sum())
    scores = run.evaluate(model, pictures, binarize=True)
    assert "psnr" not in scores
    expected = model.encode(white).sum()
    np.testing.assert_allclose(scores["active_units"], expected, rtol=1e-4)


@pytest.mark.once
def test_what_fails_before_training_leaves_no_directory(invoke, tmp_path):
    result = invoke("recipe", "tiny.py", "--set", "latent_dim=0")
    assert result.exit_code == 1
    assert "`latent_dim` must be" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.once
def test_checkpoint_keeps_the_best_that_is_on_disk(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 2))
    table = []
    checkpoint = callbacks.Checkpoint(
        tmp_path / "last.keras", tmp_path / "best.keras", "loss", history=table
    )
    checkpoint.set_model(model)
    checkpoint.on_train_begin()
    for epoch, loss in enumerate([2.0, 1.0, 3.0, float("nan")]):
        table.append({"epoch": epoch, "loss": loss})
        checkpoint.on_epoch_end(epoch, {"loss": loss})
    assert callbacks.read_note(tmp_path / "best.keras")[-1]["epoch"] == 1
    assert callbacks.read_note(tmp_path / "last.keras")[-1]["epoch"] == 3
    with zipfile.ZipFile(tmp_path / "best.keras") as archive:
        assert archive.testzip() is None
    with pytest.raises(ValueError, match="one of the logged values: loss"):
        callbacks.Checkpoint("a", "b", "val_loss").on_epoch_end(0, {"loss": 1.0})


def test_beta_warm_up_raises_the_weight_linearly():
    class Model:
        kl_weight = keras.Variable(4.0)
        beta = 4.0

    warm_up = callbacks.BetaWarmUp(epochs=4)
    warm_up.set_model(Model())
    weights = []
    for epoch in range(6):
        warm_up.on_epoch_begin(epoch)
        weights.append(float(to_numpy(Model.kl_weight)))
    assert weights == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="epochs=0"):
        callbacks.BetaWarmUp(epochs=0)
    warm_up.set_model(keras.Sequential())
    with pytest.raises(ValueError, match="KL"):
        warm_up.on_train_begin()


@pytest.mark.once
def test_binarized_draws_white_with_the_grey_value_as_probability():
    grey = np.repeat(np.array([0, 64, 255], "uint8")[:, None], 20_000, axis=1)
    white = evaluation.binarized(grey, seed=1)
    assert set(np.unique(white)) == {0, 255}
    np.testing.assert_allclose(white.mean(axis=1) / 255, [0, 64 / 255, 1], atol=0.01)
    assert (white == evaluation.binarized(grey, seed=1)).all()
    assert (white != evaluation.binarized(grey, seed=2)).any()
    with pytest.raises(ValueError, match="must be uint8"):
        evaluation.binarized(grey / 255.0)
