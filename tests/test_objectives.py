"""VAEs with other objectives: their terms in NumPy, and where they equal a VAE."""

import keras
import numpy as np
import pytest
from keras import ops
from numerics import to_numpy
from scipy import special, stats

import keras_ae
from keras_ae.probability import divergences
from keras_ae.probability.distributions import Normal

NOISE = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")


class FixedNoise(keras.layers.Layer):
    def call(self, mean, log_var):
        return mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor(NOISE)


def examples():
    return np.random.default_rng(0).random((8, 6), dtype="float32")


def logs(Model, x=None, **options):
    """What a small model, always of the same weights, logs about a batch of 8."""
    x = examples() if x is None else x
    model = Model(3, architecture="dense", widths=(16,), **options)
    model.sampling = FixedNoise()
    model.build((None, *x.shape[1:]))
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0.0, 0.4, variable.shape))
    outputs = {k: to_numpy(v) for k, v in model(ops.convert_to_tensor(x)).items()}
    return model.evaluate(x, verbose=0, return_dict=True), outputs


def kl(outputs):
    mean, log_var = outputs["mean"], outputs["log_var"]
    return 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(axis=1)


@pytest.mark.once
@pytest.mark.parametrize(
    ("Model", "options"),
    [
        (keras_ae.BetaVAE, {"beta": 1.0}),
        (keras_ae.DIPVAE, {"off_diagonal_weight": 0.0}),
        (keras_ae.InfoVAE, {"beta": 1.0, "mmd_weight": 0.0}),
        (keras_ae.SigmaVAE, {}),
        (keras_ae.MSSSIMVAE, {"weight": 0.0, "pixel_weight": 1.0}),
    ],
)
def test_without_its_own_term_it_is_a_vae(Model, options):
    x, shared = examples(), {}
    if Model is keras_ae.MSSSIMVAE:
        x = x[:, :, None]
        shared["likelihood"] = keras_ae.likelihoods.Gaussian(activation="sigmoid")
    mine, _ = logs(Model, x, **options)
    vae, _ = logs(keras_ae.VAE, x, **shared)
    for name in ("loss", "kl", "elbo", "mse"):
        assert mine[name] == pytest.approx(vae[name], rel=1e-5)


def test_capacity_is_what_the_kl_is_held_to():
    outputs = logs(keras_ae.BetaVAE)[1]
    mean = kl(outputs).mean()
    for capacity in (0.0, 0.5 * mean, 2.0 * mean):
        found, _ = logs(keras_ae.BetaVAE, beta=7.0, capacity=capacity)
        assert found["kl"] == pytest.approx(7.0 * abs(mean - capacity), rel=1e-4)


def test_capacity_rises_epoch_by_epoch():
    model = keras_ae.BetaVAE(2, beta=10.0, capacity=6.0, image_shape=(6,))
    callback = keras_ae.callbacks.CapacityIncrease(epochs=3)
    callback.set_model(model)
    capacities = []
    for epoch in range(5):
        callback.on_epoch_begin(epoch)
        capacities.append(float(model.current_capacity))
    assert capacities == [0.0, 2.0, 4.0, 6.0, 6.0]
    callback.set_model(keras_ae.BetaVAE(2, image_shape=(6,)))
    model.capacity = 3.0
    assert float(model.current_capacity) == 3.0
    with pytest.raises(ValueError, match="must stay a number, or None"):
        model.capacity = None
    with pytest.raises(ValueError, match="needs a model with a capacity"):
        callback.on_train_begin()


def test_cycles_of_beta():
    model = keras_ae.VAE(2, beta=2.0, image_shape=(6,))
    callback = keras_ae.callbacks.CyclicalBeta(epochs=4)
    callback.set_model(model)
    weights = []
    for epoch in range(6):
        callback.on_epoch_begin(epoch)
        weights.append(float(model.kl_weight))
    assert weights == [0.0, 1.0, 2.0, 2.0, 0.0, 1.0]
    callback.set_model(keras_ae.IWAE(2, image_shape=(6,)))
    with pytest.raises(ValueError, match="needs a model with a KL term"):
        callback.on_train_begin()


