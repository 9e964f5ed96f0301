"""What the command line does once keras is imported."""

from keras_ae.cli.commands.codes import compress, decompress, embed
from keras_ae.cli.commands.pictures import (
    attribute,
    denoise,
    interpolate,
    latent_map,
    reconstruct,
    sample,
)
from keras_ae.cli.commands.reading import (
    as_pictures,
    check_absent,
    check_png,
    load_pictures,
    picture_shape,
    save_image,
)
from keras_ae.cli.commands.training import (
    FEW_DIMS,
    Plan,
    arguments,
    recipe,
    shared_settings,
    train,
    training_plan,
    write_report,
)

__all__ = [
    "FEW_DIMS",
    "Plan",
    "arguments",
    "as_pictures",
    "attribute",
    "check_absent",
    "check_png",
    "compress",
    "decompress",
    "denoise",
    "embed",
    "interpolate",
    "latent_map",
    "load_pictures",
    "picture_shape",
    "recipe",
    "reconstruct",
    "sample",
    "save_image",
    "shared_settings",
    "train",
    "training_plan",
    "write_report",
]
