"""How unusual an example is to a model: scores, higher where it is less usual."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_ae.metrics import arrays, blur
from keras_ae.models.base.autoencoder import Autoencoder
from keras_ae.models.decoder_only.samples import observed_values
from keras_ae.probability import samplers
from keras_ae.probability.distributions import GaussianMixture, float32

# Codes of a mixture's component, at least, and of the whole mixture, at most.
_CODES_A_COMPONENT = 50
_CODES = 10_000


class Score:
    """A score that is learned from normal examples, then given to others.

    A subclass says which models it suits and returns an example's score.
    """

    # What `score=` calls it.
    name = ""

    def lacks(self, model: Autoencoder) -> str:
        """Returns what a model lacks for this score, or nothing."""
        return "" if model.has_encoder and not model.needs_labels else _NO_ENCODER

    def fit(
        self,
        model: Autoencoder,
        x: np.ndarray,
        seed: int,
        trained_on: np.ndarray | None = None,
    ) -> None:
        """Learns what is usual.

        Args:
            model: The trained model.
            x: Normal examples that it was not trained on.
            seed: Of what is drawn.
            trained_on: Normal examples that it was trained on: many, but described
                better than new ones.
        """

    def __call__(self, model: Autoencoder, x: np.ndarray, seed: int) -> np.ndarray:
        """Returns the score of each example, `(n,)`."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What it was told and what it learned, as JSON knows it, and arrays."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what `state` returned."""


_NO_ENCODER = "an encoder that needs no labels"


class Reconstruction(Score):
    """-log p(x | z) of the encoder's code z, in nats."""

    name = "reconstruction"

    def __call__(self, model, x, seed):
        def score(x):
            return _given_code(model, x, model.encode_batch(x))

        return model.in_batches("anomaly_reconstruction", score, x, 256)


class Structure(Score):
    """Squared error that is left where a Gaussian has blurred it, summed; of pictures.

        Σ (G * (x - reconstruction))²

    Errors that hang together count, noise from pixel to pixel does not.

    Args:
        width: The Gaussian's standard deviation, in pixels, > 0.
    """

    name = "structure"

    def __init__(self, width: float = 1.0):
        self.width = width

    def lacks(self, model):
        # What is not built yet may turn out to be of pictures.
        if model.built and not model.describes_pictures:
            return "pictures of height, width and channels"
        return super().lacks(model)

    def __call__(self, model, x, seed):
        errors = smooth_errors(model, x, self.width).astype("float64")
        return np.square(errors).sum(axis=tuple(range(1, errors.ndim)))

    def state(self):
        return {"width": self.width}

    def restore(self, state):
        self.width = state["width"]


class Peak(Score):
    """Largest error at any step of a series, beside what is usual there.

        max_w max_tc |G_w * (x - reconstruction)|_tc / spread_w,tc

    G_w blurs along time by a Gaussian of width w, which lets small errors that last be
    seen beside large ones that don't; the spread is the root of the mean square among
    normal examples.

    Args:
        widths: Standard deviations of the Gaussians, in steps, >= 0; 0 blurs nothing.
    """

    name = "peak"
    # The mean over all steps counts as so many examples of each.
    _COUNT = 10

    def __init__(self, widths: Sequence[float] = (0.0, 1.0, 2.0, 4.0)):
        self.widths = tuple(widths)

    def lacks(self, model):
        if model.built and len(model.built_image_shape) != 2:
            return "series of time and channels"
        return super().lacks(model)

    def fit(self, model, x, seed, trained_on=None):
        self.spreads = []
        for errors in self._blurred(model, x):
            usual = np.square(errors).mean(axis=0)  # (time, channels)
            share = len(x) / (len(x) + self._COUNT)
            mean = usual.mean(axis=0)
            usual = share * usual + (1 - share) * mean
            # A channel that hardly errs would stand out by nothing.
            self.spreads.append(np.sqrt(np.maximum(usual, 1e-4 * mean.mean() + 1e-12)))

    def __call__(self, model, x, seed):
        both = zip(self._blurred(model, x), self.spreads, strict=True)
        found = [(np.abs(errors) / spread).max(axis=(1, 2)) for errors, spread in both]
        return np.max(found, axis=0)

    def _blurred(self, model, x):
        errors = np.asarray(_floats(x) - model.reconstruct(x), "float32")
        for width in self.widths:
            yield blur(errors, width, (1,)) if width else errors

    def state(self):
        return {"widths": self.widths, "spreads": self.spreads}

    def restore(self, state):
        self.widths, self.spreads = tuple(state["widths"]), state["spreads"]


