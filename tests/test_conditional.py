"""Conditional VAEs: exact ELBOs and classes, labels in every kind of data, errors."""

import keras
import numpy as np
import pytest
from command import keras_ae_command
from contract import few_everywhere
from numerics import to_numpy
from scipy import special, stats
from test_aae import discs

import keras_ae
from keras_ae.datasets import Batches
from keras_ae.probability import likelihoods

SETTINGS = {"num_classes": 4, "widths": (16,), "architecture": "dense"}


class FixedNoise(keras.layers.Layer):
    """Stands in for the noise of the sampling layer."""

    def call(self, mean, log_var):
        noise = keras.ops.convert_to_tensor([1.0, -1.0, 0.5])
        return mean + keras.ops.exp(0.5 * log_var) * noise


def make(images, **kwargs):
    keras.utils.set_random_seed(1)
    model = keras_ae.ConditionalVAE(3, **{**SETTINGS, **kwargs})
    model.sampling = FixedNoise()
    model.build((None, *images.shape[1:]))
    return model


def labels_of(images):
    return np.arange(len(images)) % 4


def linear_gaussian():
    """A model whose posteriors are the exact ones, and the exact p(x | y)."""
    rng = np.random.default_rng(0)
    loadings = np.linalg.qr(rng.normal(size=(6, 2)))[0] * [1.5, 0.7]  # (6, 2)
    offsets = rng.normal(size=(3, 6))  # one a class
    scale = 0.5
    model = keras_ae.ConditionalVAE(
        2,
        num_classes=3,
        image_shape=(6,),
        architecture="linear",
        likelihood=likelihoods.Gaussian(scale=scale),
    )
    # Columns are orthogonal, so the posterior covariance is diagonal.
    precision = (loadings**2).sum(0) / scale**2 + 1
    projection = loadings / scale**2 / precision
    head = {layer.name: layer for layer in model.encoder.layers}
    kernel = np.concatenate([projection, -offsets @ projection])  # (6 + 3, 2)
    head["mean"].set_weights([kernel, np.zeros(2)])
    head["log_var"].set_weights([np.zeros((9, 2)), -np.log(precision)])
    model.decoder.layers[-1].set_weights(
        [np.concatenate([loadings.T, offsets]), np.zeros(6)]
    )
    covariance = loadings @ loadings.T + scale**2 * np.eye(6)
    exact = [stats.multivariate_normal(offset, covariance) for offset in offsets]
    return model, exact


@pytest.mark.parametrize("samples", [1, 10])
def test_classes_and_likelihoods_of_a_linear_gaussian_are_exact(samples):
    model, exact = linear_gaussian()
    x = np.concatenate([e.rvs(3, random_state=1) for e in exact]).astype("float32")
    log_p = np.stack([e.logpdf(x) for e in exact], axis=1)  # (9, 3)
    labels = np.arange(9) % 3
    close = {"rtol": 1e-4, "atol": 1e-3}
    np.testing.assert_allclose(
        model.log_likelihood(x, samples, seed=0, labels=labels),
        log_p[np.arange(9), labels],
        **close,
    )
    # Without labels the classes are summed over.
    np.testing.assert_allclose(
        model.log_likelihood(x, samples, seed=0),
        special.logsumexp(log_p, axis=1) - np.log(3),
        **close,
    )
    np.testing.assert_allclose(
        model.classify(x), special.softmax(log_p, axis=1), **close
    )


def test_posterior_is_told_the_class():
    model, exact = linear_gaussian()
    # What a class's own mean says is nothing but the class.
    x = np.stack([e.mean for e in exact]).astype("float32")
    codes = model.encode(x, labels=[0, 1, 2])
    np.testing.assert_allclose(codes, np.eye(5)[2:], atol=1e-5)
    np.testing.assert_allclose(model.decode(codes), x, atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(x, labels=[0, 1, 2]), x, atol=1e-5)
    assert np.abs(model.encode(x, labels=[1, 2, 0])[:, :2]).max() > 0.1


