"""Both of them, written."""

from __future__ import annotations

import pathlib

import keras

from keras_ae.files import replacing
from keras_ae.runs.report.card import _card
from keras_ae.runs.report.facts import OWN_CHANGES, Facts
from keras_ae.runs.report.page import _page

# Names of files may be none in UTF-8.
_ERRORS = "backslashreplace"


def write(directory: pathlib.Path, model: keras.Model) -> pathlib.Path:
    """Writes the report of a run, `report.html`, and its model card, `README.md`.

    A card whose second line the user has taken away is the user's, and stays.

    Args:
        directory: The run's directory; what it lacks is left out.
        model: The trained model.

    Returns:
        Path of the report.
    """
    facts = Facts(directory, model)
    path = directory / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(_page(facts), "utf-8", _ERRORS)
    card = directory / "README.md"
    if not card.exists() or OWN_CHANGES in card.read_text(encoding="utf-8"):
        with replacing(card) as temporary:
            temporary.write_text(_card(facts), "utf-8", _ERRORS)
    return path
