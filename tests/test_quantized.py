"""Quantizers and their autoencoders, against NumPy."""

import keras
import numpy as np
import pytest
import scipy
from contract import few_everywhere
from keras import ops
from numerics import gradient, to_numpy

import keras_ae
from keras_ae import backend
from keras_ae.models.quantized.quantizers import (
    LookupFreeQuantizer,
    ResidualQuantizer,
    ScalarQuantizer,
    VectorQuantizer,
    code_usage,
)
from keras_ae.nn import networks

DECAY = 0.9


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def nearest(x, codebook):
    """Numbers of the nearest codes, by all distances."""
    return np.linalg.norm(x[..., None, :] - codebook, axis=-1).argmin(axis=-1)


def vector_quantizer(num_codes=5, **options):
    """A built quantizer of three numbers."""
    layer = VectorQuantizer(num_codes, **{"decay": DECAY, "seed": 1, **options})
    layer.build((None, 3))
    return layer


def begin(layer, codebook, counts):
    """Puts a quantizer in the middle of its training."""
    layer.codebook.assign(codebook)
    layer.counts.assign(counts)
    layer.started.assign(True)
    if layer.learning == "ema":
        layer.sums.assign(codebook * np.asarray(counts)[:, None])


def stepper(layer):
    """A compiled function that takes one training step of a quantizer alone."""

    def step(x):
        outputs = layer(x, training=True)
        layer.update(outputs)
        layer.end_step()
        return outputs["quantized"]

    step = backend.compiled(step, layer.variables)
    return lambda x: step(ops.convert_to_tensor(x))


def update(layer, x):
    """Takes one step; returns the codebook after it."""
    stepper(layer)(x)
    return codebook_of(layer)


def codebook_of(layer):
    return np.copy(to_numpy(layer.codebook))


def make(Model=keras_ae.VQVAE, features=6, **options):
    """A small model of vectors, two positions of three numbers."""
    keras.utils.set_random_seed(3)
    settings = {"architecture": "dense", "widths": (16,), "positions": 2}
    if Model is keras_ae.FSQVAE:
        settings["levels"] = (4, 3)
    elif Model is keras_ae.LFQVAE:
        settings["bits"] = 3
    else:
        settings |= {"latent_dim": 3, "num_codes": 8}
    model = Model(**{**settings, **options})
    if features:
        model.build((None, features))
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).random((32, 6), dtype="float32")


def test_nearest_codes():
    codebook = vectors(7, 3)
    layer = vector_quantizer(7)
    begin(layer, codebook, np.ones(7))
    x = vectors(4, 5, 2, 3, seed=1)
    outputs = layer(ops.convert_to_tensor(x))
    tokens = nearest(x, codebook)
    np.testing.assert_array_equal(to_numpy(outputs["tokens"]), tokens)
    for name in ("quantized", "codes"):
        np.testing.assert_array_equal(to_numpy(outputs[name]), codebook[tokens])
    np.testing.assert_array_equal(to_numpy(layer.lookup(tokens)), codebook[tokens])


@pytest.mark.parametrize(
    "layer",
    [
        VectorQuantizer(6, seed=0),
        ResidualQuantizer(3, 6, seed=0),
        VectorQuantizer(6, "gradient", seed=0),
    ],
    ids=["vector", "residual", "gradient"],
)
def test_gradients_pass_straight_through(layer):
    layer.build((None, 3))
    weights = ops.convert_to_tensor(vectors(4, 3, seed=2))

    def loss(x):
        return ops.sum(weights * layer(x)["quantized"], axis=-1)

    # As if the code were the vector: the gradient for either is `weights`.
    np.testing.assert_allclose(gradient(loss, vectors(4, 3)), weights, rtol=1e-6)


