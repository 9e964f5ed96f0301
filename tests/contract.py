"""What the contract knows of each model: its arguments, its data, its exceptions."""

import contextlib

import keras
import numpy as np
import pytest
from numerics import to_numpy

import keras_ae
from keras_ae import models

SETTINGS = {"latent_dim": 3, "widths": (24,), "architecture": "dense"}
# The discrepancy of a small batch is mostly noise.
WAE_SETTINGS = {**SETTINGS, "penalty_weight": 1.0}
LADDER_SETTINGS = {**SETTINGS, "upper_dims": (3,)}
FLOW_SETTINGS = {**SETTINGS, "steps": 2}
LABELLED_SETTINGS = {**SETTINGS, "num_classes": 4}
# The codebook starts from a batch, of which the smallest here has five examples.
VQ_SETTINGS = {**SETTINGS, "num_codes": 4}
FSQ_SETTINGS = {"levels": (5, 4, 3), "widths": (24,), "architecture": "dense"}
LFQ_SETTINGS = {"bits": 3, "widths": (24,), "architecture": "dense"}
STACKED_SETTINGS = {"layer_dims": (24, 3), "pretraining_epochs": 1}
# PCA has nothing to train by gradient descent; tests/test_pca.py is its contract.
TRAINED = [name for name in models.__all__ if name != "PCA"]
# They differ from `VAE`, `IWAE` or `IAFVAE` in what they minimise or in how they draw
# codes: their networks are those', and are tested there.
OBJECTIVES = {
    "BetaTCVAE",
    "BetaVAE",
    "CIWAE",
    "DIPVAE",
    "HamiltonianVAE",
    "InfoVAE",
    "MIWAE",
    "PIWAE",
    "PlanarFlowVAE",
    "PoincareVAE",
    "SigmaVAE",
    "SphericalVAE",
    "SylvesterFlowVAE",
}
WITH_NETWORKS = [name for name in TRAINED if name not in OBJECTIVES]
# tests/test_backends.py trains them on all three backends, and PyTorch has the whole
# contract: TensorFlow and JAX, which compile for long, have every other of them.
TRAINED_ON_ALL = (
    "AAE",
    "BiGAN",
    "ConditionalVAE",
    "ContractiveAE",
    "FactorVAE",
    "GLO",
    "KLAutoencoder",
    "RAE",
    "SparseAE",
    "VAE",
    "VAEGAN",
    "VariationalAutoDecoder",
    "WAE",
)
SHAPES = [
    ((7,), "auto"),
    ((7,), "linear"),
    ((9, 5), "dense"),
    ((16, 17), "auto"),
    ((17, 23, 3), "conv"),
    ((11, 6, 1), "residual"),
    ((13, 9, 4), "linear"),
]

