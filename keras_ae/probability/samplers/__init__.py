"""Ways to draw codes: distributions fitted to the codes of a data set.

What is fitted has `sample(shape, seed)` and `log_prob(z)`, as a prior has. Those in
closed form and the mixture are fitted in float64; the others are networks, trained by
maximum likelihood.
"""

from keras_ae.probability.samplers.density import (
    SecondStage,
    Standardized,
    fit_density,
    seeded,
)
from keras_ae.probability.samplers.fitting import fit
from keras_ae.probability.samplers.mixture import fit_mixture

__all__ = [
    "SecondStage",
    "Standardized",
    "fit",
    "fit_density",
    "fit_mixture",
    "seeded",
]
