"""Decoded pictures on disk: decoded once, in parallel, then mapped into memory.

An entry is a folder with the raw pixels and a note about them. Its name is a
digest of what the pixels depend on (names and stamps of the files, size, crop), so
that a changed file makes a new entry. It is written under another name and put in
place by one rename: there are no half entries, and of two processes that write the
same entry at once the second uses the first one's. The cache may be deleted at any
time.
"""

import collections
import concurrent.futures
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

from keras_ae import machine, progress
from keras_ae.datasets.pictures import WHITE, decode, name_broken, reason

VERSION = 1
PIXELS = "pixels.uint8"
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


def load(pictures, chosen, size, *, limit=None, channels=None, crop=None, white=WHITE):
    """Returns the pixels of chosen pictures, decoding them if it is the first time.

    Args:
        pictures: A `folders.Pictures` or `shards.Shards`.
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
    """Decodes pictures into a new entry."""
    if channels is None:
        channels = common_channels(pictures, size, crop, white)
    needed = len(positions) * size[0] * size[1] * channels
    partial = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        free = shutil.disk_usage(root).free
        if free < needed:
            raise OSError(
                None, f"{needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free"
            )
        partial = root / f"partial-{uuid.uuid4().hex}"
        partial.mkdir()
        how = (size, channels, crop, white)
        provisional = _write(partial, pictures, positions, how)
        if provisional:
            # A file that couldn't be opened may open the next time: this entry is not
            # to be found again, and is removed as abandoned some day.
            kept, partial = partial, None
            return _open(kept)
        for _ in range(3):
            with contextlib.suppress(OSError):  # another process was first
                partial.rename(entry)
            found = _open(entry)
            if found is not None:
                return found
            damaged = root / f"partial-{uuid.uuid4().hex}"
            with contextlib.suppress(OSError):
                entry.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        raise OSError(None, "a damaged entry can't be replaced")
    except OSError as error:
        raise OSError(
            f"Decoded pictures can't be kept in {root} ({error.strerror or error}). "
            "Make room, name another folder in the environment variable "
            "KERAS_AE_CACHE, or keep none: `stream=True`, on the command line "
            "`--stream`."
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(root):
    """Removes what processes that were killed have left behind."""
    for partial in root.glob("partial-*"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > DAY:
                shutil.rmtree(partial, ignore_errors=True)


def _write(partial, pictures, positions, how):
    """Decodes pictures in parallel and writes their pixels in order.

    Pixels go through a file rather than a memory map, and only a few blocks are
    under way at a time: resident memory stays the same for any number of pictures.

    Returns:
        Whether a file could not be opened.
    """
    size, channels, *_ = how
    shape = (*size, channels)
    rows = max(1, min(32, 2**21 // int(np.prod(shape))))
    blocks = [
        range(start, min(start + rows, len(positions)))
        for start in range(0, len(positions), rows)
    ]
    broken, coloured, provisional = [], 0, False
    what, done = f"Decoding {pictures.location.name}", 0
    workers = machine.cores()
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    under_way = collections.deque()
    try:
        with (
            open(partial / PIXELS, "wb") as file,
            progress.shown(what, len(positions)) as advance,
        ):
            waiting = iter(blocks)
            while True:
                while len(under_way) < 2 * workers and (block := next(waiting, None)):
                    under_way.append(
                        pool.submit(_decode, pictures, positions, block, how)
                    )
                if not under_way:
                    break
                pixels, problems, colours, unread = under_way.popleft().result()
                file.write(pixels.data)
                broken += problems
                coloured += colours
                provisional |= unread
                done += len(pixels) + len(problems)
                advance(done)
            file.flush()
            os.fsync(file.fileno())
    finally:
        pool.shutdown(cancel_futures=True)
    if len(broken) == len(positions):
        named = [(pictures.names[positions[row]], why) for row, why in broken]
        raise ValueError(
            f"None of the {len(positions)} pictures in {pictures.location} could be "
            f"read: {name_broken(named)}."
        )
    about = {
        "location": str(pictures.location),
        "shape": [len(positions) - len(broken), *shape],
        "broken": broken,
        "coloured": coloured,
    }
    (partial / ABOUT).write_text(json.dumps(about), "utf-8")
    return provisional


def _decode(pictures, positions, block, how):
    """Decodes one block of rows."""
    size, channels, crop, white = how
    pixels = np.empty((len(block), *size, channels), "uint8")
    count, broken, coloured, unread = 0, [], 0, False
    for row in block:
        try:
            data = pictures.read(positions[row])
        except Exception as error:
            unread |= isinstance(error, OSError)
            broken.append((row, reason(error)))
            continue
        try:
            image = decode(data, size, 3 if channels == 3 else None, crop, white)
            if image.shape[-1] != channels:
                image = decode(data, size, channels, crop, white)
                coloured += 1
        except Exception as error:
            broken.append((row, reason(error)))
        else:
            pixels[count] = image
            count += 1
    return pixels[:count], broken, coloured, unread


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
