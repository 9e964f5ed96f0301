"""Recipes of models whose training no other test runs from end to end, at tiny size."""

import csv
import json

import numpy as np
import pytest
from command import keras_ae_command
from PIL import Image

import keras_ae

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with pictures of discs under the names of MNIST and CelebA."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    centres = rng.uniform(8, 20, (5_160, 2, 1, 1)).astype("float32")
    distance = np.hypot(rows - centres[:, 0], columns - centres[:, 1])
    pictures = np.uint8(255 * np.clip(8 - distance, 0, 1))
    labels = np.arange(len(pictures)) % 10
    for name in ("mnist", "fashion_mnist"):
        np.savez(
            folder / f"{name}.npz",
            x_train=pictures[80:],
            y_train=labels[80:],
            x_test=pictures[:80],
            y_test=labels[:80],
        )
    faces = folder / "img_align_celeba"
    faces.mkdir()
    for number, picture in enumerate(pictures[:60]):
        colours = np.stack([picture, picture // 2, 255 - picture], axis=-1)
        Image.fromarray(colours).save(faces / f"{number:06}.png")
    return folder


@pytest.fixture
def scores(tmp_path, data_dir, monkeypatch):
    """Function that runs a recipe for one epoch and returns its scores."""
    monkeypatch.setenv("KERAS_AE_CACHE", str(tmp_path / "cache"))

    def run(name, *settings, limit=32):
        options = [f"--set={setting}" for setting in settings]
        sizes = ("--epochs", 1, "--limit", limit, "--image-size", 8)
        where = ("--data-dir", data_dir, "--run-dir", tmp_path / "run")
        arguments = ["recipe", name, *sizes, *where, *options]
        result = keras_ae_command(*arguments)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "run" / "report.html").exists()
        found = json.loads((tmp_path / "run" / "scores.json").read_text())
        assert np.isfinite([*found.values()]).all(), found
        return found

    return run


def pictures(folder):
    found = {path.stem for path in (folder / "run" / "pictures").glob("*.png")}
    # Codes happen to be two-dimensional here.
    return {n for n in found if not n.startswith("epoch")} - {"manifold"}


COMMON = "reconstructions samples interpolation traversal latent_map loss"


@pytest.mark.slow
def test_mnist_glo(scores, tmp_path):
    # The features have 64 dimensions, which a Fréchet distance needs more samples than.
    small = ("latent_dim=2", "searched=8", "samples=80")
    found = scores("mnist-glo", *small, limit=80)
    for sampler in ("gaussian", "mixture"):
        assert found[f"{sampler}_commonest_digit_share"] >= 0.1
        assert found[f"{sampler}_frechet_distance"] > 0
    assert {"laplacian", "mse", "training_digits_frechet_distance"} <= found.keys()
    assert pictures(tmp_path) == {*COMMON.split(), "samples_mixture"}


@pytest.mark.slow
def test_celeba_glo(scores, tmp_path):
    assert scores("celeba-glo", "latent_dim=2", "searched=8")["mse"] > 0
    assert pictures(tmp_path) == {*COMMON.split(), "samples_mixture"}


@pytest.mark.slow
def test_celeba_klae(scores, tmp_path):
    small = ("latent_dim=2", "widths=4", "flow_epochs=1")
    found = scores("celeba-klae", *small, "discriminator_start=0")
    for kind in ("reconstructions", "samples_flow", "samples_mixture"):
        assert found[f"klae_{kind}_sharpness"] > 0
    assert found["klae_psnr"] > 0
    # Without attributes there are no features to compare sets in.
    assert not [name for name in found if "frechet" in name]
    shown = {"klae_samples", "klae_nearest", "side_by_side"}
    assert pictures(tmp_path) == {*COMMON.split(), *shown}


@pytest.mark.slow
def test_celeba_vqgan(scores, tmp_path):
    small = ("latent_dim=2", "num_codes=8", "widths=4", "prior_epochs=1")
    found = scores("celeba-vqgan", *small, "discriminator_start=0")
    assert found["bits"] == 3  # so small a picture is one token
    for kind in ("reconstructions", "samples_pixelcnn"):
        assert found[f"vqgan_{kind}_sharpness"] > 0
    shown = {"vqgan_samples", "vqgan_nearest", "side_by_side", "codebook_usage"}
    assert pictures(tmp_path) == {*COMMON.split(), *shown}


@pytest.mark.slow
def test_celeba_latent_flow(scores, tmp_path, data_dir):
    rng = np.random.default_rng(0)
    names = [path.name for path in sorted((data_dir / "img_align_celeba").iterdir())]
    rows = [str(len(names)), "Male Smiling"]
    rows += [f"{name} {rng.choice([-1, 1])} {rng.choice([-1, 1])}" for name in names]
    listed = data_dir / "list_attr_celeba.txt"
    listed.write_text("\n".join(rows))
    try:
        model = keras_ae.VAE(2, architecture="dense", widths=(8,))
        model.compile("adam")
        model.fit(rng.random((32, 8, 8, 3), "float32"), epochs=1, verbose=0)
        model.save(tmp_path / "trained.keras")
        found = scores(
            "celeba-latent-flow",
            f"model={tmp_path / 'trained.keras'}",
            "samplers=mixture",
        )
    finally:
        listed.unlink()
    for kind in ("reconstructions", "samples_mixture", "samples_flow"):
        assert found[f"model_{kind}_sharpness"] > 0
    for share in ("classifier_right", "guided_by_1_5_read_as_asked"):
        assert 0 <= found[share] <= 1
    shown = {"model_samples", "model_nearest", "side_by_side", "asked_for"}
    assert pictures(tmp_path) == {*COMMON.split(), *shown} - {"loss"}
    saved = keras_ae.runs.load_model(tmp_path / "run")
    assert saved.sample(2, sampler="flow", labels=3).shape == (2, 8, 8, 3)


@pytest.mark.slow
def test_fashion_vad(scores, tmp_path):
    found = scores("fashion-vad", "latent_dim=2", "widths=8", "missing_ratio=0.3")
    assert found["missing_mse"] > 0 and found["missing_ratio"] == 0.3
    assert found["elbo"] == pytest.approx(-found["loss"], rel=1e-4)
    assert pictures(tmp_path) == {*COMMON.split(), "missing"}


@pytest.mark.slow
def test_mnist_missing(scores, tmp_path):
    small = ("latent_dim=2", "widths=8", "seeds=2", "train_digits=24", "test_digits=12")
    found = scores("mnist-missing", "ratios=0.2", *small)
    with open(tmp_path / "run" / "missing.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    models = ["vad", "autodecoder", "vae", "naive_vae"]
    assert [row["model"] for row in rows] == 2 * models
    assert [row["seed"] for row in rows] == ["0"] * 4 + ["1"] * 4
    for model in models:
        errors = [float(row["mse_of_missing"]) for row in rows if row["model"] == model]
        assert found[f"{model}_mse_20_percent"] == pytest.approx(np.mean(errors), 1e-3)
        spread = pytest.approx(np.std(errors, ddof=1), rel=1e-3, abs=1e-6)
        assert found[f"{model}_deviation_20_percent"] == spread
    drawn = {"20_percent_missing", "missing"}
    assert pictures(tmp_path) == {*COMMON.split(), *drawn}


@pytest.mark.thorough
def test_mnist_cvae(scores, tmp_path):
    small = ("latent_dim=2", "importance_samples=20", "samples=20")
    found = scores("mnist-cvae", *small, limit=80)
    for name in ("classify_accuracy", "classifier_accuracy", "samples_read_as_asked"):
        assert 0 <= found[name] <= 1
    assert found["elbo"] == pytest.approx(-found["loss"], rel=1e-4)
    # The bounds that importance sampling gives are tighter.
    assert found["negative_log_likelihood_given_label"] < -found["elbo"]
    assert found["vae_negative_log_likelihood"] < -found["vae_elbo"]
    assert found["active_units"] <= 2
    assert pictures(tmp_path) == {*COMMON.split(), "styles"}


@pytest.mark.thorough
def test_moon_incremental(scores, tmp_path):
    small = ("latent_dim=2", "widths=8", "new_moons=10")
    found = scores("moon-incremental", *small, limit=96)
    assert found["new_moons"] == 10 and found["crescents"] > 1
    # With the decoder frozen nothing is forgotten.
    assert found["frozen_old_mse"] == pytest.approx(found["old_mse_before"], rel=1e-5)
    for way in ("fine_tuned", "without_replay", "from_scratch"):
        growth = found[f"{way}_old_mse"] / found["old_mse_before"] - 1
        assert found[f"{way}_old_growth"] == pytest.approx(growth)
        assert found[f"{way}_old_mse"] != found["old_mse_before"]
    excess = found["fine_tuned_new_mse"] / found["from_scratch_new_mse"] - 1
    assert found["fine_tuned_new_mse_above_from_scratch"] == pytest.approx(excess)
    assert pictures(tmp_path) == {*COMMON.split(), "old_moons", "new_moons"}


@pytest.mark.thorough
def test_mnist_iwae(scores, tmp_path):
    found = scores("mnist-iwae", "latent_dim=3", "samples=1,4", "test_samples=20")
    for count in (1, 4):
        assert found[f"negative_log_likelihood_{count}_samples"] > 0
        assert 0 <= found[f"active_units_{count}_samples"] <= 3
    assert found["elbo"] <= -found["loss"] + 1e-3
    assert pictures(tmp_path) == {*COMMON.split()}


@pytest.mark.slow
def test_mnist_vqvae(scores, tmp_path):
    small = ("latent_dim=2", "num_codes=8", "widths=4,8", "prior_epochs=1")
    found = scores("mnist-vqvae", *small, "samples=12")
    assert found["tokens"] == 4 and found["bits"] == 12
    assert 1 / 8 <= found["used_codes"] <= 1
    assert 1 <= found["codes_perplexity"] <= 8
    assert 0 < found["tokens_negative_log_likelihood"] < 3 * 4 * np.log(8)
    for name in ("recognised_samples", "recognised_test_digits", "rarest_digit_share"):
        assert 0 <= found[name] <= 1
    assert pictures(tmp_path) == {*COMMON.split(), "codebook_usage"}
    # The fitted sampler is in the run's file.
    sampled = tmp_path / "samples.png"
    arguments = ["sample", tmp_path / "run", "-n", 4, "--output", sampled]
    result = keras_ae_command(*arguments)
    assert result.exit_code == 0 and sampled.exists(), result.output


@pytest.mark.slow
def test_celeba_vqvae(scores, tmp_path):
    small = ("latent_dim=2", "num_codes=8", "widths=4,8", "prior_epochs=1")
    found = scores("celeba-vqvae", *small)
    assert found["bits"] == 12 and 0 < found["used_codes"] <= 1
    assert found["tokens_negative_log_likelihood"] > 0
    assert pictures(tmp_path) == {*COMMON.split(), "codebook_usage"}


@pytest.mark.thorough
def test_mnist_kl(scores, tmp_path):
    found = scores("mnist-kl", "latent_dim=2", limit=60)
    for model in ("beta_1", "beta_0", "narrow_prior", "one_number", "three_numbers"):
        assert 0 < found[f"{model}_noise"] <= 1 and found[f"{model}_kl"] > 0
    # A prior a hundred times as narrow costs whoever does not know of it.
    assert found["narrow_prior_kl"] > found["beta_1_kl"]
    with open(tmp_path / "run" / "history.csv") as file:
        assert {"noise", "stddev"} <= {*next(csv.reader(file))}
    assert pictures(tmp_path) == {*COMMON.split(), "noise", "prior", "restored"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist-oneclass", "fashion-oneclass"])
def test_oneclass(name, scores, tmp_path):
    options = ("widths=8", "latent_dim=2", "seeds=1")
    found = scores(name, *options, limit=250)
    areas = [found[f"auroc_{value}"] for value in range(10)]
    assert found["auroc"] == pytest.approx(np.mean(areas)) and 0 <= found["auroc"] <= 1
    assert found["auroc_seed_0"] == pytest.approx(found["auroc"])
    assert 0 <= found["map_auroc"] <= 1
    # Two pictures of a class are held back: a third is the least p-value.
    rates = [found[f"false_alarms_at_{rate}_percent"] for rate in (1, 5, 10)]
    assert rates == [0, 0, 0]
    assert pictures(tmp_path) == {*COMMON.split(), "where"}


@pytest.mark.thorough
def test_moon_eclipse(scores, tmp_path):
    found = scores(
        "moon-eclipse", "widths=8", "latent_dim=2", "held_back=100", limit=400
    )
    # Bites are seen by their size alone: a model of one epoch knows no more.
    assert found["auroc"] > 0.5 and found["map_auroc"] > 0.5
    assert 0 < found["bitten"] <= 400
    assert found["false_alarms_at_10_percent"] < 0.3
    assert pictures(tmp_path) == {*COMMON.split(), "where"}


@pytest.mark.thorough
def test_series_anomalies(scores, tmp_path):
    found = scores("series-anomalies", "widths=8", "latent_dim=4", limit=3000)
    # A frozen value is seen by a model of one epoch, too.
    assert found["auroc_frozen"] > 0.5 and 0 <= found["where_auroc"] <= 1
    assert 0 <= found["crisis_auroc"] <= 1
    assert found["false_alarms_at_10_percent"] < 0.3
    assert pictures(tmp_path) == {"loss", "where"}


@pytest.mark.thorough
def test_tables_anomalies(scores, data_dir):
    (data_dir / "tables").mkdir()
    rng = np.random.default_rng(0)
    for name, columns in (("narrow", 3), ("wide", 5)):
        rows = rng.normal(size=(200, columns))
        rows[150:] += 5
        truth = np.arange(200) >= 150
        np.savez(data_dir / "tables" / f"{name}.npz", X=rows, y=truth)
    found = scores("tables-anomalies", "widths=8", "seeds=2")
    areas = [found["auroc_narrow"], found["auroc_wide"]]
    assert found["auroc"] == pytest.approx(np.mean(areas)) and min(areas) > 0.9
    # Fifteen rows are held back.
    assert found["false_alarms_at_5_percent"] == 0
    assert found["most_excess_at_10_percent"] < 4


@pytest.mark.thorough
def test_mnist_between_codes(scores, tmp_path):
    found = scores("mnist-between-codes", "widths=8", "codes=20", limit=60)
    assert 0 <= found["sure_test_digits"] <= 1
    for model in ("ae_30", "denoisingae_30", "vae_30"):
        assert found[f"{model}_train_mse"] > 0 and found[f"{model}_test_mse"] > 0
        for place in ("random", "midpoints", "neighbours"):
            assert 0 <= found[f"{model}_{place}"] <= 1
    assert pictures(tmp_path) == {*COMMON.split(), "between", "overfitting"}


@pytest.mark.slow
def test_faces_and_others(scores, tmp_path):
    pytest.importorskip("skimage")
    found = scores("faces-and-others", "latent_dim=2", "widths=4", "held_back=12")
    for model in ("faces", "digits"):
        for kind in ("faces", "digits", "clothes", "photographs", "textures"):
            key = f"{model}_on_{kind}"
            assert found[f"{key}_psnr"] > 0 and found[f"{key}_bytes"] > 0
            if kind != model:
                for score in ("reconstruction", "code"):
                    assert 0 <= found[f"{key}_auroc_by_{score}"] <= 1
    assert pictures(tmp_path) == {*COMMON.split(), "kinds"}


@pytest.mark.slow
def test_faces_or_background(scores, tmp_path):
    pytest.importorskip("skimage")
    found = scores("faces-or-background", "latent_dim=2", "judged=12")
    kinds = {"faces", "blurred_faces", "corners", "shuffled", "photographs"}
    for name in {*kinds, "gan", "vaegan", "wae", "vae", "ae"}:
        assert 0 <= found[f"{name}_taken_for_faces"] <= 1
    assert pictures(tmp_path) == {*COMMON.split(), "samples_judged", "no_faces"}


@pytest.mark.slow
def test_mnist_deep_cnn(scores, tmp_path):
    small = ("depths=2,5", "seeds=2", "filters=2", "code=3", "pretraining_epochs=1")
    found = scores("mnist-deep-cnn", *small)
    for way in ("poor", "greedy", "good", "batch_norm", "residual"):
        for depth in (2, 5):
            assert 0 <= found[f"{way}_{depth}_error"] <= 100
            assert found[f"{way}_{depth}_steps"] == 50
    assert pictures(tmp_path) == {*COMMON.split(), "depth", "steps"}


@pytest.mark.slow
def test_mnist_vampprior(scores, tmp_path):
    small = ("latent_dim=2", "widths=8", "components=5", "importance_samples=20")
    found = scores("mnist-vampprior", *small, "test_digits=30")
    for prior in ("vampprior", "gaussian"):
        assert found[f"{prior}_negative_log_likelihood"] > 0
        assert 0 <= found[f"{prior}_active_units"] <= 2
    assert found["test_digits"] == 30
    assert pictures(tmp_path) == {*COMMON.split(), "pseudo_digits"}


@pytest.mark.slow
def test_fashion_vae(scores, tmp_path):
    small = ("latent_dim=2", "widths=8", "importance_samples=20")
    found = scores("fashion-vae", *small)
    # The bound that importance sampling gives is tighter.
    assert 0 < found["negative_log_likelihood"] < -found["elbo"]
    assert pictures(tmp_path) == set(COMMON.split())


@pytest.mark.slow
def test_mnist_samplers(scores, tmp_path):
    # The features have 64 dimensions, which a Fréchet distance needs more samples than.
    shorter = ("sampler_epochs=1", "flow_epochs=1", "samples=80")
    small = ("latent_dim=2", "widths=8", *shorter)
    found = scores("mnist-samplers", *small, limit=80)
    fitted = {"reconstructions", *keras_ae.AE.SAMPLERS}
    for model in ("ae", "rae", "vae"):
        extra = {"prior", "vampprior"} if model == "vae" else set()
        for name in fitted | extra:
            assert found[f"{model}_{name}"] > 0
    assert found["training_digits_frechet_distance"] >= 0
    sheets = {f"samples_{model}" for model in ("ae", "rae", "vae")}
    assert pictures(tmp_path) == {*COMMON.split(), *sheets}


@pytest.mark.slow
def test_mnist_latent_flow(scores, tmp_path):
    small = ("latent_dim=2", "widths=8", "flow_epochs=1", "samples=80")
    found = scores("mnist-latent-flow", *small, limit=80)
    drawn = "mixture flow flow_in_3_steps flow_of_classes flow_guided"
    for name in ("training_digits", "reconstructions", *drawn.split()):
        assert found[f"{name}_frechet_distance"] >= 0
    assert 0 <= found["flow_of_classes_read_as_asked"] <= 1
    assert pictures(tmp_path) == {*COMMON.split(), "beside_a_mixture", "classes"}


def test_moon_latent_flow(scores, tmp_path):
    found = scores("moon-latent-flow", "widths=8", "flow_epochs=1", "samples=50")
    for name in ("flow", "mixture", "prior", "test_moons", "reconstructions"):
        for factor in (*keras_ae.datasets.moon.FACTORS, "farthest"):
            assert 0 <= found[f"{name}_{factor}"] <= 1
    assert pictures(tmp_path) == {*COMMON.split(), "drawn"}


def test_plane_vae(scores, tmp_path):
    found = scores("plane-vae", "components=[2, 4]", limit=400)
    assert np.isfinite([*found.values()]).all()
    # An integral is no bound, and more components describe a spiral better.
    assert found["log_likelihood"] >= found["lower_bound"]
    assert found["mixture_4_log_likelihood"] > found["mixture_2_log_likelihood"]
    assert pictures(tmp_path) == {"density", "loss"}
    # There is no sheet of samples to be had of points.
    page = (tmp_path / "run" / "report.html").read_text()
    assert ".sample(5))" in page and "keras-ae sample" not in page
    assert "in [0, 1]" not in page


@pytest.mark.thorough
def test_moon_betatcvae(scores, tmp_path):
    found = scores("moon-betatcvae", "latent_dim=3", "seeds=1", limit=96)
    for model in ("betatcvae", "betavae", "vae"):
        assert 0 <= found[f"{model}_gap"] <= 1 and found[f"{model}_mse"] > 0
    assert found["loss"] == pytest.approx(
        sum(
            found[name]
            for name in (
                "reconstruction",
                "mutual_information",
                "total_correlation",
                "dimension_kl",
            )
        ),
        rel=1e-4,
    )
    assert pictures(tmp_path) == {*COMMON.split(), "factors"}
