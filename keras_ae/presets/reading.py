"""Models from `.keras` files, which may be a stranger's."""

from __future__ import annotations

import pathlib
import textwrap
import zipfile

import keras


def read(path: pathlib.Path) -> keras.Model:
    """Loads a model, of registered classes only, by Keras' `safe_mode`.

    Args:
        path: A `.keras` file.

    Raises:
        ValueError: If the file is none, is damaged, unpacks to far more than it is, or
            holds what Keras refuses: a `Lambda` layer, a class that is not registered,
            a layer that reads other files.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a .keras file, or it is damaged.")
    _check_sizes(path)
    try:
        return keras.saving.load_model(path)
    except Exception as error:
        # Keras raises many kinds, with the whole configuration in the message, and what
        # was wrong inside of it at the end.
        inmost = str(error).rpartition("Exception encountered: ")[2]
        sentence = textwrap.shorten(inmost.strip().partition("\n")[0], 200)
        raise ValueError(
            f"{path} could not be loaded as a model: {sentence}"
        ) from error


def _check_sizes(path):
    """Refuses a file that unpacks to far more than it is: it could fill a memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    size = path.stat().st_size
    if declared > 20 * size + 2**26:
        raise ValueError(
            f"{path} claims to hold {declared:,} bytes, more than a model file of "
            f"{size:,} does; it is damaged, or made to fill a memory."
        )
