"""Quantizers whose codes are learned; those that round are there as well."""

import keras
import numpy as np
from keras import ops

from keras_ae import checks
from keras_ae.models.quantized.rounding import (
    LookupFreeQuantizer as LookupFreeQuantizer,
)
from keras_ae.models.quantized.rounding import Quantizer, straight_through
from keras_ae.models.quantized.rounding import ScalarQuantizer as ScalarQuantizer
from keras_ae.nn.layers import Seeded

# The losses of a codebook, by how it learns.
TERMS = {"ema": ("commitment",), "gradient": ("commitment", "codebook")}
EPSILON = 1e-5  # of the Laplace smoothing
K_MEANS_STEPS = 10


def nearest(x, codebook):
    """Returns the numbers of the codes that are nearest to vectors.

    Args:
        x: Vectors `(..., dim)`.
        codebook: Codes `(num_codes, dim)`.

    Returns:
        int32 tensor `(...)`.
    """
    # |x - e|² = |x|² - 2 x·e + |e|², and |x|² is the same for all codes.
    products = ops.matmul(x, ops.transpose(codebook))  # (..., num_codes)
    distances = ops.sum(ops.square(codebook), axis=-1) - 2.0 * products
    return ops.cast(ops.argmin(distances, axis=-1), "int32")


def code_usage(tokens, num_codes: int):
    """Returns how evenly and how many of the codes are used.

    Args:
        tokens: Integers of any shape.
        num_codes: Number of codes there are.

    Returns:
        The perplexity, exp of the entropy of the codes' shares: `num_codes` when all
        are used alike, 1 when only one is; and the share of codes that are used at all.
    """
    tokens = ops.reshape(tokens, (-1,))
    counts = ops.segment_sum(ops.ones_like(tokens), tokens, num_codes)
    shares = ops.cast(counts, "float32") / ops.cast(ops.size(tokens), "float32")
    entropy = -ops.sum(shares * ops.log(ops.maximum(shares, 1e-12)))
    return ops.exp(entropy), ops.mean(ops.cast(counts > 0, "float32"))


