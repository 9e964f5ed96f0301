"""Greedy layer-wise pretraining, its phases, and the classifier on top."""

import functools

import keras
import numpy as np
import pytest
from contract import few_everywhere
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae.datasets import Batches

SHAPE = (12, 10, 1)
DIMS = (9, 5)


def make(**kwargs):
    keras.utils.set_random_seed(1)
    settings = {"image_shape": SHAPE, "pretraining_epochs": 2}
    model = keras_ae.StackedSAE(DIMS, **{**settings, **kwargs})
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def fit(model, images, method="fit", **kwargs):
    kwargs = {"batch_size": 8, "shuffle": False, "verbose": 0, **kwargs}
    return getattr(model, method)(images, **kwargs)


def layer_weights(model, number):
    parts = (model.encoding[number - 1], model.decoding[number - 1])
    return [np.array(w) for part in parts for w in part.get_weights()]


class Watch(keras.callbacks.Callback):
    """Keeps the layers' weights after each epoch."""

    def __init__(self, layers=(1, 2)):
        super().__init__()
        self.layers = layers
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        weights = [layer_weights(self.model, number) for number in self.layers]
        self.seen.append((logs["phase"], weights))

    def assert_only_layers_of_their_phase_moved(self, before):
        for phase, weights in self.seen:
            for layer in self.layers:
                moved = [
                    not np.array_equal(a, b)
                    for a, b in zip(before[layer - 1], weights[layer - 1], strict=True)
                ]
                tuned = phase in (layer, len(self.layers) + 1)
                assert all(moved) if tuned else not any(moved)
            before = weights


@pytest.mark.parametrize(
    "pretraining",
    few_everywhere(["sparse", "denoising", "plain", "rbm"], ["denoising", "rbm"]),
)
def test_only_the_layer_of_the_phase_moves(images, pretraining):
    model = make(pretraining=pretraining, pretraining_epochs=(2, 3))
    watch = Watch()
    before = [layer_weights(model, number) for number in (1, 2)]
    history = fit(model, images, epochs=2, callbacks=[watch])
    phases = [phase for phase, _ in watch.seen]
    assert phases == history.history["phase"] == [1, 1, 2, 2, 2, 3, 3]
    assert history.epoch == list(range(7))
    watch.assert_only_layers_of_their_phase_moved(before)


def test_each_layer_is_a_single_layer_autoencoder(images):
    """Layer by layer what separate models give, trained on each other's features."""
    stacked = make()
    singles = []
    for number, units in enumerate(DIMS, 1):
        single = keras_ae.SparseAE(
            units,
            architecture="linear",
            likelihood=keras_ae.likelihoods.Gaussian(
                1.0, activation="linear" if number == 1 else "sigmoid"
            ),
            image_shape=SHAPE if number == 1 else (DIMS[0],),
        )
        single.compile(keras.optimizers.Adam(1e-2))
        single.set_weights(layer_weights(stacked, number))
        single.starts_at_mean = False
        singles.append(single)

    history = fit(stacked, images, "pretrain", validation_data=images[:8]).history
    features, held_back = images, images[:8]
    for number, single in enumerate(singles):
        alone = fit(single, features, epochs=2, validation_data=held_back).history
        for name in ("loss", "reconstruction", "sparsity", "mse", "val_loss"):
            phase = history[name][2 * number : 2 * number + 2]
            np.testing.assert_allclose(phase, alone[name], rtol=1e-4, err_msg=name)
        features, held_back = single.encode(features), single.encode(held_back)
    np.testing.assert_allclose(stacked.encode(images), features, rtol=1e-3, atol=1e-4)


@pytest.mark.once
def test_features_are_computed_once_a_phase(images):
    model = make(pretraining_epochs=4)
    shapes = []
    features = model._features

    def counted(data, layer):
        found = features(data, layer)
        shapes.append((layer, found.shape))
        return found

    model._features = counted
    fit(model, images, validation_data=(images[:8],))
    assert shapes == [(1, (32, DIMS[0])), (1, (8, DIMS[0]))]


