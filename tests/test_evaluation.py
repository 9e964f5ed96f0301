"""Evaluation: the same figures as measured by hand, and all that they depend on."""

import json
import pathlib

import keras
import numpy as np
import pytest

import keras_ae
from keras_ae import evaluation, metrics
from keras_ae.evaluation import scores
from keras_ae.evaluation.scores import Evaluation, Score

pytestmark = pytest.mark.once


SHAPE = (12, 10, 1)


def small(Model, *arguments, **options):
    options = {"architecture": "dense", "widths": (4,), **options}
    return Model(*arguments, image_shape=SHAPE, **options)


@pytest.fixture(scope="module")
def vae():
    keras.utils.set_random_seed(0)
    return small(keras_ae.VAE, 3, likelihood="bernoulli")


def by_name(found, group=None):
    return {s.name: s for s in found.scores if group in (None, s.group)}


def test_scores_are_those_measured_by_hand(vae, images, monkeypatch):
    for module in (evaluation.task, evaluation.measures, evaluation.scoring):
        monkeypatch.setattr(module, "_CHUNK", 7)
    seen = []
    found = evaluation.evaluate(
        vae,
        images,
        ["reconstruction", "likelihood"],
        importance_samples=3,
        progress=lambda *step: seen.append(step),
    )
    assert found.model == "VAE"
    measured = by_name(found)
    restored = vae.reconstruct(images)
    for name in ("mse", "psnr"):
        expected = getattr(metrics, name)(images, restored)
        np.testing.assert_allclose(measured[name].value, expected, rtol=1e-5)
    # With so few pictures each is a block of its own.
    each = np.square(images / 255.0 - restored).mean(axis=(1, 2, 3))
    error = each.std(ddof=1) / np.sqrt(len(images))
    np.testing.assert_allclose(measured["mse"].error, error, rtol=1e-4)
    assert "ssim" not in measured and "11 by 11 pixels" in found.left_out["ssim"]
    assert ("reconstruction", 32, 32) in seen and ("elbo", 7, 32) in seen

    for name, samples in (("elbo", 1), ("log_likelihood", 3)):
        nats = np.concatenate(
            [
                vae.log_likelihood(images[start : start + 7], samples, seed=start)
                for start in range(0, 32, 7)
            ]
        )
        score = measured[name]
        np.testing.assert_allclose(score.value, nats.mean(), rtol=1e-5)
        np.testing.assert_allclose(score.error, nats.std(ddof=1) / 32**0.5, rtol=1e-4)
    assert measured["log_likelihood"].depends_on["importance_samples"] == 3
    assert measured["elbo"].value < measured["log_likelihood"].value


def test_every_score_says_what_it_depends_on(vae, images):
    found = evaluation.evaluate(vae, images, seed=5, data="discs")
    assert {score.group for score in found.scores} == {*evaluation.CHEAP}
    for score in found.scores:
        assert score.depends_on["data"] == "discs"
        assert score.depends_on["pictures"] == 32
        assert score.depends_on["digest"] == evaluation.digest(images)
        assert score.depends_on["image_shape"] == [*SHAPE]
        assert score.depends_on["binarized"] is False
        assert np.isfinite(score.value)
    assert by_name(found)["encoded_information"].depends_on["seed"] == 5
    other = images.copy()
    other[31, 11, 9] += 1
    assert evaluation.digest(other) != evaluation.digest(images)
    # What takes long is asked for by name.
    assert "log_likelihood" in found.left_out
    assert {"loss", "kl", "elbo"} <= {*by_name(found, "objective")}


def test_codes_are_measured_as_by_hand(vae, images):
    labels = np.arange(32) % 2
    found = evaluation.evaluate(
        vae, images, "codes", labels=labels, train=(images[:20], labels[:20])
    )
    measured = by_name(found)
    means = vae.encode(images)
    assert measured["active_units"].value == metrics.active_units(means)
    posterior = vae.posterior(images)
    log_vars = keras.ops.convert_to_numpy(posterior.log_var)
    np.testing.assert_allclose(
        measured["encoded_information"].value,
        metrics.encoded_information(means, log_vars),
        rtol=1e-4,
    )
    assert measured["encoded_information"].depends_on["codes"] == 32
    for name in ("linear_probe", "nearest_neighbour_accuracy"):
        share = getattr(metrics, name)(means[:20], labels[:20], means, labels)
        assert measured[name].value == share
        assert measured[name].error == np.sqrt(share * (1 - share) / 32)
        assert measured[name].depends_on["training_pictures"] == 20
    unlabelled = evaluation.evaluate(vae, images, "codes")
    assert "labels" in unlabelled.left_out["linear_probe"]


