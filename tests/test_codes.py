"""Tables of codes: what a step touches, and where it brings a row."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

from keras_ae import backend
from keras_ae.models.decoder_only.code_table import CodeTable, check_optimizer


def make(count=6, width=3):
    values = np.random.default_rng(0).normal(size=(count, width)).astype("float32")
    return CodeTable(values, np.arange(count), count)


def state(table):
    """Everything that belongs to a row, by name."""
    names = ("rows", "first_moments", "second_moments", "steps")
    return {
        name: np.array(ops.convert_to_numpy(getattr(table, name))) for name in names
    }


def update(table, rows, gradient, optimizer, constrain=lambda rows: rows):
    table.update(
        ops.convert_to_tensor(rows, "int32"),
        ops.convert_to_tensor(gradient, "float32"),
        optimizer,
        constrain,
    )


def adam(z, gradients, rate=0.05, beta_1=0.9, beta_2=0.99, epsilon=1e-7):
    """Where Algorithm 1 of Kingma and Ba brings one row."""
    first, second = np.zeros_like(z), np.zeros_like(z)
    for step, gradient in enumerate(gradients, 1):
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        unbiased, variance = first / (1 - beta_1**step), second / (1 - beta_2**step)
        z = z - rate * unbiased / (np.sqrt(variance) + epsilon)
    return z


# No row is in every batch; row 5 is in none.
BATCHES = [[0, 3], [1, 2, 4], [3, 0], [4], [2, 0, 1]]


@pytest.mark.parametrize("beta_2", [0.9, 0.999])
def test_a_row_goes_where_plain_adam_brings_it(beta_2):
    table = make()
    optimizer = keras.optimizers.Adam(0.05, beta_2=beta_2)
    rng = np.random.default_rng(1)
    expected, gradients = np.float64(state(table)["rows"]), [[] for _ in range(6)]
    start = expected.copy()
    for batch in BATCHES:
        before = state(table)
        gradient = rng.normal(size=(len(batch), 3))
        update(table, batch, gradient, optimizer)
        for row, slope in zip(batch, gradient, strict=True):
            gradients[row].append(slope)
            expected[row] = adam(start[row], gradients[row], beta_2=beta_2)
        after = state(table)
        np.testing.assert_allclose(after["rows"], expected, rtol=1e-5, atol=1e-6)
        others = np.setdiff1d(np.arange(6), batch)
        for name, value in before.items():
            np.testing.assert_array_equal(after[name][others], value[others])
            assert (after[name][batch] != value[batch]).all()
    np.testing.assert_array_equal(after["steps"], [3, 2, 2, 2, 2, 0])
    assert int(optimizer.iterations) == len(BATCHES)


def test_sgd_moves_rows_and_keeps_no_moments():
    table = make()
    before = state(table)
    gradient = np.float32([[1.0, 2.0, 3.0], [-1.0, 0.0, 0.5]])
    update(table, [4, 1], gradient, keras.optimizers.SGD(0.1))
    expected = before["rows"].copy()
    expected[[4, 1]] -= np.float32(0.1) * gradient
    after = state(table)
    np.testing.assert_allclose(after["rows"], expected, rtol=1e-6)
    np.testing.assert_array_equal(
        after["rows"][[0, 2, 3, 5]], before["rows"][[0, 2, 3, 5]]
    )
    for name in ("first_moments", "second_moments", "steps"):
        np.testing.assert_array_equal(after[name], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_gradient_that_is_not_finite_never_was(optimizer, bad):
    table, steady = make(), make()
    mine, theirs = (getattr(keras.optimizers, optimizer)(0.05) for _ in range(2))
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(3, 2, 3))
    for index, gradient in enumerate(gradients):
        update(table, [0, 2], gradient, mine)
        update(steady, [0, 2], gradient, theirs)
        if index == 1:
            before = state(table)
            spoilt = np.copy(gradient)
            spoilt[0, 1] = bad
            update(table, [2, 1], spoilt, mine)
            after = state(table)
            for name, value in before.items():
                np.testing.assert_array_equal(after[name][2], value[2], name)
            assert (after["rows"][1] != before["rows"][1]).all()
    for name, value in state(steady).items():
        np.testing.assert_array_equal(state(table)[name][[0, 2]], value[[0, 2]], name)


def test_a_schedule_counts_the_optimizers_iterations():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.25])
    table, optimizer = make(), keras.optimizers.SGD(schedule)
    expected = state(table)["rows"]
    # Rows that come for the first time have the rate of the third step.
    for batch, rate in (([0, 1], 1.0), ([1, 2], 1.0), ([3], 0.25)):
        update(table, batch, np.full((len(batch), 3), 2.0), optimizer)
        expected[batch] -= 2 * rate
    np.testing.assert_allclose(state(table)["rows"], expected, rtol=1e-6)
    assert int(optimizer.iterations) == 3


def test_loss_scaling_has_an_adam_inside():
    table, scaled = make(), make()
    inner = keras.optimizers.Adam(0.05)
    check_optimizer(keras.optimizers.LossScaleOptimizer(inner))
    gradient = np.random.default_rng(0).normal(size=(2, 3))
    update(table, [0, 1], gradient, keras.optimizers.Adam(0.05))
    update(scaled, [0, 1], gradient, keras.optimizers.LossScaleOptimizer(inner))
    np.testing.assert_array_equal(state(scaled)["rows"], state(table)["rows"])
    assert int(inner.iterations) == 1


def test_only_rows_of_the_batch_are_constrained():
    table = make()
    before = state(table)["rows"]
    gradient = np.ones((2, 3))
    update(
        table, [5, 0], gradient, keras.optimizers.SGD(9.0), lambda rows: rows * 0 + 7
    )
    after = state(table)["rows"]
    np.testing.assert_array_equal(after[[0, 5]], 7)
    np.testing.assert_array_equal(after[1:5], before[1:5])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_few_of_a_million_rows(compiled):
    values = np.arange(2_000_000, dtype="float32").reshape(-1, 2)
    variable = keras.Variable(values, trainable=False)
    rows = np.int32([999_999, 3, 0])

    def double(rows):
        taken = backend.take_rows(variable, rows)
        backend.assign_rows(variable, rows, 2.0 * taken)
        return taken

    if compiled:
        double = backend.compiled(double, [variable])
    taken = double(ops.convert_to_tensor(rows))
    np.testing.assert_array_equal(ops.convert_to_numpy(taken), values[rows])
    expected = values.copy()
    expected[rows] *= 2
    np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), expected)


def test_rows_are_found_by_the_ids_of_their_samples():
    table = CodeTable(np.zeros((4, 2), "float32"), np.array([1, 4, 5, 9]), 12)
    np.testing.assert_array_equal(table.positions([9, 1]), [3, 0])
    for ids, message in (
        ([1, 3], r"among the model's `sample_ids`. Received: \[3\], of samples"),
        ([10], r"Received: \[10\]"),
        ([-1], r"Received: \[-1\]"),
        ([4, 9, 4], r"must name each sample once. Received: \[4\] more than once"),
        ([1.0], r"must be integers \(n,\). Received: .*float64 and shape \(1,\)"),
        ([[1]], r"must be integers \(n,\). Received: .*shape \(1, 1\)"),
        ([True, False], "must be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            table.positions(ids)


def test_rows_come_and_go_with_all_that_is_theirs():
    table = make()
    optimizer = keras.optimizers.Adam(0.05)
    for batch in BATCHES:
        update(table, batch, np.ones((len(batch), 3)), optimizer)
    before = state(table)
    longer = table.extended(np.full((2, 3), 8.0, "float32"))
    shorter = longer.without(np.array([1, 7]))
    again = shorter.extended(np.full((1, 3), 9.0, "float32"))
    for found, kept, new, ids in (
        (longer, range(6), [8, 8], range(8)),
        (shorter, [0, 2, 3, 4, 5], [8], [0, 2, 3, 4, 5, 6]),
        # The last id was given away and is not given again.
        (again, [0, 2, 3, 4, 5], [8, 9], [0, 2, 3, 4, 5, 6, 8]),
    ):
        np.testing.assert_array_equal(found.sample_ids, list(ids))
        after = state(found)
        for name, value in before.items():
            np.testing.assert_array_equal(after[name][: len(kept)], value[list(kept)])
            tail = after[name][len(kept) :]
            np.testing.assert_array_equal(
                tail.reshape(len(new), -1).max(axis=1), new if name == "rows" else 0
            )
    for name, value in state(table).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (keras.optimizers.RMSprop(), "must be Keras' Adam or SGD.*Received: RMSprop"),
        (keras.optimizers.AdamW(), "Received: AdamW"),
        (keras.optimizers.SGD(momentum=0.9), "no `momentum`.*Received: momentum=0.9"),
        (keras.optimizers.Adam(amsgrad=True), "no `amsgrad`"),
        (keras.optimizers.Adam(weight_decay=0.1), "no `weight_decay`"),
        (keras.optimizers.Adam(clipnorm=1.0), "no `clipnorm`"),
        (keras.optimizers.Adam(clipvalue=1.0), "no `clipvalue`"),
        (keras.optimizers.SGD(global_clipnorm=1.0), "no `global_clipnorm`"),
        (keras.optimizers.Adam(use_ema=True), "no `use_ema`"),
        (
            keras.optimizers.Adam(gradient_accumulation_steps=2),
            "no `gradient_accumulation_steps`",
        ),
    ],
)
def test_optimizers_that_touch_other_rows_are_refused(optimizer, message):
    with pytest.raises(ValueError, match=message):
        check_optimizer(optimizer)
    with pytest.raises(ValueError, match=message):
        check_optimizer(keras.optimizers.LossScaleOptimizer(optimizer))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("learns", [True, False])
def test_minimize_gives_the_gradient_at_a_tensor(scaled, learns):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    (kernel,) = model.trainable_variables
    optimizer = keras.optimizers.SGD(1.0)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
    variables = [kernel] if learns else []
    optimizer.build(variables)
    weights = to_numpy(kernel)[:, 0]
    z = np.random.default_rng(0).normal(size=(4, 3))

    def loss_fn(z):
        outputs = model(z)[:, 0]
        return ops.mean(ops.square(outputs)), outputs

    outputs, norm, gradient = backend.minimize(
        model, loss_fn, variables, optimizer, at=ops.convert_to_tensor(z, "float32")
    )
    assert norm is None
    np.testing.assert_allclose(to_numpy(outputs), z @ weights, rtol=1e-4, atol=1e-6)
    expected = 2 / 4 * (z @ weights)[:, None] * weights
    np.testing.assert_allclose(to_numpy(gradient), expected, rtol=1e-4, atol=1e-6)
    moved = weights - 2 / 4 * z.T @ (z @ weights) if learns else weights
    np.testing.assert_allclose(to_numpy(kernel)[:, 0], moved, rtol=1e-4, atol=1e-6)
