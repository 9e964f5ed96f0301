"""The command `keras-ae benchmark`: what it measures, writes, and says of failures."""

import json
import os
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest
from command import keras_ae_command
from PIL import Image

import keras_ae
from keras_ae import benchmark, machine, plots
from keras_ae.benchmark import training

pytestmark = pytest.mark.once


BACKEND = keras.config.backend()


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Function that runs `keras-ae benchmark ...` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERAS_AE_DATA", raising=False)
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", BACKEND)

    def invoke(*arguments):
        return keras_ae_command("benchmark", *arguments)

    return invoke


def assert_one_sentence(result, *words):
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in line


def trained(request_seed, losses, seconds):
    """What a training reports, as a process of its own would."""
    return {
        "seed": request_seed,
        "seconds": seconds,
        "processor_seconds": [2 * s for s in seconds],
        "losses": losses,
        "first_step_after": 3.0 + request_seed,
        "host_bytes": (1 + request_seed) * 2**30,
        "device": "cpu",
        "device_bytes": None,
        "parameters": 12_345,
        "feeding": {"steps_per_execution": 4, "data": "memory"},
        "versions": {"python": "3.11.0", "keras": "3.15.0"},
    }


@pytest.fixture
def pretended(monkeypatch):
    """Trainings that take no time: a dict of how those of a configuration go.

    By default an epoch of the first seed takes 1 s after 5 s, and of the second 2 s.
    """
    outcomes, asked = {}, []

    def train(configuration, wanted, settings):
        asked.append((wanted["seed"], *configuration))
        outcome = outcomes.get(configuration.batch_size)
        if isinstance(outcome, BaseException):
            raise outcome
        pace = 1.0 + wanted["seed"]
        seconds = [5.0, *[pace] * (wanted["epochs"] - 1)]
        losses = [10.0 / (epoch + pace) for epoch in range(wanted["epochs"])]
        return outcome or trained(wanted["seed"], losses, seconds)

    monkeypatch.setattr(benchmark, "_train_apart", train)
    monkeypatch.setattr(benchmark, "_absent", lambda backend: None)
    outcomes["asked"] = asked
    return outcomes


@pytest.mark.thorough
def test_measures_models_and_tells_of_failures(invoke, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(50):
        pixels = rng.integers(0, 256, (6, 5, 3), "uint8")
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    options = ["--batch-size", 8, "--image-size", 5, "--epochs", 2, "--rounds", 1]
    # 40 pictures for training have fewer principal components.
    codes = ["--set", "latent_dim=45"]
    result = invoke(
        *("ae", "pca", "--data", "pictures", *codes, *options),
        *("--output", "found"),
    )
    assert result.exit_code == 0, result.output + result.stderr
    kept = json.loads((tmp_path / "found" / "benchmark.json").read_text())
    assert kept["environment"] == machine.environment()
    assert kept["settings"] == {"latent_dim": 45}
    measured, failed = kept["configurations"]
    assert (measured["model"], measured["backend"]) == ("AE", BACKEND)
    assert measured["image_shape"] == [5, 5, 3]
    assert measured["error"] is None
    assert len(measured["losses"]) == 2
    assert measured["losses"][1] < measured["losses"][0]
    model = keras_ae.AE(45, image_shape=(5, 5, 3))
    assert measured["parameters"] == model.count_params()
    (training,) = measured["rounds"]
    assert measured["first_epoch_seconds"] == training["seconds"][0]
    assert measured["epoch_seconds"] == training["seconds"][1]
    speed = measured["pictures"] / training["seconds"][1]
    assert measured["pictures"] == 40
    assert measured["pictures_a_second"] == pytest.approx(speed)
    assert measured["spread"] == pytest.approx([speed, speed])
    assert measured["first_step_after_seconds"] > 0
    assert measured["epoch_processor_seconds"] > 0
    assert measured["host_bytes"] > 2**24
    assert measured["feeding"]["steps_per_execution"] >= 1
    assert measured["versions"]["keras"] == keras.__version__

    assert failed["model"] == "PCA" and failed["rounds"] == []
    assert failed["error"].startswith("`latent_dim` must be at most 39")
    assert f"PCA: {failed['error']}"[:60] in result.stdout
    assert f"PCA: {failed['error']}" in (tmp_path / "found/benchmark.md").read_text()
    with Image.open(tmp_path / "found" / "benchmark.png") as picture:
        assert picture.width > 600


@pytest.mark.thorough
def test_devices_that_share_each_batch_have_the_loss_of_one(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path))
    # In processes, which without cards are of the CPU.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = benchmark.run(
        ["vae"],
        backends=["torch"],
        batch_sizes=[10],
        image_sizes=[6],
        devices=[1, 2],
        limit=20,
        epochs=1,
        rounds=1,
    )
    assert "VAE    2" in benchmark.table(found)
    one, two = found["configurations"]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)


