"""Mirror images: as many pictures again, where a picture could be either way round."""

import numpy as np

# Sides that pictures are reduced to, at least, before they are compared.
_SIDE = 16
# Directions that pictures are described by, at most.
_COMPONENTS = 64


def mirrored(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures `(n, height, width, ...)`, and behind them their mirror images.

    Args:
        pictures: Array `(n, height, width)` or `(n, height, width, channels)`.
    """
    return np.concatenate([pictures, pictures[:, :, ::-1]])


def gain(pictures: np.ndarray, held_back: np.ndarray) -> float:
    """Measures what mirror images tell of pictures that were held back.

    Principal components are found once without and once with them: where a picture
    could be either way round, as a face, the second describe new pictures better; of
    digits and letters they describe what never comes.

    Args:
        pictures: Array `(n, height, width)` or `(n, height, width, channels)`, n > 1.
        held_back: Others of the same kind.

    Returns:
        By which share the squared error is lower with mirror images, below 0 where it
        is higher.
    """
    count = max(1, min(len(pictures) // 4, _COMPONENTS))
    pictures, held_back = _reduced(pictures), _reduced(held_back)
    error, with_them = (
        _error(x.reshape(len(x), -1), held_back.reshape(len(held_back), -1), count)
        for x in (pictures, mirrored(pictures))
    )
    return float(1 - with_them / error) if error > 0 else 0.0


def _reduced(pictures):
    """Means of squares of pixels, float64."""
    count, height, width = pictures.shape[:3]
    size = max(1, min(height, width) // _SIDE)
    rows, columns = height // size, width // size
    x = pictures[:, : rows * size, : columns * size].astype("float64")
    return x.reshape(count, rows, size, columns, size, -1).mean(axis=(2, 4))


def _error(x, held_back, count):
    """Squared error of `held_back` in the first `count` components of x."""
    mean = x.mean(axis=0)
    _, _, components = np.linalg.svd(x - mean, full_matrices=False)
    rest = held_back - mean
    rest = rest - rest @ components[:count].T @ components[:count]
    return np.square(rest).mean()
