"""Arrays in, picture out.

Sheets are PIL images, pixel for pixel; figures are matplotlib figures on a
transparent ground in a grey that reads on light and dark pages alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

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
_SCALE = ("#3b6fe0", "#b05fc4", "#f08a3c")
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


def latent_map(
    codes: np.ndarray,
    labels: np.ndarray | None = None,
    label_name: str | None = None,
) -> Figure:
    """Scatter of codes, on their two leading principal axes when they have more.

    Args:
        codes: `(pictures, latent_dim)`.
        labels: One value a picture, for colour: up to ten different ones are shown
            as classes, more as a scale.
        label_name: What the labels are, for the legend.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If `codes` is not two-dimensional, or `labels` has another length.
    """
    codes = np.asarray(codes, "float64")
    if codes.ndim != 2 or codes.size == 0:
        raise ValueError(
            "`codes` must have shape (pictures, latent_dim). Received: codes of shape "
            f"{codes.shape}"
        )
    if labels is not None and len(labels) != len(codes):
        raise ValueError(
            "`labels` must have one value a picture. Received: "
            f"{len(labels)} labels for {len(codes)} codes"
        )
    if codes.shape[1] > 2:
        centred = codes - codes.mean(axis=0)
        axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
        points = centred @ axes.T
        # A single code has fewer axes than the figure.
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
        shares = points.var(axis=0) / max(centred.var(axis=0).sum(), 1e-12)
        names = [
            f"principal axis {index + 1} ({share:.0%} of the variance)"
            for index, share in enumerate(shares)
        ]
    else:
        points = np.hstack([codes, np.zeros((len(codes), 2 - codes.shape[1]))])
        names = ["z[0]", "z[1]" if codes.shape[1] == 2 else ""]
    figure, axes = _figure(6.0, 5.0)
    style = {"s": 9, "alpha": 0.7, "linewidths": 0}
    classes = [] if labels is None else np.unique(labels)
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], color=_COLOURS[0], **style)
    elif len(classes) <= len(_COLOURS):
        for value, colour in zip(classes, _COLOURS, strict=False):
            chosen = np.asarray(labels) == value
            axes.scatter(*points[chosen].T, color=colour, label=str(value), **style)
        _legend(axes, title=label_name, markerscale=2)
    else:
        from matplotlib.colors import LinearSegmentedColormap

        # Neither end vanishes on a light or a dark page.
        scale = LinearSegmentedColormap.from_list("scale", _SCALE)
        drawn = axes.scatter(*points.T, c=np.asarray(labels), cmap=scale, **style)
        bar = figure.colorbar(drawn, ax=axes)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=_INK)
        bar.set_label(label_name or "", color=_INK)
        bar.solids.set_alpha(1)
    axes.set_xlabel(names[0], color=_INK)
    axes.set_ylabel(names[1], color=_INK)
    return figure


def loss_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Curves of a training, one panel a term: training dashed, validation solid.

    Args:
        history: Lists of values by name, as `fit(...).history` holds them;
            `"val_..."` names the validation value of a term.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If `history` holds no epoch.
    """
    names = [name for name in history if not name.startswith("val_") and history[name]]
    if not names:
        raise ValueError("`history` must hold at least one epoch. Received: none")
    # Keras logs in alphabetical order; what training minimises comes first here.
    names.sort(key=lambda name: name != "loss")
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, panels = _figure(3.4 * columns + 0.4, 2.7 * rows, rows, columns)
    panels = np.atleast_1d(panels).ravel()
    for panel, name in zip(panels, names, strict=False):
        curves = [("training", history[name], "--", _COLOURS[1])]
        if f"val_{name}" in history:
            curves.append(("validation", history[f"val_{name}"], "-", _COLOURS[0]))
        for label, values, dashes, colour in curves:
            epochs = np.arange(1, len(values) + 1)
            marker = "o" if len(values) == 1 else None
            panel.plot(
                epochs, values, dashes, color=colour, label=label, lw=1.6, marker=marker
            )
        panel.set_title(name, color=_INK, fontsize=10)
        panel.xaxis.get_major_locator().set_params(integer=True)
        _focus(panel, [values for _, values, _, _ in curves])
    _legend(panels[0])
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(names) - columns) : len(names)]:
        panel.set_xlabel("epoch", color=_INK)
    return figure


def _focus(panel, curves):
    """Keeps a wild first epoch from flattening the rest of a long curve."""
    values = np.concatenate([np.asarray(curve, "float64") for curve in curves])
    values = values[np.isfinite(values)]
    if len(values) < 20:
        return
    low, high = values.min(), np.percentile(values, 97)
    if high > low and values.max() > high + 2 * (high - low):
        panel.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))


def _figure(width, height, rows=1, columns=1):
    # `Figure` rather than pyplot: no global state, no window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(rows, columns)
    for panel in np.atleast_1d(axes).ravel():
        panel.patch.set_alpha(0)
        panel.tick_params(colors=_INK, labelsize=8)
        panel.grid(color=_INK, alpha=0.25, linewidth=0.5)
        panel.set_axisbelow(True)
        for name, spine in panel.spines.items():
            spine.set_color(_INK)
            spine.set_visible(name in ("left", "bottom"))
    return figure, axes


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
