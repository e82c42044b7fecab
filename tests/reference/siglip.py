"""Naive float64 twin of the SigLIP loss: equation 1 of arXiv:2303.15343 as two loops."""

from __future__ import annotations

import math


def reference(image, text, concept, scale, bias) -> float:
    """All rows of all ranks as lists; returns the scalar loss, divided by the number of rows."""
    total = 0.0
    for x, c in zip(image, concept, strict=True):
        for y, d in zip(text, concept, strict=True):
            z = 1.0 if c == d else -1.0
            margin = z * (scale * math.fsum(a * b for a, b in zip(x, y, strict=True)) + bias)
            total += math.log1p(math.exp(-abs(margin))) + max(-margin, 0.0)
    return total / len(image)


OPTIONS = [{}]
