"""One picture: from a file of any kind to uint8 pixels of the size asked for."""

import contextlib
import io
import posixpath
import re
import sys

import numpy as np
from PIL import ExifTags, Image, ImageOps

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# Of pictures that Pillow does not read by itself.
UNREAD = (
    *(".arw", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".heic", ".heif", ".jxl"),
    *(".nef", ".npy", ".npz", ".orf", ".raf", ".rw2", ".svg"),
)

# Of 16 bits.
WHITE = 65535

# How Pillow calls the bytes of colour of 16 bits, and their other order.
_COLOUR = re.compile(r"(RGB[AX]?;16)([BLN])")
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_GREY_AND_ALPHA = "LA;16B"
# Numbers of tags in a TIFF.
_BITS, _PLANES = 258, 284


def is_picture(name: str) -> bool:
    """Whether a file is named like a picture."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def decode(data, size, channels=None, crop=None, white=WHITE):
    """Decodes the bytes of a picture file.

    The picture is turned upright (EXIF), laid on white where it is transparent,
    brought to 8 bits, cropped at the centre to the shape asked for and resized,
    antialiased. Of an animation the first frame is taken.

    Args:
        data: The bytes of a file in any format that Pillow reads.
        size: (height, width) of the result.
        channels: 1, 3, or None for 1 where all pixels are grey and 3 elsewhere.
        crop: Side of the central square to keep, as a fraction of the picture's
            width. None keeps all that fits the shape.
        white: Value of white in pictures of more than 8 bits.

    Returns:
        uint8 array of shape `(height, width, channels)`.
    """
    with Image.open(io.BytesIO(data)) as picture:
        # A JPEG can be decoded at half size and less for a fraction of the cost.
        # Twice the final size is kept, so that no detail of the result depends on
        # it.
        enough = 2 * max(size)
        picture.draft(None, (enough, enough))
        lower = _lower_bits(data, picture)
        picture.load()
        for part in (picture, lower):
            with contextlib.suppress(Exception):  # unreadable EXIF says nothing
                ImageOps.exif_transpose(part, in_place=True)
        picture = _in_8_bits(picture, lower, white)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        if picture.mode not in ("1", "L"):
            picture = picture.convert("RGB")
        if picture.mode == "1" or channels == 1:
            picture = picture.convert("L")
        pixels = np.asarray(_fit(picture, size, crop))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if channels == 3:
        return np.broadcast_to(pixels, (*size, 3))
    if channels is None and (pixels == pixels[:, :, :1]).all():
        return pixels[:, :, :1]
    return pixels


def upright_size(data) -> tuple[int, int]:
    """Returns (height, width) of a picture file's bytes, turned upright (EXIF)."""
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (width, height) if turned else (height, width)


def brightest(data) -> int:
    """Returns the largest value in a picture of more than 8 bits, 0 in any other."""
    with Image.open(io.BytesIO(data)) as picture:
        values = _of_16_bits(picture, _lower_bits(data, picture))
        return 0 if values is None else int(values.max())


def white_of(values) -> int:
    """Returns what white is where the brightest of each picture are `values`.

    Cameras and scanners of 10, 12 or 14 bits write files of 16.
    """
    highest = max(values, default=0)
    bits = max(8, int(highest).bit_length())
    return 2**bits - 1 if highest and bits <= 14 else WHITE


def _lower_bits(data, picture):
    """The lower 8 of 16 bits of each colour, a picture; None of any other picture.

    Pillow keeps the upper 8 alone. It is told that the bytes are in the other order,
    which makes these the upper ones.

    Args:
        data: The bytes of a file.
        picture: What Pillow has made of it, not loaded yet.
    """
    tags = getattr(picture, "tag_v2", {})
    if tags.get(_PLANES) == 2:
        if 16 in tags.get(_BITS, ()) and picture.tile[0][0] == "raw":
            raise ValueError("colours of 16 bits in planes, not compressed")
        return None
    told = {_raw_mode(tile) for tile in picture.tile}
    if told == {_GREY_AND_ALPHA}:
        # Of which there is no other order: a byte each.
        grey, alpha = _read_as(data, lambda mode: "RGBA").split()[1::2]
        return Image.merge("RGBA", (grey, grey, grey, alpha))
    if not told or not all(map(_COLOUR.fullmatch, told)):
        return None
    return _read_as(
        data, lambda mode: _COLOUR.sub(lambda found: found[1] + _OTHER[found[2]], mode)
    )


def _raw_mode(tile):
    """What the decoder of a tile is told that its bytes are, or an empty text."""
    arguments = tile[3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _read_as(data, renamed):
    """A picture whose decoder is told another name for what its bytes are."""
    picture = Image.open(io.BytesIO(data))
    tiles = []
    for tile in picture.tile:
        *where, told = tile
        both = isinstance(told, tuple)
        told = (renamed(told[0]), *told[1:]) if both else renamed(told)
        # Fields of a tile have names from Pillow 11 on.
        tiles.append(getattr(tile, "_make", tuple)([*where, told]))
    picture.tile = tiles
    picture.load()
    return picture


def _of_16_bits(picture, lower):
    """The values of a picture of 16 bits, but of alpha; None of any other picture."""
    if lower is not None:
        upper, lower = (np.asarray(part)[:, :, :3] for part in (picture, lower))
        return 256 * upper.astype("uint16") + lower
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return np.asarray(picture)
    return None


def _in_8_bits(picture, lower, white):
    values, highest = _of_16_bits(picture, lower), white
    if picture.mode == "F":
        values, highest = np.asarray(picture), 1.0
    if values is None:
        return picture
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= highest:
        raise ValueError(f"values from {low:g} to {high:g}, not 0 to {highest:g}")
    scaled = np.rint(values * np.float32(255 / highest)).astype("uint8")
    found = Image.fromarray(scaled)
    if picture.mode == "RGBA":
        found.putalpha(picture.getchannel("A"))
    elif lower is not None and "transparency" in picture.info:
        opaque = (values != picture.info["transparency"]).any(axis=2)
        found.putalpha(Image.fromarray(np.uint8(255) * opaque))
    return found


def _fit(picture, size, crop):
    height, width = size
    across, down = picture.size
    if crop is not None:
        across, down = crop * across, min(crop * across, down)
    scale = min(across / width, down / height)
    across, down = max(round(width * scale), 1), max(round(height * scale), 1)
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    picture = picture.crop((left, top, left + across, top + down))
    return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def resize(images, size):
    """Resizes a uint8 batch `(n, height, width, channels)` as `decode` does."""
    if images.shape[1:3] == tuple(size):
        return images
    result = np.empty((len(images), *size, images.shape[-1]), "uint8")
    for image, resized in zip(images, result, strict=True):
        squeezed = image[:, :, 0] if image.shape[-1] == 1 else image
        pixels = np.asarray(_fit(Image.fromarray(squeezed), size, None))
        resized[...] = pixels.reshape(resized.shape)
    return result


def reason(error):
    """Says in a few words why a picture can't be used."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


def name_broken(broken, shown=5):
    """Names the first few of `(name, reason)` pairs and counts the others."""
    named = ", ".join(f"{name} ({why})" for name, why in broken[:shown])
    others = len(broken) - shown
    return f"{named} and {others} more" if others > 0 else named
