"""Patches against pixels: what a grid of patch tokens covers of boxes and masks, and unit rows of patches.

Boxes are (left, top, right, bottom) in 0…1 of the picture; the grid covers the whole picture, row by row.
Shapes: P patches, S patches a side, H and W of a picture, R boxes, E the tower's width, D joint width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.data.pictograms.bench_scenes import decode_mask


def side_of(patches: int, name: str) -> int:
    """S of a square grid. Raises :class:`UsageError` where the tokens are no square."""
    side = math.isqrt(patches)
    if side * side != patches:
        raise UsageError(f"model {name!r}", f"its {patches} patch tokens are no square grid", "Leave this protocol out")
    return side


def rows(model: Any, token_PE: Tensor) -> Tensor:
    """Unit rows ``(…, D)`` of tokens ``(…, E)``, by the model's own projection into the joint space."""
    parameter = next(model.image_projection.parameters(), None)
    with torch.no_grad():
        projected = model.image_projection(token_PE if parameter is None else token_PE.to(parameter))
    return F.normalize(projected.float(), dim=-1).cpu()


def cover(box_R4: Tensor, side: int) -> Tensor:
    """``weight_RP``: the share of each patch that a box covers."""
    low_S = torch.arange(side, dtype=torch.float64) / side
    across_RS, down_RS = (
        (torch.minimum(box_R4[:, i + 2, None], low_S + 1 / side) - torch.maximum(box_R4[:, i, None], low_S)).clamp_min(0) * side
        for i in (0, 1)
    )
    return (down_RS[:, :, None] * across_RS[:, None, :]).flatten(1)


def counts(label_HW: np.ndarray, side: int, labels: int) -> np.ndarray:
    """``count_PL``: how much of each patch has each label from 0 to L − 1, as a share.

    A picture whose sides are no multiple of S is cut exactly: pixels on a border count in part.
    """
    height, width = label_HW.shape
    down, across = side // math.gcd(height, side), side // math.gcd(width, side)
    fine = np.repeat(np.repeat(label_HW, down, 0), across, 1)
    rows_of, columns = fine.shape[0] // side, fine.shape[1] // side
    cut = fine.reshape(side, rows_of, side, columns).transpose(0, 2, 1, 3).reshape(side * side, -1)
    return np.stack([(cut == label).mean(1) for label in range(labels)], 1)


def boxes_of(sample: Sample) -> Tensor:
    """``box_R4`` float64 of a sample. Raises :class:`UsageError` where its boxes are none."""
    told = sample.meta.get("boxes")
    box_R4 = torch.tensor(told if isinstance(told, list | tuple) and all(len(b) == 4 for b in told) else [], dtype=torch.float64)
    good = len(box_R4) > 0 and bool(((box_R4 >= 0) & (box_R4 <= 1)).all()) and bool((box_R4[:, 2:] > box_R4[:, :2]).all())
    if not good or len(box_R4) != len(sample.meta.get("regions") or ()):
        why = "its meta has no boxes (left, top, right, bottom in 0…1) with as many regions"
        raise UsageError(f"sample {sample.id}", why, 'Write "boxes": [[l, t, r, b], …] and "regions": [name, …] into its JSON')
    return box_R4


def mask_of(sample: Sample, told: Any) -> np.ndarray:
    """A sample's mask from COCO's run lengths. Raises :class:`UsageError` where they are none."""
    try:
        return decode_mask(told)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"sample {sample.id}", f"a mask cannot be read ({error})", "Give COCO's uncompressed run lengths") from error


def classes_of(sample: Sample, classes: Sequence[str]) -> Tensor:
    """int64 class of each region. Raises :class:`UsageError` for a region that is no class."""
    known = {name: k for k, name in enumerate(classes)}
    for name in sample.meta["regions"]:
        if name not in known:
            raise UsageError(f"sample {sample.id}", f"its region {name!r} is no class of the set", "Name regions as the classes are named")
    return torch.tensor([known[name] for name in sample.meta["regions"]])
