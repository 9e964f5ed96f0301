"""Steps that PyTorch runs as they were recorded give what they gave before."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae import backend
from keras_ae.datasets import Batches

if backend.BACKEND != "torch":
    pytest.skip("PyTorch's steps alone are recorded", allow_module_level=True)

import torch

from keras_ae.backend import _torch
from keras_ae.backend import _torch_recording as recording


def train(x, *args, Model=keras_ae.VAE, arguments=None, compiled=None, **kwargs):
    """Returns the model, and its history, weights and optimizer's state."""
    keras.utils.set_random_seed(0)
    model = Model(2, **{"architecture": "dense", "widths": (8,), **(arguments or {})})
    model.compile(**(compiled or {}))
    options = {"epochs": 4, "verbose": 0, "batch_size": 5, **kwargs}
    history = model.fit(x, *args, **options).history
    state = [to_numpy(v) for v in (*model.weights, *model.optimizer.variables)]
    return model, (history, state)


def assert_same(mine, theirs):
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        mine,
        theirs,
    )


def as_ever(x, *args, **kwargs):
    """What comes of the same by Keras' own loop, step by step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "records_steps", lambda model: False)
        return train(x, *args, **kwargs)[1]


def shapes_recorded(model):
    steps = model.train_function.steps
    assert not steps.refusals
    return len(steps.programs)


@pytest.fixture(params=["memory", "device"])
def lying(request, monkeypatch):
    """Where arrays lie: a CPU has no memory of its own."""
    if request.param == "device":
        monkeypatch.setattr(backend, "room_for_data", lambda: 10**9)
    return request.param


def test_arrays_with_all_that_fit_takes(images, lying):
    y, weight = np.arange(32), np.linspace(0.5, 2, 32)
    options = {"validation_split": 0.2, "sample_weight": weight}
    expected = as_ever(images, y, **options)
    model, mine = train(images, y, **options)
    assert_same(mine, expected)
    assert model.feeding == (1, lying)
    assert shapes_recorded(model) == 1  # 25 = 5 * 5
    assert len(model.test_function.steps.programs) == 2  # 7 = 5 + 2


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_the_order_is_that_of_keras(images, shuffle):
    options = {"shuffle": shuffle, "validation_data": images[:7]}
    model, mine = train(images, **options)
    assert_same(mine, as_ever(images, **options))
    assert model.feeding == (1, "memory")
    assert shapes_recorded(model) == 2  # 32 = 6 * 5 + 2


def test_what_lies_elsewhere(images):
    tensor = torch.as_tensor(images)
    assert_same(train(tensor)[1], as_ever(images))
    batches = [Batches(images, 5, binarize=True) for _ in range(2)]
    assert_same(
        train(batches[0], batch_size=None)[1], as_ever(batches[1], batch_size=None)
    )


@pytest.mark.parametrize("dtype", ["uint16", "int64", "float16", "float64"])
def test_pictures_of_any_type(images, dtype):
    images = (images if "int" in dtype else images / 255).astype(dtype)
    assert_same(train(images)[1], as_ever(images))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("GAN", {}),
        ("AAE", {}),
        ("FactorVAE", {}),
        ("VAEGAN", {}),
        ("WAE", {}),
        ("IWAE", {}),
        ("VQVAE", {"num_codes": 8}),
        ("RAE", {"regularizer": "gradient_penalty"}),
        ("AE", {"dtype": "mixed_bfloat16"}),
    ],
)
def test_models_are_recorded(images, name, arguments):
    options = {
        "Model": getattr(keras_ae, name),
        "arguments": arguments,
        "batch_size": 12,
    }
    model, mine = train(images, **options)
    assert_same(mine, as_ever(images, **options))
    assert shapes_recorded(model) == 2  # 32 = 2 * 12 + 8


@pytest.mark.parametrize("decay", [None, 0.01])
@pytest.mark.parametrize(
    "options",
    [
        {"clipnorm": 0.1},
        {"use_ema": True, "ema_overwrite_frequency": 3},
        {"gradient_accumulation_steps": 2},
        {"amsgrad": True},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)},
        {"class_name": "SGD"},
        {"class_name": "RMSprop"},
    ],
)
def test_optimizers(images, options, decay):
    def compiled():
        config = {"class_name": "Adam", "weight_decay": decay, **options}
        Optimizer = getattr(keras.optimizers, config.pop("class_name"))
        return {"optimizer": Optimizer(**config)}

    _, mine = train(images, compiled=compiled(), batch_size=8)
    assert_same(mine, as_ever(images, compiled=compiled(), batch_size=8))


def test_loss_scaling_runs_as_ever(images):
    options = {"Model": keras_ae.AE, "arguments": {"dtype": "mixed_float16"}}
    model, mine = train(images, **options)
    assert_same(mine, as_ever(images, **options))
    # A step that overflows is skipped.
    reasons = model.train_function.steps.refusals.values()
    assert {*reasons} == {"numbers are read from tensors"}


def test_convolutions_batch_norm_and_dropout(images):
    def model(latent_dim, **arguments):
        layers = [
            keras.Input((12, 10, 1)),
            keras.layers.Conv2D(4, 3, strides=2, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=1),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
        return keras_ae.AE(2, encoder=keras.Sequential(layers), **arguments)

    options = {"Model": model, "arguments": {"architecture": "conv", "widths": (4,)}}
    mine, result = train(images, **options)
    assert_same(result, as_ever(images, **options))
    assert shapes_recorded(mine) == 2


class Deciding(keras_ae.AE):
    """Its terms depend on numbers that Python reads, in one way or another."""

    reads = "item"

    def terms(self, x, outputs, training=False):
        terms = super().terms(x, outputs, training)
        value = ops.mean(x)
        if self.reads == "item":
            factor = 2.0 if float(value) > 0.1 else 1.0
        else:
            factor = 1.0 + float(ops.convert_to_numpy(value.detach()))
        return {name: term * factor for name, term in terms.items()}


@pytest.mark.parametrize("reads", ["item", "numpy"])
def test_steps_that_decide_by_values_run_as_ever(images, reads, monkeypatch):
    monkeypatch.setattr(Deciding, "reads", reads)
    images = np.sort(images, axis=0)
    images[::2] //= 8
    options = {"Model": Deciding, "batch_size": 8}
    model, mine = train(images, **options)
    assert_same(mine, as_ever(images, **options))
    steps = model.train_function.steps
    assert not steps.programs
    (reason,) = steps.refusals.values()
    assert reason == "numbers are read from tensors"


class Counting(keras_ae.AE):
    """Its terms depend on something that Python changes from step to step."""

    kept = "number"

    def terms(self, x, outputs, training=False):
        number, tensor = self.__dict__.get("past", (0.0, torch.zeros(())))
        factor = 1.0 + (tensor if self.kept == "tensor" else number)
        if training:
            self.__dict__["past"] = number + 1e-3, tensor + 1e-3
        terms = super().terms(x, outputs, training)
        return {name: term * factor for name, term in terms.items()}


@pytest.mark.parametrize("kept", ["number", "tensor"])
def test_steps_that_are_never_the_same_run_as_ever(images, kept, monkeypatch):
    monkeypatch.setattr(Counting, "kept", kept)
    options = {"Model": Counting, "batch_size": 8}
    model, mine = train(images, **options)
    assert_same(mine, as_ever(images, **options))
    (reason,) = model.train_function.steps.refusals.values()
    assert reason == "another batch is computed in another way"


class Weighing(keras_ae.AE):
    """Its terms are weighed by a tensor that is no variable."""

    def terms(self, x, outputs, training=False):
        factor = torch.exp(self.__dict__.setdefault("weight", torch.zeros(())))
        terms = super().terms(x, outputs, training)
        return {name: term * factor for name, term in terms.items()}


def test_a_tensor_may_be_changed_in_place(images):
    def changes(epoch, logs):
        changes.model.__dict__["weight"].add_(0.1)

    def result(run):
        callback = keras.callbacks.LambdaCallback(on_epoch_end=changes)
        callback.set_model = lambda model: setattr(changes, "model", model)
        return run(images, Model=Weighing, batch_size=8, callbacks=[callback])

    model, mine = result(train)
    assert_same(mine, result(as_ever))
    assert shapes_recorded(model) == 1


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 1e-2 * 0.5 ** float(ops.convert_to_numpy(step))


def test_a_schedule_may_compute_with_numpy(images):
    def options():
        optimizer = keras.optimizers.Adam(Halving())
        return {"compiled": {"optimizer": optimizer}, "batch_size": 8}

    assert_same(train(images, **options())[1], as_ever(images, **options()))


def loader(batches):
    return torch.utils.data.DataLoader(batches, batch_size=None)


def test_weights_are_not_taken_for_labels(images):
    x, ones = torch.as_tensor(images[:16]), torch.ones(16)
    batches = loader([(x, ones)] * 5 + [(x, None, 0.01 * ones)] * 5)
    options = {"Model": keras_ae.AE, "batch_size": None, "shuffle": False}
    assert_same(train(batches, **options)[1], as_ever(batches, **options))


def test_batches_may_lie_in_memory_in_any_order(images):
    square = torch.as_tensor(images[:16, :10])
    batches = loader([square, square, square, square.transpose(1, 2)] * 2)
    options = {"batch_size": None, "shuffle": False}
    assert_same(train(batches, **options)[1], as_ever(batches, **options))


class Logging(keras_ae.AE):
    def train_step(self, *arguments):
        return {**super().train_step(*arguments), "rate": 0.5}


def test_logs_may_be_numbers(images):
    model, mine = train(images, Model=Logging, batch_size=8)
    assert_same(mine, as_ever(images, Model=Logging, batch_size=8))
    (reason,) = model.train_function.steps.refusals.values()
    assert reason == "logs are no tensors"


def test_python_decides_anew_in_each_fit(images):
    model = keras_ae.VAE(2, architecture="dense", widths=(8,), free_bits=0.0)
    model.fit(images, batch_size=8, epochs=2, verbose=0)
    model.free_bits = 50.0
    history = model.fit(images, batch_size=8, epochs=2, verbose=0).history
    assert min(history["kl"]) >= 2 * 50.0
    assert model.evaluate(images, verbose=0, return_dict=True)["kl"] >= 2 * 50.0
    model.free_bits = 0.0
    assert model.evaluate(images, verbose=0, return_dict=True)["kl"] < 50.0


def test_python_decides_anew_in_each_batch_of_ones_own_loop(images):
    model = keras_ae.VAE(2, architecture="dense", widths=(8,), free_bits=0.0)
    model.fit(images, batch_size=8, epochs=2, verbose=0)
    for take in (model.train_on_batch, model.test_on_batch):
        for free_bits, is_more in ((0.0, False), (50.0, True)):
            model.free_bits = free_bits
            logs = [take(images[:8], return_dict=True) for _ in range(4)]
            assert all((log["kl"] > 50) == is_more for log in logs)
            model.reset_metrics()


def test_a_callback_may_evaluate_in_the_middle_of_an_epoch(images):
    class Evaluates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.test_on_batch(images)

        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(images, verbose=0)

    options = {"batch_size": 8, "validation_data": images, "callbacks": [Evaluates()]}
    model, mine = train(images, **options)
    assert shapes_recorded(model) == 1
    assert_same(mine, as_ever(images, **options))


def test_learning_rates_change_within_a_fit(images):
    rates = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    options = {"callbacks": [rates], "batch_size": 8}
    assert_same(train(images, **options)[1], as_ever(images, **options))


@pytest.mark.parametrize("plain", [False, True])
def test_networks_may_be_frozen_as_pytorch_does(images, plain, monkeypatch):
    monkeypatch.setattr(backend, "PLAIN", plain)
    shape = images.shape[1:]
    model = keras_ae.VAE(2, image_shape=shape, architecture="dense", widths=(8,))
    model.encoder.requires_grad_(False)
    before = [w.copy() for w in model.encoder.get_weights()]
    decoder = model.decoder.get_weights()[0].copy()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        model.fit(images, batch_size=5, epochs=2, verbose=0)
    for old, new in zip(before, model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.abs(decoder - model.decoder.get_weights()[0]).max() > 0
    # Of a player that is frozen as a whole nothing is left to tell.
    model.requires_grad_(False)
    model.fit(images, batch_size=5, verbose=0)
    model.encoder.requires_grad_(True)
    model.decoder.requires_grad_(True)
    model.fit(images, batch_size=5, verbose=0)
    assert np.abs(before[0] - model.encoder.get_weights()[0]).max() > 0


def test_models_are_evaluated_in_inference_mode(images):
    model, _ = train(images)
    with torch.inference_mode():
        assert np.isfinite(model.evaluate(images, batch_size=5, verbose=0)).all()
        with pytest.raises(ValueError, match="outside of `torch.inference_mode"):
            model.fit(images, verbose=0)
    model.fit(images, batch_size=5, verbose=0)


def test_run_eagerly_may_be_set_later(images):
    model = keras_ae.AE(2, architecture="dense", widths=(8,))
    model.fit(images, batch_size=8, epochs=2, verbose=0)
    model.decoder.trainable = False
    model.run_eagerly = True
    before = [to_numpy(v) for v in model.decoder.variables]
    model.fit(images, batch_size=8, verbose=0)
    after = [to_numpy(v) for v in model.decoder.variables]
    assert_same(after, before)


def test_run_eagerly_records_nothing(images):
    model, mine = train(images, compiled={"run_eagerly": True})
    assert not hasattr(model.train_function, "steps")
    assert_same(mine, as_ever(images))


KERAS_ADAM = keras.optimizers.Adam


class Descended(KERAS_ADAM):
    """One that may do anything in its update."""


def steps_of(optimizer, gradients, weights, apply):
    """The weights after each step."""
    variables = [keras.Variable(weight) for weight in weights]
    optimizer.build(variables)
    found = []
    for step in gradients:
        with torch.no_grad():
            # As convolutions give them: in another order in memory.
            step = [torch.as_tensor(g.T.copy()) for g in step]
            step = [g.permute(*reversed(range(g.ndim))) for g in step]
            apply(optimizer, step, variables)
        found.append([to_numpy(v) for v in (*variables, *optimizer.variables)])
    return found


@pytest.mark.parametrize("Optimizer", [KERAS_ADAM, keras.optimizers.AdamW, Descended])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2},
        {"clipnorm": 0.5, "weight_decay": 0.1},
        {"global_clipnorm": 0.5, "use_ema": True, "ema_overwrite_frequency": 4},
        {"gradient_accumulation_steps": 3},
        {"loss_scale_factor": 8.0},
        {"amsgrad": True},
        {"learning_rate": keras.optimizers.schedules.CosineDecay(1e-2, 8)},
    ],
)
def test_one_kernel_updates_as_keras_does(Optimizer, options):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype("float32") for shape in ((5, 3), (4,))]
    gradients = [
        [rng.normal(size=w.shape).astype("float32") for w in weights] for _ in range(20)
    ]

    def fused(optimizer, gradients, variables):
        backend.apply_gradients(optimizer, gradients, variables, None)

    mine = steps_of(Optimizer(**options), gradients, weights, fused)
    theirs = steps_of(Optimizer(**options), gradients, weights, Optimizer.apply)
    for ours, keras_own in zip(mine, theirs, strict=True):
        for a, b in zip(ours, keras_own, strict=True):
            # Keras computes the first steps' corrections in float32.
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_kernel_is_called_for_adam_alone(monkeypatch):
    called = []
    monkeypatch.setattr(_torch, "adam", lambda *a, **k: called.append(k["eps"]))
    for Optimizer, options in (
        (Descended, {}),
        (KERAS_ADAM, {"amsgrad": True}),
        (keras.optimizers.SGD, {}),
        (KERAS_ADAM, {"epsilon": 1e-3, "beta_2": 0.75}),
    ):
        ones = [np.ones(3, "float32")]
        steps_of(
            Optimizer(**options),
            [ones],
            ones,
            lambda optimizer, g, v: backend.apply_gradients(optimizer, g, v, None),
        )
    assert called == [pytest.approx(2e-3)]  # epsilon / sqrt(1 - beta_2)


def test_training_goes_on_from_a_saved_model(images, tmp_path):
    model, _ = train(images, Model=keras_ae.AE, batch_size=8, shuffle=False)
    model.save(tmp_path / "model.keras")
    other = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, other):
        each.fit(images, batch_size=8, epochs=3, verbose=0, shuffle=False)
    for mine, theirs in zip(
        (*model.weights, *model.optimizer.variables),
        (*other.weights, *other.optimizer.variables),
        strict=True,
    ):
        np.testing.assert_allclose(
            to_numpy(mine), to_numpy(theirs), rtol=1e-5, atol=1e-6
        )


def record(function, *inputs, variables=()):
    with recording.Recorder(inputs, variables) as recorder:
        outputs = function(*inputs)
    program = recorder.finish(outputs)
    return recorder, program and program.run


def test_a_recording_is_of_its_inputs():
    ones, twos = torch.ones(3), torch.full((3,), 2.0)
    total = torch.zeros(3)

    def step(x):
        total.add_(x)
        return [torch.exp(x) + torch.tensor(1.0), total.sum()]

    _, run = record(step, ones, variables=[total])
    result, summed = run(twos)
    torch.testing.assert_close(result, torch.exp(twos) + 1.0)
    assert summed == 9.0
    torch.testing.assert_close(total, torch.full((3,), 3.0))


def test_unused_results_are_not_computed():
    seen = []

    def step(x):
        recording.call(lambda y: seen.append(float(y.sum())), 2.0 * x)
        torch.sin(x)
        return [x + 1.0]

    recorder, run = record(step, torch.ones(3))
    assert torch.equal(run(torch.zeros(3))[0], torch.ones(3))
    assert seen == [6.0, 0.0]
    assert "sin" in str(recorder.constants.values())
    assert len(recorder.calls) == 4


def front(x):
    return x.permute(0, 3, 1, 2).contiguous()


def back(x):
    return x.contiguous(memory_format=torch.channels_last)


def test_decisions_by_variables_are_made_again():
    variable = torch.tensor(1.0)

    def step(x):
        factor = float(2.0 * variable)
        variable.add_(1.0)
        return [x * factor]

    x = torch.ones(3)
    with recording.Recorder([x], [variable]) as recorder:
        outputs = step(x)
    program = recorder.finish(outputs)
    assert variable == 2.0 and not program.holds()
    variable.fill_(1.0)
    assert program.holds()
    assert torch.equal(program.run(torch.ones(3))[0], torch.full((3,), 2.0))
    assert variable == 2.0

    def late(x):
        variable.add_(1.0)
        return [x * float(variable)]

    assert record(late, torch.ones(3), variables=[variable])[1] is None


def test_copies_of_copies_are_spared():
    def step(x):
        return [back(front(torch.relu(x))) + 1.0]

    x = torch.randn(2, 3, 4, 5)
    recorder, run = record(step, torch.ones(2, 3, 4, 5))
    assert torch.equal(run(x)[0], step(x)[0])
    kernels = [str(recorder.constants[call.function]) for call in recorder.calls]
    assert "clone" not in " ".join(kernels[:2]) and len(kernels) == 4


@pytest.mark.parametrize(
    "step",
    [
        lambda x, y, z: [x, y, z.mul_(2.0)],
        lambda x, y, z: [y, x.mul_(2.0), z],
        lambda x, y, z: [y.mul_(2.0), back(y), back(front(y.permute(0, 2, 3, 1)))],
    ],
)
def test_copies_that_are_changed_are_others(step):
    def copied(x):
        x = torch.relu(x)
        y = front(x)
        return step(x, y, back(y))

    x = torch.randn(2, 3, 4, 5)
    _, run = record(copied, torch.ones(2, 3, 4, 5))
    if run is not None:
        for mine, theirs in zip(run(x), copied(x), strict=True):
            assert torch.equal(mine, theirs)


def test_kernels_that_may_assign_to_what_they_are_not_given():
    def step(x):
        return [torch.nn.functional.batch_norm(x, None, None, training=True)]

    x = torch.randn(5, 3)
    _, run = record(step, torch.ones(5, 3))
    assert torch.equal(run(x)[0], step(x)[0])


def test_random_numbers_are_drawn_anew():
    seeds = keras.random.SeedGenerator(1)

    def step(x):
        return [x + keras.random.normal((3,), seed=seeds)]

    zeros = torch.zeros(3)
    start = seeds.state.value.detach().clone()
    expected = [step(zeros)[0] for _ in range(3)]
    seeds.state.assign(start)
    _, run = record(step, zeros, variables=[seeds.state.value])
    with torch.no_grad():
        found = [run(zeros)[0] for _ in range(2)]
    for mine, theirs in zip(found, expected[1:], strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: [x * float(x.sum())],
        lambda x: [x * float(x.sum()), keras.random.normal((3,), seed=SEEDS)],
        lambda x: [x[x > 0]],
        lambda x: [torch.nonzero(x)],
        lambda x: [x if torch.equal(x, x) else -x],
        lambda x: [torch.rand(3, generator=torch.Generator().manual_seed(3))],
        lambda x: [FOREIGN.add_(x)],
    ],
)
def test_what_can_not_be_recorded(step):
    recorder, run = record(step, torch.ones(3))
    assert run is None
    assert recorder.refusal


FOREIGN = torch.zeros(3)
SEEDS = keras.random.SeedGenerator(1)
