"""The principal directions of codes: where they vary most."""

from __future__ import annotations

import dataclasses

import numpy as np

# Of the sliders, in standard deviations.
SPAN = 3.0
# Digits of a position: what a slider shows is what is decoded.
DIGITS = 2


@dataclasses.dataclass(frozen=True)
class Directions:
    """Directions of codes, sorted by variance.

    Attributes:
        mean: The mean code, `(latent_dim,)`.
        vectors: Orthonormal directions, `(count, latent_dim)`.
        deviations: Standard deviations of the codes along them, `(count,)`.
        shares: Their shares of the variance of the codes, `(count,)`.
    """

    mean: np.ndarray
    vectors: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray

    def __len__(self):
        return len(self.vectors)

    def positions(self, codes: np.ndarray) -> np.ndarray:
        """Returns where codes `(n, latent_dim)` are, in deviations `(n, count)`."""
        return (codes - self.mean) @ self.vectors.T / self.deviations

    def codes(self, positions: np.ndarray) -> np.ndarray:
        """Returns the codes at positions `(n, count)`, `(n, latent_dim)`."""
        moved = np.asarray(positions, "float64") * self.deviations
        return self.mean + moved @ self.vectors

    def split(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Splits a code into what the sliders show and the rest.

        Args:
            code: `(latent_dim,)`.

        Returns:
            Positions `(count,)`, rounded and within the span of the sliders, and the
            rest `(latent_dim,)`: `codes` of the positions, plus the rest, is the code.
        """
        positions = self.positions(code[None])[0]
        positions = np.clip(positions, -SPAN, SPAN).round(DIGITS)
        return positions, code - self.codes(positions[None])[0]


def principal_directions(codes: np.ndarray, most: int = 8) -> Directions:
    """Finds the directions in which codes vary most.

    The largest number of each direction is positive, so that it is the same wherever
    it is computed.

    Args:
        codes: `(n, latent_dim)`, two or more.
        most: At most so many directions, >= 1.

    Returns:
        The `Directions` in which the codes vary at all.

    Raises:
        ValueError: If there are fewer than two codes, they are not finite, or all of
            them are equal.
    """
    codes = np.asarray(codes, "float64")
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(
            "`codes` must be two or more, of shape (n, latent_dim). Received: codes of "
            f"shape {codes.shape}"
        )
    if not np.isfinite(codes).all():
        raise ValueError("`codes` must be finite. Received: NaN or infinite values")
    mean = codes.mean(axis=0)
    _, values, vectors = np.linalg.svd(codes - mean, full_matrices=False)
    # What is left to rounding errors is no direction.
    varied = values > 1e-5 * max(values[0], np.abs(mean).max(), 1e-30)
    count = min(most, int(varied.sum()))
    if not count:
        raise ValueError("`codes` must differ. Received: codes that are all equal")
    vectors = vectors[:count]
    largest = np.abs(vectors).argmax(axis=1)
    vectors = vectors * np.sign(vectors[np.arange(count), largest])[:, None]
    return Directions(
        mean,
        vectors,
        values[:count] / np.sqrt(len(codes)),
        np.square(values[:count]) / np.square(values).sum(),
    )
