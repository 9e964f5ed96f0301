"""The command that opens a page on a model."""

from __future__ import annotations

import pathlib
import sys

from keras_ae import catalogue, datasets, explorer
from keras_ae.cli.commands.reading import load_some
from keras_ae.files import read_json
from keras_ae.runs import load_model


def explore(
    path: str,
    *,
    data: str | None = None,
    data_dir: str | None = None,
    limit: int = 2000,
    host: str = "127.0.0.1",
    port: int | None = None,
    seed: int = 0,
) -> None:
    """Serves a page to explore a model until it is interrupted.

    Args:
        path: A `.keras` file, a run directory or the name of a preset.
        data: Name of a data set, or path of a folder or zip of pictures, whose codes
            are shown; by default what the model was trained on, where it is found.
        data_dir: Folder of data sets; by default also that of the run.
        limit: At most this many pictures; of a folder spread over all of it.
        host: Address to serve it at.
        port: Port; by default the first free one from 7860.
        seed: Seed of what is drawn.

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If the address is not free, or there are no such data or model.
        ValueError: If the model has nothing to explore, or data don't fit it.
    """
    port = explorer.check_address(host, port)
    model = load_model(path)
    folder = pathlib.Path(path)
    folder = folder.parent if folder.is_file() else folder
    images, labels, described = None, None, ""
    if data is not None:
        images, labels, described = _load(model, folder, data, data_dir, limit)
    elif model.describes_pictures and (recorded := _recorded(path, folder)):
        data, known_dir = recorded
        try:
            images, labels, described = _load(
                model, folder, data, data_dir or known_dir, limit
            )
        except (OSError, ValueError) as error:
            print(f"{data} is left out: {str(error).partition(chr(10))[0]}", flush=True)
    page = explorer.explore(
        model,
        images,
        labels,
        name=folder.resolve().name if folder.exists() else str(path),
        data=described,
        host=host,
        port=port,
        seed=seed,
    )
    print(f"{page.local_url} (Ctrl-C ends it)", flush=True)
    try:
        page.block_thread()
    finally:
        page.close(verbose=False)


def _load(model, folder, data, data_dir, limit):
    split = "train" if datasets.recognise(data) else "all"
    return *load_some(model, folder, data, split, data_dir, limit), str(data)


def _recorded(path, folder):
    """What a run or a preset was trained on, and the folder of its data sets."""
    if str(path) in catalogue.presets() and not folder.exists():
        folder = catalogue.PRESETS / str(path)
    for name in ("settings.json", "preset.json"):
        try:
            facts = read_json(folder / name)
        except ValueError as error:
            # It says what else could be shown, and the model is whole.
            print(f"Left out: {error}", file=sys.stderr, flush=True)
            continue
        if facts.get("data"):
            return facts["data"], (facts.get("options") or {}).get("data_dir")
    return None
