"""The benchmark of speed: what its contestants compute, and what it writes."""

import importlib
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BACKEND = keras.config.backend()


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS / "peers")
    monkeypatch.syspath_prepend(BENCHMARKS)


class Fixed(keras.layers.Layer):
    """Draws codes with noise that is given."""

    def __init__(self, noise):
        super().__init__(dtype="float32")
        self.noise = noise

    def call(self, mean, log_var):
        return mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor(self.noise)


def weights_of(model):
    """Its weights in the order of `workloads.layers`."""
    encoder = [
        *(layer for layer in model.encoder.layers if layer.name not in model.heads),
        *map(model.encoder.get_layer, model.heads),
    ]
    return [
        ops.convert_to_numpy(variable)
        for layer in (*encoder, *model.decoder.layers)
        for variable in layer.trainable_variables
    ]


# The layers of the workloads, few and small.
SMALL = {
    "mlp": {"image_shape": (5, 4, 1), "widths": (9, 7)},
    "conv": {"image_shape": (12, 8, 1), "widths": (4, 6)},
    "celeba": {"image_shape": (8, 8, 3), "widths": (4, 6, 5)},
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", SMALL)
def test_a_hand_written_loop_has_the_loss_of_fit(name):
    workloads, elbo = map(importlib.import_module, ("workloads", "elbo"))
    fit_keras_ae = importlib.import_module("fit_keras_ae")
    loop = importlib.import_module(f"loop_{BACKEND}")
    workload = workloads.WORKLOADS[name]._replace(latent_dim=3, **SMALL[name])
    rng = np.random.default_rng(0)
    x = rng.random((4, *workload.image_shape), "float32")
    noise = rng.normal(size=(4, workload.latent_dim)).astype("float32")
    model, constant = fit_keras_ae.model(workload)
    model.sampling = Fixed(noise)
    model.build((None, *workload.image_shape))
    model.heads = ("mean", "log_var")

    weights = weights_of(model)
    expected_shapes = [w.shape for w in workloads.initial_weights(workload, 0)]
    assert [weight.shape for weight in weights] == expected_shapes
    if BACKEND == "torch":
        weights = loop.arranged(workload, weights)
    weights, x_there, noise = (
        keras.tree.map_structure(ops.convert_to_tensor, values)
        for values in (weights, x, noise)
    )
    losses, moments = elbo.losses(loop, workload, weights, x_there, noise)
    assert len(moments) == sum(s.kind == "norm" for s in workloads.layers(workload))

    logs = model.train_on_batch(x, return_dict=True)
    ours = float(logs["loss"]) - constant
    assert ours == pytest.approx(float(ops.mean(losses)), rel=1e-4)


def test_cost_counts_by_hand():
    workloads = importlib.import_module("workloads")
    mlp = workloads.WORKLOADS["mlp"]
    products = 784 * 512 + 2 * 512 * 16 + 16 * 512 + 512 * 784
    expected = 2 * (3 * products - 784 * 512)
    assert workloads.cost(mlp)["operations"] == expected


@pytest.mark.slow
def test_what_is_written(monkeypatch, tmp_path, capsys):
    speed = importlib.import_module("speed")
    rng = np.random.default_rng(0)
    # Dark ones, as the networks soon learn.
    pictures = rng.integers(0, 32, (400, 28, 28, 1), "uint8")
    everyone = speed.contestants([BACKEND], speed.workloads.WORKLOADS["mlp"])
    names = (f"keras-ae {BACKEND}", f"hand-written {BACKEND}")
    chosen = [
        contestant for contestant in everyone if contestant[0] in (*names, "pythae")
    ]
    monkeypatch.setattr(speed, "contestants", lambda *_: chosen)
    monkeypatch.setattr(speed, "load", lambda *_: pictures)
    installed = speed.installed
    monkeypatch.setattr(
        speed,
        "installed",
        lambda p, needed: "pythae" not in needed and installed(p, needed),
    )
    options = ["--quick", "--backends", BACKEND, "--epochs", "2", "--rounds", "1"]
    speed.main(speed.parsed([*options, "--output", str(tmp_path)]))

    assert "pythae: not installed" in capsys.readouterr().out
    (path,) = tmp_path.glob("speed-mlp-*.json")
    assert path.with_suffix(".png").exists()
    kept = json.loads(path.read_text())
    assert kept["skipped"] == ["pythae"]
    assert kept["losses_disagree"] == []
    assert kept["workload"]["pictures"] == 400
    assert list(kept["contestants"]) == list(names)
    for result in kept["contestants"].values():
        assert len(result["losses"]) == 2
        assert result["losses"][1] < result["losses"][0]
        assert result["epoch_seconds"] > 0 and result["first_epoch_seconds"] > 0
        assert result["pictures_a_second"] == 400 / result["epoch_seconds"]
        assert result["first_step_after_seconds"] > 0
        assert result["epoch_processor_seconds"] > 0
        assert result["host_bytes"] > 2**20
        assert {"python", "numpy"} <= result["versions"].keys()
    ratio, low, high = kept["contestants"][names[0]]["ratios"]["hand-written"]
    assert ratio == low == high
    for name in names:
        assert f"| {name} |" in path.with_suffix(".md").read_text()


def test_contestants_whose_losses_disagree_are_named():
    speed = importlib.import_module("speed")
    agreeing = {name: {"losses": [9.0, 5.0, 4.0]} for name in "abc"}
    assert speed.disagreeing({**agreeing, "d": {"losses": [8.0, 5.05, 4.05]}}) == []
    assert speed.disagreeing({**agreeing, "d": {"losses": [9.0, 5.0, 4.2]}}) == ["d"]
