"""Anomalies: p-values that hold, scores, the detector and where it points."""

import csv
import json
import pathlib
import shlex
import zipfile

import keras
import numpy as np
import pytest
from contract import few_everywhere
from scipy import ndimage, stats
from scipy.spatial import distance

import keras_ae
from keras_ae import anomalies, datasets, metrics, plots

NETWORKS = {"architecture": "dense", "widths": (16,)}


def plane(count, seed=0):
    """Rows of six numbers of which two are free."""
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(count, 2))
    mixed = free @ np.random.default_rng(9).normal(size=(2, 6))
    return np.float32(mixed + 0.1 * rng.normal(size=(count, 6)))


@pytest.fixture(scope="module")
def detector():
    model = keras_ae.VAE(2, **NETWORKS)
    model.compile(keras.optimizers.Adam(1e-2))
    found = keras_ae.AnomalyDetector(model, false_alarms=0.05, epochs=100)
    return found.fit(plane(600))


@pytest.mark.once
def test_p_values_are_ranks_among_normal_scores():
    normal = anomalies.Conformal([3.0, 1.0, 2.0])
    np.testing.assert_allclose(
        normal.p_values([0.0, 2.0, 2.5, 9.0, np.inf, np.nan]),
        [1.0, 0.75, 0.5, 0.25, 0.25, 0.25],
    )
    assert normal.smallest_rate == 0.25
    assert normal.threshold(0.25) == 3.0 and normal.threshold(0.5) == 2.0
    normal.update([0.0])
    assert normal.p_values([9.0]) == [0.2]


@pytest.mark.once
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_the_rate_asked_for_is_the_rate_that_comes(rate):
    rng = np.random.default_rng(0)
    found, equal = [], []
    for _ in range(400):
        normal = anomalies.Conformal(rng.standard_t(2, size=199))
        new = rng.standard_t(2, size=200)
        alarms = new > normal.threshold(rate)
        equal.append((alarms == (normal.p_values(new) <= rate)).all())
        found.append(alarms.mean())
    assert all(equal)
    # 199 scores: every multiple of 0.005 can be had.
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - rate) < 4 * error


@pytest.mark.once
def test_false_discoveries_as_scipy_has_them():
    rng = np.random.default_rng(0)
    p_values = np.concatenate([rng.uniform(size=80), rng.uniform(0, 0.01, size=20)])
    for rate in (0.01, 0.1, 0.5):
        expected = stats.false_discovery_control(p_values) <= rate
        found = anomalies.benjamini_hochberg(p_values, rate)
        np.testing.assert_array_equal(found, expected)
    assert not anomalies.benjamini_hochberg([0.9, 0.8], 0.05).any()
    assert anomalies.benjamini_hochberg([], 0.05).shape == (0,)


def test_a_detector_tells_what_is_off_the_plane(detector):
    normal, odd = plane(300, seed=1), plane(300, seed=2)
    odd[:, 3] += 3.0
    scores = detector.decision_function(np.concatenate([normal, odd]))
    area = stats.mannwhitneyu(scores[300:], scores[:300]).statistic / 300**2
    assert area > 0.95
    alarms = detector.predict(normal)
    assert set(np.unique(alarms)) <= {0, 1}
    # Three standard errors, of 120 held-back scores and of 300 new ones.
    assert abs(alarms.mean() - 0.05) < 3 * np.sqrt(0.05 * 0.95 * (1 / 120 + 1 / 300))
    assert detector.predict(odd).mean() > 0.8
    np.testing.assert_array_equal(alarms, detector.p_values(normal) <= 0.05)
    picked = detector.predict(np.concatenate([normal, odd]), false_discoveries=0.1)
    assert picked[:300].sum() <= 0.2 * picked.sum()
    # The column that was changed is where it points to.
    where = detector.anomaly_map(odd).mean(axis=0)
    assert where.argmax() == 3


