"""Overfitting, and the empty places between codes: from 500, 5,000 and 50,000 digits.

An autoencoder, one that cleans up noise and a VAE, of the same dense networks, take
equally many steps on few digits and on many. Few are learned by heart: the error of
their own falls to nothing, that of the test digits does not follow, or rises. What lies
between the codes shows what else was learned: an autoencoder's decoder is free there; a
noisy input or a noisy code may teach it the surroundings. Decoded are codes drawn from
a normal distribution with the means and deviations of the training digits' codes; the
midpoints of two of these; and test digits' codes moved half way to their nearest
training code. The score is the share that a classifier, trained on all digits, takes
for one digit with 95 % and more.

Reference:
    Vincent et al., Extracting and Composing Robust Features with Denoising
    Autoencoders, 2008; Kingma and Welling, Auto-Encoding Variational Bayes, 2014.
"""

import keras
import numpy as np

import keras_ae

SURE = 0.95


def main(
    run,
    latent_dim=16,
    widths=(512, 256),
    noise_level=0.3,
    learning_rate=1e-3,
    codes=2000,
):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    labels = run.labels["train+validation"]["label"]
    counts = [count for count in (500, 5000, 50_000) if count < len(train)]
    counts = counts or [len(train) // 2]
    epochs = run.epochs or 20
    classifier = keras_ae.features.train(train, labels, seed=run.seed, verbose=2)

    def build(Model):
        noise = {"noise_level": noise_level} if Model is keras_ae.DenoisingAE else {}
        model = Model(
            latent_dim,
            architecture="dense",
            widths=widths,
            likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
            **noise,
        )
        model.compile(keras.optimizers.Adam(learning_rate))
        return model

    curves, drawn = {}, {}
    run.scores(sure_test_digits=sure(classifier, test))
    for Model in (keras_ae.AE, keras_ae.DenoisingAE, keras_ae.VAE):
        name = Model.__name__
        for count in counts:
            # The run's own model is the VAE of most digits.
            own = Model is keras_ae.VAE and count == counts[-1]
            part = run if own else run.child(f"{name.lower()}_{count}")
            model = part.model(lambda Model=Model: build(Model))
            few = train[:count]
            part.fit(
                model,
                # As many steps whatever the count.
                few[np.arange(len(train)) % count],
                test,
                epochs=epochs,
                batch_size=128,
                monitor="loss",
            )
            few_mse = model.evaluate(few, verbose=0, return_dict=True)["mse"]
            test_mse = model.evaluate(test, verbose=0, return_dict=True)["mse"]
            places = between(model, few, test, codes, run.seed)
            shares = {key: sure(classifier, shown) for key, shown in places.items()}
            figures = {"train_mse": few_mse, "test_mse": test_mse, **shares}
            prefix = f"{name.lower()}_{count}"
            run.scores(**{f"{prefix}_{key}": value for key, value in figures.items()})
            curves[f"{name} {count:,}"] = [row["mse"] for row in part.history]
            curves[f"val_{name} {count:,}"] = [row["val_mse"] for row in part.history]
            rows = drawn.setdefault(f"{name}, {count:,} digits", {})
            rows.update({key: shown[:12] for key, shown in places.items()})
            if own:
                run.evaluate(model, test)
                run.pictures(model, test, run.labels["test"]["label"], "digit")
    run.picture(
        "overfitting",
        keras_ae.plots.loss_curves(curves),
        "Squared error per pixel by epoch: training dashed, test solid.",
    )
    run.picture(
        "between",
        keras_ae.plots.labelled(drawn),
        "What codes that no digit has decode to: drawn from a normal distribution with "
        "the codes' means and deviations; half way between two training digits; half "
        "way from a test digit to its nearest training digit.",
    )


def between(model, train, test, count, seed):
    """Decodes `count` codes of each kind that no training digit has."""
    known = model.encode(train)  # (n, latent_dim)
    rng = np.random.default_rng(seed)
    normal = rng.normal(
        known.mean(axis=0), known.std(axis=0), (count, model.latent_dim)
    )
    one, other = (known[rng.integers(0, len(known), count)] for _ in range(2))
    codes = model.encode(test[:count])
    # |a - b|² = |a|² - 2 a·b + |b|², and |a|² is the same for all b.
    distances = np.sum(known**2, axis=1) - 2 * codes @ known.T  # (codes, n)
    nearest = known[distances.argmin(axis=1)]
    kinds = {
        "random": normal.astype("float32"),
        "midpoints": (one + other) / 2,
        "neighbours": (codes + nearest) / 2,
    }
    return {name: model.decode(z) for name, z in kinds.items()}


def sure(classifier, pictures):
    """Share of pictures that the classifier takes for one digit."""
    return float(np.mean(classifier.predict(pictures).max(axis=1) >= SURE))
