"""Feature spaces for comparing sets of pictures: of classifiers, and without labels."""

from __future__ import annotations

import hashlib
import os
import pathlib
import zipfile

import keras
import numpy as np
from keras import layers

from keras_ae import checks
from keras_ae.datasets import Batches
from keras_ae.evaluation.feature_network import (
    FeatureNetwork as FeatureNetwork,
)
from keras_ae.evaluation.feature_network import (
    checked_pictures,
    eight_bits,
    rows_at_a_time,
)
from keras_ae.nn import networks
from keras_ae.training import inputs

DIMENSIONS = 64
# Pictures that principal components are taken of: more move them little.
_MOST = 2048


def train(
    images: np.ndarray,
    targets: np.ndarray,
    seed: int = 0,
    epochs: int = 4,
    batch_size: int = 64,
    verbose: int = 0,
) -> FeatureNetwork:
    """Trains a small convolutional classifier for its features.

    Train one network on the training split and measure all models with it; `for_data`
    does so once and keeps it.

    Args:
        images: Array `(n, height, width, channels)` or `(n, height, width)`, integers
            0-255 or floats in [0, 1].
        targets: Integers `(n,)`, classes from 0; or a matrix `(n, attributes)` of 0
            and 1, any number of which may hold for one picture.
        seed: Seed of the weights and of the order of the pictures.
        epochs: Passes over the pictures.
        batch_size: Pictures a step.
        verbose: As in `keras.Model.fit`.

    Returns:
        The trained network.

    Raises:
        ValueError: If pictures or targets are of another shape or range.

    Example:

    ```python
    faces, labels = keras_ae.datasets.load("celeba", labels=True)
    names = [name for name in labels if name != "path"]
    targets = np.stack([labels[name] for name in names], axis=1)
    network = keras_ae.features.train(faces, targets)
    keras_ae.metrics.frechet_distance(
        network.features(test), network.features(model.sample(len(test)))
    )
    ```
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        checks.check_count(name, value)
    checks.check_seed(seed)
    images = checked_pictures(images)
    targets, outputs = _targets(targets, len(images))
    by_class = targets.ndim == 1
    kind = "classes" if by_class else "attributes"
    network = _build(
        images.shape[1:],
        outputs,
        "softmax" if by_class else "sigmoid",
        f"classifier-{outputs}-{kind}-{_size(images)}",
        seed,
    )
    batches = Batches(eight_bits(images), batch_size, seed=seed, targets=targets)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * len(batches))
    network.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy" if by_class else "binary_crossentropy",
    )
    network.fit(batches, epochs=epochs, shuffle=False, verbose=verbose)
    return FeatureNetwork(network)


def stages(network: FeatureNetwork) -> keras.Model:
    """Returns the features of each hidden layer of a classifier that `train` has made.

    Pass it as `perceptual` to a `KLAutoencoder` or a `VQGAN`, and measure them with a
    network of another `seed`: they have learned to please this one.

    Args:
        network: What `train` or `for_data` returned.

    Returns:
        A model from pictures in [0, 1] `(batch, *image_shape)` to a list of features,
        finest first: `(batch, rows, columns, channels)` after each stage of
        convolutions, or `(batch, units)` of dense layers.

    Raises:
        ValueError: If it is a network of another kind.

    Example:

    ```python
    network = keras_ae.features.train(faces, attributes)
    model = keras_ae.KLAutoencoder(8, perceptual=keras_ae.features.stages(network))
    ```
    """
    kinds = layers.Activation, layers.Dense
    for encoder in network.network.layers:
        if isinstance(encoder, keras.Model) and encoder.name == "encoder":
            outputs = [x.output for x in encoder.layers[:-1] if isinstance(x, kinds)]
            return keras.Model(encoder.input, outputs, name="stages")
    raise ValueError(
        "`network` must be one that `keras_ae.features.train` or `for_data` has made. "
        f"Received: {network.name}"
    )


def for_data(
    images: np.ndarray,
    targets: np.ndarray,
    directory: str | os.PathLike,
    seed: int = 0,
    epochs: int = 4,
    batch_size: int = 64,
    verbose: int = 0,
) -> FeatureNetwork:
    """Loads the network that was trained on these data, or trains and keeps one.

    The file is named after a hash of all pictures, targets and settings: what was
    trained on other data, or otherwise, is never mistaken for it.

    Args:
        images: As for `train`.
        targets: As for `train`.
        directory: Where networks are kept. It is made where there is none.
        seed: As for `train`.
        epochs: As for `train`.
        batch_size: As for `train`.
        verbose: As for `train`.

    Returns:
        The network, the same with every call and on every backend.

    Raises:
        ValueError: If pictures or targets are of another shape or range, or the file is
            damaged.

    Example:

    ```python
    network = keras_ae.features.for_data(train, train_labels, "features")
    ```
    """
    images = checked_pictures(images)
    targets, _ = _targets(targets, len(images))
    settings = f"{images.shape} {targets.shape} {seed} {epochs} {batch_size}"
    content = hashlib.sha256(settings.encode())
    for batch in inputs.batches(images, rows_at_a_time(images)):
        content.update(eight_bits(batch).tobytes())
    content.update(targets.tobytes())
    path = pathlib.Path(directory) / f"classifier-{content.hexdigest()[:16]}.keras"
    if path.is_file():
        return load(path)
    network = train(images, targets, seed, epochs, batch_size, verbose)
    network.save(path)
    return network


def principal(
    images: np.ndarray, dimensions: int = DIMENSIONS, seed: int = 0
) -> FeatureNetwork:
    """Returns principal components of the pixels, for pictures without labels.

    They are had at once and need nothing but the pictures. They see colours and shapes,
    and little of sharpness: two sets that differ in fine detail alone are close.

    Args:
        images: As for `train`. Of more than 2,048, so many are taken at random.
        dimensions: Most components; there are no more than pictures or pixels.
        seed: Seed of which pictures are taken.

    Returns:
        The network, whose `predict` gives its features again.

    Raises:
        ValueError: If pictures are of another shape or range.

    Example:

    ```python
    network = keras_ae.features.principal(photographs)
    keras_ae.metrics.frechet_distance(
        network.features(test), network.features(model.sample(len(test)))
    )
    ```
    """
    checks.check_count("dimensions", dimensions)
    checks.check_seed(seed)
    images = checked_pictures(images)
    taken = np.random.default_rng(seed).permutation(len(images))[:_MOST]
    pictures = eight_bits(images[np.sort(taken)])
    flat = pictures.reshape(len(pictures), -1).astype("float32") / 255
    mean = flat.mean(axis=0)
    axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:dimensions].T
    x = keras.Input(pictures.shape[1:], dtype="uint8", name="images")
    scaled = layers.Rescaling(1 / 255, dtype="float32")(x)
    project = layers.Dense(axes.shape[1], dtype="float32", name="features")
    features = project(layers.Flatten(dtype="float32")(scaled))
    project.set_weights([axes, -mean @ axes])
    name = f"principal-{axes.shape[1]}-components-{_size(images)}"
    return FeatureNetwork(keras.Model(x, features, name=name))


def inception(weights: str | os.PathLike = "imagenet") -> FeatureNetwork:
    """Returns InceptionV3 as Keras Applications have it, trained on ImageNet.

    Features are its 2,048 pooled ones, of pictures of any size in three channels, which
    are resized to 299 by 299 pixels. Its weights and its resizing are not those of the
    network that published FIDs are measured with: distances come close, but can be
    compared only with those measured here.

    Args:
        weights: `"imagenet"`, which Keras downloads once (96 MB), or the path of that
            file.

    Returns:
        The network.

    Raises:
        OSError: If the weights cannot be had.

    Example:

    ```python
    network = keras_ae.features.inception()
    keras_ae.metrics.kernel_distance(network.features(test), network.features(samples))
    ```

    Reference:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016
        (https://arxiv.org/abs/1512.00567).
    """
    policy = keras.config.dtype_policy()
    # Features of less precision would be others.
    keras.config.set_dtype_policy("float32")
    try:
        inception = keras.applications.InceptionV3(weights=os.fspath(weights))
    except Exception as error:  # Keras raises bare ones where a download fails
        raise OSError(
            f"The weights {os.fspath(weights)!r} of InceptionV3 could not be had; "
            "train a classifier on your data instead, with "
            f"`keras_ae.features.for_data`. ({error})"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
    x = keras.Input((None, None, 3), dtype="uint8", name="images")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(x)
    resized = layers.Resizing(
        *inception.input_shape[1:3], "bilinear", antialias=True, dtype="float32"
    )(scaled)
    *_, pooled, classifier = inception.layers
    trunk = keras.Model(inception.inputs, pooled.output)
    features = layers.Identity(dtype="float32", name="features")(trunk(resized))
    return FeatureNetwork(
        keras.Model(x, classifier(features), name="inception-v3-imagenet")
    )


def load(path: str | os.PathLike) -> FeatureNetwork:
    """Loads a network that `FeatureNetwork.save` wrote.

    Args:
        path: A `.keras` file.

    Returns:
        The network, with the digest that it had.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or holds something else.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no feature network at {path}.")
    refusal = ValueError(f"{path} is not a feature network, or it is damaged.")
    if not zipfile.is_zipfile(path):
        raise refusal
    try:
        network = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds
        raise refusal from error
    if "features" not in {layer.name for layer in getattr(network, "layers", ())}:
        raise refusal
    return FeatureNetwork(network)


def _size(images):
    height, width = images.shape[1:3]
    return f"{height}px" if height == width else f"{height}x{width}px"


def _build(image_shape, outputs, activation, name, seed):
    x = keras.Input(image_shape, dtype="uint8", name="images")
    scaled = layers.Rescaling(1 / 255, dtype="float32")(x)
    encoder = networks.encoder(image_shape, DIMENSIONS, dtype="float32")
    # Before the activation, where they are nearer to a Gaussian.
    features = layers.Identity(dtype="float32", name="features")(encoder(scaled))
    hidden = layers.Activation("relu", dtype="float32")(features)
    probabilities = layers.Dense(outputs, activation, dtype="float32")(hidden)
    network = keras.Model(x, probabilities, name=name)
    # Keras draws weights from global random state, which is the caller's.
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        if len(variable.shape) > 1:
            glorot = keras.initializers.GlorotUniform(int(rng.integers(2**31)))
            variable.assign(glorot(variable.shape))
    return network


def _targets(targets, count):
    """Returns targets as a network is trained on them, and its number of outputs."""
    targets = np.asarray(targets)
    whole = targets.dtype.kind in "biu" or (
        targets.dtype.kind == "f" and np.array_equal(targets, np.round(targets))
    )
    if targets.ndim not in (1, 2) or len(targets) != count or not whole:
        raise ValueError(
            f"`targets` must be {count} integers, one a picture, or a matrix ({count}, "
            "attributes) of 0 and 1. Received: an array of dtype "
            f"{targets.dtype} and shape {targets.shape}"
        )
    low, high = targets.min(), targets.max()
    if targets.ndim == 2:
        if low < 0 or high > 1:
            raise ValueError(
                "`targets` must be 0 or 1 where they are a matrix (n, attributes). "
                f"Received: values from {low} to {high}"
            )
        return targets.astype("float32"), targets.shape[1]
    if low < 0 or low == high:
        raise ValueError(
            "`targets` must be classes from 0, at least two of them. Received: values "
            f"from {low} to {high}"
        )
    return targets.astype("int32"), int(high) + 1
