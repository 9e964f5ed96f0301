"""Digits with missing pixels: models without an encoder, and VAEs of the same decoder.

Pixels of training and test digits are missing completely at random, from 10 to 90 % of
them. All models have the same decoder, likelihood and prior, see the same pixels of the
same digits, and take the same steps, with three seeds each:

- `vad`, a variational auto-decoder, and `autodecoder`: a missing pixel does not count,
  neither in training nor when the code of a test digit is searched for;
- `vae`: its encoder must be shown something, here 0; its loss is that of the observed
  pixels;
- `naive_vae`: it learns to restore the zero-filled digits, zeros and all.

The score is the mean squared error on the missing pixels of test digits. Zadeh et al.
found the variational auto-decoder ahead of VAEs at every ratio: encoders did not cope
with what had been filled in. What is found here is in `missing.csv` and in the plot.

Reference:
    Zadeh et al., Variational Auto-Decoder, 2019.
"""

import csv

import keras
import numpy as np

import keras_ae
from keras_ae.files import replacing

MODELS = ("vad", "autodecoder", "vae", "naive_vae")


def main(
    run,
    latent_dim=16,
    widths=(512, 256),
    scale=0.3,
    learning_rate=2e-3,
    code_learning_rate=0.3,
    ratios=(0.1, 0.3, 0.5, 0.7, 0.9),
    train_digits=10_000,
    test_digits=1000,
    seeds=3,
):
    train, validation, test = run.load("mnist")
    train, test = train[:train_digits], test[:test_digits]
    digits = run.labels["test"]["label"][:test_digits]
    epochs = run.epochs or 50
    batch_size = run.batch_size or 128

    def build(name):
        networks = {
            "latent_dim": latent_dim,
            "architecture": "dense",
            "widths": widths,
            "likelihood": keras_ae.likelihoods.Gaussian(scale, activation="sigmoid"),
        }
        steps = epochs * -(-len(train) // batch_size)
        decay = keras.optimizers.schedules.CosineDecay
        optimizer = keras.optimizers.Adam(decay(learning_rate, steps))
        if name == "vad":
            model = keras_ae.VariationalAutoDecoder(**networks)
        elif name == "autodecoder":
            # With this weight the penalty on codes is that of the same prior, N(0, I).
            model = keras_ae.AutoDecoder(code_weight=1.0, **networks)
        else:
            model = (ObservedVAE if name == "vae" else keras_ae.VAE)(**networks)
            model.compile(optimizer)
            return model
        # A code is moved once an epoch only.
        code_rate = decay(code_learning_rate, steps)
        codes = keras.optimizers.Adam(code_rate, beta_2=0.99)
        model.compile({"decoder": optimizer, "codes": codes})
        return model

    def trained(name, ratio, seed):
        seen = with_missing(train, ratio, (seed, 0))
        if (name, ratio, seed) == ("vad", ratios[len(ratios) // 2], run.seed):
            # The run's own model, which is checkpointed and drawn.
            model = run.model(lambda: build(name))
            run.fit(
                model,
                seen,
                with_missing(validation[:64], ratio, (seed, 2)),
                epochs=epochs,
                batch_size=batch_size,
                patience=epochs,
                monitor="loss",
            )
            run.evaluate(model, with_missing(test, ratio, (seed, 1)))
            run.pictures(model, test, digits, "digit")
            return model
        keras.utils.set_random_seed(seed)
        model = build(name)
        options = {"batch_size": batch_size, "epochs": epochs, "verbose": 0}
        if isinstance(model, keras_ae.AutoDecoder):
            model.fit(seen, **options)
        else:
            # The naive VAE takes no notice of what was observed.
            observed = ~np.isnan(seen) if isinstance(model, ObservedVAE) else None
            model.fit(np.nan_to_num(seen), observed, **options)
        return model

    originals = test / np.float32(255)
    rows = []
    for seed in range(run.seed, run.seed + seeds):
        for ratio in ratios:
            seen = with_missing(test, ratio, (seed, 1))
            missing = np.isnan(seen)
            shown = [originals, np.where(missing, 0.5, originals)]
            for name in MODELS:
                restored = restore(trained(name, ratio, seed), seen)
                squares = np.square(restored - originals)
                errors = squares[missing].mean(), squares.mean()
                rows.append((ratio, seed, name, *errors))
                print(f"{ratio:.0%} missing, seed {seed}, {name}: mse {errors[0]:.5f}")
                shown.append(restored)
            if seed == run.seed:
                run.picture(
                    f"{100 * ratio:.0f}_percent_missing",
                    keras_ae.plots.sheet(
                        np.concatenate([pictures[:12] for pictures in shown]),
                        columns=min(12, len(test)),
                    ),
                    f"Test digits, the same with {ratio:.0%} of the pixels missing "
                    f"(grey), and what is made of these, a row each: "
                    f"{', '.join(MODELS)}.",
                )
    report(run, ratios, rows)


class ObservedVAE(keras_ae.VAE):
    """A VAE whose loss is that of observed pixels: `fit(zero_filled, observed)`."""

    takes_targets = True

    def unpack_batch(self, data):
        x, observed, weight = keras.utils.unpack_x_y_sample_weight(data)
        return self.check_batch(x), {"observed": observed}, weight

    def call(self, x, training=False, observed=None):
        return {**super().call(x, training), "observed": observed}

    def terms(self, x, outputs, training=False):
        log_prob = self.likelihood.log_prob(
            x, outputs["parameters"], training, outputs["observed"]
        )
        return {
            "reconstruction": -log_prob,
            "kl": self.kl_weight * self.kl(outputs),
        }


def with_missing(images, ratio, seed):
    """Pictures in [0, 1] with NaN in the place of a share of their pixels."""
    missing = np.random.default_rng(seed).random(images.shape) < ratio
    return np.where(missing, np.float32("nan"), images / np.float32(255))


def restore(model, x):
    """Reconstructions; an encoder is shown 0 for what is missing."""
    without_encoder = isinstance(model, keras_ae.AutoDecoder)
    return model.reconstruct(x if without_encoder else np.nan_to_num(x))


def report(run, ratios, rows):
    """Writes the table, the scores and the plot."""
    path = run.directory / "missing.csv"
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(
            ("missing_ratio", "seed", "model", "mse_of_missing", "mse_of_all")
        )
        table.writerows(rows)

    errors = {}  # by model, of the missing pixels, (seeds, ratios)
    for name in MODELS:
        found = [error for _, _, model, error, _ in rows if model == name]
        errors[name] = np.reshape(found, (-1, len(ratios)))
        seeds = len(errors[name])
        means = errors[name].mean(axis=0)
        deviations = errors[name].std(axis=0, ddof=1) if seeds > 1 else 0 * means
        for ratio, mean, deviation in zip(ratios, means, deviations, strict=True):
            percent = f"{100 * ratio:.0f}_percent"
            run.scores(
                **{
                    f"{name}_mse_{percent}": mean,
                    f"{name}_deviation_{percent}": deviation,
                }
            )
    ahead = errors["vad"].mean(axis=0) < errors["vae"].mean(axis=0)
    run.scores(ratios=len(ratios), ratios_with_vad_ahead_of_vae=ahead.sum())

    percents = [round(100 * ratio) for ratio in ratios]
    run.picture(
        "missing",
        keras_ae.plots.error_bars(
            percents, errors, "missing pixels in %", "mean squared error on them"
        ),
        "Error on the missing pixels of test digits by the share that is missing: "
        f"means and standard deviations of {seeds} seeds, which draw weights and "
        "missing pixels anew.",
    )
