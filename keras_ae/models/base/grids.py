"""Codes that have a vector for each place of a grid."""

import math

from keras_ae import checks
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.nn import networks


class GridCodes(Autoencoder):
    """What models share whose code is a grid of vectors, `latent_dim` numbers each.

    Convolutions give a vector for each place of a grid: `widths` has a number of
    filters for each stage of stride 2, by default `SPATIAL_WIDTHS`. Other networks give
    `positions` vectors. The encoder's and the decoder's code is all of them in a row,
    `(batch, code_dim)`.

    Attributes:
        grid: Sides of the grid, known once the model is built.
        is_spatial: Whether the networks are convolutions.
    """

    SPATIAL_WIDTHS: tuple[int, ...] = (64, 128)
    # What `"auto"` stands for where it has convolutions.
    spatial_architecture: str = "conv"

    def __init__(self, latent_dim: int, *, positions: int | None = None, **kwargs):
        super().__init__(latent_dim, **kwargs)
        if positions is not None:
            checks.check_count("positions", positions)
        self.positions = positions

    @property
    def code_dim(self) -> int:
        return math.prod(self.grid) * self.latent_dim

    @property
    def prior_dim(self) -> int:
        return self.code_dim

    @property
    def code_shape(self) -> tuple[int, ...]:
        if not self.is_spatial:
            return (self.code_dim,)
        return (*self.grid, self.latent_dim)

    def resolved(self, image_shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Returns the networks' architecture and widths for pictures of a shape."""
        architecture, widths = networks.resolve(
            image_shape, self.architecture, self.widths
        )
        if architecture in networks.CONVOLUTIONAL:
            if self.architecture == "auto":
                architecture = self.spatial_architecture
            widths = self.widths or self.SPATIAL_WIDTHS
        return architecture, widths

    def network_options(self, image_shape):
        architecture, widths = self.resolved(image_shape)
        return {
            **super().network_options(image_shape),
            "architecture": architecture,
            "widths": widths or None,
        }

    def build_networks(self, image_shape):
        self.build_grid(image_shape)
        super().build_networks(image_shape)

    def build_grid(self, image_shape: tuple[int, ...]) -> None:
        """Decides the grid; a subclass builds what is made for it."""
        architecture, widths = self.resolved(image_shape)
        self.is_spatial = architecture in networks.CONVOLUTIONAL
        if self.is_spatial and self.positions is not None:
            raise ValueError(
                "`positions` must be None for convolutions, which have a vector for "
                f"each place of a grid. Received: positions={self.positions} with "
                f"architecture='{self.architecture}'; pass architecture='dense'."
            )
        if self.is_spatial:
            self.grid = networks.grid(image_shape, widths, architecture)
        else:
            self.grid = (self.positions or 1,)

    def build_encoder(self, **options):
        if not self.is_spatial:
            return super().build_encoder(**options)
        return networks.spatial_encoder(**{**options, "latent_dim": self.latent_dim})

    def build_decoder(self, **options):
        if not self.is_spatial:
            return super().build_decoder(**options)
        return networks.spatial_decoder(**{**options, "latent_dim": self.latent_dim})
