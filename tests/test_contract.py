"""The contract that every registered model passes, on every backend."""

import functools
import json
import math
import os
import subprocess
import sys
import textwrap
from types import MappingProxyType
from typing import NamedTuple

import keras
import numpy as np
import pytest
from conftest import forget
from contract import (
    BACKEND,
    ELSEWHERE,
    NON_DEFAULT,
    SHAPES,
    TRAINED,
    WITH_NETWORKS,
    decoder_name,
    evaluate,
    fit,
    is_stacked,
    labels,
    learn,
    make,
    make_networks,
    non_default,
    optimizers,
    owns_codes,
    rates,
    remove_noise,
    settings,
    weights,
)
from numerics import to_numpy

import keras_ae
from keras_ae import backend, models
from keras_ae.models.base import latent_search
from keras_ae.nn import networks, seeds

# One of each kind of player and optimizer: for what does not depend on the objective.
REPRESENTATIVE = ("AE", "AutoDecoder", "GAN", "StackedSAE", "VQVAE")
FEW = ("AE", "VAE")


def of(argument, mark_of, names=TRAINED, **kwargs):
    """Parametrizes a test by models, each with the mark that `mark_of` returns."""
    marks = {name: mark_of(name) for name in names}
    return pytest.mark.parametrize(
        argument,
        [
            pytest.param(name, marks=[mark] if mark else [])
            for name, mark in marks.items()
        ],
        indirect=True,
        **kwargs,
    )


def compiling(name):
    """What differs in a formula only is by default not compiled anew for it."""
    if name in REPRESENTATIVE:
        return None
    here = name in WITH_NETWORKS and name not in ELSEWHERE.get(BACKEND, ())
    return pytest.mark.thorough if here else pytest.mark.slow


def unlike(name):
    """What all models do alike is by default seen at a few."""
    return None if name in REPRESENTATIVE else pytest.mark.slow


# A formula is the same on each backend: tests/test_backends.py compares them, compiled.
# PyTorch, which compiles nothing, has all of them here.
FORMULAS = TRAINED if BACKEND == "torch" else REPRESENTATIVE

of_compiled = of("story", compiling, scope="module")
of_formulas = of("story", lambda name: None, FORMULAS, scope="module")
few_by_default = of("Model", unlike)
of_networks = pytest.mark.parametrize("Model", WITH_NETWORKS, indirect=True)


@pytest.fixture(params=TRAINED)
def Model(request):
    return getattr(models, request.param)


@pytest.fixture(autouse=True)
def _short_searches(monkeypatch):
    """Searches for codes, which take dozens of steps and turns, take three of each."""
    descend = latent_search.descend

    def shortened(objective, z, steps, learning_rate, turns=1):
        return descend(objective, z, 3, learning_rate, min(turns, 3))

    monkeypatch.setattr(latent_search, "descend", shortened)


class Fit(NamedTuple):
    """A model that has been trained, and what was logged."""

    model: keras.Model
    history: dict[str, list[float]]


