"""Arguments of `fit` and its kin, and what comes beside the examples."""

import keras
import numpy as np
import pytest
from contract import few_everywhere

import keras_ae

x = np.random.default_rng(0).random((12, 3), "float32")
labels = np.arange(12) % 2
names = np.array(["cat", "dog"])[labels]
pictures = np.random.default_rng(0).random((4, 6, 6, 1), "float32")


def make(name="AE", **kwargs):
    options = {"architecture": "dense", "widths": (4,), **kwargs}
    return getattr(keras_ae, name)(2, **options)


@pytest.fixture(scope="module")
def model():
    return make(image_shape=(3,))


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1. Received: "),
        ({"batch_size": 8.0}, "`batch_size` must be an integer >= 1"),
        ({"epochs": -1}, "`epochs` must be an integer >= 0. Received: epochs=-1"),
        ({"epochs": "3"}, "`epochs` must be an integer >= 0. Received: epochs='3'"),
        ({"initial_epoch": -2}, "`initial_epoch` must be an integer >= 0"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be an integer >= 1"),
        ({"validation_steps": -1}, "`validation_steps` must be an integer >= 1"),
        ({"validation_batch_size": 0}, "`validation_batch_size` must be an integer"),
        ({"validation_freq": 0}, "`validation_freq` must be an integer >= 1"),
        ({"verbose": "quiet"}, "`verbose` must be 'auto', 0, 1 or 2. Received: "),
        ({"validation_split": 1.5}, "number from 0 to below 1. Received: .*=1.5"),
        ({"validation_split": -0.1}, "number from 0 to below 1"),
        ({"validation_split": 0.95}, "leave examples to train on.*=0.95 of 12 exam"),
        ({"validation_data": ()}, r"x, \(x, y\) or \(x, y, sample_weight\).* 0 items"),
        ({"validation_data": (x, x, labels, 1)}, "Received: a tuple of 4 items"),
        ({"class_weight": {0: 1.0}}, "needs labels `y`, .* Received: no labels"),
        ({"class_weight": {0: 1.0}, "y": x}, "Received: examples as `y`"),
        ({"class_weight": [1.0], "y": labels}, r"must be a dict.*=\[1.0\]"),
        ({"class_weight": {0: -1.0}, "y": labels}, "finite weights >= 0"),
        ({"sample_weight": "balanced"}, "must be numbers.*dtype <U8"),
        ({"sample_weight": [[1.0], [1.0, 2.0]]}, "of 2 items of several shapes"),
    ],
)
@pytest.mark.parametrize("name", ["AE", "StackedSAE"])
def test_what_fit_is_given_is_looked_at_first(name, options, message):
    model = keras_ae.StackedSAE((3, 2)) if name == "StackedSAE" else make(name)
    with pytest.raises(ValueError, match=message):
        model.fit(x, **{"verbose": 0, **options})


@pytest.mark.once
@pytest.mark.parametrize("name", ["PCA", "AutoDecoder"])
def test_models_that_split_data_themselves_look_too(name):
    model = keras_ae.PCA(2) if name == "PCA" else make(name)
    for share, message in ((1.5, "from 0 to below 1"), (0.95, "leave examples")):
        with pytest.raises(ValueError, match=message):
            model.fit(x, validation_split=share, verbose=0)
    with pytest.raises(ValueError, match="`initial_epoch` must be an integer >= 0"):
        model.fit(x, initial_epoch=-1, verbose=0)


@pytest.mark.once
def test_evaluate_and_predict_look_too(model):
    for call in (model.evaluate, model.predict):
        with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
            call(x, batch_size=0, verbose=0)
        with pytest.raises(ValueError, match="`steps` must be an integer >= 1"):
            call(x, steps=-1, verbose=0)


@pytest.mark.once
def test_verbs_take_no_words_for_yes_and_no(model):
    for call in (model.sample, make("ConditionalVAE", num_classes=2).sample):
        with pytest.raises(ValueError, match="`mean` must be True or False.*'no'"):
            call(2, mean="no")
    with pytest.raises(ValueError, match="`spherical` must be True or False"):
        model.interpolate(x[0], x[1], spherical="no")


