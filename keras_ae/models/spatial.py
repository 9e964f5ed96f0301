"""Autoencoders whose code may be a vector for each place of a grid."""

import math

from keras_ae import networks
from keras_ae.models.deterministic import AE

WIDTHS = (64, 128)


class SpatialAE(AE):
    """Base of autoencoders whose code may be a vector for each place of a grid.

    `grid` is what the vectors of one example are arranged in: `(rows, columns)`, or a
    number of vectors in a row where the networks are no convolutions. The encoder's and
    the decoder's code is all of them, `(batch, code_dim)`, of `latent_dim` each.
    """

    @property
    def code_dim(self) -> int:
        return math.prod(self.grid) * self.latent_dim

    def network_options(self, image_shape):
        options = super().network_options(image_shape)
        architecture, _ = networks.resolve(image_shape, self.architecture, self.widths)
        widths = self.widths or (WIDTHS if len(self.grid) == 2 else None)
        return {**options, "architecture": architecture, "widths": widths}

    def build_networks(self, image_shape):
        self.grid = self._grid(image_shape)
        super().build_networks(image_shape)

    def _grid(self, image_shape):
        """The grid of the codes of examples of a shape, settled before the networks."""
        raise NotImplementedError

    def build_encoder(self, *, heads, **options):
        if len(self.grid) == 1:
            return super().build_encoder(heads=heads, **options)
        return networks.spatial_encoder(**{**options, "latent_dim": self.latent_dim})

    def build_decoder(self, **options):
        if len(self.grid) == 1:
            return super().build_decoder(**options)
        return networks.spatial_decoder(**{**options, "latent_dim": self.latent_dim})
