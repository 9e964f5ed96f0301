"""What the command line does once keras is imported."""

from keras_ae.cli.commands.anomalies import fit_anomalies, score_anomalies
from keras_ae.cli.commands.codes import compress, decompress, embed
from keras_ae.cli.commands.explore import explore
from keras_ae.cli.commands.pictures import (
    attribute,
    denoise,
    interpolate,
    latent_map,
    reconstruct,
    sample,
)
from keras_ae.cli.commands.plans import (
    Plan,
    arguments,
    code_length,
    training_plan,
)
from keras_ae.cli.commands.reading import free
from keras_ae.cli.commands.scores import compare, evaluate
from keras_ae.cli.commands.training import (
    recipe,
    shared_settings,
    train,
    write_report,
)

__all__ = [
    "Plan",
    "arguments",
    "attribute",
    "code_length",
    "compare",
    "compress",
    "decompress",
    "denoise",
    "embed",
    "evaluate",
    "explore",
    "fit_anomalies",
    "free",
    "interpolate",
    "latent_map",
    "recipe",
    "reconstruct",
    "sample",
    "score_anomalies",
    "shared_settings",
    "train",
    "training_plan",
    "write_report",
]