def test_a_trained_model_is_used_as_it_is(detector):
    weights = detector.model_.get_weights()
    again = keras_ae.AnomalyDetector(detector.model_, "reconstruction")
    again.fit(plane(90, seed=3))
    assert again.model_ is detector.model_
    for before, after in zip(weights, detector.model_.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    # A third settled the score.
    assert len(again.conformal_.scores) == 60
    again.update(plane(50, seed=4))
    assert len(again.conformal_.scores) == 110


@pytest.mark.once
def test_what_was_trained_stays_so(detector):
    again = keras_ae.AE(2, **NETWORKS)
    again.fit(plane(60), epochs=1, verbose=0)
    # Which counts its steps anew.
    again.compile(keras.optimizers.Adam(1e-4))
    for model in (again, keras_ae.PCA(2)):
        model.fit(plane(60), epochs=1, verbose=0)
        assert keras_ae.AnomalyDetector(model).fit(plane(20)).model_ is model
    assert again.is_trained and not keras_ae.AE(2, image_shape=(6,)).is_trained
    moons = datasets.load("moon-phases", split="all", limit=30)
    preset = keras_ae.from_preset("moon-vae")
    found = keras_ae.AnomalyDetector(preset, "code").calibrate(moons[:20], moons[20:])
    assert found.model_ is preset
    assert keras_ae.AnomalyDetector(preset, "code").fit(moons).model_ is preset


@pytest.mark.once
def test_an_untrained_model_is_trained_as_it_was_given():
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    encoder.trainable = False
    frozen = keras_ae.AE(2, image_shape=(6,), **NETWORKS)
    frozen.encoder.trainable = False
    for model in (keras_ae.AE(2, encoder=encoder, **NETWORKS), frozen):
        model.compile(keras.optimizers.SGD(1e-4))
        found = keras_ae.AnomalyDetector(model, false_alarms=0.3, epochs=1)
        trained = found.fit(plane(40)).model_
        assert trained is not model and not model.is_trained
        assert type(trained.optimizer).__name__ == "SGD"
        assert float(trained.optimizer.learning_rate) == pytest.approx(1e-4)
        pairs = zip(
            model.encoder.get_weights(), trained.encoder.get_weights(), strict=True
        )
        for given, kept in pairs:
            np.testing.assert_array_equal(kept, given)


@pytest.mark.once
def test_columns_of_a_frame_are_put_in_order(detector, tmp_path):
    pandas = pytest.importorskip("pandas")
    names = list("abcdef")
    frame = pandas.DataFrame(plane(60, seed=3), columns=names)
    turned = frame[names[::-1]]
    untrained = keras_ae.AE(2, **NETWORKS)
    for model in (untrained, detector.model_):
        found = keras_ae.AnomalyDetector(model, "nearest", epochs=1).fit(frame)
        expected = found.decision_function(frame)
        np.testing.assert_array_equal(found.decision_function(turned), expected)
        np.testing.assert_array_equal(
            found.anomaly_map(turned), found.anomaly_map(frame.to_numpy())
        )
        found.save(tmp_path / "frame.zip")
        loaded = anomalies.load(tmp_path / "frame.zip")
        np.testing.assert_allclose(loaded.decision_function(turned), expected)
        with pytest.raises(ValueError, match=r"`X` must have the columns .* in any"):
            loaded.p_values(turned.rename(columns={"a": "z"}))
    found.calibrate(frame[:20], turned[20:40], turned[40:])
    np.testing.assert_array_equal(
        found.decision_scores_, found.decision_function(frame[20:40])
    )


# Errors of rows have no neighbours.
OF_ROWS = [name for name in anomalies.SCORES if name not in ("structure", "peak")]


@pytest.mark.parametrize("score", OF_ROWS)
def test_scores(detector, score):
    normal, odd = plane(120, seed=1), plane(120, seed=2)
    # On the plane, and far away, is unusual to the code alone.
    odd = odd * 6 if score == "code" else odd + 5.0 * np.eye(6, dtype="float32")[3]
    found = keras_ae.AnomalyDetector(detector.model_, score).fit(normal)
    np.testing.assert_array_equal(
        found.decision_function(odd), found.decision_function(odd)
    )
    assert np.median(found.p_values(odd)) < 0.2


def test_values_that_no_likelihood_describes_are_anomalies(detector):
    odd = plane(3, seed=1)
    odd[:, 0] = 1e9
    assert detector.predict(odd).all()
    assert (detector.anomaly_map(odd).argmax(axis=1) == 0).all()


def test_reconstruction_is_the_likelihood_of_the_code(detector):
    x = plane(5, seed=1)
    score = anomalies.SCORES["reconstruction"]()
    model = detector.model_
    scale = float(model.likelihood.current_scale())
    expected = -stats.norm.logpdf(x, model.reconstruct(x), scale).sum(axis=1)
    np.testing.assert_allclose(score(model, x, 0), expected, rtol=1e-4)


def test_a_density_is_fitted_to_what_the_model_was_trained_on(detector):
    tuning, held_back, learned = (plane(n, seed=n) for n in (20, 30, 400))
    few, many = (
        keras_ae.AnomalyDetector(detector.model_, "code").calibrate(
            tuning, held_back, trained_on
        )
        for trained_on in (None, learned)
    )
    densities = [found.score_.density for found in (few, many)]
    assert [len(d.get_config()["weights"]) for d in densities] == [1, 8]
    found = detector.model_.encode(learned)[:, :2]
    mean = np.average(densities[1].means, axis=0, weights=densities[1].weights)
    np.testing.assert_allclose(mean, found.mean(axis=0), atol=0.05)


@pytest.mark.once
def test_a_combination_of_other_scores_is_restored():
    parts = {"reconstruction": {}, "structure": {"width": 2.0}}
    auto = anomalies.SCORES["auto"]()
    auto.restore({"parts": parts, "medians": [0.0, 1.0], "spreads": [1.0, 1.0]})
    assert [part.name for part in auto.used] == ["reconstruction", "structure"]
    assert auto.used[1].width == 2.0


@pytest.mark.once
@pytest.mark.parametrize("name", ["nearest", "auto"])
def test_detectors_that_share_a_score_learn_apart(detector, name):
    score = anomalies.SCORES[name]()
    found = keras_ae.AnomalyDetector(detector.model_, score).fit(plane(30))
    before = found.decision_function(plane(5, seed=1))
    keras_ae.AnomalyDetector(detector.model_, score).fit(9 * plane(30, seed=2))
    np.testing.assert_array_equal(found.decision_function(plane(5, seed=1)), before)


def test_nearest_is_scipys(detector):
    normal, x = plane(60, seed=5), plane(20, seed=1) + 0.5
    found = keras_ae.AnomalyDetector(detector.model_).calibrate(
        plane(5), plane(9), normal
    )
    known = [normal, detector.model_.reconstruct(normal)]
    expected = distance.cdist(x, np.concatenate(known), "sqeuclidean").min(axis=1)
    scores = found.score_.used[0](detector.model_, x, 0)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    order = np.argsort(found.decision_function(x))
    np.testing.assert_array_equal(order, np.argsort(expected))


@pytest.mark.parametrize("score", few_everywhere(OF_ROWS, OF_ROWS[:2]))
def test_a_detector_is_saved_whole(detector, score, tmp_path):
    found = keras_ae.AnomalyDetector(
        detector.model_, score, false_alarms=0.2, seed=np.int64(3)
    )
    found.calibrate(plane(60, seed=5), plane(40, seed=6)).save(tmp_path / "plane.zip")
    assert len(found.conformal_.scores) == 40
    assert anomalies.load(tmp_path / "plane.zip").check().name == score
    loaded = anomalies.load(tmp_path / "plane.zip")
    assert loaded.false_alarms == 0.2
    x = plane(20, seed=1)
    expected, scores = (d.decision_function(x) for d in (found, loaded))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    np.testing.assert_array_equal(loaded.predict(x), found.predict(x))
    expected, where = (d.anomaly_map(x) for d in (found, loaded))
    np.testing.assert_allclose(where, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.once
def test_what_is_no_detector_is_refused(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no detector"):
        anomalies.load(tmp_path / "absent.zip")
    detector.model_.save(tmp_path / "model.keras")
    (tmp_path / "text.zip").write_text("no")
    for name in ("model.keras", "text.zip"):
        with pytest.raises(ValueError, match="is not a detector"):
            anomalies.load(tmp_path / name)
    with pytest.raises(ValueError, match="must be trained"):
        keras_ae.AnomalyDetector(keras_ae.AE(2)).calibrate(plane(9), plane(9))
    trained = keras_ae.AnomalyDetector(detector.model_)
    with pytest.raises(ValueError, match="two without `trained_on`. Received: 1"):
        trained.calibrate(plane(1), plane(9))
    assert trained.calibrate(plane(1), plane(9), plane(9)).p_values(plane(2)).all()
    with pytest.raises(ValueError, match="`trained_on` must hold one example"):
        trained.calibrate(plane(2), plane(3), plane(0))
    with pytest.raises(ValueError, match="`held_back` must hold one example"):
        trained.calibrate(plane(9), plane(0))
    with pytest.raises(ValueError, match="`false_discoveries` must be a number"):
        trained.predict(plane(9), false_discoveries=2)
    with pytest.raises(ValueError, match="call `fit`"):
        keras_ae.AnomalyDetector(keras_ae.AE(2)).save(tmp_path / "none.zip")

    class Own(anomalies.Score):
        name = "own"

        def __call__(self, model, x, seed):
            return np.abs(x).max(axis=1)

    own = keras_ae.AnomalyDetector(detector.model_, Own()).fit(plane(30))
    assert own.p_values(plane(3)).shape == (3,)
    with pytest.raises(ValueError, match="`score` must be one of .* to be saved"):
        own.save(tmp_path / "own.zip")


@pytest.mark.once
def test_moons_with_a_bite(tmp_path):
    moons = datasets.load("moon-phases", split="all", limit=500, image_size=16)
    model = keras_ae.PCA(12)
    detector = keras_ae.AnomalyDetector(model, epochs=1).fit(moons[:400])
    assert [part.name for part in detector.score_.used] == ["structure", "code"]
    detector.save(tmp_path / "moons.zip")
    loaded = anomalies.load(tmp_path / "moons.zip")
    np.testing.assert_array_equal(loaded.p_values(moons), detector.p_values(moons))
    bitten = np.array(moons[400:])
    inside = bitten.mean(axis=(0, 3)) > 40
    rows, columns = (int(np.median(part)) for part in np.nonzero(inside))
    bitten[:, rows : rows + 3, columns : columns + 3] = 0
    shown = moons[400:, rows : rows + 3, columns : columns + 3].mean(axis=(1, 2, 3))
    lit = shown > 60
    where = detector.anomaly_map(bitten)[lit]
    truth = np.zeros(where.shape, bool)
    truth[:, rows : rows + 3, columns : columns + 3] = True
    area = stats.mannwhitneyu(where[truth], where[~truth]).statistic
    assert area / (truth.sum() * (~truth).sum()) > 0.8


@pytest.mark.once
def test_scikit_learn_takes_it():
    base = pytest.importorskip("sklearn.base")
    pipeline = pytest.importorskip("sklearn.pipeline")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    model = keras_ae.AE(2, **NETWORKS)
    detector = keras_ae.AnomalyDetector(model, "reconstruction", epochs=2)
    copy = base.clone(detector)
    assert copy.get_params()["score"] == "reconstruction"
    assert copy.set_params(false_alarms=0.2).false_alarms == 0.2
    steps = pipeline.make_pipeline(preprocessing.StandardScaler(), copy)
    steps.fit(plane(100))
    assert steps.predict(plane(20, seed=1)).shape == (20,)
    assert steps.decision_function(plane(20, seed=1)).shape == (20,)
    selection = pytest.importorskip("sklearn.model_selection")

    def found(detector, X, y=None):
        return detector.predict(X + 5 * np.eye(6)[3]).mean()

    detector.set_params(false_alarms=0.2)
    scores = {"score": ["reconstruction", "nearest"]}
    search = selection.GridSearchCV(detector, scores, scoring=found, cv=2)
    search.fit(plane(100))
    assert search.best_score_ > 0.5 and search.best_estimator_.model_.built
    # `fit` trains a model of its own.
    assert not model.built


@pytest.mark.once
def test_scikit_learn_validates_it_without_a_scoring():
    base = pytest.importorskip("sklearn.base")
    selection = pytest.importorskip("sklearn.model_selection")
    given = keras_ae.AnomalyDetector(keras_ae.PCA(2), "reconstruction", epochs=1)
    detector = base.clone(given).set_params(score="nearest")
    assert detector.get_params()["score"] == "nearest"
    assert "nearest" in repr(detector)
    normal, far = plane(60), plane(20, seed=1) + 5 * np.eye(6)[3].astype("float32")
    scores = selection.cross_val_score(detector, normal, cv=2)
    detector.fit(normal[:30])
    expected = -detector.decision_function(normal[30:]).mean()
    np.testing.assert_allclose(scores[1], expected, rtol=1e-5)
    X, y = np.concatenate([normal[30:], far]), np.repeat([0, 1], [30, 20])
    found = metrics.detection(detector.decision_function(X), y, resamples=1)
    assert detector.score(X, y) == found.auroc > 0.9


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "x", "message"),
    [
        ({"score": "odd"}, plane(20), "`score` must be one of 'auto', 'rec"),
        ({"false_alarms": 0.0}, plane(20), "`false_alarms` must be above 0"),
        ({"false_alarms": 1.5}, plane(20), "`false_alarms`"),
        ({"held_back": 0.0}, plane(20), "`held_back` must be above 0"),
        ({}, plane(1), "`X` must hold 10 normal examples at least. Received: 1"),
        ({}, plane(0), "`X` must hold 10 normal examples at least. Received: 0"),
        ({}, np.zeros(5), "`X` must hold examples"),
        ({"score": "likelihood"}, plane(20), "must have a likelihood of x itself"),
        ({"model": keras_ae.GAN(2)}, plane(20), "must have an encoder that"),
        ({"model": keras.Sequential()}, plane(20), "must be a model of keras_ae"),
    ],
)
def test_what_a_detector_refuses(arguments, x, message):
    model = keras_ae.AE(2, **NETWORKS)
    detector = keras_ae.AnomalyDetector(**{"model": model, "epochs": 1, **arguments})
    with pytest.raises(ValueError, match=message):
        detector.fit(x)


@pytest.mark.once
def test_a_rate_that_the_examples_cannot_give(detector):
    few = keras_ae.AnomalyDetector(detector.model_, "reconstruction")
    few.fit(plane(30))
    assert few.p_values(plane(5)).shape == (5,)
    with pytest.raises(ValueError, match=r"at least 0.048 with 20 held-back.*needs 99"):
        few.predict(plane(5))
    with pytest.raises(ValueError, match=r"examples of shape \(6,\)"):
        few.predict(np.zeros((3, 4), "float32"))
    with pytest.raises(ValueError, match="call `fit`"):
        keras_ae.AnomalyDetector(keras_ae.AE(2)).predict(plane(3))
    # Set afterwards, which `fit` could not look at.
    for rate in (0, 1.5, "1 %"):
        few.false_alarms = rate
        with pytest.raises(ValueError, match="`false_alarms` must be"):
            few.predict(plane(5))


VERBS = ("predict", "decision_function", "p_values", "anomaly_map", "update")


@pytest.mark.once
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            [[50] * 6],
            "Integers are read as 0-255 where they are pictures.* Pass floats",
        ),
        (np.full((3, 6), 2, "uint8"), "Integers are read as 0-255 where they are pict"),
        (plane(0), "`X` must not be empty"),
        ([["a"] * 6], "`X` must be an array of numbers"),
        (plane(3)[:, :4], r"`X` must hold examples of shape \(6,\)"),
    ],
)
def test_what_each_verb_refuses(detector, x, message):
    for verb in VERBS:
        with pytest.raises(ValueError, match=message):
            getattr(detector, verb)(x)
    if len(x) and not np.issubdtype(np.asarray(x).dtype, np.floating):
        with pytest.raises(ValueError, match=message.replace("`X`", "`held_back`")):
            keras_ae.AnomalyDetector(detector.model_).calibrate(plane(9), x)


