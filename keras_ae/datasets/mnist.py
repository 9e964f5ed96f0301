"""MNIST and Fashion-MNIST: 70,000 grey pictures of 28 x 28 in ten classes.

References: LeCun et al., Gradient-Based Learning Applied to Document Recognition,
1998. Xiao et al., Fashion-MNIST, 2017.
"""

import os
import zipfile
from pathlib import Path

import numpy as np

from keras_ae.datasets import splits
from keras_ae.datasets.pictures import resize

FILES = {"mnist": "mnist.npz", "fashion-mnist": "fashion_mnist.npz"}
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION = 5_000


def find(name, data_dir):
    """Returns the file in `data_dir`, or what Keras has downloaded, or None."""
    in_keras = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    in_keras /= "datasets"
    in_keras /= "mnist.npz" if name == "mnist" else "fashion-mnist"
    for path in (_in_data_dir(name, data_dir), in_keras):
        if path is not None and path.exists():
            return path
    return None


def _in_data_dir(name, data_dir):
    if data_dir is None:
        return None
    data_dir = Path(data_dir)
    if data_dir.suffix == ".npz":
        return data_dir
    return data_dir / FILES[name]


def load(name, split, image_size, limit, data_dir):
    """Loads one of the two; see `keras_ae.datasets.load`."""
    path = _in_data_dir(name, data_dir)
    if path is not None and path.is_file():
        x_train, y_train, x_test, y_test = _read(path)
    else:
        x_train, y_train, x_test, y_test = _download(name)
    counts = (len(x_train) - VALIDATION, VALIDATION, len(x_test))
    chosen = splits.select(np.repeat([0, 1, 2], counts), split, limit)
    images = np.concatenate([x_train, x_test])[chosen][..., None]
    labels = np.concatenate([y_train, y_test])[chosen]
    if image_size is not None:
        images = resize(images, splits.height_and_width(image_size))
    return images, {"label": labels}


def _read(path):
    try:
        with np.load(path) as file:
            arrays = [file[key] for key in ARRAYS]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} must be an npz file with the arrays {', '.join(ARRAYS)}, as Keras "
            f"keeps it. Reading it failed: {error}"
        ) from error
    if arrays[0].shape[1:] != (28, 28) or len(arrays[0]) <= VALIDATION:
        raise ValueError(
            f"`x_train` in {path} must have the shape (60000, 28, 28). Received: "
            f"shape={arrays[0].shape}"
        )
    for pictures, labels in (ARRAYS[:2], ARRAYS[2:]):
        sizes = [len(arrays[ARRAYS.index(name)]) for name in (pictures, labels)]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"`{labels}` in {path} must have one label for each of `{pictures}`. "
                f"Received: {sizes[1]:,} labels for {sizes[0]:,} pictures"
            )
    return arrays


def _download(name):
    import keras

    source = getattr(keras.datasets, name.replace("-", "_"))
    try:
        (x_train, y_train), (x_test, y_test) = source.load_data()
    except Exception as error:
        raise FileNotFoundError(
            f"{name} is not on this machine and could not be downloaded: get "
            f"{FILES[name]} (with {', '.join(ARRAYS)}, as in keras.datasets), put it "
            "into a folder and name that in `data_dir` or in the environment variable "
            "KERAS_AE_DATA."
        ) from error
    return x_train, y_train, x_test, y_test
