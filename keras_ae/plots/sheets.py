"""Sheets of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_INK = "#808488"
# A sheet of small pictures is enlarged (by whole pixels) to about this width.
_WIDTH = 640


def picture(image: np.ndarray) -> Image.Image:
    """One picture, pixel for pixel.

    Args:
        image: `(height, width, channels)` or `(height, width)`, as for `sheet`.

    Returns:
        A PIL image.
    """
    image = np.asarray(image)
    channels = image.shape[-1] if image.ndim == 3 else 1
    shown = Image.fromarray(_rgba(image[None])[0])
    return shown.convert({1: "L", 4: "RGBA"}.get(channels, "RGB"))


def sheet(images: np.ndarray, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Lays pictures out in a grid.

    Args:
        images: `(pictures, height, width, channels)` or `(pictures, height, width)`,
            integers 0-255 or floats that are clipped to [0, 1]. One or three channels
            are grey or RGB, four RGBA; of any other number the first is shown in grey.
        columns: Pictures per row. By default the grid is about square.
        gap: Transparent pixels between pictures.

    Returns:
        A PIL image. Small pictures are enlarged by a whole factor, without
        smoothing.

    Raises:
        ValueError: If there are no pictures, or the array has another rank.

    Example:

    ```python
    keras_ae.plots.sheet(model.sample(64)).save("samples.png")
    ```
    """
    pictures = _rgba(images)
    if columns is None:
        columns = math.ceil(math.sqrt(len(pictures)))
    _check_count("columns", columns)
    _check_count("gap", gap, least=0)
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    _, height, width, _ = pictures.shape
    factor = max(1, min(8, _WIDTH // (columns * width)))
    pictures = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = height * factor, width * factor
    gap *= max(1, factor // 2)
    grid = np.zeros(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 4), "uint8"
    )
    for index, picture in enumerate(pictures):
        top = index // columns * (height + gap)
        left = index % columns * (width + gap)
        grid[top : top + height, left : left + width] = picture
    return Image.fromarray(grid)


def reconstructions(
    originals: np.ndarray, *reconstructions: np.ndarray, columns: int = 8
) -> Image.Image:
    """Rows of originals, each with the row of its reconstructions below.

    Args:
        originals: `(pictures, height, width, channels)`.
        *reconstructions: Arrays of the same shape, a row each.
        columns: Pictures per row.

    Returns:
        A PIL image.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_count("columns", columns)
    shapes = [np.shape(pictures) for pictures in (originals, *reconstructions)]
    if len({*shapes}) > 1:
        raise ValueError(
            "`originals` and `reconstructions` must have one shape. Received: "
            + " and ".join(map(str, shapes))
        )
    each = [_rgba(pictures) for pictures in (originals, *reconstructions)]
    columns = min(columns, len(originals))
    rows = []
    for start in range(0, len(originals), columns):
        for pictures in each:
            row = pictures[start : start + columns]
            blank = np.zeros((columns - len(row), *row.shape[1:]), "uint8")
            rows += [row, blank]
    return sheet(np.concatenate(rows), columns=columns)


def labelled(blocks: Mapping[str, Mapping[str, np.ndarray]]) -> Image.Image:
    """Rows of pictures with their names beside them, in blocks under headings.

    Args:
        blocks: Rows by name, by heading. A row is `(pictures, height, width, channels)`
            or `(pictures, height, width)`, all of one size and as many, as for `sheet`.

    Returns:
        A PIL image on a transparent ground.

    Raises:
        ValueError: If rows are of different shapes, or there are none.

    Example:

    ```python
    faces = {"held back": test[:8], "VAE": vae.reconstruct(test[:8])}
    keras_ae.plots.labelled({"Reconstructions": faces}).save("faces.png")
    ```
    """
    shapes = {np.shape(row) for rows in blocks.values() for row in rows.values()}
    if len(shapes) != 1:
        raise ValueError(
            "Rows must have one shape, (pictures, height, width, channels). Received: "
            f"{sorted(shapes) or 'no rows'}"
        )
    sheets = {
        (heading, name): sheet(row, columns=len(row))
        for heading, rows in blocks.items()
        for name, row in rows.items()
    }
    width, height = next(iter(sheets.values())).size
    size = 16
    font, bold = ImageFont.load_default(size), ImageFont.load_default(size + 3)
    left = 16 + math.ceil(max(font.getlength(name) for _, name in sheets))
    gap, above = 3, 2 * size
    canvas = Image.new(
        "RGBA",
        (
            left + width,
            len(sheets) * (height + gap) + len(blocks) * above + (len(blocks) - 1) * 8,
        ),
    )
    draw = ImageDraw.Draw(canvas)
    top, last = 0, None
    for (heading, name), row in sheets.items():
        if heading != last:
            top += 0 if last is None else 8
            draw.text((left, top + above / 2), heading, _INK, bold, anchor="lm")
            top, last = top + above, heading
        draw.text((left - 12, top + height / 2), name, _INK, font, anchor="rm")
        canvas.paste(row, (left, top))
        top += height + gap
    return canvas


def highlighted(images: np.ndarray, maps: np.ndarray, full: float = 8.0) -> np.ndarray:
    """Lays a colour over pictures where a map is high.

    Args:
        images: As for `sheet`.
        maps: How much each place, or each value, stands out, of the shape of `images`
            or without the last axis, such as `AnomalyDetector.anomaly_map` gives; of
            the channels the mean counts.
        full: From here on the colour covers the picture; none of it at 0.

    Returns:
        Pictures `(pictures, height, width, 3)`, integers 0-255: grey, and red where
        the map is high.

    Raises:
        ValueError: If the shapes don't fit.

    Example:

    ```python
    where = keras_ae.plots.highlighted(pictures, detector.anomaly_map(pictures))
    keras_ae.plots.sheet(where).save("where.png")
    ```
    """
    pictures = _rgba(images)[..., :3].mean(axis=-1, keepdims=True)
    maps = np.asarray(maps, "float32")
    if maps.ndim == 4:
        maps = maps.mean(axis=-1)
    if maps.shape != pictures.shape[:3]:
        raise ValueError(
            "`maps` must be of the shape of `images`. Received: arrays of shapes "
            f"{maps.shape} and {np.shape(images)}"
        )
    share = np.clip(maps / full, 0, 1)[..., None]
    # Dark enough for the colour to be seen on white.
    mixed = (1 - share) * 0.85 * pictures + share * np.array([255.0, 40.0, 0.0])
    return mixed.astype("uint8")


def interpolation(steps: np.ndarray) -> Image.Image:
    """Rows of pictures that turn one picture into another.

    Args:
        steps: `(pairs, steps, height, width, channels)`, or one pair without the
            first axis.

    Returns:
        A PIL image, one row a pair.
    """
    steps = np.asarray(steps)
    if steps.ndim == 4:
        steps = steps[None]
    return sheet(steps.reshape(-1, *steps.shape[2:]), columns=steps.shape[1])


def traversal(steps: np.ndarray) -> Image.Image:
    """One row a latent dimension, from its low end to its high end.

    Args:
        steps: `(dims, steps, height, width, channels)`, as `traverse` returns it.

    Returns:
        A PIL image.
    """
    return interpolation(steps)


def manifold(
    decode: Callable[[np.ndarray], np.ndarray],
    codes: np.ndarray | None = None,
    steps: int = 15,
) -> Image.Image:
    """What the codes of a two-dimensional latent space decode to, as a map.

    Each picture stands for about the same share of the codes: steps are equal in
    probability, so that the map is fine where codes are dense.

    Args:
        decode: Function from codes `(n, 2)` to pictures, `model.decode`.
        codes: Codes `(pictures, 2)`, such as those of data, by whose quantiles along
            each axis the grid is laid. By default it is laid by the quantiles of a
            standard normal prior.
        steps: Pictures along each axis.

    Returns:
        A PIL image; `z[0]` grows to the right, `z[1]` upwards.

    Raises:
        ValueError: If `codes` are not two-dimensional, or `steps` is below 1.

    Example:

    ```python
    keras_ae.plots.manifold(model.decode).save("manifold.png")
    ```

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014, figure 4
        (https://arxiv.org/abs/1312.6114).
    """
    _check_count("steps", steps)
    shares = (np.arange(steps) + 0.5) / steps
    if codes is None:
        right = up = np.array([NormalDist().inv_cdf(share) for share in shares])
    else:
        codes = np.asarray(codes, "float64")
        if codes.ndim != 2 or codes.shape[1] != 2 or not len(codes):
            raise ValueError(
                "`codes` must have shape (pictures, 2). Received: codes of shape "
                f"{codes.shape}"
            )
        right, up = np.quantile(codes, shares, axis=0).T
    # Rows of a sheet run downwards.
    grid = np.stack(np.meshgrid(right, up[::-1]), axis=-1)
    pictures = decode(grid.reshape(-1, 2).astype("float32"))
    return sheet(pictures, columns=steps, gap=0)


def filters(weights: np.ndarray) -> Image.Image:
    """Sheet of what units look for: zero is grey, each unit on a scale of its own.

    Args:
        weights: A unit's weights on the pixels a picture, `(units, height, width)` or
            `(units, height, width, channels)`.

    Returns:
        A PIL image, units in rows from left to right.
    """
    weights = np.asarray(weights, "float32")
    scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), initial=0)
    scale = np.maximum(scale, 1e-12).reshape(-1, *(1 for _ in weights.shape[1:]))
    return sheet(0.5 + 0.5 * weights / scale)


def _check_count(name, value, least=1):
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            f"`{name}` must be an integer >= {least}. Received: {name}={value!r}"
        )


def _rgba(images):
    """Pictures as uint8 RGBA, `(pictures, height, width, 4)`."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.size == 0:
        raise ValueError(
            "Expected at least one picture, of shape (pictures, height, width, "
            f"channels). Received: an array of shape {images.shape}"
        )
    if images.dtype.kind in "iu":
        images = np.clip(images, 0, 255).astype("uint8")
    else:
        images = np.nan_to_num(images.astype("float32"), nan=0.0)
        images = np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype("uint8")
    channels = images.shape[-1]
    if channels == 4:
        return images
    if channels != 3:
        images = images[..., :1].repeat(3, axis=-1)
    return np.concatenate([images, np.full_like(images[..., :1], 255)], axis=-1)
