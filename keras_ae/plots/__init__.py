"""Arrays in, picture out.

Sheets are PIL images, pixel for pixel; figures are matplotlib figures on a
transparent ground in a grey that reads on light and dark pages alike.
"""

from keras_ae.plots.curves import (
    codebook_usage,
    error_bars,
    histogram,
    loss_curves,
    throughput,
)
from keras_ae.plots.latent import latent_map
from keras_ae.plots.planes import plane
from keras_ae.plots.series import series
from keras_ae.plots.sheets import (
    filters,
    highlighted,
    interpolation,
    labelled,
    manifold,
    picture,
    reconstructions,
    sheet,
    traversal,
)

__all__ = [
    "codebook_usage",
    "error_bars",
    "filters",
    "highlighted",
    "histogram",
    "interpolation",
    "labelled",
    "latent_map",
    "loss_curves",
    "manifold",
    "picture",
    "plane",
    "reconstructions",
    "series",
    "sheet",
    "throughput",
    "traversal",
]
