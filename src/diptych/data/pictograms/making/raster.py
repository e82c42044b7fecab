"""One drawing to 64×64 RGBA and to the smaller of two WebP files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from diptych.core.errors import DiptychError

SIZE = 64
QUALITY = 85


def svg(icons: Mapping[str, Any], name: str) -> str:
    """The drawing of an Iconify set as a ``SIZE``-pixel SVG; aliases are followed and their mirroring applied."""
    mirrored, turned = False, 0
    while name in icons.get("aliases", {}):
        alias = icons["aliases"][name]
        mirrored ^= bool(alias.get("hFlip"))
        turned += alias.get("rotate", 0)
        name = alias["parent"]
    icon = icons["icons"][name]
    box = {side: icon.get(side, icons.get(side, default)) for side, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))}
    left, top, width, height = box["left"], box["top"], box["width"], box["height"]
    body = icon["body"]
    if mirrored:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    if turned:
        body = f'<g transform="rotate({90 * turned} {left + width / 2} {top + height / 2})">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{SIZE}" height="{SIZE}">{body}</svg>'
    )


def draw(markup: str) -> Image.Image:
    """Rasterise an SVG at ``SIZE``; RGBA with straight alpha. Raises :class:`DiptychError` where resvg is not installed."""
    try:
        import resvg_py  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise DiptychError("drawing SVG", "resvg-py is not installed", "Install it with `pip install 'diptych[build]'`") from error

    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=markup, width=SIZE, height=SIZE, skip_system_fonts=True))))
    return image.convert("RGBA")


def shrink(data: bytes) -> Image.Image:
    """Decode a picture and fit it into ``SIZE``, filtering with premultiplied alpha so that edges take no colour from nowhere."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.convert("RGBa").resize((SIZE, SIZE), Image.Resampling.LANCZOS).convert("RGBA")


def encode(image: Image.Image) -> bytes:
    """The smaller of lossless and quality 85 WebP, alpha always lossless; colour under fully transparent pixels is zeroed.

    Raises:
        ValueError: the drawing is empty.
    """
    pixels = np.array(image)
    pixels[pixels[..., 3] == 0] = 0
    if not pixels[..., 3].any():
        raise ValueError("empty drawing")
    image = Image.fromarray(pixels)
    files = []
    for options in ({"lossless": True, "quality": 75, "exact": True, "method": 6}, {"quality": QUALITY, "alpha_quality": 100, "method": 4}):
        out = io.BytesIO()
        image.save(out, "WEBP", **options)
        files.append(out.getvalue())
    return min(files, key=len)
