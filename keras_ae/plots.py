"""Arrays in, picture out.

Sheets are PIL images, pixel for pixel; figures are matplotlib figures on a
transparent ground in a grey that reads on light and dark pages alike.
"""

from __future__ import annotations

import colorsys
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#808488"
_COLOURS = (
    "#3b8ede",
    "#e07b39",
    "#35a876",
    "#c65bb0",
    "#c9a227",
    "#8d72d6",
    "#d9534f",
    "#2ba6b8",
    "#8a9a3b",
    "#b07d62",
)
# Ten more, when there are as many classes.
_CLASSES = (
    *_COLOURS,
    "#2860a6",
    "#a04c1a",
    "#86d9ae",
    "#953a85",
    "#e3c766",
    "#b9a8ee",
    "#f2a3a0",
    "#7fd6e2",
    "#66752a",
    "#84523d",
)
# More classes than these are one grey "others" beyond the most frequent.
_MOST_CLASSES = 60
_SCALE = ("#3b6fe0", "#b05fc4", "#f08a3c")
# A sheet of small pictures is enlarged (by whole pixels) to about this width.
_WIDTH = 640
# Longer side of a picture on a map, and the width of its frame, in pixels.
_THUMBNAIL = 64
_FRAME = 3


def picture(image: np.ndarray) -> Image.Image:
    """One picture, pixel for pixel.

    Args:
        image: `(height, width, channels)` or `(height, width)`, as for `sheet`.

    Returns:
        A PIL image.
    """
    image = np.asarray(image)
    grey = image.ndim == 2 or image.shape[-1] == 1
    shown = Image.fromarray(_rgba(image[None])[0])
    return shown if image.shape[-1] == 4 else shown.convert("L" if grey else "RGB")


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
    if columns < 1:
        raise ValueError(f"`columns` must be >= 1. Received: columns={columns}")
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
    originals: np.ndarray, reconstructions: np.ndarray, columns: int = 8
) -> Image.Image:
    """Rows of originals, each with the row of its reconstructions below.

    Args:
        originals: `(pictures, height, width, channels)`.
        reconstructions: Array of the same shape.
        columns: Pictures per row.

    Returns:
        A PIL image.

    Raises:
        ValueError: If the shapes differ.
    """
    if originals.shape != reconstructions.shape:
        raise ValueError(
            "`originals` and `reconstructions` must have one shape. Received: "
            f"{originals.shape} and {reconstructions.shape}"
        )
    above, below = _rgba(originals), _rgba(reconstructions)
    columns = min(columns, len(above))
    rows = []
    for start in range(0, len(above), columns):
        for pictures in (above, below):
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
    if steps < 1:
        raise ValueError(f"`steps` must be >= 1. Received: steps={steps}")
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


