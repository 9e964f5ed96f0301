"""What commands read and write."""

from __future__ import annotations

import collections
import math
import os
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
from PIL import Image, PngImagePlugin

from keras_ae import datasets, plots
from keras_ae.files import read_json, replacing

# Pictures in memory at a time, where there may be any number of them.
_CHUNK = 1024
# Values in memory at a time, where pictures may be of any size.
_VALUES = 2**26
# What the PNG files of results say, which may be written over.
_WRITER = ("Software", "keras-ae")


def _check_distinct(targets):
    for target, count in collections.Counter(targets).items():
        if count > 1:
            raise ValueError(
                f"{count} pictures would be written to {target}; rename them or "
                "choose an `--output` of its own for each."
            )


def targets_of(files, folder):
    """Where results go: in folders like the files' own where two have one name."""
    names = {file: file.name for file in files}
    if len({file.stem for file in files}) < len(names):
        parents = [os.path.abspath(file.parent) for file in files]
        common = os.path.commonpath(parents)
        names = {file: os.path.relpath(file, common) for file in files}
    return {file: (folder / name).with_suffix(".png") for file, name in names.items()}


def check_absent(target):
    if target.exists() or target.is_symlink():
        raise FileExistsError(
            f"{target} exists already and is not overwritten; choose another "
            "`--output`."
        )


def free(name):
    """Returns the name that a result has by default, where nothing else has it."""
    check_absent(pathlib.Path(name))
    return name


def check_folder(option, folder, sheet=""):
    """Refuses a folder for pictures that is a file, or is named like a picture."""
    if folder.is_dir():
        return
    if folder.exists() or datasets.pictures.is_picture(folder.name):
        raise ValueError(
            f"`{option}` must be a folder{sheet}. Received: {folder}, "
            f"{'a file' if folder.exists() else 'the name of a picture'}"
        )


def check_not_of(data, output):
    """Refuses to write over one of the pictures in a folder."""
    target = pathlib.Path(output).resolve()
    if target.exists() and pathlib.Path(data).resolve() in target.parents:
        raise ValueError(f"{output} would be overwritten; choose another `--output`.")


def _say_search(model, count):
    """Says why it takes long to find the codes of a model without an encoder."""
    if not model.has_encoder:
        print(
            f"{type(model).__name__} has no encoder: searching for the codes of "
            f"{count:,} pictures, which may take minutes.",
            flush=True,
        )


def _encode(model, images):
    """Codes of pictures; says what a search for them came to."""
    _say_search(model, len(images))
    if not model.searches_codes:
        return model.encode(images)
    found = model.infer(images)
    print(
        f"Mean squared error reached: {found.error.mean():.4g}; "
        f"{np.sum(~found.converged):,} of {len(images):,} searches did not come to "
        "rest."
    )
    return found.codes


def picture_shape(model):
    """Height, width and channels of the model's pictures."""
    shape = model.built_image_shape
    if len(shape) not in (2, 3) or not model.describes_pictures:
        raise ValueError(
            f"The model describes examples of shape {shape}, not pictures; use it from "
            "Python."
        )
    return (*shape, 1)[:3]


def as_pictures(model, images):
    """What the model takes or gives, as pictures of height, width and channels."""
    return images.reshape(-1, *picture_shape(model))


def recorded(path):
    """What a run's `settings.json` holds; nothing for a `.keras` file."""
    return read_json(pathlib.Path(path) / "settings.json")


def own_record(path, data):
    """What a run recorded of the data that it was trained on; nothing for others."""
    record = recorded(path)
    one, other = (
        (os.path.realpath(os.path.expanduser(place)), datasets.known_name(place))
        for place in (record.get("data", ""), data)
    )
    return record if one == other else {}


