"""What the corruptions share: borders, separable Gaussians, zooms, samples between pixels.

Shapes: B pictures, C channels, H × W pixels. Everything works for sides from 1 pixel on. Values are floats from 0 to 1.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["nearest", "reflect", "mirror"]
SLACK = 1e-3  # of a level: what is a whole level in exact arithmetic is not cut to the one below by rounding


def to_levels(image_BCHW: Tensor) -> Tensor:
    """uint8 of values 0–1, cut to the level below as the published code does; outside values are clipped."""
    return (image_BCHW.clamp(0, 1) * 255 + SLACK).to(torch.uint8)


def border(index: Tensor, side: int, mode: Border) -> Tensor:
    """Any integer positions brought into 0 … side − 1: ``nearest`` aaa|abcd|ddd, ``reflect`` cba|abcd|dcb, ``mirror`` dcb|abcd|cba."""
    if mode == "nearest" or side == 1:
        return index.clamp(0, side - 1)
    if mode == "reflect":
        folded = index.remainder(2 * side)
        return torch.minimum(folded, 2 * side - 1 - folded)
    folded = index.remainder(2 * side - 2)
    return torch.minimum(folded, 2 * side - 2 - folded)


def gaussian_matrix(side: int, sigma: float, mode: Border, truncate: float = 4.0) -> Tensor:
    """``(side, side)``: multiplies a column of pixels to blur it, the kernel cut at ``truncate`` deviations; the identity for sigma 0."""
    reach = int(truncate * sigma + 0.5)
    if reach == 0:
        return torch.eye(side)
    offset = torch.arange(-reach, reach + 1)
    weight = torch.exp(-0.5 * (offset.double() / sigma) ** 2)
    weight = weight / weight.sum()
    source = border(torch.arange(side)[:, None] + offset, side, mode)
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, source, weight.expand(side, -1)).float()


def gaussian(image_BCHW: Tensor, sigma: float, mode: Border = "nearest", truncate: float = 4.0) -> Tensor:
    """Blurred along both sides by a Gaussian of ``sigma`` pixels."""
    height, width = image_BCHW.shape[-2:]
    down = gaussian_matrix(height, sigma, mode, truncate).to(image_BCHW)
    across = gaussian_matrix(width, sigma, mode, truncate).to(image_BCHW)
    return down @ image_BCHW @ across.T


def correlate(image_BCHW: Tensor, kernel_KK: Tensor, mode: Border = "mirror") -> Tensor:
    """Every channel correlated with one square kernel of odd side."""
    reach = kernel_KK.shape[0] // 2
    height, width = image_BCHW.shape[-2:]
    rows, columns = (border(torch.arange(-reach, side + reach, device=image_BCHW.device), side, mode) for side in (height, width))
    padded = image_BCHW[..., rows, :][..., columns]
    flat = padded.reshape(-1, 1, *padded.shape[-2:])
    return F.conv2d(flat, kernel_KK.to(image_BCHW)[None, None]).view(image_BCHW.shape)


def clipped_zoom(image_BCHW: Tensor, factor: float) -> Tensor:
    """The middle enlarged ``factor`` ≥ 1 times, bilinearly with the corner pixels in place, at the same size."""
    height, width = image_BCHW.shape[-2:]
    inner = [math.ceil(side / factor) for side in (height, width)]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    cut = image_BCHW[..., top : top + inner[0], left : left + inner[1]]
    size = [round(side * factor) for side in inner]
    large = F.interpolate(cut, size=size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[..., top : top + height, left : left + width]


def sample(image_BCHW: Tensor, y_BHW: Tensor, x_BHW: Tensor, mode: Border) -> Tensor:
    """Bilinear samples of each picture at fractional pixel positions, pixel centres being whole numbers."""
    height, width = image_BCHW.shape[-2:]
    y0, x0 = y_BHW.floor(), x_BHW.floor()
    fy, fx = (y_BHW - y0)[:, None], (x_BHW - x0)[:, None]
    flat = image_BCHW.flatten(2)

    def at(dy: int, dx: int) -> Tensor:
        row, column = border(y0.long() + dy, height, mode), border(x0.long() + dx, width, mode)
        index = (row * width + column).flatten(1)[:, None].expand(-1, flat.shape[1], -1)
        return flat.gather(2, index).view(*image_BCHW.shape[:2], *y_BHW.shape[1:])

    return (at(0, 0) * (1 - fx) + at(0, 1) * fx) * (1 - fy) + (at(1, 0) * (1 - fx) + at(1, 1) * fx) * fy


def motion(image_BCHW: Tensor, angle_B: Tensor, radius: float, sigma: float) -> Tensor:
    """Blurred along a line that starts at each pixel: half a Gaussian over 2·radius + 1 whole-pixel steps, edges repeated.

    It is ImageMagick's motion blur, which the published code calls: step i reads the pixel ⌈i·cos − ½⌉ to the right and ⌈i·sin − ½⌉ below.

    Args:
        angle_B: degrees.
    """
    steps = torch.arange(2 * math.ceil(radius) + 1, dtype=torch.float64)
    weight = torch.exp(-(steps**2) / (2 * sigma**2))
    weight = weight / weight.sum()
    turn_B = torch.deg2rad(angle_B.double().cpu())
    down_BS = (steps * turn_B.sin()[:, None] - 0.5).ceil().long().to(image_BCHW.device)
    right_BS = (steps * turn_B.cos()[:, None] - 0.5).ceil().long().to(image_BCHW.device)
    height, width = image_BCHW.shape[-2:]
    flat, out = image_BCHW.flatten(2), torch.zeros_like(image_BCHW)
    rows = torch.arange(height, device=flat.device)
    columns = torch.arange(width, device=flat.device)
    for i, share in enumerate(weight.tolist()):
        y_BH = (rows + down_BS[:, i, None]).clamp(0, height - 1)
        x_BW = (columns + right_BS[:, i, None]).clamp(0, width - 1)
        index = (y_BH[:, :, None] * width + x_BW[:, None]).flatten(1)[:, None].expand(-1, flat.shape[1], -1)
        out += share * flat.gather(2, index).view(image_BCHW.shape)
    return out
