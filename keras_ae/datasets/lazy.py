"""Pictures that are decoded each time they are read, and kept nowhere."""

import concurrent.futures
import threading
import warnings
from typing import Any

import numpy as np

from keras_ae import machine
from keras_ae.datasets.pictures import WHITE, decode, reason


class LazyImages:
    """Pictures as an array that reads and decodes what is taken out of it.

    It is what `datasets.load(stream=True)` returns: `images[rows]` is an array of
    uint8, decoded in parallel, and `fit`, `evaluate` and the verbs of a model take it
    as they take an array, a batch at a time. A picture that can't be read is replaced
    by the next one that can, and named in a warning.

    Args:
        pictures: Where they come from, with `read` and `names`.
        chosen: Numbers of those wanted, ascending.
        shape: (height, width, channels) of each.
        white: Value of white in pictures of more than 8 bits.
    """

    dtype = np.dtype("uint8")

    def __init__(
        self,
        pictures: Any,
        chosen: np.ndarray,
        shape: tuple[int, int, int],
        white: int = WHITE,
    ):
        self._pictures = pictures
        self._chosen = chosen
        self._white = white
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
        index, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        rows = np.arange(len(self))[index]
        if rows.ndim == 0:
            return self._decoded(int(rows))[rest or ...]
        images = np.empty((len(rows), *self.shape[1:]), "uint8")
        with concurrent.futures.ThreadPoolExecutor(machine.cores()) as pool:
            for place, image in enumerate(pool.map(self._decoded, rows)):
                images[place] = image
        return images[(slice(None), *rest)] if rest else images

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
        """The picture of a row, or the next one that can be read."""
        size, channels = self.shape[1:3], self.shape[3]
        for other in range(row, row + len(self)):
            index = int(self._chosen[other % len(self)])
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

    def _say_broken(self, index, error):
        with self._lock:
            if index in self._broken:
                return
            self._broken.add(index)
        warnings.warn(
            f"{self._pictures.names[index]} in {self._pictures.location} could not be "
            f"read ({reason(error)}); the picture after it takes its place.",
            stacklevel=2,
        )
