"""Two views of pictures and a loss that holds them together, for methods that train with self-supervision.

Shapes: B pictures, C channels, H height, W width, D joint width, N rows.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from diptych.data.augment import Augment, apply, draw

COLOURED = Augment(
    crop_area=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grayscale=0.2
)
CHANGED = Augment(scale=(0.8, 1.25), shift=0.1, brightness=0.3, contrast=0.3, saturation=0.3)
CROPPED = Augment(crop_area=(0.5, 1.0), flip=0.5)


def contrastive(one_BD: Tensor, other_BD: Tensor, temperature: float = 0.1) -> Tensor:
    """NT-Xent of unit rows (SimCLR, arXiv:2002.05709, equation 1): each row finds its other among all rows but itself."""
    every_ND = torch.cat([one_BD, other_BD])
    alike_NN = (every_ND @ every_ND.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(alike_NN, torch.arange(len(every_ND), device=every_ND.device).roll(len(one_BD)))


def two_views(pixels_BCHW: Tensor, numbers: Generator) -> tuple[Tensor, Tensor]:
    """MoCo v3's view and AugMix's (arXiv:1912.02781, algorithm 1) of uint8 pictures.

    The first is cropped, mirrored, changed in colour or made grey, without MoCo v3's blur; the second is three changed pictures in random
    shares, mixed with the cropped picture they were made of.
    """
    count = len(pixels_BCHW)
    first = apply(pixels_BCHW, draw(COLOURED, count, numbers))
    cropped = apply(pixels_BCHW, draw(CROPPED, count, numbers))
    share_B3 = -torch.rand(count, 3, generator=numbers).clamp(min=1e-6).log()
    share_B3 = share_B3 / share_B3.sum(1, keepdim=True)
    mixed = torch.zeros(pixels_BCHW.shape)
    for i in range(3):
        mixed = mixed + share_B3[:, i, None, None, None] * apply(cropped, draw(CHANGED, count, numbers)).cpu()
    kept_B111 = torch.rand(count, 1, 1, 1, generator=numbers)
    return first, (kept_B111 * cropped.cpu() + (1 - kept_B111) * mixed).round().to(torch.uint8).to(pixels_BCHW.device)
