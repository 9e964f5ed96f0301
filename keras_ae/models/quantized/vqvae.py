"""Quantized autoencoders: a code is a grid of symbols, the tokens."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_ae.backend import seeding
from keras_ae.models.base.grids import GridCodes
from keras_ae.models.deterministic.autoencoder import AE
from keras_ae.models.quantized.nearest_tokens import NearestTokens
from keras_ae.models.quantized.pixelcnn import PixelCNN
from keras_ae.models.quantized.quantizers import (
    LookupFreeQuantizer,
    ResidualQuantizer,
    ScalarQuantizer,
    VectorQuantizer,
    check_tokens,
    code_usage,
)
from keras_ae.probability import samplers
from keras_ae.probability.samplers.fitting import check_options
from keras_ae.training import inputs

# Places whose codes are looked for at a time.
_PLACES = 4096


class QuantizedAE(GridCodes, AE):
    """Base of autoencoders between whose networks a quantizer sits.

    Codes are a grid of vectors, a quarter of the picture's height and width by default,
    or `positions` of them: see `GridCodes`.

    A subclass gives `use` a quantizer, a layer from `keras_ae.quantizers`, whose losses
    are terms of the model.
    """

    has_tokens = True
    sized_parts = (*GridCodes.sized_parts, "quantizer")
    monitor_names: tuple[str, ...] = (*AE.monitor_names, "perplexity", "usage")
    # Those but for the first draw the vectors that tokens stand for.
    SAMPLERS: tuple[str, ...] = ("pixelcnn", "gaussian", "mixture", "flow")

    # Building

    def use(self, quantizer: keras.Layer) -> None:
        """Puts a quantizer between the networks, once, from the constructor."""
        self.quantizer = quantizer
        self.term_names = (*self.term_names, *quantizer.term_names)

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of the tokens of one example."""
        return (*self.grid, *self.quantizer.token_shape)

    def build_grid(self, image_shape):
        super().build_grid(image_shape)
        # One of the user's is built when the model is loaded.
        if not self.quantizer.built:
            self.quantizer.build((None, *self.grid, self.latent_dim))

    # Training

    def quantized(self, x, training=False):
        """Returns what the quantizer makes of a batch, a dict of tensors."""
        z = self.vectors(x, training)
        return self.quantizer(z, training=training and self.quantizer.trainable)

    def vectors(self, x, training=False):
        """Returns what the quantizer is given, `(batch, *grid, latent_dim)`."""
        z = ops.cast(self.encoder(self.to_floats(x), training=training), "float32")
        return ops.reshape(z, (-1, *self.grid, self.latent_dim))

    def code(self, x, training=False):
        """Returns the quantized codes of a batch, `(batch, code_dim)`."""
        return self._flat(self.quantized(x, training)["quantized"])

    def _flat(self, vectors):
        return ops.reshape(vectors, (-1, self.code_dim))

    def call(self, x, training=False):
        outputs = self.quantized(x, training)
        z = self._flat(outputs["quantized"])  # (batch, code_dim)
        parameters = self.decoder(z, training=training)  # (batch, *image_shape)
        return {**outputs, "z": z, "parameters": parameters}

    def terms(self, x, outputs, training=False):
        if training and self.quantizer.trainable:
            self.quantizer.update(outputs)
        return {
            **super().terms(x, outputs, training),
            **self.quantizer.terms(outputs),
        }

    def end_step(self):
        self.quantizer.end_step()

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains the model; see `Autoencoder.fit`.

        Raises:
            ValueError: If the first batch has fewer vectors than the codebook, and no
                code is ever replaced.
        """
        y = self.beside(x, "y", y)
        x = self.check_data(x, "x", y, learns=True)
        batch_size = args[0] if args else kwargs.get("batch_size")
        x = self._check_first_batch(x, batch_size or 32)
        return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        y = self.beside(x, "y", y)
        x = self.check_data(x, "x", y, learns=self._in_unit_range is None)
        x = self._check_first_batch(x, math.inf)
        return super().train_on_batch(x, y, *args, **kwargs)

    def _check_first_batch(self, data, batch_size):
        """Refuses a batch too small for the codebook; returns the data, unconsumed.

        Codes that it has no vectors for are copies, which no vector is nearest to, and
        are replaced like all that are dead.
        """
        if not self.quantizer.first_vectors:
            return data
        (batch, *_), data = inputs.first_batch(data)
        examples = batch.shape[0]
        if hasattr(data, "shape"):
            examples = min(examples, batch_size)
        positions = math.prod(self.grid)
        if examples * positions < self.quantizer.first_vectors:
            raise ValueError(
                "`num_codes` must be at most the number of vectors in a training "
                "batch, where the codebook starts, with reset_threshold=0. Received: "
                f"num_codes={self.quantizer.num_codes} and a batch of {examples} "
                f"examples of {positions} vector{'s' * (positions > 1)} each; pass a "
                "larger `batch_size`, fewer codes, or a threshold above 0."
            )
        return data

    def monitors(self, x, outputs, terms):
        tokens = ops.reshape(
            outputs["tokens"], (-1, math.prod(self.quantizer.token_shape))
        )
        # Of each codebook, from this batch.
        figures = [
            code_usage(tokens[:, book], self.quantizer.num_codes)
            for book in range(tokens.shape[1])
        ]
        perplexity, usage = (
            ops.broadcast_to(sum(values) / len(values), (ops.shape(x)[0],))
            for values in zip(*figures, strict=True)
        )
        return {
            **super().monitors(x, outputs, terms),
            "perplexity": perplexity,
            "usage": usage,
        }

    # Verbs

    def tokens(self, x, batch_size: int = 256) -> np.ndarray:
        """Returns the tokens of `x`, the numbers of its codes.

        Args:
            x: Array `(n, *image_shape)`, or any data set that `fit` takes.
            batch_size: Examples at a time, for arrays.

        Returns:
            int32 array `(n, height, width)` of a grid, `(n, positions)` otherwise; with
            several quantizers a last axis `num_quantizers` is added.
        """
        x = self.check_data(x, "x", restored=False)
        return self.in_batches("tokens", self._tokens, x, batch_size)

    def decode_tokens(self, tokens, batch_size: int = 256) -> np.ndarray:
        """Returns the likelihood's mean for `tokens`.

        Args:
            tokens: Integers from 0 to below the number of codes, of the shape that
                `tokens` returns.
            batch_size: Examples at a time.

        Returns:
            Array `(n, *image_shape)`, pictures in [0, 1].

        Raises:
            ValueError: If the tokens are not integers in that range, or of another
                shape.
        """
        self.require_built("decode_tokens")
        tokens = np.asarray(tokens)
        check_tokens(tokens, self.token_shape, self.quantizer.num_codes)
        tokens = tokens.astype("int32")
        return self.in_batches("decode_tokens", self._decode_tokens, tokens, batch_size)

    @property
    def _drawn_shape(self):
        return self.token_shape

    def codes_to_fit(self, x, seed):
        return self.tokens(x)

    def _fit_sampler(self, sampler, codes, seed, **options):
        if sampler in self.SAMPLERS[1:]:
            vectors = self.in_batches("codes_of_tokens", self._codes_of, codes, 256)
            return self._nearest(samplers.fit(sampler, vectors, seed, self, **options))
        if sampler != "pixelcnn" and not isinstance(sampler, PixelCNN):
            raise ValueError(
                f"`sampler` of {type(self).__name__}, whose codes are tokens, must be "
                f"{', '.join(map(repr, self.SAMPLERS))} or a `PixelCNN`. Received: a "
                f"{type(sampler).__name__}"
            )
        check_options(sampler, options)
        with seeding.seeded(seed):
            if sampler == "pixelcnn":
                sampler = PixelCNN(self.quantizer.num_codes)
            sampler.connect(self)
            return samplers.fit_density(sampler, codes, seed, **options)

    def _nearest(self, density):
        nearest = NearestTokens(density)
        nearest.connect(self)
        return nearest

    def _choose(self, codes):
        # A PixelCNN of the few seconds that this may take draws noise of faces.
        vectors = self.in_batches("codes_of_tokens", self._codes_of, codes, 256)
        choice = super()._choose(vectors)
        density = self._fitted.by_name[choice.sampler]
        self._fitted.by_name[choice.sampler] = self._nearest(density)
        return choice

    def _decode_drawn(self, codes, batch_size, seeds=None):
        if seeds is None:
            return self.decode_tokens(codes, batch_size)
        codes = self.in_batches("codes_of_tokens", self._codes_of, codes, batch_size)
        return self.sample_likelihood(codes, seeds, batch_size)

    def _tokens(self, x):
        return self.quantized(x)["tokens"]

    def _codes_of(self, tokens):
        return self._flat(self.quantizer.lookup(tokens))

    def _decode_tokens(self, tokens):
        return self.decode_batch(self._codes_of(tokens))

    def encode_batch(self, x):
        return self._codes_of(self._tokens(x))

    def encode_grid(self, x):
        # Blended codes would be none of the codebook's.
        return self.vectors(x)

    def settled(self, codes):
        rows = codes.reshape(-1, self.latent_dim)
        return self.in_batches("quantize", self._settled, rows, _PLACES).reshape(
            codes.shape
        )

    def _settled(self, vectors):
        return self.quantizer.lookup(self.quantizer(vectors)["tokens"])


class VQVAE(QuantizedAE):
    """VQ-VAE: codes are put together from the vectors of a learned codebook.

        loss(x) = reconstruction + commitment (+ codebook)
                = -log p(x | e) + β Σ |z - sg(e)|² (+ Σ |sg(z) - e|²),  z = encoder(x)

    where e are the vectors of the codebook nearest to the encoder's z, one for each
    place of a grid, and sg stops the gradient. The decoder's gradient for e is passed
    straight on to z. A codebook of running averages follows the z that its codes stand
    for, one learned by gradient has the term `codebook`. It starts from the first
    batch, by k-means, and codes that fall out of use are replaced by random z of the
    batch. Sums run over positions and their numbers; everything is in nats.

    Logged beside the loss, in training and evaluation of a batch at a time: `mse`,
    `perplexity`, exp of the entropy of the codes' shares of the batch (`num_codes` when
    all are used alike), and `usage`, the share of the codes that the batch uses.

    Args:
        latent_dim: Numbers in a vector of the codebook.
        num_codes: Vectors in the codebook. Where a training batch has fewer, the codes
            that it starts too few of are taken from later ones.
        positions: Vectors that describe an example, where the networks are dense or
            linear. Defaults to 1. Convolutions have a grid, by default of a quarter of
            the picture's height and width; `widths` has as many filters as there are
            halvings.
        codebook: `"ema"`, exponential moving averages, or `"gradient"`.
        commitment_weight: β, >= 0.
        decay: Share of themselves that the running averages keep at each step, from 0
            to below 1. Those of usage find dead codes with `"gradient"`, too.
        reset_threshold: Share of the mean usage below which a code is dead, from 0, for
            never, to below 1.
        **kwargs: As for `AE`. Your own `encoder` ends in `(batch, code_dim)`, the
            vectors of all positions in a row, which your own `decoder` takes.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.VQVAE(latent_dim=16, num_codes=128)
    model.fit(digits, epochs=20, batch_size=128)
    tokens = model.tokens(digits)  # (n, 7, 7), integers from 0 to 127
    restored = model.decode_tokens(tokens)  # (n, 28, 28)
    ```

    Reference:
        van den Oord et al., Neural Discrete Representation Learning, 2017
        (https://arxiv.org/abs/1711.00937).
    """

    def __init__(
        self,
        latent_dim: int = 16,
        num_codes: int = 128,
        *,
        codebook: str = "ema",
        commitment_weight: float = 0.25,
        decay: float = 0.99,
        reset_threshold: float = 0.05,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        self.num_codes = num_codes
        self.codebook = codebook
        self.commitment_weight = commitment_weight
        self.decay = decay
        self.reset_threshold = reset_threshold
        self.use(self.make_quantizer())

    def make_quantizer(self) -> keras.Layer:
        """Makes the quantizer from the constructor's arguments."""
        return VectorQuantizer(self.num_codes, **self._codebook_options())

    def _codebook_options(self):
        return {
            "codebook": self.codebook,
            "decay": self.decay,
            "reset_threshold": self.reset_threshold,
            "commitment_weight": self.commitment_weight,
        }


class ResidualVQVAE(VQVAE):
    """VQ-VAE with residual quantization: each codebook refines those before it.

        r_1 = z = encoder(x),  r_{i+1} = r_i - e_i,  z ≈ Σ_i e_i

    where e_i is the vector of codebook i nearest to the residual r_i. The loss is that
    of `VQVAE`, with the commitment of every residual; `perplexity` and `usage` are the
    means over the codebooks. `num_quantizers` codebooks tell apart as many vectors as
    one of `num_codes ** num_quantizers` would.

    Args:
        latent_dim, num_codes: As for `VQVAE`; every codebook has so many.
        num_quantizers: Codebooks, >= 1.
        **kwargs: As for `VQVAE`.

    Example:

    ```python
    model = keras_ae.ResidualVQVAE(num_quantizers=4)
    model.fit(digits, epochs=20, batch_size=128)
    tokens = model.tokens(digits)  # (n, 7, 7, 4)
    ```

    Reference:
        Zeghidour et al., SoundStream, 2021 (https://arxiv.org/abs/2107.03312); Lee et
        al., Autoregressive Image Generation using Residual Quantization, 2022
        (https://arxiv.org/abs/2203.01941).
    """

    def __init__(
        self,
        latent_dim: int = 16,
        num_codes: int = 128,
        *,
        num_quantizers: int = 4,
        **kwargs,
    ):
        self.num_quantizers = num_quantizers
        super().__init__(latent_dim, num_codes, **kwargs)

    def make_quantizer(self):
        return ResidualQuantizer(
            self.num_quantizers, self.num_codes, **self._codebook_options()
        )


class FSQVAE(QuantizedAE):
    """Autoencoder with finite scalar quantization: codes are rounded, none is learned.

        loss(x) = -log p(x | code),  code = round(bound(encoder(x)))

    Each number of a vector takes one of a few values, `levels`, so that there are
    Π_j levels_j codes; the gradient passes straight through the rounding. There is no
    codebook that could collapse and no further term. `perplexity` and `usage` are
    logged as for `VQVAE`.

    Args:
        levels: Values that each number of a vector takes, each >= 2; the paper advises
            5 or more. `(8, 5, 5, 5)` makes 1,000 codes. A vector has as many numbers as
            there are levels.
        positions: As for `VQVAE`.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.FSQVAE(levels=(8, 6, 5))
    model.fit(digits, epochs=20)
    tokens = model.tokens(digits)  # (n, 7, 7), integers from 0 to 239
    ```

    Reference:
        Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2024
        (https://arxiv.org/abs/2309.15505).
    """

    settled_arguments: tuple[str, ...] = ("latent_dim",)

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5), **kwargs):
        self.refuse_settled(kwargs, "a vector has one number for each of `levels`")
        quantizer = ScalarQuantizer(levels)
        super().__init__(len(quantizer.levels), **kwargs)
        self.levels = quantizer.levels
        self.use(quantizer)


class LFQVAE(QuantizedAE):
    """Autoencoder with lookup-free quantization: a code is a vector of bits.

        loss(x) = -log p(x | code) + commitment + entropy,  code = sign(encoder(x))

    `bits` numbers make 2^bits codes without a codebook, so that there may be very many:
    what 18 bits cost is 18 numbers a place. The gradient passes straight through the
    sign; the two terms, in `keras_ae.quantizers.LookupFreeQuantizer`, hold the
    encoder's numbers to their signs and have all codes used. `perplexity` and `usage`
    are logged as for `VQVAE`.

    Args:
        bits: Numbers in a vector, from 1 to 20.
        commitment_weight: Of the squares of what the signs differ by, >= 0.
        entropy_weight: Of the entropy of each vector's bits, less that of all, >= 0.
        temperature: T > 0 of the bits' probabilities: the lower, the surer.
        positions: As for `VQVAE`.
        **kwargs: As for `AE`.

    Raises:
        ValueError: If an argument is out of range, or a network of the wrong shape.

    Example:

    ```python
    model = keras_ae.LFQVAE(bits=10)
    model.fit(digits, epochs=20, batch_size=128)
    tokens = model.tokens(digits)  # (n, 7, 7), integers from 0 to 1,023
    ```

    Reference:
        Yu et al., Language Model Beats Diffusion: Tokenizer is Key to Visual
        Generation, 2024 (https://arxiv.org/abs/2310.05737).
    """

    settled_arguments: tuple[str, ...] = ("latent_dim",)

    def __init__(
        self,
        bits: int = 10,
        *,
        commitment_weight: float = 0.25,
        entropy_weight: float = 1.0,
        temperature: float = 1.0,
        **kwargs,
    ):
        self.refuse_settled(kwargs, "a vector has one number for each of `bits`")
        quantizer = LookupFreeQuantizer(
            bits, commitment_weight, entropy_weight, temperature
        )
        super().__init__(quantizer.bits, **kwargs)
        self.bits = quantizer.bits
        self.commitment_weight = commitment_weight
        self.entropy_weight = entropy_weight
        self.temperature = temperature
        self.use(quantizer)
