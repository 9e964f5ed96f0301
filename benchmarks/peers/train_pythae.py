"""pythae's trainer, as its users call it: `TrainingPipeline`, Adam at 1e-3."""

import tempfile

import numpy as np
import torch
from pythae.models import VAE, VQVAE, VAEConfig, VQVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.models.nn.benchmarks.mnist import (
    Decoder_ResNet_VQVAE_MNIST,
    Encoder_ResNet_VQVAE_MNIST,
)
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn

from keras_ae import machine


class Epochs(TrainingCallback):
    """Tells the clock of each epoch's end: what is logged is the last of it."""

    def __init__(self, clock):
        self.clock = clock

    def on_log(self, training_config, logs, **kwargs):
        self.clock.epoch(logs["train_epoch_loss"])


class Encoder(BaseEncoder):
    def __init__(self, workload):
        super().__init__()
        *_, channels = workload.image_shape
        stages = []
        for width in workload.widths:
            stages += [
                nn.Conv2d(channels, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        self.stages = nn.Sequential(*stages, nn.Flatten())
        rows, columns = workload.grid
        self.mean = nn.Linear(rows * columns * channels, workload.latent_dim)
        self.log_var = nn.Linear(rows * columns * channels, workload.latent_dim)

    def forward(self, x):
        h = self.stages(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    def __init__(self, workload):
        super().__init__()
        rows, columns = workload.grid
        width = workload.widths[-1]
        stages = [
            nn.Linear(workload.latent_dim, rows * columns * width),
            nn.ReLU(),
            nn.Unflatten(1, (width, rows, columns)),
        ]
        for filters in (*reversed(workload.widths[:-1]), workload.widths[0]):
            stages += [
                nn.ConvTranspose2d(width, filters, 4, 2, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
            ]
            width = filters
        stages.append(nn.Conv2d(width, workload.image_shape[-1], 3, 1, 1))
        if workload.likelihood == "bernoulli":
            stages.append(nn.Sigmoid())
        self.stages = nn.Sequential(*stages)

    def forward(self, z):
        return ModelOutput(reconstruction=self.stages(z))


def model(workload):
    height, width, channels = workload.image_shape
    shape = (channels, height, width)
    if workload.architecture == "vqvae":
        config = VQVAEConfig(
            input_dim=shape,
            latent_dim=workload.latent_dim,
            use_ema=True,
            num_embeddings=256,
        )
        return VQVAE(
            config,
            encoder=Encoder_ResNet_VQVAE_MNIST(config),
            decoder=Decoder_ResNet_VQVAE_MNIST(config),
        )
    config = VAEConfig(
        input_dim=shape,
        latent_dim=workload.latent_dim,
        reconstruction_loss="bce" if workload.likelihood == "bernoulli" else "mse",
    )
    if workload.architecture == "dense":
        # Its own networks have one hidden layer of 512, as the workload does.
        return VAE(config)
    return VAE(config, encoder=Encoder(workload), decoder=Decoder(workload))


def start_as_keras(module):
    """Glorot's uniform kernels and zero biases, as Keras draws them."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def train(workload, x, settings, clock):
    torch.manual_seed(settings["seed"])
    built = model(workload).apply(start_as_keras)
    with tempfile.TemporaryDirectory() as directory:
        config = BaseTrainerConfig(
            output_dir=directory,
            num_epochs=settings["epochs"],
            learning_rate=1e-3,
            per_device_train_batch_size=workload.batch_size,
            seed=settings["seed"],
            amp=settings["precision"] != "float32",
        )
        pipeline = TrainingPipeline(model=built, training_config=config)
        clock.start()
        # (n, channels, height, width)
        x = np.moveaxis(x, -1, 1).astype("float32") / 255
        pipeline(x, callbacks=[Epochs(clock)])
    return machine.device("torch")