def test_parts_of_the_kl_in_numpy():
    rng = np.random.default_rng(0)
    mean, log_var, noise = rng.normal(size=(3, 7, 2))
    z = mean + np.exp(0.5 * log_var) * noise
    posterior = Normal.from_log_var(
        *(ops.convert_to_tensor(v, "float32") for v in (mean, log_var))
    )
    prior = Normal(0.3, 1.2)
    parts = [to_numpy(part) for part in divergences.kl_parts(posterior, prior, z)]

    # [i, k, j]: log q(z_ij | x_k)
    pairs = stats.norm.logpdf(z[:, None], mean, np.exp(0.5 * log_var))
    log_q = special.logsumexp(pairs.sum(axis=2), axis=1) - np.log(7)
    log_product = (special.logsumexp(pairs, axis=1) - np.log(7)).sum(axis=1)
    own = np.einsum("iij->i", pairs)
    log_prior = stats.norm.logpdf(z, 0.3, 1.2).sum(axis=1)
    expected = (own - log_q, log_q - log_product, log_product - log_prior)
    np.testing.assert_allclose(parts, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(sum(parts), own - log_prior, rtol=1e-4, atol=1e-4)
    assert parts[0].max() <= np.log(7) + 1e-4


def test_total_correlation_of_correlated_codes():
    # 0 without a correlation of 0.8, -log(1 - 0.8²) / 2 with it.
    rng = np.random.default_rng(0)
    found = []
    for correlation in (0.0, 0.8):
        covariance = [[1.0, correlation], [correlation, 1.0]]
        mean = rng.multivariate_normal([0.0, 0.0], covariance, size=1000)
        log_var = np.full_like(mean, np.log(0.05))
        z = mean + np.sqrt(0.05) * rng.normal(size=mean.shape)
        posterior = Normal.from_log_var(
            *(ops.convert_to_tensor(v, "float32") for v in (mean, log_var))
        )
        found.append(to_numpy(divergences.kl_parts(posterior, Normal(), z)[1]).mean())
    assert found[0] == pytest.approx(0.0, abs=0.06)
    assert found[1] == pytest.approx(-0.5 * np.log(1 - (0.8 / 1.05) ** 2), abs=0.06)


def test_beta_tc_vae_weighs_each_part():
    plain, outputs = logs(keras_ae.BetaTCVAE, alpha=1.0, beta=1.0, gamma=1.0)
    log_ratio = stats.norm.logpdf(
        outputs["z"], outputs["mean"], np.exp(0.5 * outputs["log_var"])
    ) - stats.norm.logpdf(outputs["z"])
    names = ("mutual_information", "total_correlation", "dimension_kl")
    total = sum(plain[name] for name in names)
    assert total == pytest.approx(log_ratio.sum(axis=1).mean(), rel=1e-3)
    weighed, _ = logs(keras_ae.BetaTCVAE, alpha=2.0, beta=3.0, gamma=0.5)
    for name, weight in zip(names, (2.0, 3.0, 0.5), strict=True):
        assert weighed[name] == pytest.approx(weight * plain[name], rel=1e-4)
    assert weighed["elbo"] == pytest.approx(plain["elbo"], rel=1e-5)
    with pytest.raises(ValueError, match="`prior` must be a `Normal`"):
        mixture = keras_ae.distributions.NormalMixture([[0.0, 1.0]])
        keras_ae.BetaTCVAE(2, prior=mixture)


@pytest.mark.parametrize(
    ("covariance", "weights", "expected"),
    [
        ("means", (3.0, 4.0), (3.0, 4.0)),
        ("codes", (3.0, None), (3.0, 3.0)),
        ("means", (3.0, None), (3.0, 30.0)),
    ],
)
def test_covariance_penalty_in_numpy(covariance, weights, expected):
    found, outputs = logs(
        keras_ae.DIPVAE,
        covariance=covariance,
        off_diagonal_weight=weights[0],
        diagonal_weight=weights[1],
    )
    matrix = np.cov(outputs["mean"].T, bias=True)
    if covariance == "codes":
        matrix += np.diag(np.exp(outputs["log_var"]).mean(axis=0))
    centred = outputs["mean"] - outputs["mean"].mean(axis=0)
    products = centred[:, :, None] * centred[:, None]
    unbiased = np.square(products.mean(axis=0)) - products.var(axis=0) / len(products)
    penalty = expected[0] * (unbiased.sum() - np.trace(unbiased))
    penalty += expected[1] * np.square(np.diag(matrix) - 1).sum()
    assert found["covariance_penalty"] == pytest.approx(penalty, rel=1e-4)


def test_info_vae_adds_the_discrepancy_to_the_prior():
    class Prior(keras.layers.Layer):
        def call(self, x):
            return ops.convert_to_tensor(2.0 * NOISE)

    x = examples()
    keras.utils.set_random_seed(3)
    model = keras_ae.InfoVAE(3, mmd_weight=5.0, kernel="rbf")
    model.sampling, model.prior_sampling = FixedNoise(), Prior()
    model.build((None, 6))
    z = model(ops.convert_to_tensor(x))["z"]
    expected = 5.0 * to_numpy(divergences.mmd(z, 2.0 * NOISE, "rbf", 1.0))
    found = model.evaluate(x, verbose=0, return_dict=True)
    assert found["mmd"] == pytest.approx(expected, rel=1e-4)


def test_sigma_vae_has_the_best_scale_of_all():
    found, _ = logs(keras_ae.SigmaVAE)
    for scale in (0.05, 0.2, 0.3, 0.5, 1.0):
        likelihood = keras_ae.likelihoods.Gaussian(scale=scale)
        fixed, _ = logs(keras_ae.VAE, likelihood=likelihood)
        # In evaluation the scale is that of training so far: here the batch's own.
        assert fixed["elbo"] <= found["elbo"] + 1e-3


def test_pixel_weight_zero_refuses_a_learned_scale():
    learned = keras_ae.likelihoods.Gaussian(scale="learned")
    with pytest.raises(ValueError, match="must have no learned scale"):
        keras_ae.MSSSIMVAE(2, likelihood=learned)
    keras_ae.MSSSIMVAE(2, likelihood=learned, pixel_weight=0.1)


@pytest.mark.parametrize("shape", [(48, 64, 3), (176, 192, 1), (22, 22, 1)])
def test_ms_ssim_against_tensorflow(shape):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    x = rng.random((3, *shape), dtype="float32")
    y = np.clip(x + 0.3 * rng.normal(size=x.shape), 0, 1).astype("float32")
    scales = {22: 2, 48: 3, 176: 5}[shape[0]]
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    with tf.device("CPU"):
        expected = tf.image.ssim_multiscale(x, y, 1.0, weights / weights.sum()).numpy()
    np.testing.assert_allclose(to_numpy(divergences.ms_ssim(x, y)), expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(5, 4, 1), (43, 47, 3), (12, 12, 2)])
