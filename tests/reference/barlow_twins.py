"""Naive float64 twin of Barlow Twins: equations 1 and 2 of arXiv:2103.03230 as loops over pairs of coordinates."""

from __future__ import annotations

import math

import torch

EPS = 1e-5


def standard(column: list[float]) -> list[float]:
    mean = math.fsum(column) / len(column)
    variance = math.fsum((x - mean) ** 2 for x in column) / len(column)
    return [(x - mean) / math.sqrt(variance + EPS) for x in column]


def reference(image, text, concept, scale, bias, *, taps, off_diagonal=0.005) -> float:
    """All rows of all ranks."""
    first = [standard(list(column)) for column in zip(*taps["z.0"], strict=True)]
    second = [standard(list(column)) for column in zip(*taps["z.1"], strict=True)]
    total = 0.0
    for d, a in enumerate(first):
        for e, b in enumerate(second):
            correlation = math.fsum(x * y for x, y in zip(a, b, strict=True)) / len(a)
            total += (1 - correlation) ** 2 if d == e else off_diagonal * correlation**2
    return total


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of a head for two views; not normalised."""
    return {name: torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("z.0", "z.1")}


OPTIONS = [{}, {"off_diagonal": 0.2}]
