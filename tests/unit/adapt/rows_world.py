"""A small world of rows with known classes, for the tests of methods that adapt from them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.rng import generator


def world(
    counts: Sequence[int] = (6, 6, 6, 6),
    *,
    width: int = 8,
    spread: float = 0.25,
    text: float = 0.5,
    free: int = 40,
    unknown: int = 0,
    gap: float = 0.0,
    scale: float = 10.0,
    seed: int = 0,
) -> tuple[Shots, Tensor, Tensor, Tensor]:
    """Classes around random directions, words near them, and pictures of three kinds.

    Args:
        counts: labelled pictures of each class.
        spread: of the pictures around their class.
        text: how far the words are from their class.
        free: pictures without labels, evenly of all classes.
        unknown: further ones among them, of classes that have no name.
        gap: how far all words lie from all pictures, along one direction.

    Returns:
        Shots with the pool; 200 further pictures of each class; their labels; labels of the pool, −1 for unknown ones.
    """
    draw = generator(seed, "rows world")
    classes = len(counts)
    centre_CD = F.normalize(torch.randn(classes + 4, width, generator=draw), dim=1)
    gap_D = gap * F.normalize(torch.randn(width, generator=draw), dim=0)

    def pictures(label_N: Tensor) -> Tensor:
        return F.normalize(centre_CD[label_N] + gap_D + spread * torch.randn(len(label_N), width, generator=draw), dim=1)

    label_S = torch.repeat_interleave(torch.arange(classes), torch.tensor(counts))
    text_KD = F.normalize(centre_CD[:classes] - gap_D + text * torch.randn(classes, width, generator=draw), dim=1)
    names = tuple(f"class {k}" for k in range(classes))
    pool_U = torch.cat([torch.arange(free) % classes, classes + torch.arange(unknown) % 4])
    asked_N = torch.arange(classes).repeat_interleave(200)

    def encode(texts: Sequence[str]) -> Tensor:
        """Each text has a row of its own near that of the class it begins with, or of no class."""
        rows = []
        for one in texts:
            own = generator(int(sha256(one.encode()).hexdigest()[:8], 16), "text")
            named = next((k for k, name in enumerate(names) if name in one), None)
            base_D = torch.zeros(width) if named is None else centre_CD[named] - gap_D
            rows.append(F.normalize(base_D + text * torch.randn(width, generator=own), dim=0))
        return torch.stack(rows) if rows else torch.zeros(0, width)

    image_SD = pictures(label_S)
    captions = tuple((f"{names[int(k)]}, picture {i}",) for i, k in enumerate(label_S))
    shots = Shots(
        image_SD, label_S, text_KD, names, scale, generator(seed, "rows draw"), pictures(pool_U), captions, ("a picture of {}",), encode
    )
    return shots, pictures(asked_N), asked_N, torch.where(pool_U < classes, pool_U, -1)


def right(logits_NK: Tensor, label_N: Tensor) -> float:
    """Share of pictures whose highest logit is their label's."""
    return float((logits_NK.argmax(1) == label_N).double().mean())
