"""Which picture belongs to which split, the same for every data set.

A data set is a fixed order of pictures and, for each, the number of its split:
an index into `NAMES`. Splits that are added together keep that order.
"""

import numpy as np

NAMES = ("train", "validation", "test")
# What folders and shards of the splits are called.
FOLDERS = {
    "train": 0,
    "training": 0,
    "validation": 1,
    "val": 1,
    "valid": 1,
    "test": 2,
    "testing": 2,
}


def parse(split):
    """Turns `"train"`, `"train+validation"` or `"all"` into numbers of splits."""
    parts = [part.strip() for part in str(split).split("+")]
    if parts == ["all"]:
        return [0, 1, 2]
    if not set(parts) <= set(NAMES) or len(set(parts)) < len(parts):
        raise ValueError(
            "`split` must be 'train', 'validation', 'test', a sum of these such as "
            f"'train+validation', or 'all'. Received: split={split!r}"
        )
    return [NAMES.index(part) for part in parts]


def check_integer(name, value, lowest):
    """Refuses what isn't an integer of at least `lowest`."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or value < lowest:
        raise ValueError(
            f"`{name}` must be an integer >= {lowest}. Received: {name}={value!r}"
        )


def select(split_of, split, limit=None):
    """Returns the positions of the first `limit` pictures of a split, in order."""
    return np.flatnonzero(np.isin(split_of, parse(split)))[:limit]


def seeded(count, seed):
    """Splits `count` pictures 80/10/10 at random, the same for the same seed."""
    tenth = round(count / 10)
    if count >= 3:
        tenth = max(tenth, 1)
    split_of = np.zeros(count, "int8")
    order = np.random.default_rng((seed, 2)).permutation(count)
    split_of[order[:tenth]] = 1
    split_of[order[tenth : 2 * tenth]] = 2
    return split_of


def height_and_width(image_size):
    """Turns an integer or a pair into (height, width)."""
    try:
        height, width = (
            (image_size, image_size) if np.ndim(image_size) == 0 else image_size
        )
        size = int(height), int(width)
        valid = size == (height, width) and min(size) >= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "`image_size` must be a positive integer or a pair (height, width) of "
            f"them. Received: image_size={image_size!r}"
        )
    return size
