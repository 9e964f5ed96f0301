"""The models. `__all__` is the registry."""

from keras_ae.models.adversarial.aae import AAE
from keras_ae.models.adversarial.bigan import BiGAN
from keras_ae.models.adversarial.factor import FactorVAE
from keras_ae.models.adversarial.gan import GAN
from keras_ae.models.adversarial.klautoencoder import KLAutoencoder
from keras_ae.models.adversarial.vaegan import VAEGAN
from keras_ae.models.adversarial.vqgan import VQGAN
from keras_ae.models.adversarial.wae import WAE
from keras_ae.models.decoder_only.autodecoder import AutoDecoder
from keras_ae.models.decoder_only.glo import GLO
from keras_ae.models.decoder_only.variational_autodecoder import VariationalAutoDecoder
from keras_ae.models.deterministic.autoencoder import AE
from keras_ae.models.deterministic.classifier import Classifier as Classifier
from keras_ae.models.deterministic.denoising import DenoisingAE
from keras_ae.models.deterministic.pca import PCA
from keras_ae.models.deterministic.regularized import RAE, ContractiveAE
from keras_ae.models.deterministic.sparse import SparseAE
from keras_ae.models.deterministic.stacked import StackedSAE
from keras_ae.models.quantized.vqvae import FSQVAE, LFQVAE, VQVAE, ResidualVQVAE
from keras_ae.models.variational.conditional import ConditionalVAE
from keras_ae.models.variational.hamiltonian import HamiltonianVAE
from keras_ae.models.variational.hierarchical import HierarchicalVAE
from keras_ae.models.variational.hyperspherical import SphericalVAE
from keras_ae.models.variational.importance_weighted import CIWAE, IWAE, MIWAE, PIWAE
from keras_ae.models.variational.objectives import (
    DIPVAE,
    MSSSIMVAE,
    BetaTCVAE,
    BetaVAE,
    InfoVAE,
    SigmaVAE,
)
from keras_ae.models.variational.poincare import PoincareVAE
from keras_ae.models.variational.posterior_flows import (
    IAFVAE,
    FullCovarianceVAE,
    PlanarFlowVAE,
    SylvesterFlowVAE,
)
from keras_ae.models.variational.vae import VAE

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
]
