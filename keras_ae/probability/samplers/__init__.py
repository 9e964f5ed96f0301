"""Ways to draw codes: distributions fitted to the codes of a data set.

What is fitted has `sample(shape, seed)` and `log_prob(z)`, as a prior has. Those in
closed form and the mixture are fitted in float64; the others are networks that are
trained.
"""

from keras_ae.backend.seeding import seeded
from keras_ae.probability.samplers.density import (
    SecondStage,
    Standardized,
    fit_density,
)
from keras_ae.probability.samplers.fitting import fit
from keras_ae.probability.samplers.mixture import fit_mixture
from keras_ae.probability.samplers.rectified_flow import RectifiedFlow

__all__ = [
    "RectifiedFlow",
    "SecondStage",
    "Standardized",
    "fit",
    "fit_density",
    "fit_mixture",
    "seeded",
]