def test_every_combination_once_in_turns(pretended, tmp_path):
    found = benchmark.run(
        ["vae", "ae", "VAE"],
        backends=["jax", "torch"],
        batch_sizes=[8, 16],
        precisions=["float32", "mixed_bfloat16"],
        image_sizes=[16],
        devices=[1, 2],
        limit=20,
    )
    assert len(found["configurations"]) == 32
    asked = pretended["asked"]
    assert len(asked) == 64 == len({*asked})
    first, second = asked[:32], asked[32:]
    assert {seed for seed, *_ in first} == {0} and {seed for seed, *_ in second} == {1}
    # Nobody follows the same one, which may have left the machine hot, each time.
    assert [rest for _, *rest in second] == [rest for _, *rest in first[1:] + first[:1]]
    assert not list(tmp_path.iterdir())


def test_figures_are_those_of_the_rounds(pretended):
    found = benchmark.run(["ae"], limit=20, batch_sizes=[10], epochs=3, rounds=2)
    (entry,) = found["configurations"]
    # Of two epochs of 1 s and two of 2 s, with 20 pictures in each.
    assert entry["pictures_a_second"] == 15.0
    assert entry["spread"] == [10.0, 20.0]
    assert entry["epoch_seconds"] == 1.5
    assert entry["epoch_processor_seconds"] == 3.0
    assert entry["first_epoch_seconds"] == 5.0
    assert entry["first_step_after_seconds"] == 3.5
    assert entry["host_bytes"] == 2 * 2**30 and entry["device_bytes"] is None
    expected = np.mean([[10, 5, 10 / 3], [5, 10 / 3, 2.5]], axis=0)
    np.testing.assert_allclose(entry["losses"], expected)


def test_a_training_of_one_epoch_is_marked(pretended):
    found = benchmark.run(["ae"], limit=20, batch_sizes=[10], epochs=1, rounds=1)
    assert found["configurations"][0]["pictures_a_second"] == 4.0
    assert " 4* " in benchmark.table(found)
    assert "*: of the only epoch, with compilation." in benchmark.table(found)
    assert len(benchmark.plot(found).axes) == 1


def test_a_loss_that_is_not_finite_is_told(pretended):
    pretended[10] = trained(0, [2.0, None], [5.0, 1.0])
    found = benchmark.run(["ae"], limit=20, batch_sizes=[10], epochs=2, rounds=1)
    assert found["configurations"][0]["losses"] == [2.0, None]
    assert "not finite" in benchmark.table(found)
    _, panel = benchmark.plot(found).axes
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), [2.0, np.nan])


def test_few_pictures_are_a_batch(pretended):
    sizes = [
        entry["batch_size"]
        for limit in (20, 200)
        for entry in benchmark.run(["ae"], limit=limit, rounds=1)["configurations"]
    ]
    assert sizes == [20, 128]
    assert [batch_size for _, _, _, batch_size, *_ in pretended["asked"]] == sizes


def test_what_fails_is_not_tried_again_and_stops_nobody(pretended):
    pretended[16] = {"error": "out of memory: of the host"}
    found = benchmark.run(["ae"], limit=20, batch_sizes=[8, 16, 20], rounds=2)
    assert [len(entry["rounds"]) for entry in found["configurations"]] == [2, 0, 2]
    assert len(pretended["asked"]) == 5
    table = benchmark.table(found)
    assert "AE batch 16: out of memory: of the host" in table
    assert [line.split()[:2] for line in table.splitlines() if line[:2] == "AE"] == [
        ["AE", "8"],
        ["AE", "20"],
        ["AE", "batch"],
    ]


def test_a_backend_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(benchmark, "_absent", "{} is not installed".format)
    found = benchmark.run(["ae"], backends=["jax"], limit=9, batch_sizes=[9])
    assert found["configurations"][0]["error"] == "jax is not installed"
    assert "AE: jax is not installed" in benchmark.table(found)


