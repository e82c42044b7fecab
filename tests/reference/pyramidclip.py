"""Naive float64 twin of PyramidCLIP's four contrasts (arXiv:2204.14095, section 3): plain loops over plain lists."""

from __future__ import annotations

import math

import torch


def unit_rows(n: int, d: int, draw: torch.Generator) -> torch.Tensor:
    rows = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    return {"local": unit_rows(n, 5, draw), "short": unit_rows(n, 5, draw)}


def direction(rows, cols, concept, scale, soften) -> float:
    total = 0.0
    for i, row in enumerate(rows):
        logits = [scale * math.fsum(a * b for a, b in zip(row, col, strict=True)) for col in cols]
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
        positive = [j for j in range(len(cols)) if concept[j] == concept[i]]
        negative = [j for j in range(len(cols)) if concept[j] != concept[i]]
        share = soften if negative else 0.0
        for j in positive:
            total -= (1.0 - share) / len(positive) * (logits[j] - log_sum)
        for j in negative:
            total -= share / len(negative) * (logits[j] - log_sum)
    return total / len(rows)


def reference(image, text, concept, scale, bias, *, taps, soften=0.1, cross=0.5) -> float:
    """``image`` and ``text`` are the global views and the full captions; the taps hold local views and summaries."""
    local, short = taps["local"], taps["short"]

    def contrast(a, b):
        return (direction(a, b, concept, scale, soften) + direction(b, a, concept, scale, soften)) / 2

    peer = (contrast(image, short) + contrast(local, text)) / 2
    across = (contrast(image, text) + contrast(local, short)) / 2
    return (1.0 - cross) * peer + cross * across


OPTIONS = [{}, {"soften": 0.0, "cross": 0.25}, {"soften": 0.3, "cross": 1.0}]


def flat(n: int) -> float:
    """The loss of rows that tell nothing."""
    same = [[1.0, 0.0]] * n
    return reference(same, same, list(range(n)), 1.0, None, taps={"local": same, "short": same})