def codebook_usage(tokens: np.ndarray, num_codes: int, codebooks: int = 1) -> Figure:
    """How often each code of a codebook is used, the commonest first.

    Args:
        tokens: Integers from 0 to below `num_codes`, of any shape, as `model.tokens`
            returns them.
        num_codes: Codes in a codebook.
        codebooks: Number of codebooks; of several the tokens lie along the last axis.

    Returns:
        A matplotlib figure. Its legend has for each codebook the share of the codes in
        use, and the perplexity: as many codes, all used alike, would have the same
        entropy.

    Raises:
        ValueError: If there are no tokens, one is out of range, or the last axis does
            not hold one for each codebook.

    Example:

    ```python
    keras_ae.plots.codebook_usage(model.tokens(test), model.num_codes)
    ```
    """
    tokens = np.asarray(tokens)
    if tokens.dtype.kind not in "iu" or not tokens.size:
        raise ValueError(
            "`tokens` must be integers, at least one. Received: an array of dtype "
            f"{tokens.dtype} and shape {tokens.shape}"
        )
    if tokens.min() < 0 or tokens.max() >= num_codes:
        raise ValueError(
            f"`tokens` must be from 0 to {num_codes - 1}. Received: tokens from "
            f"{tokens.min()} to {tokens.max()}"
        )
    if codebooks < 1 or (codebooks > 1 and tokens.shape[-1] != codebooks):
        raise ValueError(
            "`codebooks` must be 1, or as many as `tokens` has along its last axis. "
            f"Received: codebooks={codebooks}, tokens of shape {tokens.shape}"
        )
    figure, axes = _figure(6.0, 3.6)
    edges = np.arange(num_codes + 1) + 0.5
    for number, book in enumerate(tokens.reshape(-1, codebooks).T):
        shares = np.bincount(book, minlength=num_codes) / len(book)
        used = shares[shares > 0]
        perplexity = np.exp(-np.sum(used * np.log(used)))
        name = f"codebook {number + 1}: " if codebooks > 1 else ""
        axes.stairs(
            100 * np.sort(shares)[::-1],
            edges,
            fill=codebooks == 1,
            color=_CLASSES[number % len(_CLASSES)],
            linewidth=1.6,
            label=f"{name}{len(used):,} of {num_codes:,} codes in use, "
            f"perplexity {perplexity:.4g}",
        )
    axes.axhline(
        100 / num_codes, color=_INK, linestyle="--", linewidth=1.2, label="all alike"
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("codes, the commonest first", color=_INK)
    axes.set_ylabel("share of the tokens in %", color=_INK)
    _legend(axes)
    return figure


def filters(weights: np.ndarray) -> Image.Image:
    """Sheet of what units look for: zero is grey, each unit on a scale of its own.

    Args:
        weights: A unit's weights on the pixels a picture, `(units, height, width)` or
            `(units, height, width, channels)`.

    Returns:
        A PIL image, units in rows from left to right.
    """
    weights = np.asarray(weights, "float32")
    scale = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    scale = np.maximum(scale, 1e-12).reshape(-1, *(1 for _ in weights.shape[1:]))
    return sheet(0.5 + 0.5 * weights / scale)


def error_bars(
    x: Sequence[float],
    curves: Mapping[str, np.ndarray],
    x_name: str,
    y_name: str,
) -> Figure:
    """Curves of repeated measurements: their means, with their standard deviations.

    Args:
        x: Where was measured; the axis is logarithmic where positive values span more
            than a decade.
        curves: Measurements `(repeats, len(x))` by the curve's name.
        x_name: What `x` is.
        y_name: What was measured.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If a curve has another number of points than `x`.
    """
    figure, axes = _figure(6.0, 4.0)
    for (name, values), colour in zip(curves.items(), _COLOURS, strict=False):
        values = np.atleast_2d(np.asarray(values, "float64"))
        if values.shape[1] != len(x):
            raise ValueError(
                f"The curve {name!r} must have {len(x)} points, as `x`. Received: an "
                f"array of shape {values.shape}"
            )
        axes.errorbar(
            x,
            values.mean(axis=0),
            values.std(axis=0, ddof=1) if len(values) > 1 else None,
            color=colour,
            label=_plain(name),
            marker="o",
            markersize=4,
            capsize=3,
        )
    if min(x) > 0 and max(x) > 10 * min(x):
        axes.set_xscale("log")
    axes.set_xticks(list(x), [f"{value:,}" for value in x])
    axes.minorticks_off()
    if min(np.min(values) for values in curves.values()) >= 0:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x_name, color=_INK)
    axes.set_ylabel(y_name, color=_INK)
    _legend(axes)
    return figure