@pytest.mark.once
def test_names_beside_examples_are_ignored_and_lists_are_arrays(model):
    def losses(*args, **kwargs):
        keras.utils.set_random_seed(0)
        return make().fit(x, *args, shuffle=False, verbose=0, **kwargs).history["loss"]

    expected = losses()
    for y in (names, list(names), names.astype(object), labels.tolist(), x.tolist()):
        assert losses(y) == expected
    weighed = losses(sample_weight=[1.0] * 12)
    np.testing.assert_allclose(weighed, expected, rtol=1e-5)
    held_back = losses(validation_data=[x, list(names), [1.0] * 12])
    np.testing.assert_allclose(held_back, expected, rtol=1e-5)
    whole = model.evaluate(x, verbose=0)
    assert model.evaluate(x, list(names), verbose=0) == whole
    weights = np.arange(12)
    assert model.evaluate(x, None, 32, 0, list(weights)) == model.evaluate(
        x, sample_weight=weights, verbose=0
    )
    assert model.test_on_batch(x, names) == model.test_on_batch(x)
    labelled = keras_ae.ConditionalVAE(2, num_classes=2, widths=(4,))
    with pytest.raises(ValueError, match="dtype <U3"):
        labelled.fit(x, names, verbose=0)


def batches():
    return iter([x[:8], x[8:]])


def test_batches_in_lists_and_beside_names(model):
    expected = model.evaluate(x, batch_size=8, verbose=0)
    for batch in (lambda x: [x], lambda x: [x, x], lambda x: (x, names[: len(x)])):
        found = model.evaluate((batch(x) for x in batches()), verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


class Named(keras.utils.PyDataset):
    """Batches of examples and names, that counts its epochs."""

    epochs = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return x[rows], names[rows].tolist()

    def on_epoch_end(self):
        self.epochs += 1


def test_data_sets_of_keras_have_names_too(model):
    expected = model.evaluate(x, batch_size=8, verbose=0)
    data = Named()
    np.testing.assert_allclose(model.evaluate(data, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(model.encode(data), model.encode(x), rtol=1e-5)
    data = Named()
    make().fit(data, validation_data=Named(), epochs=2, verbose=0)
    assert data.epochs >= 2


def test_data_sets_of_single_tensors_and_names(model):
    expected = model.evaluate(x, batch_size=8, verbose=0)
    utils = pytest.importorskip("torch.utils.data")
    pairs = [*zip(x, names, strict=True)]
    data_sets = [utils.DataLoader(x, 8), utils.DataLoader(pairs, 8)]
    tf = pytest.importorskip("tensorflow")
    named = tf.data.Dataset.from_tensor_slices((x, names)).batch(8)
    weights = np.ones(12, "float32")
    weighed = tf.data.Dataset.from_tensor_slices((x, names, weights)).batch(8)
    for data in (*data_sets, named, weighed):
        np.testing.assert_allclose(model.evaluate(data, verbose=0), expected, rtol=1e-5)


def test_tensors_of_any_library_and_wide_numbers(model):
    expected = model.evaluate(x, verbose=0)
    torch = pytest.importorskip("torch")
    tf = pytest.importorskip("tensorflow")
    tensor = torch.from_numpy(x).requires_grad_()
    for data in (tensor, tf.constant(x), tf.Variable(x), x.astype("longdouble")):
        np.testing.assert_allclose(model.evaluate(data, verbose=0), expected, rtol=1e-5)
        make().fit(data, verbose=0)
    assert model.encode(tensor.bfloat16()).shape == (12, 2)
    make().fit(np.full((4, 6, 6, 1), 200, "uint64"), verbose=0)


class Empty(keras.utils.PyDataset):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise IndexError


class Pieces:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return x[6 * index : 6 * index + 6]


@pytest.mark.once
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (x.astype(object), "array of numbers. Received: dtype object"),
        (x.astype(str), "array of numbers. Received: dtype <U"),
        (x[0], r"Received: \(3,\); one example needs an axis of examples"),
        ((pictures[0] for _ in range(2)), r"\(6, 6, 1\), which looks like one picture"),
        (iter([{"image": x}]), "Received: a dict of 'image'; let the data set give"),
        (iter([[x, x, x, x]]), "Received: a list of 4 items"),
        (iter([(x, x, -labels)]), "`sample_weight` must be finite and >= 0"),
        ({"image": x}, "Received: dict; pass one of its arrays"),
        (Pieces(), "Received: Pieces; a PyTorch DataLoader makes batches"),
        (Empty(), "The data set is empty"),
    ],
)
def test_data_that_are_none_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        make().fit(data, verbose=0)


@pytest.mark.once
@pytest.mark.parametrize("shape", [(6, 9, 3), (6, 9, 1), (8, 8), (8, 8, 4)])
def test_a_data_set_of_single_pictures_is_not_one_of_batches_of_rows(shape):
    tensorflow = pytest.importorskip("tensorflow")
    many = np.random.default_rng(0).uniform(size=(12, *shape)).astype("float32")
    for parts in (many, (many, np.arange(12))):
        single = tensorflow.data.Dataset.from_tensor_slices(parts)
        model = keras_ae.VAE(2, architecture="dense", widths=(4,))
        with pytest.raises(ValueError, match=r"looks like one picture; call `batch`"):
            model.fit(single, verbose=0)
        assert not model.built
    model.fit(single.batch(6, drop_remainder=len(shape) == 3), verbose=0)
    assert model.built_image_shape == shape
    # What is said explicitly is not questioned, nor rows, whatever their batches.
    model = keras_ae.VAE(2, architecture="dense", widths=(4,), image_shape=shape[1:])
    model.fit(tensorflow.data.Dataset.from_tensor_slices(many), verbose=0)
    rows = tensorflow.data.Dataset.from_tensor_slices(many[:, 0].reshape(12, -1))
    model = keras_ae.VAE(2, architecture="dense", widths=(4,))
    model.fit(rows.batch(4, drop_remainder=True), verbose=0)


@pytest.mark.once
def test_sparse_data_are_refused(model):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match=r"must be dense.*csr_array.*toarray"):
        model.encode(sparse.csr_array(x))
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"must be dense.*to_dense"):
        model.encode(torch.from_numpy(x).to_sparse())


