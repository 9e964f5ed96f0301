"""A folder, zip or shards of pictures: their sizes, splits and labels."""

import contextlib
import functools
import math
import os
import posixpath
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_ae.datasets import cache, shard_files, splits
from keras_ae.datasets.lazy import LazyImages
from keras_ae.datasets.listing import Pictures
from keras_ae.datasets.pictures import (
    SUFFIXES,
    WHITE,
    brightest,
    decode,
    name_broken,
    reason,
    upright_size,
    white_of,
)
from keras_ae.datasets.shards import Shards, is_pattern, matching

# Of the shorter sides of pictures, where nobody asks for another size.
LARGEST_SIDE = 64

_said = set()


def say_once(message):
    """Tells the user something once in the life of the process, on stderr."""
    if message not in _said:
        _said.add(message)
        print(message, file=sys.stderr)


def _list(location, key=None):
    """The pictures in a folder, zip or shards."""
    location = Path(location)
    if location.is_file() and shard_files.kind_of(location.name):
        paths = [location]
    elif not location.exists() and is_pattern(location):
        paths = matching(str(location))
    else:
        pictures = Pictures(location)
        if pictures.unread and pictures.names:
            say_once(
                f"{pictures.unread.total()} pictures in {location} are left out, of "
                f"kinds that can't be read: {_kinds(pictures)}; save them as PNG."
            )
        paths = sorted(filter(_is_shard, pictures.shards)) if not pictures.names else []
        if pictures.names and pictures.shards:
            say_once(
                f"{location} holds {len(pictures.names)} pictures and "
                f"{len(pictures.shards)} shards, which are left out: "
                f"'{location}/*{pictures.shards[0].suffix}' names them."
            )
    if paths:
        pictures = Shards(location, paths, key)
    elif key is not None:
        raise ValueError(
            f"`key` is for shards. Received: key={key!r} for {location}, which holds "
            "none"
        )
    if not len(pictures):
        what = "none of its shards holds" if paths else "no file ends in"
        named = "any" if paths else ", ".join(SUFFIXES)
        received = _kinds(pictures)
        received = f" Received: {received}, which can't be read." if received else ""
        raise FileNotFoundError(
            f"There are no pictures in {location}: {what} {named}.{received}"
        )
    return pictures


def _kinds(pictures):
    """How many pictures there are of each kind that can't be read, in words."""
    counts = getattr(pictures, "unread", {})
    return ", ".join(f"{counts[suffix]} {suffix}" for suffix in sorted(counts))


def _is_shard(path):
    return shard_files.kind_of(path.name) is not None


def find_white(
    paths: Iterable[str | os.PathLike], key: str | None = None
) -> int | None:
    """Finds the value that is white in files of pictures of more than 8 bits.

    Args:
        paths: Files, folders and zips of pictures, and shards. Of many pictures some
            are looked at.
        key: Of shards, as in `datasets.load`.

    Returns:
        65535, or where the pictures end far below that, the power of two above them
        less one; None where all pictures have 8 bits.
    """
    paths = [*paths]
    where = paths[0] if len(paths) == 1 else "these files"
    return _white([read for _, read in _found(paths, key)], where)


def _white(readers, where):
    """`find_white` of pictures whose bytes these functions return."""
    values = _seen(readers, brightest)
    if not any(values):
        return None
    white = white_of(values)
    if white != WHITE:
        say_once(
            f"The values of the 16-bit pictures in {where} end below {white + 1}, "
            f"which is read as white. `white={WHITE}` (on the command line "
            f"`--white {WHITE}`) reads them as they are."
        )
    return white


def load(location, split, image_size, limit, seed, white=None, key=None, stream=False):
    """Loads pictures of a folder, zip or shards; see `keras_ae.datasets.load`."""
    pictures = _list(location, key)
    split_of, labels = _splits_and_labels(pictures, seed)
    chosen = splits.select(split_of, split)
    if not len(chosen):
        raise ValueError(
            f"{location} has no pictures in split {split!r}: there are only "
            f"{len(pictures)} in all. Add pictures or load another split."
        )
    readers = _readers(pictures)
    size = _natural_size(readers) if image_size is None else image_size
    size = splits.height_and_width(size)
    if white is None:
        white = _white(readers, location) or WHITE
    kept = chosen[:limit]
    if not stream:
        images, kept = cache.load(pictures, chosen, size, limit=limit, white=white)
    found = {"folder": labels[kept]}
    if isinstance(pictures, Shards) and pictures.labels is not None:
        found["label"] = pictures.labels[kept]
    if stream:
        shape = (*size, cache.common_channels(pictures, size, white=white))
        images = LazyImages(pictures, kept, shape, white, found.values())
    return images, {"path": np.array([pictures.names[i] for i in kept]), **found}


