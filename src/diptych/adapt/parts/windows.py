"""Windows of a picture, and rows of the picture as seen through one.

Shapes: N pictures, C channels, H height, V width, W windows, D joint width.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

BATCH = 256


def windows(grid: int, height: int, width: int) -> Tensor:
    """Boolean masks (W, H, V) of all rectangles of cells but the whole picture."""
    spans = [(a, b) for a in range(grid) for b in range(a + 1, grid + 1)]
    made = []
    for (top, bottom), (left, right) in itertools.product(spans, spans):
        if (bottom - top, right - left) != (grid, grid):
            mask_HV = torch.zeros(height, width, dtype=torch.bool)
            mask_HV[top * height // grid : bottom * height // grid, left * width // grid : right * width // grid] = True
            made.append(mask_HV)
    return torch.stack(made)


class Painter:
    """Rows of a model's pictures with all outside a mask painted over, or of what a mask's bounding box holds."""

    def __init__(self, model: DualEncoder, outside: Literal["black", "pad", "crop"]) -> None:
        self.model, self.outside = model, outside
        fill = (0, 0, 0) if outside == "black" else tuple(model.config.preprocess.fill)
        self.fill_CHV = torch.tensor(fill, dtype=torch.uint8, device=model.device)[:, None, None]

    def __call__(self, pixels_NCHV: Tensor, mask_NHV: Tensor) -> Tensor:
        """Unit rows (N, D) float32 of uint8 pictures, each under its own mask."""
        parts = zip(pixels_NCHV.split(BATCH), mask_NHV.split(BATCH), strict=True)
        return torch.cat([self.model.image_features(self.seen(pixels, mask)).float() for pixels, mask in parts])

    def seen(self, pixels_NCHV: Tensor, mask_NHV: Tensor) -> Tensor:
        """What the model is shown, uint8."""
        if self.outside != "crop":
            return torch.where(mask_NHV[:, None], pixels_NCHV, self.fill_CHV)
        size = pixels_NCHV.shape[-2:]
        cut = []
        for picture_CHV, mask_HV in zip(pixels_NCHV, mask_NHV, strict=True):
            rows, columns = mask_HV.any(1).nonzero()[:, 0], mask_HV.any(0).nonzero()[:, 0]
            part = picture_CHV[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float()
            cut.append(F.interpolate(part[None], size, mode="bilinear", align_corners=False)[0].round().to(torch.uint8))
        return torch.stack(cut)
