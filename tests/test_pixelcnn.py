"""PixelCNN: what each token sees, exact sums over tiny grids, samples, learning."""

import itertools

import keras
import numpy as np
import pytest
from contract import few_everywhere
from keras import ops
from numerics import to_numpy
from scipy import stats

from keras_ae.models.quantized.pixelcnn import PixelCNN

SHAPES = {"row": (5,), "grid": (3, 4), "residual": (2, 3, 2)}


def built(token_shape, num_codes=3, spread=0.5, **options):
    """A small one whose weights are no start."""
    options = {"filters": 8, "blocks": 2, **options}
    prior = PixelCNN(num_codes, **options)
    prior.build((None, *token_shape))
    rng = np.random.default_rng(0)
    for variable in prior.trainable_variables:
        variable.assign(rng.normal(0.0, spread, variable.shape))
    return prior


def holder(prior):
    """A stock Keras model that holds it."""
    tokens = keras.Input(prior.token_shape, dtype="int32")
    return keras.Model(tokens, prior(tokens))


def trainable(prior):
    """A stock Keras model that learns it."""
    model = holder(prior)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    return model


def all_arrays(token_shape, num_codes):
    """Every array of tokens there is, (n, *token_shape)."""
    places = int(np.prod(token_shape))
    arrays = list(itertools.product(range(num_codes), repeat=places))
    return np.reshape(np.array(arrays, "int32"), (-1, *token_shape))


def dependence(prior, starts=8):
    """Whether token i's logits change with token j anywhere, (places, places)."""
    rng = np.random.default_rng(1)
    codes, places = prior.num_codes, int(np.prod(prior.token_shape))
    start = rng.integers(0, codes, (starts, 1, places))
    changed = (start + np.eye(places, dtype=int)) % codes  # (starts, places, places)
    before, after = (
        to_numpy(prior.logits(tokens.reshape(-1, *prior.token_shape))).reshape(
            starts, -1, places, codes
        )
        for tokens in (start, changed)
    )
    # What is seen moves a logit by 0.04 and more, rounding by less than 1e-5.
    return (np.abs(after - before).max(axis=(0, -1)) > 1e-4).T


@pytest.mark.once
@pytest.mark.parametrize(
    ("token_shape", "options"),
    [
        ((7,), {"blocks": 6}),
        ((7,), {"kernel_size": 15}),
        ((5, 5), {"blocks": 5}),
        ((5, 4), {"blocks": 2, "kernel_size": 7}),
        ((3, 3, 3), {"blocks": 3}),
        ((1, 1, 3), {"blocks": 1}),
    ],
)
def test_each_token_sees_all_those_before_it_and_no_other(token_shape, options):
    prior = built(token_shape, **options)
    places = int(np.prod(token_shape))
    expected = np.tri(places, k=-1, dtype=bool)
    np.testing.assert_array_equal(dependence(prior), expected)


@pytest.mark.once
def test_a_block_widens_the_view_by_half_a_kernel():
    rows, columns = np.divmod(np.arange(36), 6)
    up = rows[:, None] - rows
    aside = np.abs(columns[:, None] - columns)
    # One place in front of all blocks, then one more in each.
    left = (up == 0) & (columns[:, None] > columns) & (aside <= 3)
    above = (up > 0) & (up <= 3) & (aside <= 2)
    prior = built((6, 6), blocks=2)
    np.testing.assert_array_equal(dependence(prior), left | above)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("token_shape", "num_codes"), [((2, 2), 3), ((4,), 3), ((2, 1, 2), 3), ((1,), 5)]
)
def test_probabilities_of_all_arrays_sum_to_one(token_shape, num_codes):
    prior = built(token_shape, num_codes)
    log_prob = to_numpy(prior.log_prob(all_arrays(token_shape, num_codes)))
    assert np.ptp(log_prob) > 0.5
    assert np.exp(log_prob).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", few_everywhere(SHAPES, ["residual"]))
def test_log_prob_is_of_the_logits(name):
    prior = built(SHAPES[name])
    tokens = np.random.default_rng(0).integers(0, 3, (6, *SHAPES[name]))
    logits = to_numpy(prior.logits(tokens))
    assert logits.shape == (6, *SHAPES[name], 3)
    np.testing.assert_array_equal(to_numpy(prior(tokens)), logits)
    scores = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(scores, tokens[..., None], axis=-1)
    np.testing.assert_allclose(
        to_numpy(prior.log_prob(tokens)), chosen.reshape(6, -1).sum(axis=1), rtol=1e-4
    )


