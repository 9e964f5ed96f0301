"""Scores and pictures of a trained model."""

from __future__ import annotations

import math

import keras
import numpy as np
from PIL import Image

from keras_ae import evaluation, metrics, plots
from keras_ae.evaluation import scores
from keras_ae.probability import distributions

# Pictures whose codes are searched for, which takes a thousand times as long as an
# encoder, where more would do no harm.
SEARCHED = 200
# Pictures on which denoising is measured, and deviations of the blurs beside it.
DENOISED = 200
BLURS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)


class Gallery:
    """What a run measures of its model, and the pictures that it draws."""

    def evaluate(
        self,
        model: keras.Model,
        test: np.ndarray,
        binarize: bool = False,
        labels: np.ndarray | None = None,
        **options,
    ) -> dict[str, float]:
        """Scores the model on held-back pictures; see `evaluation.evaluate`.

        Args:
            model: The trained model.
            test: Pictures that neither training nor early stopping has seen.
            binarize: Whether to score on pictures drawn once from the grey values.
            labels: One label a picture, for a model that takes them.
            **options: As for `evaluation.evaluate`: `scores=["samples"]`, say.

        Returns:
            Scores by name, which are also written to `scores.json`, and with all that
            they depend on to `evaluation.json`.
        """
        found = evaluation.evaluate(
            model,
            test,
            binarize=binarize,
            labels=labels,
            seed=self.seed,
            data=self._settings.get("data"),
            **options,
        )
        found.add_to(self.directory / scores.FILE)
        self.scores(**found.values)
        if model.denoises and len(test.shape) > 2:
            self._denoising(model, test[:DENOISED])
        return found.values

    def _denoising(self, model, pictures):
        """PSNR of pictures spoilt, blurred as well as a blur can, and denoised."""
        noisy = spoilt(model, pictures, self.seed)
        blurred = {width: np.clip(metrics.blur(noisy, width), 0, 1) for width in BLURS}
        found = {width: metrics.psnr(pictures, x) for width, x in blurred.items()}
        best = max(found, key=found.get)
        reached = {
            "psnr_noisy": metrics.psnr(pictures, np.clip(noisy, 0, 1)),
            "psnr_blurred": found[best],
            "psnr_denoised": metrics.psnr(pictures, model.denoise(noisy)),
        }
        self.scores(**reached)
        spoilt_, blurred_, denoised = reached.values()
        print(
            f"PSNR of {len(pictures):,} held-back pictures: noisy {spoilt_:.1f} dB, "
            f"blurred by a Gaussian of {best} pixels {blurred_:.1f} dB, denoised "
            f"{denoised:.1f} dB.",
            flush=True,
        )

    def fit_sampler(
        self, model: keras.Model, sampler: str, pictures: np.ndarray, **options
    ) -> None:
        """Fits a sampler to the codes of pictures, and saves it with the model.

        Args:
            model: The trained model.
            sampler: As for the model's `fit_sampler`.
            pictures: Pictures that it was trained on.
            **options: As for the model's `fit_sampler`.
        """
        print(f"Fitting {sampler} to the codes of {len(pictures):,} pictures.")
        model.fit_sampler(sampler, pictures, seed=self.seed, **options)
        self._save_best(model)

    def pictures(
        self,
        model: keras.Model,
        test: np.ndarray,
        labels: np.ndarray | None = None,
        label_name: str | None = None,
    ) -> None:
        """Draws the pictures that every run has, from held-back pictures.

        Reconstructions beside originals, samples, interpolations, traversals, the
        latent map, what the codes of a two-dimensional latent space decode to, and the
        usage of codebooks. Of what denoises, spoilt pictures and what it makes of them;
        where it keeps the pixels in its codes, nothing else.

        Args:
            model: The trained model.
            test: Pictures to draw from, as `run.load` returned them.
            labels: One value a picture, which colours the latent map.
            label_name: What the labels are.
        """
        chosen = test[np.linspace(0, len(test) - 1, min(16, len(test))).astype(int)]
        self.picture(
            "reconstructions",
            plots.reconstructions(chosen, model.reconstruct(chosen)),
            "Held-back pictures, and below each row their reconstructions.",
        )
        if model.denoises:
            noisy = spoilt(model, chosen[:8], self.seed)
            self.picture(
                "denoised",
                plots.reconstructions(noisy, model.denoise(noisy)),
                "Held-back pictures spoilt as in training, and below each row what the "
                "model makes of them.",
            )
        if model.learns_choice:
            self._choose_sampler(model)
        if model.can_sample:
            self.picture("samples", *_samples(model, self.seed))
        if model.keeps_pixels:
            return
        half = max(1, min(6, len(chosen) // 2))
        steps = model.interpolate(chosen[:half], chosen[-half:], steps=9)
        self.picture(
            "interpolation",
            plots.interpolation(steps),
            "From one held-back picture to another, in equal steps between their "
            "codes.",
        )
        codes = model.encode(test[: SEARCHED if not model.has_encoder else 2000])
        # The dimensions that matter most; the others change little or nothing.
        deviations = codes[:, : model.prior_dim].std(axis=0)
        dims = np.argsort(-deviations)[:8]
        span = float(min(3.0, 2.5 * deviations.max())) or 1.0
        if not model.bounds_likelihood:
            span = float(2.0 * deviations[dims].mean()) or 1.0
        self.picture(
            "traversal",
            plots.traversal(model.traverse(chosen[0], dims=dims, span=span)),
            f"One latent dimension a row, from -{span:.1f} to {span:.1f}; the others "
            "stay. The dimensions that vary most come first.",
        )
        prior = getattr(model, "prior", None)
        # On spheres and hyperbolic planes a grid of codes lies beside the space.
        if codes.shape[1] == 2 and isinstance(prior, distributions.Normal | None):
            standard = distributions.Normal().get_config()
            by_prior = prior is not None and prior.get_config() == standard
            self.picture(
                "manifold",
                plots.manifold(model.decode, None if by_prior else codes),
                "What codes decode to, z[0] to the right and z[1] upwards, in steps of "
                + ("equal probability." if by_prior else "equally many codes of data."),
            )
        if model.has_tokens:
            quantizer = model.quantizer
            self.picture(
                "codebook_usage",
                plots.codebook_usage(
                    model.tokens(test[:2000]),
                    quantizer.num_codes,
                    math.prod(quantizer.token_shape),
                ),
                "How often each code stands in the tokens of held-back pictures.",
            )
        self.picture(
            "latent_map",
            plots.latent_map(
                codes,
                None if labels is None else labels[: len(codes)],
                label_name,
                images=test[: len(codes)],
            ),
            "Codes of held-back pictures"
            + ("." if labels is None else f", coloured by {label_name or 'label'}."),
        )


def spoilt(model: keras.Model, pictures: np.ndarray, seed: int) -> np.ndarray:
    """What a model is to restore pictures from: spoilt ones, if it denoises."""
    return model.corrupt(pictures, seed) if model.denoises else pictures


def _samples(model, seed):
    """A sheet of samples, beside it the prior's where those are others; a caption."""
    sheet = plots.sheet(model.sample(64, seed=seed))
    choice = model.choose_sampler()
    if choice is None:
        where = "from the prior" if model.has_prior else "like the data's"
        return sheet, f"Samples: codes drawn {where}, decoded."
    # Nobody expects anything of a prior that codes do not follow.
    alone = not model.has_prior or model.learns_choice
    if alone or choice.sampler == "prior":
        return sheet, str(choice)
    beside = plots.sheet(model.sample(64, seed=seed, sampler="prior"))
    gap = sheet.width // 16
    both = Image.new(sheet.mode, (2 * sheet.width + gap, sheet.height), "white")
    both.paste(sheet, (0, 0))
    both.paste(beside, (sheet.width + gap, 0))
    return both, f"{choice} Left: these samples. Right: those from the prior."
