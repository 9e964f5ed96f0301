"""Pictures that are decoded each time they are read, and kept nowhere."""

import concurrent.futures
import threading
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_ae import machine
from keras_ae.datasets.pictures import WHITE, decode, reason


class LazyImages:
    """Pictures as an array that reads and decodes what is taken out of it.

    It is what `datasets.load(stream=True)` returns: `images[rows]` is an array of
    uint8, decoded in parallel, and `fit`, `evaluate` and the verbs of a model take it
    as they take an array, a batch at a time. A picture that can't be read is replaced
    by the next one that can, if possible one of the same labels, and named in a
    warning.

    Args:
        pictures: Where they come from, with `read` and `names`.
        chosen: Numbers of those wanted, ascending.
        shape: (height, width, channels) of each.
        white: Value of white in pictures of more than 8 bits.
        labels: Arrays `(n,)` of what is known of those wanted.
    """

    dtype = np.dtype("uint8")

    def __init__(
        self,
        pictures: Any,
        chosen: np.ndarray,
        shape: tuple[int, int, int],
        white: int = WHITE,
        labels: Iterable[np.ndarray] = (),
    ):
        self._pictures = pictures
        self._chosen = chosen
        self._white = white
        self._labels = [*labels]
        self.shape = (len(chosen), *shape)
        self._broken: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self):
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes, 4."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all pictures, decoded."""
        return int(np.prod(self.shape, dtype="int64"))

    def __getitem__(self, index):
        index, *rest = self._without_dots(index)
        rows = np.arange(len(self))[index]
        images = np.empty((rows.size, *self.shape[1:]), "uint8")
        with concurrent.futures.ThreadPoolExecutor(machine.cores()) as pool:
            for place, image in enumerate(pool.map(self._decoded, rows.ravel())):
                images[place] = image
        # Arrays among the indices go together, as NumPy has it.
        places = np.arange(rows.size).reshape(rows.shape)
        return images[(slice(None) if isinstance(index, slice) else places, *rest)]

    def _without_dots(self, index):
        """Indices of the axes from the first on, with slices in place of a `...`."""
        index = index if isinstance(index, tuple) else (index,)
        dots = [place for place, part in enumerate(index) if part is ...]
        missing = self.ndim + len(dots) - len(index)
        if missing < 0 or len(dots) > 1 or any(part is None for part in index):
            raise IndexError(
                f"Pictures must be indexed by at most {self.ndim} indices and one "
                f"`...`, none of them None. Received: {index}"
            )
        if not dots:
            return index or (slice(None),)
        before, after = index[: dots[0]], index[dots[0] + 1 :]
        return *before, *[slice(None)] * missing, *after

    def __array__(self, dtype=None, copy=None):
        images = self[:]
        return images if dtype is None else images.astype(dtype)

    def shuffled(self, random: np.random.Generator) -> np.ndarray:
        """Returns an order in which to read the pictures of an epoch.

        Of shards it is that of a shuffle buffer: blocks of pictures that lie beside
        each other come in a new order, and each picture leaves the buffer at a random
        time, so that those read at about the same time are near each other.
        """
        if not hasattr(self._pictures, "blocks"):
            return random.permutation(len(self))
        starts = np.searchsorted(self._chosen, self._pictures.blocks())
        blocks = np.split(np.arange(len(self)), np.unique(starts)[1:])
        order = np.concatenate([blocks[i] for i in random.permutation(len(blocks))])
        delays = random.uniform(0, self._pictures.buffer, len(order))
        return order[np.argsort(np.arange(len(order)) + delays, kind="stable")]

    def _decoded(self, row):
        """The picture of a row, or another one that can be read."""
        size, channels = self.shape[1:3], self.shape[3]
        for other in self._candidates(row):
            index = int(self._chosen[other])
            if index in self._broken:
                continue
            try:
                data = self._pictures.read(index)
                return decode(data, size, channels, white=self._white)
            except Exception as error:
                self._say_broken(index, error)
        raise ValueError(
            f"None of the {len(self)} pictures in {self._pictures.location} could be "
            "read."
        )

    def _candidates(self, row):
        """A row, then those after it, of which the fewest labels differ from its."""
        yield row
        others = np.arange(row + 1, row + len(self)) % len(self)
        differing = np.zeros(len(others), int)
        for labels in self._labels:
            differing += labels[others] != labels[row]
        yield from others[np.argsort(differing, kind="stable")]

    def _say_broken(self, index, error):
        with self._lock:
            if index in self._broken:
                return
            self._broken.add(index)
        warnings.warn(
            f"{self._pictures.names[index]} in {self._pictures.location} could not be "
            f"read ({reason(error)}); the next that can be read takes its place, if "
            "possible one of the same labels.",
            stacklevel=2,
        )