class Story:
    """One model of arguments other than the defaults, compiled once, and its life.

    Each chapter is written when a test first reads it, after those that come before it:
    the model is the same in all of them but `stepwise` and `again`.
    """

    def __init__(self, Model, images, folder):
        self.Model, self.images, self.folder = Model, images, folder

    def make(self, **kwargs):
        return make(self.Model, **{**non_default(self.Model), **kwargs})

    def fit(self, model, **kwargs):
        keras.utils.set_random_seed(2)
        return fit(model, self.images, **{"batch_size": 8, "shuffle": True, **kwargs})

    @functools.cached_property
    def begun(self):
        """Built by its first batch, and two epochs trained."""
        model = self.make()
        assert not model.built
        model.compile(keras.optimizers.Adam(1e-2, clipnorm=5.0))
        return Fit(model, self.fit(model, validation_data=self.images[:8]))

    @functools.cached_property
    def stepwise(self):
        """Its first epoch, by another model of which nothing is compiled."""
        model = self.make()
        model.compile(keras.optimizers.Adam(1e-2, clipnorm=5.0), run_eagerly=True)
        return Fit(model, self.fit(model, epochs=1, validation_data=self.images[:8]))

    @functools.cached_property
    def saved(self):
        """What the model does and holds when it is saved."""
        model, _ = self.begun
        if "normal" in self.Model.SAMPLERS:
            model.fit_sampler("normal", self.images)
        model.save(self.folder / "model.keras")
        return self.record(model)

    @functools.cached_property
    def loaded(self):
        """What was saved, as it is in the file."""
        assert self.saved
        model = keras.saving.load_model(self.folder / "model.keras")
        return model, self.record(model)

    @functools.cached_property
    def again(self):
        """What was loaded, two epochs on: a few models take several steps at once."""
        model, _ = self.loaded
        several = BACKEND != "torch" and self.Model.__name__ in REPRESENTATIVE
        model.compile(
            model.optimizer,
            steps_per_execution=3 if several else 1,
            # TensorFlow would trace for longer than the few steps take.
            run_eagerly=BACKEND == "tensorflow" and not several,
        )
        return Fit(model, self.fit(model))

    @functools.cached_property
    def gone_on(self):
        """What was not only saved, trained for two epochs as before."""
        assert self.saved
        model, _ = self.begun
        return Fit(model, self.fit(model))

    @functools.cached_property
    def learned(self):
        """What falls: at first, and after some epochs."""
        model, history = self.gone_on
        name = "reconstruction" if self.contest else "loss"
        resting = {}
        if hasattr(model, "project"):
            # The sum of two opponents' losses need not fall; that of one alone does.
            name, resting = "discriminator_loss", {"generator": 0.0}
        elif not is_stacked(self.Model):
            history = self.begun.history
        with rates(model, resting):
            losses = self.fit(model, epochs=12)[name]
        return history[name][0], losses[-1]

    @property
    def contest(self):
        return self.Model.player_names and "reconstruction" in self.Model.term_names

    def record(self, model):
        return {
            "samplers": model.fitted_samplers,
            "samples": [
                model.sample(3, seed=0, sampler=name) for name in model.fitted_samplers
            ],
            "codes": model.encode(self.images),
            "reconstructions": model.reconstruct(self.images),
            "optimizer": [*map(to_numpy, model.optimizer.variables)],
        }


@pytest.fixture(scope="module", params=TRAINED)
def story(request, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    yield Story(getattr(models, request.param), images, folder)
    forget()


@of_compiled
def test_builds_from_data_and_from_image_shape(story, images):
    from_shape = story.make(image_shape=images.shape[1:])
    assert from_shape.built
    shapes = [
        [w.shape for w in model.trainable_weights]
        for model in (from_shape, story.begun.model)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("Model", "image_shape", "architecture"),
    [
        pytest.param(
            name,
            *shape,
            # Each shape is met by a few of the models, and by all with `--all`.
            marks=[] if name in FEW or (i + j) % 6 == 0 else pytest.mark.slow,
        )
        # A VAE has the networks of an AE, and a head more.
        for i, name in enumerate(WITH_NETWORKS if BACKEND == "torch" else ["VAE"])
        for j, shape in enumerate(SHAPES)
    ],
    indirect=["Model"],
)
def test_any_shape_and_architecture(Model, image_shape, architecture, monkeypatch):
    # Shapes do not depend on it, and each of these functions is called once.
    monkeypatch.setattr(backend, "compiled", lambda function, variables: function)
    if Model is keras_ae.MSSSIMVAE and len(image_shape) == 1:
        with pytest.raises(ValueError, match="needs pictures"):
            make_networks(Model, architecture, image_shape=image_shape)
        return
    model = make_networks(Model, architecture, image_shape=image_shape)
    model.compile(run_eagerly=True)
    x = np.random.default_rng(0).random((3, *image_shape), dtype="float32")
    z = model.encode(x)
    assert z.shape == (3, model.code_dim)
    assert model.decode(z).shape == x.shape
    assert model.reconstruct(x).shape == x.shape
    assert math.isfinite(evaluate(model, x)["loss"])


@of_compiled
def test_predict_reconstructs(story, images):
    model, _ = story.begun
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model.reconstruct(images), atol=1e-5
    )


