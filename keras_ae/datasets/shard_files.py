"""Shards: files of many pictures each, of which any one can be read by itself.

A tar is listed once, by its members' headers; then a picture is a place in the file.
The standard library does it, so that no package is needed. A Parquet file knows its
rows, and is read a group of rows at a time. Of a TFRecord file the lengths of its
records are read once.
"""

from __future__ import annotations

import collections
import importlib
import io
import os
import posixpath
import re
import struct
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_ae.datasets import cache
from keras_ae.datasets.pictures import is_picture

# Pictures that lie beside each other and are read at about the same time, and among how
# many of such blocks an epoch's order is free.
BLOCK, BUFFER = 64, 4096
# What is kept of the groups of rows that were read last.
KEPT_BYTES = 2**29

_KINDS = {
    "tar": re.compile(r"\.tar$"),
    "Parquet": re.compile(r"\.parquet$"),
    "TFRecord": re.compile(r"\.tfrec(ords?)?(-\d+-of-\d+)?$"),
}
_COMPRESSED = re.compile(r"\.(tgz|(tar|tfrec(ords?)?)\.(gz|bz2|xz|zst))$")
# TensorFlow's own pipelines write it so.
_ENCODED = "image/encoded"


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Returns what changes when a file does: its size and times."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Shard:
    """One file of pictures.

    Attributes:
        names: Of its pictures, in order, none of them twice.
        blocks: Where those begin that are best read together, ascending from 0.
        buffer: Among how many that follow each other an epoch's order may be free.
        labels: A class for each picture, or None; of a tar they are texts.
    """

    names: Sequence[str]
    blocks: Sequence[int]
    buffer: int = BUFFER
    labels: Sequence[Any] | None = None

    def read(self, row: int) -> bytes:
        """Returns the bytes of a picture file."""
        raise NotImplementedError


def kind_of(name: str) -> str | None:
    """Returns `"tar"`, `"Parquet"` or `"TFRecord"` by the name of a file.

    Raises:
        ValueError: If it is named like a compressed one.
    """
    if _COMPRESSED.search(name.lower()):
        raise ValueError(
            "A shard must be no compressed file, of which no single picture can be "
            f"read. Received: {name}; unpack it (`gunzip`), as pictures are compressed "
            "already."
        )
    found = (kind for kind, named in _KINDS.items() if named.search(name.lower()))
    return next(found, None)


def looks_like_one(name: str) -> bool:
    """Whether a file is named like a shard, or like a compressed one."""
    patterns = (*_KINDS.values(), _COMPRESSED)
    return any(pattern.search(name.lower()) for pattern in patterns)


def open_shard(path: Path, key: str | None) -> Shard:
    """Lists the pictures of a shard.

    Args:
        path: Of the file.
        key: Which of a sample's parts is the picture: the ending of a tar's members, in
            small or capital letters, a Parquet column, a TFRecord feature. None where
            there is one only.

    Raises:
        ValueError: If the file is damaged, or has no such part, or several.
        ModuleNotFoundError: If the package that reads it is missing.
    """
    kind = kind_of(path.name)
    if kind == "tar":
        return TarShard(path, key)
    return ParquetShard(path, key) if kind == "Parquet" else TFRecordShard(path, key)


class _Places(Shard):
    """Pictures that are each so many bytes from a place of a file on."""

    path: Path

    def _settle(self, starts, sizes):
        self._starts = np.array(starts, "int64")
        self._sizes = np.array(sizes, "int64")
        self.blocks = range(0, len(starts), BLOCK)

    def _bytes(self, row):
        return _read(self.path, int(self._starts[row]), int(self._sizes[row]))


def _read(path, start, size):
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{path.name} is cut short")
    return data


class TarShard(_Places):
    """A tar in WebDataset's layout: a sample's files follow each other.

    They share a key, which is their name up to its first dot; what follows the dot says
    what they are: `0001.jpg` and `0001.cls` are a picture and its class.
    """

    def __init__(self, path: Path, key: str | None = None):
        self.path = path
        # The number says what a list holds, and changes when that does.
        what = ("tar", 3, str(path.resolve()), stamp_of(path), key)
        # Reading the headers of a million members takes minutes.
        self.names, starts, sizes, self.labels = cache.remembered(
            what, lambda: _listed(path, key)
        )
        self._settle(starts, sizes)

    def read(self, row):
        return self._bytes(row)


