"""Large pictures in tiles, which teach a model of any size what the whole would."""

import numpy as np

from keras_ae.datasets import splits


def cut_tiles(
    images: np.ndarray, side: int = 64, most: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts pictures into square tiles, as many as lie in them beside each other.

    Where the side is no divisor of the pictures' sides, tiles are spread evenly and
    some pixels are in none.

    Args:
        images: Array `(n, height, width, channels)`.
        side: Of a tile, in pixels; at most the shorter side of the pictures.
        most: At most so many tiles, drawn evenly from all. Defaults to all.
        seed: Seed of the draw, an integer >= 0.

    Returns:
        Tiles `(tiles, side, side, channels)` in the order of their pictures, and the
        index of each one's picture, `(tiles,)`.

    Raises:
        ValueError: If an argument is out of range, or the images are none.

    Example:

    ```python
    tiles, _ = keras_ae.datasets.cut_tiles(pages, side=50)
    keras_ae.DenoisingAE().fit(tiles)
    ```
    """
    if images.ndim != 4:
        raise ValueError(
            "`images` must be (n, height, width, channels). Received: an array of "
            f"shape {images.shape}"
        )
    splits.check_integer("side", side, 1)
    splits.check_integer("seed", seed, 0)
    if most is not None:
        splits.check_integer("most", most, 1)
    if side > min(images.shape[1:3]):
        raise ValueError(
            f"`side` must be at most {min(images.shape[1:3])}, the shorter side of the "
            f"pictures. Received: side={side}"
        )
    tops, lefts = (
        np.linspace(0, length - side, length // side).round().astype(int)
        for length in images.shape[1:3]
    )
    places = [
        (index, top, left)
        for index in range(len(images))
        for top in tops
        for left in lefts
    ]
    if most is not None and most < len(places):
        random = np.random.default_rng(seed)
        drawn = random.choice(len(places), most, replace=False)
        places = [places[place] for place in np.sort(drawn)]
    tiles = [
        images[index, top : top + side, left : left + side]
        for index, top, left in places
    ]
    return np.stack(tiles), np.array([index for index, _, _ in places])
