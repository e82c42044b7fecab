"""Contrast, elastic transform, pixelate and JPEG (Hendrycks and Dietterich, arXiv:1903.12261, section 4.1).

B pictures, C channels, H × W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from diptych.evaluate.corrupt.pixels import gaussian, sample
from diptych.evaluate.corrupt.settings import Constants


def contrast(image_BCHW: Tensor, c: Constants) -> Tensor:
    """Each channel pulled to its mean: (x − mean)·c + mean."""
    mean = image_BCHW.mean((2, 3), keepdim=True)
    return (image_BCHW - mean) * c[0] + mean


def draw_elastic(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """Jitter of three corners (pixels, x then y) and uniform values for the displacement (across, then down)."""
    count, _, height, width = image_BCHW.shape
    jitter = (torch.rand((count, 3, 2), generator=generator) * 2 - 1) * c[2] * min(height, width)
    return {"jitter_B32": jitter, "field_B2HW": torch.rand((count, 2, height, width), generator=generator) * 2 - 1}


def elastic_transform(image_BCHW: Tensor, c: Constants, jitter_B32: Tensor, field_B2HW: Tensor) -> Tensor:
    """A random affine map of three corners of a middle square, then every pixel moved by a smooth random field."""
    height, width = image_BCHW.shape[-2:]
    side, third = min(height, width), max(1, min(height, width) // 3)
    middle = torch.tensor([width // 2, height // 2])
    corner_32 = (middle + third * torch.tensor([[1, 1], [1, -1], [-1, -1]])).to(image_BCHW)
    moved_B32 = corner_32 + jitter_B32
    ones = torch.ones_like(moved_B32[..., :1])
    back_B32 = torch.linalg.lstsq(torch.cat([moved_B32, ones], 2).double(), corner_32.double().expand_as(moved_B32)).solution
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place_HW3 = torch.stack([x, y, torch.ones_like(x)], 2).to(back_B32)
    source_BHW2 = (place_HW3.view(1, -1, 3) @ back_B32).view(-1, height, width, 2).to(image_BCHW)
    turned = sample(image_BCHW, source_BHW2[..., 1], source_BHW2[..., 0], "mirror")
    move_B2HW = gaussian(field_B2HW, c[1] * side, "reflect", truncate=3) * (c[0] * side)
    return sample(turned, y + move_B2HW[:, 1], x + move_B2HW[:, 0], "reflect")


def pixelate(image_BCHW: Tensor, c: Constants) -> Tensor:
    """Made smaller to a share c of the side, truncated, and larger again, both by Pillow's box filter."""

    def one(image: Image.Image) -> Image.Image:
        small = max(1, int(image.width * c[0])), max(1, int(image.height * c[0]))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(image_BCHW, one)


def jpeg_compression(image_BCHW: Tensor, c: Constants) -> Tensor:
    """Written as JPEG of quality c (Pillow's settings otherwise) and read again."""

    def one(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(c[0]))
        return Image.open(buffer).convert("RGB")

    return _each(image_BCHW, one)


def _each(image_BCHW: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    levels = (image_BCHW * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    made = np.stack([np.asarray(change(Image.fromarray(one))) for one in levels])
    return torch.from_numpy(made).permute(0, 3, 1, 2).to(image_BCHW) / 255