@pytest.mark.thorough
@pytest.mark.parametrize("token_shape", [(2, 2), (4,), (1, 2, 2)])
@pytest.mark.parametrize("temperature", few_everywhere([1.0, 0.5], [0.5]))
def test_samples_have_its_probabilities(token_shape, temperature):
    # Token by token, a power of each conditional; for all of them it is no power.
    prior = built(token_shape, num_codes=2, spread=0.4)
    arrays = all_arrays(token_shape, 2)
    logits = to_numpy(prior.logits(arrays)) / temperature
    scores = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(scores, arrays[..., None], axis=-1)
    expected = 4000 * np.exp(chosen.reshape(16, -1).sum(axis=1))
    assert expected.sum() == pytest.approx(4000)
    expected *= 4000 / expected.sum()
    drawn = prior.sample((4000, *token_shape), seed=0, temperature=temperature)
    numbers = drawn.reshape(-1, 4) @ [8, 4, 2, 1]
    counts = np.bincount(numbers, minlength=16)
    # The statistic's distribution is known where each cell expects five or more.
    rare = expected < 5
    counts, expected = (
        np.array([*cells[~rare], *([cells[rare].sum()] if rare.any() else [])])
        for cells in (counts, expected)
    )
    assert len(counts) >= 5
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("name", few_everywhere(SHAPES, ["grid"]))
def test_temperature_zero_takes_the_likeliest_at_each_place(name):
    prior = built(SHAPES[name], kernel_size=5)
    drawn = prior.sample((3, *SHAPES[name]), seed=0, temperature=0.0)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    # It is the fixed point that one pass over all places gives back.
    np.testing.assert_array_equal(to_numpy(prior.logits(drawn)).argmax(axis=-1), drawn)


@pytest.mark.parametrize("name", few_everywhere(SHAPES, ["grid"]))
def test_a_seed_fixes_the_samples(name):
    prior, shape = built(SHAPES[name]), (300, *SHAPES[name])
    drawn = prior.sample(shape, seed=3)
    assert drawn.shape == shape and drawn.dtype == "int32"
    assert set(np.unique(drawn)) == {0, 1, 2}
    np.testing.assert_array_equal(prior.sample(shape, seed=3), drawn)
    assert (prior.sample(shape, seed=4) != drawn).any()
    generator = keras.random.SeedGenerator(3)
    first, second = (prior.sample(shape, seed=generator) for _ in range(2))
    assert (first != second).any()
    assert (prior.sample(shape) != prior.sample(shape)).any()


def test_samples_follow_weights_that_change():
    prior = built((2, 3))
    before = prior.sample((50, 2, 3), seed=0)
    for head in prior.heads:
        head.bias.assign([0.0, 50.0, 0.0])
    assert (before != 1).any()
    assert (prior.sample((50, 2, 3), seed=0) == 1).all()


def copied_rows(n, token_shape, num_codes=4):
    """Tokens of which each is that above it; the first row is random."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, num_codes, (n, 1, *token_shape[1:]))
    return np.broadcast_to(first, (n, *token_shape)).astype("int32")


def repeated_quantizers(n, token_shape, num_codes=4):
    """Tokens of which those of a place are alike."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, num_codes, (n, *token_shape[:-1], 1))
    return np.broadcast_to(first, (n, *token_shape)).astype("int32")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("make", "token_shape", "free"),
    [(copied_rows, (4, 3), 3), (repeated_quantizers, (2, 2, 2), 4)],
)
@pytest.mark.once
def test_learns_to_the_entropy(make, token_shape, free):
    prior = PixelCNN(4, filters=16, blocks=2)
    prior.build((None, *token_shape))
    train, test = np.split(make(1200, token_shape), [1000])
    trainable(prior).fit(train, train, batch_size=50, epochs=12, verbose=0)
    nats = -to_numpy(prior.log_prob(test)).mean()
    entropy = free * np.log(4)
    assert entropy - 0.02 < nats < entropy + 0.15
    drawn = prior.sample((200, *token_shape), seed=0)
    axis = 1 if make is copied_rows else -1
    alike = (drawn == np.take(drawn, [0], axis=axis)).all(
        axis=tuple(range(1, drawn.ndim))
    )
    assert alike.mean() > 0.9


@pytest.mark.thorough
@pytest.mark.parametrize("name", few_everywhere(SHAPES, ["residual"]))
def test_all_weights_learn(name):
    prior = built(SHAPES[name], spread=0.3)
    before = [to_numpy(variable) for variable in prior.trainable_variables]
    tokens = np.random.default_rng(0).integers(0, 3, (64, *SHAPES[name]))
    trainable(prior).fit(tokens, tokens, batch_size=16, epochs=1, verbose=0)
    for variable, value in zip(prior.trainable_variables, before, strict=True):
        assert (to_numpy(variable) != value).any(), variable.path


