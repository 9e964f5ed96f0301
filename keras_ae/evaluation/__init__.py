"""One evaluation for every model: scores, each with everything that it depends on."""

from keras_ae.evaluation.digests import digest, weights_digest
from keras_ae.evaluation.scoring import CHEAP, IMPORTANCE_SAMPLES, binarized, evaluate

__all__ = [
    "CHEAP",
    "IMPORTANCE_SAMPLES",
    "binarized",
    "digest",
    "evaluate",
    "weights_digest",
]