@pytest.mark.once
@pytest.mark.parametrize("score", ["auto", "reconstruction", "nearest"])
def test_pictures_of_8_bits_score_as_their_floats(score):
    pictures = datasets.load("moon-phases", split="all", limit=60, image_size=16)
    found = keras_ae.AnomalyDetector(keras_ae.PCA(3), score, epochs=1).fit(pictures)
    expected = found.decision_function(pictures / np.float32(255))
    for x in (pictures, pictures.astype("int64")):
        np.testing.assert_allclose(found.decision_function(x), expected, rtol=1e-4)
    found = found.update(pictures[:5]).predict(pictures[:5].tolist(), 0.5)
    assert found.shape == (5,)


@pytest.mark.once
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_normal_examples_are_finite(detector, value):
    gappy = plane(40, seed=1)
    gappy[7, 1] = value
    message = "must hold finite values. Received: NaN or infinity in 1 of 40 .* 7;"
    for model in (keras_ae.AE(2, **NETWORKS), detector.model_):
        with pytest.raises(ValueError, match=f"`X` {message}"):
            keras_ae.AnomalyDetector(model, epochs=1).fit(gappy)
    found = keras_ae.AnomalyDetector(detector.model_, false_alarms=0.1)
    for place, name in enumerate(("tuning", "held_back", "trained_on")):
        three = [plane(20, seed=i) for i in range(3)]
        three[place] = gappy
        with pytest.raises(ValueError, match=f"`{name}` {message}"):
            found.calibrate(*three)
    found.calibrate(plane(20), plane(40, seed=1))
    with pytest.raises(ValueError, match=f"`X` {message}"):
        found.update(gappy)
    assert np.isfinite(found.threshold_) and found.predict(gappy)[7] == 1
    with pytest.raises(ValueError, match="must be finite numbers.* with NaN or inf"):
        found.conformal_.update([1.0, value])