def test_elbo_of_known_networks(images):
    rng = np.random.default_rng(0)
    wide, narrow = keras.Input((12, 10, 1 + 4)), keras.Input((7,))
    flat = keras.layers.Flatten()(wide)
    heads = {
        name: keras.layers.Dense(3, name=name)(flat) for name in ("mean", "log_var")
    }
    encoder = keras.Model(wide, heads)
    dense = keras.layers.Dense(120, activation="tanh")
    decoder = keras.Model(narrow, keras.layers.Reshape((12, 10, 1))(dense(narrow)))
    for variable in (*encoder.variables, *decoder.variables):
        variable.assign(rng.normal(0, 0.05, variable.shape))
    model = make(
        images, encoder=encoder, decoder=decoder, likelihood="bernoulli", beta=0.5
    )
    labels = labels_of(images)
    found = model.evaluate(images, labels, batch_size=32, verbose=0, return_dict=True)

    x = images / 255.0
    y = np.eye(4)[labels]
    planes = np.broadcast_to(y[:, None, None], (32, 12, 10, 4))
    flat = np.concatenate([x, planes], axis=-1).reshape(32, -1)
    weights = {layer.name: layer for layer in encoder.layers}
    mean, log_var = (
        flat @ to_numpy(weights[name].kernel) + to_numpy(weights[name].bias)
        for name in ("mean", "log_var")
    )
    z = mean + np.exp(0.5 * log_var) * [1.0, -1.0, 0.5]
    code = np.concatenate([z, y], axis=1)
    logits = np.tanh(code @ to_numpy(dense.kernel) + to_numpy(dense.bias))
    p = special.expit(logits).reshape(x.shape)
    log_prob = np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=(1, 2, 3))
    kl = 0.5 * np.sum(np.exp(log_var) + mean**2 - 1 - log_var, axis=1)
    assert found["reconstruction"] == pytest.approx(-log_prob.mean(), rel=1e-5)
    assert found["kl"] == pytest.approx(0.5 * kl.mean(), rel=1e-4)
    assert found["elbo"] == pytest.approx((log_prob - kl).mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(np.mean((x - p) ** 2), rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "architecture"),
    [
        ((6,), "dense"),
        ((9, 7), "dense"),
        ((9, 7), "linear"),
        ((8, 9), "conv"),
        ((8, 9, 3), "residual"),
    ],
)
def test_label_reaches_both_networks(shape, architecture):
    x = np.random.default_rng(0).random((5, *shape), dtype="float32")
    widths = None if architecture == "linear" else (8,)
    model = make(x, architecture=architecture, widths=widths)
    *sizes, channels = shape if len(shape) != 2 else (*shape, 1)
    assert model.encoder.input_shape == (None, *sizes, channels + 4)
    codes = [model.encode(x, labels=np.full(5, label)) for label in range(4)]
    for label, code in enumerate(codes):
        np.testing.assert_array_equal(code[:, 3:], np.eye(4)[[label] * 5])
    same_z = np.concatenate([codes[0][:, :3], codes[1][:, 3:]], axis=1)
    for first, second in (
        (codes[0][:, :3], codes[1][:, :3]),
        (model.decode(codes[0]), model.decode(same_z)),
    ):
        assert np.abs(first - second).max(axis=tuple(range(1, first.ndim))).min() > 1e-4


def test_dense_layers_are_given_a_label_once(images):
    model = make(images)
    kernel = next(w for w in model.encoder.weights if w.name == "kernel")
    assert kernel.shape == (120 + 4, 16)


@pytest.fixture(scope="module")
def halves():
    """A model that has learnt from pictures of two classes."""
    keras.utils.set_random_seed(0)
    x, labels = discs(256)
    model = keras_ae.ConditionalVAE(
        2,
        num_classes=2,
        architecture="dense",
        widths=(32,),
        likelihood=likelihoods.Gaussian(0.2),
    )
    model.compile(keras.optimizers.Adam(5e-3))
    history = model.fit(
        x, labels, epochs=60, batch_size=32, verbose=0, validation_data=discs(64, 2)
    ).history
    assert history["val_elbo"][-1] > history["val_elbo"][0] + 5
    return model


@pytest.mark.slow
def test_the_class_that_is_asked_for_is_drawn(halves):
    x, labels = discs(256)
    for label in (0, 1):
        drawn = halves.sample(64, seed=0, labels=label)
        mean = x[labels == label].mean(axis=0)
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.1)
    drawn = halves.sample(64, seed=0)
    told = halves.classify(drawn).argmax(axis=1)
    assert 10 < told.sum() < 54
    # The same seed gives the same styles in each class: here, how bright.
    bright = [halves.sample(64, seed=0, labels=y).mean(axis=(1, 2)) for y in (0, 1)]
    assert np.corrcoef(*bright)[0, 1] > 0.8


