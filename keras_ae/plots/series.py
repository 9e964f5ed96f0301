"""Series beside what is expected of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_ae.plots.curves import _COLOURS, _figure
from keras_ae.plots.sheets import _INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of a map: nothing is shaded below, and all of it from here on.
_BEGIN, _FULL = 3.0, 8.0


def series(
    windows: np.ndarray,
    restored: np.ndarray | None = None,
    where: np.ndarray | None = None,
    channels: Sequence[str] = (),
    titles: Sequence[str] = (),
) -> Figure:
    """Windows of series, a row each and a panel for each channel.

    Args:
        windows: Array `(n, time, channels)`.
        restored: What a model makes of them, of the same shape: dashed.
        where: How much each value stands out, of the same shape, such as
            `AnomalyDetector.anomaly_map` gives: red from 3 on, wholly from 8.
        channels: Their names.
        titles: Of the windows.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If a shape does not fit.

    Example:

    ```python
    where = detector.anomaly_map(windows)
    keras_ae.plots.series(windows, model.reconstruct(windows), where)
    ```
    """
    windows = np.asarray(windows)
    if windows.ndim != 3 or not windows.size:
        raise ValueError(
            "`windows` must be (n, time, channels), one at least. Received: an array "
            f"of shape {windows.shape}"
        )
    for name, values in (("restored", restored), ("where", where)):
        if values is not None and np.shape(values) != windows.shape:
            raise ValueError(
                f"`{name}` must be of the shape of `windows`, {windows.shape}. "
                f"Received: an array of shape {np.shape(values)}"
            )
    count, steps, width = windows.shape
    figure, axes = _figure(1.0 + 2.6 * width, 0.4 + 1.3 * count, count, width)
    panels = zip(np.ndindex(count, width), np.atleast_1d(axes).ravel(), strict=True)
    for (row, column), panel in panels:
        if where is not None:
            share = (np.asarray(where)[row, :, column] - _BEGIN) / (_FULL - _BEGIN)
            for step in np.flatnonzero(share > 0):
                alpha = 0.5 * min(float(share[step]), 1.0)
                span = (step - 0.5, step + 0.5)
                panel.axvspan(*span, color="#ff2800", alpha=alpha, linewidth=0)
        panel.plot(windows[row, :, column], color=_COLOURS[0], linewidth=1.2)
        if restored is not None:
            dashes = {"color": _INK, "linewidth": 1.0, "linestyle": "--"}
            panel.plot(np.asarray(restored)[row, :, column], **dashes)
        panel.set_xlim(-0.5, steps - 0.5)
        if row == 0 and column < len(channels):
            panel.set_title(channels[column], color=_INK, fontsize=9)
        if column == 0 and row < len(titles):
            panel.set_ylabel(titles[row], color=_INK, fontsize=8)
        if row < count - 1:
            panel.tick_params(labelbottom=False)
    return figure
