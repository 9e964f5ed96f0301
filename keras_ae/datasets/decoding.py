"""Decoding of pictures into one file, which several processes share out in pieces.

They are whichever need the same pictures at the same time, on one host or on several
whose cache is on a disk that they share. A piece is claimed by a file, and done when
there is a note about it. A claim that nobody has renewed for a minute is free again,
and what was done before a stop is not done twice.
"""

import collections
import concurrent.futures
import contextlib
import json
import math
import os
import time
import uuid

import numpy as np

from keras_ae import machine, progress
from keras_ae.datasets.pictures import decode, reason

PIXELS = "pixels.uint8"
# Of a piece, about.
PIECE_BYTES = 2**25
# On a disk of several hosts, each page of a file is one host's.
_PAGE = 4096
# Seconds after which a claim is free, and from one look at the others to the next.
_LOST, BETWEEN = 60.0, 0.05


@contextlib.contextmanager
def claimed(path):
    """Claims something for as long as the block lasts.

    Args:
        path: Of the file that stands for it.

    Yields:
        A function that renews the claim, or None where it is another process'.
    """
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        if not _is_lost(path):
            yield None
            return
        path.touch()
    try:
        yield path.touch
    finally:
        path.unlink(missing_ok=True)


def _is_lost(path):
    try:
        return time.time() - path.stat().st_mtime > _LOST
    except FileNotFoundError:
        return False


def decode_all(folder, pictures, positions, how):
    """Decodes pictures, or waits for others to do so, until all are done.

    Args:
        folder: Where claims and notes are; pixels are in its folder `entry`.
        pictures: A `listing.Pictures` or `shards.Shards`.
        positions: Those wanted.
        how: Size, channels, crop and white, as `pictures.decode` takes them.

    Returns:
        What is known of each piece: `broken`, pairs of a row and a reason; `coloured`,
        how many were made grey; `unread`, whether a file could not be opened.
    """
    pixels = folder / "entry" / PIXELS
    pixels.parent.mkdir(exist_ok=True)
    pixels.touch()
    pieces = _pieces(len(positions), how)
    notes: dict = {}
    what = f"Decoding {pictures.location.name}"
    pool = concurrent.futures.ThreadPoolExecutor(machine.cores())
    try:
        with progress.shown(what, len(positions)) as advance:
            while True:
                for number in [n for n in range(len(pieces)) if n not in notes]:
                    path = folder / f"{number}.json"
                    with claimed(folder / f"{number}.claim") as renew:
                        if renew and not path.exists():
                            done = sum(len(pieces[number]) for number in notes)
                            tell = _teller(renew, advance, done)
                            rows = pieces[number]
                            blocks = _decoded(pool, pictures, positions, rows, how)
                            put(path, _write(pixels, blocks, how, tell))
                    if path.exists():
                        notes[number] = json.loads(path.read_text("utf-8"))
                if len(notes) == len(pieces):
                    break
                time.sleep(BETWEEN)
    finally:
        pool.shutdown(cancel_futures=True)
    return [notes[number] for number in sorted(notes)]


def _teller(renew, advance, done):
    """A function to call after so many more pictures."""

    def tell(count):
        nonlocal done
        done += count
        renew()
        advance(done)

    return tell


def _block_rows(how):
    """Pictures that a thread decodes at a time."""
    return max(1, min(32, 2**21 // _row_bytes(how)))


def _row_bytes(how):
    (height, width), channels, *_ = how
    return height * width * channels


def _pieces(count, how):
    """Rows of each piece: whole blocks, and whole pages of the file."""
    row = _row_bytes(how)
    least = math.lcm(_PAGE // math.gcd(row, _PAGE), _block_rows(how))
    length = least * max(1, PIECE_BYTES // (least * row))
    return [
        range(start, min(start + length, count)) for start in range(0, count, length)
    ]


def _blocks(rows, how):
    step = _block_rows(how)
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _decoded(pool, pictures, positions, rows, how):
    """Yields blocks of rows and what they decode to, only a few of them ahead."""
    waiting = iter(_blocks(rows, how))
    ahead = collections.deque()
    while True:
        while len(ahead) < 2 * machine.cores() and (block := next(waiting, None)):
            task = pool.submit(_decode, pictures, positions, block, how)
            ahead.append((block, task))
        if not ahead:
            return
        block, task = ahead.popleft()
        yield block, task.result()


def _write(path, blocks, how, tell):
    """Writes the pixels of a piece to their place, and returns a note about it.

    They go through a file rather than a memory map: resident memory stays the same for
    any number of pictures.
    """
    broken, coloured, unread = [], 0, False
    with open(path, "r+b") as file:
        for block, (pixels, problems, colours, missing) in blocks:
            file.seek(block.start * _row_bytes(how))
            file.write(pixels.data)
            broken += problems
            coloured += colours
            unread |= missing
            tell(len(block))
        file.flush()
        os.fsync(file.fileno())
    return {"broken": broken, "coloured": coloured, "unread": unread}


def put(path, note):
    """Writes a file of JSON so that nobody reads a part of it."""
    temporary = path.with_suffix(f".{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(note), "utf-8")
    temporary.replace(path)


def close_gaps(path, count, broken, how):
    """Leaves out of a file of pixels the rows that could not be decoded.

    Args:
        path: Of the file.
        count: Rows in it.
        broken: Numbers of those without pixels.
        how: As for `decode_all`.
    """
    whole = path.with_suffix(".whole")
    with open(path, "rb") as old, open(whole, "wb") as new:
        for block in _blocks(range(count), how):
            old.seek(block.start * _row_bytes(how))
            kept = len(block) - sum(row in broken for row in block)
            new.write(old.read(kept * _row_bytes(how)))
        new.flush()
        os.fsync(new.fileno())
    whole.replace(path)


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