def test_ms_ssim_of_any_size_is_one_for_equal_pictures(shape):
    x = np.random.default_rng(0).random((2, *shape), dtype="float32")
    np.testing.assert_allclose(to_numpy(divergences.ms_ssim(x, x)), 1.0, atol=1e-4)
    assert (to_numpy(divergences.ms_ssim(x, 1 - x)) < 0.5).all()
    with pytest.raises(ValueError, match="must have one shape"):
        divergences.ms_ssim(x, x[:, :3])


@pytest.mark.parametrize(
    ("image_shape", "architecture"),
    [((7,), "auto"), ((8, 9, 10, 1), "auto"), ((24, 3), "sequence")],
)
def test_structure_of_what_is_no_picture_is_refused(image_shape, architecture):
    with pytest.raises(ValueError, match=f"needs pictures .* shape .{image_shape[0]},"):
        keras_ae.MSSSIMVAE(2, image_shape=image_shape, architecture=architecture)


def test_structure_is_restored(images):
    model = keras_ae.MSSSIMVAE(4, architecture="dense", widths=(64,))
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(images, epochs=40, batch_size=16, verbose=0).history
    assert history["structure"][-1] < 0.7 * history["structure"][0]


def test_a_collapsed_posterior_is_told(images, capsys):
    watch = keras_ae.callbacks.CollapseWatch(images, patience=2)
    model = keras_ae.VAE(3, architecture="dense", widths=(8,), beta=1e4)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(images, epochs=25, verbose=0, callbacks=[watch])
    told = capsys.readouterr()
    assert "0.0% of the latent dimensions are active" in told.err + told.out
    # Codes that are no numbers have not collapsed.
    model.encoder.set_weights([w * np.nan for w in model.encoder.get_weights()])
    watch.on_epoch_end(0)
    watch.on_epoch_end(1)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="needs examples `x`"):
        model.fit(images, verbose=0, callbacks=[keras_ae.callbacks.CollapseWatch()])


@pytest.mark.once
@pytest.mark.parametrize(
    ("Model", "arguments", "message"),
    [
        (keras_ae.BetaVAE, {"beta": -1}, "`beta` must be >= 0"),
        (keras_ae.BetaVAE, {"capacity": -1}, "`capacity` must be >= 0"),
        (keras_ae.BetaTCVAE, {"alpha": -1}, "`alpha` must be >= 0"),
        (keras_ae.BetaTCVAE, {"free_bits": 1.0}, "`free_bits` must be left out"),
        (keras_ae.DIPVAE, {"covariance": "II"}, "must be 'means' or 'codes'"),
        (keras_ae.DIPVAE, {"diagonal_weight": -1}, "`diagonal_weight` must be"),
        (keras_ae.DIPVAE, {"prior": None}, "`prior` must be left out"),
        (keras_ae.InfoVAE, {"mmd_weight": -1}, "`mmd_weight` must be"),
        (keras_ae.InfoVAE, {"kernel": "linear"}, "`kernel` must be one of"),
        (keras_ae.SigmaVAE, {"scale": 0.5}, "'learned' or 'predicted'"),
        (keras_ae.SigmaVAE, {"likelihood": "laplace"}, "must be left out"),
        (keras_ae.MSSSIMVAE, {"weight": -1}, "`weight` must be >= 0"),
    ],
)
def test_bad_arguments(Model, arguments, message):
    with pytest.raises(ValueError, match=message):
        Model(2, **arguments)