@pytest.mark.once
@pytest.mark.parametrize("score", OF_ROWS)
def test_what_has_gaps_is_an_anomaly_and_leaves_others_alone(detector, score):
    found = keras_ae.AnomalyDetector(detector.model_, score).fit(plane(60))
    x = plane(4, seed=1)
    x[1, 2] = np.nan
    expected = found.decision_function(x[[0, 2, 3]])
    scores = found.decision_function(x)
    assert scores[1] == np.inf and found.decision_function(x[1:2])[0] == np.inf
    if score not in ("elbo", "likelihood"):  # which draw of each example
        np.testing.assert_allclose(scores[[0, 2, 3]], expected, rtol=1e-4)


@pytest.mark.once
def test_models_that_take_gaps_score_what_was_observed():
    x = plane(120)
    x[::8, 1] = np.nan
    model = keras_ae.AutoDecoder(2, **NETWORKS)
    found = keras_ae.AnomalyDetector(model, "refined", false_alarms=0.1, epochs=30)
    found.fit(x)
    scores = found.decision_function(x)
    assert np.isfinite(scores).all() and np.isfinite(found.anomaly_map(x)).all()
    odd = x + 6 * np.eye(6, dtype="float32")[3]
    assert np.median(found.decision_function(odd)[::8]) > np.median(scores[::8])
    x[5] = np.nan
    assert found.decision_function(x)[5] == np.inf
    with pytest.raises(
        ValueError, match="some in each example. Received: infinity, or"
    ):
        found.update(x)


