"""From the name of a data set, or pictures of your own, to an array of images."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_ae.datasets import celeba, folders, mnist, moon, plane, shards, splits
from keras_ae.datasets.folders import find_white, read_pictures
from keras_ae.datasets.lazy import LazyImages
from keras_ae.datasets.schema import Column, Schema
from keras_ae.datasets.series import cut_windows, join_windows
from keras_ae.datasets.tables import is_table, read_table
from keras_ae.datasets.tiles import cut_tiles

__all__ = [
    "Batches",
    "Column",
    "LazyImages",
    "Schema",
    "cut_tiles",
    "cut_windows",
    "find",
    "find_white",
    "is_table",
    "join_windows",
    "known_name",
    "load",
    "moon",
    "names",
    "plane",
    "read_pictures",
    "read_table",
    "recognise",
]

_DESCRIPTIONS = {
    "moon-phases": "12,000 rendered moons of known phase; nothing to download",
    "mnist": "70,000 handwritten digits, grey, 28 x 28",
    "fashion-mnist": "70,000 pieces of clothing, grey, 28 x 28",
    "celeba": "202,599 aligned faces, colour, 178 x 218, with 40 attributes",
}


def __getattr__(name):
    if name == "Batches":  # a Keras class, and Keras takes seconds to import
        return importlib.import_module("keras_ae.datasets.batches").Batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> dict[str, str]:
    """Returns the named data sets, each with one line on what it is."""
    return dict(_DESCRIPTIONS)


def known_name(name: str | os.PathLike) -> str | None:
    """Returns the name of a data set as `names` lists it.

    Args:
        name: Any name, in lower or upper case, with `-` or `_`.

    Returns:
        Its name in `names()`, or None where that has no such data set.
    """
    name = str(name).lower().replace("_", "-")
    return name if name in _DESCRIPTIONS else None


def recognise(data: str | os.PathLike) -> str | None:
    """Returns which of the named data sets something is.

    Args:
        data: Name of a data set, in lower or upper case, with `-` or `_`, or path of a
            folder, zip or table.

    Returns:
        Its name in `names()`, or `"celeba"` for a folder or zip that has the layout of
        CelebA: these have splits, labels and a crop of their own. None for anything
        else.
    """
    name = known_name(data)
    location = Path(data).expanduser()
    if name is None and location.exists() and celeba.is_celeba(location):
        return "celeba"
    return name


def find(name: str, data_dir: str | os.PathLike | None = None) -> Path | None:
    """Looks where a named data set is on this machine.

    Args:
        name: One of `names()`.
        data_dir: Folder (or zip) to look in. Defaults to the environment variable
            `KERAS_AE_DATA`.

    Returns:
        Path of its file or folder; None where there is none, and for `moon-phases`,
        which needs none.
    """
    name = known_name(name)
    if name is None:
        raise ValueError(f"`name` must be one of {_listed()}. Received: name={name!r}")
    data_dir = _data_dir(data_dir)
    if name == "moon-phases":
        return None
    return celeba.find(data_dir) if name == "celeba" else mnist.find(name, data_dir)


def load(
    name_or_folder: str | os.PathLike,
    split: str = "train",
    *,
    image_size: int | Sequence[int] | None = None,
    limit: int | None = None,
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    labels: bool = False,
    white: int | None = None,
    key: str | None = None,
    stream: bool = False,
) -> np.ndarray | tuple[np.ndarray, dict[str, np.ndarray]]:
    """Loads the images of a data set, or of a folder, zip or shards of your own.

    Pictures are decoded once and kept in a cache (in `KERAS_AE_CACHE`, or where the
    system keeps caches), from which later calls map them into memory. They are cropped
    at the centre to the shape asked for and resized, antialiased. A folder whose
    pictures are all grey gives one channel, any other three; transparent pictures are
    laid on white. Pictures that can't be read are skipped and named in a warning.

    Args:
        name_or_folder: `"moon-phases"`, `"mnist"`, `"fashion-mnist"`, `"celeba"`, or
            the path of a folder or zip of pictures, or of shards: tars in WebDataset's
            layout, Parquet files with a column of picture files, TFRecord files of
            `tf.train.Example`s. Shards are a file, a folder of them, or a pattern such
            as `"shards/train-{000..099}.tar"` or `"shards/*.parquet"`. (A folder of
            the same name as a data set is `"./mnist"`.)
        split: `"train"`, `"validation"`, `"test"`, a sum such as
            `"train+validation"`, or `"all"`. MNIST and Fashion-MNIST validate on the
            last 5,000 of the 60,000 training images. CelebA has its official split.
            Your own pictures are split by sub-folders `train`, `validation` and `test`
            where there are such, or by these words in the names of shards, else
            80/10/10 at random.
        image_size: Integer, or a pair (height, width). Defaults to 32 for moon
            phases, 28 for MNIST and Fashion-MNIST and 64 for CelebA. Your own pictures
            keep the shape that most of them have, and their size, or that with a
            shorter side of 64 where they are larger.
        limit: Number of images to take from the beginning of the split. Only these
            are decoded.
        data_dir: Folder of downloaded data sets. Defaults to the environment variable
            `KERAS_AE_DATA`. CelebA may also be the path of its zip.
        seed: Seed of what is drawn: moon phases, and a split that isn't given.
        labels: Whether to return labels, too.
        white: Of your own pictures of 16 bits, the value that is white. Defaults to
            65535, or where they end far below that, to the power of two above them
            less one: 4095 for 12 bits.
        key: Of shards, which part of a sample is the picture, where it has several:
            what follows the first dot of a tar's file names (`"seg.png"`), a column of
            a Parquet file, or a feature of a TFRecord. Defaults to the only one, or to
            `image/encoded`.
        stream: Whether your own pictures are kept nowhere: they are decoded each time
            that they are read, and what is returned is a `LazyImages`. Meant for those
            that have no room on the disk, as each epoch decodes them again. In place
            of one that can't be read comes the next that can, if possible of the same
            `folder` and `label`; its labels stay those of the one that can't.

    Returns:
        uint8 array of shape `(n, height, width, channels)`, read-only and
        memory-mapped where it comes from picture files. With `labels=True`, a pair
        `(images, labels)`, where `labels` is a dict of arrays of shape `(n,)`:
        `phase`, `tilt`, `size`, `x` and `y` for moon phases (see `moon.render`),
        `label` for MNIST and Fashion-MNIST, `path` and 40 attributes for CelebA (none
        where `list_attr_celeba` is missing), `path` and `folder`, the name of the
        sub-folder, for your own pictures, and `label` where shards have it: a `.cls`
        file beside each picture of a tar (integers where all of all tars are), a column
        `label` of a Parquet file without gaps. `path` is that of the picture in its
        folder or zip, or `shard/picture`.

    Raises:
        FileNotFoundError: If there is no such data; says where to get it.
        ValueError: If an argument is out of range, no picture can be read, or a shard
            is damaged.
        OSError: If the cache can't be written.
        ModuleNotFoundError: If the package that reads such shards is missing.

    Example:

    ```python
    images = keras_ae.datasets.load("moon-phases", image_size=64)
    faces, attributes = keras_ae.datasets.load("celeba", "test", labels=True)
    mine = keras_ae.datasets.load("holiday_photos/", "all", image_size=(48, 64))
    many = keras_ae.datasets.load("shards/{000..099}.tar", image_size=64, stream=True)
    ```
    """
    splits.parse(split)
    splits.check_integer("seed", seed, 0)
    if limit is not None:
        splits.check_integer("limit", limit, 1)
    if image_size is not None:
        splits.height_and_width(image_size)
    if white is not None:
        splits.check_integer("white", white, 1)
    name = known_name(name_or_folder)
    options = (split, image_size, limit)
    if name == "moon-phases":
        images, factors = moon.load(*options, seed)
    elif name == "celeba":
        data_dir = _data_dir(data_dir)
        location = celeba.find(data_dir)
        if location is None:
            where = "not on this machine" if data_dir is None else f"not in {data_dir}"
            raise FileNotFoundError(f"celeba is {where}. {celeba.WHERE}")
        images, factors = celeba.load(location, *options, seed, labels)
    elif name is not None:
        images, factors = mnist.load(name, *options, _data_dir(data_dir))
    else:
        location = _location(name_or_folder)
        if location.exists() and celeba.is_celeba(location):
            images, factors = celeba.load(location, *options, seed, labels)
        else:
            images, factors = folders.load(location, *options, seed, white, key, stream)
    return (images, factors) if labels else images


def _listed():
    return ", ".join(repr(name) for name in _DESCRIPTIONS)


def _data_dir(data_dir):
    source = "`data_dir`"
    if data_dir is None:
        data_dir = os.environ.get("KERAS_AE_DATA") or None
        source = "The environment variable KERAS_AE_DATA"
    if data_dir is None:
        return None
    path = Path(data_dir).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"{source} must name an existing folder. Received: {data_dir}"
        )
    return path


def _location(name_or_folder):
    """Returns the path of the user's own folder or zip."""
    if not isinstance(name_or_folder, str | os.PathLike):
        raise ValueError(
            "`name_or_folder` must be a name or one path; `datasets.read_pictures` "
            f"reads several. Received: a {type(name_or_folder).__name__}"
        )
    path = Path(name_or_folder).expanduser()
    if path.exists() or shards.is_pattern(path):
        return path
    if isinstance(name_or_folder, str) and len(path.parts) == 1 and not path.suffix:
        raise ValueError(
            f"`name_or_folder` must be one of {_listed()}, or the path of a folder or "
            f"zip of pictures, or of shards. Received: {name_or_folder!r}"
        )
    raise FileNotFoundError(f"There is no folder or zip at {path}.")
