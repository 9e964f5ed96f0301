"""Is it a face, or only background? Samples of five models, judged by a classifier.

A discriminator that learns to tell backgrounds well might teach its generator to draw
good backgrounds. A classifier is trained to tell faces from what has their colours and
none of their order: corners of the same pictures, faces whose tiles were shuffled, and
squares cut from photographs and textures of scikit-image. All of it is seen sharp and
blurred, so that a blurred face counts as a face. Measured is the share of samples that
it takes for faces: of a GAN, a VAE-GAN, a WAE and a VAE from their priors, and of an
autoencoder from a mixture of Gaussians that was fitted to its codes; beside them
held-back faces and held-back pictures of none. Everything is 32 px.

Reference:
    Larsen et al., Autoencoding beyond Pixels Using a Learned Similarity Metric, 2016.
"""

import keras
import numpy as np
from PIL import Image, ImageFilter

import keras_ae

SIZE = 32
TILES = 4
# Of scikit-image, without those that show a person's face: to learn from, to judge by.
SEEN = ("coffee", "rocket", "immunohistochemistry", "brick", "grass", "coins")
HELD_BACK = ("cat", "clock", "gravel", "retina")
# Sides of the squares that are cut from them, in pixels.
SIDES = (48, 160)
# Standard deviations of the blur, in pixels.
BLUR = 1.5


def main(run, latent_dim=64, pictures=8000, judged=1000, learning_rate=1e-3):
    large, large_test = run.load(
        "celeba", image_size=2 * SIZE, splits=("train", "test")
    )
    large = large[:pictures]
    train, test = halved(large), halved(large_test)
    rng = np.random.default_rng(run.seed)
    backgrounds = no_faces(large, SEEN, rng)
    held_back = no_faces(large_test[:judged], HELD_BACK, rng)
    known = np.concatenate([train, *backgrounds.values()])
    is_face = np.arange(len(known)) < len(train)
    known = np.concatenate([known, blurred(known, rng)])
    classifier = keras_ae.features.train(
        known, np.tile(is_face, 2).astype(int), seed=run.seed, verbose=2
    )

    def share(x):
        return float(np.mean(classifier.predict(x)[:, 1] > 0.5))

    scores = {
        "faces": share(test[:judged]),
        "blurred_faces": share(blurred(test[:judged], rng)),
        **{name: share(x) for name, x in held_back.items()},
    }
    run.scores(**{f"{name}_taken_for_faces": value for name, value in scores.items()})

    epochs = run.epochs or 30
    batch_size = run.batch_size or 64
    shown = min(12, judged, len(test))
    rows = {"faces": test[:shown] / 255}
    for name, build in models(latent_dim, learning_rate).items():
        # The run's own model is the GAN.
        part = run if name == "gan" else run.child(name)
        model = part.model(build)
        part.fit(model, train, test, epochs=epochs, batch_size=batch_size)
        sampler = "prior"
        if name == "ae":
            model.fit_sampler("mixture", train, seed=run.seed)
            sampler = "mixture"
        samples = np.clip(model.sample(judged, seed=run.seed, sampler=sampler), 0, 1)
        run.scores(**{f"{name}_taken_for_faces": share(samples)})
        probability = classifier.predict(samples)[:, 1]
        rows[name] = samples[:shown]
        # Those that look least like a face to it.
        rows[f"{name}, least of all"] = samples[np.argsort(probability)[:shown]]
        if part is run:
            run.evaluate(model, test)
            run.pictures(model, test)
    run.picture(
        "samples_judged",
        keras_ae.plots.labelled({"a face, or not": rows}),
        "Held-back faces; of each model some samples, and those of "
        f"{judged:,} that look least like a face to the classifier.",
    )
    run.picture(
        "no_faces",
        keras_ae.plots.labelled(
            {"no faces": {name: x[:shown] for name, x in held_back.items()}}
        ),
        "What the classifier tells from faces, held-back pictures of each kind.",
    )


