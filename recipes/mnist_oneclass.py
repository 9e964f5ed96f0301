"""Each of ten classes once as what is normal: AUROC of an autoencoder's anomalies.

An autoencoder sees the training pictures of one class alone. What is unusual about a
test picture is the error that hangs together in its reconstruction, and the density of
its code among those of the class (`AnomalyDetector`, score `"auto"`); nothing is chosen
by anomalies. AUROC is that of all 10,000 test pictures, the class against the nine
others. The alarm's rate is measured on pictures of the class that were held back, and
compared with that of its test pictures. `--set data=fashion-mnist` takes clothing.

Reference:
    Ruff et al., Deep One-Class Classification, 2018
    (https://proceedings.mlr.press/v80/ruff18a.html), for the protocol.
"""

import keras
import numpy as np

import keras_ae

# Rates of false alarms that are asked for.
RATES = (0.01, 0.05, 0.1)
# Shares of a class: what ends the training and settles the score, what is held back.
TUNING, HELD_BACK = 0.1, 0.1


def main(
    run,
    data="mnist",
    latent_dim=16,
    widths=(512, 256),
    learning_rate=1e-3,
):
    train, test = run.load(data, splits=("train+validation", "test"))
    labels = run.labels["train+validation"]["label"]
    test_labels = run.labels["test"]["label"]
    epochs = run.epochs or 30

    def build(steps):
        model = keras_ae.AE(
            latent_dim,
            architecture="dense",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
        )
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    areas, found = [], {rate: [] for rate in RATES}
    drawn = {}
    classes = np.unique(labels)
    for value in classes:
        # The run's own model is that of the last class.
        own = value == classes[-1]
        part = run if own else run.child(f"class-{value}")
        normal = train[labels == value]
        order = np.random.default_rng(run.seed).permutation(len(normal))
        sizes = [max(1, int(share * len(normal))) for share in (TUNING, HELD_BACK)]
        tuning, held_back, learned = (
            normal[np.sort(chosen)] for chosen in np.split(order, np.cumsum(sizes))
        )
        steps = epochs * -(-len(learned) // 64)
        model = part.model(lambda steps=steps: build(steps))
        part.fit(model, learned, tuning, epochs=epochs, batch_size=64, patience=epochs)
        detector = keras_ae.AnomalyDetector(model, seed=run.seed)
        detector.calibrate(tuning, held_back, learned)
        scores = detector.decision_function(test)
        anomalous = test_labels != value
        area = keras_ae.metrics.detection(scores, anomalous, resamples=1).auroc
        areas.append(area)
        p_values = detector.conformal_.p_values(scores[~anomalous])
        for rate in RATES:
            found[rate].append(np.mean(p_values <= rate))
        run.scores(**{f"auroc_{value}": area})
        print(f"Class {value}: AUROC {area:.4f}", flush=True)
        worst = test[np.argsort(-scores, kind="stable")[:10]]
        where = keras_ae.plots.highlighted(worst, detector.anomaly_map(worst))
        drawn[f"Only {value} is normal"] = {
            "least usual": np.repeat(worst, 3, axis=-1),
            "where": where,
        }
    run.scores(auroc=np.mean(areas))
    for rate, rates in found.items():
        run.scores(**{f"false_alarms_at_{100 * rate:g}_percent": np.mean(rates)})
    run.evaluate(model, test[~anomalous])
    run.pictures(model, test[~anomalous])
    run.picture(
        "least_usual",
        keras_ae.plots.labelled(drawn),
        "The test pictures that are least usual where one class alone is normal, and "
        "where they differ from what is usual.",
    )
