"""Bytes or a path → RGB uint8, guarded: formats, size in bytes and pixels, truncation, and nothing but pixels read.

Turned by EXIF; palettes, CMYK, 16-bit and float samples and transparency come out as 8-bit RGB (or RGBA on request).
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from diptych.data.sources.base import MAX_IMAGE_BYTES, BrokenSample

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 1 << 26
ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class BrokenImage(BrokenSample):
    """A picture that cannot or must not be decoded; ``why`` says which guard it met."""


def decode(
    source: bytes | str | Path,
    *,
    keep_alpha: bool = False,
    fill: tuple[int, int, int] = (255, 255, 255),
    reduce_to: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_IMAGE_BYTES,
) -> np.ndarray:
    """Decode one image (the first frame of an animated one).

    Args:
        source: encoded bytes or a path.
        keep_alpha: give RGBA where the picture is transparent; else it is laid on ``fill``.
        fill: RGB under transparent pixels.
        reduce_to: height and width that the picture will be shrunk to; a JPEG is then decoded at 1/2, 1/4 or 1/8
            scale as long as both sides stay at least twice that (faster; pixels differ by a few levels). None: full size.
        max_pixels, max_bytes: larger pictures are refused before they are decoded.

    Returns:
        uint8 array ``(H, W, 3)``, or ``(H, W, 4)`` with ``keep_alpha`` for a picture that has transparency.

    Raises:
        BrokenImage: missing, unreadable, truncated, too large, or of a format other than :data:`FORMATS`.
    """
    name = str(source) if isinstance(source, (str, Path)) else f"image of {len(source):,} bytes"
    raw = _read(source, name, max_bytes)
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise BrokenImage(name, f"{image.width} × {image.height} pixels are over the limit of {max_pixels:,}")
            if reduce_to is not None and image.format in ("JPEG", "MPO"):
                height, width = reduce_to if _orientation(image) < 5 else reduce_to[::-1]
                image.draft(None, (2 * width, 2 * height))
            image.load()
            turn = _orientation(image)  # after loading: Pillow turns a TIFF itself, and a PNG may keep its tag at the end
            pixels = _to_rgb(image, keep_alpha, fill)
            if turn in _TURNS:
                pixels = pixels.transpose(_TURNS[turn])
            return np.array(pixels)
    except _BOMBS as error:
        raise BrokenImage(name, f"more pixels than the limit of {max_pixels:,}") from error
    except UnidentifiedImageError as error:
        raise BrokenImage(name, f"not a picture in one of the formats {', '.join(FORMATS)}") from error
    except _READ_ERRORS as error:
        raise BrokenImage(name, f"cannot be decoded ({str(error)[:120] or type(error).__name__})") from error


def _read(source: bytes | str | Path, name: str, max_bytes: int) -> bytes:
    """The encoded bytes, at most ``max_bytes`` of them."""
    if isinstance(source, (str, Path)):
        try:
            with open(source, "rb") as file:
                raw = file.read(max_bytes + 1)
        except (OSError, ValueError) as error:
            raise BrokenImage(name, f"cannot be read ({error})") from error
    else:
        raw = bytes(source)
    if len(raw) > max_bytes:
        raise BrokenImage(name, f"more bytes than the limit of {max_bytes:,}")
    if not raw:
        raise BrokenImage(name, "the file is empty")
    return raw


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8; 1 where the tag is absent, unreadable or out of range (a bad tag is not a bad picture)."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except _READ_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image, keep_alpha: bool, fill: tuple[int, int, int]) -> Image.Image:
    """8-bit RGB, or RGBA where there is transparency and it is to be kept."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_eight_bits(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        if image.mode in ("La", "PA"):
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        clear = image.convert("RGBA")
        if keep_alpha:
            return clear
        ground = Image.new("RGB", clear.size, fill)
        ground.paste(clear, mask=clear.getchannel("A"))
        return ground
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> np.ndarray:
    """Grey samples of 16 or 32 bits or floats as uint8: 16 bits by 255/65535, floats up to 1 as shares of white."""
    grey = np.asarray(image)
    if grey.dtype.kind == "f":
        top = float(np.nanmax(grey, initial=0.0))
        grey = np.nan_to_num(grey) * (255.0 if top <= 1.0 else 1.0)
    elif image.mode.startswith("I;16") or int(grey.max(initial=0)) <= 65535:
        grey = grey.astype(np.float64) * (255.0 / 65535.0)
    else:
        grey = grey.astype(np.float64) * (255.0 / 2147483647.0)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
