"""Encoders, decoders and critics, sized to the shape of the data.

Each is a plain Keras model that can be called, saved and exported on its own. Data may
be vectors `(features,)`, grey pictures `(height, width)`, pictures
`(height, width, channels)`, volumes `(depth, height, width, channels)` or series
`(time, channels)`, of any size, odd and unequal sides included.
"""

from keras_ae.nn.networks.denoising import (
    denoising_code,
    denoising_decoder,
    denoising_encoder,
)
from keras_ae.nn.networks.shapes import (
    ARCHITECTURES,
    CONVOLUTIONAL,
    check,
    check_channels_last,
    grid,
    head_dims,
    resolve,
    with_channels,
)
from keras_ae.nn.networks.spatial import patch_critic, spatial_decoder, spatial_encoder
from keras_ae.nn.networks.stacked import stacked_layers
from keras_ae.nn.networks.vector import critic, decoder, encoder
from keras_ae.nn.networks.velocity import velocity

__all__ = [
    "ARCHITECTURES",
    "CONVOLUTIONAL",
    "check",
    "check_channels_last",
    "critic",
    "decoder",
    "denoising_code",
    "denoising_decoder",
    "denoising_encoder",
    "encoder",
    "grid",
    "head_dims",
    "patch_critic",
    "resolve",
    "spatial_decoder",
    "spatial_encoder",
    "stacked_layers",
    "velocity",
    "with_channels",
]
