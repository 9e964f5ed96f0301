"""Guess, then refine: a search for codes that begins where the encoder points."""

import keras
import numpy as np
import pytest
from contract import TRAINED, fit, make
from numerics import to_numpy
from PIL import Image

import keras_ae
from keras_ae.probability.likelihoods import Gaussian

# One of each kind; what the others do is the same on every backend.
KINDS = ["AE", "VAE", "HierarchicalVAE", "PoincareVAE", "VAEGAN"]
REFUSED = {
    "AutoDecoder": "no encoder",
    "ConditionalVAE": "needs labels",
    "GAN": "no encoder",
    "GLO": "no encoder",
    "VariationalAutoDecoder": "no encoder",
    "FSQVAE": "tokens",
    "LFQVAE": "tokens",
    "ResidualVQVAE": "tokens",
    "VQGAN": "tokens",
    "VQVAE": "tokens",
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in KINDS else pytest.mark.once)
        for name in TRAINED
    ],
)
def test_codes_are_refined_or_refused(name, images):
    Model = getattr(keras_ae, name)
    model = make(Model)
    fit(model, images, epochs=1)
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            model.refine(images)
        return
    x = to_numpy(model.to_floats(images[:6]))
    found = model.refine(images[:6], steps=20, batch_size=3)
    guess = model.encode(x)
    assert found.codes.shape == guess.shape
    expected = np.square(model.decode(found.codes) - x).mean(axis=(1, 2))
    if not model.in_unit_range:
        np.testing.assert_allclose(found.after, expected, rtol=1e-3)
    assert (found.codes != guess).any()
    before, after = (log_joint(model, z, x) for z in (guess, found.codes))
    assert (after >= before - 1e-3).all() and (after > before).any()


def log_joint(model, z, x):
    parameters = model.decode_parameters(z)
    log_prob = to_numpy(model.likelihood.log_prob(x, parameters))
    z = keras.ops.convert_to_tensor(z)
    return log_prob + to_numpy(model.code_log_prob(z))


def linear(prior=None):
    """A VAE of one linear decoder, whose best codes ridge regression knows."""
    keras.utils.set_random_seed(0)
    model = keras_ae.VAE(
        2,
        image_shape=(6,),
        architecture="linear",
        likelihood=Gaussian(0.5),
        prior=prior,
    )
    weights, bias = model.decoder.get_weights()
    return model, weights, bias


@pytest.mark.parametrize("masked", [False, True])
def test_it_finds_the_mode_of_the_posterior(masked):
    model, weights, bias = linear()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6)).astype("float32")
    mask = rng.random(x.shape) < 0.6 if masked else None
    found = model.refine(x, mask, steps=800, learning_rate=0.3)
    for code, example, seen in zip(
        found.codes, x, np.ones(x.shape, bool) if mask is None else mask, strict=True
    ):
        a = weights.T[seen]
        left = a.T @ a / 0.25 + np.eye(2)
        expected = np.linalg.solve(left, a.T @ (example - bias)[seen] / 0.25)
        np.testing.assert_allclose(code, expected, atol=5e-3)


def test_what_is_masked_counts_for_nothing():
    model, *_ = linear()
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 6)).astype("float32")
    mask = np.arange(6) < np.array([[3], [4], [5]])
    other = np.where(mask, x, 7.0)
    found, again = (model.refine(values, mask, steps=30) for values in (x, other))
    np.testing.assert_allclose(found.codes, again.codes, rtol=1e-5, atol=1e-6)
    error = np.square(np.where(mask, model.decode(found.codes) - x, 0)).sum(1)
    np.testing.assert_allclose(found.after, error / mask.sum(1), rtol=1e-4)


@pytest.mark.once
def test_columns_of_a_mask_are_those_of_the_examples():
    frames = pytest.importorskip("pandas")
    model, *_ = linear()
    model.column_names = tuple("abcdef")
    x = np.random.default_rng(2).normal(size=(3, 6)).astype("float32")
    mask = np.arange(6) < np.array([[3], [4], [5]])
    x[~mask] = 7.0
    expected = model.refine(x, mask, steps=5).codes
    turned = frames.DataFrame(x, columns=list("abcdef"))[list("fedcba")]
    told = frames.DataFrame(mask, columns=list("abcdef"))
    for beside in (mask[:, ::-1], told, told[list("cafebd")]):
        found = model.refine(turned, beside, steps=5)
        np.testing.assert_allclose(found.codes, expected, atol=1e-5)


def test_it_leaves_the_model_as_it_was(images):
    model = make(keras_ae.VAE)
    fit(model, images, epochs=1)
    before = model.get_weights()
    model.refine(images[:3], steps=5)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "`steps` must be an integer >= 1"),
        ({"learning_rate": 0}, "`learning_rate` must be > 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be > 0"),
        ({"mask": np.ones((2, 6))}, "`mask` must be booleans of the shape"),
        ({"mask": np.full((3, 6), 0.5)}, "`mask` must be booleans"),
        ({"mask": np.eye(3, 6) * [[1], [0], [1]]}, "none for example 1"),
    ],
)
def test_what_is_wrong_is_said(arguments, message):
    model, *_ = linear()
    with pytest.raises(ValueError, match=message):
        model.refine(np.zeros((3, 6), "float32"), **arguments)


@pytest.mark.once
def test_the_command_draws_guess_and_result(invoke, tmp_path):
    model = keras_ae.VAE(2, image_shape=(8, 9), architecture="dense", widths=(8,))
    model.save(tmp_path / "model.keras")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 255, (8, 9), "uint8")
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    arguments = ("reconstruct", "model.keras", "photos", "--refine", 20)
    result = invoke(*arguments, "--output", "sheet.png")
    assert result.exit_code == 0, result.output
    assert "Mean squared error:" in result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        # Three columns of pictures, 9 wide, and as many rows, 8 high.
        assert sheet.height / sheet.width == pytest.approx(24 / 27, rel=0.05)
    result = invoke(*arguments, "--output", "refined")
    assert result.exit_code == 0, result.output
    assert len([*(tmp_path / "refined").iterdir()]) == 3