@of_formulas
def test_terms_are_per_example_and_finite(story, images):
    model, _ = story.stepwise
    x = model.to_floats(keras.ops.convert_to_tensor(images[:8]))
    for training in (True, False):
        names, figures = [], {}
        for player in {p.name: p for p in model.players()}.values():
            outputs = (player.call or model)(x, training=training)
            # As the step gives them: `monitors` must not need what `terms` wrote.
            outputs = MappingProxyType(outputs)
            terms = player.terms(x, outputs, training=training)
            names += model.minimised(terms)
            if player.monitors is not None:
                terms = {**terms, **player.monitors(x, outputs, terms)}
            figures |= terms
        assert sorted(names) == sorted(model.term_names)
        assert set(figures) == {*model.term_names, *model.monitor_names}
        for value in figures.values():
            assert tuple(value.shape) == (8,)
            assert np.isfinite(keras.ops.convert_to_numpy(value)).all()


@of_compiled
def test_logged_loss_is_the_sum_of_logged_terms(story):
    model, history = story.begun
    for prefix in ("", "val_"):
        total = sum(np.array(history[prefix + name]) for name in model.term_names)
        np.testing.assert_allclose(history[prefix + "loss"], total, rtol=1e-5)


@of_formulas
def test_evaluate_logs_the_means_of_what_each_example_is_told(story, images):
    model, _ = story.begun
    y = labels(model, images)
    found = model.terms_of(images, y, seed=3, batch_size=8)
    with seeds.repeatable(model, 3):
        logs = evaluate(model, images, batch_size=8)
    assert set(found) == set(logs)
    for name, values in found.items():
        assert values.shape == (32,)
        np.testing.assert_allclose(values.mean(), logs[name], rtol=1e-4, atol=1e-5)


@of_formulas
def test_validation_has_the_objective_of_training(story, images, monkeypatch):
    if owns_codes(story.Model):
        pytest.skip("it searches for the codes of validation data")
    model, _ = story.stepwise
    remove_noise(model, monkeypatch)
    with rates(model, 0.0):
        history = fit(model, images, epochs=1, validation_data=images)
    for name in ("loss", *model.term_names):
        np.testing.assert_allclose(
            history[name][-1], history[f"val_{name}"][-1], rtol=0.1, atol=3.0
        )


@of("Model", lambda name: None, FORMULAS)
def test_regularizers_are_a_logged_term(Model, images):
    if is_stacked(Model):
        pytest.skip("its networks are its own")
    regularized = keras.Sequential(
        [
            keras.layers.Dense(120, kernel_regularizer=keras.regularizers.L2(1.0)),
            keras.layers.Reshape(images.shape[1:]),
        ]
    )
    model = make(Model, **{decoder_name(Model): regularized})
    model.compile(run_eagerly=True)
    history = fit(model, images[:16], epochs=1, validation_data=images[:16])
    for prefix in ("", "val_"):
        assert min(history[prefix + "regularization"]) > 0
        names = (*model.term_names, "regularization")
        total = sum(np.array(history[prefix + name]) for name in names)
        np.testing.assert_allclose(history[prefix + "loss"], total, rtol=1e-5)


@of_compiled
def test_loss_falls(story):
    first, last = story.learned
    assert last < first - (1 if first > 50 else 0.5)