@pytest.mark.once
def test_one_example_of_a_model_that_knows_its_shape():
    model = make(image_shape=(6, 6, 1))
    with pytest.raises(ValueError, match="one example needs an axis"):
        model.encode(pictures[0])
    rows = make(image_shape=(6, 1))
    rows.fit((pictures[0] for _ in range(2)), verbose=0)
    assert rows.encode(pictures[0]).shape == (6, 2)


@pytest.mark.parametrize("name", ["VAE", "AAE"])
def test_what_is_frozen_learns_no_more(name):
    model = make(name, image_shape=(3,))
    model.fit(x, verbose=0)

    def changes(layer):
        before = layer.get_weights()
        model.fit(x, verbose=0)
        after = layer.get_weights()
        return any(np.any(a != b) for a, b in zip(before, after, strict=True))

    model.encoder.trainable = False
    assert not changes(model.encoder) and changes(model.decoder)
    model.encoder.trainable = True
    assert changes(model.encoder)
    model.compile("adam")
    model.decoder.trainable = False
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="after `compile`.*call `compile` again"):
            call(x)
    model.compile("adam")
    assert changes(model.encoder) and not changes(model.decoder)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", few_everywhere(["VAE", "AAE"], ["VAE"]))
def test_what_is_frozen_stays_frozen_in_a_file(name, compiled, tmp_path):
    model = make(name, image_shape=(3,))
    model.encoder.trainable = False
    inner = model.encoder.layers[-1]
    inner.trainable = True
    if compiled:
        model.compile("adam")
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not again.encoder.trainable and again.encoder.layers[-1].trainable
    assert again.decoder.trainable
    for each in (model, again):
        keras.utils.set_random_seed(1)
        each.fit(x, verbose=0, shuffle=False)
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-5)