@keras.saving.register_keras_serializable(package="keras_ae")
class VectorQuantizer(Quantizer, Seeded):
    """Replaces each vector by the nearest code of a learned codebook.

        token = argmin_k |x - e_k|,  code = e_token

    In training `update` follows each call, and `end_step` the optimizer. A codebook of
    running averages ("ema") moves each code to the mean of its vectors:

        N_k <- γ N_k + (1 - γ) n_k,  m_k <- γ m_k + (1 - γ) Σ x,  e_k = m_k / N_k

    over the n_k vectors x of code k in the batch, with Laplace smoothing of N_k. One
    that learns by gradient ("gradient") is a weight like others. Vectors are held to
    their codes, and codes that learn by gradient to their vectors:

        commitment = β Σ (x - sg(code))²,  codebook = Σ (sg(x) - code)²

    The codebook starts from the first batch in training: its codes are the means that
    k-means finds there. A code whose N_k falls below a share of the mean of all is
    dead; a random vector of the batch takes its place.

    Args:
        num_codes: Number of codes, >= 1.
        codebook: `"ema"` or `"gradient"`.
        decay: γ, from 0 to below 1.
        reset_threshold: Share of the mean usage below which a code is replaced, from 0,
            for never, to below 1.
        seed: Integer seed of what replaces dead codes.
        commitment_weight: β, >= 0.

    Call arguments:
        x: Tensor `(..., dim)`.
        training: Whether this batch may start the codebook.

    Returns:
        A dict: `"quantized"`, the codes with the gradient of x, `(..., dim)`;
        `"tokens"`, int32 `(...)`; `"vectors"`, x; `"codes"`, the codes with the
        gradient of the codebook, `(..., dim)`. In training also what `update` needs:
        `"codebook"` and `"drawn"`, a random vector for each code, `(num_codes, dim)`.

    Reference:
        van den Oord et al., Neural Discrete Representation Learning, 2017
        (https://arxiv.org/abs/1711.00937), appendix A.1 for the averages; Dhariwal et
        al., Jukebox, 2020 (https://arxiv.org/abs/2005.00341), for dead codes.
    """

    def __init__(
        self,
        num_codes: int,
        codebook: str = "ema",
        decay: float = 0.99,
        reset_threshold: float = 0.05,
        seed: int | None = None,
        *,
        commitment_weight: float = 0.25,
        **kwargs,
    ):
        super().__init__(seed, **{"dtype": "float32", **kwargs})
        if not isinstance(codebook, str) or codebook not in TERMS:
            raise ValueError(
                f"`codebook` must be one of {', '.join(map(repr, TERMS))}. "
                f"Received: codebook={codebook!r}"
            )
        self.num_codes = checks.check_count("num_codes", num_codes)
        self.learning = codebook
        self.decay = checks.check_share("decay", decay)
        self.reset_threshold = checks.check_share("reset_threshold", reset_threshold)
        checks.check_weight("commitment_weight", commitment_weight)
        self.commitment_weight = commitment_weight
        self.term_names = TERMS[codebook]
        self.built = False

    def build(self, input_shape):
        shape = (self.num_codes, input_shape[-1])
        limit = 1.0 / self.num_codes
        start = keras.initializers.RandomUniform(-limit, limit)
        by_gradient = self.learning == "gradient"
        self.codebook = self._add_state("codebook", shape, start, trainable=by_gradient)
        self.counts = self._add_state("counts", (self.num_codes,))
        self.started = self._add_state("started", (), dtype="bool")
        if by_gradient:
            self.replacements = self._add_state("replacements", shape)
            self.replaced = self._add_state("replaced", (self.num_codes,), dtype="bool")
        else:
            self.sums = self._add_state("sums", shape)
        self.built = True

    def _add_state(self, name, shape, initializer="zeros", trainable=False, dtype=None):
        # Under tf.distribute the mean of codebooks that replicas have started or reset
        # from batches of their own would be none; all take the first one's.
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=trainable,
            dtype=dtype or "float32",
            autocast=False,
            aggregation="only_first_replica",
        )

    def call(self, x, training=False):
        dtype, x = x.dtype, ops.cast(x, "float32")
        codebook, outputs = ops.convert_to_tensor(self.codebook), {"vectors": x}
        if training:
            vectors = self._rows(x)
            drawn = self.draw(vectors)
            # A tensor of its own: PyTorch's backward pass reads it after `update`.
            first = ops.logical_not(self.started)
            means = ops.cond(
                first, lambda: self._k_means(vectors, drawn), lambda: drawn
            )
            codebook = ops.where(first, means, codebook)
            outputs |= {"codebook": codebook, "drawn": drawn}
        tokens = nearest(ops.stop_gradient(x), ops.stop_gradient(codebook))
        codes = ops.take(codebook, tokens, axis=0)
        quantized = ops.cast(straight_through(x, codes), dtype)
        return {**outputs, "quantized": quantized, "tokens": tokens, "codes": codes}

    def lookup(self, tokens):
        """Returns the codes of tokens `(...)`, `(..., dim)`."""
        return ops.take(ops.convert_to_tensor(self.codebook), tokens, axis=0)

    def draw(self, x):
        """Returns a random one of vectors `(vectors, dim)` for each code.

        None is drawn twice where there are enough.
        """
        size = ops.shape(x)[0]
        noise = keras.random.uniform((size,), dtype="float32", seed=self.seed_generator)
        rows = ops.arange(self.num_codes, dtype="int32") % size
        return ops.take(x, ops.take(ops.argsort(noise), rows), axis=0)

    @property
    def first_vectors(self) -> int:
        return 0 if self.reset_threshold else self.num_codes

    def terms(self, outputs: dict) -> dict:
        vectors, codes = outputs["vectors"], outputs["codes"]
        axes = tuple(range(1, len(vectors.shape)))

        def distance(a, b):
            return ops.sum(ops.square(a - b), axis=axes)  # (batch,)

        commitment = distance(vectors, ops.stop_gradient(codes))
        terms = {"commitment": self.commitment_weight * commitment}
        if "codebook" in self.term_names:
            terms["codebook"] = distance(ops.stop_gradient(vectors), codes)
        return terms

    def update(self, outputs: dict) -> None:
        """Counts the batch, moves a codebook of averages, and replaces dead codes.

        Args:
            outputs: What the call in training returned.
        """
        drawn, codebook = outputs["drawn"], ops.stop_gradient(outputs["codebook"])
        counts, sums = self._clusters(self._rows(outputs["vectors"]), outputs["tokens"])
        first = ops.logical_not(self.started)

        def averaged(average, start, value):
            average = ops.where(first, start, ops.convert_to_tensor(average))
            return self.decay * average + (1 - self.decay) * value

        # At the start each code counts as one vector.
        counts = averaged(self.counts, 1.0, counts)
        fewest = self.reset_threshold * ops.mean(counts)
        dead = counts < fewest
        rows = dead[:, None]  # (num_codes, 1)
        if self.learning == "gradient":
            self.replaced.assign(ops.logical_or(dead, first))
            self.replacements.assign(ops.where(rows, drawn, codebook))
        else:
            sums = averaged(self.sums, codebook, sums)
            total = ops.sum(counts)
            smoothed = (counts + EPSILON) / (total + self.num_codes * EPSILON) * total
            means = sums / smoothed[:, None]
            self.codebook.assign(ops.where(rows, drawn, means))
            self.sums.assign(ops.where(rows, fewest * drawn, sums))
        self.counts.assign(ops.where(dead, fewest, counts))
        self.started.assign(ops.ones_like(first))

    def end_step(self) -> None:
        """Replaces codes of a codebook that the optimizer has moved meanwhile."""
        if self.learning == "gradient":
            replaced, replacements, codebook = (
                ops.convert_to_tensor(state)
                for state in (self.replaced, self.replacements, self.codebook)
            )
            self.codebook.assign(ops.where(replaced[:, None], replacements, codebook))

    def _rows(self, x):
        """The vectors without a gradient, (vectors, dim)."""
        return ops.stop_gradient(ops.reshape(x, (-1, x.shape[-1])))

    def _clusters(self, x, tokens):
        """Number and sum of each code's vectors, (num_codes,) and (num_codes, dim)."""
        tokens = ops.reshape(tokens, (-1,))
        counts = ops.segment_sum(ops.ones_like(x[:, 0]), tokens, self.num_codes)
        return counts, ops.segment_sum(x, tokens, self.num_codes)

    def _k_means(self, x, means):
        """Moves `means` to those of the vectors that are nearest to each."""
        for _ in range(K_MEANS_STEPS):
            counts, sums = self._clusters(x, nearest(x, means))
            counts = counts[:, None]
            means = ops.where(counts > 0, sums / ops.maximum(counts, 1.0), means)
        return means

    def get_config(self):
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "codebook": self.learning,
            "decay": self.decay,
            "reset_threshold": self.reset_threshold,
            "commitment_weight": self.commitment_weight,
        }


