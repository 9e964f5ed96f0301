"""Autoencoders for Keras 3, on TensorFlow, JAX and PyTorch.

Names are imported when they are first used, so that `import keras_ae` is instant
and the backend can still be chosen after it.
"""

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # What editors and type checkers see of the names below.
    from keras_ae import (  # noqa: F401
        adversarial,
        autodiff,
        base,
        benchmark,
        callbacks,
        compression,
        datasets,
        distributions,
        divergences,
        evaluation,
        features,
        flows,
        layers,
        likelihoods,
        manifolds,
        metrics,
        models,
        networks,
        optimizers,
        pixelcnn,
        plots,
        priors,
        quantizers,
        runs,
        samplers,
        scores,
        trackers,
    )
    from keras_ae.models import *  # noqa: F403
    from keras_ae.models import Classifier  # noqa: F401

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
    # Estimators need scikit-learn, so that they are not among the public names.
    if name in _MODULES or name == "estimators":
        return importlib.import_module(f"keras_ae.{name}")
    if name in __all__:
        return getattr(importlib.import_module("keras_ae.models"), name)
    raise AttributeError(f"module 'keras_ae' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *__all__])


class _AfterKeras(MetaPathFinder):
    """Finds Keras for its first import, after which the models are registered."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            spec.loader.exec_module = _then_models(spec.loader.exec_module)
        return spec


def _then_models(exec_module):
    def exec_keras(module):
        exec_module(module)
        importlib.import_module("keras_ae.models")

    return exec_keras


# So that `keras.saving.load_model` knows the models before one has been named.
if "keras" in sys.modules:
    importlib.import_module("keras_ae.models")
else:
    sys.meta_path.insert(0, _AfterKeras())
