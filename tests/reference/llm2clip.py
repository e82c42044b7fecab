"""Naive float64 twin of caption-to-caption contrast: plain loops over plain lists, from arXiv:2411.04997 and arXiv:2104.08821."""

from __future__ import annotations

import math

import torch


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def one_way(rows, cols, concept, scale) -> float:
    total = 0.0
    for i, row in enumerate(rows):
        logits = [scale * dot(row, v) for v in cols]
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(z - top) for z in logits))
        positives = [j for j, c in enumerate(concept) if c == concept[i]]
        total += math.fsum(log_sum - logits[j] for j in positives) / len(positives)
    return total / len(rows)


def reference(image, text, concept, scale_of_the_model, bias, *, taps, scale=50.0) -> float:
    """All rows of all ranks as lists; pictures and the model's scale take no part."""
    return (one_way(text, taps["other"], concept, scale) + one_way(taps["other"], text, concept, scale)) / 2


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    rows = torch.randn(n, 5, generator=draw, dtype=torch.float64)
    return {"other": rows / rows.norm(dim=1, keepdim=True)}


def flat(n: int) -> float:
    """All captions are one row."""
    rows = [[1.0, 0.0]] * n
    return reference(rows, rows, list(range(n)), 1.0, 0.0, taps={"other": rows})


OPTIONS = [{}, {"scale": 5.0}]
