"""The base of variational autoencoders whose posterior is no normal distribution."""

from keras import ops

from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.variational.vae import VAE


class DrawnVAE(VAE):
    """A VAE whose posterior makes codes of noise and says how dense they are there.

    A subclass implements `posterior`, which returns something with `mean` and
    `draw(noise)`, where noise is standard normal, `(batch, noise_dim)`, and `_code`
    where the decoder is not given the code itself.
    """

    settled_arguments: tuple[str, ...] = ("free_bits",)
    SAMPLERS: tuple[str, ...] = Autoencoder.SAMPLERS

    def call(self, x, training=False):
        posterior = self.posterior(x, training)
        zeros = ops.zeros((ops.shape(x)[0], self.noise_dim))
        # (batch, latent_dim) and (batch,)
        z, log_posterior = posterior.draw(self.sampling(zeros, zeros))
        return {
            "mean": posterior.mean,
            "z": z,
            "kl": self.divergence(posterior, z, log_posterior),
            "parameters": self.decoder(self._code(z), training=training),
        }

    def divergence(self, posterior, z, log_posterior):
        """Returns KL(q(z | x) || p(z)) `(batch,)`, or its estimate from one code."""
        return log_posterior - self.prior.log_prob(z)

    def kl(self, outputs, free_bits=0.0):
        return outputs["kl"]
