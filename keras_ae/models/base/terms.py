"""What a model says of each example, of which `evaluate` logs the means."""

from collections import defaultdict

import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.nn import seeds
from keras_ae.training import inputs


class TellsTerms:
    """Loss, terms and figures of each example."""

    def terms_of(
        self, x, y=None, seed: int | None = None, batch_size: int = 256
    ) -> dict[str, np.ndarray]:
        """Returns what `evaluate` averages: loss, terms and figures of each example.

        Where the model draws, so does this: one code for each example, say. What the
        examples of a batch share, like a discrepancy between all codes and the prior,
        is the same for all of that batch.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            y: Labels `(n,)` of an array, for a model that takes labels.
            seed: Integer; the same seed gives the same figures.
            batch_size: Examples at a time, for arrays.

        Returns:
            Arrays `(n,)` by name, as they are logged: `"loss"`, its terms
            (`term_names`), and what is monitored beside them (`monitor_names`).

        Raises:
            ValueError: If the model is not built, or the examples don't suit it.
        """
        self.require_built("terms_of")
        checks.check_count("batch_size", batch_size)
        y = self._labels_beside(x, self.beside(x, "y", y))
        x = self.check_data(x, "x", y)
        y = inputs.readable(y)
        function = self.compiled_function("terms_of", self._terms_of)
        data = x if y is None else (x, ops.convert_to_numpy(y))
        found = defaultdict(list)
        with seeds.repeatable(self, seed):
            for batch in inputs.batches(data, batch_size, labelled=True):
                parts = batch if isinstance(batch, tuple) else (batch,)
                figures = function(*map(ops.convert_to_tensor, parts))
                for name, values in figures.items():
                    found[name].append(ops.convert_to_numpy(values))
        return {name: np.concatenate(values) for name, values in found.items()}

    def _labels_beside(self, x, y):
        """Returns what `y` is for examples `x` of the user."""
        return y

    def _terms_of(self, *parts):
        x, others, weight = self.unpack_batch(parts if len(parts) > 1 else parts[0])
        found = {}
        for player in {player.name: player for player in self.players()}.values():
            found |= self._objective(player, x, others, weight, training=False)[1]
        losses = [
            found[name]
            for name in (*self.term_names, "regularization")
            if name in found
        ]
        return {"loss": sum(losses), **found}
