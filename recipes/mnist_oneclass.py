"""Each digit once as what is normal: AUROC of an autoencoder's anomalies, and where.

An autoencoder sees the training pictures of one class alone. What is unusual about a
test picture is the error that hangs together in its reconstruction, and the density of
its code among those of the class (`AnomalyDetector`, score `"auto"`); nothing is chosen
by anomalies. AUROC is that of all 10,000 test pictures, the class against the nine
others. A tenth of the class ends the training and settles the score, on another tenth
the alarm's rate is measured, and compared with that of the class's test pictures.
Where something is wrong is known of test pictures of the class with a stroke added:
`map_auroc` is that of their pixels.

Reference:
    Ruff et al., Deep One-Class Classification, 2018
    (https://proceedings.mlr.press/v80/ruff18a.html), for the protocol.
"""

import functools

import keras
import numpy as np
from PIL import Image, ImageDraw

import keras_ae

# Rates of false alarms that are asked for.
RATES = (0.01, 0.05, 0.1)
# Shares of a class: what ends the training and settles the score, what is held back.
TUNING, HELD_BACK = 0.1, 0.1
# Pictures of each class that are given a stroke, and by how much it must brighten a
# pixel: ink upon ink is no change.
STRUCK, BRIGHTER = 200, 25


def main(run, latent_dim=16, widths=(512, 256), learning_rate=1e-3, seeds=3):
    one_class(run, "mnist", latent_dim, widths, learning_rate, seeds)


def one_class(run, data, latent_dim, widths, learning_rate, seeds):
    """Each class of a data set with ten of them once as what is normal."""
    train, test = run.load(data, splits=("train+validation", "test"))
    labels = run.labels["train+validation"]["label"]
    test_labels = run.labels["test"]["label"]
    classes = np.unique(labels)
    epochs = run.epochs or 30

    def build(count):
        model = keras_ae.AE(
            latent_dim,
            architecture="dense",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
        )
        steps = epochs * -(-count // 64)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    found, drawn = {}, {}
    for seed in range(run.seed, run.seed + seeds):
        for value in classes:
            # The run's own model is that of the last class and seed.
            own = value == classes[-1] and seed == run.seed + seeds - 1
            part = run if own else run.child(f"class-{value}-seed-{seed}")
            normal = train[labels == value]
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(normal))
            sizes = [max(1, int(share * len(normal))) for share in (TUNING, HELD_BACK)]
            tuning, held_back, learned = (
                normal[np.sort(chosen)] for chosen in np.split(order, np.cumsum(sizes))
            )
            keras.utils.set_random_seed(seed)
            model = part.model(functools.partial(build, len(learned)))
            part.fit(
                model, learned, tuning, epochs=epochs, batch_size=64, patience=epochs
            )
            detector = keras_ae.AnomalyDetector(model, seed=seed)
            detector.calibrate(tuning, held_back, learned)
            scores = detector.decision_function(test)
            anomalous = test_labels != value
            area = keras_ae.metrics.detection(scores, anomalous, resamples=1).auroc
            p_values = detector.conformal_.p_values(scores[~anomalous])
            whole = test[~anomalous][:STRUCK]
            struck = with_strokes(whole, rng)
            changed = struck - whole.astype(int) > BRIGHTER
            places = detector.anomaly_map(struck)
            found[seed, value] = {
                "auroc": area,
                "map_auroc": keras_ae.metrics.detection(
                    places.ravel(), changed.ravel(), resamples=1
                ).auroc,
                **{
                    f"false_alarms_at_{100 * rate:g}_percent": np.mean(p_values <= rate)
                    for rate in RATES
                },
            }
            print(f"Seed {seed}, class {value}: AUROC {area:.4f}", flush=True)
            if seed == run.seed:
                worst = test[np.argsort(-scores, kind="stable")[:5]]
                shown = np.concatenate([worst, struck[:5]])
                where = keras_ae.plots.highlighted(shown, detector.anomaly_map(shown))
                drawn[f"Only {value} is normal"] = {
                    "": np.repeat(shown, 3, axis=-1),
                    "where": where,
                }
    for value in classes:
        each = [found[key]["auroc"] for key in found if key[1] == value]
        run.scores(**{f"auroc_{value}": np.mean(each)})
    for seed in range(run.seed, run.seed + seeds):
        each = [found[key]["auroc"] for key in found if key[0] == seed]
        run.scores(**{f"auroc_seed_{seed}": np.mean(each)})
    for name in next(iter(found.values())):
        run.scores(**{name: np.mean([figures[name] for figures in found.values()])})
    run.evaluate(model, test[~anomalous])
    run.pictures(model, test[~anomalous])
    run.picture(
        "where",
        keras_ae.plots.labelled(drawn),
        "Of each class that alone is normal: the five test pictures that are least "
        "usual, and five of the class that were given a stroke, with the places that "
        "differ from what is usual.",
    )


def with_strokes(pictures, rng):
    """Pictures `(n, height, width, 1)` of integers 0-255 with a white stroke each."""
    struck = []
    for picture in pictures:
        height, width = picture.shape[:2]
        middle = rng.uniform(0.25, 0.75, 2) * (width, height)
        angle, reach = rng.uniform(0, np.pi), rng.uniform(0.15, 0.3) * width
        away = reach * np.array([np.cos(angle), np.sin(angle)])
        image = Image.fromarray(picture[..., 0])
        ends = [tuple(middle - away), tuple(middle + away)]
        ImageDraw.Draw(image).line(ends, fill=255, width=2)
        struck.append(np.asarray(image)[..., None])
    return np.stack(struck)