def moons(count, bitten, folder):
    """Writes moons into a folder, and moons from which a corner is bitten."""
    pictures = datasets.load("moon-phases", split="all", limit=2 * count, image_size=16)
    (folder / "train" / "good").mkdir(parents=True)
    for kind in ("good", "bitten"):
        (folder / "test" / kind).mkdir(parents=True)
    for index, picture in enumerate(pictures[:count]):
        plots.picture(picture).save(folder / "train" / "good" / f"{index}.png")
    for index, picture in enumerate(pictures[count : count + 2 * bitten]):
        kind, picture = ("good", "bitten")[index % 2], np.array(picture)
        if index % 2:
            picture[8:13, 4:12] = 255 - picture[8:13, 4:12]
        plots.picture(picture).save(folder / "test" / kind / f"{index}.png")


@pytest.mark.once
def test_from_a_folder_of_normal_pictures_to_an_alarm(invoke, tmp_path):
    moons(120, 15, tmp_path / "moons")
    fit = ("anomalies", "fit", "moons", "--set", "architecture=dense", "--epochs", 60)
    few = invoke(*fit, "--false-alarms", 0.01, "--run-dir", "run")
    assert few.exit_code == 1 and "needs about 500" in few.stderr
    done = invoke(*fit, "--run-dir", "run", "--set", "patience=60")
    assert done.exit_code == 0, done.output
    assert "4 % of normal pictures, by 24 held back" in done.output
    assert done.output.count("Next    ") == 1
    score = ("anomalies", "score", "run", "moons")
    done = invoke(*score, "--output", "scores.csv", "--report", "scores.html")
    assert done.exit_code == 0, done.output
    assert "AUROC" in done.output and "alarms: bitten" in done.output
    with open(tmp_path / "scores.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 30 and {row["kind"] for row in rows} == {"good", "bitten"}
    scores = np.array([float(row["score"]) for row in rows])
    anomalous = np.array([row["kind"] == "bitten" for row in rows])
    assert metrics.detection(scores, anomalous).auroc > 0.9
    for row in rows:
        assert row["alarm"] == str(int(float(row["p_value"]) <= 0.04 + 1e-9))
    page = (tmp_path / "scores.html").read_text()
    assert "Least usual" in page and "Nearest to the alarm" in page
    again = invoke(*score, "--output", "scores.csv")
    assert again.exit_code == 1 and "exists already" in again.stderr
    low = invoke(*score, "--output", "other.csv", "--false-alarms", 0.001)
    assert low.exit_code == 1 and "with 24 held-back" in low.stderr
    # Without a name for what is normal nothing is known of the labels.
    one = ("anomalies", "score", "run/detector.zip", "moons/test/bitten")
    done = invoke(*one, "--output", "one.csv", "--false-discoveries", 0.2)
    assert done.exit_code == 0 and "AUROC" not in done.output
    assert "kind" not in (tmp_path / "one.csv").read_text().partition("\n")[0]


@pytest.mark.once
def test_the_command_that_goes_on_is_that_of_the_run(invoke, tmp_path):
    moons(12, 1, tmp_path / "moons")
    fit = ("anomalies", "fit", "moons", "--model", "ae", "--run-dir", "a run")
    asked = ("--score", "structure", "--false-alarms", "0.4")
    options = ("--epochs", 1, "--set", "architecture=dense")
    done = invoke(*fit, *asked, *options)
    assert done.exit_code == 0 and "score 'a run' PICTURES" in done.output, done.output
    settings = json.loads((tmp_path / "a run" / "settings.json").read_text())
    # What it began with is kept, whether it is said again or not.
    for command in (shlex.split(settings["again"])[1:], (*fit, "--resume")):
        (tmp_path / "a run" / "detector.zip").unlink()
        done = invoke(*command)
        assert done.exit_code == 0, done.output
        detector = anomalies.load(tmp_path / "a run" / "detector.zip")
        assert detector.get_params()["score"] == "structure"
        assert detector.false_alarms == 0.4
    for other in (("--score", "code"), ("--window", 4)):
        done = invoke(*fit, "--resume", *other)
        assert f"keeps its settings: leave out `{other[0]}`" in done.stderr


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "none"), "or the path of a folder or zip of pictures"),
        (("fit", "few", "--model", "gan"), "must have an encoder"),
        (("fit", "few", "--model", "conditionalvae"), "needs no labels"),
        (("fit", "few", "--model", "ae", "--score", "likelihood"), "likelihood of x"),
        (("fit", "few", "--false-alarms", "2"), "`false_alarms`"),
        (("fit", "few"), "There must be 10 normal pictures at least. Received: 3"),
        (("fit", "few.tsv"), "a zip or shards, or a table, .csv or .parquet. Received"),
        (("fit", "few.xlsx"), "or a table, .csv or .parquet. Received: few.xlsx"),
        (("fit", "few.zip"), "Received: few.zip, with train/good and others; unzip it"),
        (
            ("fit", "few.csv", "--image-size", "8"),
            "`image_size` must be left out for a table: it is of pictures. Received: 8",
        ),
        (("score", "few", "few", "--output", "a.csv"), "There is no detector.zip in"),
        (("score", "few", "few", "--output", "a.txt"), "must end in .csv"),
        (("score", "no.zip", "few", "--output", "a.csv"), "There is no detector"),
        (
            ("score", "no", "few", "--output", "a.csv", "--false-discoveries", "2"),
            "`false_discoveries` must be a number from 0 to below 1",
        ),
    ],
)
def test_what_the_commands_refuse(invoke, tmp_path, arguments, message):
    (tmp_path / "few").mkdir()
    for index in range(3):
        picture = np.full((12, 12), 40 * index, "uint8")
        plots.picture(picture).save(tmp_path / "few" / f"{index}.png")
    (tmp_path / "few.tsv").write_text("a\tb\n1\t2\n")
    with zipfile.ZipFile(tmp_path / "few.xlsx", "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    (tmp_path / "few.csv").write_text("a,b\n1,2\n")
    with zipfile.ZipFile(tmp_path / "few.zip", "w") as file:
        for name in ("train/good/0.png", "test/torn/0.png"):
            file.write(tmp_path / "few" / "0.png", f"bottle/{name}")
    done = invoke("anomalies", *arguments)
    assert done.exit_code == 1 and message in done.stderr
    assert "Error: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.once
def test_detection_is_that_of_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    anomalous = rng.random(300) < 0.2
    # Some scores are equal.
    scores = np.round(rng.normal(size=300) + anomalous, 1)
    found = metrics.detection(scores, anomalous, resamples=200)
    assert found.auroc == pytest.approx(reference.roc_auc_score(anomalous, scores))
    assert found.average_precision == pytest.approx(
        reference.average_precision_score(anomalous, scores)
    )
    rates, hits, _ = reference.roc_curve(anomalous, scores, drop_intermediate=False)
    assert found.false_alarms_at_95 == pytest.approx(rates[hits >= 0.95].min())
    for name, (low, high) in found.intervals.items():
        assert low < getattr(found, name) < high
    # The interval is as wide as the error of Hanley and McNeil has it.
    low, high = found.intervals["auroc"]
    assert 0.05 < high - low < 0.25
    with pytest.raises(ValueError, match="0 of 3 are anomalies"):
        metrics.detection([1, 2, 3], [0, 0, 0])
    with pytest.raises(ValueError, match="one value an example"):
        metrics.detection([1, 2], [0, 1, 1])
    with pytest.raises(ValueError, match="NaN"):
        metrics.detection([1, np.nan], [0, 1])
    with pytest.raises(ValueError, match="`scores` must be .* numbers"):
        metrics.detection(["low", "high"], [0, 1])


@pytest.mark.once
def test_models_without_an_encoder_search():
    model = keras_ae.AutoDecoder(2, **NETWORKS)
    found = keras_ae.AnomalyDetector(model, "refined", epochs=30).fit(plane(200))
    normal, odd = plane(20, seed=1), plane(20, seed=2) + 6 * np.eye(6)[3]
    scores = [np.median(found.decision_function(x)) for x in (normal, odd)]
    assert scores[1] > scores[0]


@pytest.mark.once
def test_structure_is_the_error_that_scipy_blurs(detector):
    moons = datasets.load("moon-phases", split="all", limit=60, image_size=16)
    found = keras_ae.AnomalyDetector(keras_ae.PCA(3), "structure", epochs=1).fit(moons)
    errors = moons / np.float32(255) - found.model_.reconstruct(moons)
    blurred = ndimage.gaussian_filter(errors, (0, 1, 1, 0), mode="nearest", truncate=3)
    expected = np.square(blurred).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found.decision_function(moons), expected, rtol=1e-4)
    # So is that of grey pictures without an axis of channels.
    grey = moons[..., 0]
    found = keras_ae.AnomalyDetector(keras_ae.PCA(3), epochs=1).fit(grey)
    assert [part.name for part in found.score_.used] == ["structure", "code"]
    errors = grey / np.float32(255) - found.model_.reconstruct(grey)
    blurred = ndimage.gaussian_filter(errors, (0, 1, 1), mode="nearest", truncate=3)
    where = found.anomaly_map(grey) * found.usual_spread_ + found.usual_error_
    np.testing.assert_allclose(where, np.abs(blurred), rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="pictures of height, width and channels"):
        keras_ae.AnomalyDetector(detector.model_, "structure").fit(plane(30))