def test_one_step_of_the_running_averages():
    codebook, counts = vectors(5, 3), np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    layer = vector_quantizer(reset_threshold=0.0)
    begin(layer, codebook, counts)
    x = vectors(11, 3, seed=1)
    received = update(layer, x)

    assigned = np.eye(5)[nearest(x, codebook)]  # (11, 5)
    averages = DECAY * counts + (1 - DECAY) * assigned.sum(axis=0)
    sums = DECAY * codebook * counts[:, None] + (1 - DECAY) * assigned.T @ x
    total = averages.sum()
    smoothed = (averages + 1e-5) / (total + 5e-5) * total
    np.testing.assert_allclose(to_numpy(layer.counts), averages, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.sums), sums, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(received, sums / smoothed[:, None], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_the_start_is_k_means_of_the_first_batch(codebook):
    centres = 10 * vectors(4, 3)
    which = np.arange(200) % 4
    x = centres[which] + 0.1 * vectors(200, 3, seed=1)
    layer = vector_quantizer(20, codebook=codebook)
    codes = update(layer, x)
    # Every code is the mean of the vectors that are nearest to it.
    tokens = nearest(x, codes)
    means = np.stack([x[tokens == code].mean(axis=0) for code in np.unique(tokens)])
    np.testing.assert_allclose(codes[np.unique(tokens)], means, atol=0.03)
    assert set(nearest(codes, centres)) == {0, 1, 2, 3}
    assert to_numpy(layer.started)
    # The second batch does not start it again: codes that it does not use stay.
    again = update(layer, x + 100.0)
    assert (np.abs(again - codes).max(axis=1) < 1e-3).sum() > 10


def test_a_start_from_too_few_vectors_repeats_them():
    layer = vector_quantizer(8)
    x = vectors(3, 3)
    codes = update(layer, x)
    which = nearest(codes, x)
    assert set(which) == {0, 1, 2}
    np.testing.assert_allclose(codes, x[which], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_dead_codes_come_back(codebook):
    codes = vectors(6, 3)
    codes[4:] = 1e3  # far from any vector
    layer = vector_quantizer(6, codebook=codebook)
    begin(layer, codes, np.full(6, 10.0))
    x = vectors(60, 3, seed=1)
    step, steps = stepper(layer), 0
    while (np.abs(codebook_of(layer)) > 100).any():
        before = codebook_of(layer)
        step(x)
        after = codebook_of(layer)
        steps += 1
        assert steps < 100
    # 10 * 0.9 ** steps falls below 0.05 times the mean of about 10.
    assert steps == pytest.approx(np.log(0.05) / np.log(0.9), abs=2)
    # Each became a vector of the batch; the others were left where they were.
    for code in after[4:]:
        assert np.isclose(np.abs(x - code).max(axis=1), 0, atol=1e-6).any()
    if codebook == "gradient":
        np.testing.assert_array_equal(after[:4], before[:4])
    counts = to_numpy(layer.counts)
    update(layer, x)
    assert (to_numpy(layer.counts)[4:] > counts[4:]).any()


def test_live_codes_are_not_reset():
    layer = vector_quantizer(4, reset_threshold=0.05)
    codes = np.diag([5.0, 5.0, 5.0]).astype("float32")
    codes = np.concatenate([codes, -5 * np.ones((1, 3), "float32")])
    begin(layer, codes, np.full(4, 5.0))
    x = np.repeat(codes, 5, axis=0)
    step = stepper(layer)
    for _ in range(5):
        step(x)
    np.testing.assert_allclose(codebook_of(layer), codes, rtol=1e-4)


def test_residuals_shrink():
    layer = ResidualQuantizer(4, 16, seed=0)
    layer.build((None, 3))
    x = vectors(400, 3)
    # Each quantizer starts from what the ones before it leave.
    stepper(layer)(x)
    outputs = layer(ops.convert_to_tensor(x))
    del outputs["steps"]
    outputs = {name: to_numpy(value) for name, value in outputs.items()}
    residuals, codes = outputs["vectors"], outputs["codes"]  # (400, 4, 3)
    np.testing.assert_array_equal(residuals[:, 0], x)
    for number, quantizer in enumerate(layer.quantizers):
        book = to_numpy(quantizer.codebook)
        tokens = nearest(residuals[:, number], book)
        np.testing.assert_array_equal(outputs["tokens"][:, number], tokens)
        np.testing.assert_array_equal(codes[:, number], book[tokens])
    np.testing.assert_allclose(residuals[:, 1:], (residuals - codes)[:, :-1], atol=1e-6)
    np.testing.assert_allclose(outputs["quantized"], codes.sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(
        to_numpy(layer.lookup(ops.convert_to_tensor(outputs["tokens"], "int32"))),
        outputs["quantized"],
        atol=1e-5,
    )
    left = np.square(residuals).mean(axis=(0, 2))
    assert (left[1:] < 0.5 * left[:-1]).all()


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2,), (3, 4), (7, 2, 6)])
def test_scalar_quantizer_has_every_code_and_counts_them(levels):
    layer = ScalarQuantizer(levels)
    assert layer.num_codes == np.prod(levels)
    tokens = np.arange(layer.num_codes)
    codes = to_numpy(layer.lookup(ops.convert_to_tensor(tokens, "int32")))
    # By hand: whole numbers about 0, the first one the fastest, divided by L // 2.
    values = [(np.arange(level) - level // 2) / (level // 2) for level in levels]
    grid = np.stack(np.meshgrid(*values, indexing="ij"), axis=-1)
    grid = grid.transpose(*reversed(range(len(levels))), -1).reshape(-1, len(levels))
    np.testing.assert_allclose(codes, grid, atol=1e-6)
    # Numbers far out and near 0 reach all of them, and no others.
    x = np.random.default_rng(0).normal(0, 3, (20_000, len(levels))).astype("float32")
    outputs = layer(ops.convert_to_tensor(x))
    received = to_numpy(outputs["tokens"]).astype(int)
    np.testing.assert_allclose(
        to_numpy(outputs["quantized"]), grid[received], atol=1e-6
    )
    for number, level in enumerate(levels):
        assert len(np.unique(grid[received][:, number])) == level
    # Each number on its own, in order: a larger one never has a smaller code.
    for column, quantized in zip(x.T, grid[received].T, strict=True):
        assert (np.diff(quantized[np.argsort(column)]) >= 0).all()


def test_scalar_quantizer_rounds_the_bounded_numbers():
    levels = np.array([8, 5])
    x = vectors(50, 2)
    scale = (levels - 1) * (1 - 1e-3) / 2
    offset = np.array([0.5, 0.0])
    bounded = np.tanh(x + np.tan(offset / scale)) * scale - offset
    layer = ScalarQuantizer((8, 5))
    received = to_numpy(layer(ops.convert_to_tensor(x))["quantized"])
    np.testing.assert_allclose(
        received, np.round(bounded) / np.array([4, 2]), atol=1e-6
    )
    slope = gradient(lambda x: layer(x)["quantized"], x)
    expected = (1 - np.tanh(x + np.tan(offset / scale)) ** 2) * scale / [4, 2]
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-5)


def test_lookup_free_quantizer_keeps_signs():
    layer = LookupFreeQuantizer(3)
    assert layer.num_codes == 8
    x = vectors(50, 4, 3)
    outputs = layer(ops.convert_to_tensor(x))
    tokens = to_numpy(outputs["tokens"]).astype(int)
    np.testing.assert_array_equal(tokens, (x > 0) @ [1, 2, 4])
    np.testing.assert_array_equal(to_numpy(outputs["quantized"]), np.sign(x))
    everything = to_numpy(layer.lookup(ops.arange(8, dtype="int32")))
    assert len(np.unique(everything, axis=0)) == 8
    np.testing.assert_array_equal(everything[tokens], np.sign(x))
    slope = gradient(lambda x: layer(x)["quantized"], x)
    np.testing.assert_allclose(slope, np.ones_like(x))


def test_lookup_free_terms_are_those_of_a_softmax_over_all_codes():
    """Of codes that are listed, as the paper writes them."""
    layer = LookupFreeQuantizer(2, 0.5, entropy_weight=0.3, temperature=2.0)
    x = vectors(40, 5, 2)
    received = layer.terms(layer(ops.convert_to_tensor(x)))
    codes = to_numpy(layer.lookup(ops.arange(4, dtype="int32")))  # (4, 2)
    squares = np.square(x[:, :, None] - codes).sum(axis=-1)  # (40, 5, 4)
    shares = scipy.special.softmax(-squares / 2.0, axis=-1)
    of_each = scipy.stats.entropy(shares, axis=-1)  # (40, 5)
    # The bits of all vectors as if they were independent.
    bits = shares.mean(axis=(0, 1)) @ (codes > 0)  # (2,)
    of_all = scipy.stats.entropy([bits, 1 - bits], axis=0).sum()
    assert of_all >= scipy.stats.entropy(shares.mean(axis=(0, 1)))
    expected = {
        "commitment": 0.5 * np.square(np.abs(x) - 1).sum(axis=(1, 2)),
        "entropy": 0.3 * (of_each - of_all).sum(axis=1),
    }
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(to_numpy(received[name]), value, rtol=1e-4)


def test_entropy_brings_bits_into_use():
    """From an encoder all of whose bits are 1."""
    x = np.random.default_rng(0).random((256, 6), dtype="float32")
    used = []
    for weight in (0.0, 1.0):
        model = make(keras_ae.LFQVAE, bits=4, positions=1, entropy_weight=weight)
        model.encoder.layers[-1].bias.assign(np.full(4, 2.0))
        model.compile(keras.optimizers.Adam(1e-2))
        model.fit(x, batch_size=64, epochs=30, verbose=0)
        used.append(len(np.unique(model.tokens(x))))
    assert used[0] < 4 and used[1] > 5


def test_perplexity_and_usage():
    tokens = np.array([[0, 0, 3], [3, 5, 0]])
    shares = np.array([3, 2, 1]) / 6
    perplexity, usage = code_usage(ops.convert_to_tensor(tokens, "int32"), 8)
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert float(to_numpy(perplexity)) == pytest.approx(expected, rel=1e-5)
    assert float(to_numpy(usage)) == pytest.approx(3 / 8)
    everything = ops.arange(8, dtype="int32")
    assert to_numpy(code_usage(everything, 8)[0]) == pytest.approx(8, rel=1e-5)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
@pytest.mark.parametrize("Model", [keras_ae.VQVAE, keras_ae.ResidualVQVAE])
def test_terms_and_monitors(Model, codebook, x):
    options = {"num_quantizers": 2} if Model is keras_ae.ResidualVQVAE else {}
    model = make(Model, codebook=codebook, commitment_weight=0.4, **options)
    model.fit(x, epochs=2, verbose=0)
    tensor = ops.convert_to_tensor(x)
    outputs = model(tensor)
    received = model.terms(tensor, outputs)
    received |= model.monitors(tensor, outputs, received)

    residual = to_numpy(model.encoder(x)).reshape(32, 2, 3)
    books = getattr(model.quantizer, "quantizers", [model.quantizer])
    distance, code, figures = np.zeros(32), 0.0, []
    for book in books:
        entries = to_numpy(book.codebook)
        tokens = nearest(residual, entries)
        distance += np.square(residual - entries[tokens]).sum(axis=(1, 2))
        code = code + entries[tokens]
        residual = residual - entries[tokens]
        shares = np.bincount(tokens.ravel(), minlength=8) / tokens.size
        used = shares[shares > 0]
        figures.append((np.exp(-(used * np.log(used)).sum()), len(used) / 8))
    decoded = to_numpy(model.decoder(code.reshape(32, 6).astype("float32")))
    expected = {
        "reconstruction": 0.5 * np.square(x - decoded).sum(axis=1)
        + 3 * np.log(2 * np.pi),
        "commitment": 0.4 * distance,
        "mse": np.square(x - decoded).mean(axis=1),
        "perplexity": np.full(32, np.mean([f[0] for f in figures])),
        "usage": np.full(32, np.mean([f[1] for f in figures])),
    }
    if codebook == "gradient":
        expected["codebook"] = distance
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            to_numpy(received[name]), value, rtol=1e-3, atol=1e-4, err_msg=name
        )