def models(latent_dim, learning_rate):
    """Returns what builds each model, by its name."""
    networks = {"latent_dim": latent_dim, "activation": "swish"}

    def compiled(model, optimizer):
        model.compile(optimizer)
        return model

    def gan():
        model = keras_ae.GAN(
            latent_dim,
            adversarial_loss="hinge",
            spectral_norm=True,
            ema_momentum=0.999,
        )
        model.optimizer.learning_rate = 2e-4
        return model

    def vaegan():
        discriminator = keras.optimizers.Adam(learning_rate, beta_1=0.5)
        return compiled(
            keras_ae.VAEGAN(
                **networks,
                beta=5.0,
                pixel_weight=0.1,
                adversarial_loss="non_saturating",
            ),
            {"discriminator": discriminator},
        )

    adam = keras.optimizers.Adam
    return {
        "gan": gan,
        "vaegan": vaegan,
        "wae": lambda: compiled(
            keras_ae.WAE(**networks, penalty_weight=500.0), adam(learning_rate)
        ),
        "vae": lambda: compiled(
            keras_ae.VAE(**networks, beta=5.0), adam(learning_rate)
        ),
        "ae": lambda: compiled(keras_ae.AE(**networks), adam(learning_rate)),
    }


def no_faces(faces, names, rng):
    """Returns as many pictures without a face as there are faces, by kind."""
    third = max(1, len(faces) // 3)
    return {
        "corners": corners(faces[:third], rng),
        "shuffled": shuffled(halved(faces[:third]), rng),
        "photographs": squares(names, third, halved(faces[:1]).shape[1:3], rng),
    }


def halved(pictures):
    """Means of two by two pixels."""
    count, height, width, channels = pictures.shape
    height, width = height // 2, width // 2
    even = pictures[:, : 2 * height, : 2 * width]
    parts = even.reshape(count, height, 2, width, 2, channels)
    return np.rint(parts.mean(axis=(2, 4), dtype="float32")).astype("uint8")


def corners(pictures, rng):
    """One corner of each picture, a quarter of it."""
    height, width = pictures.shape[1] // 2, pictures.shape[2] // 2
    places = rng.integers(0, 2, (len(pictures), 2))
    return np.stack(
        [
            picture[down * height :, across * width :][:height, :width]
            for picture, (down, across) in zip(pictures, places, strict=True)
        ]
    )


def shuffled(pictures, rng):
    """Each picture's tiles in another order."""
    count, height, width, channels = pictures.shape
    tall, wide = height // TILES, width // TILES
    inner = (slice(None), slice(TILES * tall), slice(TILES * wide))
    tiles = pictures[inner].reshape(count, TILES, tall, TILES, wide, channels)
    tiles = tiles.swapaxes(2, 3).reshape(count, TILES**2, tall, wide, channels)
    orders = rng.permuted(np.tile(np.arange(TILES**2), (count, 1)), axis=1)
    tiles = np.take_along_axis(tiles, orders[:, :, None, None, None], axis=1)
    tiles = tiles.reshape(count, TILES, TILES, tall, wide, channels).swapaxes(2, 3)
    mixed = pictures.copy()
    mixed[inner] = tiles.reshape(count, TILES * tall, TILES * wide, channels)
    return mixed


def squares(names, count, size, rng):
    """Cuts `count` squares of all sizes and places from pictures of scikit-image."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "This recipe shows photographs of scikit-image; install it with "
            '`pip install "keras-ae[recipes]"`.'
        ) from error
    cut = []
    for index in range(count):
        picture = Image.fromarray(getattr(data, names[index % len(names)])())
        side = rng.integers(*SIDES)
        left, top = (int(rng.integers(0, length - side)) for length in picture.size)
        square = picture.convert("RGB").crop((left, top, left + side, top + side))
        cut.append(np.asarray(square.resize(size[::-1], Image.Resampling.LANCZOS)))
    return np.stack(cut)


def blurred(pictures, rng):
    """Each picture blurred, by a Gaussian filter of a width of its own."""
    filters = (
        ImageFilter.GaussianBlur(width)
        for width in rng.uniform(0, BLUR, len(pictures)).tolist()
    )
    return np.stack(
        [
            np.asarray(Image.fromarray(picture).filter(blur))
            for picture, blur in zip(pictures, filters, strict=True)
        ]
    )
