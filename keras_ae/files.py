"""Files that are whole or as they were, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None  # type: ignore[assignment]

# Folders that this process holds, and the descriptors that it does so by.
_HELD: dict[pathlib.Path, int] = {}
# What no file of the user's own has in its name.
_MARK = "keras-ae-partial"
# Names of what `replacing` was writing when its process was killed.
_LEFT_OVER = re.compile(rf"\..*-\d+\.{_MARK}(\..*)?")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, moved over it once the block succeeds."""
    path = pathlib.Path(path)
    # A name may be as long as a file system allows, and has to stay that long.
    stem = path.stem.encode("utf-8", "surrogateescape")[:64].decode("utf-8", "ignore")
    temporary = path.with_name(f".{stem}-{os.getpid()}.{_MARK}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # A full disk names no file by itself.
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def hold(folder: pathlib.Path) -> Callable[[], None]:
    """Keeps other processes from writing into a folder until this one lets it go.

    What a killed process was writing there is removed. A process that ends lets go, and
    where a file system knows no locks nothing is kept.

    Args:
        folder: Where nobody else is to write.

    Returns:
        Function that lets go.

    Raises:
        ValueError: If another process holds it.
    """
    folder = folder.resolve()
    if fcntl is None or folder in _HELD:
        return lambda: None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(
            f"Another process trains in {folder}. Wait for its end, or choose another "
            "directory."
        ) from None
    except OSError:
        os.close(descriptor)
        return lambda: None
    _HELD[folder] = descriptor
    for path in folder.rglob(".*"):
        if _LEFT_OVER.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)

    def let_go():
        if _HELD.pop(folder, None) is not None:
            os.close(descriptor)

    return let_go


def read_json(
    path: pathlib.Path, remedy: str = "Restore it, or remove it and do without."
) -> dict[str, Any]:
    """Reads an object that `write_json` wrote; an empty one where there is no file.

    Args:
        path: Where it lies.
        remedy: What to do where it is damaged.

    Raises:
        ValueError: If it holds something else, with the name of the file.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} for an object")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). {remedy}") from error
    return content


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON so that the file is whole or as it was."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
