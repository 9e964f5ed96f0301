"""Long series in windows, which a model of `architecture="sequence"` describes."""

import numpy as np

from keras_ae.datasets import splits


def cut_windows(series, length: int, stride: int = 1) -> np.ndarray:
    """Cuts a series into windows, which overlap where `stride` is below `length`.

    The last window ends where the series does.

    Args:
        series: Array `(time, channels)`, or `(time,)` of one channel.
        length: Steps of a window, >= 1.
        stride: Steps from the begin of a window to that of the next, >= 1.

    Returns:
        Array `(windows, length, channels)`.

    Raises:
        ValueError: If the series is shorter than a window, or is none.

    Example:

    ```python
    windows = datasets.cut_windows(measured, length=64, stride=16)
    detector.fit(windows)
    where = detector.anomaly_map(windows)
    datasets.join_windows(where, len(measured), stride=16)  # (time, channels)
    ```
    """
    series = np.asarray(series)
    if series.ndim == 1:
        series = series[:, None]
    if series.ndim != 2 or not series.shape[1]:
        raise ValueError(
            "`series` must be (time, channels) or (time,). Received: an array of shape "
            f"{series.shape}"
        )
    starts = _starts(len(series), length, stride)
    return series[starts[:, None] + np.arange(length)]


def join_windows(windows, steps: int, stride: int = 1) -> np.ndarray:
    """Returns the mean at each step of the windows that cover it.

    Args:
        windows: Array `(windows, length, ...)` of values at the steps of windows that
            `cut_windows` has cut, or `(windows,)` of one value for each: then give
            `length` ones of it, `values[:, None].repeat(length, axis=1)`.
        steps: Of the series.
        stride: As it was cut with.

    Returns:
        Array `(steps, ...)`; NaN at steps that no window covers.

    Raises:
        ValueError: If so many windows are not those of such a series.
    """
    windows = np.asarray(windows)
    if windows.ndim < 2 or not windows.shape[1]:
        raise ValueError(
            "`windows` must be (windows, length, ...). Received: an array of shape "
            f"{windows.shape}"
        )
    length = windows.shape[1]
    starts = _starts(steps, length, stride)
    if len(starts) != len(windows):
        raise ValueError(
            f"`windows` must be the {len(starts)} windows of a series of {steps} steps "
            f"with length={length} and stride={stride}. Received: {len(windows)}"
        )
    total = np.zeros((steps, *windows.shape[2:]))
    count = np.zeros((steps, *[1] * (windows.ndim - 2)))
    for start, window in zip(starts, windows, strict=True):
        total[start : start + length] += window
        count[start : start + length] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _starts(steps, length, stride):
    splits.check_integer("length", length, 1)
    splits.check_integer("stride", stride, 1)
    if steps < length:
        raise ValueError(
            f"`series` must have as many steps as a window, {length}. Received: {steps}"
        )
    last = steps - length
    return np.unique([*range(0, last + 1, stride), last])
