"""CLIP-Adapter's forward pass and loss in float64, as loops."""

from __future__ import annotations

import math


def logits(text, scale, rows, *, down, up, ratio):
    """``logits[n][k]`` of ``rows`` through the bottleneck; plain lists of floats."""
    found = []
    for x in rows:
        hidden = [max(0.0, sum(a * b for a, b in zip(weights, x, strict=True))) for weights in down]
        new = [max(0.0, sum(a * b for a, b in zip(weights, hidden, strict=True))) for weights in up]
        row = [ratio * n + (1 - ratio) * old for n, old in zip(new, x, strict=True)]
        length = math.sqrt(sum(v * v for v in row))
        found.append([scale * sum(v / length * t for v, t in zip(row, words, strict=True)) for words in text])
    return found


def loss(answers, label):
    """Mean cross-entropy of ``logits``."""
    total = 0.0
    for row, y in zip(answers, label, strict=True):
        top = max(row)
        total += top + math.log(sum(math.exp(v - top) for v in row)) - row[y]
    return total / len(label)
