"""Pictures as small files: a model's codes, rounded and entropy-coded."""

from __future__ import annotations

import bisect
import hashlib
import io
import json
import lzma
import math
import numbers
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin

from keras_ae import metrics

# Costs 0.20 dB on held-back faces of the recipe `celeba-ae`, at 3.8 bits a number; 0.25
# costs 0.14 dB and 0.35 costs 0.27 dB.
STEP = 0.3

_MAGIC = b"KAEC"
_VERSION = 1
# Magic, version, fingerprint, pictures, step, bytes of an integer, bytes of a name,
# bytes of the coded integers. They follow, then the coded names and a CRC-32 of all.
_HEADER = struct.Struct("<4sB8sIfBHI")
_CHECKSUM = struct.Struct("<I")
# Bytes that may be unpacked whatever the size of the file: equal codes take next to
# nothing.
_UNQUESTIONED = 1 << 26
# Codes hold no repetitions to speak of: what counts is LZMA's adaptive model of single
# bytes, which is best without the contexts meant for text and machine code.
_LZMA = [
    {
        "id": lzma.FILTER_LZMA1,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": 1 << 20,
        "lc": 0,
        "lp": 0,
        "pb": 0,
    }
]
# Sides of a JPEG are below 65,536; its blocks of colour have 16 pixels.
_LONGEST, _BLOCK = 65_500, 16


def compress(
    model: Any, images: Any, step: float = STEP, names: Sequence[str] | None = None
) -> bytes:
    """Compresses pictures to a few bytes each: what the model restores is kept.

    The codes are rounded to multiples of one step and entropy-coded, each latent
    dimension by itself. Only the same model can restore them.

    Args:
        model: A trained model with `encode`, `decode` and a `decoder`.
        images: Array `(n, *image_shape)`, or any data set that `encode` takes.
        step: Distance of the levels that a code's value is rounded to, in standard
            deviations of all values of these codes. Smaller is larger and closer to
            `model.reconstruct(images)`.
        names: Names to keep with the pictures, one each.

    Returns:
        The compressed pictures, which `decompress` restores.

    Raises:
        ValueError: If `step` is not positive, too small or too large, there are no
            pictures, their codes are not finite, or the names are not one string a
            picture.

    Example:

    ```python
    data = keras_ae.compression.compress(model, images)
    restored = keras_ae.compression.decompress(model, data)
    ```

    Reference:
        Ballé, Laparra and Simoncelli, End-to-end Optimized Image Compression, 2017
        (https://arxiv.org/abs/1611.01704).
    """
    if not isinstance(step, numbers.Real) or not 0 < step < math.inf:
        raise ValueError(f"`step` must be a number > 0. Received: step={step!r}")
    mark = bytes.fromhex(fingerprint(model))
    codes = np.asarray(model.encode(images), "float64")  # (n, latent_dim)
    if not np.isfinite(codes).all():
        raise ValueError(
            "The model's codes must be finite. Received: codes that are NaN or "
            "infinite; the model's weights are, or its training diverged."
        )
    largest = np.abs(codes).max()
    # One code of one number, or equal ones, have no spread: their size is the measure.
    spread = codes.std() if codes.std() > 1e-6 * largest else largest or 1.0
    if step * spread > np.finfo("float32").max:
        raise ValueError(
            "`step` must be smaller: it is stored as a float32, in the codes' units. "
            f"Received: step={step}"
        )
    # Rounded as it is stored, since the levels are multiples of what is stored.
    width = float(np.float32(step * spread))
    if not width > largest / 2**30:
        raise ValueError(
            "`step` must be larger: codes are float32, of about 7 digits. "
            f"Received: step={step}"
        )
    levels = np.rint(codes / width).astype("int64")
    integers, size = _pack_integers(levels)
    table, name_size = b"", 0
    if names is not None:
        table, name_size = _pack_names(names, len(levels))
    header = _HEADER.pack(
        _MAGIC, _VERSION, mark, len(levels), width, size, name_size, len(integers)
    )
    data = header + integers + table
    return data + _CHECKSUM.pack(zlib.crc32(data))


def decompress(model: Any, data: bytes) -> np.ndarray:
    """Restores compressed pictures.

    Args:
        model: The model that compressed them.
        data: What `compress` returned.

    Returns:
        float32 array `(n, *image_shape)`, pictures in [0, 1]: what `model.decode`
        makes of the rounded codes.

    Raises:
        ValueError: If the data are no compressed pictures, cut short or damaged, of
            another format version, or made by another model.
    """
    return model.decode(read_codes(model, data))