def test_a_step_of_contrastive_divergence(images):
    """One step of CD-1 by NumPy, from the same uniform numbers."""
    model = make(pretraining="rbm", pretraining_epochs=(1, 0))
    model.compile(pretraining_optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    kernel, hidden_bias = model.encoding[0].get_weights()
    rng = np.random.default_rng(0)
    hidden_bias = rng.normal(0, 0.5, hidden_bias.shape)
    visible_bias = rng.normal(0, 0.5, 120)
    model.encoding[0].set_weights([kernel, hidden_bias])
    model.decoding[0].set_weights([kernel.T, visible_bias])
    seeds = keras.random.SeedGenerator(0)
    seeds.state.assign(model.contrastive_divergence.seed_generator.state)
    noise = to_numpy(keras.random.uniform((32, DIMS[0]), dtype="float32", seed=seeds))

    fit(model, images, "pretrain", batch_size=32)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    v = images.reshape(32, -1) / 255.0
    h = sigmoid(hidden_bias + v @ kernel)
    model_v = sigmoid(visible_bias + (noise < h) @ kernel.T)
    model_h = sigmoid(hidden_bias + model_v @ kernel)
    kernel = kernel + 0.1 * (v.T @ h - model_v.T @ model_h) / 32
    hidden_bias = hidden_bias + 0.1 * (h - model_h).mean(axis=0)
    visible_bias = visible_bias + 0.1 * (v - model_v).mean(axis=0)
    found = layer_weights(model, 1)
    expected = [kernel, hidden_bias, kernel.T, visible_bias]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_boltzmann_machines_learn_to_restore(images):
    model = make(pretraining="rbm", pretraining_epochs=(80, 0))
    model.compile(keras.optimizers.Adam(1e-2))
    mse = fit(model, images, "pretrain").history["mse"]
    assert mse[-1] < 0.6 * mse[0]


def test_pretrain_and_fit_alone(images):
    model = make()
    assert fit(model, images, "pretrain").history["phase"] == [1, 1, 2, 2]
    assert model.next_phase == 3
    with pytest.raises(ValueError, match="All 2 layers are pretrained"):
        fit(model, images, "pretrain")
    for epochs in (2, 1):
        assert fit(model, images, epochs=epochs).history["phase"] == [3] * epochs
    unpretrained = make(pretraining_epochs=0)
    assert fit(unpretrained, images, epochs=2).history["phase"] == [3, 3]


@pytest.mark.once
def test_early_stopping_ends_a_phase_not_the_training(images):
    model = make(pretraining_epochs=30)
    stopping = keras.callbacks.EarlyStopping(
        "loss", mode="min", patience=0, min_delta=1e9
    )
    phases = fit(model, images, epochs=30, callbacks=[stopping]).history["phase"]
    assert sorted(set(phases)) == [1, 2, 3] and len(phases) < 10

    model = make(pretraining_epochs=50, pretraining_patience=2)
    model.compile(keras.optimizers.Adam(0.5))
    history = fit(model, images, "pretrain", validation_data=images[:8]).history
    assert len(history["loss"]) < 100
    last = [
        value
        for value, phase in zip(history["val_loss"], history["phase"], strict=True)
        if phase == 2
    ]
    assert len(last) - 1 - int(np.argmin(last)) == 2


class Crash(keras.callbacks.Callback):
    """Saves the model after an epoch, and stops there."""

    def __init__(self, epoch, path):
        super().__init__()
        self.epoch, self.path = epoch, path

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            self.model.save(self.path)
            raise KeyboardInterrupt


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("pretraining", "epochs"),
    [
        # In the middle of a phase, between two of them, in fine-tuning.
        ("rbm", 1),
        ("sparse", 2),
        pytest.param("sparse", 5, marks=pytest.mark.once),
        pytest.param("sparse", 1, marks=pytest.mark.slow),
        pytest.param("sparse", 3, marks=pytest.mark.slow),
        pytest.param("rbm", 2, marks=pytest.mark.slow),
        pytest.param("rbm", 3, marks=pytest.mark.slow),
        pytest.param("rbm", 5, marks=pytest.mark.slow),
    ],
)
def test_a_run_cut_short_goes_on_as_if_it_had_not_been(
    images, tmp_path, epochs, pretraining
):
    def new():
        sparsity = keras_ae.layers.KLSparsity(momentum=0.5)
        return make(pretraining=pretraining, sparsity=sparsity)

    whole = new()
    rest = fit(whole, images, epochs=2).history["loss"][epochs:]
    path = tmp_path / "model.keras"
    interrupted = new()
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, images, epochs=2, callbacks=[Crash(epochs, path)])
    assert interrupted.reconstruct(images).shape == images.shape
    again = keras.saving.load_model(path)
    assert again.epochs_left(2, epochs) == 6 - epochs
    history = fit(again, images, epochs=2, initial_epoch=epochs)
    assert history.epoch == list(range(epochs, 6))
    np.testing.assert_allclose(history.history["loss"], rest, rtol=1e-5)
    for mine, theirs in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_phases_have_optimizers_of_their_own(images):
    model = make()
    model.compile(
        keras.optimizers.Adam(3e-3), pretraining_optimizer=keras.optimizers.SGD(1e-4)
    )
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            optimizer = self.model.optimizer
            seen.append((type(optimizer).__name__, float(optimizer.learning_rate)))

    fit(model, images, epochs=1, callbacks=[Look()])
    names, rates = zip(*seen, strict=True)
    assert names == ("SGD",) * 4 + ("Adam",)
    np.testing.assert_allclose(rates, [1e-4] * 4 + [3e-3], rtol=1e-5)
    assert len(model.optimizer.variables) > 2 * len(model.trainable_variables)


