"""KLAutoencoder and VQGAN: terms in NumPy, weights by gradients, who is heard when."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import ADVERSARIAL_LOSSES, gradient, to_numpy
from PIL import Image

import keras_ae
from keras_ae import networks, plots, quantizers, runs
from keras_ae.models.adversarial.judge import with_features
from keras_ae.models.base.sampling import Choice

SCALE = 0.5


class FixedNoise(keras.layers.Layer):
    def call(self, mean, log_var):
        return mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor([1.0, -1.0])


def discriminator():
    """Looks at two patches of three features each."""
    initializer = keras.initializers.GlorotUniform(5)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(6, "tanh", kernel_initializer=initializer),
            keras.layers.Reshape((2, 3)),
            keras.layers.Dense(1, kernel_initializer=initializer),
        ]
    )


def make(**options):
    """A small model of vectors, without noise."""
    settings = {
        "latent_dim": 2,
        "widths": (8,),
        "likelihood": keras_ae.likelihoods.Laplace(SCALE),
        "discriminator": discriminator(),
        "discriminator_start": 0,
        "beta": 0.7,
    }
    keras.utils.set_random_seed(3)
    model = keras_ae.KLAutoencoder(**{**settings, **options})
    model.sampling = FixedNoise()
    model.build((None, 5))
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).random((16, 5), dtype="float32")


def values(variables):
    return [np.array(to_numpy(variable)) for variable in variables]


def moved(before, variables):
    pairs = zip(before, values(variables), strict=True)
    return any((old != new).any() for old, new in pairs)


def fit(model, x, epochs, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, epochs=epochs, **options).history


@pytest.mark.parametrize("adversarial_loss", ADVERSARIAL_LOSSES)
def test_terms_are_the_formulae(x, adversarial_loss):
    model = make(
        adversarial_loss=adversarial_loss,
        perceptual_weight=0.3,
        adversarial_weight=0.2,
        ramp_steps=8,
    )
    model.gradient_norms.assign([6.0, 2.0, 3.0])
    model.discriminator_steps.assign(2.0)
    terms = {}
    for player in model.players():
        found = model.minimised(player.terms(ops.convert_to_tensor(x), model(x)))
        assert not terms.keys() & found.keys()
        terms |= {name: to_numpy(value) for name, value in found.items()}
    assert set(terms) == set(model.term_names)

    hidden, _, verdict = (layer.get_weights() for layer in model.discriminator.layers)

    def look(shown):
        features = np.tanh(shown @ hidden[0] + hidden[1])
        by_patch = features.reshape(-1, 2, 3)
        return features, (by_patch @ verdict[0] + verdict[1])[..., 0]

    heads = {name: to_numpy(head) for name, head in model.encoder(x).items()}
    variance = np.exp(heads["log_var"])
    z = heads["mean"] + np.sqrt(variance) * [1.0, -1.0]
    restored = to_numpy(model.decoder(z.astype("float32")))
    (real_features, real), (features, fake) = look(x), look(restored)
    distance = 0.5 * np.sum((real_features - features) ** 2, axis=1)
    distance /= np.mean(real_features**2)
    kl = 0.5 * np.sum(heads["mean"] ** 2 + variance - 1 - heads["log_var"], axis=1)
    log_prob = np.sum(-np.abs(x - restored) / SCALE - np.log(2 * SCALE), axis=1)
    on_real, on_fake, generator = ADVERSARIAL_LOSSES[adversarial_loss]
    expected = {
        "reconstruction": -log_prob,
        "kl": 0.7 * kl,
        "perceptual": 0.3 * (6 / 2) * distance,
        "adversarial": 0.2 * (6 / 3) * (2 / 8) * generator(fake).mean(axis=1),
        "discriminator_real": on_real(real).mean(axis=1),
        "discriminator_fake": on_fake(fake).mean(axis=1),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-5)


def test_terms_pull_as_hard_as_the_likelihood(x):
    model = make(likelihood="gaussian")
    model.compile(keras.optimizers.SGD(0.0))
    assert [to_numpy(ratio) for ratio in model._ratios()] == [1, 1]
    history = fit(model, x, 1, batch_size=16, validation_data=x)
    parameters = to_numpy(model(x)["parameters"])
    data = ops.convert_to_tensor(x)

    def mean_norm(loss):
        return np.linalg.norm(gradient(loss, parameters), axis=1).mean()

    real = model._judge(data)[0]
    wanted = mean_norm(lambda shown: -model.likelihood.log_prob(data, shown, True))
    perceptual = mean_norm(
        lambda shown: (
            0.5
            * ops.sum(ops.square(model._judge(shown)[0] - real), axis=(1, 2))
            / ops.mean(ops.square(real))
        )
    )
    adversarial = mean_norm(
        lambda shown: -ops.mean(model._judge(shown)[1][..., 0], axis=1)
    )
    for prefix in ("", "val_"):
        np.testing.assert_allclose(
            history[f"{prefix}perceptual_ratio"], wanted / perceptual, rtol=1e-3
        )
        np.testing.assert_allclose(
            history[f"{prefix}adversarial_ratio"], wanted / adversarial, rtol=1e-3
        )


def test_the_discriminator_starts_with_its_epoch_and_speaks_up(x, tmp_path):
    model = make(discriminator_start=1, ramp_steps=4)
    waiting = model.discriminator.trainable_variables
    before = values(waiting)
    history = fit(model, x, 1)
    assert not moved(before, waiting)
    assert history["adversarial"] == [0.0]
    assert to_numpy(model.discriminator_steps) == 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for going_on in (model, loaded):
        fit(going_on, x, 2, initial_epoch=1)
        assert moved(before, going_on.discriminator.trainable_variables)
        assert to_numpy(going_on.discriminator_steps) == 2
        history = fit(going_on, x, 4, initial_epoch=2)
        assert to_numpy(going_on.discriminator_steps) == 6
        assert np.all(np.array(history["adversarial"]) != 0)


def test_each_learns_from_its_own_terms(x):
    model = make()
    model.compile({"discriminator": keras.optimizers.SGD(0.0)})
    theirs = model.discriminator.trainable_variables
    ours = [*model.encoder.trainable_variables, *model.decoder.trainable_variables]
    before = values(theirs), values(ours)
    fit(model, x, 1)
    assert not moved(before[0], theirs)
    assert moved(before[1], ours)


def test_a_normalised_discriminator_follows_its_weights_in_training_only(x):
    model = make(discriminator=None, spectral_norm=True)
    vectors = model.discriminator.non_trainable_variables
    before = values(vectors)
    model.evaluate(x, verbose=0)
    assert before and not moved(before, vectors)
    fit(model, x, 1)
    assert moved(before, vectors)


def test_features_of_ones_own_are_frozen_and_saved(x, tmp_path):
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    network = keras.Model(inputs, [hidden, keras.layers.Dense(3)(hidden)])
    model = make(perceptual=network)
    before = values(network.weights)
    fit(model, x, 2)
    assert not moved(before, network.weights)
    real, restored = network(x), network(model.reconstruct(x))
    distances = [
        0.5 * np.sum(np.square(a - b), axis=1) / np.mean(np.square(a))
        for a, b in zip(map(to_numpy, real), map(to_numpy, restored), strict=True)
    ]
    ratio = to_numpy(model._ratios()[0])
    outputs = {"parameters": ops.convert_to_tensor(model.reconstruct(x))}
    found = model.terms(ops.convert_to_tensor(x), {**model(x), **outputs})["perceptual"]
    np.testing.assert_allclose(
        to_numpy(found), ratio * np.mean(distances, axis=0), rtol=1e-4
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
    for one, other in zip(
        loaded.perceptual.get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "Model",
    [keras_ae.KLAutoencoder, pytest.param(keras_ae.VQGAN, marks=pytest.mark.once)],
)
def test_features_of_ones_own_stay_frozen_with_the_model_thawed(x, Model):
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    options = {"discriminator": discriminator(), "discriminator_start": 0}
    model = Model(2, image_shape=(5,), widths=(8,), perceptual=network, **options)
    model.trainable = False
    model.trainable = True
    learned = {id(v) for player in model.players() for v in player.variables}
    assert not learned & {id(variable) for variable in network.variables}
    theirs = values(network.variables)
    ours = values(model.encoder.trainable_variables)
    fit(model, x, 1)
    assert not moved(theirs, network.variables)
    assert moved(ours, model.encoder.trainable_variables)


@pytest.mark.parametrize(
    ("image_shape", "options", "code_shape"),
    [
        ((64, 64, 3), {}, (8, 8, 4)),
        ((28, 28), {}, (7, 7, 4)),
        ((17, 23, 3), {"widths": (4, 8)}, (5, 6, 4)),
        ((16, 9, 10, 1), {"widths": (4,), "architecture": "conv"}, (8, 5, 5, 4)),
        ((24, 3), {"widths": (4, 8), "architecture": "sequence"}, (6, 4)),
        ((7,), {"positions": 3}, (12,)),
    ],
)
@pytest.mark.once
def test_codes_are_grids(image_shape, options, code_shape):
    model = keras_ae.KLAutoencoder(image_shape=image_shape, **options)
    assert model.code_shape == code_shape
    assert model.code_dim == np.prod(code_shape)
    x = np.random.default_rng(0).random((2, *image_shape), "float32")
    z = model.encode(x)
    assert z.shape == (2, model.code_dim)
    assert model.decode(z).shape == x.shape
    assert model.sample_posterior(x, seed=0).shape == z.shape
    assert np.isfinite(model.log_likelihood(x, samples=2, seed=0)).all()
    assert model.sample(2, sampler="prior").shape == x.shape
    logits = model.discriminator(x)
    assert logits.shape[-1] == 1
    # One of each patch.
    assert logits.shape[1:-1] == ((), code_shape[:-1])[len(image_shape) > 1]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "Model",
    [keras_ae.KLAutoencoder, pytest.param(keras_ae.VQGAN, marks=pytest.mark.once)],
)
def test_pictures_are_learned_with_attention(Model, tmp_path):
    keras.utils.set_random_seed(0)
    x = keras_ae.datasets.load("moon-phases", "train", image_size=16, limit=32)
    model = Model(
        latent_dim=2,
        widths=(4, 8),
        attention=True,
        discriminator_start=2,
        ramp_steps=2,
        **({} if Model is keras_ae.KLAutoencoder else {"num_codes": 16}),
    )
    losses = fit(model, x, 6)["reconstruction"]
    assert losses[-1] < losses[0]
    kinds = {type(layer).__name__ for layer in model.encoder.layers}
    assert "MultiHeadAttention" in kinds
    assert model.sample(2, seed=0).shape == (2, *x.shape[1:])
    chosen = "flow" if Model is keras_ae.KLAutoencoder else "gaussian"
    assert model.choose_sampler().sampler == chosen
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.reconstruct(x), model.reconstruct(x), atol=1e-6)


@pytest.mark.once
def test_a_run_shows_what_is_restored_and_fits_a_sampler_when_it_is_asked(
    tmp_path, monkeypatch
):
    looked_at = []

    def choose(model, codes):
        looked_at.append(len(codes))
        model._fitted.by_name["normal"] = model._fit_sampler("normal", codes, 0)
        return Choice("normal", None)

    monkeypatch.setattr(keras_ae.KLAutoencoder, "_choose", choose)
    x = keras_ae.datasets.load("moon-phases", "train", image_size=16, limit=16)
    run = runs.Run(tmp_path / "run")
    model = keras_ae.KLAutoencoder(2, widths=(4, 8))
    run.fit(model, x, x[:8], epochs=1, batch_size=8)
    with Image.open(tmp_path / "run" / "pictures" / "epoch-0001.png") as sheet:
        expected = plots.sheet(model.reconstruct(x[:8]))
        np.testing.assert_allclose(sheet, expected, atol=1)
    assert not looked_at
    run.pictures(model, x)
    assert looked_at == [16]
    assert runs.load_model(run.best_path).fitted_samplers == ("normal",)


@pytest.mark.parametrize(
    ("quantizer", "vector", "terms"),
    [
        (quantizers.ResidualQuantizer(2, 4), 16, ["commitment"]),
        pytest.param(
            *(quantizers.ScalarQuantizer((3, 4)), 2, []), marks=pytest.mark.once
        ),
        (quantizers.LookupFreeQuantizer(3), 3, ["commitment", "entropy"]),
    ],
)
def test_any_quantizer_makes_the_tokens(images, tmp_path, quantizer, vector, terms):
    model = keras_ae.VQGAN(
        quantizer=quantizer,
        architecture="dense",
        widths=(8,),
        positions=2,
        discriminator_start=0,
    )
    assert model.quantizer is quantizer and model.latent_dim == vector
    history = fit(model, images, 2)
    assert {"reconstruction", "perceptual", "adversarial", *terms} <= history.keys()
    tokens = model.tokens(images)
    assert tokens.shape[1:] == (2, *quantizer.token_shape)
    assert tokens.max() < model.num_codes == quantizer.num_codes
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.quantizer) is type(quantizer)
    np.testing.assert_array_equal(loaded.tokens(images), tokens)


def test_what_a_quantizer_settles_is_left_out():
    quantizer = quantizers.ScalarQuantizer((3, 4))
    for name, value in (
        ("latent_dim", 8),
        ("num_codes", 512),
        ("codebook", "gradient"),
        ("commitment_weight", 1.0),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be left out.*{value!r}"):
            keras_ae.VQGAN(quantizer=quantizer, **{name: value})
    for wrong in ("fsq", keras.layers.Dense(2)):
        with pytest.raises(ValueError, match="`quantizer` must be a layer of `keras_"):
            keras_ae.VQGAN(quantizer=wrong)


@pytest.mark.parametrize(
    "Model",
    [keras_ae.KLAutoencoder, pytest.param(keras_ae.VQGAN, marks=pytest.mark.once)],
)
def test_what_is_computed_again_is_the_same(Model, tmp_path):
    x = np.random.default_rng(0).random((16, 16, 16, 3), "float32")
    found = []
    for remat in (False, True):
        keras.utils.set_random_seed(0)
        model = Model(latent_dim=2, widths=(4,), discriminator_start=0, remat=remat)
        # Weights that have moved as far as the gradients say.
        model.compile({name: keras.optimizers.SGD(1e-3) for name in model.player_names})
        history = fit(model, x, 2)
        found.append((history, values(model.trainable_variables)))
    (plain, expected), (again, weights) = found
    for name, losses in plain.items():
        np.testing.assert_allclose(again[name], losses, rtol=1e-4, atol=1e-5)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    blocks = [layer.remat for layer in loaded.encoder.layers if hasattr(layer, "remat")]
    assert blocks == [True]
    np.testing.assert_allclose(loaded.reconstruct(x), model.reconstruct(x), atol=1e-6)


@pytest.mark.once
def test_the_way_back_keeps_less():
    """Of tensors that PyTorch keeps for it, the sizes are known."""
    torch = pytest.importorskip("torch")
    if keras.backend.backend() != "torch":
        pytest.skip("other backends do not tell")
    kept = []
    for remat in (False, True):
        model = keras_ae.KLAutoencoder(
            image_shape=(32, 32, 3), widths=(16,), remat=remat
        )
        storages = {}

        def keep(tensor, storages=storages):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        x = torch.zeros(4, 32, 32, 3)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = model(x, training=True)
        assert outputs["parameters"].requires_grad
        kept.append(sum(storages.values()))
    plain, again = kept
    assert again < 0.8 * plain


@pytest.mark.once
def test_a_critic_of_patches_sees_no_further():
    critic = networks.patch_critic((64, 64, 3), widths=(4, 8, 16))
    assert critic.output_shape == (None, 8, 8, 1)
    x = np.zeros((1, 64, 64, 3), "float32")
    touched = x.copy()
    touched[0, 0, 0] = 1.0
    difference = np.abs(to_numpy(critic(touched)) - to_numpy(critic(x)))[0, ..., 0]
    assert difference[0, 0] > 0
    assert not difference[4:].any()
    assert not difference[:, 4:].any()


@pytest.mark.once
def test_features_are_of_a_hidden_layer():
    for widths in ((4,), (4, 8), (4, 8, 16)):
        critic = networks.patch_critic((32, 32, 3), widths=widths)
        features = with_features(critic, None).outputs[0]
        assert features.shape[-1] == widths[len(widths) // 2]


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "normal"}, "`prior` must be left out: .*Received: prior='normal'"),
        ({"perceptual": "vgg"}, "`perceptual` must be 'discriminator' or a Keras"),
        ({"perceptual_weight": -1.0}, "`perceptual_weight` must be >= 0"),
        ({"adversarial_weight": -1.0}, "`adversarial_weight` must be >= 0"),
        ({"adversarial_loss": "cramer"}, "`adversarial_loss` must be one of"),
        ({"discriminator_start": -1}, "`discriminator_start` must be an integer >= 0"),
        ({"ramp_steps": 0}, "`ramp_steps` must be an integer >= 1"),
        ({"attention": True}, "`attention` needs convolutions. Received: .*'dense'"),
        ({"attention": 1}, "`attention` must be"),
        ({"remat": True}, "`remat` needs residual networks. Received: .*'dense'"),
        ({"remat": 1}, "`remat` must be"),
        (
            {"discriminator": networks.encoder((5,), 2)},
            r"`discriminator` must be .* logits \(batch, ..., 1\)",
        ),
        ({"discriminator": keras.layers.Dense(1)}, "functional or Sequential"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
