"""The contract that every registered model passes, on every backend."""

import json
import math
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from numerics import to_numpy

import keras_ae
from keras_ae import models, networks, projection

SETTINGS = {"latent_dim": 3, "widths": (24,), "architecture": "dense"}
# The discrepancy of a small batch is mostly noise.
WAE_SETTINGS = {**SETTINGS, "penalty_weight": 1.0}
LADDER_SETTINGS = {**SETTINGS, "upper_dims": (3,)}
FLOW_SETTINGS = {**SETTINGS, "steps": 2}
LABELLED_SETTINGS = {**SETTINGS, "num_classes": 4}
# The codebook starts from a batch, of which the smallest here has five examples.
VQ_SETTINGS = {**SETTINGS, "num_codes": 4}
FSQ_SETTINGS = {"levels": (5, 4, 3), "widths": (24,), "architecture": "dense"}
STACKED_SETTINGS = {"layer_dims": (24, 3), "pretraining_epochs": 1}
# PCA has nothing to train by gradient descent; tests/test_pca.py is its contract.
TRAINED = [name for name in models.__all__ if name != "PCA"]
# They differ from `VAE`, `IWAE` or `IAFVAE` in what they minimise or in how they draw
# codes: their networks are those', and are tested there.
OBJECTIVES = {
    "BetaTCVAE",
    "BetaVAE",
    "CIWAE",
    "DIPVAE",
    "HamiltonianVAE",
    "InfoVAE",
    "MIWAE",
    "PIWAE",
    "PlanarFlowVAE",
    "PoincareVAE",
    "SigmaVAE",
    "SphericalVAE",
    "SylvesterFlowVAE",
}
WITH_NETWORKS = [name for name in TRAINED if name not in OBJECTIVES]
of_networks = pytest.mark.parametrize("Model", WITH_NETWORKS, indirect=True)