@pytest.mark.once
def test_config_returns_what_was_passed(Model):
    passed = {
        **settings(Model),
        **NON_DEFAULT[Model.__name__],
        "image_shape": (5, 4),
    }
    model = Model(**passed, name="mine")
    again = Model.from_config(json.loads(json.dumps(model.get_config())))
    assert again.name == "mine"
    for name, value in passed.items():
        for received in (getattr(model, name), getattr(again, name)):
            if isinstance(value, str) and name == "likelihood":
                assert type(received).__name__.lower() == value
            elif hasattr(value, "get_config"):
                assert received.get_config() == value.get_config()
            else:
                assert received == value


@of_compiled
def test_saving_keeps_outputs_and_optimizer(story):
    model, again = story.loaded
    assert type(model) is story.Model
    assert [optimizer.clipnorm for optimizer in optimizers(model)]
    assert all(optimizer.clipnorm == 5.0 for optimizer in optimizers(model))
    shape = (3, *story.images.shape[1:])
    assert all(sample.shape == shape for sample in again["samples"])
    keras.tree.map_structure(np.testing.assert_array_equal, again, story.saved)


@of_compiled
def test_a_loaded_model_goes_on_whatever_the_steps_of_a_dispatch(story):
    np.testing.assert_allclose(
        story.again.history["loss"], story.gone_on.history["loss"], rtol=1e-4
    )


@pytest.mark.skipif(BACKEND != "torch", reason="other backends take several steps")
def test_pytorch_takes_a_step_at_a_time(Model, images):
    model = make(Model)
    model.compile(steps_per_execution=2)
    with pytest.raises(ValueError, match="steps_per_execution"):
        fit(model, images)


@of("story", compiling, FORMULAS, scope="module")
def test_seeded_runs_repeat_compiled_or_not(story):
    mine, theirs = story.begun.history, story.stepwise.history
    assert mine.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(
            mine[name][: len(values)], values, rtol=1e-3, atol=1e-4, err_msg=name
        )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX compiles all it runs by XLA")
@pytest.mark.parametrize("Model", ["AE", "AutoDecoder", "GAN"], indirect=True)
def test_xla_agrees_with_tensorflow(Model, images, monkeypatch):
    histories = []
    for jit_compile in (True, False):
        model = make(Model, image_shape=images.shape[1:])
        # It draws other numbers.
        remove_noise(model, monkeypatch)
        model.compile(keras.optimizers.Adam(1e-3), jit_compile=jit_compile)
        histories.append(fit(model, images)["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-4)


@pytest.mark.thorough
@of("Model", lambda name: None, REPRESENTATIVE)
@pytest.mark.parametrize(
    "options",
    [
        {"clipnorm": 1e-3, "gradient_accumulation_steps": 2},
        {"use_ema": True, "ema_momentum": 0.5, "weight_decay": 0.1},
    ],
)
def test_optimizer_options(Model, images, options):
    model = make(Model, image_shape=images.shape[1:])
    model.compile(keras.optimizers.Adam(1e-2, **options))
    before = weights(model)
    losses = fit(model, images, epochs=4)["loss"]
    assert np.isfinite(losses).all()
    assert any((a != b).any() for a, b in zip(before, weights(model), strict=True))


@of_compiled
def test_each_player_moves_only_its_own_weights(story, images):
    names = story.Model.player_names
    if not names:
        pytest.skip("it has one player")
    assert story.learned
    model, _ = story.begun
    for name in names:
        own = {id(v) for p in model.players() if p.name == name for v in p.variables}
        before = [(v, to_numpy(v)) for v in model.trainable_variables]
        with rates(model, {other: 0.0 for other in names if other != name}):
            model.train_on_batch(images[:8])
        moved = {id(v) for v, value in before if (to_numpy(v) != value).any()}
        assert moved and moved <= own


@of("story", lambda name: None, REPRESENTATIVE, scope="module")
def test_early_stopping_restores_the_best_weights(story, images):
    assert story.learned
    model, _ = story.begun
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=1, restore_best_weights=True, start_from_epoch=1
    )
    # Steps as large as these do not improve anything for long.
    with rates(model, 1.0):
        history = story.fit(
            model, epochs=20, validation_data=images[:8], callbacks=[stopping]
        )
    assert len(history["loss"]) < 20
    assert stopping.best == min(history["val_loss"][1:])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("Model", "architecture"),
    [
        *(
            pytest.param(name, "conv", marks=[mark] if mark else [])
            for name, mark in ((name, unlike(name)) for name in WITH_NETWORKS)
        ),
        *(pytest.param(name, "residual", marks=pytest.mark.slow) for name in FEW),
    ],
    indirect=["Model"],
)
def test_mixed_bfloat16_trains(Model, images, architecture):
    model = make_networks(Model, architecture, (8,), dtype="mixed_bfloat16")
    losses = learn(model, images, epochs=8)
    assert losses[-1] < losses[0]
    assert model.encode(images).dtype == "float32"