def _listed(path, key):
    """Names of the pictures in a tar, where they begin, their sizes and classes."""
    names, samples, starts, sizes, classes = [], [], [], [], {}
    last = other = None
    for member in _members(path):
        folder, _, base = member.name.rpartition("/")
        if not member.isreg() or base.startswith("."):
            continue
        stem, _, ending = base.partition(".")
        sample = f"{folder}/{stem}"
        if ending.lower() == "cls":
            text = _read(path, member.offset_data, member.size)
            classes[sample] = text.decode("utf-8", "replace").strip()
        if not _is_wanted(base, ending, key):
            other = ending
            continue
        if samples and sample == samples[-1]:
            raise _several(path, key, sample.lstrip("/"), last, ending)
        last = ending
        samples.append(sample)
        names.append(member.name)
        starts.append(member.offset_data)
        sizes.append(member.size)
    if key is not None and other is not None and not samples:
        raise ValueError(
            "`key` must be what follows the first dot of the pictures' names, such "
            f"as {other!r} in {path}. Received: key={key!r}"
        )
    labels = None
    if samples and all(sample in classes for sample in samples):
        labels = [classes[sample] for sample in samples]
    return names, starts, sizes, labels


def _is_wanted(base, ending, key):
    """Whether a member is the picture of its sample."""
    return is_picture(base) if key is None else ending.lower() == key.lower()


def _several(path, key, sample, one, other):
    """The error of a sample with two pictures, or of two that are taken for one."""
    received = f"Received: {one!r} and {other!r} of {sample} in {path}"
    (rest, kind), (another, same) = map(posixpath.splitext, (one, other))
    numbered = all(any(map(str.isdigit, part)) for part in (rest, another))
    if kind and kind.lower() == same.lower() and numbered:
        renamed = f"{posixpath.basename(sample)}.{one}".replace(".", "_")
        renamed = f"{renamed[: -len(kind)]}{kind}"
        return ValueError(
            "Names of pictures in a tar must have no dot before the ending, as files "
            f"of one name up to the first dot are one sample. {received}; rename them "
            f"({renamed}), unpack the tar into a folder, or say by `key` which one of "
            "each sample is wanted."
        )
    return ValueError(
        "`key` must say which picture of a sample is wanted, where files of one name "
        f"up to the first dot are several. {received}, and key={key!r}"
    )


def _members(path):
    """Yields the members of a tar."""
    try:
        with tarfile.open(path, "r:") as file:
            while (member := file.next()) is not None:
                yield member
                # It keeps them all otherwise.
                file.members = []
            # A block of zeros ends a tar; this loop a damaged header does, too.
            file.fileobj.seek(file.offset)
            if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        raise ValueError(
            f"{path} must be a whole tar. Received a file that is cut short, damaged "
            f"or none ({error}); fetch it again."
        ) from error


class _RowNames(Sequence):
    """`000123` for each row of a file."""

    def __init__(self, count):
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, row):
        return f"{range(self._count)[row]:06}"


class _Recent:
    """What was read last, of all shards together, up to a number of bytes."""

    def __init__(self):
        self._kept = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key, read):
        with self._lock:
            if key not in self._kept:
                self._kept[key] = read()
                # Two are, whatever their size: an order may go to and fro.
                while len(self._kept) > 2 and self._bytes() > KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _bytes(self):
        return sum(group.nbytes for group in self._kept.values())


_recent = _Recent()


class ParquetShard(Shard):
    """A Parquet file with a column of picture files.

    It is a column of bytes, or as Hugging Face's datasets write it, of structs whose
    field `bytes` it is.
    """

    def __init__(self, path: Path, key: str | None = None):
        self.path = path
        self._stamp = (path.resolve(), stamp_of(path))
        self._parquet = _imported("pyarrow.parquet", path, "keras-ae[parquet]")
        try:
            file = self._parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} must be a whole Parquet file. Received one that is cut short, "
                f"damaged or none ({str(error).splitlines()[0]}); fetch it again."
            ) from error
        with file:
            schema, about = file.schema_arrow, file.metadata
            self._column = _picture_column(path, schema, key)
            groups = [about.row_group(i) for i in range(about.num_row_groups)]
            counts = [group.num_rows for group in groups]
            size = sum(group.total_byte_size for group in groups)
            if "label" in schema.names and str(schema.field("label").type) in _CLASSES:
                column = file.read(["label"])["label"]
                # As in a tar, all pictures have a class or none has.
                self.labels = None if column.null_count else column.to_pylist()
        ends = np.cumsum(counts, dtype="int64")
        self.blocks = [0, *ends[:-1]] if counts else []
        self.names = _RowNames(sum(counts))
        # With those that it is half through, what an order goes to and fro in is kept.
        room = KEPT_BYTES // 2 * sum(counts) // max(1, size)
        self.buffer = min(BUFFER, max(1, room))

    def read(self, row):
        group = int(np.searchsorted(self.blocks, row, side="right")) - 1
        what = (*self._stamp, self._column, group)
        values = _recent.get(what, lambda: self._group(group))
        data = values[row - int(self.blocks[group])].as_py()
        data = data["bytes"] if isinstance(data, dict) else data
        if data is None:
            raise ValueError("no bytes in the row")
        return data

    def _group(self, group):
        with self._parquet.ParquetFile(self.path) as file:
            return file.read_row_group(group, [self._column])[self._column]