# Arguments other than the defaults, that `get_config` must return.
NON_DEFAULT = {
    "AAE": {
        "adversarial_loss": "wasserstein",
        "gradient_penalty": 3.0,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "AE": {"activation": "tanh", "likelihood": "laplace"},
    "AutoDecoder": {
        "code_weight": 0.3,
        "search_steps": 7,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "BetaTCVAE": {
        "alpha": 0.5,
        "gamma": 2.0,
        "beta": 0.3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "BetaVAE": {
        "capacity": 3.0,
        "free_bits": 0.1,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "CIWAE": {
        "samples": 2,
        "elbo_weight": 0.2,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "DIPVAE": {
        "covariance": "means",
        "off_diagonal_weight": 3.0,
        "diagonal_weight": 4.0,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "HamiltonianVAE": {
        "leapfrog_steps": 2,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "PoincareVAE": {
        "curvature": 0.7,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "SphericalVAE": {"beta": 0.3, "activation": "tanh", "likelihood": "laplace"},
    "HierarchicalVAE": {
        "upper_dims": (3, 2),
        "upper_widths": (5,),
        "free_bits": 0.1,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "InfoVAE": {
        "mmd_weight": 3.0,
        "kernel": "rbf",
        "beta": 0.3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "IWAE": {
        "samples": 2,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "MIWAE": {
        "samples": 2,
        "bounds": 3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "MSSSIMVAE": {
        "weight": 3.0,
        "pixel_weight": 0.5,
        "beta": 0.3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "PIWAE": {
        "samples": 2,
        "bounds": 3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "SigmaVAE": {
        "scale": "learned",
        "beta": 0.3,
        "activation": "tanh",
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
    },
    "ConditionalVAE": {
        "num_classes": 3,
        "activation": "tanh",
        "likelihood": "laplace",
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "free_bits": 0.05,
    },
    "ContractiveAE": {"code_activation": "tanh", "weight": 0.02, "activation": "tanh"},
    "GAN": {
        "adversarial_loss": "wasserstein",
        "critic_steps": 2,
        "gradient_penalty": 3.0,
        "spectral_norm": True,
        "ema_momentum": 0.9,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": keras_ae.likelihoods.Laplace(0.2),
    },
    "GLO": {
        "pixel_weight": 0.3,
        "search_steps": 7,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "BiGAN": {
        "adversarial_loss": "wasserstein",
        "critic_steps": 2,
        "gradient_penalty": 3.0,
        "spectral_norm": True,
        "ema_momentum": 0.9,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": keras_ae.likelihoods.Laplace(0.2),
    },
    "FactorVAE": {
        "gamma": 3.0,
        "discriminator_widths": (16, 8),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "FullCovarianceVAE": {
        "free_bits": 0.05,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "IAFVAE": {
        "steps": 1,
        "context_dim": 5,
        "flow_widths": (6, 7),
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "PlanarFlowVAE": {
        "steps": 1,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "SylvesterFlowVAE": {
        "steps": 1,
        "reflections": 3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "DenoisingAE": {"corruption": keras_ae.layers.MaskingCorruption((0.1, 0.4), 5)},
    "RAE": {"regularizer": "spectral_norm", "code_weight": 0.02},
    "SparseAE": {"sparsity": keras_ae.layers.KLSparsity(0.5, 0.2, momentum=0.8)},
    "StackedSAE": {
        "pretraining": "denoising",
        "pretraining_epochs": (1, 2),
        "pretraining_patience": 3,
        "corruption": keras_ae.layers.GaussianCorruption(0.2, 5),
        "sparsity": keras_ae.layers.KSparse(2),
        "gibbs_steps": 2,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "FSQVAE": {"positions": 2, "activation": "tanh", "likelihood": "laplace"},
    "ResidualVQVAE": {"num_quantizers": 2, "positions": 2, "decay": 0.9},
    "VQVAE": {
        "positions": 2,
        "codebook": "gradient",
        "commitment_weight": 0.5,
        "decay": 0.9,
        "reset_threshold": 0.1,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "VAE": {
        "activation": "tanh",
        "likelihood": "laplace",
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "free_bits": 0.05,
    },
    "VAEGAN": {
        "gamma": 0.5,
        "pixel_weight": 0.1,
        "adversarial_loss": "hinge",
        "feature_layer": "features",
        "discriminator_start": 1,
        "equilibrium": (0.9, 0.6),
        "spectral_norm": True,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "VariationalAutoDecoder": {
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "search_steps": 7,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "WAE": {
        "penalty": "gan",
        "penalty_weight": 3.0,
        "kernel": "rbf",
        "adversarial_loss": "hinge",
        "gradient_penalty": 2.0,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
}

BACKEND = keras.backend.backend()


@pytest.fixture(params=TRAINED)
def Model(request):
    return getattr(models, request.param)


@pytest.fixture(autouse=True)
def _short_searches(monkeypatch):
    """Searches for codes, which take hundreds of steps, take three."""
    descend = projection.descend

    def shortened(objective, z, steps, *others):
        return descend(objective, z, 3, *others)

    monkeypatch.setattr(projection, "descend", shortened)


def owns_codes(Model):
    return issubclass(Model, keras_ae.AutoDecoder)


def decoder_name(Model):
    """What the argument for a decoder of one's own is called."""
    return "generator" if "decoder" in Model.settled_arguments else "decoder"


def is_stacked(Model):
    return issubclass(Model, keras_ae.StackedSAE)


def settings(Model):
    if issubclass(Model, keras_ae.WAE):
        return WAE_SETTINGS
    if issubclass(Model, keras_ae.HierarchicalVAE):
        return LADDER_SETTINGS
    if issubclass(Model, keras_ae.models.flows.FlowVAE):
        return FLOW_SETTINGS
    if Model.needs_labels:
        return LABELLED_SETTINGS
    if issubclass(Model, keras_ae.VQVAE):
        return VQ_SETTINGS
    if issubclass(Model, keras_ae.FSQVAE):
        return FSQ_SETTINGS
    return STACKED_SETTINGS if is_stacked(Model) else SETTINGS


def make(Model, **kwargs):
    keras.utils.set_random_seed(1)
    return Model(**{**settings(Model), **kwargs})


def make_networks(Model, architecture, widths=None, **kwargs):
    """A model of an architecture, for those that have a choice of it."""
    if is_stacked(Model):
        return make(Model, **kwargs)
    return make(Model, architecture=architecture, widths=widths, **kwargs)


def labels(model, images):
    """Labels for a model that needs them."""
    return np.arange(len(images)) % model.num_classes if model.needs_labels else None


def fit(model, images, epochs=2, validation_data=None, **kwargs):
    kwargs = {"batch_size": 16, "shuffle": False, "verbose": 0, **kwargs}
    if validation_data is not None and model.needs_labels:
        validation_data = (validation_data, labels(model, validation_data))
    return model.fit(
        images,
        labels(model, images),
        epochs=epochs,
        validation_data=validation_data,
        **kwargs,
    ).history


def evaluate(model, images, **kwargs):
    y = labels(model, images)
    return model.evaluate(images, y, verbose=0, return_dict=True, **kwargs)


def learn(model, images, epochs):
    """Trains, and returns by epoch what has to fall."""
    model.compile(keras.optimizers.Adam(1e-2))
    contest = model.player_names and "reconstruction" in model.term_names
    name = "reconstruction" if contest else "loss"
    if hasattr(model, "project"):
        # The sum of two opponents' losses need not fall; that of one alone does.
        model.compile({"generator": keras.optimizers.SGD(0.0), "discriminator": "adam"})
        name = "discriminator_loss"
    return fit(model, images, epochs=epochs)[name]


class FixedNoise(keras.layers.Layer):
    """Stands in for the sampling layer where backends draw different numbers."""

    def call(self, mean, log_var):
        signs = 1 - 2 * (np.arange(mean.shape[-1]) % 2)  # 1, -1, 1 ...
        noise = keras.ops.convert_to_tensor(signs, "float32")
        return mean + keras.ops.exp(0.5 * log_var) * noise


class FixedCodes(keras.layers.Layer):
    """Stands in for codes drawn from a prior."""

    def call(self, x):
        steps = keras.ops.arange(keras.ops.shape(x)[0], dtype="float32")[:, None]
        return keras.ops.sin(steps * keras.ops.convert_to_tensor([1.0, 2.0, 3.0]))


def without_noise(model):
    for name in ("sampling", "upper_sampling"):
        if hasattr(model, name):
            setattr(model, name, FixedNoise())
    if hasattr(model, "prior_sampling"):
        model.prior_sampling = FixedCodes()
    if hasattr(model, "permutation"):
        model.permutation = keras.layers.Identity()
    if hasattr(model, "corruption"):
        model.corruption = keras.layers.Identity()
    if hasattr(model, "quantizer"):
        # What starts a codebook and replaces its dead codes.
        for layer in getattr(model.quantizer, "quantizers", [model.quantizer]):
            layer.draw = lambda x: x[:4]
    return model


def optimizers(model):
    """Its optimizer, or those of all its players; not that of codes."""
    if owns_codes(type(model)):
        return [model.optimizer["decoder"]]
    if model.player_names:
        return [model.optimizer[name] for name in model.player_names]
    return [model.optimizer]


def weights(model):
    return [np.array(keras.ops.convert_to_numpy(w)) for w in model.weights]


def test_builds_from_data_and_from_image_shape(Model, images):
    from_shape = make(Model, image_shape=images.shape[1:])
    assert from_shape.built
    from_data = make(Model)
    assert not from_data.built
    fit(from_data, images, epochs=1)
    shapes = [[w.shape for w in m.trainable_weights] for m in (from_shape, from_data)]
    assert shapes[0] == shapes[1]


@of_networks
@pytest.mark.parametrize(
    ("image_shape", "architecture"),
    [
        ((7,), "auto"),
        ((7,), "linear"),
        ((9, 5), "dense"),
        ((16, 17), "auto"),
        ((17, 23, 3), "conv"),
        ((11, 6, 1), "residual"),
        ((13, 9, 4), "linear"),
    ],
)
def test_any_shape_and_architecture(Model, image_shape, architecture):
    if Model is keras_ae.MSSSIMVAE and len(image_shape) == 1:
        with pytest.raises(ValueError, match="needs pictures"):
            make_networks(Model, architecture, image_shape=image_shape)
        return
    model = make_networks(Model, architecture, image_shape=image_shape)
    x = np.random.default_rng(0).random((3, *image_shape), dtype="float32")
    z = model.encode(x)
    assert z.shape == (3, model.code_dim)
    assert model.decode(z).shape == x.shape
    assert model.reconstruct(x).shape == x.shape
    assert math.isfinite(evaluate(model, x)["loss"])


def test_predict_reconstructs(Model, images):
    model = make(Model, image_shape=images.shape[1:])
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model.reconstruct(images), atol=1e-5
    )


def test_terms_are_per_example_and_finite(Model, images):
    model = make(Model, image_shape=images.shape[1:])
    x = model.to_floats(keras.ops.convert_to_tensor(images[:5]))
    for training in (True, False):
        names, figures = [], {}
        for player in {p.name: p for p in model.players()}.values():
            outputs = model(x, training=training)
            terms = player.terms(x, outputs, training=training)
            names += terms
            if player.monitors is not None:
                terms = {**terms, **player.monitors(x, outputs, terms)}
            figures |= terms
        assert sorted(names) == sorted(model.term_names)
        assert set(figures) == {*model.term_names, *model.monitor_names}
        for value in figures.values():
            assert tuple(value.shape) == (5,)
            assert np.isfinite(keras.ops.convert_to_numpy(value)).all()


def test_logged_loss_is_the_sum_of_logged_terms(Model, images):
    model = make(Model)
    history = fit(model, images, validation_data=images[:8])
    for prefix in ("", "val_"):
        total = sum(np.array(history[prefix + name]) for name in model.term_names)
        np.testing.assert_allclose(history[prefix + "loss"], total, rtol=1e-5)


def test_validation_has_the_objective_of_training(Model, images):
    if owns_codes(Model):
        pytest.skip("it searches for the codes of validation data")
    model = without_noise(make(Model))
    model.compile(keras.optimizers.SGD(0.0))
    history = fit(model, images, epochs=3, validation_data=images)
    for name in ("loss", *model.term_names):
        np.testing.assert_allclose(
            history[name][-1], history[f"val_{name}"][-1], rtol=0.1, atol=0.1
        )


def test_regularizers_are_a_logged_term(Model, images):
    if is_stacked(Model):
        pytest.skip("its networks are its own")
    regularized = keras.Sequential(
        [
            keras.layers.Dense(120, kernel_regularizer=keras.regularizers.L2(1.0)),
            keras.layers.Reshape(images.shape[1:]),
        ]
    )
    model = make(
        Model,
        **{decoder_name(Model): regularized},
    )
    history = fit(model, images, validation_data=images)
    for prefix in ("", "val_"):
        assert min(history[prefix + "regularization"]) > 0
        names = (*model.term_names, "regularization")
        total = sum(np.array(history[prefix + name]) for name in names)
        np.testing.assert_allclose(history[prefix + "loss"], total, rtol=1e-5)


def test_loss_falls(Model, images):
    losses = learn(make(Model), images, epochs=25)
    assert losses[-1] < losses[0] - (5 if losses[0] > 50 else 0.5)


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


def test_saving_keeps_outputs_and_optimizer_and_goes_on(Model, images, tmp_path):
    model = make(Model, **NON_DEFAULT[Model.__name__])
    model.compile(keras.optimizers.Adam(3e-3, clipnorm=5.0))
    fit(model, images)
    if "normal" in Model.SAMPLERS:
        model.fit_sampler("normal", images)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is Model
    assert again.fitted_samplers == model.fitted_samplers
    for name in model.fitted_samplers:
        drawn = [m.sample(3, seed=0, sampler=name) for m in (model, again)]
        assert drawn[0].shape == (3, *images.shape[1:])
        np.testing.assert_array_equal(*drawn)
    np.testing.assert_array_equal(again.encode(images), model.encode(images))
    np.testing.assert_array_equal(again.reconstruct(images), model.reconstruct(images))
    for optimizer in optimizers(again):
        assert optimizer.clipnorm == 5.0
    for mine, theirs in zip(
        model.optimizer.variables, again.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(theirs)
        )
    np.testing.assert_allclose(
        fit(model, images)["loss"], fit(again, images)["loss"], rtol=1e-5
    )


def test_seeded_runs_repeat(Model, images):
    losses = [fit(make(Model), images, shuffle=True)["loss"] for _ in range(2)]
    assert losses[0] == losses[1]


def test_jit_and_eager_agree(Model, images):
    histories = []
    for options in ({"jit_compile": True}, {"run_eagerly": True}):
        if BACKEND == "torch" and options.get("jit_compile"):
            options = {"jit_compile": "auto"}
        model = without_noise(make(Model))
        model.compile(keras.optimizers.Adam(1e-3), **options)
        histories.append(fit(model, images)["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-4)


def test_many_steps_an_execution(Model, images):
    if BACKEND == "torch":
        model = make(Model)
        model.compile(steps_per_execution=2)
        with pytest.raises(ValueError, match="steps_per_execution"):
            fit(model, images)
        return
    losses = []
    for steps in (1, 3):
        model = make(Model)
        model.compile(keras.optimizers.Adam(1e-3), steps_per_execution=steps)
        losses.append(fit(model, images, batch_size=5)["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


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


def test_each_player_moves_only_its_own_weights(Model, images):
    names = Model.player_names
    if not names:
        pytest.skip("it has one player")
    for name in names:
        model = make(Model, image_shape=images.shape[1:])
        model.compile(
            {n: keras.optimizers.SGD(0.1 if n == name else 0.0) for n in names}
        )
        own = {id(v) for p in model.players() if p.name == name for v in p.variables}
        before = [(v, to_numpy(v)) for v in model.trainable_variables]
        model.train_on_batch(images)
        moved = {id(v) for v, value in before if (to_numpy(v) != value).any()}
        assert moved and moved <= own


@of_networks
@pytest.mark.parametrize("architecture", ["conv", "residual"])
def test_mixed_bfloat16_trains(Model, images, architecture):
    model = make_networks(Model, architecture, (8,), dtype="mixed_bfloat16")
    losses = learn(model, images, epochs=20)
    assert losses[-1] < losses[0]
    assert model.encode(images).dtype == "float32"


def test_mixed_float16_scales_the_loss(Model, images):
    model = make(Model, dtype="mixed_float16")
    losses = fit(model, images, epochs=3)["loss"]
    assert np.isfinite(losses).all()
    for optimizer in optimizers(model):
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def test_early_stopping_restores_the_best_weights(Model, images):
    model = make(Model, **({"pretraining_epochs": 0} if is_stacked(Model) else {}))
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=1, restore_best_weights=True, start_from_epoch=1
    )
    history = fit(
        model, images, epochs=60, validation_data=images[:8], callbacks=[stopping]
    )
    assert len(history["loss"]) <= 60
    assert stopping.best == min(history["val_loss"][1:])


def test_sample_weight_weighs_examples(Model, images):
    model = without_noise(make(Model))
    model.compile(keras.optimizers.SGD(0.0))
    doubled = evaluate(model, images, sample_weight=np.full(32, 2.0))
    plain = evaluate(model, images)
    np.testing.assert_allclose(doubled["loss"], 2 * plain["loss"], rtol=0.05)


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
    model = make(Model, **own)
    fit(model, images)
    for name, network in own.items():
        assert getattr(model, name) is network
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.reconstruct(images), model.reconstruct(images))


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
            keras.tree.flatten(network.predict(x, verbose=0)),
            keras.tree.flatten(again.predict(x, verbose=0)),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)


def test_subclasses_keep_their_arguments(Model, images, tmp_path):
    class Scaled(Model):
        def __init__(self, factor: float = 1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def terms(self, x, outputs, training=False):
            terms = super().terms(x, outputs, training)
            return {name: self.factor * value for name, value in terms.items()}

    model = make(Scaled, factor=2.0)
    fit(model, images)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is Scaled
    assert again.factor == 2.0 and again.latent_dim == 3


def test_weights_of_one_backend_load_in_another(images, tmp_path):
    other = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}[BACKEND]
    pytest.importorskip(other)
    for name in TRAINED:
        model = make_networks(getattr(models, name), "conv", (4, 8))
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
            labels = np.arange(32) % model.num_classes if model.needs_labels else None
            model.fit(images, labels, verbose=0)
            print("same", path.stem, keras.backend.backend(), model.jit_compile)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "KERAS_BACKEND": other},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for name in TRAINED:
        assert f"same {name} {other} {other == 'jax'}" in run.stdout


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
        ({"image_shape": (3, 64, 64)}, "channels last"),
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