def test_a_model_that_is_wholly_frozen_stays_as_it_is():
    model = make("VAE", image_shape=(3,))
    model.fit(x, verbose=0)
    model.trainable = False
    before = model.get_weights()
    model.fit(x, epochs=2, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.once
@pytest.mark.parametrize("name", ["VAE", "AAE", "AutoDecoder"])
def test_optimizers_by_their_config(name):
    optimizers = keras.optimizers
    model = make(name, image_shape=(3,))
    model.compile({"class_name": "SGD", "config": {"learning_rate": 0.5}})
    assert float(model.optimizer.learning_rate) == 0.5
    model.compile(optimizers.serialize(optimizers.RMSprop(0.25)))
    first = getattr(model.optimizer, "optimizers", [model.optimizer])[0]
    assert isinstance(first, optimizers.RMSprop) and float(first.learning_rate) == 0.25


@pytest.mark.once
def test_every_optimizer_is_for_several_players_too():
    model = make("AAE", image_shape=(3,))
    model.compile(keras.optimizers.Lamb(0.25))
    assert {type(each) for each in model.optimizer.optimizers} == {
        keras.optimizers.Lamb
    }


@pytest.mark.once
@pytest.mark.parametrize("kind", [np.array, iter, list])
def test_a_shape_is_any_list(kind):
    assert make(image_shape=kind([3])).image_shape == (3,)


@pytest.mark.once
@pytest.mark.parametrize("shape", [True, (3, True), "3", (3.0,), ()])
def test_what_is_no_shape(shape):
    with pytest.raises(ValueError, match="`image_shape` must be"):
        make(image_shape=shape)


@pytest.mark.once
def test_arguments_that_are_not_kept_are_named():
    class Forgetful(keras_ae.AE):
        def __init__(self, latent_dim=2, *, extra=1.0, **kwargs):
            super().__init__(latent_dim, **kwargs)

    with pytest.raises(ValueError, match=r"of Forgetful must be kept.*\['extra'\]"):
        Forgetful().get_config()


@pytest.mark.once
def test_each_player_has_its_loss_scaling():
    model = make("AAE", image_shape=(3,))
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.125))
    model.compile(scaled)
    model.fit(x, verbose=0)
    inner = {id(optimizer.inner_optimizer) for optimizer in model.optimizer.optimizers}
    assert len(inner) == 3 and float(model.optimizer.learning_rate) == 0.125


def test_verbs_take_tensors_lists_and_names(model):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(x).requires_grad_()
    codes = model.encode(x)
    expected = model.decode(codes)
    for z in (torch.from_numpy(codes).requires_grad_(), codes.tolist()):
        np.testing.assert_allclose(model.decode(z), expected, atol=1e-6)
    row = model.interpolate(x[0], x[1])
    np.testing.assert_allclose(model.interpolate(tensor[0], tensor[1]), row, atol=1e-6)
    for verb in (model.traverse, lambda a: model.add_attribute(a, np.ones(2))):
        np.testing.assert_allclose(verb(tensor[0]), verb(x[0]), atol=1e-6)
    terms = model.terms_of(x, list(names))
    np.testing.assert_allclose(terms["loss"], model.terms_of(x)["loss"], atol=1e-6)
    make("DenoisingAE").fit(x, tensor, verbose=0)


@pytest.mark.once
def test_what_verbs_can_not_take(model):
    for z, message in (
        (np.zeros((0, 2)), r"one code or more. Received: \(0, 2\)"),
        ([["a", "b"]], "`z` must be an array of numbers. Received: dtype <U1"),
        ([[1.0, 2.0], [1.0]], "`z` must be an array .* of 2 items of several shapes"),
        (iter([x]), "`z` must be an array of numbers. Received: list_iterator"),
        (None, "`z` must be an array of numbers. Received: NoneType"),
    ):
        with pytest.raises(ValueError, match=message):
            model.decode(z)
    for dims in (1, [0.5], [], [[0]], [2]):
        with pytest.raises(ValueError, match="`dims` must be dimensions from 0 to 1"):
            model.traverse(x[0], dims=dims)
    for span in ("wide", np.nan):
        with pytest.raises(ValueError, match="`span` must be a finite number"):
            model.traverse(x[0], span=span)


def test_methods_of_ones_own_return_dicts():
    class Called(keras_ae.AE):
        def call(self, x, training=False):
            return self.decoder(self.encoder(x))

    class Lost(keras_ae.AE):
        def terms(self, x, outputs, training=False):
            return keras.ops.mean(keras.ops.square(x - outputs["parameters"]))

    for Model, method in ((Called, "call"), (Lost, "terms")):
        model = Model(2, architecture="dense", widths=(4,))
        with pytest.raises(
            ValueError, match=f"`{method}` of {Model.__name__} must ret"
        ):
            model.fit(x, verbose=0)


def test_a_loss_that_became_nan_is_told():
    def batches(spoilt):
        for epoch in range(3):
            for _ in range(2):
                yield np.where(epoch == spoilt, np.nan, x[:6])

    model = make()
    model.fit(batches(spoilt=None), steps_per_epoch=2, epochs=3, verbose=0)
    with pytest.warns(UserWarning, match="The loss is nan since epoch 2. Look for NaN"):
        model.fit(batches(spoilt=1), steps_per_epoch=2, epochs=3, verbose=0)
