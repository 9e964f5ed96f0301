"""Variational autoencoders trained on importance-weighted bounds."""

import math

from keras import ops

from keras_ae import checks
from keras_ae.models.variational.vae import VAE
from keras_ae.training.steps import Player


class IWAE(VAE):
    """Importance weighted autoencoder: a VAE with a tighter bound, of K codes.

        L_K(x) = E log 1/K Σ_k w_k <= log p(x),  w_k = p(x, z_k) / q(z_k | x)

    with z_1 … z_K ~ q(z | x). L_1 is the ELBO, and L_K grows with K. `negative_bound`,
    the loss, is -L_K; `elbo` is logged beside it, so that runs can be compared.

    A bound that is tight for any posterior teaches the encoder little: see `MIWAE`,
    `CIWAE` and `PIWAE` for what to do about it.

    Args:
        latent_dim: Numbers in a code.
        samples: K, codes drawn for each example, >= 1. A step costs about K times as
            much.
        **kwargs: As for `VAE`, without `beta` and `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.IWAE(latent_dim=50, samples=5, likelihood="bernoulli")
    model.fit(x_train, validation_data=x_test, epochs=50)
    nats = model.log_likelihood(x_test, samples=5000)  # (n,)
    ```

    Reference:
        Burda et al., Importance Weighted Autoencoders, 2016
        (https://arxiv.org/abs/1509.00519).
    """

    term_names: tuple[str, ...] = ("negative_bound",)
    settled_arguments: tuple[str, ...] = ("beta", "free_bits")

    def __init__(self, latent_dim: int = 32, *, samples: int = 5, **kwargs):
        self.refuse_settled(kwargs, "the bound has no KL of its own to weigh")
        super().__init__(latent_dim, **kwargs)
        self.samples = checks.check_count("samples", samples)

    @property
    def draws(self) -> int:
        """Codes drawn for each example in a step."""
        return self.samples

    def call(self, x, training=False):
        posterior = self.posterior(x, training)
        mean, log_var = (
            ops.tile(value, (self.draws, 1))  # (draws * batch, latent_dim)
            for value in (posterior.mean, posterior.log_var)
        )
        z = self.sampling(mean, log_var)
        return {
            "mean": posterior.mean,
            "log_var": posterior.log_var,
            "z": z,
            "parameters": self.decoder(z, training=training),
        }

    def terms(self, x, outputs, training=False):
        log_weights = self._weigh(x, outputs, training)
        elbo = ops.mean(log_weights, axis=0)
        return {"negative_bound": -self.bound(log_weights), "elbo": elbo}

    def bound(self, log_weights):
        """Returns the bound `(batch,)` for the weights `(draws, batch)`, in nats."""
        return _importance_weighted(log_weights)

    def monitors(self, x, outputs, terms):
        # The error of one code an example, as in a VAE.
        first = {"parameters": outputs["parameters"][: ops.shape(x)[0]]}
        return super().monitors(x, first, terms)

    def _weigh(self, x, outputs, training):
        posterior = self.posterior_of(outputs)
        z = ops.reshape(outputs["z"], (self.draws, -1, self.latent_dim))
        log_posterior = posterior.log_prob(z)
        return self.log_weights(x, z, log_posterior, outputs["parameters"], training)


