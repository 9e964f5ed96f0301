"""What there is to tell of a run, in plain text."""

from __future__ import annotations

import csv
import json
import math
import pathlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

import keras

from keras_ae import catalogue, datasets
from keras_ae.callbacks import read_note
from keras_ae.evaluation import scores
from keras_ae.files import read_json

# Pictures that every run has, and what they are called; a run's own come before them.
_TITLES = {
    "reconstructions": "Reconstructions",
    "denoised": "Denoised",
    "samples": "Samples",
    "manifold": "Latent space",
    "interpolation": "Interpolations",
    "traversal": "Latent traversals",
    "codebook_usage": "Codebook usage",
    "latent_map": "Latent map",
}
# What scores mean that `keras_ae.scores` does not know: losses of adversarial and
# quantized models, and figures of recipes.
_MEANINGS = {
    "deviation": "standard deviation over the repeats",
    "discriminator_accuracy": "share that the discriminator tells right; 0.5 is a draw",
    "discriminator": "a part of the discriminator's loss",
    "adversarial": "a part of the loss that the discriminator judges",
    "real_score": "how real the discriminator finds real pictures or codes, 0 to 1",
    "fake_score": "how real the discriminator finds made-up ones, 0 to 1",
    "diversity": "how much samples differ from each other, as a share of the data's",
    "negative_log_likelihood": "nats; lower is better",
    "importance_samples": "codes drawn for each picture to measure its likelihood",
    "summed_squared_error": "squared error of a picture, summed over its values",
    "commitment": "squared distance from the encoder's vectors to their codes, times β",
    "total_correlation": "dependence between latent dimensions (weighted), nats",
    "perplexity": "as many codes, all used alike, would have the same entropy",
    "usage": "share of the codebook that a batch uses",
    "used_codes": "share of the codebook in use",
    "gap": "mutual information gap, 0 to 1: how far each factor has a dimension of its "
    "own; higher is better",
    "accuracy": "share told right; higher is better",
    "error": "share told wrong; lower is better",
    **{
        name: f"{text}; {better} is better" if better else text
        for name, (better, text) in scores.MEANINGS.items()
    },
}
# What scores of an evaluation mostly share; and what tells a reader nothing.
_SHARED = ("data", "pictures", "image_shape", "binarized", "seed")
_PUBLISHED = ("paper_", "published_")
OWN_CHANGES = "<!-- Written by keras-ae. Delete this line to keep your own changes. -->"