class Network:
    """A feature network that keeps an eye on how many pictures it is given."""

    name, digest, resize = "corners", "0123456789abcdef", "none"

    def __init__(self):
        self.most = 0

    def features(self, images):
        self.most = max(self.most, len(images))
        images = images / 255.0 if images.dtype == np.uint8 else images
        return images[:, 4:8, 4:8, 0].reshape(len(images), 16).astype("float32")


def test_samples_are_compared_chunk_by_chunk(vae, images, monkeypatch):
    for module in (evaluation.task, evaluation.measures, evaluation.scoring):
        monkeypatch.setattr(module, "_CHUNK", 8)
    network = Network()
    found = evaluation.evaluate(vae, images, "samples", features=network, samples=20)
    assert network.most == 8
    drawn = np.concatenate(
        [vae.sample(n, seed=s) for s, n in ((0, 8), (8, 8), (16, 4))]
    )
    x, y = Network().features(images), Network().features(drawn)
    measured = by_name(found)
    np.testing.assert_allclose(
        measured["frechet_distance"].value, metrics.frechet_distance(x, y), rtol=1e-4
    )
    distance = metrics.kernel_distance(x, y, subset_size=10)
    kernel = measured["kernel_distance"]
    np.testing.assert_allclose([kernel.value, kernel.error], distance, rtol=1e-4)
    assert kernel.depends_on["subset_size"] == 10
    for name, value in metrics.fidelity_and_diversity(x, y)._asdict().items():
        np.testing.assert_allclose(measured[name].value, value)
    basis = measured["frechet_distance"].depends_on
    assert (basis["features"], basis["features_digest"]) == ("corners", network.digest)
    assert (basis["samples"], basis["sampler"], basis["seed"]) == (20, "prior", 0)
    assert basis["resize"] == "none"


def test_too_few_pictures_for_a_covariance_are_said(vae, images):
    found = evaluation.evaluate(
        vae, images[:9], "samples", features=Network(), samples=9
    )
    assert "at least 17 samples" in found.left_out["frechet_distance"]
    assert "kernel_distance" in by_name(found)
    found = evaluation.evaluate(
        vae, images[:1], ["samples", "codes"], features=Network(), samples=1
    )
    assert not found.scores and {"recall", "codes"} <= {*found.left_out}


def test_factors_are_measured_as_by_hand(vae, images):
    factors = np.random.default_rng(0).uniform(size=(32, 2))
    found = evaluation.evaluate(vae, images, "factors", factors=factors)
    measured = by_name(found)
    means = vae.encode(images)
    np.testing.assert_allclose(measured["sap"].value, metrics.sap(means, factors))
    drawn = vae.sample_posterior(images, seed=0)
    gap = metrics.mutual_information_gap(drawn, factors)
    np.testing.assert_allclose(measured["mutual_information_gap"].value, gap)
    assert measured["sap"].depends_on["factors"] == 2
    # So few pictures share a value that no vote can be held.
    assert "`batch_size`" in found.left_out["factor_vae_score"]
    missing = evaluation.evaluate(vae, images, "factors").left_out["factors"]
    assert "`factors`" in missing


def test_a_denoising_model_is_given_the_same_noise_throughout(images, monkeypatch):
    model = small(keras_ae.DenoisingAE, 3, noise_level=0.5)
    for module in (evaluation.task, evaluation.measures, evaluation.scoring):
        monkeypatch.setattr(module, "_CHUNK", 20)
    calls, corrupt = [], model.corrupt

    def counted(x, seed):
        calls.append(len(x))
        return corrupt(x, seed)

    monkeypatch.setattr(model, "corrupt", counted)
    found = evaluation.evaluate(model, images, ["objective", "reconstruction"])
    assert calls == [20, 12]
    logged = by_name(found, "objective")["mse"]
    noisy = np.concatenate([corrupt(images[:20], 0), corrupt(images[20:], 20)])
    measured = by_name(found, "reconstruction")["mse"]
    expected = metrics.mse(images, model.reconstruct(noisy))
    np.testing.assert_allclose(measured.value, expected, rtol=1e-4)
    np.testing.assert_allclose(logged.value, expected, rtol=1e-4)
    assert measured.depends_on["corruption"] == "GaussianCorruption 0.5"