def test_what_learns_from_which_term(x):
    """The commitment moves the encoder alone, the codebook's term the codebook."""
    model = make(codebook="gradient")
    model.fit(x, verbose=0)
    tensor = ops.convert_to_tensor(x)
    z = ops.convert_to_tensor(to_numpy(model.encoder(x)).astype("float32"))

    def term(name):
        def loss(z):
            grid = ops.reshape(z, (-1, 2, 3))
            outputs = model.quantizer(grid)
            z = ops.reshape(outputs["quantized"], (-1, 6))
            outputs["parameters"] = model.decoder(z)
            # PyTorch asks that every gradient depends on z.
            return model.terms(tensor, outputs)[name] + 0.0 * ops.sum(z)

        return gradient(loss, z)

    codes = to_numpy(model.code(ops.convert_to_tensor(x)))
    expected = 2 * 0.25 * (to_numpy(z) - codes)
    np.testing.assert_allclose(term("commitment"), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(term("codebook"), 0)
    assert np.abs(term("reconstruction")).max() > 0


def test_a_gradient_codebook_follows_its_vectors(x):
    model = make(codebook="gradient", reset_threshold=0.0)
    model.fit(x, verbose=0)
    model.compile(keras.optimizers.SGD(0.1))
    model.encoder.trainable = model.decoder.trainable = False
    model.compile(keras.optimizers.SGD(0.1))
    before = codebook_of(model.quantizer)
    z = to_numpy(model.encoder(x)).reshape(-1, 3)
    tokens = nearest(z, before)
    model.train_on_batch(x)
    pull = np.stack(
        [2 * (z[tokens == code] - before[code]).sum(axis=0) for code in range(8)]
    )
    # The loss is a mean over 32 examples.
    np.testing.assert_allclose(
        codebook_of(model.quantizer), before + 0.1 * pull / 32, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_one_training_step_is_one_update(codebook, x):
    model = make(codebook=codebook, decay=DECAY, reset_threshold=0.0)
    model.compile(keras.optimizers.SGD(0.0))
    model.train_on_batch(x)
    counts = np.copy(to_numpy(model.quantizer.counts))
    tokens = model.tokens(x)
    # At the start each code counts as one vector.
    assert counts.sum() == pytest.approx(DECAY * 8 + (1 - DECAY) * 64, rel=1e-4)
    model.train_on_batch(x)
    used = np.bincount(tokens.ravel(), minlength=8)
    np.testing.assert_allclose(
        to_numpy(model.quantizer.counts),
        DECAY * counts + (1 - DECAY) * used,
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    "Model", few_everywhere([keras_ae.VQVAE, keras_ae.ResidualVQVAE], [keras_ae.VQVAE])
)
def test_evaluation_does_not_move_the_codebook(Model, x):
    model = make(Model)
    model.fit(x, verbose=0)
    before = [np.copy(to_numpy(v)) for v in model.quantizer.variables]
    model.evaluate(x, verbose=0)
    model.test_on_batch(x)
    model.predict(x, verbose=0)
    model.encode(x)
    model.tokens(x)
    model.quantizer.trainable = False
    model.train_on_batch(x)
    for mine, theirs in zip(before, model.quantizer.variables, strict=True):
        np.testing.assert_array_equal(mine, to_numpy(theirs))


def test_the_start_is_compiled_with_the_first_step(x):
    model = make(num_codes=16)
    untrained = np.copy(to_numpy(model.encoder(x))).reshape(-1, 3)
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(x, verbose=0)
    codes = codebook_of(model.quantizer)
    tokens = nearest(untrained, codes)
    assert len(np.unique(tokens)) > 12
    for code in np.unique(tokens):
        members = untrained[tokens == code]
        np.testing.assert_allclose(codes[code], members.mean(axis=0), atol=0.1)


@pytest.mark.thorough
@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_training_uses_the_codes(codebook):
    """Sixteen codes for data of eight kinds: each kind gets one or more."""
    kinds = np.random.default_rng(2).random((8, 6)).astype("float32")
    which = np.arange(256) % 8
    noise = np.random.default_rng(3).normal(0, 0.02, (256, 6))
    x = np.clip(kinds[which] + noise, 0, 1).astype("float32")
    model = make(positions=1, codebook=codebook, num_codes=16, decay=DECAY)
    model.compile(keras.optimizers.Adam(0.01))
    logs = model.fit(x, epochs=40, batch_size=64, verbose=0).history
    assert logs["usage"][-1] >= 0.5
    assert logs["perplexity"][-1] > 6
    assert logs["mse"][-1] < 0.3 * kinds.var(axis=0).mean()


def test_saved_models_go_on_alike(x, tmp_path):
    model = make(keras_ae.ResidualVQVAE, num_quantizers=2, decay=DECAY)
    # Every code dies all the time, so that what replaces them is drawn at each step.
    for quantizer in model.quantizer.quantizers:
        quantizer.reset_threshold = 0.9
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for quantizer in again.quantizer.quantizers:
        quantizer.reset_threshold = 0.9
    for one in (model, again):
        one.fit(x, epochs=3, shuffle=False, verbose=0)
    for mine, theirs in zip(
        model.quantizer.variables, again.quantizer.variables, strict=True
    ):
        np.testing.assert_allclose(
            to_numpy(mine), to_numpy(theirs), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    "Model",
    [keras_ae.VQVAE, keras_ae.ResidualVQVAE, keras_ae.FSQVAE, keras_ae.LFQVAE],
)
@pytest.mark.parametrize("architecture", few_everywhere(["conv", "residual"], ["conv"]))
@pytest.mark.parametrize("image_shape", [(13, 18), (10, 7, 3)])
def test_tokens_of_pictures(Model, architecture, image_shape):
    options = {"architecture": architecture, "widths": (4, 8), "positions": None}
    model = make(Model, None, image_shape=image_shape, **options)
    pictures = np.random.default_rng(0).random((5, *image_shape)).astype("float32")
    height, width = (-(-size // 4) for size in image_shape[:2])
    several = (4,) if Model is keras_ae.ResidualVQVAE else ()
    tokens = model.tokens(pictures)
    assert tokens.shape == (5, height, width, *several) == (5, *model.token_shape)
    assert tokens.dtype == "int32"
    codes = model.encode(pictures)
    assert codes.shape == (5, height * width * model.latent_dim)
    restored = model.reconstruct(pictures)
    assert restored.shape == pictures.shape
    np.testing.assert_array_equal(model.decode(codes), restored)
    np.testing.assert_allclose(model.decode_tokens(tokens), restored, atol=1e-5)


def test_each_place_of_the_grid_sees_its_own_part_of_the_picture():
    model = make(
        keras_ae.FSQVAE,
        None,
        image_shape=(32, 32),
        architecture="conv",
        positions=None,
        widths=(4, 8),
    )
    picture = np.zeros((1, 32, 32), "float32")
    spot = picture.copy()
    spot[0, 2:6, 26:30] = 1.0
    moved = np.abs(to_numpy(model.encoder(spot)) - to_numpy(model.encoder(picture)))
    moved = moved.reshape(8, 8, 2).max(axis=-1)
    assert moved[:3, 5:].max() > 0
    moved[:4, 4:] = 0
    assert moved.max() == 0


def test_grid_follows_widths():
    for widths, expected in ((None, (7, 7)), ((4,), (14, 14)), ((4, 4, 4), (4, 4))):
        assert keras_ae.FSQVAE(image_shape=(28, 28), widths=widths).grid == expected
    assert networks.grid((5, 9), (1, 1, 1)) == (1, 2)


def test_dense_positions(x):
    model = make(positions=4)
    assert model.tokens(x).shape == (32, 4)
    assert model.encode(x).shape == (32, 12) == (32, model.code_dim)
    np.testing.assert_allclose(
        model.decode_tokens(model.tokens(x)), model.reconstruct(x), atol=1e-6
    )
    assert make(positions=None).tokens(x).shape == (32, 1)


def test_own_networks_on_a_grid(images, tmp_path):
    encoder = keras.Sequential(
        [
            keras.layers.Conv2D(5, 4, 4, padding="same"),
            keras.layers.Flatten(),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.layers.Reshape((3, 3, 5)),
            keras.layers.Conv2DTranspose(1, 4, 4),
            keras.layers.Cropping2D(((0, 0), (1, 1))),
        ]
    )
    model = keras_ae.VQVAE(5, 16, architecture="conv", encoder=encoder, decoder=decoder)
    model.fit(images, verbose=0)
    assert model.tokens(images).shape == (32, 3, 3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.tokens(images), model.tokens(images))


@pytest.mark.parametrize(
    ("Model", "arguments", "message"),
    [
        (keras_ae.VQVAE, {"num_codes": 0}, "`num_codes` must be an integer >= 1"),
        (keras_ae.VQVAE, {"codebook": "kmeans"}, "`codebook` must be .*'kmeans'"),
        (keras_ae.VQVAE, {"decay": 1.0}, "`decay` must be .*decay=1.0"),
        (keras_ae.VQVAE, {"reset_threshold": -0.1}, "`reset_threshold` must be"),
        (keras_ae.VQVAE, {"commitment_weight": -1}, "`commitment_weight` must be >= 0"),
        (keras_ae.VQVAE, {"positions": 0}, "`positions` must be an integer >= 1"),
        (keras_ae.ResidualVQVAE, {"num_quantizers": 0}, "`num_quantizers` must be"),
        (keras_ae.FSQVAE, {"levels": ()}, "`levels` must be a list"),
        (keras_ae.FSQVAE, {"levels": 8}, "`levels` must be a list.*levels=8"),
        (keras_ae.FSQVAE, {"levels": (8, 1)}, r"`levels\[1\]` must be .*>= 2"),
        (keras_ae.FSQVAE, {"levels": (8, 5.5)}, r"`levels\[1\]` must be an integer"),
        (keras_ae.FSQVAE, {"levels": [100] * 4}, "at most 1,048,576 codes"),
        (keras_ae.FSQVAE, {"latent_dim": 4}, "`latent_dim` must be left out: .*levels"),
        (keras_ae.LFQVAE, {"bits": 0}, "`bits` must be an integer >= 1"),
        (keras_ae.LFQVAE, {"bits": 21}, "`bits` must be at most 20. .*bits=21"),
        (keras_ae.LFQVAE, {"entropy_weight": -1}, "`entropy_weight` must be >= 0"),
        (keras_ae.LFQVAE, {"temperature": 0}, "`temperature` must be > 0"),
        (keras_ae.LFQVAE, {"latent_dim": 4}, "`latent_dim` must be left out: .*bits"),
        (
            keras_ae.VQVAE,
            {"architecture": "conv", "features": None, "image_shape": (16, 16)},
            "`positions` must be None for convolutions.*positions=2",
        ),
    ],
)
def test_bad_arguments(Model, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(Model, **arguments)


def test_a_codebook_larger_than_the_first_batch_is_filled_by_later_ones(x):
    model = make(num_codes=40)
    model.fit(x, batch_size=16, epochs=30, verbose=0)
    assert len(np.unique(to_numpy(model.quantizer.codebook), axis=0)) == 40


def test_without_replacement_a_codebook_larger_than_the_first_batch_is_refused(x):
    message = "`num_codes` must be at most .*num_codes=40 and a batch of 16 examples of"
    model = make(num_codes=40, reset_threshold=0.0)
    with pytest.raises(ValueError, match=message + " 2 vectors each; pass a larger"):
        model.fit(x, batch_size=16, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.fit(x, None, 16)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(x[:16])
    with pytest.raises(ValueError, match=message):
        model.fit((x[i : i + 16] for i in (0, 16)), verbose=0)
    model.fit((x[i : i + 20] for i in (0, 12)), verbose=0)
    # A last batch of fewer vectors trains.
    model.fit(x, batch_size=24, verbose=0)


def test_bad_tokens(x):
    model = make()
    for tokens, message in (
        (np.zeros((3, 3), int), r"shape \(n, 2\). Received: \(3, 3\)"),
        (np.zeros(2, int), r"shape \(n, 2\). Received: \(2,\)"),
        (np.zeros((0, 2), int), r"shape \(n, 2\). Received: \(0, 2\)"),
        (np.full((3, 2), 8), "integers from 0 to 7. Received: integers from 8 to 8"),
        (np.full((3, 2), -1), "integers from 0 to 7. Received: integers from -1"),
        (np.zeros((3, 2)), "integers from 0 to 7. Received: dtype=float64"),
    ):
        with pytest.raises(ValueError, match=message):
            model.decode_tokens(tokens)
    unbuilt = make(features=None)
    with pytest.raises(ValueError, match="`decode_tokens`"):
        unbuilt.decode_tokens(np.zeros((3, 2), int))


@pytest.mark.parametrize(
    "layer",
    [
        VectorQuantizer(3, "gradient", 0.9, 0.1, 4),
        ResidualQuantizer(2, 3, "gradient", 0.9, 0.1, 4),
        ScalarQuantizer((3, 4)),
        LookupFreeQuantizer(5, 0.5, 0.2, 0.7),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_keep_their_arguments(layer):
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert keras.saving.serialize_keras_object(layer)["registered_name"].startswith(
        "keras_ae>"
    )


def test_two_quantizers_draw_different_vectors():
    layer = ResidualQuantizer(2, 4, seed=3)
    layer.build((None, 2))
    draws = [
        to_numpy(backend.compiled(q.draw, q.variables)(ops.convert_to_tensor(x)))
        for q, x in zip(layer.quantizers, [vectors(50, 2)] * 2, strict=True)
    ]
    assert (draws[0] != draws[1]).any()
    assert len(np.unique(draws[0], axis=0)) == 4


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", few_everywhere(["FSQVAE", "ResidualVQVAE"], ["ResidualVQVAE"])
)
def test_samples_are_decoded_tokens_of_a_pixelcnn(tmp_path, name):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    if name == "FSQVAE":
        model = keras_ae.FSQVAE(levels=(3, 2), widths=(8,), positions=4)
    else:
        model = keras_ae.ResidualVQVAE(
            2, num_codes=3, num_quantizers=2, widths=(8,), positions=4
        )
    model.fit(x, epochs=1, batch_size=8, verbose=0)
    small = keras_ae.pixelcnn.PixelCNN(
        model.quantizer.num_codes, filters=4, blocks=1, name="small"
    )
    model.fit_sampler(small, x, epochs=2)
    assert model.fitted_samplers == ("small",)
    drawn = model.sample(5, seed=1)
    tokens = small.sample((5, *model.token_shape), keras.random.SeedGenerator(1))
    np.testing.assert_allclose(drawn, model.decode_tokens(tokens), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.sample(5, seed=1), drawn, rtol=1e-5, atol=1e-6)
    flow = keras_ae.priors.AutoregressiveFlow()
    for call, message in (
        (
            lambda: model.fit_sampler("maf", x),
            "be 'pixelcnn', 'gaussian', 'mixture' or 'flow', .*'maf'",
        ),
        (lambda: model.fit_sampler(flow, x), "are tokens.* a AutoregressiveFlow"),
        (lambda: keras_ae.AE(2, image_shape=(6,)).fit_sampler(small, x), "such as a"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.thorough
@pytest.mark.parametrize("side", few_everywhere([8, 32], [8]))
def test_tokens_are_drawn_by_a_density_of_their_vectors(tmp_path, side):
    keras.utils.set_random_seed(0)
    x = keras_ae.datasets.load("moon-phases", "train", image_size=side, limit=64)
    model = keras_ae.VQVAE(4, num_codes=16, widths=(8, 8))
    # Of 16 numbers, and of 256, which are too many for a matrix.
    model.fit(x, epochs=2, batch_size=16, verbose=0)
    choice = model.choose_sampler()
    assert choice.sampler in ("gaussian", "mixture") and choice.nats is None
    density = model.sampler(choice.sampler).density
    assert type(density).__name__ == ("GaussianMixture", "Principal")[side > 8]
    drawn = model.sample(500, seed=0)
    assert drawn.shape == (500, side, side, 1)
    # As often as data have them, place by place.
    tokens = model.sampler(choice.sampler).sample((500, *model.token_shape), seed=0)
    shares = [
        np.stack([(t == code).mean(axis=0) for code in range(16)])
        for t in (model.tokens(x), to_numpy(tokens))
    ]
    assert np.abs(shares[0] - shares[1]).mean() < 0.05
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.sample(5, seed=1), model.sample(5, seed=1))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", few_everywhere(["VQVAE", "FSQVAE", "ResidualVQVAE"], ["ResidualVQVAE"])
)
def test_a_flow_draws_tokens(tmp_path, name):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    options = {
        "FSQVAE": {"levels": (3, 2)},
        "VQVAE": {"latent_dim": 2, "num_codes": 3},
        "ResidualVQVAE": {"latent_dim": 2, "num_codes": 3, "num_quantizers": 2},
    }[name]
    model = getattr(keras_ae, name)(widths=(8,), positions=4, **options)
    model.fit(x, epochs=1, batch_size=8, verbose=0)
    labels = np.arange(40) % 2
    model.fit_sampler("flow", x, width=8, blocks=1, epochs=2, labels=labels)
    flow = model.sampler("flow")
    tokens = to_numpy(flow.sample((5, *model.token_shape), seed=1, steps=2))
    assert tokens.shape == (5, *model.token_shape)
    z = to_numpy(flow.density.sample((5, model.code_dim), seed=1, steps=2))
    vectors = z.reshape(5, *model.grid, model.latent_dim).astype("float32")
    np.testing.assert_array_equal(tokens, to_numpy(model.quantizer(vectors)["tokens"]))
    drawn = model.sample(5, seed=1, labels=1)
    assert drawn.shape == (5, 6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.sample(5, seed=1, labels=1), drawn, rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="`grid` needs a model whose codes are grids"):
        model.fit_sampler("flow", x, grid=True)
    with pytest.raises(ValueError, match="`NearestTokens` needs a model"):
        flow.connect(keras_ae.AE(2, image_shape=(6,)))
