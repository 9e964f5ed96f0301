"""A denoising autoencoder on MNIST, beside a median filter and non-local means.

It learns to restore digits from Gaussian noise of any level up to 0.8, without being
told the level. The classical filters are told it, and their parameters are chosen for
each level on held-back digits. PSNR and SSIM are those of 2,000 test digits, of each
filter clipped to [0, 1].

Reference:
    Vincent et al., Stacked Denoising Autoencoders, 2010; Buades et al., A non-local
    algorithm for image denoising, 2005.
"""

import keras
import numpy as np

import keras_ae


def main(run, latent_dim=32, highest_level=0.8, learning_rate=1.5e-3, patience=12):
    try:
        from scipy.ndimage import median_filter
        from skimage.restoration import denoise_nl_means
    except ModuleNotFoundError as error:
        raise ImportError(
            "This recipe compares with filters of scikit-image; install it with "
            '`pip install "keras-ae[recipes]"`.'
        ) from error

    train, validation, test = run.load("mnist")
    epochs = run.epochs or 12
    batch_size = run.batch_size or 64

    def build():
        model = keras_ae.DenoisingAE(latent_dim, noise_level=(0.0, highest_level))
        steps = epochs * -(-len(train) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        return model

    model = run.model(build)
    run.fit(
        model,
        train,
        validation,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
    )
    run.evaluate(model, test)
    run.pictures(model, test, run.labels["test"]["label"], "digit")

    def median(noisy, level, size):
        return median_filter(noisy, (1, size, size))

    def non_local_means(noisy, level, strength):
        options = {"h": strength * level, "sigma": level, "patch_size": 5}
        return np.stack([denoise_nl_means(x, **options) for x in noisy])

    def best(method, choices, pictures, noisy, level):
        """The parameter that restores held-back pictures best."""
        return max(
            choices,
            key=lambda choice: keras_ae.metrics.psnr(
                pictures, np.clip(method(noisy, level, choice), 0, 1)
            ),
        )

    chosen, held_back = test[:2000, ..., 0], validation[:100, ..., 0]
    rows = []
    print("noise  method           PSNR dB   SSIM")
    for level in (0.25, 0.5, 0.75):
        random = np.random.default_rng(run.seed)
        noisy, tried = (
            np.float32(x / 255 + random.normal(0, level, x.shape))
            for x in (chosen, held_back)
        )
        size = best(median, (3, 5), held_back, tried, level)
        strength = best(
            non_local_means, (0.4, 0.6, 0.8, 1.0, 1.2), held_back, tried, level
        )
        restored = {
            "noisy": noisy,
            "median filter": median(noisy, level, size),
            "non-local means": non_local_means(noisy, level, strength),
            "autoencoder": model.denoise(noisy[..., None])[..., 0],
        }
        rows.append(chosen[:12] / 255)
        for method, pictures in restored.items():
            pictures = np.clip(pictures, 0, 1)
            rows.append(pictures[:12])
            psnr = keras_ae.metrics.psnr(chosen, pictures)
            ssim = keras_ae.metrics.ssim(chosen[..., None], pictures[..., None])
            print(f"{level:5}  {method:15}  {psnr:7.2f}  {ssim:.3f}")
            name = f"{method} {level:.0%}".translate(str.maketrans(" -", "__", "%"))
            run.scores(**{f"psnr_{name}": psnr, f"ssim_{name}": ssim})
    run.picture(
        "filters_beside_autoencoder",
        keras_ae.plots.sheet(np.concatenate(rows)[..., None], columns=12),
        "Test digits at noise levels 0.25, 0.5 and 0.75. Five rows each: clean, noisy, "
        "median filter, non-local means, autoencoder.",
    )
