"""Points of a plane in shapes that one Gaussian can't describe; no download."""

import math

import numpy as np

SHAPES = ("spiral", "two_moons", "eight_gaussians")


def draw(shape: str, n: int, seed: int = 0) -> np.ndarray:
    """Draws points of a plane, of about unit variance along each axis.

    Args:
        shape: `"spiral"`, one arm of one and a half turns with noise around it;
            `"two_moons"`, two half circles that reach into each other; or
            `"eight_gaussians"`, on a circle.
        n: How many, >= 1.
        seed: Seed of the draw.

    Returns:
        float32 array `(n, 2)`.

    Raises:
        ValueError: If there is no such shape.

    Example:

    ```python
    x = datasets.plane.draw("spiral", 10_000)
    ```
    """
    if shape not in SHAPES:
        raise ValueError(
            f"`shape` must be one of {', '.join(map(repr, SHAPES))}. "
            f"Received: shape={shape!r}"
        )
    random = np.random.default_rng(seed)
    noise = random.normal(size=(n, 2))
    if shape == "spiral":
        # Evenly along the arm, whose length grows with the square of the angle.
        angle = 3.0 * math.pi * np.sqrt(random.uniform(0.02, 1.0, n))
        points = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points = (points + 0.4 * noise) / 4.8
    elif shape == "two_moons":
        angle, upper = math.pi * random.random(n), random.random(n) < 0.5
        side = np.where(upper, 1.0, -1.0)
        x = side * (np.cos(angle) - 0.5)
        y = side * (np.sin(angle) - 0.25)
        points = np.stack([x, y], axis=1) / [0.87, 0.5] + 0.15 * noise
    else:
        angle = 2.0 * math.pi * random.integers(0, 8, n) / 8
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 0.75
        points = points + 0.12 * noise
    return points.astype("float32")