def latent_map(
    codes: np.ndarray,
    labels: np.ndarray | None = None,
    label_name: str | None = None,
    *,
    images: np.ndarray | None = None,
    method: str = "auto",
    seed: int = 0,
) -> Figure:
    """Scatter of codes in two dimensions, coloured by label, with small pictures.

    Args:
        codes: `(pictures, latent_dim)`.
        labels: One value a picture, for colour. Up to sixty different strings,
            booleans, up to twenty different integers and up to ten different floats
            are shown as classes, more numbers as a scale. Pictures of rarer strings
            and of NaN are grey.
        label_name: What the labels are, for the legend.
        images: The pictures of the codes, as for `sheet`. As many as have room are
            drawn where their codes lie, spread out, framed in their colour.
        method: How codes come to two dimensions: `"pca"` (their two leading principal
            axes), `"tsne"` (needs scikit-learn), `"umap"` (needs umap-learn), or
            `"auto"`: codes of one or two dimensions as they are, others by PCA.
        seed: Seed of t-SNE and UMAP, which begin from the principal axes.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If `codes` is not two-dimensional or not finite, `labels` or
            `images` are of another number, `method` is unknown, or there are fewer
            than four codes for t-SNE or UMAP.
        ImportError: If the package that the method needs is not installed.

    Example:

    ```python
    figure = keras_ae.plots.latent_map(model.encode(test), digits, "digit", images=test)
    figure.savefig("map.png")
    ```

    Reference:
        van der Maaten and Hinton 2008, "Visualizing Data using t-SNE";
        McInnes, Healy and Melville 2018, "UMAP" (https://arxiv.org/abs/1802.03426).
    """
    codes = np.asarray(codes, "float64")
    if codes.ndim != 2 or codes.size == 0:
        raise ValueError(
            "`codes` must have shape (pictures, latent_dim). Received: codes of shape "
            f"{codes.shape}"
        )
    if not np.isfinite(codes).all():
        raise ValueError("`codes` must be finite. Received: NaN or infinite values")
    if labels is not None and np.size(labels) != len(codes):
        raise ValueError(
            "`labels` must have one value a picture. Received: "
            f"{np.size(labels)} labels for {len(codes)} codes"
        )
    if images is not None and len(images) != len(codes):
        raise ValueError(
            "`images` must be the pictures of the codes. Received: "
            f"{len(images)} pictures for {len(codes)} codes"
        )
    points, names = _in_two_dimensions(codes, method, seed)
    figure, axes = _figure(6.0, 5.0) if images is None else _figure(7.6, 6.2)
    if labels is None:
        colours = np.tile(_rgb(_COLOURS[0]), (len(codes), 1))
    else:
        colours = _colour_by(figure, axes, np.ravel(labels), label_name)
    axes.scatter(*points.T, c=colours, s=9, alpha=0.7, linewidths=0)
    axes.set_xlabel(names[0], color=_INK)
    axes.set_ylabel(names[1], color=_INK)
    if method in _NEIGHBOURS:
        # Neither unit nor direction means anything.
        axes.tick_params(length=0, labelleft=False, labelbottom=False)
    if images is not None:
        axes.margins(0.06)
        _thumbnails(figure, axes, points, colours, images)
    return figure


def _in_two_dimensions(codes, method, seed):
    """Points `(pictures, 2)`, and what their two axes are."""
    methods = ("auto", "pca", *_NEIGHBOURS)
    if method not in methods:
        raise ValueError(
            f"`method` must be one of {', '.join(methods)}. Received: method={method!r}"
        )
    latent_dim = codes.shape[1]
    if method == "auto" and latent_dim <= 2:
        points = np.pad(codes, ((0, 0), (0, 2 - latent_dim)))
        return points, ["z[0]", "z[1]" if latent_dim == 2 else ""]
    centred = codes - codes.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    points = centred @ directions.T
    # A single code, or codes of one dimension, have fewer axes than the figure.
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    if method in _NEIGHBOURS:
        if len(codes) < 4:
            raise ValueError(
                f"`method={method!r}` needs at least 4 pictures. Received: {len(codes)}"
            )
        # From the principal axes, that the map at large means something; the noise
        # parts what would begin, and stay, in one place or on one line.
        start = points / max(points[:, 0].std(), 1e-12)
        start += np.random.default_rng(seed).normal(0, 0.01, start.shape)
        points = _NEIGHBOURS[method](codes, start, seed)
        name = {"tsne": "t-SNE", "umap": "UMAP"}[method]
        return points, [f"{name} of {latent_dim} dimensions", ""]
    shares = points.var(axis=0) / max(centred.var(axis=0).sum(), 1e-12)
    return points, [
        f"principal axis {index + 1} ({share:.0%} of the variance)"
        for index, share in enumerate(shares)
    ]


