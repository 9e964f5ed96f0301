"""Series: cut into windows and joined, learned, and searched for spans of faults."""

import csv
import functools
import pathlib

import keras
import numpy as np
import pytest
from numerics import computed, to_numpy
from scipy import ndimage

import keras_ae
from keras_ae import anomalies, datasets, likelihoods, plots
from keras_ae.datasets import cut_windows, join_windows


def waves(steps, seed=0):
    """Two channels, one of twice the frequency of the other."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(steps) / 8 + rng.uniform(0, 2 * np.pi)
    series = np.stack([np.sin(phase), np.cos(2 * phase)], axis=1)
    return (series + 0.1 * rng.normal(size=series.shape)).astype("float32")


@pytest.mark.once
@pytest.mark.parametrize(
    ("steps", "length", "stride", "starts"),
    [
        (7, 3, 1, [0, 1, 2, 3, 4]),
        (10, 4, 3, [0, 3, 6]),
        (11, 4, 3, [0, 3, 6, 7]),
        (11, 2, 4, [0, 4, 8, 9]),
        (3, 3, 5, [0]),
    ],
)
def test_windows_are_cut_and_joined(steps, length, stride, starts):
    series = np.random.default_rng(0).random((steps, 2), "float32")
    windows = cut_windows(series, length, stride)
    expected = np.stack([series[start : start + length] for start in starts])
    np.testing.assert_array_equal(windows, expected)
    joined = join_windows(windows, steps, stride)
    covered = np.isin(np.arange(steps), np.add.outer(starts, np.arange(length)))
    np.testing.assert_allclose(joined[covered], series[covered], rtol=1e-6)
    assert np.isnan(joined[~covered]).all()
    np.testing.assert_array_equal(
        cut_windows(series[:, 0], length, stride), windows[..., :1]
    )


@pytest.mark.once
def test_joined_windows_are_means_over_those_that_overlap():
    joined = join_windows([[1.0, 1.0], [3.0, 3.0], [8.0, 8.0]], 4)
    np.testing.assert_array_equal(joined, [1.0, 2.0, 5.5, 8.0])


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cut_windows(np.zeros((5, 2)), 6), "as many steps as a window, 6"),
        (lambda: cut_windows(np.zeros((5, 2)), 0), "`length` must be an integer >= 1"),
        (lambda: cut_windows(np.zeros((5, 2)), 2, 0), "`stride` must be an integer"),
        (lambda: cut_windows(np.zeros((5, 2, 1)), 2), r"must be \(time, channels\)"),
        (lambda: join_windows(np.zeros((2, 3)), 9), "must be the 7 windows"),
        (lambda: join_windows(np.zeros(3), 9), r"must be \(windows, length"),
    ],
)
def test_what_are_no_windows_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class _Restores(keras_ae.AE):
    """Restores zeros: the errors are the examples themselves."""

    def reconstruct(self, x, batch_size=256):
        return np.zeros_like(x)


@pytest.mark.once
def test_the_peak_is_the_largest_error_beside_what_is_usual_there():
    model = _Restores(2, image_shape=(9, 2), architecture="sequence", widths=(4,))
    rng = np.random.default_rng(0)
    usual, x = rng.normal(size=(2, 500, 9, 2)).astype("float32")
    score = anomalies.SCORES["peak"]((0.0, 1.0))
    score.fit(model, usual, seed=0)
    blurred = [
        ndimage.gaussian_filter1d(each, 1, axis=1, mode="nearest", truncate=3)
        for each in (usual, x)
    ]
    expected = []
    for known, errors in ((usual, x), blurred):
        place = np.square(known).mean(axis=0)
        spread = np.sqrt((500 * place + 10 * place.mean(axis=0)) / 510)
        expected.append((np.abs(errors) / spread).max(axis=(1, 2)))
    found = score(model, x, seed=0)
    np.testing.assert_allclose(found, np.max(expected, axis=0), rtol=1e-4)
    # Small errors that last are seen once they are blurred.
    lasting = np.zeros((1, 9, 2), "float32")
    lasting[:, :, 0] = 2.0
    assert score(model, lasting, seed=0) > 3.0


@pytest.mark.once
def test_a_detector_finds_the_span_of_a_fault(tmp_path):
    keras.utils.set_random_seed(0)
    train, tuning, held_back = (
        cut_windows(waves(steps, seed), 16, stride)
        for seed, (steps, stride) in enumerate([(600, 2), (200, 2), (1600, 16)])
    )
    model = keras_ae.AE(4, architecture="sequence", widths=(8, 16))
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(train, epochs=20, batch_size=16, verbose=0)
    detector = keras_ae.AnomalyDetector(model, false_alarms=0.05)
    detector.calibrate(tuning, held_back, train)
    assert [part.name for part in detector.score_.used] == ["peak"]
    new = cut_windows(waves(160, seed=9), 16, 16)
    new[3, 5:9, 1] += 1.0
    alarms = detector.predict(new)
    assert alarms[3] == 1 and alarms.sum() <= 3
    where = detector.anomaly_map(new)[3]
    assert where[:, 1].argmax() in range(5, 9)
    detector.save(tmp_path / "waves.zip")
    loaded = anomalies.load(tmp_path / "waves.zip")
    np.testing.assert_allclose(
        loaded.decision_function(new), detector.decision_function(new), rtol=1e-4
    )


@pytest.mark.once
def test_scores_of_other_kinds_are_refused():
    rows = keras_ae.AE(2, image_shape=(6,), widths=(4,))
    with pytest.raises(ValueError, match="must have series of time and channels"):
        keras_ae.AnomalyDetector(rows, "peak").check()
    series = keras_ae.AE(2, image_shape=(8, 2), architecture="sequence", widths=(4,))
    with pytest.raises(ValueError, match="pictures of height, width and channels"):
        keras_ae.AnomalyDetector(series, "structure").check()


def test_a_series_of_columns_is_as_likely_as_its_rows():
    rng = np.random.default_rng(0)
    table = {
        "level": np.where(rng.random(40) < 0.2, np.nan, rng.normal(size=40)),
        "visits": rng.poisson(3.0, 40),
        "mode": rng.choice(["high", "low"], 40),
    }
    schema = datasets.Schema.of(table, kinds={"visits": "count"})
    rows = schema.rows(table)
    parameters = rng.normal(size=rows.shape).astype("float32")
    windows, expected = rows.reshape(5, 8, -1), parameters.reshape(5, 8, -1)
    of_rows, of_series = likelihoods.Columns(schema), likelihoods.Columns(schema)
    each, found = (
        computed(
            functools.partial(likelihood.log_prob, training=True),
            *given,
            variables=likelihood.variables,
        )
        for likelihood, *given in (
            (of_rows, rows, parameters),
            (of_series, windows, expected),
        )
    )
    np.testing.assert_allclose(found, each.reshape(5, 8).sum(axis=1), rtol=1e-5)
    scales = [to_numpy(likelihood.scale()) for likelihood in (of_rows, of_series)]
    np.testing.assert_allclose(*scales, rtol=1e-6)
    mean = computed(of_series.mean, expected)
    drawn = to_numpy(of_series.sample(expected, seed=0))
    assert mean.shape == drawn.shape == windows.shape
    np.testing.assert_allclose(
        mean.reshape(rows.shape), computed(of_rows.mean, parameters)
    )


@pytest.mark.once
def test_a_figure_of_series_has_a_panel_for_each_channel():
    windows = np.stack([waves(16, seed) for seed in range(3)])
    where = np.zeros_like(windows)
    where[1, 4:6, 0] = 9.0
    figure = plots.series(windows, windows, where, ("sine", "cosine"), "abc")
    assert len(figure.axes) == 6
    shaded = [len(panel.patches) for panel in figure.axes]
    assert shaded == [0, 0, 2, 0, 0, 0]
    assert [panel.get_title() for panel in figure.axes[:2]] == ["sine", "cosine"]
    with pytest.raises(ValueError, match="must be of the shape of `windows`"):
        plots.series(windows, windows[:2])
    with pytest.raises(ValueError, match=r"must be \(n, time, channels\)"):
        plots.series(windows[0])


@pytest.mark.once
def test_from_a_series_of_normal_rows_to_the_lines_of_a_fault(invoke):
    def write(path, series):
        lines = [f"{a:.4f},{b:.4f},{'ab'[int(a > 0)]}" for a, b in series]
        pathlib.Path(path).write_text("\n".join(["sine,cosine,sign", *lines, ""]))

    write("normal.csv", waves(1280))
    new = waves(200, seed=1)
    new[100:104, 0] += 1.5
    write("new.csv", new)
    fit = ("anomalies", "fit", "normal.csv", "--window", 16, "--false-alarms", 0.1)
    small = ("--set", "widths=8,16", "--latent-dim", 4, "--epochs", 15)
    fitted = invoke(*fit, *small, "--run-dir", "run")
    assert fitted.exit_code == 0, fitted.output
    assert "16 held back" in fitted.output and "windows" in fitted.output
    lines = pathlib.Path("new.csv").read_text().splitlines()
    faults = ["fault", *(int(100 <= step < 104) for step in range(200))]
    told = [f"{line},{fault}" for line, fault in zip(lines, faults, strict=True)]
    pathlib.Path("new.csv").write_text("\n".join([*told, ""]))
    score = ("anomalies", "score", "run", "new.csv", "--output", "scores.csv")
    scored = invoke(*score, "--report", "scores.html", "--label", "fault")
    assert scored.exit_code == 0, scored.output
    # Two of the windows, which overlap by half, have the fault.
    assert "AUROC" in scored.output and "alarms: anomalies" in scored.output
    assert " of 2" in scored.output
    with open("scores.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["first_line"] for row in rows[:3]] == ["2", "10", "18"]
    assert rows[-1]["last_line"] == "201"
    worst = max(rows, key=lambda row: float(row["score"]))
    assert worst["alarm"] == "1"
    # Steps 100 to 103 are lines 102 to 105.
    assert int(worst["from_line"]) <= 105 and int(worst["to_line"]) >= 102
    assert "held-back normal windows" in pathlib.Path("scores.html").read_text()
    # Blank lines count as lines.
    pathlib.Path("blank.csv").write_text("\n".join([told[0], "", *told[1:], ""]))
    blank = ("anomalies", "score", "run", "blank.csv", "--output", "blank-scores.csv")
    assert invoke(*blank).exit_code == 0
    with open("blank-scores.csv", newline="") as file:
        moved = [*csv.DictReader(file)]
    for name in ("first_line", "last_line", "from_line", "to_line"):
        assert [int(row[name]) for row in moved] == [int(r[name]) + 1 for r in rows]
    pathlib.Path("short.csv").write_text("sine,cosine,sign\n0,1,a\n")
    # Eight steps are half a window: all windows have some of them.
    every = [told[0], *(f"{x},{i // 8 % 2}" for i, x in enumerate(lines[1:]))]
    pathlib.Path("every.csv").write_text("\n".join([*every, ""]))
    for arguments, message in (
        (("fit", "new.csv", "--window", 64), "There must be 640 rows at least"),
        (("fit", "new.csv", "--window", 16, "--set", "architecture=dense"), "sequence"),
        (("fit", "moon-phases", "--window", 16), "must be left out for pictures"),
        (("score", "run", "short.csv", "--output", "a.csv"), "rows as a window, 16"),
        (
            ("score", "run", "every.csv", "--label", "fault", "--output", "a.csv"),
            "must tell of anomalies and of normal windows. Received: 24 of 24",
        ),
    ):
        refused = invoke("anomalies", *arguments)
        assert refused.exit_code == 1 and message in refused.stderr, refused.stderr
    assert not pathlib.Path("a.csv").exists()