def _readers(pictures):
    """Functions that return the bytes of some pictures, spread over all."""
    return [functools.partial(pictures.read, i) for i in pictures.sample()]


def _seen(readers, look, most=256):
    """What `look` finds in the bytes of some pictures, spread over all."""
    found = []
    for index in np.linspace(0, len(readers) - 1, min(len(readers), most)):
        with contextlib.suppress(Exception):  # reported when it is decoded
            found.append(look(readers[int(index)]()))
    return found


def own_size(
    location: str | os.PathLike, values: int, key: str | None = None
) -> tuple[int, int]:
    """Returns the (height, width) that most pictures of a folder, zip or shards have.

    Args:
        location: Path of the folder or zip, or what names the shards.
        values: The size is smaller where so many values do not hold all pictures in
            colour, but its shorter side is `LARGEST_SIDE` at least.
        key: Of shards, as in `datasets.load`.
    """
    pictures = _list(Path(location).expanduser(), key)
    height, width = _usual_size(_readers(pictures))
    room = math.sqrt(values / (3 * len(pictures) * height * width))
    largest = max(LARGEST_SIDE, int(min(1.0, room) * min(height, width)))
    return _made_smaller((height, width), largest)


def _natural_size(readers):
    """The (height, width) that most pictures have, made smaller if need be."""
    return _made_smaller(_usual_size(readers), LARGEST_SIDE)


def _made_smaller(size, largest):
    """A size of the same shape whose shorter side is at most `largest`."""
    scale = min(1.0, largest / min(size))
    return tuple(max(1, round(side * scale)) for side in size)


def _usual_size(readers):
    """The median (height, width) of the pictures that have the shape of most."""
    sizes = _seen(readers, upright_size)
    if not sizes:
        return LARGEST_SIDE, LARGEST_SIDE
    heights, widths = np.array(sizes, float).T
    # Shapes that differ by less than a tenth are the same.
    kinds = np.round(np.log(heights / widths) / math.log(1.1)).astype(int)
    values, counts = np.unique(kinds, return_counts=True)
    most = kinds == values[counts.argmax()]
    return np.median(heights[most]), np.median(widths[most])


def _splits_and_labels(pictures, seed):
    """Returns the number of the split of each picture, and its sub-folder's name.

    Folders or shards named after splits decide; a validation or test folder that isn't
    there is replaced by a tenth of the training pictures. Without a `train` folder and
    one of the others, the split is drawn.
    """
    if isinstance(pictures, Shards):
        split_of, labels, what = pictures.splits(), pictures.folders(), "shard"
    else:
        split_of, labels = _named_by_folders(pictures)
        what = "folder"
    found = {*split_of.tolist()}
    if 0 not in found or not {1, 2} & found:
        return splits.seeded(len(pictures), seed), labels
    training = np.flatnonzero(split_of == 0)
    drawn = splits.seeded(len(training), seed)
    for number in (1, 2):
        if number not in found:
            split_of[training[drawn == number]] = number
            say_once(
                f"{pictures.location} has no {splits.NAMES[number]} {what}: a tenth of "
                f"its training pictures, drawn with seed {seed}, takes its place."
            )
    left_out = np.count_nonzero(split_of == -1)
    if left_out:
        say_once(
            f"{left_out} pictures in {pictures.location} are in none of the train, "
            f"validation and test {what}s and are left out."
        )
    return split_of, labels


def _named_by_folders(pictures):
    """The split that each picture's folder names, or -1, and its sub-folder's name."""
    parents = [posixpath.dirname(name).split("/") for name in pictures.names]
    labels = np.array([folders[-1] for folders in parents])
    depth = 0  # of the split folders: a zip often wraps all in one folder
    while len({tuple(folders[: depth + 1]) for folders in parents}) == 1 and all(
        len(folders) > depth + 1 for folders in parents
    ):
        depth += 1
    found = [
        splits.FOLDERS.get(folders[depth].lower(), -1) if len(folders) > depth else -1
        for folders in parents
    ]
    split_of = np.array(found, "int8")
    if 0 in found and {1, 2} & set(found):
        in_split_folder = [len(folders) == depth + 1 for folders in parents]
        labels = np.where(in_split_folder, "", labels)
    return split_of, labels