def _tsne(codes, start, seed):
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError as error:
        raise ImportError(
            "t-SNE needs scikit-learn; `pip install scikit-learn` brings it."
        ) from error
    # Begun small, as its authors do: far points would never come together.
    start = (1e-4 * start).astype("float32")
    perplexity = min(30.0, (len(codes) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init=start, random_state=seed)
    # Its threads sum in no fixed order, and on a busy machine they spend minutes
    # waiting for each other where one needs seconds.
    with threadpool_limits(1, user_api="openmp"):
        return tsne.fit_transform(codes)


def _umap(codes, start, seed):
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(
            "UMAP needs umap-learn; `pip install umap-learn` brings it."
        ) from error
    neighbours = min(15, len(codes) - 1)
    # It repeats itself in one thread only.
    umap = UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
    return umap.fit_transform(codes)


_NEIGHBOURS = {"tsne": _tsne, "umap": _umap}


def _colour_by(figure, axes, labels, label_name):
    """Colours of pictures, `(pictures, 3)`, and the legend or scale that explains."""
    numbers = labels.dtype.kind in "iuf"
    known = np.isfinite(labels) if numbers else np.ones(len(labels), bool)
    if not numbers and labels.dtype != bool:
        labels = np.array([str(label) or "(none)" for label in labels])
    values, counts = np.unique(labels[known], return_counts=True)
    colours = np.tile(_rgb(_INK), (len(labels), 1))
    if numbers and len(values) > (10 if labels.dtype.kind == "f" else len(_CLASSES)):
        colours[known] = _scale(figure, axes, labels[known], label_name)
        return colours
    if len(values) > _MOST_CLASSES:
        # The rest stay grey, under one name.
        common = np.argsort(-counts, kind="stable")[:_MOST_CLASSES]
        others, values = len(values) - len(common), values[np.sort(common)]
        rest = [(f"{others} others", _INK)]
    else:
        rest = [] if known.all() else [("unknown", _INK)]
    entries = []
    for value, colour in zip(values, _class_colours(len(values)), strict=True):
        colours[labels == value] = _rgb(colour)
        name = str(value)
        short = name if len(name) <= 24 else f"{name[:12]}…{name[-11:]}"
        entries.append((_plain(short), colour))
    _class_legend(axes, [*entries, *rest], label_name and _plain(label_name))
    return colours


def _plain(text):
    """Text without what matplotlib reads as mathematics."""
    return text.replace("$", r"\$")


def _class_colours(count):
    """A colour for each of so many classes."""
    if count <= len(_CLASSES):
        return _CLASSES[:count]
    # Neighbours in the list are far apart in hue, and differ in lightness.
    golden = (5**0.5 - 1) / 2
    return [
        colorsys.hls_to_rgb(index * golden % 1, (0.4, 0.65, 0.52)[index % 3], 0.65)
        for index in range(count)
    ]


def _class_legend(axes, entries, title):
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colour, label=name)
        for name, colour in entries
    ]
    # Beside the map, where it hides nothing.
    place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    _legend(
        axes,
        handles=handles,
        title=title,
        alignment="left",
        handletextpad=0.2,
        columnspacing=0.8,
        ncols=-(-len(handles) // 21),
        **place,
    )


def _scale(figure, axes, values, label_name):
    """Colours of numbers, `(pictures, 3)`; draws the bar that says which is which."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.ticker import MaxNLocator

    # Neither end vanishes on a light or a dark page.
    colours = LinearSegmentedColormap.from_list("scale", _SCALE)
    scale = ScalarMappable(Normalize(values.min(), values.max()), colours)
    ticks = MaxNLocator(integer=True) if values.dtype.kind in "iu" else None
    bar = figure.colorbar(scale, ax=axes, ticks=ticks)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=_INK)
    bar.set_label(_plain(label_name or ""), color=_INK)
    return scale.to_rgba(values)[:, :3]


def _rgb(colour):
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _thumbnails(figure, axes, points, colours, images):
    """Draws as many pictures as have room where their codes lie."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    # Settles the layout, and with it where the points are on the page.
    figure.draw_without_rendering()
    pixels = axes.transData.transform(points)
    size = _thumbnail(images[:1]).shape
    room = 1.3 * (np.array([size[1], size[0]]) + 2 * _FRAME)
    for index in _spread_out(pixels / room):
        small = _thumbnail(images[index : index + 1])
        framed = np.empty((size[0] + 2 * _FRAME, size[1] + 2 * _FRAME, 4), "uint8")
        framed[:] = [*np.rint(255 * colours[index]), 255]
        framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = small
        # One pixel of the picture is one of the figure's.
        box = OffsetImage(framed, zoom=72 / figure.dpi)
        drawn = AnnotationBbox(box, points[index], frameon=False, pad=0)
        drawn.set_in_layout(False)
        axes.add_artist(drawn)


def _thumbnail(images):
    """The first picture as uint8 RGBA, its longer side about 64 pixels long."""
    pixels = _rgba(images)[0]
    height, width = pixels.shape[:2]
    factor = _THUMBNAIL / max(height, width)
    if factor >= 1:
        return pixels.repeat(int(factor), axis=0).repeat(int(factor), axis=1)
    shape = [max(1, round(factor * side)) for side in (width, height)]
    return np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.LANCZOS))