@pytest.mark.once
def test_features_are_compared_where_they_vary():
    moons = datasets.load("moon-phases", split="all", limit=60, image_size=16)
    weights = np.random.default_rng(0).normal(size=(256, 7)).astype("float32")

    def features(pictures):
        return pictures.reshape(len(pictures), -1) @ weights

    score = anomalies.Features(features)
    found = keras_ae.AnomalyDetector(keras_ae.PCA(3), score, epochs=1).fit(moons)
    x = moons / np.float32(255)
    errors = features(x - found.model_.reconstruct(moons))
    expected = np.square(errors / found.score_.spread).sum(axis=1)
    np.testing.assert_allclose(found.decision_function(moons), expected, rtol=1e-3)
    # Of normal examples each feature counts for one on average.
    assert 3 < np.mean(expected) < 20
    with pytest.raises(ValueError, match="to be saved"):
        found.save("features.zip")
    with pytest.raises(ValueError, match="must be a function of pictures"):
        anomalies.Features("inception")


@pytest.mark.once
def test_what_stands_out_is_red():
    pictures = np.full((2, 4, 5, 1), 200, "uint8")
    maps = np.zeros((2, 4, 5, 1))
    maps[1, 2, 3] = 9.0
    shown = plots.highlighted(pictures, maps)
    assert shown.shape == (2, 4, 5, 3)
    assert (shown[1, 2, 3] == [255, 40, 0]).all() and (shown[0] == 170).all()
    with pytest.raises(ValueError, match="of the shape of `images`"):
        plots.highlighted(pictures, maps[:, :3])
    figure = plots.histogram({"a": np.arange(9.0), "b": [np.inf, 3]}, "score", {"m": 4})
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    with pytest.raises(ValueError, match="finite values"):
        plots.histogram({}, "score")


