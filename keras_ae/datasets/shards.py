"""Pictures in shards: which files there are, and each picture by its number."""

import concurrent.futures
import contextlib
import functools
import glob
import itertools
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_ae import machine, progress
from keras_ae.datasets import shard_files, splits

# Blocks, spread over all shards, that are looked at, and pictures of each.
_LOOKED_AT, _OF_EACH = 32, 8
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(location: str | os.PathLike) -> bool:
    """Whether a path that isn't there is one of many, with `*`, `?`, `[` or `{`."""
    return any(sign in str(location) for sign in "*?[{")


def expanded(pattern: str) -> list[str]:
    """Returns what braces stand for: `{a,b}`, and numbers as in `{000..099}`."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    numbers = _RANGE.fullmatch(found[1])
    if numbers:
        first, last = numbers.groups()
        width = len(first) if first.startswith("0") else 0
        parts = [f"{i:0{width}}" for i in range(int(first), int(last) + 1)]
    else:
        parts = found[1].split(",")
    rests = expanded(pattern[found.end() :])
    return [f"{pattern[: found.start()]}{p}{rest}" for p in parts for rest in rests]


def matching(pattern: str) -> list[Path]:
    """Returns the shards that a pattern stands for.

    Raises:
        FileNotFoundError: If one that it names is not there, or none matches.
    """
    found: dict[str, None] = {}
    for path in expanded(os.path.expanduser(pattern)):
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise FileNotFoundError(f"There is no file {path}.")
        found |= dict.fromkeys(matches)
    paths = [Path(path) for path in found if shard_files.kind_of(path)]
    if not paths:
        raise FileNotFoundError(
            f"No file that {pattern} names is a shard, which ends in .tar, .parquet or "
            f".tfrecord. Received: {', '.join([*found][:3])}"
        )
    return paths


class Shards:
    """The pictures of several shards, in the order of these.

    Args:
        location: What the user named.
        paths: Of the shards.
        key: See `shard_files.open_shard`.

    Attributes:
        names: `shard/picture` for each.
        stamps: For each picture, what changes when its shard does.
        buffer: Among how many that follow each other an epoch's order may be free.
        labels: Array of a class for each picture, or None.
    """

    def __init__(self, location: str | os.PathLike, paths: list[Path], key=None):
        self.location = Path(location)
        stamps = [shard_files.stamp_of(path) for path in paths]
        self._shards = _opened(paths, key, stamps)
        counts = [len(shard.names) for shard in self._shards]
        self._starts = np.cumsum([0, *counts])
        root = os.path.commonpath([path.parent for path in paths])
        self.files = [path.relative_to(root).as_posix() for path in paths]
        self.names = _Each(self._starts, self._name)
        self.stamps = _Each(self._starts, lambda shard, row: (*stamps[shard], key))
        self.buffer = min(shard.buffer for shard in self._shards)
        held = [shard for shard in self._shards if len(shard.names)]
        self.labels = None
        if held and all(shard.labels is not None for shard in held):
            self.labels = np.array(_classes(held))

    def __len__(self):
        return int(self._starts[-1])

    def _name(self, shard, row):
        return f"{self.files[shard]}/{self._shards[shard].names[row]}"

    def read(self, index: int) -> bytes:
        """Returns the bytes of a picture."""
        shard, row = _place(self._starts, index)
        return self._shards[shard].read(row)

    def blocks(self) -> np.ndarray:
        """Returns where blocks begin that are best read together, ascending."""
        parts = zip(self._starts, self._shards, strict=False)
        return np.concatenate(
            [start + np.asarray(shard.blocks, int) for start, shard in parts]
        )

    def sample(self) -> np.ndarray:
        """Returns the numbers of at most 256 pictures, to be looked at."""
        starts = self.blocks()
        ends = np.append(starts[1:], len(self))
        chosen = np.linspace(0, len(starts) - 1, min(len(starts), _LOOKED_AT))
        each = max(_OF_EACH, 256 // len(chosen))
        runs = [np.arange(starts[i], ends[i])[:each] for i in chosen.astype(int)]
        return np.concatenate(runs)

    def folders(self) -> np.ndarray:
        """Returns the name of the folder that each picture has in its tar."""
        names = itertools.chain.from_iterable(shard.names for shard in self._shards)
        return np.array([posixpath.dirname(name).split("/")[-1] for name in names])

    def splits(self) -> np.ndarray:
        """Returns the number of each picture's split, -1 where its shard names none."""
        found = [_split_of(name) for name in self.files]
        return np.repeat(np.array(found, "int8"), np.diff(self._starts))


class _Each(Sequence):
    """What a function says of each picture, when it is asked for."""

    def __init__(self, starts: np.ndarray, of: Callable):
        self._starts = starts
        self._of = of

    def __len__(self):
        return int(self._starts[-1])

    def __getitem__(self, index):
        return self._of(*_place(self._starts, index))


def _place(starts, index):
    """The number of a picture's shard, and that of the picture in it."""
    shard = int(np.searchsorted(starts, index, side="right")) - 1
    return shard, int(index) - int(starts[shard])


def _classes(held):
    """The class of each picture, those of tars as integers where all are."""
    classes = [label for shard in held for label in shard.labels]
    # A Parquet file says itself what its classes are.
    if any(isinstance(shard, shard_files.TarShard) for shard in held):
        with contextlib.suppress(ValueError):
            return [int(label) for label in classes]
    return classes


def _opened(paths, key, stamps):
    """Shards, listed in parallel."""
    with (
        progress.shown("Listing shards", len(paths)) as advance,
        concurrent.futures.ThreadPoolExecutor(machine.cores()) as pool,
    ):
        found = []
        waiting = pool.map(_open, paths, itertools.repeat(key), stamps)
        for shard in waiting:
            found.append(shard)
            advance(len(found))
    return found


@functools.cache
def _open(path, key, stamp):
    """What is in a shard, listed once in a process as long as it does not change."""
    return shard_files.open_shard(path, key)


def _split_of(name):
    """The split that words in the path of a shard name, or -1."""
    words = re.split(r"[^a-z]+", posixpath.splitext(name.lower())[0])
    found = {splits.FOLDERS[word] for word in words if word in splits.FOLDERS}
    return found.pop() if len(found) == 1 else -1
