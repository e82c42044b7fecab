"""Views of one picture, and the prompt that is tuned by them: what TPT and RLCF share.

Shapes: V views, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.adapt.parts.stream import plain
from diptych.adapt.parts.work import cropped
from diptych.core.rng import generator

WORDS = "a photo of a"


def prompt(templates: Sequence[str]) -> tuple[str, str]:
    """What stands before the class, and the class with what follows it, of the first template that has words before it."""
    told = [one.split("{}", 1) for one in plain(templates)]
    before, after = next(((a, b) for a, b in told if a.strip()), (WORDS, "."))
    return before.strip(), "{}" + after


def views_of(picture_CHW: Tensor, count: int, crop: float, seed: int) -> Tensor:
    """The picture and ``count - 1`` crops of it, uint8 (count, C, H, W); the same seed cuts every picture alike."""
    draw = generator(seed, "views of a picture")
    many_VCHW = picture_CHW.expand(count - 1, *picture_CHW.shape)
    return torch.cat([picture_CHW[None], cropped(many_VCHW, draw, crop)]) if count > 1 else picture_CHW[None]