@pytest.fixture(scope="module")
def of_table():
    """A detector of rows of two numbers and a kind, with gaps."""
    rng = np.random.default_rng(0)
    kinds = ["1", "y", None] * 20
    table = {"a": rng.normal(size=60), "b": rng.normal(size=60), "kind": kinds}
    table["b"][::7] = np.nan
    schema = datasets.Schema.of(table)
    model = keras_ae.AE(2, likelihood=keras_ae.likelihoods.Columns(schema), **NETWORKS)
    return keras_ae.AnomalyDetector(model, epochs=1).fit(schema.rows(table))


def scores_of(invoke, detector, table):
    """Scores a table on the command line; returns the lines that this writes."""
    detector.save("detector.zip")
    score = ("anomalies", "score", "detector.zip", table, "--output", "scores.csv")
    done = invoke(*score, "--false-alarms", "0.1", "--report", "scores.html")
    assert done.exit_code == 0, done.output
    with open("scores.csv", newline="") as file:
        return [*csv.DictReader(file)]


@pytest.mark.once
def test_lines_are_those_of_the_file(invoke, of_table):
    text = 'a,b,kind,note\n0,0,1,\n\n\n0,1,y,"two\nlines"\n3.4e38,1,1,\n1,1e300,y,\n'
    pathlib.Path("new.csv").write_text(text)
    rows = scores_of(invoke, of_table, "new.csv")
    assert [row["line"] for row in rows] == ["2", "5", "7", "8"]
    # The worst of anomalies are scored, and told by what is wrong with them.
    assert [row["alarm"] for row in rows[2:]] == ["1", "1"]
    assert [row["column"] for row in rows[2:]] == ["a", "b"]
    assert [row["value"] for row in rows[2:]] == ["3.4e+38", "1e+300"]
    # What can't be read as training was is found in the file as well.
    pathlib.Path("odd.csv").write_text('a,b,kind\n0,0,"1"\n\n0,0,"new\nkind"\n')
    score = ("anomalies", "score", "detector.zip", "odd.csv", "--output", "odd_.csv")
    refused = invoke(*score, "--false-alarms", "0.1")
    assert refused.exit_code == 1 and "kind' in line 4, which" in refused.stderr
    # A kind that looks like a number in this file is the text that it was.
    pathlib.Path("new.csv").write_text("a,b,kind\n0,0,1\n1,2,1\n")
    for written in ("scores.csv", "scores.html"):
        pathlib.Path(written).unlink()
    assert len(scores_of(invoke, of_table, "new.csv")) == 2


@pytest.mark.once
def test_rows_of_parquet_have_no_lines(invoke, of_table):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    kinds = pandas.array([None, "y", None], dtype="string")
    frame = pandas.DataFrame({"a": [0.0, 0.0, 1.0], "b": [None, 900.0, 1.0]})
    frame["kind"] = kinds
    frame.to_parquet("new.parquet")
    rows = scores_of(invoke, of_table, "new.parquet")
    assert [row["row"] for row in rows] == ["0", "1", "2"] and "line" not in rows[0]
    assert (rows[1]["column"], rows[1]["value"]) == ("b", "900")
    # pandas' own mark of a gap could not be compared.
    kinds = datasets.read_table("new.parquet")["kind"]
    assert kinds.tolist() == [None, "y", None]