def test_what_a_model_can_not_give_is_left_out_and_said(images):
    everything = [*scores.GROUPS]
    plain = evaluation.evaluate(small(keras_ae.AE, 2), images, everything)
    assert "no posterior" in plain.left_out["likelihood"]
    assert "`model.fit_sampler" in plain.left_out["samples"]
    assert "active_units" not in by_name(plain)
    wide = 2 * images.astype("float32") / images.max() - 1
    found = evaluation.evaluate(small(keras_ae.AE, 2), wide, "reconstruction")
    assert [*by_name(found)] == ["mse"] and "[0, 1]" in found.left_out["psnr"]
    gan = evaluation.evaluate(small(keras_ae.GAN, 2), images, everything)
    for group in ("reconstruction", "codes", "factors"):
        assert "no encoder" in gan.left_out[group]
    assert "`features`" in gan.left_out["samples"]
    assert {score.group for score in gan.scores} == {"objective"}
    conditional = small(keras_ae.ConditionalVAE, 2, num_classes=2)
    unlabelled = evaluation.evaluate(conditional, images, "objective")
    assert not unlabelled.scores and "`labels`" in unlabelled.left_out["objective"]
    labelled = evaluation.evaluate(
        conditional, images, ["objective", "likelihood"], labels=np.arange(32) % 2
    )
    assert by_name(labelled, "likelihood")["elbo"].depends_on["given"] == "labels"


