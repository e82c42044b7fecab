"""What the objectives on augmented views share: the views by default, their pooled rows, and how far rows have collapsed.

Shapes: B rows, C channels, H height, W width (of the tower where it follows B), D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import UsageError
from diptych.data.augment import Augment
from diptych.towers.see import See

SIMCLR_VIEW = Augment(
    crop_area=(0.2, 1.0),
    crop_ratio=(3 / 4, 4 / 3),
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grayscale=0.2,
    background=0.5,
)
"""SimCLR's view for small pictures (arXiv:2002.05709, appendix B.9: colour strength 0.5, no blur), adapted to drawings.

A crop keeps at least 0.2 of the area instead of 0.08, since a drawing's corner is empty; colours change in every view instead of in
0.8 of them; half of the views lie on a random ground, which is not the drawing's.
"""


def pooled_views(see: See, count: int, *, model: Any = None) -> list[Tensor]:
    """Pooled rows (B, W), before the projection, of each of ``view.0`` … ``view.{count - 1}``, in one pass of the image tower.

    Args:
        model: whose tower; the trained model's by default, which alone uses the run's token method.

    Raises:
        UsageError: the run has fewer views.
    """
    names = [f"view.{index}" for index in range(count)]
    missing = [name for name in names if name not in see.extra]
    if missing:
        raise UsageError("data.views", f"the objective takes {count} views, {missing[0]!r} is missing", f"Give {count} of them")
    pixels_BCHW = torch.cat([see.extra[name] for name in names])
    tokens = see.tokens if model is None else None
    if tokens is not None and hasattr(tokens, "look"):
        tokens.look(replace(see, image_BCHW=pixels_BCHW))  # type: ignore[attr-defined]
    model = see.model if model is None else model
    pooled_BW, _ = model.image(model.normalise(pixels_BCHW), tokens=tokens)
    return list(pooled_BW.chunk(count))


def each(head: Callable[[Tensor], Tensor], rows: list[Tensor], name: str = "z") -> dict[str, Tensor]:
    """``head`` of each view's rows, as ``z.0``, ``z.1`` …; a batch norm sees one view at a time."""
    return {f"{name}.{index}": head(row_BW) for index, row_BW in enumerate(rows)}


def wide(x: Tensor) -> Tensor:
    """The same numbers in float32, or as they are where they are wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def spread(z_BD: Tensor) -> Tensor:
    """Mean standard deviation of the unit rows' coordinates, times √D: 1 for rows all over the sphere, 0 where all are one point."""
    unit_BD = F.normalize(wide(z_BD.detach()), dim=1)
    return unit_BD.var(0, unbiased=False).clamp_min(0).sqrt().mean() * z_BD.shape[1] ** 0.5
