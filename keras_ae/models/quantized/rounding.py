"""Quantizers: layers that replace vectors by the nearest of a finite set of codes.

A code's number is its token. Gradients pass straight through: the backward pass takes a
vector's code for the vector itself (Bengio et al., 2013,
https://arxiv.org/abs/1308.3432). Those here round, and learn nothing.
"""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_ae import checks

MAX_CODES = 2**20


def straight_through(x, codes):
    """Returns `codes` with the gradient of `x`; compilers may round differently."""
    return ops.stop_gradient(codes) + (x - ops.stop_gradient(x))


class Quantizer:
    """What a model asks of a quantizer beside its call and `lookup`.

    A class that is a Keras layer, too; its call returns a dict of tensors, of which
    `"quantized"` and `"tokens"` are for the model, the others for `terms` and `update`.
    """

    num_codes: int
    # Numbers in a vector, where the codes are of so many.
    dim: int | None = None
    token_shape: tuple[int, ...] = ()  # of the tokens of one vector
    term_names: tuple[str, ...] = ()

    @property
    def first_vectors(self) -> int:
        """Vectors that the first batch in training must have at least."""
        return 0

    def terms(self, outputs: dict) -> dict:
        """Returns the losses that the quantizer adds to a model's, each `(batch,)`.

        Args:
            outputs: What the call returned for vectors `(batch, ..., dim)`.
        """
        return {}

    def update(self, outputs: dict) -> None:
        """Learns of a batch what is not learned by gradient."""

    def end_step(self) -> None:
        """Does what follows the optimizer's step."""


@keras.saving.register_keras_serializable(package="keras_ae")
class ScalarQuantizer(Quantizer, keras.layers.Layer):
    """Finite scalar quantization: bounds each number and rounds it.

        code_j = round(bounded_j) / floor(L_j / 2),  bounded_j of L_j roundings

    The codes are the grid of Π_j L_j points within [-1, 1]; nothing is learned. The
    first number of a vector is the least significant digit of its token.

    Args:
        levels: Values L_j that each number can take, >= 2.

    Call arguments:
        x: Tensor `(..., len(levels))`.

    Returns:
        A dict: `"quantized"`, the codes with the gradient of the bounded x,
        `(..., len(levels))`, and `"tokens"`, int32 `(...)`.

    Reference:
        Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2024
        (https://arxiv.org/abs/2309.15505).
    """

    def __init__(self, levels: Sequence[int], **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if not isinstance(levels, tuple | list) or not levels:
            raise ValueError(
                "`levels` must be a list of one or more integers >= 2. Received: "
                f"levels={levels!r}"
            )
        self.levels = tuple(
            checks.check_count(f"levels[{index}]", level, minimum=2)
            for index, level in enumerate(levels)
        )
        self.dim = len(self.levels)
        self.num_codes = math.prod(self.levels)
        if self.num_codes > MAX_CODES:
            raise ValueError(
                f"`levels` must make at most {MAX_CODES:,} codes, their product. "
                f"Received: levels={self.levels}, of {self.num_codes:,} codes"
            )
        self.built = True

    def call(self, x, training=False):
        dtype, x = x.dtype, ops.cast(x, "float32")
        levels = ops.convert_to_tensor(self.levels, "float32")
        # As in the paper's code: an even number of roundings has no middle one.
        scale = (levels - 1) * (1 - 1e-3) / 2
        offset = ops.where(levels % 2 == 0, 0.5, 0.0)
        bounded = scale * ops.tanh(x + ops.tan(offset / scale)) - offset
        rounded = ops.stop_gradient(ops.round(bounded))
        half = levels // 2
        digits = ops.cast(rounded + half, "int32")  # (..., len(levels))
        values = ops.convert_to_tensor(self._values, "int32")
        tokens = ops.sum(digits * values, axis=-1)
        quantized = straight_through(bounded, rounded) / half
        return {"quantized": ops.cast(quantized, dtype), "tokens": tokens}

    def lookup(self, tokens):
        """Returns the codes of tokens `(...)`, `(..., len(levels))`."""
        levels = ops.convert_to_tensor(self.levels, "int32")
        values = ops.convert_to_tensor(self._values, "int32")
        digits = ops.cast(tokens, "int32")[..., None] // values % levels
        half = levels // 2
        return ops.cast(digits - half, "float32") / ops.cast(half, "float32")

    @property
    def _values(self):
        """What a digit of each number is worth."""
        return [math.prod(self.levels[:place]) for place in range(len(self.levels))]

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}


