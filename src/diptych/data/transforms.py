"""From decoded pixels to a tower's input: the deterministic resize of a model, as Pillow computes it.

The random part lies in :mod:`diptych.data.augment`, whose names are importable from here too.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from diptych.core.errors import UsageError, nearest
from diptych.core.types import Preprocess
from diptych.data.augment import Augment, apply, draw, flatten_alpha

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
__all__ = ["FILTERS", "RESIZES", "Augment", "apply", "check_preprocess", "draw", "flatten_alpha", "preprocess_image"]

RESIZES = ("squash", "crop", "crop-floor", "pad")


def check_preprocess(preprocess: Preprocess) -> None:
    """Raise :class:`UsageError` for a resize or interpolation that is unknown, or a size below 1."""
    if preprocess.resize not in RESIZES:
        raise UsageError(f"resize={preprocess.resize!r}", "no such way to resize", nearest(preprocess.resize, RESIZES))
    if preprocess.interpolation not in FILTERS:
        raise UsageError(f"interpolation={preprocess.interpolation!r}", "no such interpolation", nearest(preprocess.interpolation, FILTERS))
    if min(preprocess.size) < 1:
        raise UsageError(f"size={preprocess.size}", "a side is below one pixel", "Give height and width in pixels")


def preprocess_image(image_HWC: np.ndarray, preprocess: Preprocess) -> torch.Tensor:
    """Resize one decoded image to ``preprocess.size``.

    - ``squash``: both sides to size.
    - ``crop``: the shortest side to size (the other truncated to whole pixels), then the centre cut out, with the offset
      rounded half to even as torchvision and hence open_clip do; for a size that is not square the picture is scaled to
      cover it, sides rounded. ``crop-floor``: the same with the offset rounded down, as Hugging Face processors do.
    - ``pad``: the longest side to size, centred on ``fill``.

    Args:
        image_HWC: uint8, 3 channels, or 4 with straight alpha (resized premultiplied, so that no colour bleeds in).

    Returns:
        uint8 tensor ``(C, H, W)`` with as many channels as came in; values are not yet normalised.
    """
    check_preprocess(preprocess)
    image = Image.fromarray(image_HWC)
    height, width = preprocess.size
    kernel = FILTERS[preprocess.interpolation]
    if preprocess.resize == "squash":
        return _tensor(_resize(image, (width, height), kernel))
    if preprocess.resize == "pad":
        return _tensor(_pad(image, preprocess, kernel))
    image = _resize(image, _cover(image.size, (width, height)), kernel)
    spare = image.width - width, image.height - height
    left, top = (s // 2 for s in spare) if preprocess.resize == "crop-floor" else (round(s / 2) for s in spare)
    return _tensor(image.crop((left, top, left + width, top + height)))


def _resize(image: Image.Image, size: tuple[int, int], kernel: Image.Resampling) -> Image.Image:
    """Pillow's antialiased resize; the picture itself where it has that size already."""
    return image if image.size == size else image.resize(size, kernel)


def _cover(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The width and height at which a picture just covers ``target``."""
    (width, height), (wide, high) = size, target
    if wide == high:
        return (wide, int(wide * height / width)) if width <= height else (int(wide * width / height), wide)
    ratio = min(width / wide, height / high)
    return max(wide, round(width / ratio)), max(high, round(height / ratio))


def _pad(image: Image.Image, preprocess: Preprocess, kernel: Image.Resampling) -> Image.Image:
    """The whole picture, centred on ``fill`` (transparent where it has alpha)."""
    height, width = preprocess.size
    ratio = max(image.width / width, image.height / height)
    inner = max(1, min(width, round(image.width / ratio))), max(1, min(height, round(image.height / ratio)))
    image = _resize(image, inner, kernel)
    ground = Image.new(image.mode, (width, height), (*preprocess.fill, 0)[: len(image.getbands())])
    ground.paste(image, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return ground


def _tensor(image: Image.Image) -> torch.Tensor:
    """uint8 ``(C, H, W)``."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