def test_a_model_that_needs_labels_is_told_them(images, monkeypatch):
    model = small(keras_ae.ConditionalVAE, 3, num_classes=2)
    labels = 1 - model.classify(images).argmax(axis=1)
    restored = model.reconstruct(images, labels=labels)
    assert np.abs(restored - model.reconstruct(images)).max() > 1e-3
    drawn = model.sample_posterior(images, 0, labels=labels)
    factors = np.stack([np.arange(32) % 2, np.arange(32) // 16], axis=1)
    groups = ["reconstruction", "codes", "factors"]
    given = {"labels": labels, "factors": factors}
    with_labels = evaluation.evaluate(model, images, groups, **given)
    found = by_name(with_labels)
    expected = {
        "mse": metrics.mse(images, restored),
        "active_units": metrics.active_units(
            model.encode(images, labels=labels)[:, :3]
        ),
        "aggregate_posterior_distance": metrics.aggregate_posterior_distance(
            drawn, model.prior_codes(32, 0)
        ),
        "mutual_information_gap": metrics.mutual_information_gap(drawn, factors),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].value, value, rtol=1e-4, err_msg=name)
    assert all(score.depends_on["given"] == "labels" for score in found.values())
    without = by_name(evaluation.evaluate(model, images, groups, factors=factors))
    assert "given" not in without["mse"].depends_on
    assert without["mse"].value < found["mse"].value
    for name in ("encoded_information", "aggregate_posterior_distance"):
        assert without[name].value != found[name].value


def test_information_needs_a_diagonal_normal_posterior(images):
    for Model in (keras_ae.HierarchicalVAE, keras_ae.SphericalVAE, keras_ae.IAFVAE):
        measured = by_name(evaluation.evaluate(small(Model, 3), images[:8], "codes"))
        assert "active_units" in measured and "encoded_information" not in measured


def test_binarized_pictures_have_probabilities(vae, images):
    found = evaluation.evaluate(vae, images, binarize=True, seed=1)
    white = evaluation.binarized(images, seed=1)
    measured = by_name(found)
    basis = measured["active_units"].depends_on
    assert basis["binarized"] and basis["digest"] == evaluation.digest(white)
    assert "psnr" not in measured and "psnr" in found.left_out
    elbo = by_name(found, "likelihood")["elbo"]
    assert elbo.depends_on["measure"] == "probability of black and white"
    grey = by_name(evaluation.evaluate(vae, images, "likelihood"))["elbo"]
    assert "grey" in grey.depends_on["measure"]


def test_columns_of_a_frame_are_put_in_order():
    frames = pytest.importorskip("pandas")
    rows = np.random.default_rng(0).normal(size=(30, 4)) * [1, 2, 3, 4]
    frame = frames.DataFrame(rows, columns=list("abcd"))
    model = keras_ae.AE(2, widths=(4,))
    model.fit(frame, epochs=1, verbose=0)
    labels = np.arange(30) % 2
    given = [
        (frame, {"labels": labels, "train": (frame, labels)}),
        (
            frame[list("dcba")],
            {
                "labels": frames.Series(labels, index=range(7, 37)),
                "train": (frame[list("dcba")], labels.tolist()),
            },
        ),
    ]
    (first, other) = (
        evaluation.evaluate(model, x, ["reconstruction", "codes"], **beside)
        for x, beside in given
    )
    assert {"mse", "linear_probe"} <= first.values.keys()
    assert [s.depends_on for s in first.scores] == [s.depends_on for s in other.scores]
    assert other.values == pytest.approx(first.values)


def test_what_is_given_as_a_list_or_by_numpy_is_scored_and_written(vae, images):
    factors = np.random.default_rng(0).normal(size=(len(images), 2))
    found = evaluation.evaluate(
        vae,
        images,
        ["objective", "likelihood", "codes", "factors"],
        factors=factors.tolist(),
        importance_samples=np.int64(2),
        seed=np.int64(3),
        data=pathlib.Path("discs"),
    )
    assert {"log_likelihood", "sap"} <= found.values.keys()
    assert '"data": "discs"' in found.to_json()


def test_weights_of_half_precision_are_told_apart(images):
    model = small(keras_ae.AE, 2, dtype="bfloat16")
    assert evaluation.evaluate(model, images).weights_digest


def test_bad_arguments_are_named(vae, images):
    def refused(match, *arguments, **options):
        with pytest.raises(ValueError, match=match):
            evaluation.evaluate(vae, *arguments, **options)

    refused("`scores` must be of objective, .* Received: 'fid'", images, ["fid"])
    refused("must not be empty", images[:0])
    refused("`images` must hold examples of shape", images[:, 1:])
    refused("several shapes", [images[0], images[0, 1:]])
    refused("`labels` must have one row a picture", images, labels=[1, 2])
    refused("`train` must be training pictures and", images, train=images)
    refused(
        r"`factors` must be \(pictures, factors\)", images, factors=images[:, 0, 0, 0]
    )
    refused("`samples` must be an integer >= 1", images, samples=0)
    refused("`seed` must be an integer >= 0", images, seed=-1)
    with pytest.raises(ValueError, match="must know its `image_shape`"):
        evaluation.evaluate(keras_ae.AE(2), images)


# Files


def score(value, error=None, name="psnr", group="reconstruction", **basis):
    basis = {"data": "discs", "pictures": 10, "digest": "a", **basis}
    return Score(name, group, value, error, basis)


def found(*given, weights="w"):
    return Evaluation("VAE", weights, [*given], {})


def test_a_file_keeps_what_other_groups_found(tmp_path):
    path = tmp_path / "run" / "evaluation.json"
    first = found(score(20.0, 0.5), score(3.0, name="recall", group="samples"))
    first.add_to(path)
    assert scores.load(path) == first
    assert json.loads(path.read_text())["scores"][0]["depends_on"]["digest"] == "a"
    again = found(score(21.0), score(22.0, digest="b"))
    again.add_to(path)
    kept = {(s.name, s.depends_on["digest"]): s.value for s in scores.load(path).scores}
    assert kept == {("psnr", "a"): 21.0, ("psnr", "b"): 22.0, ("recall", "a"): 3.0}
    # Figures of weights that are gone tell nothing of those that are there.
    trained_on = found(score(23.0, digest="b"), weights="x")
    trained_on.add_to(path)
    assert scores.load(path) == trained_on
    for text in ("{}", "no json", '{"format": 1, "scores": [{"a": 1}]}', "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no scores of `keras-ae evaluate`"):
            scores.load(path)


def test_like_is_compared_with_like_only():
    rows, apart = scores.side_by_side(
        {
            "a": found(
                score(20.0, 0.1),
                score(1.0, name="loss", group="objective"),
                score(9.0, name="elbo", group="likelihood"),
                score(5.0, name="frechet_distance", group="samples", samples=10),
            ),
            "b": found(
                score(22.0, 0.1, data="other name"),
                score(1.0, name="loss", group="objective"),
                score(7.0, name="frechet_distance", group="samples", samples=20),
            ),
            "c": found(score(22.1, 0.1), score(30.0, digest="b", pictures=11)),
            "d": found(score(40.0, digest="b", pictures=11)),
        }
    )
    psnr, elbo = rows
    assert {name: s.value for name, s in psnr.scores.items()} == {
        "a": 20.0,
        "b": 22.0,
        "c": 22.1,
    }
    assert psnr.best == ("b", "c")  # within the errors of each other
    assert elbo.scores.keys() == {"a"} and elbo.best == ()
    assert apart["psnr"] == "d: pictures 11, not 10, digest b, not a"
    assert apart["frechet_distance"] == "b: samples 20, not 10"
    assert "loss" not in apart


def test_lower_is_better_for_distances():
    ((row,), _) = scores.side_by_side(
        {
            "a": found(score(0.2, name="mse")),
            "b": found(score(0.1, name="mse")),
        }
    )
    assert row.best == ("b",)
