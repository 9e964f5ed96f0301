"""Autoencoders for Keras 3, on TensorFlow, JAX and PyTorch.

Names are imported when they are first used, so that `import keras_ae` is instant
and the backend can still be chosen after it.
"""

import contextlib
import importlib
import importlib.util
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # What editors and type checkers see of the names below.
    from keras_ae import backend as autodiff  # noqa: F401
    from keras_ae import (  # noqa: F401
        benchmark,
        callbacks,
        compression,
        datasets,
        estimators,
        evaluation,
        metrics,
        models,
        plots,
        runs,
    )
    from keras_ae.callbacks import trackers  # noqa: F401
    from keras_ae.evaluation import features, scores  # noqa: F401
    from keras_ae.models import *  # noqa: F403
    from keras_ae.models import Classifier  # noqa: F401
    from keras_ae.models.adversarial import losses as adversarial  # noqa: F401
    from keras_ae.models.base import autoencoder as base  # noqa: F401
    from keras_ae.models.quantized import pixelcnn, quantizers  # noqa: F401
    from keras_ae.nn import layers, networks  # noqa: F401
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
    "autodiff": "backend",
    "base": "models.base.autoencoder",
    "benchmark": "benchmark",
    "callbacks": "callbacks",
    "compression": "compression",
    "datasets": "datasets",
    "distributions": "probability.distributions",
    "divergences": "probability.divergences",
    "evaluation": "evaluation",
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


if not TYPE_CHECKING:  # which would then take any name for one of ours

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module(f"keras_ae.{_MODULES[name]}")
        # They need scikit-learn, so that they are not among the public names.
        if name == "estimators":
            return importlib.import_module("keras_ae.estimators")
        if name in __all__:
            return getattr(importlib.import_module("keras_ae.models"), name)
        raise AttributeError(f"module 'keras_ae' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *__all__])


def _forget(finder):
    """Takes what finds modules out, those of an earlier import of this one too."""
    sys.meta_path[:] = [
        other
        for other in sys.meta_path
        if type(other).__qualname__ != finder.__qualname__
        or type(other).__module__ != __name__
    ]


class _Registering(MetaPathFinder):
    """Imports the models when Keras has been imported, and what of ours imports it.

    A module of ours whose `import keras` is the first one must come to its end before
    the models, which may import it, are imported.
    """

    def __init__(self):
        self.state = threading.local()

    def find_spec(self, name, path=None, target=None):
        if name != "keras" and not name.startswith("keras_ae."):
            return None
        if getattr(self.state, "looking", False):
            return None
        self.state.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.state.looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Watched(spec.loader, self.state)
        return spec


class _Watched(Loader):
    """Another's loader; when nothing of ours is being loaded any more, it registers."""

    def __init__(self, loader, state):
        self.loader = loader
        self.state = state

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.state.depth = getattr(self.state, "depth", 0) + 1
        try:
            self.loader.exec_module(module)
        except BaseException:
            self.state.depth -= 1
            # Its own error is what is told.
            with contextlib.suppress(Exception):
                self.register()
            raise
        self.state.depth -= 1
        self.register()

    def register(self):
        if self.state.depth or "keras" not in sys.modules:
            return
        _forget(_Registering)
        importlib.import_module("keras_ae.models")


class _PublicModules(MetaPathFinder, Loader):
    """Finds `import keras_ae.layers` where the module lives, as `keras_ae.layers`."""

    def __init__(self):
        self.specs = {}

    def find_spec(self, name, path=None, target=None):
        package, _, module = name.partition(".")
        if package != "keras_ae" or _MODULES.get(module, module) == module:
            return None
        return importlib.util.spec_from_loader(name, self)

    def create_module(self, spec):
        place = _MODULES[spec.name.partition(".")[2]]
        module = importlib.import_module(f"keras_ae.{place}")
        self.specs[module] = module.__spec__
        return module

    def exec_module(self, module):
        # It has been given that of its public name.
        module.__spec__ = self.specs[module]


_forget(_PublicModules)
sys.meta_path.insert(0, _PublicModules())
# So that `keras.saving.load_model` knows the models before one has been named.
if "keras" in sys.modules:
    importlib.import_module("keras_ae.models")
else:
    sys.meta_path.insert(0, _Registering())