_CLASSES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "string")


def _picture_column(path, schema, key):
    """Which column holds pictures."""
    found = [field.name for field in schema if _holds_files(field.type)]
    if key is None and len(found) == 1:
        return found[0]
    if key in found:
        return key
    if not found:
        raise ValueError(
            f"{path} must have a column of picture files: bytes, or structs with a "
            f"field `bytes`. Received: {', '.join(schema.names)}; a table of numbers "
            "is read by `keras_ae.datasets.read_table`."
        )
    raise ValueError(
        f"`key` must be one of the columns of pictures in {path}: "
        f"{', '.join(found)}. Received: key={key!r}"
    )


def _holds_files(type_):
    names = [type_.field(i).name for i in range(type_.num_fields)]
    if str(type_).startswith("struct") and "bytes" in names:
        type_ = type_.field(names.index("bytes")).type
    return str(type_) in ("binary", "large_binary", "binary_view")


def _imported(module, path, package):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} can't be read: `pip install '{package}'` brings what reads it."
        ) from error


class TFRecordShard(_Places):
    """A TFRecord file of `tf.train.Example`s with a feature of picture files."""

    def __init__(self, path: Path, key: str | None = None):
        self.path = path
        self._settle(*_records(path))
        self.names = _RowNames(len(self._starts))
        # TensorFlow takes seconds to import.
        module = "tensorflow.core.example.example_pb2"
        self._example = _imported(module, path, "tensorflow").Example
        self._feature = self._picture_feature(key) if len(self.names) else key

    def _features(self, row):
        try:
            example = self._example.FromString(self._bytes(row))
        except Exception as error:  # protobuf's own
            raise ValueError("not a tf.train.Example") from error
        return example.features.feature

    def _picture_feature(self, key):
        """Which feature holds pictures, by the first record."""
        try:
            features = self._features(0)
        except ValueError as error:
            raise ValueError(
                f"{self.path} must hold records of pictures. Received: {error}"
            ) from error
        key = _ENCODED if key is None and _ENCODED in features else key
        if key is None:
            found = [n for n, f in features.items() if _is_file(f.bytes_list.value)]
            if len(found) == 1:
                return found[0]
        if key is None or key not in features:
            raise ValueError(
                f"`key` must be the feature of {self.path} that holds pictures, one of "
                f"{', '.join(sorted(features))}. Received: key={key!r}"
            )
        return key

    def read(self, row):
        features = self._features(row)
        values = features[self._feature].bytes_list.value
        if len(values) != 1:
            raise ValueError(f"{len(values)} pictures in the record")
        return values[0]


def _records(path):
    """Where the records of a TFRecord file begin, and their sizes.

    Each is its length, a checksum of that, the bytes and a checksum of them.
    """
    starts, sizes = [], []
    with open(path, "rb") as file:
        whole, place = os.fstat(file.fileno()).st_size, 0
        while place < whole:
            file.seek(place)
            header = file.read(12)
            size = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else whole
            if place + 16 + size > whole:
                raise ValueError(
                    f"{path} must be a whole TFRecord file, not a compressed one. "
                    "Received a file that is cut short, damaged or none; fetch it "
                    "again."
                )
            starts.append(place + 12)
            sizes.append(size)
            place += 16 + size
    return starts, sizes


def _is_file(values):
    """Whether a feature is the bytes of a picture file."""
    if len(values) != 1:
        return False
    try:
        with Image.open(io.BytesIO(values[0])):
            return True
    except Exception:
        return False
