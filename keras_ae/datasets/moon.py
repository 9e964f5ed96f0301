"""Pictures of the moon in every phase, rendered: a data set without a download.

Every factor behind a picture is known, and the factor that matters lies on an
arc that everybody can judge: from the new moon, through the half moon, to the
full moon. See `measure_phase` for what that is good for.
"""

import functools
import math

import numpy as np

from keras_ae.datasets import splits

# Light that the earth throws on the dark part of the moon: it keeps a new moon
# a dim disc with a place and a size, where black would have neither.
EARTHSHINE = 0.15

COUNTS = (10_000, 1_000, 1_000)
FACTORS = ("phase", "tilt", "size", "x", "y")
LOW = np.array([0.0, -0.4, 0.28, -0.08, -0.08])
HIGH = np.array([1.0, 0.4, 0.38, 0.08, 0.08])


def render(phase, tilt=0.0, size=0.35, x=0.0, y=0.0, image_size=32):
    """Renders moons, antialiased, one for each set of factors.

    The factors are scalars or arrays that broadcast to `(n,)`.

    Args:
        phase: Position in the cycle, of period 1: 0 is the new moon, 0.25 the
            waxing half moon (lit on the right), 0.5 the full moon, 0.75 the
            waning half moon (lit on the left). The lit fraction of the disc is
            `(1 - cos(2 * pi * phase)) / 2`.
        tilt: Counter-clockwise rotation of the moon, in radians.
        size: Radius of the disc, as a fraction of the picture's shorter side.
        x: Offset of the centre to the right, as a fraction of the width.
        y: Offset of the centre downwards, as a fraction of the height.
        image_size: Integer, or a pair (height, width).

    Returns:
        uint8 array of shape `(n, height, width, 1)`.

    Example:

    ```python
    images = datasets.moon.render([0.0, 0.25, 0.5], image_size=64)
    images.shape  # (3, 64, 64, 1)
    ```
    """
    height, width = splits.height_and_width(image_size)
    factors = [np.atleast_1d(np.asarray(f, "float32")) for f in (phase, tilt, size)]
    factors += [np.atleast_1d(np.asarray(f, "float32")) for f in (x, y)]
    factors = np.stack(np.broadcast_arrays(*factors))  # (5, n)
    images = np.empty((factors.shape[1], height, width, 1), "uint8")
    # A few hundred at a time stay in the processor's cache.
    step = max(1, 2**18 // (height * width))
    for start in range(0, len(images), step):
        chosen = slice(start, start + step)
        images[chosen, :, :, 0] = _render(*factors[:, chosen], height, width)
    return images


def _render(phase, tilt, size, x, y, height, width):
    phase, tilt, size, x, y = (
        factor[:, None, None] for factor in (phase, tilt, size, x, y)
    )
    radius = size * np.float32(min(height, width))
    columns = np.arange(width, dtype="float32") + np.float32(0.5)
    rows = np.arange(height, dtype="float32")[:, None] + np.float32(0.5)
    right = columns - (x + np.float32(0.5)) * np.float32(width)  # (n, 1, width)
    down = rows - (y + np.float32(0.5)) * np.float32(height)  # (n, height, 1)
    # `along` runs from the dark limb to the lit limb of a waxing moon, `across`
    # from horn to horn.
    cos_tilt, sin_tilt = np.cos(tilt), np.sin(tilt)
    along = right * cos_tilt - down * sin_tilt  # (n, height, width)
    across = right * sin_tilt + down * cos_tilt
    phase = phase % np.float32(1.0)
    along *= np.where(phase < 0.5, np.float32(1.0), np.float32(-1.0))

    squared = across**2
    disc = np.clip(radius - np.sqrt(along**2 + squared) + np.float32(0.5), 0, 1)
    # The terminator is half an ellipse. Divided by its gradient, the distance
    # along one axis is the distance to the curve, so that its edge is as wide
    # everywhere.
    bulge = np.cos(np.float32(2 * math.pi) * phase)
    half_chord = np.sqrt(np.maximum(radius**2 - squared, np.float32(0.25)))
    slope = bulge * across / half_chord
    distance = (along - bulge * half_chord) / np.sqrt(1 + slope**2)
    beyond = np.clip(distance + np.float32(0.5), 0, 1)
    # What a pixel shows of both disc and light: in a crescent the two edges face
    # away from each other, in a gibbous moon one lies inside the other.
    lit = np.where(
        bulge > 0, np.maximum(beyond + disc - 1, 0), np.minimum(beyond, disc)
    )
    brightness = EARTHSHINE * disc + (1 - EARTHSHINE) * lit
    return np.rint(brightness * np.float32(255)).astype("uint8")


def measure_phase(images):
    """Measures the lit fraction of the moon in pictures, decoded ones included.

    The story of the half moon between new moon and full moon: encode a new moon
    and a full moon, go half the way from one code to the other, and decode. A
    blend of the two pictures would be a grey disc, which no moon ever shows. An
    autoencoder that has understood the moon answers with a half moon, half of it
    bright and half of it dark. That is the promise of a smooth latent space, and
    here it is a number: the measured phase of the decoded midpoint should be near
    0.5.

    A pixel of the disc counts as lit above 0.7 of full brightness, so that the
    evenly grey disc of a blend (0.575) isn't taken for a half moon. At the edge of
    the disc the brightest neighbour decides, and the pixel counts by the share of
    it that the disc covers.

    Args:
        images: Moons in the style of `render`, of shape `(height, width)`,
            `(height, width, 1)`, `(n, height, width)` or `(n, height, width, 1)`;
            uint8, or floats in [0, 1] (slightly blurred or noisy is fine).

    Returns:
        Float array of shape `(n,)` (a float for one picture) with the lit
        fraction: 0 is a new moon, 0.5 a half moon, 1 a full moon; nan where there
        is no disc.

    Example:

    ```python
    new_moon, full_moon = datasets.moon.render([0.0, 0.5])[:, None]
    path = model.interpolate(new_moon, full_moon, steps=3)
    datasets.moon.measure_phase(path[0])  # near [0.0, 0.5, 1.0]
    ```
    """
    batch = _as_batch(images)
    fraction = _lit_fraction(batch, _covered(batch))
    return float(fraction[0]) if _is_one(images) else fraction


def measure(images):
    """Measures the factors behind moons, drawn ones included.

    The disc tells size and place, the lit fraction the phase, and which side is lit the
    tilt, and whether the moon waxes or wanes; from there on a few steps of Gauss and
    Newton find the factors whose rendered moon is nearest.

    Args:
        images: As for `measure_phase`.

    Returns:
        Dict of arrays `(n,)` by name, in the order of `FACTORS` and the units of
        `render`. A tilt is nan where less than a fiftieth of the disc is lit or dark,
        where it can't be seen, and all are where there is no disc.

    Example:

    ```python
    images = datasets.moon.render(0.25, tilt=0.3, size=0.3, x=0.05)
    datasets.moon.measure(images)  # about these factors
    ```
    """
    batch = _as_batch(images)
    factors = _roughly(batch)
    step = max(1, 2**18 // math.prod(batch.shape[1:]))
    for start in range(0, len(batch), step):
        chosen = slice(start, start + step)
        factors[chosen] = _refined(factors[chosen], batch[chosen])
    found = dict(zip(FACTORS, factors.T, strict=True))
    found["phase"] = found["phase"] % 1.0
    lit = (1 - np.cos(2 * math.pi * found["phase"])) / 2
    found["tilt"] = np.where((lit > 0.02) & (lit < 0.98), found["tilt"], np.nan)
    return found


def _roughly(batch):
    """Factors `(n, 5)` by centres of mass and areas."""
    height, width = batch.shape[1:]
    covered = _covered(batch)
    fraction = _lit_fraction(batch, covered)
    area = np.where(np.isnan(fraction), np.nan, covered.sum(axis=(1, 2)))
    column, row = _centre(covered)
    lit_column, lit_row = _centre(covered * np.clip(batch - EARTHSHINE, 0, None))
    # Counter-clockwise from the right, to where the light is.
    angle = np.arctan2(row - lit_row, lit_column - column)
    waning = np.abs(angle) > math.pi / 2
    tilt = np.where(waning, angle - np.sign(angle) * math.pi, angle)
    half = np.arccos(1 - 2 * fraction) / (2 * math.pi)
    unseen = (fraction < 0.02) | (fraction > 0.98)
    found = [
        np.where(waning, 1 - half, half),
        np.where(unseen, 0.0, np.clip(tilt, LOW[1], HIGH[1])),
        np.sqrt(area / math.pi) / min(height, width),
        column / width,
        row / height,
    ]
    return np.where(np.isnan(area), np.nan, found).T


def _refined(factors, batch, steps=8):
    """Moves factors `(n, 5)` to where their moons are nearest in squared error."""
    nudges = np.diag([0.01, 0.02, 0.005, 0.005, 0.005])

    def rendered(factors):
        factors = np.nan_to_num(factors).astype("float32")
        return _render(*factors.T, *batch.shape[1:]).reshape(len(batch), -1) / 255.0

    def error(factors):
        return batch.reshape(len(batch), -1) - rendered(factors)  # (n, pixels)

    apart = error(factors)
    damping = np.full(len(batch), 0.1)
    for _ in range(steps):
        slopes = np.stack(
            [(apart - error(factors + nudge)) / nudge.max() for nudge in nudges],
            axis=1,
        )  # (n, 5, pixels)
        squares = slopes @ slopes.transpose(0, 2, 1)
        squares += np.eye(5) * (damping[:, None, None] * squares + 1e-3)
        move = np.linalg.solve(squares, slopes @ apart[..., None])[..., 0]
        moved = np.clip(factors + move, factors - 0.1, factors + 0.1)
        left = error(moved)
        better = np.square(left).sum(axis=1) < np.square(apart).sum(axis=1)
        factors = np.where(better[:, None], moved, factors)
        apart = np.where(better[:, None], left, apart)
        damping *= np.where(better, 0.3, 10.0)
    return factors


def _centre(weights):
    """Centres of mass of pictures `(n, height, width)`, as columns and rows from 0."""
    height, width = weights.shape[1:]
    total = np.maximum(weights.sum(axis=(1, 2)), 1e-6)
    columns = np.arange(width) + 0.5 - width / 2
    rows = np.arange(height) + 0.5 - height / 2
    return (
        (weights.sum(axis=1) * columns).sum(axis=1) / total,
        (weights.sum(axis=2) * rows).sum(axis=1) / total,
    )


def _is_one(images):
    shape = np.shape(images)
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] == 1)


