"""Naive float64 twin of E-SSL: SimCLR's contrast and the cross-entropy of four turns, each as loops (arXiv:2111.00899, section 3)."""

from __future__ import annotations

import math

import torch


def cosine(a: list[float], b: list[float]) -> float:
    length = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / length


def cross_entropy(logits: list[float], right: int) -> float:
    top = max(logits)
    return top + math.log(math.fsum(math.exp(z - top) for z in logits)) - logits[right]


def reference(image, text, concept, scale, bias, *, taps, weight=0.4, temperature=0.1) -> float:
    """All rows of all ranks."""
    rows = [*taps["z.0"], *taps["z.1"]]
    n, contrast, turn = len(taps["z.0"]), 0.0, 0.0
    for i, row in enumerate(rows):
        logits = [cosine(row, other) / temperature for other in rows]
        other = (i + n) % (2 * n)
        kept = [z for j, z in enumerate(logits) if j != i]
        contrast += cross_entropy(kept, other if other < i else other - 1) / (2 * n)
    for picture in taps["turn"]:
        for turns, logits in enumerate(picture):
            turn += cross_entropy(logits, turns) / (4 * n)
    return contrast + weight * turn


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of a head for two views, and four logits of each of four turns."""
    rows = {name: torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("z.0", "z.1")}
    return rows | {"turn": 2 * torch.randn(n, 4, 4, generator=draw, dtype=torch.float64)}


def flat(n: int) -> float:
    """The loss of rows that are all one point, with no turn more likely than another."""
    rows = [[1.0, 0.0]] * n
    return reference(None, None, None, 1.0, 0.0, taps={"z.0": rows, "z.1": rows, "turn": [[[0.0] * 4] * 4] * n})


OPTIONS = [{}, {"weight": 1.5, "temperature": 0.4}]
