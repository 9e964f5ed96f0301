"""HamiltonianVAE: a posterior that follows the model's own gradient."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ae import backend, checks
from keras_ae.models.variational.noise_transformed import DrawnVAE
from keras_ae.models.variational.vae import VAE
from keras_ae.probability.distributions import Normal

# Learned, these are where training starts: step sizes and the root of the inverse
# temperature. A step is at most `MAX_STEP`, or the dynamics would be unstable.
FIRST_STEP, MAX_STEP = 0.05, 0.5
FIRST_ROOT = 0.55


def leapfrog(force: Callable, z, momentum, step_size: Any, roots: list):
    """Moves codes along Hamiltonian dynamics, and cools them.

        ρ ← ρ + ε/2 force(z);  z ← z + ε ρ;  ρ ← (ρ + ε/2 force(z)) T_k / T_{k-1}

    Args:
        force: Function of codes `(..., latent_dim)` to their force, -∇U, of that shape.
        z: Codes `(..., latent_dim)`.
        momentum: Momenta ρ, of that shape.
        step_size: ε, a number or `(latent_dim,)`.
        roots: T_0 … T_K, the roots of the temperatures before and after each step.

    Returns:
        Codes and momenta. A volume of both together shrinks by (T_K / T_0)^latent_dim.
    """
    slope = force(z)
    for before, after in zip(roots, roots[1:], strict=False):
        momentum = momentum + 0.5 * step_size * slope
        z = z + step_size * momentum
        slope = force(z)
        momentum = (momentum + 0.5 * step_size * slope) * after / before
    return z, momentum


class Dynamics(NamedTuple):
    """Posterior q(z | x) of codes that move from where an encoder puts them.

    Attributes:
        start: Where they are put, q(z_0 | x), a `Normal` `(batch, latent_dim)`.
        move: Function of codes and momenta at temperature 1 that returns both.
    """

    start: Normal
    move: Callable

    @property
    def mean(self):
        return self.start.mean

    @property
    def log_var(self):
        return self.start.log_var

    def draw(self, noise):
        """Returns the codes of given standard normal noise, and their log-density.

        Args:
            noise: Tensor `(..., 2 latent_dim)`, for z_0 and for the momentum ρ_0.

        Returns:
            z_K, `(..., latent_dim)`, and log q(z_0 | x) + log N(ρ_0) - log N(ρ_K),
            `(...)`, in nats: the density at z_K that importance sampling needs.
        """
        first, momentum = ops.split(noise, 2, axis=-1)
        z, log_start = self.start.draw(first)
        log_posterior = log_start + Normal().log_prob(momentum)
        z, momentum = self.move(z, momentum)
        return z, log_posterior - Normal().log_prob(momentum)


class HamiltonianVAE(DrawnVAE):
    """Hamiltonian VAE: codes move towards where the decoder explains x better.

        z_0 ~ q(z_0 | x),  ρ_0 ~ N(0, I) T_0
        z_K, ρ_K = K leapfrog steps from z_0, ρ_0 with the force ∇_z log p(x, z)
        loss(x) = reconstruction + kl
        reconstruction = -log p(x | z_K)
        kl = β log (q(z_0 | x) N(ρ_0 / T_0) / (p(z_K) N(ρ_K)))

    The steps preserve volume, so that the bound holds whatever they do: with β = 1 the
    loss is at least -log p(x) in expectation. Momenta start hot and cool down, with
    T_k = T_0 + (1 - T_0) k² / K², so that codes can cross barriers; T_0 and a step size
    for each latent dimension are learned. Networks are those of `VAE`. A training step
    needs K + 1 gradients of the decoder, through which it differentiates.

    The force on a code must not depend on the other examples: for it, batch
    normalisation and dropout are those of inference, and an optimal scale of the
    likelihood is the running one. `encode` returns where the posterior's mean moves
    from rest.

    Args:
        latent_dim: Numbers in a code.
        leapfrog_steps: K, >= 0; without any it is a VAE with an estimated KL.
        **kwargs: As for `VAE`, without `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.HamiltonianVAE(latent_dim=16, leapfrog_steps=3)
    model.fit(x_train, epochs=50)
    nats = model.log_likelihood(x_test, samples=100)  # (n,)
    ```

    Reference:
        Caterini et al., Hamiltonian Variational Auto-Encoder, 2018
        (https://arxiv.org/abs/1805.11328).
    """

    def __init__(self, latent_dim: int = 32, *, leapfrog_steps: int = 3, **kwargs):
        self.refuse_settled(kwargs, "the KL is estimated, for all dimensions at once")
        super().__init__(latent_dim, **kwargs)
        self.leapfrog_steps = checks.check_count(
            "leapfrog_steps", leapfrog_steps, minimum=0
        )

    def build_networks(self, image_shape):
        super().build_networks(image_shape)
        if not self.leapfrog_steps:
            return
        for name, shape, share in (
            ("step_logits", (self.latent_dim,), FIRST_STEP / MAX_STEP),
            ("root_logit", (), FIRST_ROOT),
        ):
            start = keras.initializers.Constant(math.log(share / (1.0 - share)))
            weight = self.add_weight(
                name=name, shape=shape, initializer=start, autocast=False
            )
            setattr(self, name, weight)

    def posterior(self, x, training=False) -> Dynamics:
        """Returns q(z | x), for codes `(..., batch, latent_dim)`."""
        x = self.to_floats(x)

        def log_joint(z):  # (samples, batch, latent_dim) to (samples, batch)
            code = ops.reshape(z, (-1, self.latent_dim))
            parameters = self.decoder(code, training=False)
            return self.log_weights(x, z, 0.0, parameters)

        def force(z):
            codes = ops.reshape(z, (-1, ops.shape(x)[0], self.latent_dim))
            slope = backend.gradient(backend.pure(self, log_joint), codes)
            return ops.reshape(slope, ops.shape(z))

        def move(z, momentum):
            steps = self.leapfrog_steps
            if not steps:
                return z, momentum
            first = 1.0 / ops.sigmoid(self.root_logit)
            shares = [(step / steps) ** 2 for step in range(steps + 1)]
            roots = [first + (1.0 - first) * share for share in shares]
            step_size = MAX_STEP * ops.sigmoid(self.step_logits)
            return leapfrog(force, z, momentum * first, step_size, roots)

        return Dynamics(VAE.posterior(self, x, training), move)

    @property
    def noise_dim(self):
        return 2 * self.latent_dim

    def encode_batch(self, x):
        x = self.to_floats(x)
        return self.posterior(x).draw(ops.zeros((ops.shape(x)[0], self.noise_dim)))[0]
