"""p(x) as a sum of Gaussians: an IWAE of points in a plane, drawn (no download).

A decoder that predicts a mean and a standard deviation for each code makes of the prior
a mixture of infinitely many Gaussians,

    p(x) = ∫ p(z) N(x; μ(z), σ(z)²) dz,

where a Gaussian mixture has K of them, p(x) = Σ p(m) N(x; μ_m, Σ_m). Both are fitted
to the same points, and told by the test points' log-likelihood: the model's by
numerical integration over its latent space, exact but for the step, beside its lower
bound. `--set samples=1` trains the VAE's bound, which costs a density what one Gaussian
posterior can't say.

Reference:
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014;
    Burda et al., Importance Weighted Autoencoders, 2016.
"""

import keras
import numpy as np

import keras_ae
from keras_ae.datasets import plane


def main(
    run,
    shape="spiral",
    latent_dim=2,
    samples=16,
    learning_rate=2e-3,
    points=10_000,
    components=(8, 32),
    patience=60,
):
    points = min(points, run.limit or points)
    train, validation, test = (
        plane.draw(shape, count, seed)
        for seed, count in enumerate((points, 1000, 2000))
    )

    def build():
        model = keras_ae.IWAE(
            latent_dim=latent_dim,
            samples=samples,
            architecture="dense",
            widths=(128, 128, 128),
            # With swish the decoder takes a spread for noise before it finds the shape.
            activation="tanh",
            likelihood=keras_ae.likelihoods.Gaussian("predicted"),
        )
        model.compile(keras.optimizers.Adam(learning_rate))
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        validation,
        epochs=300,
        batch_size=200,
        patience=patience,
        extra_callbacks=[
            keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=20, mode="min")
        ],
    )

    codes, weights = quadrature(latent_dim)
    log_prob = log_density(model, test, codes, weights)
    run.scores(
        log_likelihood=float(log_prob.mean()),
        lower_bound=-model.evaluate(test, verbose=0, return_dict=True)["loss"],
    )
    for count in components:
        mixture = keras_ae.samplers.fit_mixture(train, count, seed=run.seed)
        found = keras.ops.convert_to_numpy(mixture.log_prob(test))
        run.scores(**{f"mixture_{count}_log_likelihood": float(found.mean())})

    span = 2.4
    axis = np.linspace(-span, span, 160, dtype="float32")
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(log_density(model, grid, codes, weights))
    some = np.random.default_rng(run.seed).normal(size=(150, latent_dim))
    run.picture(
        "density",
        keras_ae.plots.plane(
            {
                "test points": test,
                "decoded Gaussians": (model.decode(some), model.decode_scale(some)),
                "p(x), all of them": density.reshape(len(axis), len(axis)),
                "samples": model.sample(
                    len(test), seed=run.seed, sampler="prior", mean=False
                ),
                f"{len(mixture.means)} Gaussians of a mixture": (
                    mixture.means,
                    mixture.covariances,
                ),
            },
            span,
        ),
        "The points; what 150 codes from the prior decode to, ellipses of one standard "
        "deviation; their sum over the whole prior, the density p(x); points drawn "
        "from it; and the discrete view, a mixture of as many Gaussians as it says.",
    )


def quadrature(latent_dim, steps=81, reach=4.0):
    """Codes of a grid, `(steps ** latent_dim, latent_dim)`, and log p(z) of each."""
    axis = np.linspace(-reach, reach, steps)
    codes = np.stack(np.meshgrid(*[axis] * latent_dim), axis=-1)
    codes = codes.reshape(-1, latent_dim)
    log_weights = -0.5 * np.square(codes).sum(axis=1)
    return codes.astype("float32"), log_weights - np.logaddexp.reduce(log_weights)


def log_density(model, x, codes, log_weights):
    """log p(x) in nats, `(n,)`: log Σ_z p(z) N(x; μ(z), σ(z)²)."""
    mean, scale = model.decode(codes), model.decode_scale(codes)
    found = []
    for part in np.array_split(x, max(1, len(x) // 200)):
        standardized = (part[:, None] - mean) / scale  # (points, codes, 2)
        log_prob = -0.5 * np.square(standardized) - np.log(scale)
        log_prob = log_prob.sum(axis=2) - np.log(2.0 * np.pi) + log_weights
        found.append(np.logaddexp.reduce(log_prob, axis=1))
    return np.concatenate(found)
