"""Contractive and regularised autoencoders, and spectral normalisation."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy

import keras_ae
from keras_ae.models import AE, RAE, ContractiveAE
from keras_ae.nn import networks
from keras_ae.nn.layers import ResidualBlock, SpectralNormalization


def squared_jacobian_norms(function, x, step=1e-2):
    """||∂f/∂x||² of each example, by central differences of a NumPy function."""
    directions = np.eye(x[0].size, dtype="float32").reshape(-1, *x.shape[1:])
    norms = []
    for example in x:
        rise = function(example + step * directions, batch_size=len(directions))
        rise -= function(example - step * directions, batch_size=len(directions))
        norms.append(np.sum(np.square(rise.astype("float64") / (2 * step))))
    return np.array(norms)


def term(model, name, x):
    x = ops.convert_to_tensor(x)
    return to_numpy(model.terms(x, model(x))[name])


def only(Model, name):
    """The model that minimises one of its terms and nothing else."""

    class Only(Model):
        term_names = (name,)

        def terms(self, x, outputs, training=False):
            return {name: super().terms(x, outputs, training)[name]}

    return Only


def assert_step_descends(model, evaluate, step):
    """Asserts that an SGD step of rate 1 is the gradient, by central differences."""
    variables = model.trainable_variables
    before = [to_numpy(v) for v in variables]
    step()
    gradients = [b - to_numpy(v) for b, v in zip(before, variables, strict=True)]
    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = [rng.standard_normal(b.shape) for b in before]
        values = []
        for size in (3e-3, -3e-3):
            for variable, value, d in zip(variables, before, direction, strict=True):
                variable.assign(value + size * d)
            values.append(evaluate())
        expected = (values[0] - values[1]) / 6e-3
        received = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
        np.testing.assert_allclose(received, expected, rtol=5e-3, atol=1e-4)


class FixedSigns(keras.layers.Layer):
    """Stands in for random signs where a test compares two passes."""

    def call(self, x):
        size = int(np.prod(x.shape))
        signs = np.where(np.arange(size) % 3 == 0, -1.0, 1.0).reshape(x.shape)
        return ops.convert_to_tensor(signs, "float32")


def built_with_fixed_signs(model, x):
    model.noise = FixedSigns()
    model.compile(keras.optimizers.SGD(1.0))
    model.build(x.shape)
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).random((4, 6), dtype="float32")


@pytest.mark.parametrize("code_activation", ["sigmoid", "tanh", "linear"])
def test_contraction_of_one_layer_is_exact(code_activation):
    x = np.random.default_rng(0).random((5, 3, 2, 1), dtype="float32")
    model = ContractiveAE(
        4,
        image_shape=(3, 2, 1),
        architecture="linear",
        code_activation=code_activation,
        weight=0.5,
    )
    expected = 0.5 * squared_jacobian_norms(model.encode, x)
    np.testing.assert_allclose(term(model, "contraction", x), expected, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    "options",
    [
        {"architecture": "linear", "code_activation": "sigmoid"},
        {"widths": (5,), "activation": "tanh", "samples": 3},
        {"widths": (5,), "activation": "tanh", "samples": 1},
    ],
)
def test_gradient_of_contraction(options, x):
    model = only(ContractiveAE, "contraction")(3, weight=1.0, **options)
    built_with_fixed_signs(model, x)
    assert_step_descends(
        model,
        lambda: term(model, "contraction", x).mean(),
        lambda: model.train_on_batch(x),
    )


def test_contraction_is_exact_with_a_sample_for_each_dimension(x):
    model = ContractiveAE(3, image_shape=(6,), activation="tanh", weight=2.0)
    expected = 2 * squared_jacobian_norms(model.encode, x)
    np.testing.assert_allclose(term(model, "contraction", x), expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "image_shape"), [("dense", (6,)), ("conv", (8, 6, 1))]
)
def test_contraction_is_estimated_without_bias(architecture, image_shape):
    x = np.random.default_rng(0).random((32, *image_shape), dtype="float32")
    model = ContractiveAE(
        5,
        architecture=architecture,
        widths=(4,),
        activation="tanh",
        code_activation="softplus",
        weight=1.0,
        samples=2,
    )
    # Moves the statistics of batch normalisation, so that the mode matters.
    model.fit(x, epochs=3, batch_size=8, verbose=0)
    estimates = term(model, "contraction", np.repeat(x[:2], 800, axis=0))
    np.testing.assert_allclose(
        estimates.reshape(2, 800).mean(axis=1),
        squared_jacobian_norms(model.encode, x[:2]),
        rtol=0.05,
    )
    assert estimates.std() > 0


def test_contraction_of_an_own_encoder_is_estimated(x):
    encoder = keras.Sequential([keras.layers.Dense(2, "sigmoid", name="z")])
    model = ContractiveAE(
        2, image_shape=(6,), architecture="linear", encoder=encoder, weight=1.0
    )
    expected = squared_jacobian_norms(model.encode, x)
    np.testing.assert_allclose(term(model, "contraction", x), expected, rtol=1e-3)


@pytest.mark.parametrize("Model", [ContractiveAE, RAE])
def test_activity_regularizers_count_once(Model, x):
    def regularization(Model, **kwargs):
        def network(units):
            layer = keras.layers.Dense(
                units,
                kernel_initializer=keras.initializers.GlorotUniform(seed=1),
                activity_regularizer=keras.regularizers.L2(1.0),
            )
            return keras.Sequential([layer])

        model = Model(3, encoder=network(3), decoder=network(6), **kwargs)
        model.compile(keras.optimizers.SGD(0.0))
        history = model.fit(x, validation_data=x, verbose=0).history
        return history["regularization"] + history["val_regularization"]

    kwargs = {"regularizer": "gradient_penalty"} if Model is RAE else {}
    received = regularization(Model, **kwargs)
    np.testing.assert_allclose(received, regularization(AE), rtol=1e-5)


class Paying(keras.layers.Layer):
    """Adds a loss as layers of Keras do: the mean of the squares that pass."""

    def call(self, x):
        self.add_loss(ops.mean(ops.square(x)))
        return x


def paying_network(units):
    return keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(units), Paying()]
    )


class PayingAE(AE):
    def call(self, x, training=False):
        outputs = super().call(x, training)
        self.add_loss(ops.mean(ops.square(outputs["z"])))
        return outputs


@pytest.mark.parametrize("who", ["layer", "model"])
def test_losses_that_are_added_in_calls_are_paid(who, x):
    if who == "layer":
        model = AE(3, encoder=paying_network(3), architecture="linear")
    else:
        model = PayingAE(3, architecture="linear")
    history = model.fit(x, batch_size=len(x), validation_data=x, verbose=0).history
    logs = {name: values[0] for name, values in history.items()}
    expected = np.mean(np.square(model.encode(x)))
    np.testing.assert_allclose(logs["val_regularization"], expected, 1e-4)
    for prefix in ("", "val_"):
        terms = logs[prefix + "reconstruction"] + logs[prefix + "regularization"]
        np.testing.assert_allclose(logs[prefix + "loss"], terms, 1e-5)


def test_models_may_need_batches_of_one_size(x):
    size = len(x)

    class Shifted(AE):
        def call(self, x, training=False):
            outputs = super().call(x, training)
            return {**outputs, "z": outputs["z"] + ops.ones((size, 3))}

    Shifted(3, architecture="linear").fit(x, batch_size=size, verbose=0)


def test_several_players_pay_no_losses_of_calls():
    with pytest.raises(ValueError, match="Received: losses of `add_loss`"):
        keras_ae.AAE(3, encoder=paying_network(3), image_shape=(6,))


@pytest.mark.parametrize("keepdims", [True, False])
def test_terms_are_one_loss_an_example(keepdims, x):
    class Matrix(AE):
        def terms(self, x, outputs, training=False):
            z = outputs["z"]
            return {"reconstruction": ops.sum(z, -1, keepdims=True) if keepdims else z}

    model = Matrix(3, architecture="linear")
    columns = 1 if keepdims else 3
    with pytest.raises(ValueError, match=rf"'reconstruction' of shape .*, {columns}\)"):
        model.fit(x, verbose=0)


class LateAE(AE):
    """Layers that are built when they are called first."""

    term_names = (*AE.term_names, "norm")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.called = keras.layers.Dense(2)
        self.of_terms = keras.layers.Dense(2)

    def call(self, x, training=False):
        outputs = super().call(x, training)
        return {**outputs, "head": self.called(outputs["z"])}

    def terms(self, x, outputs, training=False):
        head = self.of_terms(outputs["head"])
        norm = ops.sum(ops.square(head - 1.0), axis=-1)
        return {**super().terms(x, outputs, training), "norm": norm}


def test_layers_that_are_built_when_called_learn(x, tmp_path):
    model = LateAE(3, architecture="linear", image_shape=x.shape[1:])
    before = [layer.get_weights()[0] for layer in (model.called, model.of_terms)]
    model.fit(x, verbose=0)
    after = [layer.get_weights()[0] for layer in (model.called, model.of_terms)]
    for old, new in zip(before, after, strict=True):
        assert np.abs(old - new).min() > 0
    model.save(tmp_path / "late.keras")
    loaded = keras.saving.load_model(tmp_path / "late.keras")
    np.testing.assert_array_equal(loaded.of_terms.get_weights()[0], after[1])


@pytest.mark.parametrize("regularizer", ["l2", "gradient_penalty", "spectral_norm"])
def test_terms_of_rae(regularizer, x):
    model = RAE(
        3,
        image_shape=(6,),
        widths=(5,),
        activation="tanh",
        regularizer=regularizer,
        code_weight=0.3,
        decoder_weight=None if regularizer == "spectral_norm" else 0.2,
    )
    z = model.encode(x)
    expected = {"code_penalty": 0.15 * np.sum(np.square(z), axis=1)}
    # Many draws for the gradient penalty, the same value for the others.
    repeated = np.repeat(x, 4000, axis=0)
    if regularizer == "l2":
        kernels = [w for w in model.decoder.get_weights() if w.ndim > 1]
        assert len(kernels) == 2
        penalty = 0.2 * sum(np.sum(np.square(w)) for w in kernels)
        expected["decoder_penalty"] = np.full(4, penalty)
    elif regularizer == "gradient_penalty":
        norms = squared_jacobian_norms(model.decode, z)
        expected["decoder_penalty"] = 0.2 * norms
    assert model.term_names == ("reconstruction", *expected)
    for name, value in expected.items():
        received = term(model, name, repeated).reshape(4, -1).mean(axis=1)
        rtol = 0.03 if regularizer == "gradient_penalty" else 1e-5
        np.testing.assert_allclose(received, value, rtol=rtol)


def test_gradient_of_gradient_penalty_reaches_encoder_and_decoder(x):
    model = only(RAE, "decoder_penalty")(
        3,
        widths=(5,),
        activation="tanh",
        regularizer="gradient_penalty",
        decoder_weight=1.0,
        likelihood="bernoulli",
    )
    built_with_fixed_signs(model, x)
    encoder = [np.array(w) for w in model.encoder.get_weights()]
    assert_step_descends(
        model,
        lambda: term(model, "decoder_penalty", x).mean(),
        lambda: model.train_on_batch(x),
    )
    moved = zip(encoder, model.encoder.get_weights(), strict=True)
    assert all((before != after).any() for before, after in moved)


def converged(layer, x):
    for _ in range(100):
        layer(x, training=True)
    return layer


def largest_singular_value(matrix):
    return np.linalg.svd(matrix, compute_uv=False)[0]


def test_spectral_norm_of_dense_layers_becomes_one(images):
    model = RAE(3, widths=(8,), activation="linear", regularizer="spectral_norm")
    # Slowly, so that the power method keeps up.
    model.compile(keras.optimizers.Adam(1e-4))
    model.fit(images, epochs=8, batch_size=4, verbose=0)
    layers = [
        layer for layer in model.decoder.layers if type(layer) is SpectralNormalization
    ]
    assert len(layers) == 2
    for layer in layers:
        units = layer.layer.kernel.shape[0]
        # The layer is linear but for its bias: unit vectors give its matrix.
        matrix = to_numpy(layer(np.eye(units))) - to_numpy(layer(np.zeros((1, units))))
        np.testing.assert_allclose(largest_singular_value(matrix), 1, rtol=0.02)
        assert largest_singular_value(to_numpy(layer.layer.kernel)) > 1.1


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_spectral_norm_of_convolutions_becomes_one(dtype):
    layer = SpectralNormalization(
        keras.layers.Conv2D(4, 2, data_format="channels_last", dtype=dtype)
    )
    # Patches of the kernel's size with one value set give the rows of its matrix.
    patches = np.eye(12, dtype="float32").reshape(12, 2, 2, 3)
    converged(layer, patches)
    matrix = to_numpy(ops.cast(layer(patches), "float32")).reshape(12, 4)
    np.testing.assert_allclose(largest_singular_value(matrix), 1, rtol=0.02)


def test_spectral_norm_keeps_bias_and_activation():
    x = np.random.default_rng(0).standard_normal((5, 4), dtype="float32")
    layer = SpectralNormalization(
        keras.layers.Dense(3, "relu", bias_initializer="random_normal")
    )
    converged(layer, x)
    kernel, bias = (to_numpy(w) for w in layer.layer.weights)
    expected = np.maximum(x @ kernel / largest_singular_value(kernel) + bias, 0)
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-3, atol=1e-5)


def test_gradient_of_spectral_norm():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 4), dtype="float32")
    y = rng.standard_normal((5, 3), dtype="float32")
    layer = SpectralNormalization(keras.layers.Dense(3, "tanh"))
    model = keras.Sequential([layer])
    converged(layer, x)
    model.compile(keras.optimizers.SGD(1.0), loss="mse")

    def evaluate():
        kernel, bias = (to_numpy(w) for w in layer.layer.weights)
        kernel = kernel / largest_singular_value(kernel)
        return np.mean(np.square(np.tanh(x @ kernel + bias) - y))

    assert_step_descends(model, evaluate, lambda: model.train_on_batch(x, y))


def test_spectral_norm_in_inference_changes_nothing(images, tmp_path):
    model = RAE(3, widths=(8,), architecture="conv", regularizer="spectral_norm")
    model.fit(images, epochs=2, verbose=0)
    before = [np.array(w) for w in model.get_weights()]
    reconstructions = model.reconstruct(images)
    model.evaluate(images, verbose=0)
    np.testing.assert_array_equal(model.reconstruct(images), reconstructions)
    for mine, earlier in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, earlier)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.reconstruct(images), reconstructions)
    names = [w.path.rsplit("/")[-1] for w in again.decoder.weights]
    assert names.count("u") == names.count("kernel") == 3


@pytest.mark.once
@pytest.mark.parametrize("architecture", ["linear", "dense", "conv", "residual"])
def test_networks_normalise_every_kernel(architecture):
    widths = None if architecture == "linear" else (8,)
    for network, make in (
        (networks.encoder, {"heads": ("mean", "log_var")}),
        (networks.decoder, {}),
    ):
        plain, normalised = (
            network((6, 4, 1), 3, architecture, widths, spectral_norm=value, **make)
            for value in (False, True)
        )
        shapes = [tuple(w.shape) for w in plain.trainable_weights]
        assert [tuple(w.shape) for w in normalised.trainable_weights] == shapes
        names = [w.path.rsplit("/")[-1] for w in normalised.weights]
        assert names.count("u") == names.count("kernel") > 0
        assert "u" not in [w.path.rsplit("/")[-1] for w in plain.weights]
        again = keras.Model.from_config(normalised.get_config())
        again.set_weights(normalised.get_weights())
        shape = (2, *normalised.input_shape[1:])
        x = np.random.default_rng(0).random(shape, dtype="float32")
        for mine, theirs in zip(
            keras.tree.flatten(normalised(x)), keras.tree.flatten(again(x)), strict=True
        ):
            assert np.isfinite(to_numpy(mine)).all()
            np.testing.assert_array_equal(to_numpy(mine), to_numpy(theirs))


def test_residual_blocks_keep_their_config():
    assert "spectral_norm" not in ResidualBlock(4).get_config()
    assert ResidualBlock(4, spectral_norm=True).get_config()["spectral_norm"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("Model", "arguments", "message"),
    [
        (ContractiveAE, {"weight": -1}, "`weight` must be >= 0. Received: weight=-1"),
        (ContractiveAE, {"weight": "big"}, "`weight` must be >= 0"),
        (ContractiveAE, {"weight": float("nan")}, "`weight` must be >= 0"),
        (ContractiveAE, {"samples": 0}, "`samples` must be an integer >= 1"),
        (ContractiveAE, {"code_activation": "wavy"}, "`code_activation` must be"),
        (
            RAE,
            {"regularizer": "l1"},
            "`regularizer` must be one of 'l2'.*Received: .*'l1'",
        ),
        (RAE, {"regularizer": ["l2"]}, "`regularizer` must be"),
        (RAE, {"code_weight": -1}, "`code_weight` must be >= 0"),
        (RAE, {"decoder_weight": float("inf")}, "`decoder_weight` must be >= 0"),
        (
            RAE,
            {"regularizer": "spectral_norm", "decoder_weight": 0.1},
            "`decoder_weight` must be None",
        ),
        (
            RAE,
            {
                "regularizer": "spectral_norm",
                "image_shape": (6,),
                "decoder": keras.layers.Dense(6),
            },
            "SpectralNormalization",
        ),
    ],
)
def test_bad_arguments(Model, arguments, message):
    with pytest.raises(ValueError, match=message):
        Model(3, **arguments)


def test_spectral_norm_takes_an_own_decoder():
    decoder = keras.Sequential([SpectralNormalization(keras.layers.Dense(6))])
    model = keras_ae.RAE(
        3, image_shape=(6,), regularizer="spectral_norm", decoder=decoder
    )
    assert model.decoder is decoder
    with pytest.raises(ValueError, match="`layer` must be one of Dense.*Flatten"):
        SpectralNormalization(keras.layers.Flatten())
