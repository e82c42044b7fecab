"""Other viewpoints and fewer pixels. uint8 ``(B, C, H, W)`` in and out; B pictures, C channels, H × W pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.evaluate.corrupt.pixels import sample


def affine(image_BCHW: Tensor, *, degrees: float = 0.0, shear: float = 0.0, scale: float = 1.0) -> Tensor:
    """Turned, sheared and scaled about the middle, bilinearly; what comes in from outside repeats the edge.

    Args:
        degrees: counter-clockwise.
        shear: how far the top edge moves to the right against the bottom one, as a share of the height.
        scale: above 1 enlarges.
    """
    height, width = image_BCHW.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=image_BCHW.device) - (height - 1) / 2,
        torch.arange(width, device=image_BCHW.device) - (width - 1) / 2,
        indexing="ij",
    )
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back_x, back_y = (cos * x - sin * y) / scale, (sin * x + cos * y) / scale
    back_x = back_x + shear * back_y
    place_y = (back_y + (height - 1) / 2).expand(len(image_BCHW), -1, -1)
    place_x = (back_x + (width - 1) / 2).expand(len(image_BCHW), -1, -1)
    return sample(image_BCHW.float(), place_y, place_x, "nearest").round().clamp(0, 255).to(torch.uint8)


def resolution(image_BCHW: Tensor, share: float) -> Tensor:
    """Made smaller to ``share`` of both sides (at least 1 pixel) and as large as before again, bicubic and antialiased."""
    height, width = image_BCHW.shape[-2:]
    small = [max(1, round(side * share)) for side in (height, width)]
    if small == [height, width]:
        return image_BCHW.clone()
    down = _resize(image_BCHW, small)
    return _resize(down, [height, width])


def inset(image_BCHW: Tensor, share: float, fill: tuple[int, int, int]) -> Tensor:
    """The picture at ``share`` of its size in the middle of a frame of ``fill``: what an input of native size looks like to a model that
    reads larger ones, where it is not enlarged."""
    height, width = image_BCHW.shape[-2:]
    small = [max(1, round(side * share)) for side in (height, width)]
    made = torch.tensor(fill, dtype=torch.uint8, device=image_BCHW.device)[:, None, None].expand(image_BCHW.shape).clone()
    top, left = (height - small[0]) // 2, (width - small[1]) // 2
    made[..., top : top + small[0], left : left + small[1]] = _resize(image_BCHW, small)
    return made


def _resize(image_BCHW: Tensor, size: list[int]) -> Tensor:
    made = F.interpolate(image_BCHW.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return made.round().clamp(0, 255).to(torch.uint8)