def test_classify_tells_the_classes(halves):
    x, labels = discs(128, seed=1)
    probabilities = halves.classify(x)
    assert probabilities.shape == (128, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.9
    assert probabilities[np.arange(128), labels].mean() > 0.9


def test_without_labels_the_likeliest_class_is_taken(halves):
    x, _ = discs(40, seed=1)
    likeliest = halves.classify(x).argmax(axis=1)
    # Batches of 16 and a shorter last one.
    codes = halves.encode(x, batch_size=16)
    told = halves.encode(x, labels=likeliest)
    np.testing.assert_allclose(codes, told, atol=1e-5)
    restored = halves.reconstruct(x)
    for other in (
        halves.reconstruct(x, 16, labels=likeliest),
        halves.decode(codes),
        halves.predict(x, verbose=0),
    ):
        np.testing.assert_allclose(restored, other, atol=1e-5)
    assert np.abs(restored - halves.reconstruct(x, labels=1 - likeliest)).max() > 0.1


def test_verbs_need_no_labels(halves):
    x, labels = discs(32, seed=1)
    codes = halves.encode(x)
    row = halves.interpolate(x[0], x[1], steps=3)
    np.testing.assert_allclose(row[[0, 2]], halves.reconstruct(x[:2]), atol=1e-5)
    assert halves.traverse(x[0], steps=5).shape == (2, 5, 6, 6)
    vector = halves.attribute_vector(x, labels)
    expected = codes[labels == 1].mean(axis=0) - codes[labels == 0].mean(axis=0)
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert halves.add_attribute(x, vector).shape == x.shape
    assert np.isfinite(halves.log_likelihood(x, samples=5)).all()


def test_likelihood_given_the_class_is_at_least_the_elbo(halves):
    x, labels = discs(64, seed=1)
    elbo = halves.evaluate(x, labels, verbose=0, return_dict=True)["elbo"]
    told = halves.log_likelihood(x, samples=200, seed=0, labels=labels)
    wrong = halves.log_likelihood(x, samples=200, seed=0, labels=1 - labels)
    marginal = halves.log_likelihood(x, samples=200, seed=0)
    assert told.mean() > elbo - 0.5
    expected = np.logaddexp(told, wrong) - np.log(2)
    np.testing.assert_allclose(marginal, expected, atol=0.5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "kind",
    few_everywhere(["array", "data set", "generator", "tf.data"], ["array", "tf.data"]),
)
def test_labels_come_in_any_kind_of_data(images, kind):
    model, labels = make(images), labels_of(images)

    def data():
        if kind == "generator":
            return ((images[i : i + 16], labels[i : i + 16, None]) for i in (0, 16))
        if kind == "data set":
            return Batches(images, 16, targets=labels, shuffle=False)
        tf = pytest.importorskip("tensorflow")
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)

    if kind == "array":
        y = labels.tolist()
        history = model.fit(
            images, y, validation_data=(images, labels), verbose=0
        ).history
        scores = model.evaluate(images, y, verbose=0, return_dict=True)
        told = model.encode(images, labels=y)
        terms = model.terms_of(images, y, seed=0, batch_size=16)
    else:
        history = model.fit(data(), validation_data=data(), verbose=0).history
        scores = model.evaluate(data(), verbose=0, return_dict=True)
        told = model.encode(data())
        terms = model.terms_of(data(), seed=0)
        np.testing.assert_allclose(
            model.log_likelihood(data(), 5, seed=0, chunk_size=80),
            model.log_likelihood(images, 5, seed=0, chunk_size=80, labels=labels),
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            model.reconstruct(data()), model.decode(told), atol=1e-5
        )
        np.testing.assert_allclose(
            model.classify(data()), model.classify(images), atol=1e-5
        )
        np.testing.assert_allclose(
            model.predict(data(), verbose=0), model.decode(told), atol=1e-5
        )
        draws = model.sample_posterior(images, seed=0, batch_size=16, labels=labels)
        for drawn in (
            model.sample_posterior(data(), seed=0),
            model.codes_to_fit(data(), seed=0),
        ):
            np.testing.assert_allclose(drawn, draws, atol=1e-5)
    expected = model.terms_of(images, labels, seed=0, batch_size=16)
    for name, values in expected.items():
        np.testing.assert_allclose(terms[name], values, rtol=1e-5)
    assert np.isfinite([*history["val_elbo"], scores["elbo"]]).all()
    np.testing.assert_array_equal(told[:, 3:], np.eye(4)[labels])