@pytest.mark.once
def test_callbacks_that_keep_the_best_start_anew(images, tmp_path):
    path = tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.ModelCheckpoint(path, "val_loss", save_best_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    model = make()
    validation = {"validation_data": images[:8]}
    fit(model, images, epochs=2, callbacks=callbacks, **validation)
    # The features of a layer have a smaller loss than all the pixels.
    assert keras.saving.load_model(path).next_phase == 3
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7
    with pytest.raises(ValueError, match="`BackupAndRestore` can't restore"):
        fit(
            make(), images, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "b")]
        )


def test_after_pretraining_the_optimizer_is_that_of_all_layers(images):
    model = make()
    fit(model, images, "pretrain")
    model.optimizer.learning_rate = 0.0
    before = model.encode(images)
    fit(model, images, epochs=1)
    np.testing.assert_array_equal(model.encode(images), before)
    model.train_on_batch(images[:8])


def test_a_phase_can_be_ended(images):
    model = make()
    assert model.next_phase == 1
    model.end_phase()
    assert model.next_phase == 2
    assert fit(model, images).history["phase"] == [2, 2, 3]


@pytest.mark.slow
def test_boltzmann_machines_stop_by_their_error(images):
    """Contrastive divergence rises while the machine gets better."""
    model = make(pretraining="rbm", pretraining_epochs=(30, 0), pretraining_patience=2)
    history = fit(model, images, "pretrain", validation_data=images[:8]).history
    assert min(history["val_mse"]) < 0.9 * history["val_mse"][0]
    best = int(np.argmin(history["val_mse"]))
    assert best + 3 == len(history["val_mse"]) or len(history["val_mse"]) == 30


@pytest.mark.parametrize("pretraining", few_everywhere(["rbm", "denoising"], ["rbm"]))
def test_mixed_precision(images, pretraining):
    model = make(pretraining=pretraining, dtype="mixed_bfloat16")
    history = fit(model, images, epochs=2).history
    assert np.isfinite(history["loss"]).all()


def test_integers_are_pixels_in_a_call_too(images):
    model = make()
    outputs = model(ops.convert_to_tensor(images))
    np.testing.assert_allclose(
        to_numpy(outputs["z"]), model.encode(images), rtol=1e-4, atol=1e-5
    )


