"""Gaussian, shot and impulse noise (Hendrycks and Dietterich, arXiv:1903.12261, section 4.1). B pictures, C channels, H × W pixels."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from diptych.evaluate.corrupt.settings import Constants


def draw_gaussian(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """Standard normal, one value a pixel and channel."""
    return {"normal_BCHW": torch.randn(image_BCHW.shape, generator=generator)}


def gaussian_noise(image_BCHW: Tensor, c: Constants, normal_BCHW: Tensor) -> Tensor:
    """x + c·z."""
    return image_BCHW + c[0] * normal_BCHW


def draw_shot(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """Poisson counts with mean c·x: photons that arrive where white gets c of them."""
    return {"count_BCHW": torch.poisson(image_BCHW * c[0], generator=generator)}


def shot_noise(image_BCHW: Tensor, c: Constants, count_BCHW: Tensor) -> Tensor:
    """Counts over c; the picture itself decides only their mean."""
    return count_BCHW / c[0]


def draw_impulse(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """Two uniform values a pixel and channel: whether it is replaced, and by what."""
    return {name: torch.rand(image_BCHW.shape, generator=generator) for name in ("replaced_BCHW", "salt_BCHW")}


def impulse_noise(image_BCHW: Tensor, c: Constants, replaced_BCHW: Tensor, salt_BCHW: Tensor) -> Tensor:
    """A share c of all values becomes 0 or 1, both as often."""
    return torch.where(replaced_BCHW < c[0], (salt_BCHW < 0.5).to(image_BCHW), image_BCHW)
