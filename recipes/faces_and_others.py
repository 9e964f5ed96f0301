"""It compresses only what it knows: faces and digits, each restored by both models.

One autoencoder has seen faces, another digits, of the same networks and as many
pictures, all grey and 32 px. Both restore held-back faces, digits, clothes, and squares
cut from photographs and textures of scikit-image that neither has seen. Beside them
stands PCA with as many components, fitted to the same pictures. Codes are then packed
into files: each kind's bytes a picture and what they restore, beside JPEG of as many
bytes, which knows no kind of picture better than another. AUROC says how well what a
model has learned is told from each other kind, by its error and by the density of
codes.
"""

import keras
import numpy as np
from PIL import Image

import keras_ae
from keras_ae import anomalies, compression, datasets, metrics

SIZE = 32
# Of scikit-image, without those that show a person's face.
PHOTOGRAPHS = ("cat", "coffee", "rocket", "coins", "clock", "immunohistochemistry")
TEXTURES = ("brick", "grass", "gravel")
# Sides of the squares that are cut from them, in pixels.
SIDES = (64, 192)
LUMA = (0.299, 0.587, 0.114)


def main(
    run,
    latent_dim=64,
    widths=(16, 32, 64),
    learning_rate=2e-3,
    pictures=8000,
    held_back=500,
):
    faces, held_back_faces = (
        grey(split)
        for split in run.load("celeba", image_size=SIZE, splits=("train", "test"))
    )
    size = faces.shape[1:3]
    learned = {"faces": faces, "digits": load(run, "mnist", "train", size)}
    count = min(pictures, *map(len, learned.values()))
    learned = {name: x[:count] for name, x in learned.items()}
    rng = np.random.default_rng(run.seed)
    others = {
        "faces": held_back_faces,
        "digits": load(run, "mnist", "test", size),
        "clothes": load(run, "fashion-mnist", "test", size),
        "photographs": squares(PHOTOGRAPHS, held_back, size, rng),
        "textures": squares(TEXTURES, held_back, size, rng),
    }
    others = {name: x[:held_back] for name, x in others.items()}
    epochs = run.epochs or 40
    batch_size = run.batch_size or 64
    shown = min(10, *map(len, others.values()))
    drawn = {name: {"original": x[:shown]} for name, x in others.items()}
    for name, train in learned.items():
        # The run's own model is that of faces.
        part = run if name == "faces" else run.child(name)
        model = part.model(
            lambda train=train: build(
                latent_dim, widths, learning_rate, epochs * -(-len(train) // batch_size)
            )
        )
        part.fit(
            model,
            train,
            others[name],
            epochs=epochs,
            batch_size=batch_size,
            patience=epochs,
        )
        pca = keras_ae.PCA(min(latent_dim, count - 1))
        pca.fit(train, verbose=0)
        run.scores(**figures(name, model, pca, train, others))
        for kind, x in others.items():
            drawn[kind][f"by one of {name}"] = model.reconstruct(x[:shown])
        if part is run:
            run.evaluate(model, others["faces"])
            run.pictures(model, others["faces"])
    run.picture(
        "kinds",
        keras_ae.plots.labelled(drawn),
        "What an autoencoder of faces and one of digits make of pictures of each kind.",
    )


def build(latent_dim, widths, learning_rate, steps):
    model = keras_ae.AE(
        latent_dim,
        architecture="conv",
        widths=widths,
        likelihood=keras_ae.likelihoods.Gaussian(activation="sigmoid"),
    )
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    return model


def figures(name, model, pca, train, others):
    """PSNR, bytes a picture, JPEG's PSNR and AUROC of each kind, of one model."""
    by_error, by_code = anomalies.SCORES["reconstruction"](), anomalies.SCORES["code"]()
    by_code.fit(model, train, seed=0)
    usual = {score: score(model, others[name], 0) for score in (by_error, by_code)}
    found = {}
    for kind, x in others.items():
        key = f"{name}_on_{kind}"
        packed = compression.compress(model, x)
        jpeg = compression.jpeg(x, len(packed))
        found |= {
            f"{key}_psnr": metrics.psnr(x, model.reconstruct(x)),
            f"{key}_pca_psnr": metrics.psnr(x, pca.reconstruct(x)),
            f"{key}_bytes": len(packed) / len(x),
            f"{key}_packed_psnr": metrics.psnr(
                x, compression.decompress(model, packed)
            ),
            f"{key}_jpeg_bytes": jpeg.size / len(x),
            f"{key}_jpeg_psnr": jpeg.psnr,
        }
        if kind != name:
            for score, normal in usual.items():
                scores = np.concatenate([normal, score(model, x, 0)])
                other = np.arange(len(scores)) >= len(normal)
                auroc = metrics.detection(scores, other, resamples=1).auroc
                found[f"{key}_auroc_by_{score.name}"] = auroc
    return found


def load(run, data, split, size):
    return grey(
        datasets.load(
            data, split, image_size=size, limit=run.limit, data_dir=run.data_dir
        )
    )


def grey(pictures):
    """Returns pictures of one channel, (n, height, width, 1)."""
    if pictures.shape[-1] == 1:
        return pictures
    return np.rint(pictures @ np.float32(LUMA)).astype("uint8")[..., None]


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
        picture = getattr(data, names[index % len(names)])()
        picture = grey(np.atleast_3d(picture)[None])[0, ..., 0]
        side = rng.integers(*SIDES)
        top, left = (rng.integers(0, length - side) for length in picture.shape)
        square = Image.fromarray(picture[top : top + side, left : left + side])
        cut.append(np.asarray(square.resize(size[::-1], Image.Resampling.LANCZOS)))
    return np.stack(cut)[..., None]
