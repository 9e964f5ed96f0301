"""CelebA: 202,599 aligned faces with 40 attributes.

Reference: Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015.
For non-commercial research only.
"""

import functools
from pathlib import Path

import numpy as np

from keras_ae.datasets import cache, folders, splits

FOLDER = "img_align_celeba"
# The square of faces that papers use: 148 of the 178 columns.
CROP = 148 / 178
WHERE = (
    "Get img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, put them into one folder and "
    "name that in `data_dir` or in the environment variable KERAS_AE_DATA."
)


def find(data_dir):
    """Returns the folder or zip that holds CelebA, or None.

    Args:
        data_dir: Path of a zip, of a folder with `img_align_celeba/` or with zips,
            or of a folder that has such a folder called `celeba`. None finds none.
            Of several zips that called `img_align_celeba.zip` is taken, else the one
            with the most pictures.
    """
    if data_dir is None:
        return None
    data_dir = Path(data_dir)
    if is_celeba(data_dir):
        return data_dir
    if not data_dir.is_dir():
        return None
    inside = [path for path in sorted(data_dir.iterdir()) if path.is_dir()]
    named = [path for path in inside if path.name.lower() == "celeba"]
    for base in [data_dir, *named, *(path / "Img" for path in [data_dir, *named])]:
        if is_celeba(base):
            return base
        if (base / f"{FOLDER}.zip").is_file():
            return base / f"{FOLDER}.zip"
        zips = [path for path in base.glob("*.zip") if "celeba" in path.name.lower()]
        zips = sorted(path for path in zips if is_celeba(path))
        if len(zips) > 1:
            zips.sort(key=lambda path: -len(_pictures(path)))
            others = ", ".join(path.name for path in zips[1:])
            folders.say_once(f"celeba: using {zips[0]} (there are also {others}).")
        if zips:
            return zips[0]
    return None


def is_celeba(location):
    """Whether a folder or zip has the layout of CelebA."""
    location = Path(location)
    if location.is_dir():
        return (location / FOLDER).is_dir()
    return location.suffix.lower() == ".zip" and len(_pictures(location)) > 0


def _pictures(location):
    if location.is_dir():
        return folders.Pictures(location, within=FOLDER)
    status = location.stat()
    return _in_zip(location, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _in_zip(location, *stamp):
    # Listing 200,000 members takes a second; a zip is first asked what it is.
    return folders.Pictures(location, within=FOLDER)


def load(location, split, image_size, limit, seed, labels):
    """Loads CelebA from a folder or zip; see `keras_ae.datasets.load`."""
    pictures = _pictures(Path(location))
    if not len(pictures):
        raise FileNotFoundError(f"There are no pictures in {location}/{FOLDER}.")
    names = [name.rsplit("/", 1)[-1] for name in pictures.names]
    split_of = _official_split(pictures, names)
    if split_of is None:
        folders.say_once(
            f"{location} has no official validation and test pictures: it is split "
            f"80/10/10 at random with seed {seed}."
        )
        split_of = splits.seeded(len(pictures), seed)
    chosen = splits.select(split_of, split)
    if not len(chosen):
        raise ValueError(f"{location} has no pictures in split {split!r}.")
    size = splits.height_and_width(64 if image_size is None else image_size)
    images, kept = cache.load(
        pictures, chosen, size, limit=limit, channels=3, crop=CROP
    )
    if not labels:
        return images, {}
    paths = np.array([pictures.names[i] for i in kept])
    return images, {"path": paths, **_attributes(pictures, names, kept)}


def _read_list(pictures, name):
    """Returns the text of one of CelebA's lists, as .txt or .csv, or None."""
    base = pictures.location if pictures.location.is_dir() else pictures.location.parent
    places = [base, base / "Eval", base / "Anno"]
    places += [base.parent / folder for folder in ("", "Eval", "Anno")]
    for suffix in (".txt", ".csv"):
        text = pictures.read_text(name + suffix)
        for place in places:
            if text is None and (place / (name + suffix)).is_file():
                text = (place / (name + suffix)).read_text("utf-8")
        if text is not None:
            return text.replace(",", " ")
    return None


def _official_split(pictures, names):
    """Returns the number of each picture's split, or None."""
    rows = (_read_list(pictures, "list_eval_partition") or "").splitlines()
    pairs = (row.split() for row in rows)
    official = {
        pair[0]: int(pair[1]) for pair in pairs if pair[1:] and pair[1] in "012"
    }
    split_of = np.array([official.get(name, -1) for name in names], "int8")
    if not {0, 1, 2} <= set(split_of.tolist()):
        return None
    missing = np.count_nonzero(split_of == -1)
    if missing:
        folders.say_once(
            f"{missing} pictures in {pictures.location} are not in "
            "list_eval_partition and are left out."
        )
    return split_of


def _attributes(pictures, names, kept):
    """Returns the 40 attributes of the pictures kept, as a dict of bool arrays."""
    text = _read_list(pictures, "list_attr_celeba")
    if text is None:
        return {}
    rows = text.splitlines()
    wide = (i for i, row in enumerate(rows) if len(row.split()) > 1)
    start = next(wide, None)
    if start is None:
        raise ValueError(f"list_attr_celeba of {pictures.location} names no attribute.")
    attributes = [field for field in rows[start].split() if field != "image_id"]
    row_of = {}
    for row in rows[start + 1 :]:
        name, _, values = row.partition(" ")
        row_of[name] = values
    missing = [names[i] for i in kept if names[i] not in row_of]
    if missing:
        folders.say_once(
            f"list_attr_celeba lacks {len(missing)} pictures of {pictures.location}, "
            f"{missing[0]} among them, so no attributes are given."
        )
        return {}
    values = np.fromstring(" ".join(row_of[names[i]] for i in kept), "int8", sep=" ")
    if values.size != len(kept) * len(attributes):
        raise ValueError(
            f"list_attr_celeba of {pictures.location} must have {len(attributes)} "
            "values for every picture."
        )
    values = values.reshape(len(kept), len(attributes)) > 0
    return dict(zip(attributes, np.ascontiguousarray(values.T), strict=True))
