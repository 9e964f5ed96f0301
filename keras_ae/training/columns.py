"""Columns of frames, which a model knows by their names."""

from typing import Any

import numpy as np

from keras_ae import arrays


class KnowsColumns:
    """The columns that a model was trained on, in whatever order others come later."""

    # Columns of the frame that `fit` was given: those of others are put in their order.
    column_names: tuple[str, ...] | None = None

    def _state(self):
        return {"column_names": self.column_names}

    def _restore(self, state):
        names = state.get("column_names")
        self.column_names = names and tuple(names)

    def in_order(self, name: str, data: Any) -> Any:
        """Returns a frame's rows in the order of training, other data as `plain` does.

        Args:
            name: How errors call the data.
            data: What the user passed.

        Raises:
            ValueError: If a frame has other columns, or an array can't be read.
        """
        names = arrays.column_names(data)
        data = arrays.plain(data)
        if names and self.column_names:
            data = arrays.reordered(data, names, self.column_names, name)
        return data

    def as_array(self, name: str, data: Any) -> np.ndarray:
        """Returns examples as `arrays.as_array` does, with `in_order`."""
        return arrays.as_array(name, self.in_order(name, data))

    def beside(self, x: Any, name: str, data: Any) -> Any:
        """Returns what is passed beside x as an array, or None.

        A frame of the same columns as x, of clean rows or of weights, comes out in the
        order in which x is trained on.

        Args:
            x: What the user passed as examples.
            name: How errors call what is beside them.
            data: What the user passed as it.

        Raises:
            ValueError: If a list does not make an array, or a frame can't be read.
        """
        names = arrays.column_names(data)
        wanted = self.column_names or arrays.column_names(x)
        data = arrays.beside(name, data)
        if names and wanted and sorted(names) == sorted(wanted):
            data = arrays.reordered(data, names, wanted, name)
        return data


def mask_beside(
    x: Any, mask: Any, wanted: tuple[str, ...] | None = None
) -> np.ndarray | None:
    """Returns what tells of each value of x whether it was observed, or None.

    Args:
        x: Examples. The columns of an array beside a frame are those of the frame.
        mask: What the user passed, or None.
        wanted: Names of columns in the order that the mask is to have. Defaults to that
            of x.

    Raises:
        ValueError: If it does not make an array of booleans or numbers.
    """
    if mask is None:
        return None
    names = arrays.column_names(mask) or arrays.column_names(x)
    wanted = wanted or arrays.column_names(x)
    mask = arrays.as_array("mask", mask)
    if names and wanted and mask.shape[1:] == (len(names),):
        mask = arrays.reordered(mask, names, wanted, "mask")
    return mask