@keras.saving.register_keras_serializable(package="keras_ae")
class ResidualQuantizer(Quantizer, keras.layers.Layer):
    """Quantizes vectors, then what is left of them, several times over.

        r_1 = x,  e_i = the code nearest to r_i,  r_{i+1} = r_i - e_i,  code = Σ_i e_i

    Args:
        num_quantizers: Number of codebooks, >= 1.
        num_codes, codebook, decay, reset_threshold, seed, commitment_weight: As for
            each `VectorQuantizer`.

    Call arguments:
        x: Tensor `(..., dim)`.

    Returns:
        A dict as from `VectorQuantizer`, of which `"tokens"` are
        `(..., num_quantizers)`, and `"vectors"` and `"codes"`, the r_i and e_i, are
        `(..., num_quantizers, dim)`. `"steps"` are the quantizers' own.

    Reference:
        Zeghidour et al., SoundStream, 2021 (https://arxiv.org/abs/2107.03312).
    """

    def __init__(
        self,
        num_quantizers: int,
        num_codes: int,
        codebook: str = "ema",
        decay: float = 0.99,
        reset_threshold: float = 0.05,
        seed: int | None = None,
        *,
        commitment_weight: float = 0.25,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_quantizers = checks.check_count("num_quantizers", num_quantizers)
        self.seed = seed
        self.quantizers = [
            VectorQuantizer(
                num_codes,
                codebook,
                decay,
                reset_threshold,
                None if seed is None else seed + number,
                commitment_weight=commitment_weight,
                name=f"quantizer_{number}",
            )
            for number in range(num_quantizers)
        ]
        self.num_codes = num_codes
        self.token_shape = (num_quantizers,)
        self.term_names = self.quantizers[0].term_names

    def build(self, input_shape):
        for quantizer in self.quantizers:
            quantizer.build(input_shape)
        self.built = True

    def call(self, x, training=False):
        dtype, x = x.dtype, ops.cast(x, "float32")
        residual, steps = x, []
        for quantizer in self.quantizers:
            steps.append(quantizer(residual, training=training))
            residual = residual - ops.stop_gradient(steps[-1]["codes"])
        codes, vectors = (
            ops.stack([step[name] for step in steps], axis=-2)
            for name in ("codes", "vectors")
        )
        quantized = straight_through(x, ops.sum(codes, axis=-2))
        return {
            "quantized": ops.cast(quantized, dtype),
            "tokens": ops.stack([step["tokens"] for step in steps], axis=-1),
            "vectors": vectors,
            "codes": codes,
            "steps": steps,
        }

    def lookup(self, tokens):
        """Returns the codes of tokens `(..., num_quantizers)`, `(..., dim)`."""
        codes = [
            quantizer.lookup(tokens[..., number])
            for number, quantizer in enumerate(self.quantizers)
        ]
        return ops.sum(ops.stack(codes, axis=-2), axis=-2)

    @property
    def first_vectors(self) -> int:
        return self.quantizers[0].first_vectors

    def terms(self, outputs: dict) -> dict:
        return self.quantizers[0].terms(outputs)

    def update(self, outputs: dict) -> None:
        """As `VectorQuantizer.update`."""
        for quantizer, step in zip(self.quantizers, outputs["steps"], strict=True):
            quantizer.update(step)

    def end_step(self) -> None:
        for quantizer in self.quantizers:
            quantizer.end_step()

    def get_config(self):
        config = {**self.quantizers[0].get_config(), **super().get_config()}
        return {**config, "seed": self.seed, "num_quantizers": self.num_quantizers}


def check_tokens(tokens, token_shape: tuple[int, ...], num_codes: int) -> None:
    """Raises `ValueError` unless these are tokens of a quantizer.

    The values are looked at where they are a NumPy array.

    Args:
        tokens: What the user passed as `tokens`.
        token_shape: Shape of the tokens of one example.
        num_codes: Number of codes there are.
    """
    shape = tuple(tokens.shape)
    if 0 in shape or shape[1:] != token_shape:
        expected = ", ".join(map(str, token_shape))
        raise ValueError(
            f"`tokens` must have the shape (n, {expected}). Received: {shape}"
        )
    dtype = keras.backend.standardize_dtype(tokens.dtype)
    received = None if "int" in dtype else f"dtype={dtype}"
    if isinstance(tokens, np.ndarray) and received is None:
        low, high = tokens.min(), tokens.max()
        if low < 0 or high >= num_codes:
            received = f"integers from {low} to {high}"
    if received:
        raise ValueError(
            f"`tokens` must be integers from 0 to {num_codes - 1}. Received: {received}"
        )
