"""Hierarchical variational autoencoders: codes of codes."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_ae import checks
from keras_ae.models.variational.vae import VAE, normal
from keras_ae.nn import networks
from keras_ae.nn.layers import GaussianSampling
from keras_ae.probability import divergences
from keras_ae.probability.distributions import Normal


class HierarchicalVAE(VAE):
    """Ladder VAE: a VAE with several layers of codes, each the prior of the one below.

        p(x, z_1 … z_L) = p(x | z_1) p(z_1 | z_2) … p(z_{L-1} | z_L) p(z_L)
        loss(x) = -log p(x | z_1) + β Σ_l KL(q(z_l | z_{l+1}, x) || p(z_l | z_{l+1}))

    with p(z_L) = N(0, I). On the way up each layer sees the means of the one below; on
    the way down what it saw is multiplied with its prior, so that

        q(z_l | z_{l+1}, x) ∝ N(z_l; mean_l(x), var_l(x)) p(z_l | z_{l+1})

    is as precise as both together. The code of x is z_1, `(latent_dim,)`: `encode`
    returns its mean, `decode` needs nothing else, and `sample` draws it from the top
    down. `kl_1` … `kl_L` are logged, the bottom layer's first. Upper layers are quickly
    unused; `BetaWarmUp` or `free_bits` help.

    Args:
        latent_dim: Numbers in z_1.
        upper_dims: Numbers in z_2 … z_L, at least one layer.
        upper_widths: Units of the dense layers between two layers of codes.
        **kwargs: As for `VAE`, without `prior`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_ae.HierarchicalVAE(latent_dim=32, upper_dims=(16, 8))
    callback = keras_ae.callbacks.BetaWarmUp(epochs=20)
    model.fit(x_train, epochs=100, callbacks=[callback])
    ```

    Reference:
        Sønderby et al., Ladder Variational Autoencoders, 2016
        (https://arxiv.org/abs/1602.02282).
    """

    settled_arguments: tuple[str, ...] = ("prior",)
    # Codes of the bottom layer can be compared with no density: their prior has none.
    keeps_to_prior = True

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        upper_dims: Sequence[int] = (16,),
        upper_widths: Sequence[int] = (128,),
        **kwargs,
    ):
        self.refuse_settled(kwargs, "the layer above is each layer's prior")
        super().__init__(latent_dim, **kwargs)
        self.upper_dims = checks.check_counts("upper_dims", upper_dims)
        self.upper_widths = checks.check_counts("upper_widths", upper_widths)
        if not self.upper_dims:
            raise ValueError("`upper_dims` must name a layer or more. Received: ()")
        self._dims = (self.latent_dim, *self.upper_dims)
        self._kl_names = tuple(f"kl_{layer + 1}" for layer in range(len(self._dims)))
        self.term_names = ("reconstruction", *self._kl_names)
        self.upper_sampling = GaussianSampling()

    def build_networks(self, image_shape):
        super().build_networks(image_shape)

        def between(source, target):
            return networks.encoder(
                image_shape=(source,),
                latent_dim=target,
                architecture="dense" if self.upper_widths else "linear",
                widths=self.upper_widths or None,
                activation=self.activation,
                heads=self.encoder_heads,
                dtype=self.dtype_policy,
            )

        pairs = list(zip(self._dims, self.upper_dims, strict=False))
        self.upward = [between(below, above) for below, above in pairs]
        self.downward = [between(above, below) for below, above in pairs]

    def call(self, x, training=False):
        def draw(layer, posterior):
            sampling = self.upper_sampling if layer else self.sampling
            return sampling(posterior.mean, posterior.log_var)

        posteriors, priors, codes = self._descend(self._ascend(x, training), draw)
        # A layer each, (batch, dim)
        kls = [
            divergences.kl_normal(posterior, prior)
            for posterior, prior in zip(posteriors, priors, strict=True)
        ]
        return {
            "mean": posteriors[0].mean,
            "log_var": posteriors[0].log_var,
            "z": codes[0],
            "parameters": self.decoder(codes[0], training=training),
            **dict(zip(self._kl_names, kls, strict=True)),
        }

    def terms(self, x, outputs, training=False):
        log_prob = self.likelihood.log_prob(x, outputs["parameters"], training)
        kls = {name: outputs[name] for name in self._kl_names}
        if self.free_bits:
            kls = {
                name: divergences.free_bits(kl, self.free_bits)
                for name, kl in kls.items()
            }
        kls = {name: self.kl_weight * ops.sum(kl, axis=1) for name, kl in kls.items()}
        return {"reconstruction": -log_prob, **kls}

    def kl(self, outputs, free_bits=0.0):
        return sum(ops.sum(outputs[name], axis=1) for name in self._kl_names)

    def _ascend(self, x, training=False):
        """What each layer sees of x, the bottom one first: a list of `Normal`s."""
        seen = [self.posterior(x, training)]
        for network in self.upward:
            seen.append(normal(network(seen[-1].mean, training=training)))
        return seen

    def _descend(self, seen, draw):
        """Posteriors, priors and codes of all layers, the bottom one first.

        Args:
            seen: What each layer sees, or None for samples from the prior.
            draw: Function of a layer's number and its posterior that returns codes.
        """
        posteriors, priors, codes = [], [], []
        prior = Normal()
        for layer in reversed(range(len(self._dims))):
            if codes:
                prior = normal(self.downward[layer](codes[0]))
            posterior = prior if seen is None else seen[layer]
            if seen is not None and codes:
                posterior = _product(posterior, prior)
            posteriors.insert(0, posterior)
            priors.insert(0, prior)
            codes.insert(0, draw(layer, posterior))
        return posteriors, priors, codes

    def encode_batch(self, x):
        _, _, codes = self._descend(self._ascend(x), lambda _, q: q.mean)
        return codes[0]

    def _drawn(self, n, seeds, sampler=None, **options):
        self.require_built("sample")
        if sampler in (None, "auto"):
            sampler = self.default_sampler()
        if sampler != "prior" or options:
            return super()._drawn(n, seeds, sampler, **options)
        shape = (checks.check_count("n", n), self.noise_dim)
        noise = keras.random.normal(shape, dtype="float32", seed=seeds)
        z = self.compiled_function("sample_codes", self._sample_codes)(noise)
        return ops.convert_to_numpy(z)

    def _sample_posterior(self, noise, x):
        return self._descend(self._ascend(x), self._drawn_with(noise))[2][0]

    def _sample_codes(self, noise):
        return self._descend(None, self._drawn_with(noise))[2][0]

    def code_log_prob(self, z):
        # Its prior comes from codes of the layer above, which z does not tell.
        return ops.zeros_like(z[:, 0])

    @property
    def noise_dim(self):
        return sum(self._dims)

    def _log_weights(self, noise, x):
        x = self.to_floats(x)
        samples, batch = ops.shape(noise)[0], ops.shape(x)[0]

        def repeated(value):
            value = ops.broadcast_to(value, (samples, *ops.shape(value)))
            return ops.reshape(value, (-1, *value.shape[2:]))

        seen = [
            Normal.from_log_var(repeated(normal.mean), repeated(normal.log_var))
            for normal in self._ascend(x)
        ]
        noise = ops.reshape(noise, (-1, self.noise_dim))
        layers = self._descend(seen, self._drawn_with(noise))
        parameters = self.decoder(layers[2][0], training=False)
        log_weights = self.likelihood.log_prob(repeated(x), parameters) + sum(
            prior.log_prob(z) - posterior.log_prob(z)
            for posterior, prior, z in zip(*layers, strict=True)
        )  # (samples * batch,)
        return ops.reshape(log_weights, (samples, batch))

    def _drawn_with(self, noise):
        """A `draw` for `_descend` with given noise `(rows, noise_dim)`."""
        starts = [sum(self._dims[:layer]) for layer in range(len(self._dims))]

        def draw(layer, posterior):
            own = noise[:, starts[layer] : starts[layer] + self._dims[layer]]
            return posterior.mean + posterior.stddev * own

        return draw


def _product(a, b):
    """The normalised product of two `Normal` densities."""
    share = ops.sigmoid(b.log_var - a.log_var)
    mean = share * a.mean + (1.0 - share) * b.mean
    return Normal.from_log_var(mean, -ops.logaddexp(-a.log_var, -b.log_var))