def test_ctrl_c_keeps_what_was_measured(invoke, pretended, tmp_path):
    pretended[16] = KeyboardInterrupt()
    options = ["--limit", 20, "--batch-size", 8, "--batch-size", 16]
    result = invoke("ae", *options)
    assert result.exit_code == 130
    assert "Stopped." in result.stderr
    folder = tmp_path / "runs" / "benchmark"
    kept = json.loads((folder / "benchmark.json").read_text())
    assert kept["stopped"]
    assert [len(entry["rounds"]) for entry in kept["configurations"]] == [1, 0]
    assert "AE batch 16: not measured" in result.stdout
    assert (folder / "benchmark.png").exists()
    # The next one has a folder of its own.
    assert invoke("ae", *options[:4]).exit_code == 0
    assert (tmp_path / "runs" / "benchmark-2" / "benchmark.json").exists()


def test_the_table_is_sorted_and_fits(pretended, monkeypatch):
    train = benchmark._train_apart

    def faster_in_larger_batches(configuration, wanted, settings):
        report = train(configuration, wanted, settings)
        hasten = configuration.batch_size
        return {**report, "seconds": [s / hasten for s in report["seconds"]]}

    monkeypatch.setattr(benchmark, "_train_apart", faster_in_larger_batches)
    found = benchmark.run(
        ["vae", "VariationalAutoDecoder"],
        backends=["tensorflow"],
        batch_sizes=[8, 16],
        precisions=["float32", "mixed_bfloat16"],
        image_sizes=[16, 24],
        limit=20,
    )
    lines = benchmark.table(found).splitlines()
    assert max(map(len, lines)) <= 100
    (head,) = [line for line in lines if line.startswith("model ")]
    rows = [line.split() for line in lines if line.startswith(("VAE", "Variational"))]
    assert {"batch", "precision", "pixels", "pictures/s", "loss"} <= {*head.split()}
    assert "backend" not in head and "tensorflow" in lines[0]
    assert [row[1] for row in rows] == 8 * ["16"] + 8 * ["8"]
    assert "parameters" not in head
    assert "parameters" in benchmark.table(found, width=200)


def test_wrong_options_end_in_a_sentence(invoke, tmp_path):
    assert_one_sentence(invoke("vea"), "Unknown model: vea", "VAEGAN")
    assert_one_sentence(invoke("ae", "--data", "nowhere/at_all"), "nowhere/at_all")
    large = invoke("ae", "--limit", 20, "--batch-size", 21)
    assert_one_sentence(large, "`batch_sizes` must be at most 20", "21")
    assert_one_sentence(
        invoke("ae", "vae", "--set", "num_codes=3"), "AE: Unknown setting: num_codes"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "benchmark.json").write_text("{}")
    assert_one_sentence(invoke("ae", "--output", "mine"), "not overwritten")
    assert (tmp_path / "mine" / "benchmark.json").read_text() == "{}"
    assert not (tmp_path / "runs").exists()


def test_wrong_arguments_are_refused():
    for arguments, words in (
        ({"backends": ["numpy"]}, "`backends` must be of tensorflow, jax, torch"),
        ({"precisions": ["float8"]}, "`precisions`.*float8"),
        ({"batch_sizes": [0]}, "`batch_sizes` must be integers >= 1. Received: 0"),
        ({"image_sizes": [1.5]}, "`image_sizes`.*1.5"),
        ({"devices": [0]}, "`devices` must be integers >= 1. Received: 0"),
        ({"epochs": 0}, "`epochs` must be an integer >= 1. Received: 0"),
        ({"rounds": 0}, "`rounds` must be an integer >= 1. Received: 0"),
        ({"models": []}, "nothing to measure"),
    ):
        with pytest.raises(ValueError, match=words):
            benchmark.run(**{"models": ["ae"], **arguments})