@few_by_default
def test_mixed_float16_scales_the_loss(Model, images):
    model = make(Model, dtype="mixed_float16")
    losses = fit(model, images, epochs=1)["loss"]
    assert np.isfinite(losses).all()
    for optimizer in optimizers(model):
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


@of_formulas
def test_sample_weight_weighs_examples(story, images, monkeypatch):
    model, _ = story.stepwise
    remove_noise(model, monkeypatch)
    doubled = evaluate(model, images, sample_weight=np.full(32, 2.0))
    plain = evaluate(model, images)
    np.testing.assert_allclose(doubled["loss"], 2 * plain["loss"], rtol=0.05)


@pytest.mark.once
@of_networks
def test_own_networks_are_saved(Model, images, tmp_path):
    if is_stacked(Model):
        pytest.skip("its networks are its own")
    image_shape = images.shape[1:]
    options = make(Model, image_shape=image_shape).encoder_options(image_shape)
    inputs = keras.Input(options["image_shape"])
    x = keras.layers.Flatten()(inputs)
    heads = networks.head_dims(options["heads"], 3)
    heads = {name: keras.layers.Dense(units)(x) for name, units in heads.items()}
    encoder = keras.Model(inputs, heads if len(heads) > 1 else heads["z"])
    decoder = keras.Sequential(
        [keras.layers.Dense(120), keras.layers.Reshape(images.shape[1:])]
    )
    own = {"encoder": encoder, decoder_name(Model): decoder}
    own = {k: v for k, v in own.items() if k not in Model.settled_arguments}
    if Model is keras_ae.GAN:
        own["discriminator"] = keras.Sequential(
            [keras.layers.Flatten(), keras.layers.Dense(1)]
        )
    model = make(Model, **own, image_shape=image_shape)
    for name, network in own.items():
        assert getattr(model, name) is network
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.reconstruct(images), model.reconstruct(images))


@pytest.mark.once
@of_networks
def test_encoder_and_decoder_are_models_of_their_own(Model, images, tmp_path):
    model = make(Model, image_shape=images.shape[1:])
    for network in (model.encoder, model.decoder):
        if network is None:
            continue
        x = np.random.default_rng(0).random((2, *network.input_shape[1:]))
        network.save(tmp_path / "network.keras")
        again = keras.saving.load_model(tmp_path / "network.keras")
        for mine, theirs in zip(
            keras.tree.flatten(network(x)),
            keras.tree.flatten(again(x)),
            strict=True,
        ):
            np.testing.assert_array_equal(to_numpy(mine), to_numpy(theirs))


