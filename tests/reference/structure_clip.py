"""Naive float64 twin of Structure-CLIP's loss: plain loops over plain lists, from arXiv:2305.06152, section 3."""

from __future__ import annotations

import math

import torch


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def contrast(rows, cols, concept, scale) -> float:
    """Mean over rows of the cross-entropy to the uniform distribution over the columns of an equal concept."""
    total = 0.0
    for i, row in enumerate(rows):
        logits = [scale * dot(row, v) for v in cols]
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
        positives = [j for j, c in enumerate(concept) if c == concept[i]]
        total -= math.fsum(logits[j] - log_sum for j in positives) / len(positives)
    return total / len(rows)


def reference(image, text, concept, scale, bias, *, taps, margin=0.2, weight=5.0) -> float:
    """All rows of all ranks as lists; returns the scalar loss. A common bias cancels in the softmax."""
    loss = (contrast(image, text, concept, scale) + contrast(text, image, concept, scale)) / 2
    for u, v, n, (there,) in zip(image, text, taps["swapped"], taps["has_swap"], strict=True):
        loss += weight * there * max(0.0, margin - dot(u, v) + dot(u, n)) / len(image)
    return loss


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    rows = torch.randn(n, 5, generator=draw, dtype=torch.float64)
    there = (torch.rand(n, 1, generator=draw, dtype=torch.float64) < 0.7).to(torch.float64)
    return {"swapped": rows / rows.norm(dim=1, keepdim=True), "has_swap": there}


OPTIONS = [{}, {"weight": 0.0}, {"margin": 1.0, "weight": 0.5}]
