"""How pretraining helps where labels are few: digits, 100 to 60,000 of them labelled.

A stacked denoising autoencoder learns from all 60,000 digits without labels. Then the
same network, from its weights or from a random start, is fine-tuned with 100, 1,000,
10,000 and 60,000 labels, drawn evenly from the ten digits, each with three seeds. Both
starts get the same steps: twenty epochs, of 200 steps at least. No digit is held
back and no epoch chosen.

Reference:
    Vincent et al., Stacked Denoising Autoencoders, 2010; Erhan et al., Why Does
    Unsupervised Pre-training Help Deep Learning?, 2010.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    units=500,
    layers=2,
    noise_level=0.25,
    pretraining_epochs=10,
    seeds=3,
    learning_rate=1e-3,
    patience=80,
):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    labels = run.labels["train+validation"]["label"]
    test_labels = run.labels["test"]["label"]
    counts = [n for n in (100, 1_000, 10_000, 60_000) if n <= len(train)]
    batch_size = run.batch_size or 128

    def build():
        model = keras_ae.StackedSAE(
            (units,) * layers,
            pretraining="denoising",
            corruption="masking",
            noise_level=noise_level,
            pretraining_epochs=run.epochs or pretraining_epochs,
            likelihood="bernoulli",
        )
        model.compile(keras.optimizers.Adam(1e-3))
        return model

    def error(encoder, chosen):
        classifier = keras_ae.Classifier(encoder, num_classes=10)
        drawn = np.resize(chosen, max(len(chosen), 200 * batch_size))
        steps = 20 * -(-len(drawn) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        classifier.compile(
            keras.optimizers.Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(),
            metrics=["accuracy"],
        )
        classifier.fit(
            train[drawn], labels[drawn], epochs=20, batch_size=batch_size, verbose=0
        )
        return 1 - classifier.evaluate(test, test_labels, verbose=0)[1]

    def errors(model, seed):
        """Test errors by start and count, fine-tuning copies of the encoder."""
        found = {"pretrained": [], "random start": []}
        for count in counts:
            chosen = drawn_evenly(labels, count, seed)
            for start, values in found.items():
                keras.utils.set_random_seed(seed)
                encoder = keras.models.clone_model(model.encoder)
                if start == "pretrained":
                    encoder.set_weights(model.encoder.get_weights())
                values.append(error(encoder, chosen))
                print(f"{count:,} labels, {start}: {values[-1]:.2%} test error")
        return found

    found = []
    for number in range(seeds):
        # The first seed's model is the run's own; the others have folders in it.
        part = run if number == 0 else run.child(f"seed-{run.seed + number}")
        part.seed = run.seed + number
        model = part.model(build)
        part.fit(
            model,
            train,
            test,
            epochs=0,
            batch_size=batch_size,
            patience=patience,
            monitor="loss",
        )
        if number == 0:
            run.evaluate(model, test)
            run.pictures(model, test, test_labels, "digit")
        found.append(errors(model, run.seed + number))

    curves = {start: np.array([each[start] for each in found]) for start in found[0]}
    for start, values in curves.items():
        name = start.replace(" ", "_")
        for column, count in enumerate(counts):
            run.scores(
                **{
                    f"{name}_error_{count}_labels": values[:, column].mean(),
                    f"{name}_deviation_{count}_labels": values[:, column].std(ddof=1)
                    if seeds > 1
                    else 0.0,
                }
            )
    run.picture(
        "few_labels",
        keras_ae.plots.error_bars(
            counts,
            {start: 100 * values for start, values in curves.items()},
            "labels",
            "test error in %",
        ),
        f"Test error by number of labels: means and standard deviations of {seeds} "
        "seeds, which draw weights and labels anew.",
    )


def drawn_evenly(labels, count, seed):
    """Indices of `count` examples, as many of each class as there are."""
    random = np.random.default_rng(seed)
    classes = np.unique(labels)
    order = random.permutation(len(labels))
    by_class = [order[labels[order] == value] for value in classes]
    # The first of each class, then the second of each, as far as they reach.
    ranks = np.concatenate([np.arange(len(rows)) for rows in by_class])
    return np.concatenate(by_class)[np.argsort(ranks, kind="stable")[:count]]
