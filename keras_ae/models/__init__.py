"""The models. `__all__` is the registry."""

from keras_ae.models.aae import AAE
from keras_ae.models.autodecoder import AutoDecoder
from keras_ae.models.bigan import BiGAN
from keras_ae.models.classifier import Classifier as Classifier
from keras_ae.models.conditional import ConditionalVAE
from keras_ae.models.denoising import DenoisingAE
from keras_ae.models.deterministic import AE
from keras_ae.models.factor import FactorVAE
from keras_ae.models.flows import (
    IAFVAE,
    FullCovarianceVAE,
    PlanarFlowVAE,
    SylvesterFlowVAE,
)
from keras_ae.models.gan import GAN
from keras_ae.models.glo import GLO
from keras_ae.models.hamiltonian import HamiltonianVAE
from keras_ae.models.hierarchical import HierarchicalVAE
from keras_ae.models.hyperspherical import SphericalVAE
from keras_ae.models.importance_weighted import CIWAE, IWAE, MIWAE, PIWAE
from keras_ae.models.objectives import (
    DIPVAE,
    MSSSIMVAE,
    BetaTCVAE,
    BetaVAE,
    InfoVAE,
    SigmaVAE,
)
from keras_ae.models.pca import PCA
from keras_ae.models.poincare import PoincareVAE
from keras_ae.models.quantized import FSQVAE, VQVAE, ResidualVQVAE
from keras_ae.models.regularized import RAE, ContractiveAE
from keras_ae.models.sparse import SparseAE
from keras_ae.models.stacked import StackedSAE
from keras_ae.models.vaegan import VAEGAN
from keras_ae.models.variational import VAE
from keras_ae.models.variational_autodecoder import VariationalAutoDecoder
from keras_ae.models.wae import WAE

__all__ = [
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
]
