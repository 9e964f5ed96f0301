"""Autoencoders for Keras 3, on TensorFlow, JAX and PyTorch.

Names are imported when they are first used, so that `import keras_ae` is instant
and the backend can still be chosen after it.
"""

import importlib
from typing import TYPE_CHECKING

from keras_ae import _imports

if TYPE_CHECKING:
    # What editors and type checkers see of the names below.
    from keras_ae import (  # noqa: F401
        anomalies,
        benchmark,
        callbacks,
        compression,
        datasets,
        estimators,
        evaluation,
        explorer,
        metrics,
        models,
        plots,
        presets,
        runs,
    )
    from keras_ae import backend as autodiff  # noqa: F401
    from keras_ae.anomalies import AnomalyDetector  # noqa: F401
    from keras_ae.backend import distribute  # noqa: F401
    from keras_ae.callbacks import trackers  # noqa: F401
    from keras_ae.evaluation import features, scores  # noqa: F401
    from keras_ae.explorer import explore  # noqa: F401
    from keras_ae.models import *  # noqa: F403
    from keras_ae.models import Classifier  # noqa: F401
    from keras_ae.models.adversarial import losses as adversarial  # noqa: F401
    from keras_ae.models.base import autoencoder as base  # noqa: F401
    from keras_ae.models.quantized import pixelcnn, quantizers  # noqa: F401
    from keras_ae.nn import layers, networks  # noqa: F401
    from keras_ae.presets import load as from_preset  # noqa: F401
    from keras_ae.probability import (  # noqa: F401
        distributions,
        divergences,
        flows,
        likelihoods,
        manifolds,
        priors,
        samplers,
    )
    from keras_ae.training import optimizers  # noqa: F401

__version__ = "0.1.0"

# Where a module lives, by its public name.
_MODULES = {
    "adversarial": "models.adversarial.losses",
    "anomalies": "anomalies",
    "autodiff": "backend",
    "base": "models.base.autoencoder",
    "benchmark": "benchmark",
    "callbacks": "callbacks",
    "compression": "compression",
    "datasets": "datasets",
    "distributions": "probability.distributions",
    "divergences": "probability.divergences",
    "evaluation": "evaluation",
    "explorer": "explorer",
    "features": "evaluation.features",
    "flows": "probability.flows",
    "layers": "nn.layers",
    "likelihoods": "probability.likelihoods",
    "manifolds": "probability.manifolds",
    "metrics": "metrics",
    "models": "models",
    "networks": "nn.networks",
    "optimizers": "training.optimizers",
    "pixelcnn": "models.quantized.pixelcnn",
    "plots": "plots",
    "presets": "presets",
    "priors": "probability.priors",
    "quantizers": "models.quantized.quantizers",
    "runs": "runs",
    "samplers": "probability.samplers",
    "scores": "evaluation.scores",
    "trackers": "callbacks.trackers",
}
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
    "KLAutoencoder",
    "LFQVAE",
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
    "VQGAN",
    "VQVAE",
    "VariationalAutoDecoder",
    "WAE",
)

__all__ = [
    "AnomalyDetector",
    *_MODELS,
    "Classifier",
    "distribute",
    "explore",
    "from_preset",
    *_MODULES,
]


if not TYPE_CHECKING:  # which would then take any name for one of ours

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module(f"keras_ae.{_MODULES[name]}")
        if name == "AnomalyDetector":
            return importlib.import_module("keras_ae.anomalies").AnomalyDetector
        if name == "distribute":
            return importlib.import_module("keras_ae.backend").distribute
        if name == "explore":
            return importlib.import_module("keras_ae.explorer").explore
        if name == "from_preset":
            return importlib.import_module("keras_ae.presets").load
        # They need scikit-learn, so that they are not among the public names.
        if name == "estimators":
            return importlib.import_module("keras_ae.estimators")
        if name in __all__:
            return getattr(importlib.import_module("keras_ae.models"), name)
        raise AttributeError(f"module 'keras_ae' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *__all__])


_imports.install(_MODULES)
