"""How deep a plain CNN can be: what layer-by-layer pretraining was for, and what came.

Convolutional networks of 4 to 20 layers of tanh units learn to read 10,000 digits, of
16 x 16 pixels for the sake of time, from a poor start, N(0, 0.01²) for every weight:
what a layer passes on is a tenth of what it takes, and so is the gradient on the way
back. Five ways from there: as it is; each layer pretrained greedily, as a denoising
autoencoder of the features of the one below; a start with the right variance instead
(Glorot); batch normalisation before each activation; and residual connections around
every second convolution. Compared are the error on the test digits after equally many
steps with labels, and the steps until 95 % of held-back digits are right.

Reference:
    Bengio et al., Greedy Layer-Wise Training of Deep Networks, 2007; Glorot and Bengio,
    Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010;
    Masci et al., Stacked Convolutional Auto-Encoders, 2011; Ioffe and Szegedy, Batch
    Normalization, 2015; He et al., Deep Residual Learning, 2016.
"""

import keras
import numpy as np

import keras_ae

WAYS = ("poor", "greedy", "good", "batch_norm", "residual")
ACTIVATION = "tanh"
WANTED = 0.95
# Steps from one measurement on held-back digits to the next.
PART = 50


def main(
    run,
    depths=(4, 12, 20),
    seeds=3,
    count=10_000,
    filters=16,
    code=64,
    stddev=0.01,
    steps=600,
    pretraining_epochs=1,
    learning_rate=1e-3,
    pretraining_rate=3e-3,
):
    train, validation, test = run.load("mnist", image_size=16)
    train = train[:count]
    labels = {split: run.labels[split]["label"] for split in run.labels}
    batch_size = min(run.batch_size or 64, len(train))
    parts = run.epochs or steps // PART
    errors = {way: np.zeros((seeds, len(depths))) for way in WAYS}
    waits = {way: np.zeros((seeds, len(depths))) for way in WAYS}

    def stacked(depth):
        model = keras_ae.StackedSAE(
            (code,),
            filters=(filters,) * depth,
            strides=_strides(depth),
            pretraining="denoising",
            corruption="gaussian",
            noise_level=0.1,
            pretraining_epochs=pretraining_epochs,
            activation=ACTIVATION,
            image_shape=train.shape[1:],
        )
        start_poorly(model, stddev)
        model.compile(keras.optimizers.Adam(pretraining_rate))
        return model

    for seed in range(seeds):
        for column, depth in enumerate(depths):
            for way in WAYS:
                # What Keras keeps of the networks before slows those that follow.
                keras.utils.clear_session()
                keras.utils.set_random_seed(run.seed + seed)
                if way == "greedy":
                    if seed == 0 and column == len(depths) - 1:
                        # The run's own model.
                        model = run.model(lambda depth=depth: stacked(depth))
                        run.fit(
                            model,
                            train,
                            validation[:1000],
                            epochs=0,
                            batch_size=batch_size,
                            monitor="loss",
                        )
                        run.evaluate(model, test)
                        run.pictures(model, test, labels["test"], "digit")
                    else:
                        model = stacked(depth)
                        model.fit(train, batch_size=batch_size, epochs=0, verbose=0)
                    encoder = model.encoder
                else:
                    encoder = plain(train.shape[1:], depth, filters, code, way)
                    if way != "good":
                        start_poorly(encoder, stddev)
                classifier = keras_ae.models.Classifier(encoder, num_classes=10)
                rng = np.random.default_rng(run.seed + seed)
                order = rng.integers(0, len(train), parts * PART * batch_size)
                classifier.compile(
                    keras.optimizers.Adam(learning_rate),
                    keras.losses.SparseCategoricalCrossentropy(),
                    metrics=["accuracy"],
                )
                history = classifier.fit(
                    train[order],
                    labels["train"][order],
                    batch_size=batch_size,
                    steps_per_epoch=PART,
                    epochs=parts,
                    shuffle=False,
                    validation_data=(validation[:1000], labels["validation"][:1000]),
                    verbose=0,
                ).history
                found = classifier.evaluate(
                    test, labels["test"], verbose=0, return_dict=True
                )
                error = 100 * (1 - found["accuracy"])
                wait = steps_until(history["val_accuracy"])
                errors[way][seed, column], waits[way][seed, column] = error, wait
                print(f"depth {depth}, {way}: {error:.1f} % wrong, {wait} steps")
    for way in WAYS:
        for column, depth in enumerate(depths):
            run.scores(
                **{
                    f"{way}_{depth}_error": float(errors[way][:, column].mean()),
                    f"{way}_{depth}_steps": float(waits[way][:, column].mean()),
                }
            )
    curves = {way.replace("_", " "): values for way, values in errors.items()}
    run.picture(
        "depth",
        keras_ae.plots.error_bars(
            depths, curves, "convolutions", "test digits wrong, %"
        ),
        f"Test error of convolutional networks after {parts * PART} steps, means and "
        f"deviations of {seeds} seeds.",
    )
    curves = {way.replace("_", " "): values for way, values in waits.items()}
    run.picture(
        "steps",
        keras_ae.plots.error_bars(
            depths, curves, "convolutions", "steps until 95 % are right"
        ),
        f"Steps until 95 % of held-back digits are right; {parts * PART} were taken, "
        "and stand for never.",
    )


def plain(image_shape, depth, filters, code, way):
    """Convolutions and a dense code, as `way` has them; kernels by Glorot et al."""
    start = {"kernel_initializer": "glorot_normal"}
    x = keras.Input(image_shape)
    h = keras.layers.Reshape((*image_shape[:2], 1))(x)
    shortcut = None
    for number, stride in enumerate(_strides(depth), 1):
        h = keras.layers.Conv2D(filters, 3, stride, padding="same", **start)(h)
        if way == "batch_norm":
            h = keras.layers.BatchNormalization(momentum=0.9)(h)
        closes_block = way == "residual" and number % 2 == 0
        if closes_block and shortcut is not None:
            h = keras.layers.add([h, shortcut])
        h = keras.layers.Activation(ACTIVATION)(h)
        if closes_block:
            shortcut = h
    h = keras.layers.Flatten()(h)
    z = keras.layers.Dense(code, activation=ACTIVATION, **start)(h)
    return keras.Model(x, z)


def _strides(depth):
    return (2, 2) + (1,) * (depth - 2)


def start_poorly(model, stddev):
    """Draws every kernel from a narrow normal distribution, whatever its fan-in."""
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.assign(keras.random.normal(variable.shape, stddev=stddev))


def steps_until(accuracies):
    """Steps until the wanted accuracy, or all of them where it was never reached."""
    reached = np.flatnonzero(np.asarray(accuracies) >= WANTED)
    return PART * int(reached[0] + 1 if len(reached) else len(accuracies))
