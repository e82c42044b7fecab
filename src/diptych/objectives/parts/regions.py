"""Regions of a picture and their texts (``meta["boxes"]`` and ``meta["regions"]``): what the objectives on boxes share.

Shapes: B rows of this rank, N rows of all ranks, R regions a row, Q further rows a picture (queries), T tokens, D width.
"""

from __future__ import annotations

import math
import random
import zlib

import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.core.types import Words
from diptych.towers.see import See

MOST = 4  # regions a picture, at most; further ones are left out
LEAST_AREA = 1e-4  # share of the picture that a region must show; padding has none
BANDS = 6  # octaves of sines and cosines that tell a place
HASH = 1 << 20  # numbers of texts stay exact in float32


def _named(words: Words) -> list[tuple[list[float], str]]:
    """At most four (box, text), the first of the sample's."""
    if "boxes" not in words.meta or "regions" not in words.meta:
        why = f"sample {words.id!r} says no boxes and regions in its metadata"
        raise UsageError("an objective on regions", why, "Train on data with boxes, such as scenes/train")
    return list(zip(words.meta["boxes"], words.meta["regions"], strict=True))[:MOST]


def boxes(words: Words, draw: random.Random) -> list[list[float]]:
    """The boxes, filled up with empty ones."""
    found = [list(box) for box, _ in _named(words)]
    return found + [[0.0] * 4] * (MOST - len(found))


def texts(words: Words, draw: random.Random) -> tuple[str, ...]:
    """The regions' texts, filled up with ""."""
    found = [text for _, text in _named(words)]
    return (*found, *[""] * (MOST - len(found)))


def numbers(words: Words, draw: random.Random) -> list[float]:
    """A number for each region's text; equal texts have equal numbers."""
    return [float(zlib.crc32(text.encode()) % HASH) for text in texts(words, draw)]


def there(box_BR4: Tensor) -> Tensor:
    """Which boxes show something, (B, R)."""
    return (box_BR4[..., 2] - box_BR4[..., 0]) * (box_BR4[..., 3] - box_BR4[..., 1]) > LEAST_AREA


def grid_of(see: See, tokens_BTD: Tensor, objective: str) -> tuple[int, int]:
    """Rows and columns of the patch tokens. Raises :class:`UsageError` where a token method or the tower leaves no square grid."""
    side = math.isqrt(tokens_BTD.shape[1])
    if see.tokens is not None:
        raise UsageError(f"objective {objective!r} with a token method", "boxes are found on the whole grid of patches", "Leave out one")
    if side * side != tokens_BTD.shape[1]:
        why = f"its {tokens_BTD.shape[1]} patch tokens are no square grid"
        raise UsageError(f"objective {objective!r}", why, "Use a model with square pictures")
    return side, side


def fourier(share: Tensor, bands: int) -> Tensor:
    """Sine and cosine of π·2^k of each coordinate in 0…1, k below ``bands``: (…, n) → (…, 2·n·bands)."""
    turns = share[..., None] * (math.pi * 2.0 ** torch.arange(bands, device=share.device, dtype=share.dtype))
    return torch.cat([turns.sin(), turns.cos()], dim=-1).flatten(-2)


def centres(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Middle of each patch, (T, 2) as x, y in 0…1, row by row."""
    y, x = (((torch.arange(n, device=device) + 0.5) / n) for n in grid)
    return torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], dim=1)


def equal_texts(row_BR: Tensor, column_NR: Tensor, there_BR: Tensor, there_NR: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and columns that count for :func:`contrast`, (B, R, N·R) each: regions of an equal number; every region that is there."""
    counts_BRM = there_NR.flatten().expand(*there_BR.shape, -1)
    return (row_BR[..., None] == column_NR.flatten()) & counts_BRM, counts_BRM


def contrast(
    rows_BRD: Tensor, cols_NRD: Tensor, same_BRM: Tensor, counts_BRM: Tensor, there_BR: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Softmax contrast of each region row with all regions' columns, and the share of rows whose best column is a positive.

    A picture's loss is the mean over its regions, 0 where it shows none; then the mean over pictures.

    Args:
        same_BRM, counts_BRM: positives, among which the target is even, and what else stands in the denominator; M = N·R columns.
        there_BR: which rows count.
    """
    wide = torch.promote_types(rows_BRD.dtype, torch.float32)
    logits_BRM = scale.to(wide) * torch.einsum("brd,md->brm", rows_BRD.to(wide), cols_NRD.flatten(0, 1).to(wide))
    logits_BRM = logits_BRM.masked_fill(~counts_BRM, torch.finfo(wide).min / 2)
    same_BRM = same_BRM & there_BR[..., None]
    share_BRM = same_BRM.to(wide) / same_BRM.sum(-1, keepdim=True).clamp_min(1)
    loss_BR = -(share_BRM * torch.where(same_BRM, logits_BRM.log_softmax(-1), 0.0)).sum(-1)
    best_BR = same_BRM.gather(-1, logits_BRM.detach().argmax(-1, keepdim=True))[..., 0]
    return mean_of_regions(loss_BR, there_BR), mean_of_regions(best_BR.to(wide), there_BR)


def mean_of_regions(value_BR: Tensor, there_BR: Tensor) -> Tensor:
    """Mean over the regions of each picture that count (0 where none does), then over pictures."""
    weight_BR = there_BR.to(value_BR.dtype)
    return ((value_BR * weight_BR).sum(1) / weight_BR.sum(1).clamp_min(1.0)).mean()