@pytest.mark.once
def test_names_of_files_that_are_no_text_are_written(tmp_path):
    from keras_ae.cli.commands import alarms

    alarms.write_columns(str(tmp_path / "a.csv"), {"file": ["\udcff.png"]})
    assert (tmp_path / "a.csv").read_text().split() == ["file", "\\udcff.png"]
    alarms.write_page(str(tmp_path / "a.html"), "<td>\udcff.png</td>")
    assert "\\udcff.png" in (tmp_path / "a.html").read_text()


@pytest.mark.thorough
def test_from_a_table_of_normal_rows_to_an_alarm(invoke):
    rng = np.random.default_rng(0)

    def write(path, count, odd=0):
        height = rng.normal(1.7, 0.2, count)
        weight = 40 * height + rng.normal(0, 2, count)
        weight[:odd] += 40
        colour = np.where(height > 1.7, "red", "blue")
        lines = [
            f"{h:.3f},{w:.2f},{c}"
            for h, w, c in zip(height, weight, colour, strict=True)
        ]
        # A gap that training has, too.
        lines[-1] = lines[-1].replace(lines[-1].split(",")[1], "")
        path.write_text("\n".join(["height,weight,colour", *lines, ""]))

    write(pathlib.Path("normal.csv"), 200)
    write(pathlib.Path("new.csv"), 40, odd=5)
    fitted = invoke(
        *("anomalies", "fit", "normal.csv", "--false-alarms", "0.1", "--epochs", 3),
        *("--set", "widths=16", "--run-dir", "run"),
    )
    assert fitted.exit_code == 0, fitted.output
    assert "200 rows of 3 columns (number: 2, category: 1), 5 values" in fitted.output
    arguments = ("anomalies", "score", "run", "new.csv", "--output", "scores.csv")
    scored = invoke(*arguments, "--report", "scores.html")
    assert scored.exit_code == 0, scored.output
    with open("scores.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["line"] for row in rows] == [str(i) for i in range(2, 42)]
    assert sum(row["alarm"] == "1" for row in rows[:5]) >= 4
    with open("new.csv", newline="") as file:
        given = [*csv.DictReader(file)]
    for row, values in zip(rows, given, strict=True):
        value = values[row["column"]]
        if row["column"] != "colour":
            value = f"{float(value):.5g}" if value else "missing"
        assert row["value"] == value
    page = pathlib.Path("scores.html").read_text()
    assert "held-back normal rows" in page and "Expected" in page
    lines = pathlib.Path("new.csv").read_text().splitlines()
    for name, labels in (("odd", ["1"] * 5 + ["0"] * 35), ("none", ["0"] * 40)):
        told = [",".join(p) for p in zip(lines, [name, *labels], strict=True)]
        pathlib.Path(f"{name}.csv").write_text("\n".join([*told, ""]))
    known = invoke(
        *("anomalies", "score", "run", "odd.csv", "--label", "odd"),
        *("--output", "known.csv", "--report", "known.html"),
    )
    assert known.exit_code == 0, known.output
    assert "AUROC" in known.output and "alarms: normal" in known.output
    assert " of 35" in known.output
    assert "average precision" in pathlib.Path("known.html").read_text()
    for wrong, message in (
        (("odd.csv", "--label", "even"), "`--label` must be a column of odd.csv"),
        (("odd.csv", "--label", "height"), "must hold 1 for an anomaly and 0 for"),
        (("none.csv", "--label", "none"), "0 of 40 are anomalies"),
    ):
        refused = invoke("anomalies", "score", "run", *wrong, "--output", "no.csv")
        assert refused.exit_code == 1 and message in refused.stderr, refused.stderr
    # The page of the training, too.
    assert pathlib.Path("run/report.html").exists()
    for wrong, message in (
        (("new.csv", "normal.csv"), "give one .csv or .parquet file"),
        (("normal",), "give one .csv or .parquet file"),
        (("absent.csv",), "There is no table absent.csv"),
        (("green.csv",), "must hold one of the categories 'blue', 'red'"),
        (("narrow.csv",), "without 'colour'"),
    ):
        pathlib.Path("green.csv").write_text("height,weight,colour\n1.7,68,green\n")
        pathlib.Path("narrow.csv").write_text("height,weight\n1.7,68\n")
        refused = invoke("anomalies", "score", "run", *wrong, "--output", "other.csv")
        assert refused.exit_code == 1 and message in refused.stderr, refused.stderr
    for name, text, message in (
        ("constant", "a,b\n1,2\n1,3\n", "'a' must have more than one value"),
        ("few", "a,b\n1,2\n4,3\n", "There must be 10 normal rows"),
    ):
        pathlib.Path(f"{name}.csv").write_text(text)
        refused = invoke("anomalies", "fit", f"{name}.csv", "--run-dir", name)
        assert refused.exit_code == 1 and message in refused.stderr, refused.stderr
    likelihood = ("--set", "likelihood=laplace", "--run-dir", "other")
    refused = invoke("anomalies", "fit", "normal.csv", *likelihood)
    assert "`likelihood` must be left out" in refused.stderr
    refused = invoke("anomalies", "fit", "normal.csv", "--model", "pca")
    assert "must be one that takes a likelihood" in refused.stderr
