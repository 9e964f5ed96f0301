"""Anomalies: p-values that hold, scores, the detector and where it points."""

import keras
import numpy as np
import pytest
from scipy import stats

import keras_ae
from keras_ae import anomalies, datasets

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


@pytest.mark.parametrize("score", [*anomalies.SCORES])
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


@pytest.mark.parametrize("score", [*anomalies.SCORES])
def test_a_detector_is_saved_whole(detector, score, tmp_path):
    found = keras_ae.AnomalyDetector(detector.model_, score, false_alarms=0.2)
    found.calibrate(plane(60, seed=5), plane(40, seed=6)).save(tmp_path / "plane.zip")
    assert len(found.conformal_.scores) == 40
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
def test_moons_with_a_bite():
    moons = datasets.load("moon-phases", split="all", limit=500, image_size=16)
    model = keras_ae.PCA(12)
    detector = keras_ae.AnomalyDetector(model, epochs=1).fit(moons[:400])
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
    # `fit` trains a model of its own.
    assert not model.built


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
