"""The card of a preset that has none: what is known of it, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Those that Hugging Face knows by these names; it refuses a card that names another.
_LICENCES = (
    "apache-2.0",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "mit",
)


def write(facts: Mapping[str, Any], uri: str) -> str:
    """Returns the card in Markdown, with the front matter of Hugging Face's.

    Args:
        facts: What `preset.json` says.
        uri: Where the preset goes.
    """
    kind = facts["model"]
    front = ["library_name: keras-ae", "tags:"]
    front += [f"- {tag}" for tag in ("keras-ae", "keras", "autoencoder", kind.lower())]
    licence = str(facts.get("licence", ""))
    if licence.lower() in _LICENCES:
        front.append(f"license: {licence.lower()}")
    shape = facts.get("image_shape")
    rows = {
        "Model": kind,
        "Shape of an example": " x ".join(map(str, shape)) if shape else "not told",
        "Parameters": f"{facts['parameters']:,}, in half precision",
        "Data": facts.get("data", "not told"),
        "Licence": licence or "not told",
        "Written by": f"keras-ae, Keras {facts['keras']}",
    }
    lines = [
        *("---", *front, "---", ""),
        *(f"# {uri.partition('://')[2]}", ""),
        *(_cell(facts.get("description", f"A {kind} of keras-ae.")), ""),
        *("|  |  |", "| --- | --- |"),
        *(f"| {name} | {_cell(text)} |" for name, text in rows.items()),
        *("", "## How to load it", ""),
        *("```bash", 'pip install "keras-ae[hub]"', "```", ""),
        *("```python", "import keras_ae", ""),
        *(f'model = keras_ae.from_preset("{uri}")', "```", ""),
        "It has seen its data and nothing else; what it makes of other examples looks "
        "like them and says little.",
    ]
    return "\n".join(lines) + "\n"


def _cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")
