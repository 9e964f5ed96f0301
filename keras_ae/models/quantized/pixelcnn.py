"""PixelCNN: an autoregressive density of the tokens of a quantized autoencoder."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers, ops

from keras_ae import backend, checks, progress
from keras_ae.models.quantized.quantizers import check_tokens
from keras_ae.probability.distributions import LearnedPrior, Seed

SAMPLE_BATCH = 256  # arrays drawn at a time, at most


@keras.saving.register_keras_serializable(package="keras_ae")
class PixelCNN(LearnedPrior):
    """Gated PixelCNN: the distribution of each token given those before it.

        log p(tokens) = Σ_i log p(token_i | token_1 … token_{i-1})

    in raster order: row by row from the top, each from the left. A stack of vertical
    convolutions sees the rows above a place, one of horizontal convolutions the places
    to the left in its row, which each block widens by `kernel_size // 2` places without
    a blind spot. A learned bias tells the places apart.

    Tokens of several quantizers are predicted one after another at each place. Each is
    told those before it there, and all of those at earlier places.

    Other than in the paper, both stacks have residual connections.

    Args:
        num_codes: Number of codes, >= 1; tokens are integers from 0 to below it.
        filters: Channels of the convolutions.
        blocks: Number of gated blocks.
        kernel_size: Places across which a convolution would see in both directions if
            none were hidden from it, an odd number >= 3. Larger ones than the grid
            needs cost nothing.
        dropout: Share of the activations that is dropped in training, from 0 to
            below 1.
        **kwargs: `name` and `dtype`, as for any Keras layer. `dtype` defaults to
            float32, whatever the global policy.

    Call arguments:
        tokens: Integers `(batch, *token_shape)`, where `token_shape` is `(positions,)`,
            which is taken for one row, `(height, width)` or
            `(height, width, num_quantizers)`.
        training: Whether to drop activations.

    Returns:
        What `logits` returns.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model.fit_sampler("pixelcnn", digits)  # a model such as a `VQVAE`
    pictures = model.sample(16, seed=0)
    prior = model.sampler("pixelcnn")
    log_prob = prior.log_prob(model.tokens(digits))  # (n,)
    tokens = prior.sample((16, *model.token_shape), seed=0, temperature=0.8)
    typical = model.decode_tokens(tokens)
    ```

    Reference:
        van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016
        (https://arxiv.org/abs/1606.05328).
    """

    def __init__(
        self,
        num_codes: int,
        filters: int = 64,
        blocks: int = 6,
        kernel_size: int = 3,
        dropout: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_codes = checks.check_count("num_codes", num_codes)
        self.filters = checks.check_count("filters", filters)
        self.blocks = checks.check_count("blocks", blocks)
        self.kernel_size = checks.check_count("kernel_size", kernel_size, minimum=3)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"`kernel_size` must be odd. Received: kernel_size={kernel_size}"
            )
        self.dropout = checks.check_share("dropout", dropout)
        self._compiled_functions = {}

    def connect(self, model):
        if not model.has_tokens:
            raise ValueError(
                "A `PixelCNN` needs a model whose codes are tokens, such as a `VQVAE`. "
                f"Received: {type(model).__name__}"
            )
        self.build((None, *model.token_shape))

    def build(self, input_shape):
        self.token_shape = tuple(input_shape[1:])
        if not 1 <= len(self.token_shape) <= 3 or None in self.token_shape:
            raise ValueError(
                "`input_shape` must be (None, positions), (None, height, width) or "
                "(None, height, width, num_quantizers). Received: "
                f"input_shape={tuple(input_shape)}"
            )
        grid = self.token_shape
        self._grid = ((1, *grid) if len(grid) == 1 else grid)[:2]
        self._quantizers = grid[2] if len(grid) == 3 else 1
        # How far a convolution sees up and aside; there is nothing outside of the grid.
        self._up, self._aside = (
            min(self.kernel_size // 2, length - 1) for length in self._grid
        )

        filters, blocks, quantizers = self.filters, self.blocks, self._quantizers
        self.position = self.add_weight(
            name="position",
            shape=(*self._grid, filters),
            initializer="uniform",
            autocast=False,
        )

        def several(count, Layer, *args, channels=filters, **kwargs):
            made = [
                Layer(*args, **kwargs, dtype=self.dtype_policy) for _ in range(count)
            ]
            for layer in made:
                layer.build((None, None, None, channels))
            return made

        def embeddings(count, codes):
            return several(count, layers.Embedding, codes, filters)

        def convolutions(size):
            # Both halves of the gates at once.
            return several(
                blocks, layers.Conv2D, 2 * filters, size, data_format="channels_last"
            )

        # One code more, for what is outside of the grid.
        self.embeddings = embeddings(quantizers, self.num_codes + 1)
        self.vertical = convolutions((self._up + 1, 2 * self._aside + 1))
        self.links = several(blocks, layers.Dense, 2 * filters, channels=2 * filters)
        self.horizontal = convolutions((1, self._aside + 1))
        self.outputs = several(blocks, layers.Dense, filters)
        self.dropping = layers.Dropout(self.dropout, dtype=self.dtype_policy)
        # What a quantizer's token tells those after it at its place.
        self.hints = embeddings(quantizers - 1, self.num_codes)
        self.hidden = several(quantizers, layers.Dense, filters, "relu")
        self.heads = several(quantizers, layers.Dense, self.num_codes)
        self.built = True

    def call(self, tokens, training=False):
        return self.logits(tokens, training)

    def log_prob(self, tokens, training: bool = False):
        """Returns log p of arrays of tokens.

        Args:
            tokens: Integers `(batch, *token_shape)`.
            training: Whether to drop activations.

        Returns:
            Tensor `(batch,)`, in nats, in float32.

        Raises:
            ValueError: If the tokens have another shape or are not integers, or, given
                as a NumPy array, are not from 0 to below `num_codes`.
        """
        log_probs = ops.log_softmax(self.logits(tokens, training), axis=-1)
        tokens = ops.expand_dims(ops.cast(tokens, "int32"), -1)
        chosen = ops.take_along_axis(log_probs, tokens, axis=-1)
        return ops.sum(chosen, axis=tuple(range(1, len(chosen.shape))))

    def logits(self, tokens, training: bool = False):
        """Returns the logits of each token, given those before it.

        Args:
            tokens: Integers `(batch, *token_shape)`.
            training: Whether to drop activations.

        Returns:
            Tensor `(batch, *token_shape, num_codes)`, in float32.

        Raises:
            ValueError: As for `log_prob`.
        """
        self.require_built("logits")
        check_tokens(tokens, self.token_shape, self.num_codes)
        shape = (-1, *self._grid, self._quantizers)
        tokens = ops.reshape(ops.cast(tokens, "int32"), shape)
        padded = ops.pad(
            tokens, [(0, 0), (1, 0), (1, 0), (0, 0)], constant_values=self.num_codes
        )
        position = ops.convert_to_tensor(self.position)
        links, _ = self._see_rows(
            self._embed(padded[:, :-1, 1:], position),
            self._nothing(padded, self._up, self._grid[1]),
            training,
        )
        h, _ = self._see_columns(
            self._embed(padded[:, 1:, :-1], position),
            links,
            self._nothing(padded, self._grid[0], self._aside),
            training,
        )
        _, logits = self._predict(h, lambda quantizer, _: tokens[..., quantizer])
        return ops.reshape(logits, (-1, *self.token_shape, self.num_codes))

    def sample(
        self, shape: Sequence[int], seed: Seed = None, temperature: float = 1.0
    ) -> np.ndarray:
        """Draws arrays of tokens, token by token.

        Args:
            shape: Shape of the result, `(n, *token_shape)`.
            seed: Integer or `keras.random.SeedGenerator`.
            temperature: What the logits are divided by, >= 0. Below 1 likely tokens
                become more likely; 0 always takes the most likely one.

        Returns:
            int32 array of shape `shape`.

        Raises:
            ValueError: If an argument is out of range.
        """
        self.require_built("sample")
        checks.check_weight("temperature", temperature)
        if tuple(shape[1:]) != self.token_shape:
            expected = ", ".join(map(str, self.token_shape))
            raise ValueError(
                f"`shape` must be (n, {expected}). Received: shape={tuple(shape)}"
            )
        n = checks.check_count("shape[0]", shape[0])
        # Batches of equal size, or the last one would be compiled a second time.
        batches = math.ceil(n / SAMPLE_BATCH)
        noise = keras.random.uniform(
            (batches, math.ceil(n / batches), *self._grid, self._quantizers),
            dtype="float32",
            seed=seed,
        )
        temperature = ops.convert_to_tensor(temperature, "float32")
        tokens = []
        with progress.shown("sample", batches) as advance:
            for batch in ops.convert_to_numpy(noise):
                tokens.append(self._sample_batch(batch, temperature))
                advance(len(tokens))
        return np.concatenate(tokens)[:n].reshape(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "filters": self.filters,
            "blocks": self.blocks,
            "kernel_size": self.kernel_size,
            "dropout": self.dropout,
        }

    # The network, on all of the grid or on one more row or place of it

    def _embed(self, tokens, position):
        """Embedded tokens `(batch, rows, columns, quantizers)` at `position`."""
        embedded = sum(
            embedding(tokens[..., quantizer])
            for quantizer, embedding in enumerate(self.embeddings)
        )
        return embedded + ops.cast(position, embedded.dtype)

    def _nothing(self, tokens, rows, columns):
        """What each block sees before the first row, or the first column."""
        shape = (ops.shape(tokens)[0], rows, columns, self.filters)
        return [ops.zeros(shape, self.compute_dtype)] * self.blocks

    def _see_rows(self, v, before, training=False):
        """The vertical stack: what the rows above tell each place.

        Args:
            v: Row above each row, embedded, `(batch, rows, width, filters)`.
            before: What each block saw before them, `(batch, up, width, filters)`.

        Returns:
            What each block tells the horizontal stack, and what its next call is given
            as `before`.
        """
        links, after = [], []
        sides = [(0, 0), (0, 0), (self._aside, self._aside), (0, 0)]
        for block, seen in enumerate(before):
            rows = ops.concatenate([seen, v], axis=1)
            after.append(rows[:, v.shape[1] :])
            gates = self.vertical[block](ops.pad(rows, sides))
            links.append(self.links[block](gates))
            v = v + self.dropping(_gated(gates), training=training)
        return links, after

    def _see_columns(self, h, links, before, training=False):
        """The horizontal stack: what all earlier places tell each place.

        Args:
            h: Place to the left of each, embedded, `(batch, rows, columns, filters)`.
            links: What each block of the vertical stack tells these places.
            before: What each block saw before, `(batch, rows, aside, filters)`.

        Returns:
            A tensor `(batch, rows, columns, filters)`, and what the next call is given
            as `before`.
        """
        after = []
        for block, seen in enumerate(before):
            columns = ops.concatenate([seen, h], axis=2)
            after.append(columns[:, :, h.shape[2] :])
            gates = self.horizontal[block](columns) + links[block]
            hidden = self.dropping(_gated(gates), training=training)
            h = h + self.outputs[block](hidden)
        return h, after

    def _predict(self, h, choose: Callable):
        """Predicts the quantizers' tokens at each place, one after another.

        Args:
            h: What earlier places tell, `(batch, rows, columns, filters)`.
            choose: Function of a quantizer's number and logits that returns its tokens.

        Returns:
            Tokens `(batch, rows, columns, quantizers)` and logits, with a last axis of
            codes.
        """
        tokens, logits = [], []
        for quantizer, (hidden, head) in enumerate(
            zip(self.hidden, self.heads, strict=True)
        ):
            if quantizer:
                h = h + self.hints[quantizer - 1](tokens[-1])
            logits.append(ops.cast(head(hidden(ops.relu(h))), "float32"))
            tokens.append(choose(quantizer, logits[-1]))
        return ops.stack(tokens, axis=-1), ops.stack(logits, axis=-2)

    # Sampling

    def _sample_batch(self, noise, temperature):
        """Draws tokens `(batch, height, width, quantizers)` from uniform numbers."""
        start_row = self.compiled_function("start_row", self._start_row)
        draw_place = self.compiled_function("draw_place", self._draw_place)
        batch, height, width, quantizers = noise.shape
        padded = np.full(
            (batch, height + 1, width + 1, quantizers), self.num_codes, "int32"
        )
        rows_before = self._nothing(noise, self._up, width)
        for row in range(height):
            above = ops.convert_to_tensor(padded[:, row, None, 1:])
            row_index = ops.convert_to_tensor(row, "int32")
            links, rows_before = start_row(above, row_index, rows_before)
            columns_before = self._nothing(noise, 1, self._aside)
            for column in range(width):
                tokens, columns_before = draw_place(
                    ops.convert_to_tensor(padded[:, row + 1, None, column, None]),
                    row_index,
                    ops.convert_to_tensor(column, "int32"),
                    links,
                    columns_before,
                    ops.convert_to_tensor(noise[:, row, None, column, None]),
                    temperature,
                )
                padded[:, row + 1, column + 1] = ops.convert_to_numpy(tokens)[:, 0, 0]
        return padded[:, 1:, 1:]

    def compiled_function(self, name, function):
        if name not in self._compiled_functions:
            self._compiled_functions[name] = backend.compiled(function, self.variables)
        return self._compiled_functions[name]

    def _start_row(self, above, row, before):
        position = ops.take(self.position, row, axis=0)  # (width, filters)
        return self._see_rows(self._embed(above, position), before)

    def _draw_place(self, left, row, column, links, before, noise, temperature):
        position = ops.take(ops.take(self.position, row, axis=0), column, axis=0)
        links = [ops.take(link, column[None], axis=2) for link in links]
        h, after = self._see_columns(self._embed(left, position), links, before)

        def choose(quantizer, logits):
            return _draw(logits, noise[..., quantizer, None], temperature)

        return self._predict(h, choose)[0], after

    def require_built(self, method):
        if not self.built:
            raise ValueError(
                f"A `PixelCNN` must know the shape of the tokens before `{method}`: "
                "call `build((None, *token_shape))` first."
            )


def _gated(gates):
    """tanh of one half of the channels, as the sigmoid of the other lets it through."""
    signal, gate = ops.split(gates, 2, axis=-1)
    return ops.tanh(signal) * ops.sigmoid(gate)


def _draw(logits, noise, temperature):
    """Draws a token from logits `(..., num_codes)` and uniform numbers `(..., 1)`."""
    logits = logits - ops.max(logits, axis=-1, keepdims=True)
    # At temperature 0 nothing but the largest is left.
    cumulative = ops.cumsum(ops.exp(logits / ops.maximum(temperature, 1e-30)), axis=-1)
    passed = cumulative <= noise * cumulative[..., -1:]
    tokens = ops.sum(ops.cast(passed, "int32"), axis=-1)
    # The product may be rounded up to the sum of all.
    return ops.minimum(tokens, logits.shape[-1] - 1)
