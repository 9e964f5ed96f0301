"""One picture: from a file of any kind to uint8 pixels of the size asked for."""

import contextlib
import io
import posixpath

import numpy as np
from PIL import ExifTags, Image, ImageOps

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)

# Of 16 bits.
WHITE = 65535


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
        picture.load()
        with contextlib.suppress(Exception):  # unreadable EXIF says nothing
            ImageOps.exif_transpose(picture, in_place=True)
        picture = _in_8_bits(picture, white)
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
        return int(np.asarray(picture).max()) if _has_16_bits(picture) else 0


def white_of(values) -> int:
    """Returns what white is where the brightest of each picture are `values`.

    Cameras and scanners of 10, 12 or 14 bits write files of 16.
    """
    highest = max(values, default=0)
    bits = max(8, int(highest).bit_length())
    return 2**bits - 1 if highest and bits <= 14 else WHITE


def _has_16_bits(picture):
    return picture.mode == "I" or picture.mode.startswith("I;16")


def _in_8_bits(picture, white):
    if not (picture.mode == "F" or _has_16_bits(picture)):
        return picture
    values = np.asarray(picture).astype("float64")
    highest = 1.0 if picture.mode == "F" else white
    if not 0 <= values.min() <= values.max() <= highest:
        raise ValueError(
            f"values from {values.min():g} to {values.max():g}, not 0 to {highest:g}"
        )
    return Image.fromarray(np.rint(values * (255 / highest)).astype("uint8"))


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
