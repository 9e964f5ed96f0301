"""Anomalies: models that know what is normal, and an alarm whose rate holds."""

from keras_ae.anomalies.conformal import Conformal, benjamini_hochberg
from keras_ae.anomalies.detector import AnomalyDetector, load
from keras_ae.anomalies.scores import SCORES, Features, Score

__all__ = [
    "SCORES",
    "AnomalyDetector",
    "Conformal",
    "Features",
    "Score",
    "benjamini_hochberg",
    "load",
]