class Features(Score):
    """Distance of an example and its reconstruction in the features of a network.

        Σ_k ((f(x) - f(reconstruction))_k / spread_k)²

    The spread is the root of the mean square among normal examples. A detector with
    this score is not saved: the network is one's own.

    Args:
        features: Function f of pictures `(n, height, width, channels)`, integers 0-255
            or floats, that returns their features `(n, dimensions)`, such as
            `FeatureNetwork.features`.

    Example:

    ```python
    network = keras_ae.evaluation.features.train(pictures, labels)
    score = keras_ae.anomalies.Features(network.features)
    detector = keras_ae.AnomalyDetector(model, score).fit(normal)
    ```
    """

    name = "features"

    def __init__(self, features: Callable[[np.ndarray], np.ndarray]):
        if not callable(features):
            raise ValueError(
                "`features` must be a function of pictures, such as that of a "
                f"`FeatureNetwork`. Received: {type(features).__name__}"
            )
        self.features = features

    def fit(self, model, x, seed, trained_on=None):
        usual = np.square(self._differences(model, x)).mean(axis=0)
        # A feature that hardly errs would stand out by nothing.
        self.spread = np.sqrt(np.maximum(usual, 1e-4 * usual.mean() + 1e-12))

    def __call__(self, model, x, seed):
        return np.square(self._differences(model, x) / self.spread).sum(axis=1)

    def _differences(self, model, x):
        restored = model.reconstruct(x)
        return np.asarray(self.features(_floats(x)) - self.features(restored))


class Refined(Score):
    """-log p(x | z) of the code z that a search finds, in nats.

    It starts from the encoder's code; in a model that has none, from anywhere.

    Args:
        steps: Of the search from the encoder's code.
    """

    name = "refined"

    def __init__(self, steps: int = 50):
        self.steps = steps

    def lacks(self, model):
        if model.searches_codes:
            return ""
        if model.has_tokens or model.keeps_pixels:
            return "codes between which one could search"
        return super().lacks(model)

    def __call__(self, model, x, seed):
        def score(x, z):
            return _given_code(model, x, z)

        if model.searches_codes:
            codes = model.infer(x).codes
        else:
            codes = model.refine(x, steps=self.steps).codes
        return model.in_batches("anomaly_refined", score, (x, codes), 256)

    def state(self):
        return {"steps": self.steps}

    def restore(self, state):
        self.steps = state["steps"]


class _Sampled(Score):
    """A score of codes that are drawn, by default `samples` for each example."""

    samples = 1

    def __init__(self, samples: int | None = None):
        self.samples = self.samples if samples is None else samples

    def state(self):
        return {"samples": self.samples}

    def restore(self, state):
        self.samples = state["samples"]


class Bound(_Sampled):
    """-ELBO, in nats: its mean over codes that are drawn.

    Args:
        samples: Codes drawn for each example.
    """

    name = "elbo"
    samples = 10

    def lacks(self, model):
        known = "elbo" in model.monitor_names
        return super().lacks(model) if known else "an ELBO"

    def __call__(self, model, x, seed):
        seeds = range(seed, seed + self.samples)
        return -np.mean(
            [model.terms_of(x, seed=seed)["elbo"] for seed in seeds], axis=0
        )


class Likelihood(_Sampled):
    """-log p(x), importance weighted, in nats.

    Args:
        samples: Codes drawn for each example.
    """

    name = "likelihood"
    samples = 100

    def lacks(self, model):
        known = hasattr(model, "log_likelihood")
        return super().lacks(model) if known else "a likelihood of x itself"

    def __call__(self, model, x, seed):
        return -model.log_likelihood(x, samples=self.samples, seed=seed)


