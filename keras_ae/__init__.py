"""Autoencoders for Keras 3, on TensorFlow, JAX and PyTorch.

Names are imported when they are first used, so that `import keras_ae` is instant
and the backend can still be chosen after it.
"""

import importlib
import sys

__version__ = "0.1.0"

_MODULES = (
    "adversarial",
    "autodiff",
    "base",
    "benchmark",
    "callbacks",
    "compression",
    "datasets",
    "distributions",
    "divergences",
    "evaluation",
    "features",
    "flows",
    "layers",
    "likelihoods",
    "manifolds",
    "metrics",
    "models",
    "networks",
    "optimizers",
    "pixelcnn",
    "plots",
    "priors",
    "quantizers",
    "runs",
    "samplers",
    "scores",
    "trackers",
)
_MODELS = (
    "AAE",
    "AE",
    "AutoDecoder",
    "BetaTCVAE",
    "BetaVAE",
    "BiGAN",
    "CIWAE",
    "ConditionalVAE",
    "ContractiveAE",
    "DIPVAE",
    "DenoisingAE",
    "FSQVAE",
    "FactorVAE",
    "FullCovarianceVAE",
    "GAN",
    "GLO",
    "HamiltonianVAE",
    "HierarchicalVAE",
    "IAFVAE",
    "IWAE",
    "InfoVAE",
    "MIWAE",
    "MSSSIMVAE",
    "PCA",
    "PIWAE",
    "PlanarFlowVAE",
    "PoincareVAE",
    "RAE",
    "ResidualVQVAE",
    "SigmaVAE",
    "SparseAE",
    "SphericalVAE",
    "StackedSAE",
    "SylvesterFlowVAE",
    "VAE",
    "VAEGAN",
    "VQVAE",
    "VariationalAutoDecoder",
    "WAE",
)

__all__ = [*_MODELS, "Classifier", *_MODULES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"keras_ae.{name}")
    if name in __all__:
        return getattr(importlib.import_module("keras_ae.models"), name)
    raise AttributeError(f"module 'keras_ae' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *__all__])


if "keras" in sys.modules:
    # So that `keras.saving.load_model` knows the models before one has been named.
    importlib.import_module("keras_ae.models")
