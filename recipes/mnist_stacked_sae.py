"""A stacked sparse autoencoder as a digit classifier, 784-200-200-softmax.

Two layers of 200 sigmoid units learn greedily to restore what is below them, held to a
mean activation of 0.1 by the KL; a softmax layer learns the digits from their features;
then all layers are fine-tuned with labels. The figures to compare are those of the
UFLDL exercise on stacked autoencoders: 87.7 % of the test digits are right before
fine-tuning and 97.6 % after it. As there, all 60,000 digits train, and the test digits
decide nothing.

Reference:
    Ng et al., UFLDL tutorial, Exercise: Implement deep networks for digit
    classification, 2011.
"""

import keras

import keras_ae


def main(run, pretraining_epochs=15, sparsity_weight=3.0, target=0.1, patience=80):
    train, test = run.load("mnist", splits=("train+validation", "test"))
    labels = run.labels["train+validation"]["label"]
    test_labels = run.labels["test"]["label"]
    epochs = run.epochs or 30
    batch_size = run.batch_size or 128

    def build():
        sparsity = keras_ae.layers.KLSparsity(sparsity_weight, target)
        model = keras_ae.StackedSAE(
            (200, 200),
            sparsity=sparsity,
            pretraining_epochs=pretraining_epochs,
            likelihood=keras_ae.likelihoods.Gaussian(1.0, activation="sigmoid"),
        )
        model.compile(keras.optimizers.Adam(1e-3))
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        test,
        epochs=0,
        batch_size=batch_size,
        patience=patience,
        monitor="loss",
    )
    run.evaluate(model, test)
    run.pictures(model, test, test_labels, "digit")
    filters = keras.ops.convert_to_numpy(model.encoding[0].kernel).T  # (200, 784)
    run.picture(
        "filters",
        keras_ae.plots.filters(filters.reshape(-1, 28, 28)),
        "What the units of the first layer look for: their weights on the pixels.",
    )

    # The softmax layer first, on features that are computed once.
    classifier = model.classifier(num_classes=10)
    softmax = keras.Sequential([keras.layers.Dense(10, activation="softmax")])
    softmax.compile(
        keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy()
    )
    fit = {"epochs": epochs, "batch_size": batch_size, "verbose": 2}
    softmax.fit(model.encode(train), labels, **fit)
    classifier.head.set_weights(softmax.get_weights())
    before = classifier.evaluate(test, test_labels, verbose=0, return_dict=True)

    steps = epochs * -(-len(train) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    classifier.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    classifier.fit(train, labels, **fit)
    classifier.save(run.directory / "classifier.keras")
    after = classifier.evaluate(test, test_labels, verbose=0, return_dict=True)
    run.scores(
        fine_tuning_epochs=epochs,
        accuracy_before_fine_tuning=before["accuracy"],
        accuracy=after["accuracy"],
        published_accuracy_before_fine_tuning=0.877,
        published_accuracy=0.976,
    )