def _as_batch(images):
    """Checked pictures as floats `(n, height, width)`."""
    images = np.asarray(images)
    if images.dtype.kind in "ui":
        images = images / np.float32(255)
    images = images.astype("float32")
    if images.ndim > 2 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim not in (2, 3):
        raise ValueError(
            "`images` must be one grey picture (height, width) or a batch of them "
            f"(n, height, width), with or without a channel axis of 1. Received: "
            f"shape={np.shape(images)}"
        )
    if images.size and not -0.5 <= images.min() <= images.max() <= 1.5:
        raise ValueError(
            "`images` must be uint8, or floats in [0, 1]. Received floats from "
            f"{images.min():g} to {images.max():g}"
        )
    return images.reshape((-1, *images.shape[-2:]))


def _covered(batch):
    """What share of each pixel the disc covers."""
    background = EARTHSHINE / 2
    brightest = _neighbourhood(np.maximum, batch)
    on_edge = _on_edge(batch)
    coverage = np.clip(batch / np.maximum(brightest, background), 0, 1)
    return np.where(on_edge, coverage * (brightest > background), 1)


def _on_edge(batch):
    return _neighbourhood(np.minimum, batch) < EARTHSHINE / 2


def _lit_fraction(batch, covered):
    lit = np.where(_on_edge(batch), _neighbourhood(np.maximum, batch, 1), batch) > 0.7
    area = covered.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        return (covered * lit).sum(axis=(1, 2)) / np.where(area > 0, area, np.nan)


