"""Where the codes of data are, and so what `sample` should draw from."""

from typing import Any, NamedTuple

import numpy as np

from keras_ae.probability import distributions, samplers
from keras_ae.probability.samplers.mixture import mean_log_prob

# Codes follow the prior where no density is likelier than it by more than so many nats.
_CLOSE = 0.1
# Densities of codes that are tried by default: name and number of components. Unless
# their covariances are shrunk, what many make of few codes follows those alone.
_DENSITIES = (
    ("gaussian", 1),
    ("mixture", 3),
    ("mixture", 10),
    ("mixture", 20),
    ("mixture", 40),
)


class Choice(NamedTuple):
    """What `sample` draws codes from, and why.

    Attributes:
        sampler: `"prior"`, or a name of `fitted_samplers`.
        nats: How much likelier held-back codes are under the best density that was
            fitted to others than under the prior, a lower bound on KL(q(z) || p(z));
            None where the model has no prior, or its codes were not compared with it,
            as after `fit_sampler`.
    """

    sampler: str
    nats: float | None

    def __str__(self):
        if self.nats is None:
            return (
                f"Samples are drawn from {_IN_WORDS.get(self.sampler, self.sampler)}."
            )
        if self.sampler == "prior":
            return "Samples are drawn from the prior, which the codes follow."
        nats = f"{self.nats:.{0 if self.nats >= 10 else 1}f} nats"
        return (
            f"Samples are drawn from {_IN_WORDS[self.sampler]}: these are at least "
            f"{nats} from the prior, which the sampler `prior` draws from."
        )


_IN_WORDS = {
    "prior": "the prior",
    "normal": "normal distributions fitted to each latent dimension of the codes",
    "gaussian": "a normal distribution fitted to the codes",
    "mixture": "a mixture of normal distributions fitted to the codes",
    "maf": "an autoregressive flow fitted to the codes",
    "two_stage": "a second VAE fitted to the codes",
    "vampprior": "the posteriors of pseudo-examples fitted to the codes",
    "flow": "a rectified flow fitted to the codes",
    "pixelcnn": "an autoregressive model of the tokens",
}


class Fitted:
    """Distributions by name, out of sight of Keras, which would train them.

    Attributes:
        by_name: The distributions.
        choice: None, or the `Choice` of what `sample` draws from by default.
        data: None, or data that the model was trained on, to look for its codes.
    """

    def __init__(self):
        self.forget_densities()
        self.data = None

    def forget_densities(self):
        self.by_name, self.choice = {}, None


def choose(codes: np.ndarray, prior: Any = None) -> tuple[Choice, Any]:
    """Compares densities of codes with a prior, by the likelihood of held-back codes.

    Args:
        codes: Codes of data, `(n, dim)`.
        prior: What they might follow, or None.

    Returns:
        The `Choice`, and the density that it names; None for the prior.
    """
    order = np.random.default_rng(0).permutation(len(codes))
    held_back, codes = np.split(codes[order], [max(1, len(codes) // 10)])
    scores = {}
    for name, components in _DENSITIES:
        if len(codes) < 2 * components:
            break
        try:
            fitted = samplers.fit(
                name,
                codes,
                components=components,
                max_steps=30,
                starts=1,
                shrinkage=1.0,
            )
        except ValueError:
            # All codes are equal: a prior alone says where others might be.
            break
        score = mean_log_prob(fitted, held_back)
        if name not in scores or score > scores[name][0]:
            scores[name] = score, fitted
    if not scores:
        if prior is not None:
            return Choice("prior", None), None
        # What there is to draw is the one code that there is.
        spot = distributions.Normal(held_back[0], np.full(codes.shape[1], 1e-3))
        return Choice("gaussian", None), spot
    name, (best, fitted) = max(scores.items(), key=lambda item: item[1][0])
    if prior is None:
        return Choice(name, None), fitted
    nats = best - mean_log_prob(prior, held_back)
    return (
        (Choice("prior", nats), None) if nats < _CLOSE else (Choice(name, nats), fitted)
    )