def read_codes(model: Any, data: bytes) -> np.ndarray:
    """Reads the rounded codes of compressed pictures, to decode some at a time.

    Args:
        model: The model that compressed them.
        data: What `compress` returned.

    Returns:
        float32 array `(n, code_dim)`.

    Raises:
        ValueError: As `decompress`.
    """
    mark, count, width, size, _, integers, _ = _parse(data)
    if mark != fingerprint(model):
        raise ValueError(
            "The pictures were compressed by another model, and only that one restores "
            f"them. Received: a model of fingerprint {fingerprint(model)}; theirs is "
            f"{mark}"
        )
    if count * model.code_dim * size > max(_UNQUESTIONED, 1000 * len(integers)):
        raise ValueError(
            f"The file claims to hold {count:,} pictures, more than its "
            f"{len(data):,} bytes can: it is damaged, or made to fill a memory."
        )
    levels = _unpack_integers(integers, (count, model.code_dim), size)
    return (levels * width).astype("float32")


def read_names(data: bytes) -> list[str] | None:
    """Reads the names that were kept with compressed pictures.

    They are as whoever wrote the file chose them: check them before you open files of
    these names.

    Args:
        data: What `compress` returned.

    Returns:
        One name a picture, or None where none were kept.

    Raises:
        ValueError: As `decompress`, but for the model.
    """
    _, count, _, _, name_size, _, table = _parse(data)
    return _unpack_names(table, count, name_size) if name_size else None


