"""Tip-Adapter without training in float64, as a loop."""

from __future__ import annotations

import math


def logits(image, label, text, scale, rows, *, alpha, beta):
    """``logits[n][k]`` of ``rows``; plain lists of floats."""
    found = []
    for x in rows:
        found.append([scale * sum(a * b for a, b in zip(x, t, strict=True)) for t in text])
        for key, y in zip(image, label, strict=True):
            found[-1][y] += alpha * math.exp(-beta * (1 - sum(a * b for a, b in zip(x, key, strict=True))))
    return found