@pytest.mark.thorough
def test_data_sets_train_as_arrays_do(images):
    losses = [
        fit(make(), data, epochs=2, validation_data=held_back).history["val_loss"]
        for data, held_back in (
            (images, images[:8]),
            (Batches(images, 8, shuffle=False), Batches(images[:8], 8, shuffle=False)),
        )
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    shuffled = [
        make().fit(Batches(images, 8, seed=3), verbose=0).history["loss"]
        for _ in range(2)
    ]
    assert shuffled[0] == shuffled[1]


@pytest.mark.once
def test_phases_are_validated_and_weighted_as_any_training(images):
    split = fit(make(), images, validation_split=0.25).history
    assert len(split["val_loss"]) == 5
    weighted = fit(make(), images, sample_weight=np.full(32, 2.0)).history
    plain = fit(make(), images).history
    assert weighted["loss"][0] > 1.5 * plain["loss"][0]


@pytest.mark.once
def test_data_that_can_be_read_once_are_refused(images):
    def batches():
        yield from np.split(images, 4)

    with pytest.raises(ValueError, match="more than once. Received: a generator"):
        make().fit(batches(), verbose=0)
    with pytest.raises(ValueError, match="`steps_per_epoch` must be None"):
        make().fit(Batches(images, 8), steps_per_epoch=2, verbose=0)

    class Weighted(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return images[:8], np.zeros(8), np.ones(8)

    with pytest.raises(ValueError, match="`sample_weight` as arrays"):
        make().fit(Weighted(), verbose=0)
    with pytest.raises(ValueError, match="validation_data.* more than once"):
        make().fit(images, validation_data=batches(), verbose=0)
    with pytest.raises(ValueError, match="`validation_steps` must be None"):
        make().fit(
            images, validation_data=Batches(images, 8), validation_steps=2, verbose=0
        )
    model = make(pretraining_epochs=0)
    fit(model, images)
    assert len(model.fit(batches(), verbose=0).history["loss"]) == 1


@pytest.mark.once
def test_counts_may_be_numbers_of_numpy(images):
    arguments = {"layer_dims": [*np.array(DIMS)], "pretraining_epochs": np.int32(1)}
    history = keras_ae.StackedSAE(**arguments).fit(images, verbose=0).history
    assert len(history["loss"]) == len(DIMS) + 1


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_dims": ()}, r"`layer_dims` must be a list of one or more.*\(\)"),
        ({"layer_dims": 200}, "`layer_dims` must be a list"),
        ({"layer_dims": (5, 0)}, "`layer_dims` must be a list"),
        ({"pretraining": "dbn"}, "`pretraining` must be 'sparse'.*'dbn'"),
        ({"pretraining_epochs": -1}, "`pretraining_epochs` must be an integer >= 0"),
        ({"pretraining_epochs": (1,)}, "one for each of the 2 layers"),
        ({"pretraining_patience": -1}, "`pretraining_patience` must be"),
        ({"noise_level": 2.0}, "noise level"),
        ({"gibbs_steps": 0}, "`gibbs_steps` must be"),
        ({"activation": "relu"}, "units of `pretraining='sparse'` are sigmoid"),
        (
            {"pretraining": "rbm", "likelihood": "gaussian"},
            "`likelihood` must be 'bernoulli'",
        ),
        ({"latent_dim": 5}, "`latent_dim` must be left out"),
        ({"widths": (5,)}, "`widths` must be left out"),
        ({"filters": 8}, "`filters` must be a list of integers >= 1"),
        ({"filters": (8, 0)}, "`filters` must be a list"),
        ({"filters": (8,), "strides": 3}, "`strides` must be 1 or 2.*strides=3"),
        ({"filters": (8,), "strides": (1, 2)}, "each of the 1 convolutional layers"),
        ({"strides": 0}, "`strides` must be 1 or 2"),
        ({"kernel_size": 0}, "`kernel_size` must be"),
        ({"filters": (8,), "pretraining": "rbm"}, "`filters` must be empty"),
        ({"filters": (8,), "image_shape": (7,)}, r"`filters` must be empty.*\(7,\)"),
        ({"filters": (8,), "pretraining_epochs": (1, 1)}, "each of the 3 layers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.StackedSAE(**{"layer_dims": DIMS, **arguments})
    with pytest.raises(ValueError, match="`epochs` must be left out"):
        make().pretrain(np.zeros((4, *SHAPE)), epochs=3)


# Convolutional layers

CONVOLUTIONS = {"filters": (4, 3), "strides": (2, 1), "pretraining_epochs": 1}


@pytest.mark.parametrize(
    "pretraining", few_everywhere(["sparse", "denoising", "plain"], ["sparse"])
)
def test_convolutions_learn_one_by_one_too(images, pretraining):
    model = make(pretraining=pretraining, **CONVOLUTIONS)
    watch = Watch(layers=(1, 2, 3, 4))
    before = [layer_weights(model, number) for number in watch.layers]
    history = fit(model, images, epochs=1, callbacks=[watch])
    assert history.history["phase"] == [1, 2, 3, 4, 5]
    assert np.isfinite(history.history["loss"]).all()
    watch.assert_only_layers_of_their_phase_moved(before)


def test_a_convolution_learns_what_pytorch_says(images):
    """The second layer's loss, with its features and its penalty by another library."""
    torch = pytest.importorskip("torch")
    model = make(**CONVOLUTIONS)
    x = np.float32(images[:5] / 255)
    model.training_layer = 2
    weights = [
        [torch.tensor(w) for w in layer.get_weights()]
        for layer in (model.encoding[0], model.encoding[1], model.decoding[1])
    ]

    def convolved(x, kernel, bias, padding):
        x = torch.nn.functional.pad(x, padding)
        return torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias)

    # Twelve by ten pixels by a step of two: the missing row and column lie at the end.
    below = convolved(torch.tensor(x).permute(0, 3, 1, 2), *weights[0], (0, 1, 0, 1))
    below = torch.sigmoid(below[:, :, ::2, ::2])  # (5, 4, 6, 5)
    z = torch.sigmoid(convolved(below, *weights[1], (1, 1, 1, 1)))  # (5, 3, 6, 5)
    restored = torch.sigmoid(convolved(z, *weights[2], (1, 1, 1, 1)))
    errors = torch.sum((restored - below) ** 2, dim=(1, 2, 3)).numpy()
    log_prob = -0.5 * errors - 0.5 * np.log(2 * np.pi) * below[0].numel()
    mean = z.mean(dim=(0, 2, 3)).double().numpy()  # (3,)
    kl = 0.1 * np.log(0.1 / mean) + 0.9 * np.log(0.9 / (1 - mean))

    features = np.moveaxis(below.numpy(), 1, -1)
    outputs = model(features)
    terms = model.terms(features, outputs)
    np.testing.assert_allclose(
        to_numpy(outputs["z"]), np.moveaxis(z.numpy(), 1, -1), rtol=1e-4
    )
    np.testing.assert_allclose(to_numpy(terms["reconstruction"]), -log_prob, rtol=1e-4)
    # 30 places, and a weight of 3.
    np.testing.assert_allclose(
        to_numpy(terms["sparsity"]), np.full(5, 30 * 3 * kl.sum()), rtol=1e-4
    )
    monitors = model.monitors(features, outputs, terms)
    np.testing.assert_allclose(
        to_numpy(monitors["mean_activation"]), z.mean(dim=(1, 2, 3)), rtol=1e-4
    )
    model.training_layer = None


@pytest.mark.parametrize(
    "shape", [(12, 10, 1), (7, 9), (5, 6, 3), (5, 4, 3, 2)], ids=str
)
def test_convolutions_of_any_picture(shape, tmp_path):
    # One batch: each phase compiles its step once.
    x = np.random.default_rng(0).uniform(size=(8, *shape)).astype("float32")
    model = make(
        image_shape=shape, filters=(3, 2), pretraining="denoising", activation="relu"
    )
    fit(model, x, epochs=1)
    assert model.encode(x).shape == (8, DIMS[-1])
    assert model.reconstruct(x).shape == x.shape
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_allclose(loaded.encode(x), model.encode(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        loaded.reconstruct(x), model.reconstruct(x), rtol=1e-5, atol=1e-6
    )
    classifier = loaded.classifier(num_classes=2)
    history = classifier.fit(x, np.arange(8) % 2, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])


@pytest.mark.once
def test_a_layer_wider_than_its_input_is_said():
    with pytest.warns(UserWarning, match=r"Layer 2 has more units \(8\) than inputs"):
        keras_ae.StackedSAE((6, 8), image_shape=(7,))


def test_boltzmann_machines_refuse_what_is_not_binary(images):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        make(pretraining="rbm").fit(np.float32(images / 255) * 3, verbose=0)


# The classifier


def labels_of(images):
    """Whether the bright disc lies in the upper or the lower half."""
    weights = images.reshape(len(images), 12, -1).sum(axis=2, dtype="float64")
    return (weights @ np.arange(12) / weights.sum(axis=1) > 5).astype(int)


@pytest.mark.thorough
def test_classifier_shares_the_encoder_and_learns(images, tmp_path):
    labels = labels_of(images)
    assert 5 < labels.sum() < 27
    model = make()
    fit(model, images, "pretrain")
    classifier = model.classifier(
        num_classes=2, corruption=keras_ae.layers.MaskingCorruption(0.05)
    )
    before = model.encode(images)
    classifier.compile(
        keras.optimizers.Adam(3e-2),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = classifier.fit(
        images, labels, validation_data=(images, labels), epochs=60, verbose=0
    ).history
    assert history["val_accuracy"][-1] > 0.95
    assert (model.encode(images) != before).any()
    probabilities = classifier.predict(images, verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        classifier.predict(np.float32(images / 255), verbose=0),
        probabilities,
        rtol=1e-4,
        atol=1e-6,
    )
    classifier.save(tmp_path / "classifier.keras")
    again = keras.saving.load_model(tmp_path / "classifier.keras")
    assert again.corruption.level == 0.05
    # It goes on where it was.
    assert float(again.optimizer.learning_rate) == pytest.approx(3e-2)
    for saved, loaded in zip(
        classifier.optimizer.variables, again.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(to_numpy(saved), to_numpy(loaded))
    np.testing.assert_array_equal(again.predict(images, verbose=0), probabilities)
    streamed = Batches(images, 8, targets=labels)
    assert again.evaluate(streamed, verbose=0, return_dict=True)["accuracy"] > 0.95
    again.fit(streamed, validation_data=streamed, verbose=0)


@pytest.mark.once
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs labels: one integer from 0 to 2.*y=None"),
        (np.arange(31) % 3, "31 labels for 32 examples"),
        (np.ones(32, int), "two classes at least.*all 1"),
        (np.arange(32), "from 0 to 31"),
        (np.arange(32) % 3 - 1, "from -1 to 1"),
        (np.arange(32) / 32, "Labels must be one integer"),
        (np.eye(3)[np.arange(32) % 3], "numpy.argmax"),
        (["a", "b"] * 16, "dtype <U1"),
    ],
)
def test_labels_that_do_not_fit(images, labels, message):
    classifier = make().classifier(num_classes=3)
    calls = [functools.partial(classifier.fit, verbose=0)]
    if "two classes" not in message:
        calls += [classifier.train_on_batch, classifier.test_on_batch]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(images, labels)


@pytest.mark.once
def test_labels_of_other_kinds(images):
    labels = labels_of(images)
    classifier = make().classifier(num_classes=2)
    classifier.fit(images, labels.tolist(), verbose=0)
    losses = classifier.test_on_batch(images, labels.tolist(), return_dict=True)
    assert classifier.train_on_batch(images, labels.tolist())[0] == pytest.approx(
        losses["loss"], rel=1e-4
    )
    classifier.compile("adam", "categorical_crossentropy")
    classifier.fit(images, 0.9 * np.eye(2)[labels] + 0.05, verbose=0)


def test_a_new_classifier_is_saved_with_its_optimizer(tmp_path, recwarn):
    make().classifier(num_classes=2).save(tmp_path / "classifier.keras")
    recwarn.clear()
    keras.saving.load_model(tmp_path / "classifier.keras")
    assert not [w for w in recwarn if "Skipping variable" in str(w.message)]
    vae = keras_ae.VAE(3, image_shape=SHAPE, architecture="dense")
    with pytest.raises(ValueError, match=r"gives codes \(batch, latent_dim\)"):
        keras_ae.Classifier(vae.encoder, 2)


def test_classifiers_refuse_other_examples(images):
    classifier = make().classifier(num_classes=2)
    with pytest.raises(ValueError, match=r"examples of shape \(12, 10, 1\)"):
        classifier.fit(images[:, :6], labels_of(images), verbose=0)
    with pytest.raises(ValueError, match="31 labels for 32"):
        classifier.fit(
            images,
            labels_of(images),
            validation_data=(images, np.zeros(31)),
            verbose=0,
        )
    with pytest.raises(ValueError, match="needs labels"):
        classifier.fit(Batches(images, 8), verbose=0)
    with pytest.raises(ValueError, match="`num_classes` must be an integer >= 2"):
        make().classifier(num_classes=1)
    with pytest.raises(ValueError, match="before `classifier`"):
        keras_ae.StackedSAE(DIMS).classifier(2)


def test_random_numbers_of_backends_are_seen(images):
    """Uniform numbers drawn in training come from the layer's own seeds."""
    model = make(pretraining="rbm")
    before = ops.convert_to_numpy(
        model.contrastive_divergence.seed_generator.state
    ).copy()
    fit(model, images, "pretrain")
    after = ops.convert_to_numpy(model.contrastive_divergence.seed_generator.state)
    assert (before != after).any()
