"""Blur, contrast, low-pass and high-pass filters. uint8 ``(B, C, H, W)`` in and out; B pictures, C channels, H × W pixels.

Source: Geirhos et al., Partial success in closing the gap between human and machine vision (arXiv:2106.07411), whose contrast, high-pass
and low-pass pictures the study of Mamba-CLIP uses. Theirs are Gaussian in space; here the passes are sharp disks in frequency space, so
that the radius means the same at every size, and low + high − mid-grey is the picture itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.evaluate.corrupt.pixels import gaussian

GREY = 0.5


def levels(image_BCHW: Tensor) -> Tensor:
    """uint8 of values 0–1, rounded; outside values are clipped."""
    return (image_BCHW.clamp(0, 1) * 255).round().to(torch.uint8)


def blur(image_BCHW: Tensor, share: float) -> Tensor:
    """A Gaussian whose deviation is ``share`` of the shorter side, edges repeated."""
    return levels(gaussian(image_BCHW.float() / 255, share * min(image_BCHW.shape[-2:])))


def contrast(image_BCHW: Tensor, factor: float) -> Tensor:
    """Every value pulled towards mid-grey: (x − ½)·factor + ½."""
    return levels((image_BCHW.float() / 255 - GREY) * factor + GREY)


def low(image_BCHW: Tensor, radius: float) -> Tensor:
    """Values 0–1, not clipped, of waves with at most ``radius`` cycles a picture (either side taken as the picture's length)."""
    height, width = image_BCHW.shape[-2:]
    down = torch.fft.fftfreq(height, 1 / height, device=image_BCHW.device)
    across = torch.fft.rfftfreq(width, 1 / width, device=image_BCHW.device)
    kept = (down[:, None] ** 2 + across**2) <= radius**2
    return torch.fft.irfft2(torch.fft.rfft2(image_BCHW.float() / 255) * kept, s=(height, width))


def low_pass(image_BCHW: Tensor, radius: float) -> Tensor:
    """Only waves of at most ``radius`` cycles a picture."""
    return levels(low(image_BCHW, radius))


def high_pass(image_BCHW: Tensor, radius: float) -> Tensor:
    """Only waves of more than ``radius`` cycles a picture, about mid-grey."""
    return levels(image_BCHW.float() / 255 - low(image_BCHW, radius) + GREY)