def test_models_are_given_what_they_need():
    images = np.zeros((6, 4, 4, 1), "uint8")
    arguments, labels = training._particular(keras_ae.AE, {"latent_dim": 2}, images, {})
    assert (arguments, labels) == ({"latent_dim": 2}, None)
    known = {"label": np.array([7, 3, 3, 7, 9, 3])}
    arguments, labels = training._particular(keras_ae.ConditionalVAE, {}, images, known)
    assert arguments == {"num_classes": 3}
    assert labels.tolist() == [1, 0, 0, 1, 2, 0]
    arguments, labels = training._particular(keras_ae.ConditionalVAE, {}, images, {})
    assert arguments == {"num_classes": 6} and labels.shape == (6,)
    # Epochs of its phases would not cost the same.
    arguments, _ = training._particular(keras_ae.StackedSAE, {}, images, {})
    assert arguments == {"pretraining_epochs": 0}


def test_the_reason_of_a_failure_is_one_sentence():
    long = "Graph execution error:\n\nDetected at node x\nOOM when allocating (9, 9)\n"
    expected = "out of memory: OOM when allocating (9, 9)"
    assert training._reason(RuntimeError(long)) == expected
    assert training._reason(MemoryError()).startswith("out of memory")
    assert training._reason(ValueError("`x` must be 1.\nArguments: y")) == (
        "`x` must be 1."
    )
    assert training._reason(TypeError("no")) == "TypeError: no"
    assert "SIGKILL, as when memory runs out" in benchmark._ended(-9, "")
    assert benchmark._ended(3, "a\nb\n").endswith("status 3: b")


def test_the_figure_shows_each_configuration():
    speeds = {
        "AE": {"jax": [100.0, 120.0, 90.0], "torch": [40.0]},
        "VAE": {"jax": [60.0], "torch": [30.0, 50.0]},
    }
    losses = {"AE": {"jax": [3.0, 2.0], "torch": [3.0, None]}, "VAE": {"jax": [5.0, 4]}}
    figure = plots.throughput(speeds, losses)
    bars, ae, vae = figure.axes
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == [100.0, 40.0, 60.0, 40.0]
    labels = [label.get_text() for label in bars.get_yticklabels()]
    assert labels == ["AE", "jax", "torch", "VAE", "jax", "torch"]
    assert [len(panel.lines) for panel in (ae, vae)] == [2, 1]
    np.testing.assert_array_equal(ae.lines[1].get_ydata(), [3.0, np.nan])
    # One way to train: the models themselves are sorted.
    (bars,) = plots.throughput({"a": {"": [1.0]}, "b": {"": [2.0]}}, {}).axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["b", "a"]


def test_peak_memory_is_this_process_own():
    before = machine.peak_memory()
    block = np.ones(2**27, "uint8")
    assert machine.peak_memory() >= block.nbytes
    assert before <= machine.peak_memory() < before + 2**30


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocation")
@pytest.mark.parametrize("said", [{}, {"MALLOC_TRIM_THRESHOLD_": "0"}])
def test_a_training_keeps_the_memory_that_it_frees(said):
    code = """
import resource
import numpy as np
from keras_ae import machine
kept = machine.keep_freed_memory()
pages = 2**26 // resource.getpagesize()
np.ones(2**26, "uint8")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**26, "uint8")
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before > pages)
"""
    unsaid = dict(os.environ)
    for name in os.environ:
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            del unsaid[name]
    # Where numpy asks for huge pages, few are taken.
    environment = {**unsaid, "NUMPY_MADVISE_HUGEPAGE": "0", **said}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert printed.stdout.split() == (["False", "True"] if said else ["True", "False"])


def test_a_clock_counts_epochs(monkeypatch):
    now = iter([10.0, 14.0, 15.0])
    monkeypatch.setattr(machine.time, "time", lambda: next(now))
    clock = machine.Clock()
    clock.start()
    clock.epoch(np.float32(2.5))
    clock.epoch(1)
    report = clock.report()
    assert report["seconds"] == [4.0, 1.0]
    assert report["losses"] == [2.5, 1.0]
    assert len(report["processor_seconds"]) == 2
    assert machine.steady(report["seconds"]) == [1.0]
    assert machine.steady([4.0]) == [4.0]
    assert machine.spread([3.0, 1.0, 2.0]) == [2.0, 1.0, 3.0]


def test_device_is_that_of_the_backend():
    found = machine.device(BACKEND)
    assert found.keys() == {"device", "device_bytes"}
    on_cpu = os.environ.get("CUDA_VISIBLE_DEVICES") == "" or found["device"] == "cpu"
    assert on_cpu == (found["device_bytes"] is None)
