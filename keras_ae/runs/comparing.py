"""Several models on the same held-back pictures, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import keras
import numpy as np

from keras_ae import checks, metrics, plots
from keras_ae.evaluation import features
from keras_ae.metrics import arrays

# Pictures in a row of what is drawn, and samples of a model on a sheet of its own.
_ROW, _SHEET = 10, 64
# Training pictures that are compared with a sample at a time.
_CHUNK = 500


class Comparing:
    """What a run measures and draws of several models."""

    def feature_network(self, train: np.ndarray) -> features.FeatureNetwork | None:
        """A classifier of the training pictures, in whose features sets are compared.

        Args:
            train: Training pictures, as `load` returned them, with the classes or
                attributes that it found.

        Returns:
            The network, which is also saved as `features.keras`; None without labels.
        """
        labels = self.labels.get("train", {})
        names = [name for name in labels if name != "path"]
        if not names:
            print("No Fréchet distance: there are no labels to learn features from.")
            return None
        columns = [labels[name] for name in names]
        targets = columns[0] if names == ["label"] else np.stack(columns, axis=1)
        network = features.train(train, targets, seed=self.seed)
        network.save(self.directory / "features.keras")
        return network

    def compare(
        self,
        models: Mapping[str, keras.Model],
        train: np.ndarray,
        test: np.ndarray,
        network: features.FeatureNetwork | None = None,
        draws: int = 1,
    ) -> None:
        """Measures and draws reconstructions and samples of several models.

        Of each the PSNR of its reconstructions; of these, and of as many samples by
        each sampler that is fitted to it, their sharpness as a share of the pictures'
        own, and in the features of a network the Fréchet distance to the pictures,
        precision and recall. Beside samples are the training pictures whose pixels are
        nearest: they should not be copies.

        Args:
            models: Trained models of such pictures, by name.
            train: Pictures that they were trained on, as `load` returned them.
            test: Held-back pictures.
            network: One of `keras_ae.features`, such as `feature_network` returns;
                None compares no sets.
            draws: Sets of samples, >= 1, over which distances, precision and recall are
                means. Of 1,000 faces one set's distance differs from another's by a
                tenth; with several their standard deviation is recorded, too.

        Raises:
            ValueError: If `draws` is less than 1.
        """
        checks.check_count("draws", draws)
        pictures = _unit(test)
        real = None if network is None else network.features(test)
        if real is not None and len(real) <= real.shape[1]:
            print(
                f"No Fréchet distance: it needs more than {real.shape[1]} held-back "
                f"pictures. There are {len(real)}."
            )
            real = None
        shown = {"pictures": pictures[:_ROW]}
        own = metrics.sharpness(test)
        for name, model in models.items():
            samples = None
            for kind, sets in _drawn(model, test, self.seed, draws):
                label, drawn = f"{name}_{kind}", sets[0]
                if kind == "reconstructions":
                    self.scores(**{f"{name}_psnr": metrics.psnr(pictures, drawn)})
                else:
                    samples = drawn
                self.scores(**{f"{label}_sharpness": metrics.sharpness(drawn) / own})
                if real is not None:
                    self._sets(label, real, [network.features(x) for x in sets])
                shown[label.replace("_", " ")] = drawn[:_ROW]
            if samples is None:
                continue
            self.picture(
                f"{name}_samples",
                plots.sheet(samples[:_SHEET], columns=16),
                f"Samples of {name}, by the sampler that was fitted last.",
            )
            close = nearest(samples[:_ROW], train)
            self.picture(
                f"{name}_nearest",
                plots.labelled(
                    {"copies, or not": {"samples": samples[:_ROW], "nearest": close}}
                ),
                f"Samples of {name}, and the training pictures whose pixels are "
                "nearest.",
            )
        height, width = test.shape[1:3]
        self.picture(
            "side_by_side",
            plots.labelled({f"{height} by {width} pixels": shown}),
            "Held-back pictures, what becomes of them, and samples.",
        )

    def _sets(self, label, real, sets):
        distances = [metrics.frechet_distance(real, drawn) for drawn in sets]
        found = [metrics.fidelity_and_diversity(real, drawn) for drawn in sets]
        scores = {
            "frechet_distance": np.mean(distances),
            "precision": np.mean([each.precision for each in found]),
            "recall": np.mean([each.recall for each in found]),
        }
        if len(sets) > 1:
            scores["frechet_distance_deviation"] = np.std(distances, ddof=1)
        self.scores(**{f"{label}_{score}": value for score, value in scores.items()})


def _drawn(model, test, seed, draws) -> Iterator[tuple[str, list[np.ndarray]]]:
    yield "reconstructions", [np.clip(model.reconstruct(test), 0, 1)]
    several = model.fitted_samplers[1:]
    for sampler in model.fitted_samplers if several else (None,):
        kind = f"samples_{sampler}" if several else "samples"
        yield (
            kind,
            [
                np.clip(model.sample(len(test), seed=seed + i, sampler=sampler), 0, 1)
                for i in range(draws)
            ],
        )


def nearest(samples: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Returns the training picture whose pixels are nearest to each sample.

    Args:
        samples: Pictures in [0, 1], `(n, *image_shape)`.
        train: Training pictures, `(m, *image_shape)`, as `load` returned them.

    Returns:
        Pictures in [0, 1], `(n, *image_shape)`.
    """
    flat = samples.reshape(len(samples), -1)
    found, least = np.zeros(len(samples), int), np.full(len(samples), np.inf)
    for start in range(0, len(train), _CHUNK):
        part = _unit(train[start : start + _CHUNK]).reshape(-1, flat.shape[1])
        distances = np.concatenate([*arrays.squared_distances(flat, part)])
        closer = distances.min(axis=1) < least
        found[closer] = start + distances.argmin(axis=1)[closer]
        least = np.minimum(least, distances.min(axis=1))
    return _unit(train[found])


def _unit(pictures):
    """Pictures in [0, 1]."""
    return np.asarray(pictures, "float32") / 255
