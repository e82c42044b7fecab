"""Prompt ensembling in float64: the mean of a class's prompt rows, made unit, dotted with the picture."""

from __future__ import annotations

import math


def logits(prompts, scale, rows):
    """``logits[n][k]`` of ``rows``; ``prompts[k]`` are the unit rows of class k's prompts, plain lists of floats."""
    found = []
    for x in rows:
        found.append([])
        for mine in prompts:
            mean = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
            length = math.sqrt(sum(v * v for v in mean))
            found[-1].append(scale * sum(a * b for a, b in zip(x, mean, strict=True)) / length)
    return found
