"""Naive float64 twin of MaskEmbed's loss: squared errors one by one (arXiv:2410.11087, section 3)."""

from __future__ import annotations

import torch


def reference(image, text, concept, scale, bias, *, taps, pooled_weight=0.0) -> float:
    """The mean over pictures, views, tokens and dimensions, and that of the pooled rows."""
    total, count = 0.0, 0
    for told, seen in zip(taps["told"], taps["seen"], strict=True):
        for told_view, seen_view in zip(told, seen, strict=True):
            for told_token, seen_token in zip(told_view, seen_view, strict=True):
                for a, b in zip(told_token, seen_token, strict=True):
                    total, count = total + (a - b) ** 2, count + 1
    loss, total, kept = total / count, 0.0, 0
    for mine, theirs in zip(taps["row"], taps["row_seen"], strict=True):
        for a, b in zip(mine, theirs, strict=True):
            total, kept = total + (a - b) ** 2, kept + 1
    return loss + pooled_weight * total / kept


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    shapes = {"told": (n, 3, 4, 2), "seen": (n, 3, 4, 2), "row": (n, 2), "row_seen": (n, 2)}
    return {name: torch.randn(*shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}


STOPPED = frozenset({"seen", "row_seen"})  # the teacher's
OPTIONS = [{}, {"pooled_weight": 2.0}]
