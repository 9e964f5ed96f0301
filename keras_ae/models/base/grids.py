"""Codes that have a vector for each place of a grid."""

import math

import numpy as np
from keras import ops

from keras_ae import arrays, checks
from keras_ae.models.base.any_size import AnySize
from keras_ae.nn import networks


class GridCodes(AnySize):
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

    # Verbs

    @property
    def tile_step(self) -> int:
        return 2 ** len(self.resolved(self.built_image_shape)[1])

    def config_for_size(self, image_shape):
        architecture, widths = self.resolved(self.built_image_shape)
        return {
            **super().config_for_size(image_shape),
            "architecture": architecture,
            "widths": widths,
        }

    def check_tile(self, tile, overlap):
        self.require_built("tile")
        shape = self.built_image_shape
        if not self.is_spatial or len(self.grid) != 2:
            raise ValueError(
                "`tile` needs pictures and convolutions, whose codes have places. "
                f"Received: tile={tile} with architecture='{self.architecture}' and "
                f"examples of shape {shape}"
            )
        if any(side % self.tile_step for side in shape[:2]):
            raise ValueError(
                f"`tile` needs a model of pictures whose sides are multiples of "
                f"{self.tile_step}, as those of tiles are: others are halved at other "
                f"pixels. Received: tile={tile} and examples of shape {shape}"
            )
        return super().check_tile(tile, overlap)

    def encode(
        self,
        x,
        batch_size: int = 256,
        *,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> np.ndarray:
        """Returns the codes of `x`, of pictures of any size in tiles.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes; with `tile`
                an array of pictures of any height and width, also a memory map. In a
                graph, as of `tf.data.Dataset.map(model.encode)` or `jax.jit`, a tensor.
            batch_size: Examples at a time, for arrays; of larger tiles fewer.
            tile: Side in pixels of the square tiles that pictures are encoded in, which
                bounds the memory, a multiple of the pixels of a place of the grid.
                Pictures no larger than a tile are encoded whole.
            overlap: Pixels that neighbouring tiles share at least, another multiple.
                Their codes are blended there. Defaults to a quarter of a tile.

        Returns:
            Array `(n, code_dim)`; in a graph a tensor; with `tile`
            `(n, rows, columns, latent_dim)`, for `decode` with `tile`.

        Raises:
            ValueError: If `tile` or `overlap` is out of range, or the networks are no
                convolutions of pictures.
        """
        if tile is None:
            return super().encode(x, batch_size)
        tile, overlap = self.check_tile(tile, overlap)
        x, step = self.check_pictures(x), self.tile_step
        codes = self.in_tiles(
            "encode", "encode_grid", x, tile, overlap, batch_size, step, 1
        )
        return self.settled(codes)

    def decode(
        self,
        z,
        batch_size: int = 256,
        *,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> np.ndarray:
        """Returns the likelihood's mean for codes `z`, of grids of any size in tiles.

        Args:
            z: Array `(n, code_dim)`; with `tile` `(n, rows, columns, latent_dim)`.
            batch_size: Codes at a time; of larger tiles fewer.
            tile, overlap: As for `encode`; pictures are blended.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1]; with `tile` as large as the
            grid's places are.

        Raises:
            ValueError: As `encode`, or if codes have another shape.
        """
        if tile is None:
            return super().decode(z, batch_size)
        tile, overlap = self.check_tile(tile, overlap)
        z = arrays.as_array("z", z).astype("float32")
        if z.ndim != 4 or z.shape[-1] != self.latent_dim or 0 in z.shape:
            raise ValueError(
                f"`z` must have the shape (n, rows, columns, {self.latent_dim}) with "
                f"`tile`. Received: {z.shape}"
            )
        step = self.tile_step
        return self.in_tiles(
            "decode", "decode_grid", z, tile, overlap, batch_size, 1, step
        )

    def reconstruct(
        self,
        x,
        batch_size: int = 256,
        *,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> np.ndarray:
        """Returns the decoded codes of `x`, of pictures of any size in tiles.

        Args:
            x, batch_size, tile, overlap: As for `encode`.

        Returns:
            Array of the shape of x, pictures in [0, 1].

        Raises:
            ValueError: As `encode`.
        """
        if tile is None:
            return super().reconstruct(x, batch_size)
        codes = self.encode(x, batch_size, tile=tile, overlap=overlap)
        restored = self.decode(codes, batch_size, tile=tile, overlap=overlap)
        height, width = x.shape[1:3]
        return restored[:, :height, :width]

    def encode_grid(self, x):
        """Returns the codes of a batch on the grid, which are blended of tiles."""
        return ops.reshape(self.encode_batch(x), (-1, *self.code_shape))

    def settled(self, codes: np.ndarray) -> np.ndarray:
        """Returns codes `(n, rows, columns, latent_dim)` once they are blended."""
        return codes

    def decode_grid(self, z):
        """Returns the likelihood's mean for a batch of codes on the grid."""
        return self.decode_batch(ops.reshape(z, (-1, self.code_dim)))
