"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_ae.callbacks import replacing

_ORDER = ("reconstructions", "samples", "interpolation", "traversal", "latent_map")
_TITLES = {
    "reconstructions": "Reconstructions",
    "samples": "Samples",
    "interpolation": "Interpolations",
    "traversal": "Latent traversals",
    "latent_map": "Latent map",
}
_EXPLAINED = {
    "loss": "what training minimises: the sum of its terms, nats a picture",
    "reconstruction": "negative log-likelihood of the picture given its code, nats",
    "kl": "divergence of the posterior from the prior (times β), nats",
    "elbo": "evidence lower bound on log p(x), nats a picture; higher is better",
    "mse": "mean squared error per value, pictures in [0, 1]",
    "psnr": "peak signal-to-noise ratio, dB; higher is better",
    "active_units": "latent dimensions whose posterior mean varies over the data",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #62676d; --line: #dcdfe3;
  --ground: #ffffff; --card: #f5f6f8; --accent: #2468b4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #9aa0a7; --line: #34383d; --ground: #16181b;
    --card: #1f2226; --accent: #7db4f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem;
  background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
p { margin: .4rem 0 .8rem; }
.soft, figcaption, caption { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.4rem 0; }
.facts div { background: var(--card); border-radius: .5rem; padding: .6rem .9rem; }
.facts b { display: block; font-size: 1.25rem; font-weight: 600; }
.facts span { color: var(--soft); font-size: .85rem; }
figure { margin: 0; }
figcaption { font-size: .9rem; margin-top: .4rem; }
img { max-width: 100%; height: auto; display: block; }
img[alt^="Codes of"] { max-width: min(100%, 34rem); }
.strip { display: flex; flex-wrap: wrap; gap: 1rem; }
.strip figure { width: 13rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; }
pre { background: var(--card); border-radius: .5rem; padding: .8rem 1rem;
  overflow-x: auto; font: .88rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
summary { cursor: pointer; color: var(--accent); }
tr.best td { font-weight: 600; color: var(--accent); }
"""


def write(
    path: pathlib.Path,
    *,
    name: str,
    description: str,
    directory: pathlib.Path,
    model: keras.Model,
    best_row: Mapping[str, float] | None,
    history: Sequence[Mapping[str, float]],
    scores: Mapping[str, float],
    captions: Mapping[str, str],
    settings: Mapping[str, Any],
    again: str,
) -> pathlib.Path:
    """Writes the report of a run.

    Args:
        path: Path of the HTML file.
        name: Name of the run.
        description: One sentence about it.
        directory: The run's directory, with `pictures/`.
        model: The trained model.
        best_row: The history's row of the best epoch.
        history: One row an epoch.
        scores: Scores by name.
        captions: Captions of the pictures by file name, in the order they were made.
        settings: What `settings.json` holds.
        again: Command that goes on with the run.

    Returns:
        `path`.
    """
    pictures = directory / "pictures"
    first = [picture for picture in _ORDER if picture in captions]
    others = [p for p in captions if p not in first and p != "loss"]
    body = [
        f"<h1>{html.escape(name)}</h1>",
        f"<p class=soft>{html.escape(description)}</p>",
        _facts(model, best_row, history, scores),
    ]
    # What is a recipe's own comes first: it is what the recipe is about.
    for picture in (*others, *first):
        title = _TITLES.get(picture, picture.replace("_", " ").capitalize())
        body += [
            f"<h2>{title}</h2>",
            _figure(pictures / f"{picture}.png", captions[picture]),
        ]
    body += _learning(pictures, model, history, best_row, captions)
    if scores:
        body += ["<h2>Scores</h2>", "<p>On held-back pictures.</p>", _scores(scores)]
    body += [
        "<h2>Load it, go on</h2>",
        _pre(_python(directory, model)),
        _pre(next_command(directory, model) + (f"\n{again}" if again else "")),
        "<h2>Settings and environment</h2>",
        _settings(settings),
    ]
    page = (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def next_command(directory: pathlib.Path, model: keras.Model) -> str:
    """A command worth trying on the trained model."""
    run = shlex.quote(str(directory))
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


def _facts(model, best_row, history, scores):
    facts = [
        (type(model).__name__, "model"),
        (f"{model.count_params():,}", "parameters"),
        (" x ".join(map(str, model.built_image_shape)), "picture"),
        (str(model.latent_dim), "latent dimensions"),
    ]
    if best_row:
        seconds = sum(row.get("seconds", 0) for row in history)
        facts.append((f"{best_row['epoch'] + 1} of {len(history)}", "best epoch"))
        facts.append((duration(seconds), "training"))
    if "mse" in scores:
        facts.append((f"{scores['mse']:.4g}", "test MSE per value"))
    if "elbo" in scores:
        facts.append((f"{scores['elbo']:.4g}", "test ELBO, nats"))
    cells = [
        f"<div><b>{html.escape(value)}</b><span>{what}</span></div>"
        for value, what in facts
    ]
    return f"<div class=facts>{''.join(cells)}</div>"


def _learning(pictures, model, history, best_row, captions):
    sheets = sorted(pictures.glob("epoch-*.png"))
    if not history:
        return []
    parts = ["<h2>Learning</h2>"]
    if "loss" in captions:
        parts.append(_figure(pictures / "loss.png", captions["loss"]))
    if sheets:
        same = "codes" if model.draws_by_itself else "pictures"
        parts.append(f"<p>The same {same}, as training went on:</p>")
        figures = [
            _figure(sheet, f"epoch {int(sheet.stem.partition('-')[2])}")
            for sheet in sheets
        ]
        parts.append(f"<div class=strip>{''.join(figures)}</div>")
    names = list(dict.fromkeys(name for row in history for name in row))
    head = "".join(f"<th class=number>{html.escape(name)}</th>" for name in names)
    lines = []
    for row in history:
        best = " class=best" if best_row and row["epoch"] == best_row["epoch"] else ""
        values = {**row, "epoch": row["epoch"] + 1}
        cells = "".join(
            f"<td class=number>{_number(values.get(name, ''))}</td>" for name in names
        )
        lines.append(f"<tr{best}>{cells}</tr>")
    parts.append(
        "<details><summary>Every epoch</summary><div class=wide><table>"
        f"<tr>{head}</tr>{''.join(lines)}</table></div></details>"
    )
    return parts


def _scores(scores):
    lines = [
        f"<tr><td>{html.escape(name.replace('_', ' '))}</td>"
        f"<td class=number>{_number(value)}</td>"
        f"<td class=soft>{html.escape(_EXPLAINED.get(name, ''))}</td></tr>"
        for name, value in scores.items()
    ]
    return f"<table>{''.join(lines)}</table>"


def _settings(settings):
    lines = []
    for group, value in settings.items():
        entries = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, entry in entries:
            if entry is None:
                continue
            text = entry if isinstance(entry, str) else json.dumps(entry)
            label = f"{group}: {name}" if name else group
            lines.append(
                f"<tr><td>{html.escape(label.replace('_', ' '))}</td>"
                f"<td>{html.escape(text)}</td></tr>"
            )
    return f"<table>{''.join(lines)}</table>"


def _python(directory, model):
    verb = (
        "pictures = model.sample(64)  # (64, height, width, channels)"
        if model.can_sample
        else "codes = model.encode(x)  # (pictures, latent_dim)"
    )
    path = (directory / "model.keras").as_posix()
    return (
        "import keras\n"
        "import keras_ae.models  # the classes that the file names\n\n"
        f"model = keras.saving.load_model({path!r})\n"
        f"{verb}\n"
        "model.fit(x, validation_data=x_validation, epochs=10)  # goes on"
    )


def _pre(text):
    return f"<pre>{html.escape(text)}</pre>"


def _figure(path, caption):
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _number(value):
    if isinstance(value, float):
        return f"{value:.5g}"
    return html.escape(str(value))
