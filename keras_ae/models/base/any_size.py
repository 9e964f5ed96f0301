"""Pictures of other sizes than a model has learned from, whole or in tiles."""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ae import arrays, checks, progress
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.base.verbs import padded
from keras_ae.training import inputs


class AnySize(Autoencoder):
    """What models share whose networks can be made for pictures of any size.

    A subclass says `tile_step`.
    """

    # What has the weights that verbs need, by name.
    sized_parts: tuple[str, ...] = ("encoder", "decoder", "likelihood")

    @property
    def tile_step(self) -> int:
        """Pixels of which the sides of tiles are multiples."""
        raise NotImplementedError

    def config_for_size(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Returns the config of the same model for pictures of another size."""
        return {**self.get_config(), "image_shape": image_shape}

    def for_size(self, image_shape: tuple[int, ...]):
        """Returns a model of the same weights for pictures of another size."""
        if image_shape == self.built_image_shape:
            return self
        if self._given["encoder"] or self._given["decoder"]:
            raise ValueError(
                f"Networks of your own take pictures of {self.built_image_shape} only, "
                f"which tiles must be. Received: tiles of {image_shape}"
            )
        name = f"for size {image_shape}"
        if name not in self._compiled_functions:
            model = self.from_config(self.config_for_size(image_shape))
            # As a method: Keras would train a model that it finds.
            self._compiled_functions[name] = model.reconstruct
        model = self._compiled_functions[name].__self__
        for part in self.sized_parts:
            getattr(model, part).set_weights(getattr(self, part).get_weights())
        model.in_unit_range = self.in_unit_range
        return model

    def check_tile(self, tile, overlap) -> tuple[int, int]:
        """Returns the side of tiles and their overlap, in pixels, or raises."""
        step = self.tile_step
        checks.check_count("tile", tile)
        overlap = tile // 4 // step * step if overlap is None else overlap
        checks.check_count("overlap", overlap, minimum=0)
        for name, value in (("tile", tile), ("overlap", overlap)):
            if value % step:
                raise ValueError(
                    f"`{name}` must be a multiple of {step} pixels. "
                    f"Received: {name}={value}"
                )
        if overlap >= tile:
            raise ValueError(
                f"`overlap` must be below `tile`. Received: overlap={overlap} with "
                f"tile={tile}"
            )
        return tile, overlap

    def check_pictures(self, x):
        """Returns an array of pictures of any height and width, or raises."""
        self.require_built("tile")
        x, known = arrays.plain(x), self.built_image_shape
        inputs.check_batch("x", x)
        shape = tuple(x.shape)
        if len(shape) != len(known) + 1 or shape[3:] != known[2:]:
            raise ValueError(
                "`x` must be an array (n, height, width"
                + "".join(f", {channels}" for channels in known[2:])
                + f") with `tile`. Received: an array of shape {shape}"
            )
        inputs.check_values(x)
        return x

    def in_tiles(
        self,
        verb: str,
        function: str,
        x,
        tile: int,
        overlap: int,
        batch_size: int,
        step_in: int,
        step_out: int,
    ) -> np.ndarray:
        """Applies a verb to overlapping tiles of pictures, or of codes, and blends.

        Args:
            verb: What it is called in the line of progress.
            function: Name of the model's method that does it to a batch of tiles.
            x: Array `(n, height, width, ...)`, pictures or codes on a grid.
            tile: Side of a tile, a multiple of `tile_step` pixels.
            overlap: Pixels that neighbours share at least, another multiple.
            batch_size: Tiles of the size of the model's own pictures at a time.
            step_in: What `tile_step` pixels are in `x`.
            step_out: What they are in the result.

        Returns:
            float32 array `(n, rows, columns, ...)`; sides of `x` that are no multiples
            of `step_in` are rounded up.
        """
        checks.check_count("batch_size", batch_size)
        step, known = self.tile_step, self.built_image_shape
        rows, columns = (
            _Side.of(math.ceil(length / step_in), tile // step, overlap // step)
            for length in x.shape[1:3]
        )
        sides = (rows.tile * step, columns.tile * step)
        model = self.for_size((*sides, *known[2:]))
        compiled = model.compiled_function(function, getattr(model, function))
        places = [
            (index, row, column)
            for index in range(x.shape[0])
            for row in range(len(rows.starts))
            for column in range(len(columns.starts))
        ]
        ratio = math.prod(sides) / math.prod(known[:2])
        count = min(max(1, int(batch_size / max(ratio, 1))), len(places))
        weights = rows.weights(step_out), columns.weights(step_out)
        blended = np.empty(0)
        with progress.shown(verb, len(places)) as advance:
            for start in range(0, len(places), count):
                some = places[start : start + count]
                tiles = [
                    _cut(x[index], (rows, columns), (row, column), step_in)
                    for index, row, column in some
                ]
                batch = ops.convert_to_tensor(padded(np.stack(tiles), count))
                found = ops.convert_to_numpy(compiled(batch))
                if not start:
                    size = [side.length * step_out for side in (rows, columns)]
                    shape = (x.shape[0], *size, *found.shape[3:])
                    blended = np.zeros(shape, "float32")
                for (index, row, column), values in zip(some, found, strict=False):
                    weight = np.outer(weights[0][row], weights[1][column])
                    weight = weight.reshape(weight.shape + (1,) * (values.ndim - 2))
                    top, left = (
                        side.starts[place] * step_out
                        for side, place in ((rows, row), (columns, column))
                    )
                    height, width = values.shape[:2]
                    part = blended[index, top : top + height, left : left + width]
                    part += weight * values
                advance(start + len(some))
        return blended


class _Side(NamedTuple):
    """Tiles along a side of a picture, in steps.

    Attributes:
        length: Of the side.
        tile: Length of a tile.
        starts: Where each tile begins.
    """

    length: int
    tile: int
    starts: np.ndarray

    @classmethod
    def of(cls, length: int, tile: int, overlap: int) -> "_Side":
        """As few tiles as overlap so much, spread evenly."""
        tile = min(tile, length)
        overlap = min(overlap, tile - 1)
        count = math.ceil((length - overlap) / (tile - overlap))
        starts = np.linspace(0, length - tile, count).astype(int)
        return cls(length, tile, starts)

    def weights(self, scale: int) -> np.ndarray:
        """What each tile counts for, `(tiles, tile * scale)`, 1 in all everywhere.

        It rises in the middle half of what two tiles share: what a tile shows close to
        its edge depends on what lies outside.
        """
        size = self.tile * scale
        starts = self.starts * scale
        middles = np.arange(size) + 0.5
        weights = np.ones((len(starts), size))
        for tile, shared in enumerate(starts[:-1] + size - starts[1:]):
            if shared:
                way = np.clip(2 * middles / shared - 0.5, 0, 1)
                rise = np.sin(np.pi / 2 * way) ** 2
                weights[tile] *= rise[::-1]
                weights[tile + 1] *= rise
        total = np.zeros(self.length * scale)
        for start, weight in zip(starts, weights, strict=True):
            total[start : start + size] += weight
        return np.stack(
            [
                weight / total[start : start + size]
                for start, weight in zip(starts, weights, strict=True)
            ]
        ).astype("float32")


def _cut(picture, sides, places, step):
    """A tile of one picture, whose edge goes on where the picture ends."""
    spans = [
        slice(side.starts[place] * step, (side.starts[place] + side.tile) * step)
        for side, place in zip(sides, places, strict=True)
    ]
    tile = ops.convert_to_numpy(picture[tuple(spans)])
    missing = [
        (0, side.tile * step - length)
        for side, length in zip(sides, tile.shape[:2], strict=True)
    ]
    return np.pad(tile, missing + [(0, 0)] * (tile.ndim - 2), "edge")