def fingerprint(model: Any) -> str:
    """Tells models apart by what decides how they decode.

    It is the same on every backend, and after saving and loading.

    Args:
        model: A built model with a `decoder`.

    Returns:
        16 hexadecimal digits, from the shape of the pictures, the likelihood and the
        decoder's weights.

    Raises:
        ValueError: If the model has no weights yet.
    """
    if not model.built:
        raise ValueError(
            f"{type(model).__name__} has no weights yet: pass `image_shape` to the "
            "constructor, or call `fit` first."
        )
    likelihood = model.likelihood
    description = {
        "image_shape": list(model.built_image_shape),
        "latent_dim": model.latent_dim,
        "activation": model.get_config().get("activation"),
        "likelihood": type(likelihood).__name__,
        "likelihood_activation": likelihood.get_config().get("activation"),
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    # A GAN may decode with a running average of its generator.
    decoder = getattr(model, "averaged_generator", model.decoder)
    for weight in decoder.get_weights():
        digest.update(repr(weight.shape).encode())
        digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
    return digest.hexdigest()[:16]


class Jpeg(NamedTuple):
    """Pictures as one JPEG: its quality, 1 to 100, its bytes and its PSNR in dB."""

    quality: int
    size: int
    psnr: float


def jpeg(images: np.ndarray, size: int) -> Jpeg:
    """Measures JPEG at a given size, as a yardstick for `compress`.

    A small picture's JPEG is mostly header, so all pictures share one: tiles of a
    sheet, each padded with its own edge to whole blocks of 16 pixels, so that none
    blurs into the next. PSNR is measured on the pictures alone.

    Args:
        images: uint8 array `(n, height, width)`, or `(n, height, width, channels)` of
            1 or 3 channels.
        size: Bytes to keep to.

    Returns:
        The JPEG of the highest quality that is no larger than `size`. Where even
        quality 1 is larger, that one.

    Raises:
        ValueError: If the array is another, or the pictures don't fit on a sheet.
    """
    images = np.asarray(images)
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[3:] not in ((), (1,), (3,))
        or not len(images)
    ):
        raise ValueError(
            "`images` must be uint8, (n, height, width) or (n, height, width, 1 or 3). "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    pictures = images.reshape(*images.shape[:3], -1)  # (n, height, width, channels)
    count, height, width, channels = pictures.shape
    tall, wide = (-(-side // _BLOCK) * _BLOCK for side in (height, width))
    if max(tall, wide) > _LONGEST or count > (_LONGEST // tall) * (_LONGEST // wide):
        raise ValueError(
            f"A JPEG has at most {_LONGEST} pixels a side. Received: {count} pictures "
            f"of {width} x {height} pixels, which do not fit."
        )
    # One column of tiles, where it is not too long, leaves none of the sheet empty.
    columns = -(-count // (_LONGEST // tall))
    rows = -(-count // columns)
    margins = (rows * columns - count, tall - height, wide - width, 0)
    tiles = np.pad(pictures, [(0, margin) for margin in margins], mode="edge")
    tiles = tiles.reshape(rows, columns, tall, wide, channels).swapaxes(1, 2)
    grid = tiles.reshape(rows * tall, columns * wide, channels)
    sheet = Image.fromarray(grid[..., 0] if channels == 1 else grid)

    def encode(quality):
        file = io.BytesIO()
        sheet.save(file, "JPEG", quality=quality, optimize=True)
        return file

    def size_of(quality):
        return encode(quality).tell()

    quality = max(1, bisect.bisect_right(range(1, 101), size, key=size_of))
    file = encode(quality)
    size = file.tell()
    file.seek(0)
    # `Image.open` would take a large sheet for an attack.
    restored = np.asarray(JpegImagePlugin.JpegImageFile(file))
    restored = restored.reshape(rows, tall, columns, wide, channels).swapaxes(1, 2)
    restored = restored.reshape(-1, tall, wide, channels)[:count, :height, :width]
    return Jpeg(quality, size, metrics.psnr(pictures, restored))


def _parse(data):
    """The fields of compressed pictures: what the header holds, and the two parts."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ValueError(
            "`data` must be the bytes that `compress` returned. Received: a "
            f"{type(data).__name__}"
        )
    data = bytes(data)
    if data[:4] != _MAGIC[: len(data)]:
        raise ValueError(
            "These are no compressed pictures of keras-ae. Received: "
            f"{len(data)} bytes that begin with {data[:4]!r}"
        )
    if len(data) > 4 and data[4] != _VERSION:
        raise ValueError(
            f"The compressed pictures are of format {data[4]}, and this version of "
            f"keras-ae reads format {_VERSION}; use the version that wrote them."
        )
    whole = len(data) >= _HEADER.size + _CHECKSUM.size
    content, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    if not whole or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(content):
        raise _damaged()
    _, _, mark, count, step, size, name_size, length = _HEADER.unpack_from(content)
    if not 0 < step < math.inf:
        raise ValueError(
            "The compressed pictures are damaged: their codes are multiples of a step "
            f"> 0. Received: step={step}"
        )
    body = content[_HEADER.size :]
    return mark.hex(), count, step, size, name_size, body[:length], body[length:]


def _damaged():
    return ValueError(
        "The compressed pictures are cut short or damaged: their checksum does not "
        "fit. Copy or download them again."
    )


def _pack_integers(values):
    """Codes integers `(n, latent_dim)` below 2^31; returns bytes and their width."""
    # 0, -1, 1, -2, ... become 0, 1, 2, 3, ...: the high bytes of most are zero.
    unsigned = np.where(values < 0, -2 * values - 1, 2 * values)
    size = next(size for size in (1, 2, 4) if unsigned.max() < 256**size)
    ordered = np.ascontiguousarray(unsigned.T, f"<u{size}")
    # Each latent dimension by itself, and the high bytes apart from the low ones.
    planes = ordered.view("u1").reshape(-1, size).T  # (size, latent_dim * n)
    return _deflate(planes.tobytes()), size


def _unpack_integers(data, shape, size):
    """Restores integers of shape `(n, latent_dim)`."""
    planes = _inflate(data, shape[0] * shape[1] * size).reshape(size, -1)
    unsigned = np.ascontiguousarray(planes.T).view(f"<u{size}").astype("int64")
    values = np.where(unsigned % 2, -(unsigned + 1) // 2, unsigned // 2)
    return values.reshape(shape[1], shape[0]).T


def _pack_names(names, count):
    """Codes names, of which there must be `count`; returns bytes and their width."""
    names = list(names)
    are_strings = all(isinstance(name, str) for name in names)
    encoded = [str(name).encode("utf-8", "surrogateescape") for name in names]
    longest = max(map(len, encoded), default=0)
    if (
        not are_strings
        or len(names) != count
        or longest > 65_535
        or any(not name or b"\0" in name for name in encoded)
    ):
        raise ValueError(
            f"`names` must be {count} strings, one a picture, none of them empty or "
            f"with a zero byte. Received: {len(names)} names, such as {names[:3]}"
        )
    # Numbered names differ in a few columns only.
    table = np.array(encoded).view("u1").reshape(count, longest)
    return _deflate(table.T.tobytes()), longest


def _unpack_names(data, count, size):
    table = _inflate(data, count * size).reshape(size, count)
    encoded = np.ascontiguousarray(table.T).view(f"S{size}").ravel()
    return [name.decode("utf-8", "surrogateescape") for name in encoded.tolist()]


def _deflate(data):
    """The shorter of what zlib (few bytes) and LZMA (many) make of data."""
    deflate = zlib.compressobj(9, wbits=-15)
    return min(
        b"z" + deflate.compress(data) + deflate.flush(),
        b"x" + lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA),
        key=len,
    )


def _inflate(data, size):
    """Restores exactly `size` bytes, uint8, or refuses the data."""
    try:
        if data[:1] == b"z":
            restored = zlib.decompressobj(-15).decompress(data[1:], size)
        else:
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
            restored = decompressor.decompress(data[1:], size)
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise _damaged() from error
    if not size or len(restored) != size:
        raise _damaged()
    return np.frombuffer(restored, "u1")
