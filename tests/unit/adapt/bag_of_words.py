"""A world of words for methods that write texts: a text's row is the unit sum of its words' rows, each drawn from the word alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.rng import generator

WIDTH = 48


@functools.cache
def word(one: str) -> torch.Tensor:
    """The unit row of a word."""
    return F.normalize(torch.randn(WIDTH, generator=generator(0, "word", one.casefold())), dim=0)


def encode(texts: Sequence[str]) -> torch.Tensor:
    """Unit rows (N, WIDTH)."""
    return torch.stack([F.normalize(sum((word(one) for one in re.findall(r"\w+", text)), torch.zeros(WIDTH)), dim=0) for text in texts])


def shots_of(classes: Sequence[str], image_SD: torch.Tensor | None = None, label_S: Sequence[int] = (), **more) -> Shots:
    """Shots whose words are this world's; without pictures where none are given."""
    images = torch.zeros(0, WIDTH) if image_SD is None else image_SD
    draw = generator(more.pop("seed", 0), "bag of words")
    text_KD = encode([template.replace("{}", name) for name in classes for template in more.get("templates", ("{}",))])
    text_KD = F.normalize(text_KD.unflatten(0, (len(classes), -1)).mean(1), dim=1)
    return Shots(images, torch.tensor(label_S, dtype=torch.int64), text_KD, tuple(classes), 20.0, draw, encode=encode, **more)


def seen(texts: Sequence[str], spread: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Rows of pictures of what the texts say, scattered."""
    rows = encode(texts)
    return F.normalize(rows + spread * torch.randn(rows.shape, generator=generator(seed, "seen")) / WIDTH**0.5, dim=1)
