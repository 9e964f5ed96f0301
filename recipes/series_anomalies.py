"""An alarm for series, learned from normal ones, that tells the span of the fault.

The series is rendered: three measurements of a machine whose speed and load wander (no
download). An autoencoder along time sees windows of it. Of windows of another stretch
every one is given a fault once: a spike, a frozen value, more noise, a bulge, or a span
that runs backwards. Their scores beside those of the whole windows give the AUROC; the
alarm's rate is set by a third stretch. `where_auroc` is that of the steps of faulty
windows, in the faulty span or outside.

Beside it stands a real series, 1,047 days of a stock's prices that come with
matplotlib: learned to November 2006, its days of September and October 2008, when the
banks fell, are told from those of the fourteen months before (`crisis_auroc`).
"""

import keras
import numpy as np

import keras_ae

RATES = (0.01, 0.05, 0.1)
FAULTS = ("spike", "frozen", "noise", "bulge", "backwards")
NAMES = ("speed", "load", "pressure")


def main(
    run,
    latent_dim=16,
    widths=(32, 64, 128),
    learning_rate=1e-3,
    window=64,
    steps=20_000,
):
    rng = np.random.default_rng(run.seed)
    count = run.limit or steps
    learned = machine(count, rng)
    mean, deviation = learned.mean(axis=0), learned.std(axis=0)

    def windows(series, stride):
        series = (series - mean) / deviation
        return keras_ae.datasets.cut_windows(series, window, stride)

    train = windows(learned, max(1, window // 8))
    tuning = windows(machine(max(window, count // 5), rng), max(1, window // 4))
    # Windows that overlap would not be as many examples as they are windows.
    held_back, test = (
        windows(machine(max(window, 2 * count), rng), window) for _ in range(2)
    )
    network = {"latent_dim": latent_dim, "widths": widths}
    *stock, before, crisis = stock_windows(length=16)
    detector = learn(run.child("stock"), *stock, before, learning_rate, 16, **network)
    run.scores(crisis_auroc=auroc(detector, before, crisis))
    detector = learn(run, train, tuning, held_back, learning_rate, 64, **network)
    model = detector.model_
    faulty, span, kind = with_faults(test, rng)
    p_values = detector.conformal_.p_values(detector.decision_function(test))
    found = detector.conformal_.p_values(detector.decision_function(faulty))
    places = detector.anomaly_map(faulty)
    run.scores(
        auroc=auroc(detector, test, faulty),
        **{
            f"auroc_{name}": auroc(detector, test, faulty[kind == number])
            for number, name in enumerate(FAULTS)
        },
        where_auroc=keras_ae.metrics.detection(
            places.max(axis=2).ravel(), span.ravel(), resamples=1
        ).auroc,
    )
    for rate in RATES:
        percent = f"{100 * rate:g}_percent"
        run.scores(
            **{
                f"false_alarms_at_{percent}": np.mean(p_values <= rate),
                f"found_at_{percent}": np.mean(found <= rate),
            }
        )
    run.evaluate(model, test)
    shown = faulty[: len(FAULTS)]
    run.picture(
        "where",
        keras_ae.plots.series(
            shown, model.reconstruct(shown), places[: len(shown)], NAMES, FAULTS
        ),
        "A window with each fault, what the model makes of it (dashed), and the steps "
        "that differ from what is usual (red).",
    )


def learn(run, train, tuning, held_back, learning_rate, batch_size, **network):
    """A detector whose model learns from `train`."""
    epochs = run.epochs or 30

    def build():
        model = keras_ae.AE(architecture="sequence", **network)
        total = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, total)
        model.compile(keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(model, train, tuning, epochs=epochs, batch_size=batch_size, patience=epochs)
    detector = keras_ae.AnomalyDetector(model, seed=run.seed)
    return detector.calibrate(tuning, held_back, train)


def stock_windows(length):
    """Windows of a stock's days, in order: to learn, to tune, normal, and the crisis.

    Of each day the logarithms of the opening, highest, lowest and closing price beside
    the day before's closing price, and that of the volume.
    """
    from matplotlib import cbook

    days = cbook.get_sample_data("goog.npz")["price_data"]
    close = np.log(days["close"][:-1])
    days = days[1:]
    prices = [np.log(days[name]) - close for name in ("open", "high", "low", "close")]
    series = np.stack([*prices, np.log(days["volume"])], axis=1).astype("float32")
    dates = np.array(["2006-11-08", "2007-07-01", "2008-09-01"], "datetime64[D]")
    parts = np.split(series, np.searchsorted(days["date"], dates))
    mean, deviation = parts[0].mean(axis=0), parts[0].std(axis=0)
    return [
        keras_ae.datasets.cut_windows((part - mean) / deviation, length)
        for part in parts
    ]


def auroc(detector, normal, faulty):
    scores = detector.decision_function(np.concatenate([normal, faulty]))
    anomalous = np.arange(len(scores)) >= len(normal)
    return keras_ae.metrics.detection(scores, anomalous, resamples=1).auroc


def machine(steps, rng):
    """Speed, load and pressure `(steps, 3)` of a machine that turns in 24 steps."""
    speed, load = 1 + 0.05 * wander(steps, 40, rng), wander(steps, 60, rng)
    phase = np.cumsum(2 * np.pi / 24 * speed)
    series = [
        np.sin(phase) * (1 + 0.2 * load),
        0.5 * np.sin(2 * phase + 0.5) + 0.3 * load,
        0.5 * np.exp(3 * (np.cos(phase) - 1)) + 0.2 * np.square(load),
    ]
    noise = 0.05 * rng.standard_normal((steps, 3))
    return (np.stack(series, axis=1) + noise).astype("float32")


def wander(steps, width, rng):
    """Smooth noise `(steps,)` of unit variance that changes within `width` steps."""
    weights = np.exp(-0.5 * np.square(np.arange(-3 * width, 3 * width + 1) / width))
    noise = rng.standard_normal(steps + 6 * width)
    return np.convolve(noise, weights / np.linalg.norm(weights), "valid")


def with_faults(windows, rng):
    """Windows `(n, time, channels)` with one of `FAULTS` each, in one channel.

    Returns:
        The windows, which steps are faulty, `(n, time)`, and the kinds, `(n,)`.
    """
    faulty = np.array(windows)
    span, kind = np.zeros(faulty.shape[:2], bool), np.arange(len(faulty)) % len(FAULTS)
    for window, where, number in zip(faulty, span, kind, strict=True):
        name = FAULTS[number]
        steps = 1 if name == "spike" else max(1, len(window) // 4)
        start = rng.integers(len(window) - steps + 1)
        part = window[start : start + steps, rng.integers(window.shape[1])]
        where[start : start + steps] = True
        if name == "spike":
            part += rng.choice([-1, 1])
        elif name == "frozen":
            part[:] = part[0]
        elif name == "noise":
            part += 0.3 * rng.standard_normal(steps)
        elif name == "bulge":
            part += 0.6 * np.sin(np.linspace(0, np.pi, steps))
        else:
            part[:] = part[::-1].copy()
    return faulty, span, kind
