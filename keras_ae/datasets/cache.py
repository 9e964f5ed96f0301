"""Decoded pictures on disk: decoded once, in parallel, then mapped into memory.

An entry is a folder with the raw pixels and a note about them. Its name is a
digest of what the pixels depend on (names and stamps of the files, size, crop), so
that a changed file makes a new entry. It is written under another name and put in
place by one rename: there are no half entries. Processes that need the same entry at
once, on all hosts that share the cache, each write a part of it (see `decoding`). The
cache may be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
import uuid
import warnings
from pathlib import Path

import numpy as np

from keras_ae.datasets import decoding
from keras_ae.datasets.decoding import PIXELS
from keras_ae.datasets.pictures import WHITE, decode, name_broken

VERSION = 1
ABOUT = "about.json"
DAY = 24 * 60 * 60


def directory():
    """Returns the folder of the cache: `KERAS_AE_CACHE`, or the system's place."""
    chosen = os.environ.get("KERAS_AE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "keras-ae"


def remembered(what, make):
    """Returns what a function returns, plain lists, which are made only once.

    Args:
        what: Says what they are of, and changes when they would.
        make: The function.
    """
    digest = hashlib.sha256(repr((VERSION, what)).encode("utf-8", "surrogateescape"))
    path = directory() / "lists" / f"{digest.hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text("utf-8"))
    made = make()
    with contextlib.suppress(OSError):  # it is made again the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        decoding.put(path, made)
    return made


def load(pictures, chosen, size, *, limit=None, channels=None, crop=None, white=WHITE):
    """Returns the pixels of chosen pictures, decoding them if it is the first time.

    Args:
        pictures: A `listing.Pictures` or `shards.Shards`.
        chosen: Positions of the pictures wanted.
        size: (height, width).
        limit: Number of chosen pictures to take, None for all of them.
        channels: 1, 3, or None for 1 where all pictures are grey. This is decided
            on up to 256 pictures spread over the folder or zip, so that all its
            splits agree.
        crop, white: See `pictures.decode`.

    Returns:
        `(images, kept)`: a read-only uint8 memmap of shape
        `(n, height, width, channels)`, and the positions of the pictures in it.
        Pictures that can't be read are missing from both and named in a warning.
    """
    root = directory()
    wanted = chosen[:limit]
    for positions in [chosen] if len(wanted) == len(chosen) else [chosen, wanted]:
        entry = root / _entry_name(pictures, positions, size, channels, crop, white)
        found = _open(entry)
        if found is not None:
            break
    else:
        found = _create(root, entry, pictures, wanted, size, channels, crop, white)
    images, about = found
    broken = [(row, why) for row, why in about["broken"] if row < len(wanted)]
    if broken or about["coloured"]:
        _warn(pictures, wanted, broken, about["coloured"])
    kept = np.delete(wanted, [row for row, _ in broken])
    return images[: len(kept)], kept


def _warn(pictures, wanted, broken, coloured):
    messages = []
    if broken:
        named = [(pictures.names[wanted[row]], why) for row, why in broken]
        messages.append(
            f"{len(broken)} of {len(wanted)} pictures in {pictures.location} could not "
            f"be read and were skipped: {name_broken(named)}."
        )
    if coloured:
        messages.append(
            f"Nearly all pictures in {pictures.location} are grey; {coloured} coloured "
            "ones were made grey."
        )
    warnings.warn(" ".join(messages), stacklevel=5)


def _entry_name(pictures, positions, size, channels, crop, white):
    parts = (VERSION, size, channels, crop)
    parts += () if white == WHITE else (white,)
    digest = hashlib.sha256(repr(parts).encode())
    sample = pictures.sample() if channels is None else []
    for group in (sample, positions):
        lines = [f"{pictures.names[i]}\t{pictures.stamps[i]}" for i in group]
        digest.update("\n".join([*lines, "\n"]).encode("utf-8", "surrogateescape"))
    return f"pictures-{size[0]}x{size[1]}-{digest.hexdigest()[:24]}"


def _open(entry):
    """Returns the pixels of an entry and the note about them, or None."""
    try:
        about = json.loads((entry / ABOUT).read_text("utf-8"))
        shape = tuple(about["shape"])
        if (entry / PIXELS).stat().st_size != np.prod(shape):
            return None
        return np.memmap(entry / PIXELS, "uint8", "r", shape=shape), about
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _create(root, entry, pictures, positions, size, channels, crop, white):
    """Decodes pictures into a new entry, together with whoever else does so."""
    if channels is None:
        channels = common_channels(pictures, size, crop, white)
    how = (size, channels, crop, white)
    needed = len(positions) * size[0] * size[1] * channels
    partial = root / f"partial-{entry.name}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        free = shutil.disk_usage(root).free
        if free < needed:
            raise OSError(
                None, f"{needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free"
            )
        while True:
            found = _create_once(partial, entry, pictures, positions, how)
            if found is not None:
                return found
            time.sleep(decoding.BETWEEN)
    except OSError as error:
        _remove(partial)
        raise OSError(
            f"Decoded pictures can't be kept in {root} ({error.strerror or error}). "
            "Make room, name another folder in the environment variable "
            "KERAS_AE_CACHE, or keep none: `stream=True`, on the command line "
            "`--stream`."
        ) from error
    except BaseException:
        if not any(partial.glob("*.json")) and not any(partial.glob("*.claim")):
            _remove(partial)
        raise


def _create_once(partial, entry, pictures, positions, how):
    """Decodes pictures, and makes the entry where no other process is at that.

    Returns:
        As `_open`; None where it has to be tried again.
    """
    found = _open(entry)
    if found is not None:
        return found
    partial.mkdir(exist_ok=True)
    try:
        notes = decoding.decode_all(partial, pictures, positions, how)
        with decoding.claimed(partial / "entry.claim") as mine:
            if not mine:
                return None
            broken = sorted((row, why) for note in notes for row, why in note["broken"])
            _finish(partial / "entry", pictures, positions, how, broken, notes)
            if any(note["unread"] for note in notes):
                # A file that couldn't be opened may open the next time: this entry is
                # not to be found again, and is removed as abandoned some day.
                kept = entry.with_name(f"partial-{uuid.uuid4().hex}")
                (partial / "entry").rename(kept)
                found = _open(kept)
            else:
                found = _put_in_place(partial / "entry", entry)
            _remove(partial)
            return found
    except FileNotFoundError:
        # Another process has put the entry in place, or given up.
        return _open(entry)


def _finish(folder, pictures, positions, how, broken, notes):
    """Makes an entry of the pixels, and writes the note about it."""
    size, channels, *_ = how
    if len(broken) == len(positions):
        named = [(pictures.names[positions[row]], why) for row, why in broken]
        _remove(folder.parent)
        part = ""
        if len(positions) < len(pictures.names):
            part = f" that make a split of the {len(pictures.names)}"
        raise ValueError(
            f"None of the {len(positions)} pictures{part} in {pictures.location} could "
            f"be read: {name_broken(named)}."
        )
    if broken:
        rows = {row for row, _ in broken}
        decoding.close_gaps(folder / PIXELS, len(positions), rows, how)
    about = {
        "location": str(pictures.location),
        "shape": [len(positions) - len(broken), *size, channels],
        "broken": broken,
        "coloured": sum(note["coloured"] for note in notes),
    }
    (folder / ABOUT).write_text(json.dumps(about), "utf-8")


def _put_in_place(made, entry):
    """Renames an entry that was made to its name, from which it is opened."""
    for _ in range(3):
        with contextlib.suppress(OSError):  # a damaged one, or another process'
            made.rename(entry)
        found = _open(entry)
        if found is not None:
            return found
        _remove(entry)
    raise OSError(None, "a damaged entry can't be replaced")


def _remove(folder):
    """Removes a folder of the cache, which is gone at once for other processes."""
    removed = folder.with_name(f"partial-{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _remove_abandoned(root):
    """Removes what processes that were killed have left behind."""
    for partial in root.glob("partial-*"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > DAY:
                shutil.rmtree(partial, ignore_errors=True)


def common_channels(pictures, size, crop=None, white=WHITE):
    """Returns 1 where all of some pictures are grey, else 3."""
    readable = False
    for position in pictures.sample():
        with contextlib.suppress(Exception):
            data = pictures.read(position)
            if decode(data, size, None, crop, white).shape[-1] == 3:
                return 3
            readable = True
    return 1 if readable else 3