@keras.saving.register_keras_serializable(package="keras_ae")
class LookupFreeQuantizer(Quantizer, keras.layers.Layer):
    """Lookup-free quantization: of each number only the sign is kept.

        code_j = sign(x_j),  token = Σ_j 2^j [x_j > 0]

    so that `bits` numbers make 2^bits codes, and none is learned or looked for. Vectors
    are held to their codes, each is to be sure of its bits, and all together are to
    use both values of each:

        commitment = β Σ_j (x_j - code_j)²
        entropy    = w Σ_j (H(p_j) - H(mean p_j)),  p_j = sigmoid(4 x_j / T)

    where p_j is the probability of a bit, of a softmax of -|x - code|² / T over the
    codes, H the entropy of a bit in nats, and the mean over all vectors of the batch.
    The second entropy is a bound of that of the tokens, which the bits reach if they
    are independent; it takes no sum over codes, of which there may be very many.

    Args:
        bits: Numbers in a vector, from 1 to 20.
        commitment_weight: β, >= 0.
        entropy_weight: w, >= 0.
        temperature: T, > 0.

    Call arguments:
        x: Tensor `(..., bits)`.

    Returns:
        A dict: `"quantized"`, the codes with the gradient of x, `(..., bits)`;
        `"tokens"`, int32 `(...)`; `"vectors"`, x.

    Reference:
        Yu et al., Language Model Beats Diffusion: Tokenizer is Key to Visual
        Generation, 2024 (https://arxiv.org/abs/2310.05737); Zhao et al., Image and
        Video Tokenization with Binary Spherical Quantization, 2024
        (https://arxiv.org/abs/2406.07548), for the entropy bit by bit.
    """

    term_names: tuple[str, ...] = ("commitment", "entropy")

    def __init__(
        self,
        bits: int,
        commitment_weight: float = 0.25,
        entropy_weight: float = 1.0,
        temperature: float = 1.0,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.bits = self.dim = checks.check_count("bits", bits)
        self.num_codes = 2**self.bits
        if self.num_codes > MAX_CODES:
            raise ValueError(
                f"`bits` must be at most {MAX_CODES.bit_length() - 1}. "
                f"Received: bits={bits}"
            )
        checks.check_weight("commitment_weight", commitment_weight)
        self.commitment_weight = commitment_weight
        checks.check_weight("entropy_weight", entropy_weight)
        checks.check_positive("temperature", temperature)
        self.entropy_weight = entropy_weight
        self.temperature = temperature
        self.built = True

    def call(self, x, training=False):
        dtype, x = x.dtype, ops.cast(x, "float32")
        ones = x > 0  # (..., bits)
        values = ops.convert_to_tensor(self._values, "int32")
        quantized = straight_through(x, ops.where(ones, 1.0, -1.0))
        return {
            "quantized": ops.cast(quantized, dtype),
            "tokens": ops.sum(ops.cast(ones, "int32") * values, axis=-1),
            "vectors": x,
        }

    def lookup(self, tokens):
        """Returns the codes of tokens `(...)`, `(..., bits)`."""
        values = ops.convert_to_tensor(self._values, "int32")
        ones = ops.cast(tokens, "int32")[..., None] // values % 2
        return 2.0 * ops.cast(ones, "float32") - 1.0

    def terms(self, outputs: dict) -> dict:
        x = outputs["vectors"]
        axes = tuple(range(1, len(x.shape)))
        codes = ops.where(x > 0, 1.0, -1.0)
        logits = 4.0 * x / self.temperature
        share = ops.mean(ops.sigmoid(logits), axis=tuple(range(len(x.shape) - 1)))
        share = ops.clip(share, 1e-6, 1.0 - 1e-6)  # (bits,)
        of_all = -share * ops.log(share) - (1.0 - share) * ops.log(1.0 - share)
        of_each = ops.softplus(logits) - logits * ops.sigmoid(logits)
        commitment = ops.sum(ops.square(x - codes), axis=axes)  # (batch,)
        return {
            "commitment": self.commitment_weight * commitment,
            "entropy": self.entropy_weight * ops.sum(of_each - of_all, axis=axes),
        }

    @property
    def _values(self):
        """What each bit is worth."""
        return [2**place for place in range(self.bits)]

    def get_config(self):
        return {
            **super().get_config(),
            "bits": self.bits,
            "commitment_weight": self.commitment_weight,
            "entropy_weight": self.entropy_weight,
            "temperature": self.temperature,
        }
