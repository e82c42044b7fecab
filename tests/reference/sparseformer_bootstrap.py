"""Naive float64 twin of the bootstrap's alignment (arXiv:2312.01987, section 3): one minus the cosine with the teacher, mean over rows."""

from __future__ import annotations

import math

import torch


def reference(image, text, concept, scale, bias, *, taps) -> float:
    total = 0.0
    for row, told in zip(image, taps["teacher"], strict=True):
        lengths = math.sqrt(math.fsum(x * x for x in row)) * math.sqrt(math.fsum(y * y for y in told))
        total += 1.0 - math.fsum(x * y for x, y in zip(row, told, strict=True)) / lengths
    return total / len(image)


def material(n: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of the teacher."""
    return {"teacher": torch.randn(n, 5, generator=draw, dtype=torch.float64)}


def flat(n: int) -> float:
    """The value where the tower's rows stand at right angles to the teacher's."""
    return reference([[1.0, 0.0]] * n, None, None, 1.0, None, taps={"teacher": [[0.0, 1.0]] * n})


OPTIONS = [{}]
