"""What one run is: directory, settings, checkpoints, history, scores, resume."""

from keras_ae.evaluation import binarized
from keras_ae.metrics import blur
from keras_ae.runs.gallery import BLURS, DENOISED, SEARCHED, spoilt
from keras_ae.runs.loading import environment, load_model, share
from keras_ae.runs.run import Run
from keras_ae.runs.training import held_back

__all__ = [
    "blur",
    "BLURS",
    "DENOISED",
    "Run",
    "SEARCHED",
    "binarized",
    "environment",
    "held_back",
    "load_model",
    "share",
    "spoilt",
]
