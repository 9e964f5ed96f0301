"""Measures of pictures, of sets of features and of codes, on NumPy arrays."""

from keras_ae.metrics.codes import (
    active_units,
    aggregate_posterior_distance,
    encoded_information,
    linear_probe,
    nearest_neighbour_accuracy,
)
from keras_ae.metrics.detection import Detection, detection
from keras_ae.metrics.disentanglement import (
    DCI,
    dci,
    factor_vae_score,
    mutual_information,
    mutual_information_gap,
    sap,
)
from keras_ae.metrics.pictures import (
    blur,
    ms_ssim,
    mse,
    noise_level,
    psnr,
    sharpness,
    ssim,
)
from keras_ae.metrics.sets import (
    FeatureStatistics,
    FidelityAndDiversity,
    KernelDistance,
    fidelity_and_diversity,
    frechet_distance,
    kernel_distance,
)

__all__ = [
    "DCI",
    "Detection",
    "FeatureStatistics",
    "FidelityAndDiversity",
    "KernelDistance",
    "active_units",
    "aggregate_posterior_distance",
    "blur",
    "dci",
    "detection",
    "encoded_information",
    "factor_vae_score",
    "fidelity_and_diversity",
    "frechet_distance",
    "kernel_distance",
    "linear_probe",
    "ms_ssim",
    "mse",
    "mutual_information",
    "mutual_information_gap",
    "nearest_neighbour_accuracy",
    "noise_level",
    "psnr",
    "sap",
    "sharpness",
    "ssim",
]
