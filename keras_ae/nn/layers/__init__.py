"""Layers that Keras does not have: noise, sparsity, resizing, residual blocks."""

from keras_ae.nn.layers.convolution import (
    BatchNormalization,
    Conv2D,
    DepthToSpace,
    ResidualBlock,
    SpaceToDepth,
    convolution,
)
from keras_ae.nn.layers.corruption import (
    CORRUPTIONS,
    ClippedGaussianCorruption,
    Corruption,
    GaussianCorruption,
    MaskingCorruption,
    SaltAndPepperCorruption,
    check_corruption,
    get_corruption,
)
from keras_ae.nn.layers.noise import (
    GaussianSampling,
    PriorSampling,
    RademacherNoise,
    Seeded,
    UniformNoise,
)
from keras_ae.nn.layers.sparsity import (
    SPARSITIES,
    ContrastiveDivergence,
    KLSparsity,
    KSparse,
    L1Sparsity,
    Sparsity,
    get_sparsity,
)
from keras_ae.nn.layers.spectral import SpectralNormalization

__all__ = [
    "BatchNormalization",
    "CORRUPTIONS",
    "ContrastiveDivergence",
    "ClippedGaussianCorruption",
    "Conv2D",
    "Corruption",
    "DepthToSpace",
    "GaussianCorruption",
    "GaussianSampling",
    "KLSparsity",
    "KSparse",
    "L1Sparsity",
    "MaskingCorruption",
    "PriorSampling",
    "RademacherNoise",
    "ResidualBlock",
    "SPARSITIES",
    "SaltAndPepperCorruption",
    "Seeded",
    "SpaceToDepth",
    "Sparsity",
    "SpectralNormalization",
    "UniformNoise",
    "check_corruption",
    "convolution",
    "get_corruption",
    "get_sparsity",
]
