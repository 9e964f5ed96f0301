"""The map of codes to click on: their first two principal directions."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from keras_ae import plots
from keras_ae.explorer.directions import SPAN
from keras_ae.explorer.view import View

# Size of letters, in points.
_WORDS = 13


class LatentMap:
    """A picture of the codes along the first two directions.

    Args:
        view: A view whose codes have two directions or more.

    Attributes:
        image: The map, in colours that a light and a dark page can have behind it.
        coloured_by: Name of the label that gives the colour, or None.
    """

    def __init__(self, view: View):
        known = view.known_directions
        if len(known) < 2:
            raise ValueError(
                "`view` must have two directions for a map. Received: one that has "
                f"{len(known)}"
            )
        points = known.positions(view.codes)[:, :2]
        # What sliders can't reach can't be clicked on either.
        shown = (np.abs(points) <= SPAN).all(axis=1)
        self.coloured_by = _telling(points, view.labels)
        values = None
        if self.coloured_by is not None:
            values = np.asarray(view.labels[self.coloured_by])[shown]
        figure = plots.latent_map(
            points[shown],
            values,
            self.coloured_by,
            images=view.examples[shown],
        )
        axes = figure.axes[0]
        axes.set_xlabel("direction 1, standard deviations")
        axes.set_ylabel("direction 2, standard deviations")
        _enlarge_words(figure)
        file = io.BytesIO()
        figure.savefig(file)
        self.image = Image.open(file)
        # Fractions from the left and the top of the page to positions, and back.
        self._transform = axes.transData
        self._size = figure.bbox.size

    def positions(self, x: float, y: float) -> np.ndarray:
        """Returns the positions `(2,)` at a place of the map, within the sliders' span.

        Args:
            x: Its share of the width, from the left.
            y: Its share of the height, from the top.
        """
        pixels = np.array([x, 1 - y]) * self._size
        return np.clip(self._transform.inverted().transform(pixels), -SPAN, SPAN)

    def place(self, positions: np.ndarray) -> tuple[float, float]:
        """Returns the place `(x, y)` of positions, as `positions` takes it."""
        x, y = self._transform.transform(np.asarray(positions)[:2]) / self._size
        return float(x), float(1 - y)


def _enlarge_words(figure):
    """A page shows the map at half its size, or less."""
    for axes in figure.axes:
        axes.tick_params(labelsize=_WORDS)
        axes.xaxis.label.set_size(_WORDS)
        axes.yaxis.label.set_size(_WORDS)
        legend = axes.get_legend()
        if legend is not None:
            for text in (legend.get_title(), *legend.get_texts()):
                text.set_size(_WORDS)


def _telling(points, labels):
    """The label that the place on the map tells most of, by linear regression."""
    best, name_of_best = 0.0, None
    ones = np.ones((len(points), 1))
    inputs = np.concatenate([ones, points, points**2], axis=1)
    for name, values in labels.items():
        values = np.asarray(values)
        if name == "path" or values.ndim != 1:
            continue
        if values.dtype.kind not in "biuf":
            values = np.unique(values, return_inverse=True)[1]
        known = np.isfinite(values.astype("float64"))
        wanted = values[known].astype("float64")
        if len(np.unique(wanted)) < 2:
            continue
        wanted -= wanted.mean()
        weights = np.linalg.lstsq(inputs[known], wanted, rcond=None)[0]
        error = np.square(wanted - inputs[known] @ weights).sum()
        told = 1 - error / max(np.square(wanted).sum(), 1e-12)
        if told > best:
            best, name_of_best = told, name
    return name_of_best


def data_url(image: Image.Image) -> str:
    """Returns a picture as a PNG in a `data:` URL."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