class Code(Score):
    """-log q(z) of the encoder's code z, q a mixture fitted to normal codes, in nats.

    Args:
        components: Most normal distributions in the mixture.
    """

    name = "code"

    def __init__(self, components: int = 10):
        self.components = components

    def lacks(self, model):
        return "codes that are numbers" if model.has_tokens else super().lacks(model)

    def fit(self, model, x, seed, trained_on=None):
        codes = self._codes(model, _some(x if trained_on is None else trained_on))
        components = min(self.components, max(1, len(codes) // _CODES_A_COMPONENT))
        self.density = samplers.fit_mixture(codes, components, seed=seed)

    def __call__(self, model, x, seed):
        codes = ops.convert_to_tensor(self._codes(model, x), "float32")
        return -ops.convert_to_numpy(self.density.log_prob(codes))

    def state(self):
        return {"components": self.components, "density": self.density.get_config()}

    def restore(self, state):
        self.components = state["components"]
        self.density = GaussianMixture.from_config(state["density"])

    def _codes(self, model, x):
        return model.encode(x)[:, : model.prior_dim]


class Nearest(Score):
    """Squared distance to the nearest normal example, or reconstruction of one.

    As with the nearest neighbour nothing is smoothed away, and the reconstructions lie
    between the examples, where there are few of them.
    """

    name = "nearest"

    def fit(self, model, x, seed, trained_on=None):
        x = _floats(_some(x if trained_on is None else trained_on))
        both = np.concatenate([x, model.reconstruct(x)])
        self.known = both.reshape(len(both), -1).astype("float32")

    def __call__(self, model, x, seed):
        x = _floats(x).reshape(len(x), -1).astype("float32")
        distances = arrays.squared_distances(x, self.known)
        return np.concatenate([some.min(axis=1) for some in distances])

    def state(self):
        return {"known": self.known}

    def restore(self, state):
        self.known = state["known"]


class Auto(Score):
    """Of rows `Nearest`, of series `Peak`, of pictures `Structure` and `Code` together.

        Σ_k (s_k - median_k) / spread_k

    with the median of each score among normal examples, and the distance from there to
    their 84th percentile, a normal distribution's standard deviation. Nothing but
    normal examples settles it. Series are what `architecture="sequence"` describes.
    """

    name = "auto"

    def __init__(self):
        self.parts = [Nearest(), Peak(), Structure(), Code()]

    def fit(self, model, x, seed, trained_on=None):
        if trained_on is None:
            # What a density was fitted to is usual to it.
            half = max(1, len(x) // 2)
            trained_on, x = x[:half], x[half:]
        self.used, self.medians, self.spreads = [], [], []
        nearest, peak, structure, code = map(copy.copy, self.parts)
        if model.architecture == "sequence":
            parts = [peak]
        elif structure.lacks(model):
            parts = [nearest]
        else:
            parts = [structure, code]
        for part in parts:
            if part.lacks(model):
                continue
            part.fit(model, x, seed, trained_on)
            found = part(model, x, seed)
            median, high = np.quantile(found, [0.5, 0.84])
            self.used.append(part)
            self.medians.append(median)
            self.spreads.append(max(high - median, 1e-6 * (1 + abs(median))))

    def __call__(self, model, x, seed):
        scores = np.stack([part(model, x, seed) for part in self.used], axis=1)
        return ((scores - self.medians) / self.spreads).sum(axis=1)

    def state(self):
        return {
            "parts": {part.name: part.state() for part in self.used},
            "medians": [float(median) for median in self.medians],
            "spreads": [float(spread) for spread in self.spreads],
        }

    def restore(self, state):
        # Those of its time, whatever it would take today.
        self.used = [SCORES[name]() for name in state["parts"]]
        for part in self.used:
            part.restore(state["parts"][part.name])
        self.medians, self.spreads = state["medians"], state["spreads"]


SCORES = {
    kind.name: kind
    for kind in (
        Auto,
        Reconstruction,
        Structure,
        Peak,
        Code,
        Nearest,
        Bound,
        Likelihood,
        Refined,
    )
}


def smooth_errors(model: Autoencoder, x: np.ndarray, width: float) -> np.ndarray:
    """What reconstructions differ by, of the shape of `x`, blurred but in rows."""
    errors = np.asarray(_floats(x) - model.reconstruct(x), "float32")
    if model.searches_codes:
        # What is missing is filled in, and errs by nothing.
        errors = np.where(np.isnan(errors), np.float32(0), errors)
    if model.architecture == "sequence":
        return blur(errors, width, (1,))
    if not model.describes_pictures:
        return errors
    # Grey pictures may come without an axis of channels.
    return blur(errors, width, range(1, max(3, errors.ndim - 1)))


def _floats(x):
    return x / np.float32(255) if x.dtype.kind in "iu" else x


def _some(x):
    """So many examples as a density needs, from everywhere among them."""
    return x[:: -(-len(x) // _CODES)]


def _given_code(model, x, z):
    parameters = model.parameters_batch(z)
    x, observed = float32(model.to_floats(x)), None
    if model.searches_codes:
        x, observed = observed_values(x)
    return -model.likelihood.log_prob(x, parameters, observed=observed)
