"""Curves and bars of what was measured."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_ae.plots.sheets import _INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        ValueError: If a curve has another number of points than `x`, or there is none.
    """
    if not curves or not len(x):
        raise ValueError("`curves` must hold at least one point. Received: none")
    figure, axes = _figure(6.0, 4.0)
    for (name, values), colour in zip(curves.items(), itertools.cycle(_COLOURS)):
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


def histogram(
    values: Mapping[str, np.ndarray],
    x_name: str,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """How values of several kinds are distributed, one outline each.

    Args:
        values: Values `(n,)` by the name of their kind; infinite ones are counted in
            the last bar.
        x_name: What they are.
        marks: Values to mark by a line, by name.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If there are no values.
    """
    kinds = {name: np.asarray(found, "float64") for name, found in values.items()}
    whole = np.concatenate([*kinds.values()]) if kinds else np.empty(0)
    whole = whole[np.isfinite(whole)]
    if not len(whole):
        raise ValueError("`values` must hold finite values. Received none.")
    # What lies far out would leave one bar for all others.
    low, high = np.quantile(whole, [0.005, 0.995])
    for mark in (marks or {}).values():
        low, high = min(low, mark), max(high, mark)
    space = 0.05 * (high - low) or 1.0
    edges = np.linspace(low - space, high + space, 51)
    figure, axes = _figure(7.0, 3.4)
    for (name, found), colour in zip(kinds.items(), itertools.cycle(_COLOURS)):
        inside = np.clip(found, edges[0], edges[-1])
        axes.hist(
            inside,
            edges,
            weights=np.full(len(found), 100 / max(len(found), 1)),
            histtype="step",
            linewidth=1.5,
            color=colour,
            label=f"{_plain(name)}, {len(found):,}",
        )
    for name, mark in (marks or {}).items():
        axes.axvline(mark, color=_INK, linestyle="--", linewidth=1.2, label=name)
    axes.set_xlabel(f"{x_name} (what lies outside is in the last bars)", color=_INK)
    axes.set_ylabel("share in %", color=_INK)
    _legend(axes)
    return figure


def _plain(text):
    """Text without what matplotlib reads as mathematics."""
    return text.replace("$", r"\$")


def loss_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Curves of a training, one panel a term: training dashed, validation solid.

    A learning rate has a panel where it changed. Values so wild that they would flatten
    the rest of a long curve leave the panel; an arrow says how far.

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
        if len(values)
        and not name.startswith("val_")
        # A rate that stayed what it was is no curve.
        and not (name == "learning_rate" and np.ptp(values) == 0)
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
    # Not pyplot: no global state, no window system.
    from keras_ae.plots.figures import ShownFigure

    figure = ShownFigure(figsize=(width, height), dpi=150, layout="constrained")
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