def load_pictures(model, path, data, split, data_dir, limit):
    """Pictures and labels of a data set, folder, zip or shards, at the model's size.

    Of the data that the run in `path` was trained on, the pictures that it recorded as
    its `key`, unless that record is damaged.
    """
    try:
        record = own_record(path, data)
    except ValueError as error:
        print(f"Left out: {error}", file=sys.stderr, flush=True)
        record = {}
    height, width, channels = picture_shape(model)
    images, labels = datasets.load(
        data,
        split=split,
        image_size=(height, width),
        limit=limit,
        data_dir=data_dir,
        labels=True,
        white=model.white,
        key={**record, **(record.get("options") or {})}.get("key"),
    )
    if not len(images):
        raise ValueError(f"There are no pictures in {data}.")
    if images.shape[-1] > channels:
        raise ValueError(
            f"The model describes pictures of {channels} channels. Received: "
            f"{data}, of {images.shape[-1]}; make them grey."
        )
    if images.shape[-1] < channels:
        # As pictures are read one by one.
        images = np.broadcast_to(images, (*images.shape[:-1], channels))
    return images.reshape(-1, *model.built_image_shape), labels


def load_some(model, path, data, split, data_dir, limit):
    """At most so many pictures and labels, of a folder spread over all of it."""
    # Pictures of a folder come in the order of its sub-folders, so that the first of
    # them would show a few of the classes only.
    known = datasets.recognise(data)
    first = limit if known else None
    images, labels = load_pictures(model, path, data, split, data_dir, first)
    if len(images) > limit:
        chosen = np.linspace(0, len(images) - 1, limit).astype(int)
        images = images[chosen]
        labels = {name: values[chosen] for name, values in labels.items()}
    return images, labels


def _files(paths):
    """Paths of pictures, folders replaced by the pictures in them."""
    files = []
    for path in paths:
        path = pathlib.Path(path)
        if path.is_file() and datasets.folders.holds_pictures(path):
            raise ValueError(
                f"Expected pictures, or folders of them. Received: {path}; unpack it."
            )
        if path.is_dir():
            found = datasets.folders.Pictures(path).names
            if not found:
                raise FileNotFoundError(f"There are no pictures in {path}.")
            files += [path / name for name in found]
        else:
            files.append(path)
    # One may be named by itself and by its folder.
    return [*{os.path.abspath(file): file for file in files}.values()]


def _read(
    model, files, by_shape=None
) -> Iterator[tuple[list[pathlib.Path], np.ndarray]]:
    """Yields chunks of paths and their pictures; broken ones are named at the end.

    Args:
        model: Whose pictures are of the size that these get by default.
        files: Paths of all.
        by_shape: The same by the shape that each is to get.
    """
    picture_shape(model)
    # What it was trained on tells what is white, else all files together.
    white = model.white or datasets.find_white(files) or datasets.pictures.WHITE
    count, broken = 0, []
    for shape, group in (by_shape or {model.built_image_shape: files}).items():
        size = max(1, min(_CHUNK, _VALUES // math.prod(shape)))
        for start in range(0, len(group), size):
            chunk = group[start : start + size]
            images, names, unread = datasets.folders.read_readable(chunk, shape, white)
            count += len(images)
            broken += unread
            if images:
                yield [pathlib.Path(name) for name in names], np.stack(images)
    datasets.folders.tell_broken(broken, count)


def check_ends(output, suffix):
    if pathlib.Path(output).suffix.lower() != suffix:
        raise ValueError(f"`--output` must end in {suffix}. Received: {output}")


def check_png(output):
    check_ends(output, ".png")


def save_image(image, output):
    """Writes a PIL image or a matplotlib figure."""
    target = pathlib.Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    save = getattr(image, "savefig", None) or image.save
    with replacing(target) as temporary:
        save(temporary)
    print(f"Written to {target}")


def save_result(picture, target):
    """Writes a picture so that `is_result` knows it."""
    about = PngImagePlugin.PngInfo()
    about.add_text(*_WRITER)
    with replacing(target) as temporary:
        plots.picture(picture).save(temporary, pnginfo=about)


def is_result(path):
    """Whether a file is a picture that `save_result` wrote."""
    try:
        with Image.open(path) as picture:
            return _WRITER in picture.info.items()
    except Exception:  # a user's own, of whatever kind
        return False
