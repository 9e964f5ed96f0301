"""Distributions of points in a plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ae.plots.curves import _COLOURS, _figure
from keras_ae.plots.sheets import _INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plane(panels: Mapping[str, Any], span: float) -> Figure:
    """Points, Gaussians and densities of a plane, a square panel each.

    Args:
        panels: By their titles, points `(n, 2)`; a pair of the means `(n, 2)` and the
            standard deviations `(n, 2)` or covariances `(n, 2, 2)` of Gaussians, drawn
            as ellipses of one standard deviation; or a density `(rows, columns)` on a
            regular grid from -`span` to `span`, y upwards.
        span: The plane is shown from -`span` to `span`, > 0.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If a panel is none of these.

    Example:

    ```python
    keras_ae.plots.plane({"data": x, "Gaussians": (mean, scale)}, span=3.0)
    ```
    """
    figure, axes = _figure(3.2 * len(panels), 3.4, 1, len(panels))
    for panel, (title, what) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        panel.set_title(title, color=_INK, fontsize=9)
        panel.set_aspect("equal")
        panel.set_xlim(-span, span)
        panel.set_ylim(-span, span)
        if isinstance(what, tuple):
            _draw_ellipses(panel, *map(np.asarray, what))
            continue
        what = np.asarray(what)
        if what.ndim == 2 and what.shape[1] == 2:
            panel.plot(*what.T, ".", color=_COLOURS[0], markersize=1.5, alpha=0.5)
        elif what.ndim == 2:
            extent = (-span, span, -span, span)
            panel.imshow(what, "magma", origin="lower", extent=extent)
            panel.grid(False)
        else:
            raise ValueError(
                "A panel must be points (n, 2), a pair of means and standard "
                f"deviations, or a density (rows, columns). Received: {title!r} of "
                f"shape {what.shape}"
            )
    return figure


def _draw_ellipses(panel, means, spreads):
    from matplotlib.patches import Ellipse

    shapes = means.shape, (*means.shape, 2)
    if means.shape[1:] != (2,) or spreads.shape not in shapes:
        raise ValueError(
            "Gaussians must be means (n, 2) and standard deviations (n, 2) or "
            f"covariances (n, 2, 2). Received: {means.shape} and {spreads.shape}"
        )
    if spreads.ndim == 2:
        spreads = np.square(spreads)[:, None] * np.eye(2)  # (n, 2, 2)
    variances, axes = np.linalg.eigh(spreads)
    angles = np.degrees(np.arctan2(axes[:, 1, 0], axes[:, 0, 0]))
    for mean, size, angle in zip(means, 2 * np.sqrt(variances), angles, strict=True):
        panel.add_patch(
            Ellipse(
                mean, *size, angle=angle, fill=False, color=_COLOURS[1], linewidth=0.8
            )
        )
