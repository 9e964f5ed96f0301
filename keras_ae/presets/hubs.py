"""Hubs that presets come from and go to: Hugging Face's, and Kaggle's.

Their clients are imported when one is named. Where they find the hub, the token and the
cache is theirs to settle.
"""

from __future__ import annotations

import importlib
import pathlib
import re
from typing import NamedTuple

FILES = ("preset.json", "model.keras", "README.md")


class _Hub(NamedTuple):
    client: str
    form: str
    address: re.Pattern
    login: str


_HUBS = {
    "hf": _Hub(
        "huggingface_hub",
        "hf://user/name or hf://user/name@revision",
        re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?"),
        "`hf auth login`, or the variable HF_TOKEN",
    ),
    "kaggle": _Hub(
        "kagglehub",
        "kaggle://user/model/framework/variation, with /version or without",
        re.compile(r"([\w-]+/[\w-]+/\w+/[\w-]+)(?:/([0-9]+))?"),
        "`kagglehub.login()`, or the variable KAGGLE_API_TOKEN",
    ),
}


def download(uri: str) -> pathlib.Path:
    """Fetches a preset into the cache of the hub's client, which it stays in.

    Args:
        uri: `hf://user/name`, `hf://user/name@revision` or
            `kaggle://user/model/framework/variation`, with `/version` or without.

    Returns:
        The folder that it lies in.

    Raises:
        ValueError: If `uri` is none.
        ImportError: If the hub's client is not installed.
        FileNotFoundError: If there is no such preset, or none that may be read.
        OSError: If the hub can't be reached, or answers otherwise.
    """
    hub, name, version = _parsed(uri)
    client = _client(uri, hub)
    try:
        if hub.client == "huggingface_hub":
            found = client.snapshot_download(
                name, revision=version, allow_patterns=[*FILES]
            )
            folder = pathlib.Path(found)
        else:
            handle = name if version is None else f"{name}/{version}"
            # One by one: what else is there may be large.
            for file in ("preset.json", "model.keras"):
                found = client.model_download(handle, path=file)
            folder = pathlib.Path(found).parent
    except Exception as error:
        if _status(error) in (401, 403, 404):
            raise FileNotFoundError(
                f"There is no preset {uri} that you may read. Check the name; where it "
                f"is private, log in: {hub.login}."
            ) from error
        raise _failure(uri, "read", error) from error
    if not all((folder / file).is_file() for file in ("preset.json", "model.keras")):
        raise FileNotFoundError(
            f"{uri} holds no preset: expected a preset.json and a model.keras, as "
            "`push_to_hub` writes them."
        )
    return folder


def upload(folder: pathlib.Path, uri: str, private: bool | None) -> None:
    """Sends all files of a folder.

    Args:
        folder: What is to be there.
        uri: As for `download`; the revision must be a branch, and no version is taken.
        private: Whether a new repository is to be so; None as the hub does it.

    Raises:
        ValueError: If `uri` is none, or Kaggle's and `private` is False.
        ImportError: If the hub's client is not installed.
        PermissionError: If it may not be written to.
        OSError: If the hub can't be reached, or answers otherwise.
    """
    hub, name, version = _parsed(uri)
    hugging_face = hub.client == "huggingface_hub"
    if not hugging_face and version is not None:
        raise ValueError(
            f"`uri` must have no version, as Kaggle counts them itself. Received: {uri}"
        )
    if not hugging_face and private is False:
        raise ValueError(
            "`private` can't be False on Kaggle, where new models are private until "
            f"their page says otherwise. Received: private=False for {uri}"
        )
    client = _client(uri, hub)
    try:
        if hugging_face:
            client.create_repo(name, private=private, exist_ok=True)
            client.upload_folder(
                repo_id=name,
                folder_path=folder,
                revision=version,
                commit_message="A preset of keras-ae",
            )
        else:
            client.model_upload(name, str(folder))
    except Exception as error:
        if _status(error) in (401, 403, 404):
            raise PermissionError(
                f"You may not write to {uri}. Check the name, and log in with a token "
                f"that may write: {hub.login}."
            ) from error
        raise _failure(uri, "written", error) from error


def check(uri: str) -> None:
    """Raises a `ValueError` unless `uri` has a hub's form."""
    _parsed(uri)


def _parsed(uri):
    scheme, _, address = str(uri).partition("://")
    hub = _HUBS.get(scheme)
    found = hub and hub.address.fullmatch(address)
    if not found:
        forms = [hub] if hub else _HUBS.values()
        raise ValueError(
            f"`uri` must be {', or '.join(known.form for known in forms)}. "
            f"Received: {uri}"
        )
    return hub, *found.groups()


def _client(uri, hub):
    try:
        return importlib.import_module(hub.client)
    except ModuleNotFoundError as error:
        if error.name != hub.client:
            raise
        raise ImportError(
            f'{uri} needs {hub.client}; `pip install "keras-ae[hub]"` brings it.'
        ) from error


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__


def _answered(error):
    """The error that has the hub's answer, where there was one."""
    for cause in _chain(error):
        if getattr(cause, "response", None) is not None:
            return cause
    return None


def _status(error):
    answered = _answered(error)
    return None if answered is None else answered.response.status_code


def _failure(uri, done, error):
    kinds = [type(cause).__name__ for cause in _chain(error)]
    answered = _answered(error)
    if not answered and any(re.search("Connect|Timeout|Offline", k) for k in kinds):
        return ConnectionError(
            f"The hub of {uri} can't be reached. Is there a network? What was "
            "downloaded once is found without one."
        )
    error = answered or error
    sentence = str(error).strip().partition("\n")[0][:200]
    return OSError(f"{uri} could not be {done}: {type(error).__name__}: {sentence}")