def _found(paths, key=None):
    """Names of pictures, and functions that read their bytes; folders are searched."""
    found = []
    for path in paths:
        path = Path(path).expanduser()
        if path.is_file() and not holds_pictures(path):
            found.append((str(path), path.read_bytes))
        else:
            source = _list(path, key)
            found += [
                (str(path / name), functools.partial(source.read, i))
                for i, name in enumerate(source.names)
            ]
    return found


def holds_pictures(file: Path) -> bool:
    """Whether a file is a zip or a shard by its name, not a picture."""
    return file.suffix.lower() == ".zip" or shard_files.looks_like_one(file.name)


def read_pictures(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    image_shape: tuple[int, ...],
    *,
    names: bool = False,
    white: int | None = None,
    key: str | None = None,
) -> np.ndarray | tuple[np.ndarray, list[str]]:
    """Reads picture files as a model with the given `image_shape` expects them.

    Pictures are cropped at the centre and resized as in `datasets.load`. Those
    that can't be read are left out, named in one warning.

    Args:
        paths: Files, folders and zips of pictures, and shards, or a single one of
            these. Folders are searched to any depth, in the order of names.
        image_shape: `(height, width)` or `(height, width, 1)` for grey and
            `(height, width, 3)` for colour.
        names: If True, return also the names of the pictures that were read.
        white: As in `datasets.load`.
        key: Of shards, as there.

    Returns:
        uint8 array of shape `(n, *image_shape)`, or `(images, names)`.

    Raises:
        ValueError: If none of the pictures can be read, or `image_shape` is not that of
            a picture.
        FileNotFoundError: If a path doesn't exist, or a folder has no pictures.

    Example:

    ```python
    images = datasets.read_pictures(["a.jpg", "holiday/"], model.image_shape)
    ```
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    images, read, broken = read_readable(paths, image_shape, white, key)
    tell_broken(broken, len(images))
    return (np.stack(images), read) if names else np.stack(images)


def read_readable(
    paths: Iterable[str | os.PathLike],
    image_shape: tuple[int, ...],
    white: int | None = None,
    key: str | None = None,
) -> tuple[list[np.ndarray], list[str], list[tuple[str, str]]]:
    """Reads picture files as `read_pictures` does, of which all may be broken.

    Args:
        paths: As for `read_pictures`.
        image_shape: As for `read_pictures`.
        white: As for `read_pictures`.
        key: As for `read_pictures`.

    Returns:
        Pictures, their names, and the names of the broken ones, each with the reason.

    Raises:
        ValueError: If `image_shape` is not that of a picture.
        FileNotFoundError: As for `read_pictures`.
    """
    image_shape = tuple(image_shape)
    if len(image_shape) not in (2, 3) or image_shape[2:] not in ((), (1,), (3,)):
        raise ValueError(
            "Pictures can be read for an `image_shape` of (height, width), (height, "
            f"width, 1) or (height, width, 3). Received: image_shape={image_shape}"
        )
    found = _found(paths, key)
    if white is None:
        white = _white([read for _, read in found], "these files") or WHITE
    images, read, broken = [], [], []
    for name, read_bytes in found:
        try:
            channels = (*image_shape, 1)[2]
            image = decode(read_bytes(), image_shape[:2], channels, white=white)
        except Exception as error:
            broken.append((name, reason(error)))
        else:
            images.append(image.reshape(image_shape))
            read.append(name)
    return images, read, broken


def tell_broken(broken: list[tuple[str, str]], count: int) -> None:
    """Names broken pictures in a warning.

    Args:
        broken: Names, and why each could not be read.
        count: How many could be read.

    Raises:
        ValueError: If none could.
    """
    if not count:
        raise ValueError(
            "None of the pictures could be read: "
            f"{name_broken(broken) or 'no paths were given'}."
        )
    if broken:
        warnings.warn(
            f"{len(broken)} of {len(broken) + count} pictures could not be read and "
            f"were skipped: {name_broken(broken)}.",
            stacklevel=3,
        )
