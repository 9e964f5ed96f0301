"""GLO: its terms in NumPy, codes in the unit ball, where they start."""

import keras
import numpy as np
import pytest
from contract import telling
from keras import ops
from numerics import computed, gradient
from scipy import linalg, ndimage
from sklearn import decomposition

import keras_ae

SMALL = {"latent_dim": 3, "architecture": "dense", "widths": (16,)}


def make(**options):
    keras.utils.set_random_seed(1)
    return keras_ae.GLO(**{**SMALL, **options})


def fit(model, x, epochs=2, **options):
    options = {"batch_size": 8, "verbose": 0, **options}
    return model.fit(x, epochs=epochs, **options).history


def norms(codes):
    return np.linalg.norm(codes, axis=1)


def blurred(x):
    for axis in (1, 2):
        x = ndimage.correlate1d(x, np.array([1, 4, 6, 4, 1]) / 16, axis, mode="mirror")
    return x


def laplacian_distance(x, y):
    """Of pictures (batch, 20, 17, channels), whose pyramid has three levels."""
    distance, rest = 0, x - y
    for level in range(2):
        half = blurred(rest)[:, ::2, ::2]
        doubled = np.zeros_like(rest)
        doubled[:, ::2, ::2] = 4 * half
        band = rest - blurred(doubled)
        distance += 4**level * np.abs(band).sum(axis=(1, 2, 3))
        rest = half
    return distance + 4**2 * np.abs(rest).sum(axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("image_shape", "missing"), [((20, 17, 2), True), ((20, 17), False), ((6,), True)]
)
def test_terms_are_the_formulae(image_shape, missing):
    model = make(image_shape=image_shape, pixel_weight=0.3)
    rng = np.random.default_rng(0)
    x, noise = rng.random((2, 4, *image_shape), dtype="float32")
    parameters = 3 * noise - 1
    observed = rng.random(x.shape) < (0.5 if missing else 2)
    given = np.where(observed, x, np.float32("nan"))

    def told(parameters):
        outputs = {"parameters": parameters}
        return model.terms(ops.convert_to_tensor(given), outputs)

    terms = computed(told, parameters)
    mean = 1 / (1 + np.exp(-np.float64(parameters)))
    error = np.where(observed, x - mean, 0)
    axes = tuple(range(1, x.ndim))
    if len(image_shape) == 1:
        distance = np.abs(error).sum(axis=1)
    else:
        distance = laplacian_distance(error.reshape(4, 20, 17, -1), 0)
    nll = observed * (0.5 * error**2 + 0.5 * np.log(2 * np.pi))
    expected = {"laplacian": distance, "reconstruction": 0.3 * nll.sum(axis=axes)}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4)
    slope = gradient(lambda parameters: sum(told(parameters).values()), parameters)
    np.testing.assert_array_equal(slope[~observed], 0)
    assert (slope[observed] != 0).mean() > 0.9


def test_codes_never_leave_the_unit_ball(images):
    model = make()
    model.compile({"codes": keras.optimizers.Adam(10.0)})
    # Most samples are in no batch of the first epoch.
    fit(model, images, epochs=1, steps_per_epoch=1)
    assert norms(model.codes()).max() <= 1 + 1e-6
    fit(model, images, epochs=3)
    after = norms(model.codes())
    assert after.max() <= 1 + 1e-6
    # The rate drives them out at every step.
    assert after.min() > 1 - 1e-6


def test_a_search_minimises_the_terms_alone(images):
    found = []
    for Model in (keras_ae.GLO, telling(keras_ae.GLO)):
        keras.utils.set_random_seed(1)
        model = Model(**SMALL)
        model.fit(images, epochs=3, batch_size=16, verbose=0)
        found.append(model.infer(images[:4], steps=20).codes)
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-4)


def test_codes_that_are_searched_for_stay_in_the_unit_ball(images):
    model = make()
    fit(model, images, epochs=5)
    # Unlike anything that a code of the ball decodes to.
    strange = np.concatenate([255 - images, 0 * images])
    found = model.infer(strange, learning_rate=5.0, steps=30)
    assert norms(found.codes).max() <= 1 + 1e-6
    assert (norms(found.codes) > 0.99).any()
    restored = model.decode(found.codes)
    error = np.mean((restored - strange / 255) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(found.error, error, rtol=1e-3)
    ids = model.extend(strange, steps=30)
    assert norms(model.codes(ids)).max() <= 1 + 1e-6


@pytest.mark.parametrize("missing", [False, True])
def test_codes_start_from_the_principal_components(images, missing):
    x = images / np.float32(255)
    if missing:
        # As few as to turn the components by little.
        x[np.random.default_rng(0).random(x.shape) < 0.002] = np.nan
    model = make()
    model.compile(
        {"decoder": keras.optimizers.SGD(0.0), "codes": keras.optimizers.SGD(0.0)}
    )
    fit(model, x, epochs=1)
    codes = model.codes()
    inside = norms(codes) < 1 - 1e-6
    assert inside.mean() > 0.9
    assert norms(codes).max() > 0.9
    pca = decomposition.PCA(3)
    scores = pca.fit_transform((images / 255.0).reshape(len(images), -1))
    mine, theirs = (
        array[inside] - array[inside].mean(axis=0) for array in (codes, scores)
    )
    angles = linalg.subspace_angles(mine, theirs)
    assert np.rad2deg(angles).max() < (10 if missing else 3)
    # One factor for all components.
    ratio = mine.std(axis=0) / theirs.std(axis=0)
    np.testing.assert_allclose(ratio / ratio[0], 1, rtol=0.15 if missing else 0.03)


def test_more_latent_dimensions_than_components(images):
    for x, latent_dim in ((images[:4], 7), (images[:1], 2)):
        model = make(latent_dim=latent_dim)
        fit(model, x, epochs=1)
        codes = model.codes()
        assert codes.shape == (len(x), latent_dim)
        assert np.isfinite(codes).all() and norms(codes).max() <= 1 + 1e-6
        assert (codes != 0).all()


def test_a_picture_is_learnt_where_it_was_observed(images):
    mask = np.random.default_rng(0).random(images.shape) < 0.5
    model = make(widths=(64,))
    model.compile(keras.optimizers.Adam(1e-2))
    first = fit(model, images, epochs=1, mask=mask)["laplacian"][0]
    last = fit(model, images, epochs=25, mask=mask)["laplacian"][-1]
    assert last < 0.5 * first


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_weight": -1.0}, "`pixel_weight` must be >= 0"),
        (
            {"code_weight": 0.1},
            "`code_weight` must be left out: codes have their place",
        ),
        ({"encoder": None}, "`encoder` must be left out"),
        (
            {"likelihood": keras_ae.likelihoods.Gaussian("learned"), "pixel_weight": 0},
            "no learned scale where `pixel_weight` is 0",
        ),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_data_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\].*likelihoods.Gaussian\(1.0\)"):
        make().fit(np.full((4, 5), -1.0, "float32"), verbose=0)