@pytest.mark.once
def test_subclasses_keep_their_arguments(Model, images, tmp_path):
    class Scaled(Model):
        def __init__(self, factor: float = 1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def terms(self, x, outputs, training=False):
            terms = super().terms(x, outputs, training)
            return {name: self.factor * value for name, value in terms.items()}

    model = make(Scaled, factor=2.0, image_shape=images.shape[1:])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is Scaled
    assert again.factor == 2.0 and again.latent_dim == 3


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(REPRESENTATIVE, marks=pytest.mark.thorough, id="few"),
        pytest.param(
            [name for name in TRAINED if name not in REPRESENTATIVE],
            marks=pytest.mark.slow,
            id="others",
        ),
    ],
)
def test_weights_of_one_backend_load_in_another(images, tmp_path, names, monkeypatch):
    other = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}[BACKEND]
    pytest.importorskip(other)
    monkeypatch.setattr(backend, "compiled", lambda function, variables: function)
    for name in names:
        if name in WITH_NETWORKS:
            model = make_networks(
                getattr(models, name), "conv", (4,), image_shape=images.shape[1:]
            )
        else:
            model = make(getattr(models, name), image_shape=images.shape[1:])
        if name in REPRESENTATIVE:
            fit(model, images, epochs=1)
        model.save(tmp_path / f"{name}.keras")
        restored = [] if model.encoder is None else model.reconstruct(images)
        z = np.random.default_rng(0).normal(size=(4, model.code_dim))
        expected = {"z": z, "decoded": model.decode(z), "restored": restored}
        np.savez(tmp_path / f"{name}.npz", **expected)
    np.save(tmp_path / "images.npy", images)
    script = f"""
        import pathlib, keras, numpy as np
        import keras_ae.models
        from keras_ae import backend
        backend.compiled = lambda function, variables: function
        folder = pathlib.Path(r"{tmp_path}")
        images = np.load(folder / "images.npy")
        for path in folder.glob("*.keras"):
            model = keras.saving.load_model(path)
            expected = np.load(path.with_suffix(".npz"))
            decoded = model.decode(expected["z"])
            np.testing.assert_allclose(decoded, expected["decoded"], atol=1e-5)
            if len(expected["restored"]):
                restored = model.reconstruct(images)
                np.testing.assert_allclose(restored, expected["restored"], atol=1e-5)
            if path.stem in {REPRESENTATIVE}:
                model.fit(images, verbose=0)
            print("same", path.stem, keras.backend.backend(), model.jit_compile)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "KERAS_BACKEND": other},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for name in names:
        assert f"same {name} {other} {other == 'jax'}" in run.stdout


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": True}, "`latent_dim` must be"),
        ({"latent_dim": 0}, "`latent_dim` must be an integer >= 1. Received: .*0"),
        ({"latent_dim": 1.5}, "`latent_dim` must be"),
        ({"architecture": "transformer"}, "`architecture` must be one of .*'conv'"),
        ({"widths": (0,)}, "`widths` must be"),
        ({"widths": 64}, "`widths` must be a list"),
        ({"widths": ("a",)}, "`widths` must be a list"),
        ({"image_shape": "big"}, "`image_shape` must be"),
        ({"image_shape": (None, 64)}, "`image_shape` must be"),
        ({"image_shape": (7,), "architecture": "conv"}, "needs pictures"),
        ({"encoder": 3, "image_shape": (7,)}, "`encoder` must be a Keras model"),
        ({"likelihood": "cauchy"}, "likelihood"),
    ],
)
def test_bad_arguments(Model, arguments, message):
    if is_stacked(Model) and not {"image_shape", "likelihood"} >= arguments.keys():
        message = "must be left out: `layer_dims`"
    elif arguments.keys() & {*Model.settled_arguments}:
        message = "must be left out"
    with pytest.raises(ValueError, match=message):
        make(Model, **arguments)


@pytest.mark.once
@of_networks
def test_networks_of_wrong_shapes_are_refused(Model):
    if is_stacked(Model):
        pytest.skip("its networks are its own")
    encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)])
    if "encoder" not in Model.settled_arguments:
        with pytest.raises(ValueError, match=r"`encoder` must be .*3\).*Received"):
            make(Model, encoder=encoder, image_shape=(4, 4))
    name = decoder_name(Model)
    with pytest.raises(ValueError, match=rf"`{name}` must be .*4, 4\).*Received"):
        make(Model, **{name: keras.layers.Dense(5)}, image_shape=(4, 4))