def test_labels_decide_the_loss(images):
    model, labels = make(images), labels_of(images)
    losses = [
        model.evaluate(images, y, verbose=0, return_dict=True)["loss"]
        for y in (labels, labels, (labels + 1) % 4)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_saving_keeps_classes(images, tmp_path):
    model, labels = make(images), labels_of(images)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.num_classes == 4 and again.code_dim == 7
    for verb in (
        lambda m: m.encode(images, labels=labels),
        lambda m: m.classify(images),
        lambda m: m.sample(5, seed=0, labels=2),
    ):
        np.testing.assert_array_equal(verb(again), verb(model))


def test_a_later_batch_with_a_wrong_label_is_seen(images):
    labels = labels_of(images)
    labels[20] = 7
    model, data = make(images), Batches(images, 16, targets=labels, shuffle=False)
    for verb in (
        model.encode,
        model.reconstruct,
        model.log_likelihood,
        model.sample_posterior,
    ):
        with pytest.raises(ValueError, match="from 0 to 3. Received: labels from 0 to"):
            verb(data)
    unknown = np.isnan(model.predict(data, verbose=0)).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(unknown), [20])
    with pytest.warns(UserWarning, match="The loss is nan since epoch 1.*wrong labels"):
        model.fit(data, verbose=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs one integer label .* from 0 to 3. Received: no labels; pass `y`"),
        (np.full(32, -1), "from 0 to 3. Received: labels from -1 to -1"),
        (np.full(32, 4), "labels from 4 to 4"),
        (np.full(32, 0.5), "labels from 0.5 to 0.5"),
        (np.zeros(31, int), r"labels of shape \(31,\) .* for 32 examples"),
        (np.eye(4)[np.arange(32) % 4], r"shape \(32, 4\).*numpy.argmax\(y, axis=1\)"),
        (np.full(32, "cat"), "dtype <U3"),
    ],
)
def test_bad_labels(images, labels, message):
    model = make(images)
    calls = [model.fit, model.evaluate, model.train_on_batch, model.test_on_batch]
    if labels is not None:
        calls += [
            lambda x, y, verb=verb: verb(x, labels=y)
            for verb in (model.encode, model.reconstruct, model.log_likelihood)
        ]
    for call in calls:
        with pytest.raises(ValueError, match=message) as caught:
            call(images, labels)
        assert "\n" not in str(caught.value)


def test_data_without_labels_are_refused(images):
    model, labels = make(images), labels_of(images)
    pictures = Batches(images, 16)
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="no labels; pass `y`, or a data set"):
            call(pictures)
    for held_back in (images, (images,), pictures):
        with pytest.raises(ValueError, match="from 0 to 3. Received: no labels; pass"):
            model.fit(images, labels, validation_data=held_back)
    for label in (4, -1, [0, 1], 0.5):
        with pytest.raises(ValueError, match="from 0 to 3. Received: labels"):
            model.sample(3, labels=label)
    with pytest.raises(ValueError, match="`labels` belong to an array.*a Batches"):
        model.encode(pictures, labels=labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "`num_classes` must be an integer >= 2. Received: .*1"),
        ({"num_classes": 0}, "`num_classes` must be an integer >= 2. Received: .*0"),
        ({"num_classes": 2.5}, "`num_classes` must be an integer"),
        (
            {"encoder": keras.Sequential([keras.layers.Flatten()])},
            r"`encoder` must be .* maps \(batch, 12, 10, 5\) to 'mean' \(batch, 3\)",
        ),
        (
            {"decoder": keras.Sequential([keras.layers.Dense(3)])},
            r"`decoder` must be .* maps \(batch, 7\) to \(batch, 12, 10, 1\)",
        ),
    ],
)
def test_bad_arguments(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(images, **arguments)


def test_training_by_the_cli_is_refused(tmp_path):
    result = keras_ae_command("train", "conditionalvae", tmp_path)
    assert result.exit_code != 0
    assert "ConditionalVAE learns from labels" in result.output
