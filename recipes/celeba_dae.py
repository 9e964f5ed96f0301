"""A denoising autoencoder on CelebA faces, 64 px, Gaussian noise of 0.5.

So much noise leaves little of a face: what restores it looks at three scales, and knows
faces. Its PSNR on held-back faces stands beside that of the noisy ones, blurred ones
and, where scikit-image is installed, of non-local means, which is told the noise level.
"""

import keras
import numpy as np

import keras_ae


def main(run, latent_dim=32, noise_level=0.5, learning_rate=1.5e-3, patience=12):
    train, validation, test = run.load("celeba", image_size=64)
    epochs = run.epochs or 20
    batch_size = run.batch_size or 16

    def build():
        model = keras_ae.DenoisingAE(latent_dim, noise_level=noise_level)
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
    run.pictures(model, test)

    faces = test[:200]
    noisy = model.corrupt(faces, seed=run.seed)
    restored = {
        "noisy": np.clip(noisy, 0, 1),
        "non_local_means": non_local_means(noisy, noise_level),
        "autoencoder": model.denoise(noisy),
    }
    for name, pictures in restored.items():
        if pictures is not None:
            run.scores(**{f"psnr_{name}": keras_ae.metrics.psnr(faces, pictures)})
    rows = [faces[:10] / 255]
    rows += [pictures[:10] for pictures in restored.values() if pictures is not None]
    run.picture(
        "restored_faces",
        keras_ae.plots.sheet(np.concatenate(rows), columns=10),
        "Held-back faces; with noise; "
        + ("non-local means; " if len(rows) == 4 else "")
        + "the autoencoder.",
    )


def non_local_means(noisy, level):
    """Non-local means at the strength that scikit-image advises; None without it."""
    try:
        from skimage.restoration import denoise_nl_means
    except ModuleNotFoundError:
        return None
    options = {"h": 0.8 * level, "sigma": level, "patch_size": 5, "channel_axis": -1}
    return np.clip(np.stack([denoise_nl_means(x, **options) for x in noisy]), 0, 1)
