"""Models in scikit-learn's pipelines and searches."""

import keras
import numpy as np
import pytest
from numerics import next_draws

import keras_ae

pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from keras_ae.estimators import CodeTransformer  # noqa: E402

RNG = np.random.default_rng(0)
ROWS = 5 + RNG.normal(0, [3, 1], (64, 2)) @ RNG.normal(0, 1, (2, 5))


def test_it_encodes_and_decodes_in_a_pipeline_like_pca():
    linear = CodeTransformer(
        keras_ae.AE,
        latent_dim=2,
        arguments={"architecture": "linear"},
        optimizer="adam",
        epochs=2,
    )
    pipeline = make_pipeline(StandardScaler(), linear)
    codes = pipeline.fit_transform(ROWS)
    assert codes.shape == (64, 2)
    model = linear.model_
    standard = pipeline[0].transform(ROWS).astype("float32")
    np.testing.assert_allclose(codes, model.encode(standard), atol=1e-5)
    restored = pipeline.inverse_transform(codes)
    assert restored.shape == ROWS.shape
    expected = pipeline[0].inverse_transform(model.decode(codes))
    np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert [*pipeline[-1:].get_feature_names_out()] == ["z0", "z1"]

    again = clone(pipeline).fit(ROWS)
    np.testing.assert_allclose(again.transform(ROWS), codes, atol=1e-4)

    exact = CodeTransformer(keras_ae.PCA, latent_dim=2).fit(ROWS)
    theirs = PCA(2).fit(ROWS)
    np.testing.assert_allclose(
        exact.inverse_transform(exact.transform(ROWS)),
        theirs.inverse_transform(theirs.transform(ROWS)),
        atol=1e-3,
    )


@pytest.mark.once
def test_a_search_finds_the_size_of_the_code():
    exact = CodeTransformer(keras_ae.PCA)
    search = GridSearchCV(exact, {"latent_dim": [1, 2]}, cv=2).fit(ROWS)
    assert search.best_params_ == {"latent_dim": 2}
    loss = search.best_estimator_.model_.evaluate(ROWS, return_dict=True, verbose=0)
    np.testing.assert_allclose(search.score(ROWS), -loss["loss"], rtol=1e-5)


@pytest.mark.once
def test_each_fit_has_an_optimizer_of_its_own():
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    transformer = CodeTransformer(keras_ae.AE, 2, optimizer=optimizer)
    codes = transformer.fit(ROWS).transform(ROWS)
    np.testing.assert_array_equal(transformer.fit(ROWS).transform(ROWS), codes)
    assert not optimizer.built


@pytest.mark.once
def test_each_fit_begins_with_networks_as_they_were_given():
    encoder = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    before = encoder.get_weights()
    likelihood = keras_ae.likelihoods.Gaussian("learned")
    own = {"encoder": encoder, "likelihood": likelihood}
    transformer = CodeTransformer(keras_ae.AE, 2, arguments=own, epochs=2)
    codes = transformer.fit(ROWS).transform(ROWS)
    np.testing.assert_allclose(transformer.fit(ROWS).transform(ROWS), codes, atol=1e-5)
    for given, kept in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, given)


@pytest.mark.once
def test_seeds_may_be_numpys():
    one = {"epochs": 1, "seed": np.int64(3)}
    transformer = CodeTransformer(keras_ae.AE, 2, **one).fit(ROWS)
    assert np.isfinite(transformer.score(ROWS))
    detector = keras_ae.AnomalyDetector(keras_ae.AE(2), false_alarms=0.3, **one)
    assert detector.fit(ROWS).predict(ROWS).shape == (64,)


@pytest.mark.once
def test_what_does_not_fit_is_said():
    for wrong in (keras_ae.AE(2), "AE", keras.Model):
        with pytest.raises(ValueError, match="`Model` must be a class of keras_ae"):
            CodeTransformer(wrong, 2).fit(ROWS)
    failed = CodeTransformer(keras_ae.AE, 2, arguments={"architecture": "none"})
    with pytest.raises(ValueError, match="`architecture`"):
        failed.fit(ROWS)
    with pytest.raises(NotFittedError):
        failed.transform(ROWS)
    with pytest.raises(ValueError, match="5 features"):
        CodeTransformer(keras_ae.PCA, 2).fit(ROWS).transform(ROWS[:, :4])


def test_fits_change_no_draws_of_the_users():
    transformer = CodeTransformer(keras_ae.VAE, 2, epochs=1, seed=5)
    detector = keras_ae.AnomalyDetector(
        keras_ae.VAE(2), "reconstruction", epochs=1, seed=5
    )

    keras.utils.set_random_seed(1)
    next_draws()
    expected = next_draws()
    codes = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        next_draws()
        transformer.fit(ROWS)
        score = transformer.score(ROWS)
        assert transformer.score(ROWS) == score
        codes.append((transformer.transform(ROWS), detector.fit(ROWS).model_))
        assert (next_draws() == expected) is (seed == 1)
    (one, model), (other, again) = codes
    np.testing.assert_allclose(other, one, atol=1e-5)
    rows = ROWS.astype("float32")
    np.testing.assert_allclose(again.encode(rows), model.encode(rows), atol=1e-5)


@pytest.mark.once
def test_models_that_give_no_codes_are_refused_before_they_are_trained(monkeypatch):
    def train(*args, **kwargs):
        raise AssertionError("it was trained")

    for Model, message in (
        (keras_ae.AutoDecoder, "must have an encoder.* which searches for codes"),
        (keras_ae.GLO, "must have an encoder.* which searches for codes"),
        (keras_ae.GAN, "must have an encoder.* which has none"),
        (keras_ae.ConditionalVAE, "must learn without labels"),
    ):
        monkeypatch.setattr(Model, "fit", train)
        with pytest.raises(ValueError, match=message):
            CodeTransformer(Model, 2).fit(ROWS)
