"""An alarm for moons with a bite, learned from whole ones, that points at the bite.

An autoencoder sees whole moons alone (no download). Test moons then get a bite: a dark
disc over a part that was lit. Their scores beside those of whole test moons give the
AUROC; the alarm's rate is set by moons that were held back, and compared with that of
the whole test moons; `map_auroc` is that of the pixels, bitten or not, of moons with a
bite.
"""

import keras
import numpy as np

import keras_ae

# Rates of false alarms that are asked for.
RATES = (0.01, 0.05, 0.1)
# Brightness that a bitten pixel must have lost, and pixels that a bite must have.
LOST, FEWEST = 25, 6


def main(run, latent_dim=16, widths=(512, 256), learning_rate=1e-3, held_back=2000):
    train, validation, test = run.load("moon-phases", image_size=24)
    learned, held_back = train[held_back:], train[:held_back]
    epochs = run.epochs or 60

    def build():
        model = keras_ae.AE(
            latent_dim,
            architecture="dense",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
        )
        steps = epochs * -(-len(learned) // 64)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(model, learned, validation, epochs=epochs, batch_size=64, patience=epochs)
    detector = keras_ae.AnomalyDetector(model, seed=run.seed)
    detector.calibrate(validation, held_back, learned)
    bitten = with_bites(test, np.random.default_rng(run.seed))
    lost = test.astype(int) - bitten > LOST
    is_bitten = lost.sum(axis=(1, 2, 3)) >= FEWEST
    bitten, lost = bitten[is_bitten], lost[is_bitten]
    scores = detector.decision_function(np.concatenate([test, bitten]))
    anomalous = np.arange(len(scores)) >= len(test)
    found = keras_ae.metrics.detection(scores, anomalous)
    where = detector.anomaly_map(bitten)
    p_values = detector.conformal_.p_values(scores)
    run.scores(
        auroc=found.auroc,
        average_precision=found.average_precision,
        map_auroc=keras_ae.metrics.detection(where.ravel(), lost.ravel(), 1).auroc,
        bitten=len(bitten),
    )
    for rate in RATES:
        alarms = p_values <= rate
        percent = f"{100 * rate:g}_percent"
        run.scores(
            **{
                f"false_alarms_at_{percent}": np.mean(alarms[~anomalous]),
                f"found_at_{percent}": np.mean(alarms[anomalous]),
            }
        )
    run.evaluate(model, test)
    run.pictures(model, test)
    order = np.argsort(-p_values[anomalous], kind="stable")
    shown = {
        "Bitten moons": np.arange(10),
        "Bitten moons that are told worst": order[:10],
    }
    run.picture(
        "where",
        keras_ae.plots.labelled(
            {
                title: {
                    "": np.repeat(bitten[rows], 3, axis=-1),
                    "where": keras_ae.plots.highlighted(bitten[rows], where[rows]),
                }
                for title, rows in shown.items()
            }
        ),
        "Moons with a bite, and the places that differ from what is usual.",
    )


def with_bites(moons, rng):
    """Moons `(n, height, width, 1)` of integers 0-255, each with a dark disc in it."""
    height, width = moons.shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    bitten = np.array(moons)
    for moon in bitten[..., 0]:
        # Around a lit pixel, a brighter one more likely.
        share = moon.ravel() / max(1, moon.sum(dtype=float))
        place = rng.choice(moon.size, p=share) if moon.any() else 0
        row, column = divmod(place, width)
        radius = rng.uniform(0.08, 0.2) * width
        moon[np.hypot(rows - row, columns - column) < radius] = 0
    return bitten