class MIWAE(IWAE):
    """Multiply importance weighted autoencoder: the mean of several bounds.

        L_{M,K}(x) = 1/M Σ_m log 1/K Σ_k w_{m,k}

    with M K codes from q(z | x). The gradient of the encoder has M times less variance
    than that of `IWAE`, at a bound less tight than one of M K codes.

    Args:
        latent_dim: Numbers in a code.
        samples: K, codes in a bound, >= 1.
        bounds: M, bounds that are averaged, >= 1. A step costs about M K times as much
            as one of a VAE.
        **kwargs: As for `VAE`, without `beta` and `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.MIWAE(latent_dim=50, samples=8, bounds=8, likelihood="bernoulli")
    model.fit(x_train, epochs=50)
    ```

    Reference:
        Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, 2018
        (https://arxiv.org/abs/1802.04537).
    """

    def __init__(
        self, latent_dim: int = 32, *, samples: int = 5, bounds: int = 5, **kwargs
    ):
        super().__init__(latent_dim, samples=samples, **kwargs)
        self.bounds = checks.check_count("bounds", bounds)

    @property
    def draws(self):
        return self.bounds * self.samples

    def bound(self, log_weights):
        grouped = ops.reshape(log_weights, (self.samples, self.bounds, -1))
        return ops.mean(_importance_weighted(grouped), axis=0)


class CIWAE(IWAE):
    """Combination importance weighted autoencoder: between ELBO and IWAE.

        L(x) = elbo_weight ELBO(x) + (1 - elbo_weight) L_K(x)

    Args:
        latent_dim: Numbers in a code.
        samples: K, codes drawn for each example, >= 1.
        elbo_weight: The paper's β, from 0, where it is an `IWAE`, to 1, where the ELBO
            is estimated from K codes.
        **kwargs: As for `VAE`, without `beta` and `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.CIWAE(latent_dim=50, samples=8, likelihood="bernoulli")
    model.fit(x_train, epochs=50)
    ```

    Reference:
        Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, 2018
        (https://arxiv.org/abs/1802.04537).
    """

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        samples: int = 5,
        elbo_weight: float = 0.5,
        **kwargs,
    ):
        super().__init__(latent_dim, samples=samples, **kwargs)
        checks.check_weight("elbo_weight", elbo_weight)
        if elbo_weight > 1:
            raise ValueError(
                f"`elbo_weight` must be <= 1. Received: elbo_weight={elbo_weight!r}"
            )
        self.elbo_weight = elbo_weight

    def bound(self, log_weights):
        elbo = ops.mean(log_weights, axis=0)
        tight = _importance_weighted(log_weights)
        return self.elbo_weight * elbo + (1.0 - self.elbo_weight) * tight


class PIWAE(MIWAE):
    """Partially importance weighted autoencoder: each network has its own bound.

        decoder: max L_{M K}(x)     encoder: max L_{M,K}(x)

    with the bounds of `IWAE` and `MIWAE`: the tightest one for the model, the one of
    less noise for the posterior. Decoder and encoder are two players that take turns
    within each step, each with codes of its own. `negative_bound` is -L_{M K},
    `encoder_bound` -L_{M,K}, and `loss` the sum of both.

    Args:
        latent_dim: Numbers in a code.
        samples: K, >= 1.
        bounds: M, >= 1.
        **kwargs: As for `VAE`, without `beta` and `free_bits`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.PIWAE(latent_dim=50, samples=8, bounds=8, likelihood="bernoulli")
    model.fit(x_train, epochs=50)
    ```

    Reference:
        Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, 2018
        (https://arxiv.org/abs/1802.04537).
    """

    term_names: tuple[str, ...] = ("negative_bound", "encoder_bound")
    player_names: tuple[str, ...] = ("decoder", "encoder")

    def players(self):
        learned = (self.decoder, self.likelihood)
        return [
            Player(
                self.terms,
                [v for part in learned for v in part.trainable_variables],
                self.monitors,
                "decoder",
            ),
            Player(
                self.encoder_terms, self.encoder.trainable_variables, name="encoder"
            ),
        ]

    def bound(self, log_weights):
        return _importance_weighted(log_weights)

    def encoder_terms(self, x, outputs, training=False):
        """Returns the encoder's loss."""
        log_weights = self._weigh(x, outputs, training)
        return {"encoder_bound": -super().bound(log_weights)}


def _importance_weighted(log_weights):
    """log 1/K Σ_k w_k of weights (K, ...)."""
    samples = log_weights.shape[0]
    return ops.logsumexp(log_weights, axis=0) - math.log(samples)
