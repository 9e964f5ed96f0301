"""Maps of codes."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from keras_ae.plots.curves import _CLASSES, _COLOURS, _figure, _legend, _plain
from keras_ae.plots.sheets import _INK, _rgba

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# More classes than these are one grey "others" beyond the most frequent.
_MOST_CLASSES = 60
_SCALE = ("#3b6fe0", "#b05fc4", "#f08a3c")
# Longer side of a picture on a map, and the width of its frame, in pixels.
_THUMBNAIL = 64
_FRAME = 3


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
    labels = None if labels is None else np.asarray(labels)
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
