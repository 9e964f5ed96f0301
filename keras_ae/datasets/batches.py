"""Batches of images that need not fit into memory."""

import mmap
from collections.abc import Iterator

import keras
import numpy as np

from keras_ae import backend
from keras_ae.datasets import splits
from keras_ae.datasets.lazy import LazyImages

# Bytes read. The system maps up to eight times as much, rows around it included.
RELEASED_AT_ONCE = 2**26


class Batches(keras.utils.PyDataset):
    """Serves images a batch at a time, for `fit` and `evaluate`.

    Only the batch asked for is read, so a memory-mapped array may be larger than
    memory. What a batch contains depends on nothing but the seed, the epoch and the
    batch's number: training that is resumed with `epoch=` sees what it would have
    seen. Pass `shuffle=False` to `fit`, or Keras puts the batches in an order of its
    own besides.

    Args:
        images: Array of shape `(n, ...)`: integers in 0–255, or floats; or
            `LazyImages`, which of shards come in an order that they can be read in.
        batch_size: Number of images in a batch; the last one may be smaller.
        shuffle: Whether to put the images in a new order every epoch.
        seed: Non-negative integer.
        binarize: Whether to draw black and white pixels, anew every epoch, with the
            grey value (as a fraction of white) as the probability of white. For
            likelihoods comparable with those of Burda et al.
        targets: Array of what each image is to become, a clean picture or a label; the
            batches are then pairs of images and targets.
        epoch: Number of the first epoch.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size` of
            `keras.utils.PyDataset`.

    Attributes:
        epoch: Number of the epoch that is served, counted up at its end, when all
            batches have been served. It may be set between epochs.

    Example:

    ```python
    images = keras_ae.datasets.load("celeba", image_size=64)
    model.fit(keras_ae.datasets.Batches(images, 64), epochs=10, shuffle=False)
    ```

    Reference: Burda et al., Importance Weighted Autoencoders, 2016 (binarization).
    """

    def __init__(
        self,
        images: np.ndarray | LazyImages,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        binarize: bool = False,
        targets: np.ndarray | None = None,
        epoch: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        splits.check_integer("batch_size", batch_size, 1)
        splits.check_integer("seed", seed, 0)
        splits.check_integer("epoch", epoch, 0)
        if len(images) == 0:
            raise ValueError("`images` must hold at least one image. Received none.")
        if targets is not None and len(targets) != len(images):
            raise ValueError(
                "`targets` must hold one target an image. Received: "
                f"{len(targets)} targets for {len(images)} images"
            )
        self.images = images
        self.targets = targets
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.binarize = binarize
        self.epoch = epoch
        self._within_epoch = False
        self._served = set()
        self._unreleased = 0
        self._order = (None, None)  # of the epoch it belongs to

    def __len__(self):
        return -(-len(self.images) // self.batch_size)

    @property
    def arrays(self) -> tuple[np.ndarray | LazyImages, ...]:
        """The images, and the targets if there are any."""
        return (self.images,) if self.targets is None else (self.images, self.targets)

    def rows(self, index: int) -> np.ndarray:
        """Returns which rows of the arrays a batch of this epoch is made of."""
        self._served.add(index)
        start = index * self.batch_size
        stop = min(start + self.batch_size, len(self.images))
        if not self.shuffle:
            return np.arange(start, stop)
        # In the order of the file, a disk has less to do; within a batch the order
        # means nothing.
        return np.sort(self._epoch_order(self.epoch)[start:stop])

    def epoch_rows(self) -> Iterator[np.ndarray]:
        """Yields the rows of each batch of this epoch."""
        return map(self.rows, range(len(self)))

    def epoch_keys(self) -> Iterator[np.ndarray]:
        """Yields of what each batch of this epoch is drawn in black and white."""
        return (self._key(self.epoch, index) for index in range(len(self)))

    def epoch_batches(self) -> Iterator:
        """Yields the batches of this epoch."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index):
        epoch = self.epoch
        rows = self.rows(index)
        batch = np.array(self.images[rows])
        self._release_memory(batch.nbytes)
        if self.binarize:
            batch = backend.black_and_white(batch, self._key(epoch, index), np)
        return batch if self.targets is None else (batch, np.array(self.targets[rows]))

    def on_epoch_begin(self):
        self._within_epoch = True

    def on_epoch_end(self):
        # Keras calls this before the first epoch too, and after a mere look at the
        # first batch; and with `steps_per_epoch`, before all batches are served.
        if self._within_epoch and len(self._served) == len(self):
            self.epoch += 1
            self._served = set()
        self._within_epoch = False

    def _release_memory(self, read):
        """Gives back, now and then, the memory of a memory map that has been read.

        The system would do so only when it runs short; until then a process seems to
        fill its memory. What is read again comes from the system's file cache.
        """
        self._unreleased += read
        if self._unreleased < RELEASED_AT_ONCE or not hasattr(mmap, "MADV_DONTNEED"):
            return
        self._unreleased = 0
        array = self.images
        while array is not None and not isinstance(array, mmap.mmap):
            array = getattr(array, "base", None)
        if array is not None:
            array.madvise(mmap.MADV_DONTNEED)

    def _epoch_order(self, epoch):
        known, order = self._order
        if known != epoch:
            rng = np.random.default_rng((self.seed, epoch, 0))
            if isinstance(self.images, LazyImages):
                order = self.images.shuffled(rng)
            else:
                order = rng.permutation(len(self.images))
            self._order = (epoch, order)
        return order

    def _key(self, epoch, index):
        sequence = np.random.SeedSequence((self.seed, epoch, 1 + index))
        return sequence.generate_state(2, "uint32")
