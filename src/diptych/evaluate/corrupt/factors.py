"""Single visual factors, changed one at a time. uint8 ``(B, 3, H, W)`` in and out; B pictures, H × W pixels.

Source: Tu, Deng and Gedeon, Toward a Holistic Evaluation of Robustness in CLIP Models (arXiv:2410.01534), which asks photographs that
annotators found to differ in one factor; here the factor is made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.evaluate.corrupt.geometry import affine

LUMA = (0.299, 0.587, 0.114)


def pose(image_BCHW: Tensor) -> Tensor:
    """Turned by 30 degrees and sheared by a quarter."""
    return affine(image_BCHW, degrees=30, shear=0.25)


def smaller(image_BCHW: Tensor) -> Tensor:
    """Half the size, edges repeated."""
    return affine(image_BCHW, scale=0.5)


def larger(image_BCHW: Tensor) -> Tensor:
    """The middle at 1.6 times the size."""
    return affine(image_BCHW, scale=1.6)


def darker(image_BCHW: Tensor) -> Tensor:
    """A third of the light."""
    return (image_BCHW.float() / 3).round().to(torch.uint8)


def brighter(image_BCHW: Tensor) -> Tensor:
    """Two thirds of the way to white."""
    return (255 - (255 - image_BCHW.float()) / 3).round().to(torch.uint8)


def colour(image_BCHW: Tensor) -> Tensor:
    """Red, green and blue exchanged in a circle: other hues, the same contrasts within each channel."""
    return image_BCHW[:, [1, 2, 0]]


def no_colour(image_BCHW: Tensor) -> Tensor:
    """Grey."""
    luma = torch.tensor(LUMA, device=image_BCHW.device)[:, None, None]
    return (image_BCHW * luma).sum(1, keepdim=True).round().clamp(0, 255).to(torch.uint8).expand(image_BCHW.shape).clone()


def partial_view(image_BCHW: Tensor) -> Tensor:
    """The right half covered by the mean colour of the left column."""
    width = image_BCHW.shape[-1]
    made = image_BCHW.clone()
    made[..., (width + 1) // 2 :] = _edge(image_BCHW)
    return made


def blocked(image_BCHW: Tensor) -> Tensor:
    """A mid-grey square of a third of both sides before the middle."""
    height, width = image_BCHW.shape[-2:]
    made = image_BCHW.clone()
    made[..., height // 3 : height - height // 3, width // 3 : width - width // 3] = 128
    return made


def _edge(image_BCHW: Tensor) -> Tensor:
    """``(B, C, 1, 1)``: the mean of the left column, which stays."""
    return image_BCHW[..., :1].float().mean((2, 3), keepdim=True).round().to(torch.uint8)


FACTORS = {
    "pose": pose,
    "smaller": smaller,
    "larger": larger,
    "darker": darker,
    "brighter": brighter,
    "colour": colour,
    "no colour": no_colour,
    "partial view": partial_view,
    "blocked": blocked,
}


def cue_conflict(shape_B4HW: Tensor, texture_B4HW: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """The outline of one picture filled with the middle of another (Geirhos et al., arXiv:1811.12231, whose pictures were made by style
    transfer).

    Args:
        shape_B4HW: RGBA; only its alpha is used.
        texture_B4HW: RGBA; the middle quarter, laid on the mean of its own opaque colours, is repeated two by two.
        fill: RGB around the outline.
    """
    height, width = shape_B4HW.shape[-2:]
    alpha = texture_B4HW[:, 3:].float() / 255
    rgb = texture_B4HW[:, :3].float()
    mean = (rgb * alpha).sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True).clamp(min=1e-6)
    laid = mean + alpha * (rgb - mean)
    inner_h, inner_w = (height + 1) // 2, (width + 1) // 2
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    tile = laid[..., top : top + inner_h, left : left + inner_w].repeat(1, 1, 2, 2)[..., :height, :width]
    ground = torch.tensor(fill, dtype=torch.float32, device=rgb.device)[:, None, None]
    inside = shape_B4HW[:, 3:].float() / 255
    return (ground + inside * (tile - ground)).round().clamp(0, 255).to(torch.uint8)