def _spread_out(points):
    """Indices of points that are 1 or more apart along one of the axes.

    Each is the one farthest from those before it, so that they reach everywhere and
    leave no room for another.
    """
    distance = np.abs(points - np.median(points, axis=0)).max(axis=1)
    nearest = np.full(len(points), np.inf)
    chosen = [int(distance.argmin())]
    while True:
        to_last = np.abs(points - points[chosen[-1]]).max(axis=1)
        nearest = np.minimum(nearest, to_last)
        farthest = int(nearest.argmax())
        if nearest[farthest] < 1:
            return chosen
        chosen.append(farthest)


def loss_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Curves of a training, one panel a term: training dashed, validation solid.

    Values so wild that they would flatten the rest of a long curve leave the panel; an
    arrow says how far.

    Args:
        history: Lists of values by name, as `fit(...).history` holds them;
            `"val_..."` names the validation value of a term. The loss has the first
            panel, the others follow in order.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If `history` holds no epoch.
    """
    names = [
        name
        for name, values in history.items()
        if len(values) and not name.startswith("val_")
    ]
    if not names:
        raise ValueError("`history` must hold at least one epoch. Received: none")
    names.sort(key=lambda name: name != "loss")
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, panels = _figure(3.4 * columns + 0.4, 2.4 * rows + 0.4, rows, columns)
    panels = np.atleast_1d(panels).ravel()
    epochs = max(len(history[name]) for name in names)
    handles = {}
    for panel, name in zip(panels, names, strict=False):
        curves = [("training", history[name], "--", _COLOURS[1])]
        if f"val_{name}" in history:
            curves.append(("validation", history[f"val_{name}"], "-", _COLOURS[0]))
        for label, values, dashes, colour in curves:
            values = np.asarray(values, "float64")
            x = np.arange(1, len(values) + 1)
            (handles[label],) = panel.plot(
                x, values, dashes, color=colour, label=label, lw=1.6
            )
            # No line reaches a value between two that are not finite.
            alone = _alone(values)
            panel.scatter(x[alone], values[alone], s=9, color=colour)
        panel.set_title(name.replace("_", " "), color=_INK, fontsize=10)
        panel.set_xlim(0.5, epochs + 0.5)
        panel.xaxis.get_major_locator().set_params(integer=True)
        _focus(panel)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(names) - columns) : len(names)]:
        panel.set_xlabel("epoch", color=_INK)
    # Above the panels, where it hides no curve.
    _legend(figure, handles=[*handles.values()], loc="outside upper left", ncols=2)
    return figure


def throughput(
    speeds: Mapping[str, Mapping[str, Sequence[float]]],
    losses: Mapping[str, Mapping[str, Sequence[float]]],
    title: str = "",
) -> Figure:
    """Bars of pictures a second, and curves of the losses that were reached.

    Args:
        speeds: Measurements of what was trained, by how it was trained: a bar as long
            as their median, with a line from the least to the greatest.
        losses: Losses by epoch, by the same names: a panel for each thing trained. With
            none, there are only bars.
        title: What all have in common.

    Returns:
        A matplotlib figure.
    """
    hows = dict.fromkeys(how for bars in speeds.values() for how in bars)
    styles = dict(zip(hows, itertools.cycle(_COLOURS), strict=False))
    markers = dict(zip(hows, itertools.cycle("osD^v<>p"), strict=False))
    # A heading takes the room of a bar.
    count = sum(len(bars) + (len(hows) > 1) for bars in speeds.values())
    columns = min(3, len(losses))
    rows = math.ceil(len(losses) / columns) if losses else 1
    width = 6.0 + 2.3 * columns
    figure = _empty(width, max(0.22 * count, 1.7 * rows, 1.6) + 0.9)
    title = textwrap.fill(title, int(13 * width))
    figure.suptitle(title, color=_INK, fontsize=10)
    grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[2, *[1] * columns])
    _draw_bars(figure.add_subplot(grid[:, 0]), speeds, styles)
    for place, (what, curves) in enumerate(losses.items()):
        panel = figure.add_subplot(grid[place // columns, 1 + place % columns])
        for how, values in curves.items():
            values = np.asarray(values, "float64")
            panel.plot(
                np.arange(1, len(values) + 1),
                values,
                color=styles[how],
                marker=markers[how],
                markerfacecolor="none",
                markersize=4,
                linewidth=1.2,
            )
        panel.set_title(f"{what}, loss", color=_INK, fontsize=9)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.ticklabel_format(axis="y", useOffset=False)
        if place + columns >= len(losses):
            panel.set_xlabel("epoch", color=_INK, fontsize=8)
        _style(panel)
    return figure


def _draw_bars(axes, speeds, styles):
    """Draws bars from above, under a heading of what they are where that is needed."""
    # Without several ways to train there is one bar of each, in order of speed.
    headed = len(styles) > 1
    if not headed:
        speeds = dict(sorted(speeds.items(), key=lambda item: -_middle(item[1])))
    ticks, y = {}, 0
    for what, bars in speeds.items():
        if headed:
            ticks[y] = what
            y -= 1
        for how, values in sorted(bars.items(), key=lambda item: -np.median(item[1])):
            middle = np.median(values)
            reach = [[middle - min(values)], [max(values) - middle]]
            axes.barh(y, middle, 0.75, color=styles[how])
            if len(values) > 1:
                axes.errorbar(middle, y, xerr=reach, color=_INK, lw=1.2, capsize=2)
            axes.annotate(
                f"{middle:,.0f}",
                (max(values), y),
                xytext=(5, 0),
                textcoords="offset points",
                color=_INK,
                fontsize=8,
                va="center",
            )
            ticks[y] = how if headed else what
            y -= 1
    _style(axes)
    axes.grid(axis="y", visible=False)
    axes.set_yticks([*ticks], [*ticks.values()])
    axes.tick_params(axis="y", length=0)
    if headed:
        for label in axes.get_yticklabels():
            label.set_fontweight("bold" if label.get_text() in speeds else "normal")
    axes.set_ylim(y + 0.4, 0.6)
    axes.margins(x=0.15)
    axes.set_xlabel("pictures a second", color=_INK, fontsize=8)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _middle(bars):
    """Median of the measurements of a single bar."""
    return float(np.median([*bars.values()]))


def _alone(values):
    """Whether a value is finite and its neighbours are not."""
    finite = np.pad(np.isfinite(values), 1)
    return finite[1:-1] & ~finite[:-2] & ~finite[2:]


def _focus(panel):
    """Keeps a few wild epochs from flattening the rest of long curves."""
    points = np.concatenate([line.get_xydata() for line in panel.lines])
    points = points[np.isfinite(points[:, 1])]
    if not len(points):
        middle = {"ha": "center", "va": "center", "transform": panel.transAxes}
        panel.text(0.5, 0.5, "never finite", color=_INK, fontsize=9, **middle)
        panel.set_yticks([])
        return
    values = points[:, 1]
    bottom, top = values.min(), values.max()
    low, high = np.percentile(values, [3, 97])
    reach = 2 * (high - low)
    if len(values) < 20 or not reach:
        return
    if top > high + reach:
        _tell_wild(panel, points[values.argmax()], "↑", 0.99, "top")
        top = high
    if bottom < low - reach:
        _tell_wild(panel, points[values.argmin()], "↓", 0.01, "bottom")
        bottom = low
    margin = 0.08 * (top - bottom)
    panel.set_ylim(bottom - margin, top + margin)


def _tell_wild(panel, point, arrow, height, aligned):
    epoch, value = point
    early = epoch < sum(panel.get_xlim()) / 2
    panel.annotate(
        f"{arrow} {value:.3g}",
        (epoch, height),
        xycoords=panel.get_xaxis_transform(),
        # Beside the curve that leaves the panel there.
        xytext=(14 if early else -8, 0),
        textcoords="offset points",
        color=_INK,
        fontsize=8,
        ha="left" if early else "right",
        va=aligned,
    )


def _figure(width, height, rows=1, columns=1):
    figure = _empty(width, height)
    axes = figure.subplots(rows, columns)
    for panel in np.atleast_1d(axes).ravel():
        _style(panel)
    return figure, axes


def _empty(width, height):
    # `Figure` rather than pyplot: no global state, no window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.patch.set_alpha(0)
    return figure


def _style(panel):
    panel.patch.set_alpha(0)
    panel.tick_params(colors=_INK, labelsize=8)
    panel.grid(color=_INK, alpha=0.25, linewidth=0.5)
    panel.set_axisbelow(True)
    for name, spine in panel.spines.items():
        spine.set_color(_INK)
        spine.set_visible(name in ("left", "bottom"))


def _legend(axes, **arguments):
    legend = axes.legend(
        frameon=False, labelcolor=_INK, fontsize=8, title_fontsize=8, **arguments
    )
    legend.get_title().set_color(_INK)


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