# Arguments other than the defaults, that `get_config` must return.
NON_DEFAULT = {
    "AAE": {
        "adversarial_loss": "wasserstein",
        "gradient_penalty": 3.0,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "AE": {"activation": "tanh", "likelihood": "laplace"},
    "AutoDecoder": {
        "code_weight": 0.3,
        "search_steps": 7,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "BetaTCVAE": {
        "alpha": 0.5,
        "gamma": 2.0,
        "beta": 0.3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "BetaVAE": {
        "capacity": 3.0,
        "free_bits": 0.1,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "CIWAE": {
        "samples": 2,
        "elbo_weight": 0.2,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "DIPVAE": {
        "covariance": "means",
        "off_diagonal_weight": 3.0,
        "diagonal_weight": 4.0,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "HamiltonianVAE": {
        "leapfrog_steps": 2,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "PoincareVAE": {
        "curvature": 0.7,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "SphericalVAE": {"beta": 0.3, "activation": "tanh", "likelihood": "laplace"},
    "HierarchicalVAE": {
        "upper_dims": (3, 2),
        "upper_widths": (5,),
        "free_bits": 0.1,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "InfoVAE": {
        "mmd_weight": 3.0,
        "kernel": "rbf",
        "beta": 0.3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "IWAE": {
        "samples": 2,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "KLAutoencoder": {
        "perceptual_weight": 0.5,
        "adversarial_loss": "non_saturating",
        "adversarial_weight": 0.3,
        "discriminator_start": 1,
        "ramp_steps": 3,
        "spectral_norm": True,
        "positions": 2,
        "beta": 0.3,
        "free_bits": 0.05,
        "activation": "tanh",
        "likelihood": "gaussian",
    },
    "MIWAE": {
        "samples": 2,
        "bounds": 3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "MSSSIMVAE": {
        "weight": 3.0,
        "pixel_weight": 0.5,
        "beta": 0.3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "PIWAE": {
        "samples": 2,
        "bounds": 3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "SigmaVAE": {
        "scale": "learned",
        "beta": 0.3,
        "activation": "tanh",
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
    },
    "ConditionalVAE": {
        "num_classes": 3,
        "activation": "tanh",
        "likelihood": "laplace",
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "free_bits": 0.05,
    },
    "ContractiveAE": {"code_activation": "tanh", "weight": 0.02, "activation": "tanh"},
    "GAN": {
        "adversarial_loss": "wasserstein",
        "critic_steps": 2,
        "gradient_penalty": 3.0,
        "spectral_norm": True,
        "ema_momentum": 0.9,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": keras_ae.likelihoods.Laplace(0.2),
    },
    "GLO": {
        "pixel_weight": 0.3,
        "search_steps": 7,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "BiGAN": {
        "adversarial_loss": "wasserstein",
        "critic_steps": 2,
        "gradient_penalty": 3.0,
        "spectral_norm": True,
        "ema_momentum": 0.9,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": keras_ae.likelihoods.Laplace(0.2),
    },
    "FactorVAE": {
        "gamma": 3.0,
        "discriminator_widths": (16, 8),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "FullCovarianceVAE": {
        "free_bits": 0.05,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "IAFVAE": {
        "steps": 1,
        "context_dim": 5,
        "flow_widths": (6, 7),
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "PlanarFlowVAE": {
        "steps": 1,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "SylvesterFlowVAE": {
        "steps": 1,
        "reflections": 3,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "DenoisingAE": {"corruption": keras_ae.layers.MaskingCorruption((0.1, 0.4), 5)},
    "RAE": {"regularizer": "spectral_norm", "code_weight": 0.02},
    "SparseAE": {"sparsity": keras_ae.layers.KLSparsity(0.5, 0.2, momentum=0.8)},
    "StackedSAE": {
        "filters": (2,),
        "strides": (1,),
        "kernel_size": 5,
        "pretraining": "denoising",
        "pretraining_epochs": (1, 2, 1),
        "pretraining_patience": 3,
        "corruption": keras_ae.layers.GaussianCorruption(0.2, 5),
        "sparsity": keras_ae.layers.KSparse(2),
        "gibbs_steps": 2,
        "activation": "tanh",
        "likelihood": keras_ae.likelihoods.Laplace(0.2),
    },
    "FSQVAE": {"positions": 2, "activation": "tanh", "likelihood": "laplace"},
    "LFQVAE": {
        "positions": 2,
        "commitment_weight": 0.5,
        "entropy_weight": 0.2,
        "temperature": 0.5,
    },
    "ResidualVQVAE": {"num_quantizers": 2, "positions": 2, "decay": 0.9},
    "VQGAN": {
        "perceptual_weight": 0.5,
        "adversarial_loss": "non_saturating",
        "adversarial_weight": 0.3,
        "discriminator_start": 1,
        "ramp_steps": 3,
        "spectral_norm": True,
        "positions": 2,
        "quantizer": keras_ae.quantizers.ResidualQuantizer(2, 4, "gradient", seed=7),
        "activation": "tanh",
        "likelihood": "gaussian",
    },
    "VQVAE": {
        "positions": 2,
        "codebook": "gradient",
        "commitment_weight": 0.5,
        "decay": 0.9,
        "reset_threshold": 0.1,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "VAE": {
        "activation": "tanh",
        "likelihood": "laplace",
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "free_bits": 0.05,
    },
    "VAEGAN": {
        "gamma": 0.5,
        "pixel_weight": 0.1,
        "adversarial_loss": "hinge",
        "feature_layer": "features",
        "discriminator_start": 1,
        "equilibrium": (0.9, 0.6),
        "spectral_norm": True,
        "beta": 0.3,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "VariationalAutoDecoder": {
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "beta": 0.3,
        "search_steps": 7,
        "activation": "tanh",
        "likelihood": "laplace",
    },
    "WAE": {
        "penalty": "gan",
        "penalty_weight": 3.0,
        "kernel": "rbf",
        "adversarial_loss": "hinge",
        "gradient_penalty": 2.0,
        "prior": keras_ae.distributions.Normal(0.5, 0.1),
        "activation": "tanh",
        "likelihood": "laplace",
    },
}

BACKEND = keras.backend.backend()
ELSEWHERE = {"tensorflow": TRAINED_ON_ALL[::2], "jax": TRAINED_ON_ALL[1::2]}


def few_everywhere(values, few):
    """Parameters of which only `few` are for more than the first backend."""
    return [
        pytest.param(value, marks=[] if value in few else pytest.mark.once)
        for value in values
    ]


def owns_codes(Model):
    return issubclass(Model, keras_ae.AutoDecoder)


def decoder_name(Model):
    """What the argument for a decoder of one's own is called."""
    return "generator" if "decoder" in Model.settled_arguments else "decoder"


def is_stacked(Model):
    return issubclass(Model, keras_ae.StackedSAE)


def settings(Model):
    if issubclass(Model, keras_ae.WAE):
        return WAE_SETTINGS
    if issubclass(Model, keras_ae.HierarchicalVAE):
        return LADDER_SETTINGS
    if issubclass(Model, keras_ae.models.variational.posterior_flows.FlowVAE):
        return FLOW_SETTINGS
    if Model.needs_labels:
        return LABELLED_SETTINGS
    if issubclass(Model, keras_ae.VQVAE):
        return VQ_SETTINGS
    if issubclass(Model, keras_ae.FSQVAE):
        return FSQ_SETTINGS
    if issubclass(Model, keras_ae.LFQVAE):
        return LFQ_SETTINGS
    return STACKED_SETTINGS if is_stacked(Model) else SETTINGS


def non_default(Model):
    """Arguments other than the defaults; layers that no other model draws from."""
    return {
        name: type(value).from_config(value.get_config())
        if isinstance(value, keras.layers.Layer)
        else value
        for name, value in NON_DEFAULT[Model.__name__].items()
    }


def make(Model, **kwargs):
    keras.utils.set_random_seed(1)
    return Model(**{**settings(Model), **kwargs})


def make_networks(Model, architecture, widths=None, **kwargs):
    """A model of an architecture, for those that have a choice of it."""
    if is_stacked(Model):
        return make(Model, **kwargs)
    return make(Model, architecture=architecture, widths=widths, **kwargs)


def labels(model, images):
    """Labels for a model that needs them."""
    return np.arange(len(images)) % model.num_classes if model.needs_labels else None


def fit(model, images, epochs=2, validation_data=None, **kwargs):
    kwargs = {"batch_size": 16, "shuffle": False, "verbose": 0, **kwargs}
    if validation_data is not None and model.needs_labels:
        validation_data = (validation_data, labels(model, validation_data))
    return model.fit(
        images,
        labels(model, images),
        epochs=epochs,
        validation_data=validation_data,
        **kwargs,
    ).history


def evaluate(model, images, **kwargs):
    y = labels(model, images)
    return model.evaluate(images, y, verbose=0, return_dict=True, **kwargs)


def learn(model, images, epochs):
    """Trains, and returns by epoch what has to fall."""
    model.compile(keras.optimizers.Adam(1e-2))
    contest = model.player_names and "reconstruction" in model.term_names
    name = "reconstruction" if contest else "loss"
    if hasattr(model, "project"):
        # The sum of two opponents' losses need not fall; that of one alone does.
        model.compile({"generator": keras.optimizers.SGD(0.0), "discriminator": "adam"})
        name = "discriminator_loss"
    return fit(model, images, epochs=epochs)[name]


def fixed_noise(mean, log_var):
    signs = 1 - 2 * (np.arange(mean.shape[-1]) % 2)  # 1, -1, 1 ...
    noise = keras.ops.convert_to_tensor(signs, "float32")
    return mean + keras.ops.exp(0.5 * log_var) * noise


def fixed_codes(x):
    steps = keras.ops.arange(keras.ops.shape(x)[0], dtype="float32")[:, None]
    return keras.ops.sin(steps * keras.ops.convert_to_tensor([1.0, 2.0, 3.0]))


def halves(x):
    return keras.ops.full((keras.ops.shape(x)[0],), 0.5)


def unchanged(x, **kwargs):
    return x


NOISE = {
    "sampling": fixed_noise,
    "upper_sampling": fixed_noise,
    "prior_sampling": fixed_codes,
    "mixing": halves,
    "permutation": unchanged,
    "corruption": unchanged,
}


def remove_noise(model, monkeypatch):
    """Nothing is drawn any more, in steps that are not compiled yet."""
    for name, function in NOISE.items():
        if getattr(model, name, None) is not None:
            monkeypatch.setattr(getattr(model, name), "call", function)
    if hasattr(model, "quantizer"):
        # What starts a codebook and replaces its dead codes.
        for layer in getattr(model.quantizer, "quantizers", [model.quantizer]):
            monkeypatch.setattr(layer, "draw", lambda x: x[:4], raising=False)


@contextlib.contextmanager
def rates(model, rate):
    """Sets learning rates as long as the block lasts: one, or some by player."""
    learners = getattr(model.optimizer, "by_player", {"": model.optimizer})
    if not isinstance(rate, dict):
        rate = dict.fromkeys(learners, rate)
    before = {name: to_numpy(learners[name].learning_rate) for name in rate}
    for name in rate:
        learners[name].learning_rate = rate[name]
    try:
        yield
    finally:
        for name in rate:
            learners[name].learning_rate = float(before[name])


def optimizers(model):
    """Its optimizer, or those of all its players; not that of codes."""
    if owns_codes(type(model)):
        return [model.optimizer["decoder"]]
    if model.player_names:
        return [model.optimizer[name] for name in model.player_names]
    return [model.optimizer]


def weights(model):
    return [np.array(keras.ops.convert_to_numpy(w)) for w in model.weights]


def telling(Model):
    """A class whose terms tell a figure too, one that it would be easy to minimise."""

    class Telling(Model):
        monitor_names = (*Model.monitor_names, "brightness")

        def terms(self, x, outputs, training=False):
            means = keras.ops.mean(outputs["parameters"], axis=(1, 2, 3))
            terms = super().terms(x, outputs, training)
            return {**terms, "brightness": 1e3 * means}

    return Telling
