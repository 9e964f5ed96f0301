"""Trains pythae's plain VAE with nothing set but what the settings say.

`python weights_of_pythae.py SETTINGS.json`, in an environment that has pythae. The
weights after each of the epochs that are asked for go to a file each.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback


class Weights(TrainingCallback):
    """Writes a model's weights after some epochs."""

    def __init__(self, model, settings):
        self.model, self.settings, self.epoch = model, settings, 0

    def on_epoch_end(self, training_config, **kwargs):
        self.epoch += 1
        if self.epoch in self.settings["measured"]:
            state = self.model.state_dict().items()
            np.savez(
                Path(self.settings["directory"]) / f"{self.epoch}.npz",
                **{name: value.cpu().numpy() for name, value in state},
            )


def main(path):
    settings = json.loads(Path(path).read_text())
    x = np.load(settings["data"])  # (n, 28, 28, 1), 0 or 1
    torch.manual_seed(settings["seed"])
    model = VAE(
        VAEConfig(
            input_dim=(1, 28, 28),
            latent_dim=settings["latent_dim"],
            reconstruction_loss="bce",
        )
    )
    rate = settings["learning_rate"]
    with tempfile.TemporaryDirectory() as directory:
        config = BaseTrainerConfig(
            output_dir=directory,
            num_epochs=max(settings["measured"]),
            per_device_train_batch_size=settings["batch_size"],
            seed=settings["seed"],
            **({} if rate is None else {"learning_rate": rate}),
        )
        pipeline = TrainingPipeline(model=model, training_config=config)
        pipeline(np.moveaxis(x, -1, 1), callbacks=[Weights(model, settings)])


if __name__ == "__main__":
    main(sys.argv[1])
