"""The command `keras-ae`: thin, and instant until there is something to compute.

Only what a command needs is imported, when it runs: `--help` and the listings import
neither keras nor numpy, and `--backend` still chooses the backend.
"""

from keras_ae.cli.anomalies import anomalies
from keras_ae.cli.command import (
    benchmark,
    info,
    list_models,
    main,
    recipe,
    recipes,
    report,
    train,
)
from keras_ae.cli.scoring import compare, evaluate
from keras_ae.cli.verbs import (
    attribute,
    compress,
    decompress,
    denoise,
    embed,
    explore,
    interpolate,
    latent_map,
    reconstruct,
    sample,
)

__all__ = [
    "anomalies",
    "attribute",
    "benchmark",
    "compare",
    "compress",
    "decompress",
    "denoise",
    "embed",
    "evaluate",
    "explore",
    "info",
    "interpolate",
    "latent_map",
    "list_models",
    "main",
    "recipe",
    "recipes",
    "reconstruct",
    "report",
    "sample",
    "train",
]
