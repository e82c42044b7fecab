"""Nearest class mean in float64, as a loop."""

from __future__ import annotations

import math


def logits(image, label, text, scale, rows, *, share):
    """``logits[n][k]`` of ``rows`` from labelled ``image`` rows; plain lists of floats."""
    found = []
    means = []
    for k in range(len(text)):
        mine = [x for x, y in zip(image, label, strict=True) if y == k] or [text[k]]
        mean = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
        length = math.sqrt(sum(v * v for v in mean))
        means.append([v / length for v in mean])
    for x in rows:
        found.append([])
        for k in range(len(text)):
            mixed = [(1 - share) * t + share * m for t, m in zip(text[k], means[k], strict=True)]
            found[-1].append(scale * sum(a * b for a, b in zip(x, mixed, strict=True)))
    return found