def _neighbourhood(reduce, batch, reach=2):
    """Reduces every pixel with those up to `reach` rows and columns away."""
    for axis in (1, 2):
        size = batch.shape[axis]
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        padded = np.pad(batch, padding, mode="edge")
        shifts = [padded.take(range(i, i + size), axis) for i in range(2 * reach + 1)]
        batch = functools.reduce(reduce, shifts)
    return batch


def waxing(count, image_size=32, seed=0):
    """Renders waxing moons with the factors behind them, for scores of disentanglement.

    The phase of all moons is an angle, which no latent dimension by itself can hold.
    That of waxing moons is a number like the other factors.

    Args:
        count: Number of moons, >= 1.
        image_size: Height and width, or both, in pixels.
        seed: Integer >= 0.

    Returns:
        Moons `(count, height, width, 1)`, uint8, and the factors behind them, in the
        order of `FACTORS`, `(count, 5)`.
    """
    high = HIGH * [0.5, 1.0, 1.0, 1.0, 1.0]  # of the phase: the full moon
    factors = np.random.default_rng(seed).uniform(LOW, high, (count, len(high)))
    return render(*factors.T, image_size=image_size), factors


def load(split, image_size, limit, seed):
    """Renders a split; see `keras_ae.datasets.load`.

    Returns:
        `(images, labels)`, the labels being the true factors as float32.
    """
    rng = np.random.default_rng((seed, 1))
    factors = rng.uniform(LOW, HIGH, (sum(COUNTS), len(FACTORS))).astype("float32")
    chosen = splits.select(np.repeat([0, 1, 2], COUNTS), split, limit)
    factors = factors[chosen].T
    images = render(*factors, image_size=32 if image_size is None else image_size)
    return images, dict(zip(FACTORS, factors, strict=True))