def test_dropout_in_training_only():
    prior = built((3, 4), dropout=0.5)
    tokens = np.zeros((2, 3, 4), "int32")
    still = to_numpy(prior.log_prob(tokens))
    np.testing.assert_array_equal(to_numpy(prior.log_prob(tokens)), still)
    first, second = (to_numpy(prior.log_prob(tokens, training=True)) for _ in range(2))
    assert (first != still).any() and (first != second).any()


@pytest.mark.parametrize("name", few_everywhere(SHAPES, ["grid"]))
def test_saved_and_loaded(name, tmp_path):
    prior = built(SHAPES[name], kernel_size=5, dropout=0.2, name="tokens_prior")
    model = holder(prior)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").get_layer("tokens_prior")
    assert again.get_config() == prior.get_config()
    tokens = prior.sample((5, *SHAPES[name]), seed=0)
    np.testing.assert_array_equal(again.sample((5, *SHAPES[name]), seed=0), tokens)
    np.testing.assert_allclose(
        to_numpy(again.log_prob(tokens)), to_numpy(prior.log_prob(tokens)), rtol=1e-6
    )
    fresh = PixelCNN.from_config(prior.get_config())
    fresh.build((None, *SHAPES[name]))
    holder(fresh).load_weights(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(fresh(tokens)), to_numpy(prior(tokens)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_under_a_bfloat16_policy(dtype):
    policy = keras.config.dtype_policy()
    exact = to_numpy(built((3, 4)).log_prob(np.ones((2, 3, 4), "int32")))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        prior = built((3, 4), **({} if dtype is None else {"dtype": dtype}))
        log_prob = prior.log_prob(np.ones((2, 3, 4), "int32"))
        tolerance = 1e-5 if dtype is None else 0.1
        np.testing.assert_allclose(to_numpy(log_prob), exact, rtol=tolerance)
        assert keras.backend.standardize_dtype(log_prob.dtype) == "float32"
        tokens = prior.sample((8, 3, 4), seed=0)
        trainable(prior).fit(tokens, tokens, verbose=0)
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.isfinite(to_numpy(prior.log_prob(tokens))).all()


def test_smaller_types_and_tensors_are_tokens():
    prior = built((3, 4))
    tokens = np.random.default_rng(0).integers(0, 3, (4, 3, 4)).astype("uint8")
    expected = to_numpy(prior.log_prob(tokens))
    for given in (tokens.astype("int64"), ops.convert_to_tensor(tokens, "int32")):
        np.testing.assert_array_equal(to_numpy(prior.log_prob(given)), expected)


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PixelCNN(0), "`num_codes` must be an integer >= 1"),
        (lambda: PixelCNN(3, filters=0), "`filters` must be an integer >= 1"),
        (lambda: PixelCNN(3, blocks=0), "`blocks` must be an integer >= 1"),
        (lambda: PixelCNN(3, kernel_size=1), "`kernel_size` must be an integer >= 3"),
        (lambda: PixelCNN(3, kernel_size=4), "`kernel_size` must be odd.*4"),
        (lambda: PixelCNN(3, dropout=1.0), "`dropout` must be a number from 0"),
        (lambda: PixelCNN(3).build((None,)), r"must be \(None, positions\)"),
        (lambda: PixelCNN(3).build((None, None, 4)), r"Received: .*\(None, None, 4\)"),
        (lambda: PixelCNN(3).build((None, 2, 2, 2, 2)), "num_quantizers"),
        (lambda: PixelCNN(3).sample((2, 4)), r"before `sample`: call `build"),
        (lambda: PixelCNN(3).log_prob(np.zeros((2, 4), int)), "must know the shape"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.once
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda prior: prior.log_prob(np.full((2, 3, 4), 3)),
            "must be integers from 0 to 2. Received: integers from 3 to 3",
        ),
        (
            lambda prior: prior.logits(np.full((2, 3, 4), -1)),
            "Received: integers from -1 to -1",
        ),
        (lambda prior: prior.log_prob(np.zeros((2, 3, 4))), "Received: dtype=float64"),
        (
            lambda prior: prior.log_prob(np.zeros((2, 4, 3), int)),
            r"must have the shape \(n, 3, 4\). Received: \(2, 4, 3\)",
        ),
        (
            lambda prior: prior.sample((2, 4, 3)),
            r"`shape` must be \(n, 3, 4\). Received: shape=\(2, 4, 3\)",
        ),
        (lambda prior: prior.sample((0, 3, 4)), r"`shape\[0\]` must be an integer"),
        (
            lambda prior: prior.sample((2, 3, 4), temperature=-1.0),
            "`temperature` must be >= 0. Received: temperature=-1.0",
        ),
        (
            lambda prior: prior.sample((2, 3, 4), temperature=float("nan")),
            "`temperature` must be >= 0",
        ),
    ],
)
def test_bad_tokens_and_shapes(use, message):
    with pytest.raises(ValueError, match=message):
        use(built((3, 4)))