def next_command(directory: pathlib.Path, model: keras.Model) -> str:
    """A command worth trying on the trained model."""
    run = shlex.quote(str(directory))
    if not model.describes_pictures:
        # Rows of numbers or series: nothing that the commands could show as pictures.
        load = f"keras.saving.load_model({json.dumps(str(directory / 'model.keras'))})"
        shown = "sample(5)" if model.can_sample else "summary()"
        code = f"import keras, keras_ae; print({load}.{shown})"
        return f"python -c {shlex.quote(code)}"
    if model.denoises:
        return f"keras-ae denoise {run} NOISY_PICTURES... --output denoised"
    if model.can_sample:
        return f"keras-ae sample {run} -n 64 --output samples.png"
    return f"keras-ae reconstruct {run} PICTURES... --output reconstructions"


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class Facts:
    """What there is to tell of a run, in plain text: for the page and for the card.

    Args:
        directory: The run's directory.
        model: The trained model.
    """

    def __init__(self, directory: pathlib.Path, model: keras.Model):
        self.directory = directory
        self.model = model
        self.settings = read_json(directory / "settings.json")
        self.measured = read_json(directory / "scores.json")
        path = directory / scores.FILE
        found = scores.load(path).scores if path.is_file() else []
        # Of a score measured in two ways the first, as in `scores.json`.
        self.evaluated: dict[str, scores.Score] = {}
        for score in found:
            self.evaluated.setdefault(score.name, score)
        self.history = _read_history(directory / "history.csv")
        recipe = self.settings.get("recipe")
        self.name = self.settings.get("name") or recipe or directory.resolve().name
        self.description = self.settings.get("description", "")
        script = directory / f"{str(recipe).replace('-', '_')}.py"
        if not self.description and script.is_file():
            self.description = catalogue.description(script)
        self.data = str(self.settings.get("data", ""))
        self.splits = self.settings.get("splits", {})
        self.trained = self.settings.get("training", {})
        self.image_shape = tuple(model.built_image_shape)
        known = catalogue.models()
        # A recipe may train a model of its own that is like one of ours.
        ours = [c.__name__ for c in type(model).__mro__ if c.__name__ in known]
        self.about = catalogue.model(ours[0]) if ours else {}

    @property
    def noun(self) -> str:
        """What the model was trained on, in the plural."""
        if self.model.describes_pictures:
            return "pictures"
        return "windows" if self.model.architecture == "sequence" else "rows"

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept, from 1; 0 where nothing is known of it."""
        path = self.directory / "model.keras"
        rows = read_note(path) if path.exists() else []
        return rows[-1]["epoch"] + 1 if rows else len(self.history)

    @property
    def summary(self) -> list[tuple[str, str]]:
        """What the figures at a glance are, and the figures."""
        facts = [
            ("model", type(self.model).__name__),
            ("parameters", f"{self.model.count_params():,}"),
            ("latent dimensions", f"{self.model.latent_dim:,}"),
        ]
        if self.history:
            seconds = sum(row.get("seconds", 0) for row in self.history)
            facts.append(("best epoch", f"{self.best_epoch} of {len(self.history)}"))
            facts.append(("of training", duration(seconds)))
        for name, what in (("mse", "test MSE per value"), ("elbo", "test ELBO, nats")):
            if name in self.measured:
                facts.append((what, _number(self.measured[name])))
        return facts

    @property
    def training(self) -> list[tuple[str, str]]:
        """What was trained on what, and how."""
        shape = " x ".join(map(str, self.image_shape))
        counts = [f"{count:,} {split}" for split, count in self.splits.items()]
        # A recipe may train on a part of a split.
        trained_on = self.trained.get("pictures")
        if trained_on not in (None, *self.splits.values()):
            counts.append(f"{trained_on:,} trained on")
        rows = [
            ("Model", self.about.get("summary", "")),
            ("Objective", _in_a_line(self.about.get("objective", ""))),
            ("Paper", self.about.get("paper", "")),
            ("Data", self.data),
            (
                self.noun.capitalize(),
                f"{', '.join(counts)}; {shape} each".removeprefix("; "),
            ),
            ("Optimizer", self._optimizer()),
            ("Training", self._epochs()),
        ]
        return [(what, text) for what, text in rows if text]

    def _optimizer(self):
        used = _optimizer(self.model)
        rates = [row["learning_rate"] for row in self.history if "learning_rate" in row]
        if used and rates and rates[-1] < rates[0]:
            name = used.partition(",")[0]
            used = f"{name}, learning rate {rates[0]:.4g} falling to {rates[-1]:.2g}"
        return used

    def _epochs(self):
        if not self.trained:
            return ""
        if "epochs" not in self.trained:
            return "elsewhere: only what draws its codes was fitted here"
        text = "at most {epochs:,} epochs, batches of {batch_size:,}".format(
            **self.trained
        )
        monitor, patience = self.trained["monitor"], self.trained["patience"]
        if not monitor:
            return f"{text}; the last weights are kept"
        text += f"; the weights of the best {monitor} are kept"
        if patience >= self.trained["epochs"]:
            return text
        return f"{text}, and training ends after {patience} epochs without a better one"

    @property
    def protocol(self) -> str:
        """What the scores were measured on."""
        first = next(iter(self.evaluated.values()), None)
        if first is None:
            return f"On held-back {self.noun}, with the seed {self.seed}."
        about = first.depends_on
        binarized = ", made black and white" if about["binarized"] else ""
        data = about.get("data") or ""
        # `keras-ae evaluate` takes any pictures.
        held_back = data.removesuffix(" (test split)") == self.data
        what = f"held-back {self.noun}" if held_back else f"{self.noun} of {data}"
        return (
            f"On {about['pictures']:,} {what}{binarized}, with the seed {self.seed}; ± "
            "is the standard error."
        )

    @property
    def seed(self) -> int:
        """Seed of the run."""
        # Older runs kept it among the options of the command line only.
        return self.settings.get("options", self.trained).get("seed", 0)

    @property
    def results(self) -> list[tuple[str, str, str, str]]:
        """What was measured, our figure, the published one, and what it means."""
        published, ours = {}, {}
        for name, value in self.measured.items():
            prefix = next((p for p in _PUBLISHED if name.startswith(p)), None)
            if prefix is None:
                ours[name] = value
            else:
                published[name.removeprefix(prefix)] = value
        # What can be compared comes first, and last what was evaluated later.
        names = dict.fromkeys([*published, *ours, *self.evaluated])
        return [
            self._result(name, ours.get(name), published.get(name)) for name in names
        ]

    def _result(self, name, ours, published):
        figure, meaning = _number(ours), _meaning(name)
        score = self.evaluated.get(name)
        if score is not None and ours in (None, score.value):
            figure = _number(score.value)
            if score.error:
                figure += f" ± {score.error:.2g}"
            meaning += _details(score, next(iter(self.evaluated.values())))
        return name.replace("_", " "), figure, _number(published), meaning

    @property
    def comparison(self) -> str:
        """What was published of what the recipe measures, and what we recorded."""
        about = self.about
        if "ours" not in about or about["recipe"] != self.settings.get("recipe"):
            return ""
        published = about.get("published")
        return (
            f"What this recipe is about: {about['measured']}. "
            + (f"Published: {published}. " if published else "")
            + f"Recorded with this package: {about['ours']}, by {about['protocol']}."
        )

    def python(self, path: str) -> str:
        """How to load the model from `path`, and what to do with it."""
        shape = ", ".join(map(str, self.image_shape))
        of_rows = not self.model.describes_pictures
        kind = "floats" if of_rows else "uint8 from 0 to 255, or floats in [0, 1]"
        kind = f"(n, {shape}): {kind}"
        own = f"# or your own, {kind}"
        limits = ", in [0, 1]" if self.model.in_unit_range or not of_rows else ""
        has_schema = hasattr(self.model.likelihood, "schema")
        if has_schema and datasets.is_table(self.data):
            load = _load_table(self.data, self.noun, self.image_shape) + f"\n{own}"
        elif self.data and not of_rows:
            split = next(iter(self.splits), "train")
            key = {**self.settings, **self.settings.get("options", {})}.get("key")
            key = f", key={key!r}" if key else ""
            load = (
                f"x = keras_ae.datasets.load({self.data!r}, split={split!r}, "
                f"image_size={self.image_shape[:2]}{key})\n{own}"
            )
        else:
            load = f"x = ...  # {kind}"
        lines = [
            "import keras",
            "import keras_ae.models  # the classes that the file names",
            "",
            f"model = keras.saving.load_model({path!r})",
            load,
            f"codes = model.encode(x[:64])  # (64, {self.model.code_dim})",
            f"restored = model.reconstruct(x[:64])  # (64, {shape}){limits}",
        ]
        if self.model.can_sample:
            lines.append(f"{self.noun} = model.sample(64)  # (64, {shape}){limits}")
        if self.model.needs_labels:
            lines.append("labels = ...  # the class of each of x")
        labels = ", labels" if self.model.needs_labels else ""
        lines.append(f"model.fit(x{labels}, epochs=10)  # trains on")
        return "\n".join(lines)

    @property
    def commands(self) -> str:
        """The same from the command line."""
        run = shlex.quote(str(self.directory))
        data = shlex.quote(self.data or "FOLDER")
        lines = [next_command(self.directory, self.model)]
        if self.settings.get("normal"):
            lines.append(f"keras-ae anomalies score {run} {data} --output scores.csv")
        if self.model.describes_pictures:
            lines.append(f"keras-ae map {run} {data} --output map.png")
            lines.append(f"keras-ae evaluate {run} {data}")
        lines.append(self.settings.get("again", ""))
        return "\n".join(filter(None, lines))

    @property
    def environment(self) -> list[tuple[str, str]]:
        """Command, seed, machine, versions and commit: what it takes to do it again."""
        known = self.settings.get("environment", {})
        versions = known.get("versions", {})
        rows = [
            ("Command", self.settings.get("command")),
            ("Started", self.settings.get("started")),
            ("First command", self.settings.get("first_command")),
            ("First started", self.settings.get("first_started")),
            ("Seed", self.seed),
            ("Backend", known.get("backend")),
            ("Devices", ", ".join(map(str, known.get("devices", ())))),
            ("Machine", known.get("machine")),
            ("Python", known.get("python")),
            ("Packages", ", ".join(f"{name} {v}" for name, v in versions.items())),
            ("Commit", known.get("commit")),
        ]
        return [(what, str(text)) for what, text in rows if text not in (None, "")]

    @property
    def options(self) -> list[tuple[str, str]]:
        """The settings of the recipe or the model, and what the user chose."""
        chosen = {
            **self.settings.get("settings", {}),
            **self.settings.get("options", {}),
        }
        return [
            (
                name.replace("_", " "),
                value if isinstance(value, str) else json.dumps(value),
            )
            for name, value in chosen.items()
            if value is not None and name != "seed"
        ]

    @property
    def pictures(self) -> list[tuple[pathlib.Path, str, str]]:
        """Path, title and caption of each picture but those of the learning."""
        folder = self.directory / "pictures"
        captions = self._captions()
        drawn = [name for name in captions if (folder / f"{name}.png").is_file()]
        usual = [name for name in _TITLES if name in drawn]
        # What is a recipe's own comes first: it is what the recipe is about.
        own = [name for name in drawn if name not in usual and name != "loss"]
        return [
            (folder / f"{name}.png", _title(name), captions[name])
            for name in (*own, *usual)
        ]

    def _captions(self):
        """Captions by name; of an older run, which kept none, names alone."""
        folder = self.directory / "pictures"
        captions = read_json(folder / "captions.json")
        if captions:
            return captions
        found = sorted(path.stem for path in folder.glob("*.png"))
        return {name: "" for name in found if not name.startswith("epoch-")}

    @property
    def sheets(self) -> list[pathlib.Path]:
        """Paths of the sheets that were drawn as training went on."""
        return sorted((self.directory / "pictures").glob("epoch-*.png"))


def _read_history(path):
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(file, strict=True)
            ]
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{path} is damaged ({error}). Remove it; what goes on with the run writes "
            "it anew."
        ) from error


def _load_table(data, noun, shape):
    """How to load what a model with a schema describes."""
    rows = f"model.likelihood.schema.rows({data!r})"
    if noun == "rows":
        return f"x = {rows}"
    return f"rows = {rows}\nx = keras_ae.datasets.cut_windows(rows, {shape[0]})"


def _title(name):
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def _meaning(name):
    """What a score means, by its name or the first known words in it."""
    words = f"_{name}_"
    fits = (text for known, text in _MEANINGS.items() if f"_{known}_" in words)
    return _MEANINGS.get(name) or next(fits, "")


def _details(score, first):
    """What a score depends on that the protocol, that of the first, does not tell."""
    kept = [
        f"{name.replace('_', ' ')} {_number(value)}"
        for name, value in score.depends_on.items()
        if not (name in _SHARED and value == first.depends_on.get(name))
        and not name.endswith(("model", "digest", "batch_size"))
    ]
    return f" ({', '.join(kept)})" if kept else ""


def _optimizer(model):
    """Optimizer and learning rate, of each player; nothing where no step was taken."""
    if not int(keras.ops.convert_to_numpy(model.optimizer.iterations)):
        return ""
    players = getattr(model.optimizer, "by_player", {"": model.optimizer})
    return "; ".join(
        f"{player} {_named(optimizer)}".strip() for player, optimizer in players.items()
    )


def _named(optimizer):
    # With float16 a second optimizer scales the loss for the first.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.get_config()["learning_rate"]
    if not isinstance(rate, Mapping):
        return f"{type(optimizer).__name__}, learning rate {rate:.4g}"
    start = rate["config"].get("initial_learning_rate")
    schedule = rate["class_name"] + (f" from {start:.4g}" if start is not None else "")
    return f"{type(optimizer).__name__}, learning rate by {schedule}"


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 1e4):
        return f"{value:,.0f}"
    return f"{value:.5g}"


def _in_a_line(formula):
    """A formula of several lines; those that are indented go on with the one above."""
    return " ".join(re.sub(r"\n(?=\S)", "; ", formula).split())
