"""LoRA's matrix and the loss against the words in float64, as loops."""

from __future__ import annotations

import math


def matrix(weight, up, down, *, alpha):
    """``weight + alpha / rank * up @ down`` of one matrix; plain lists of rows."""
    rank = len(down)
    return [[w + alpha / rank * sum(up[o][r] * down[r][i] for r in range(rank)) for i, w in enumerate(row)] for o, row in enumerate(weight)]


def loss(image, text, label, scale):
    """Mean cross-entropy of scaled similarities of unit rows."""
    total = 0.0
    for x, y in zip(image, label, strict=True):
        logits = [scale * sum(a * b for a, b in zip(x, words, strict=True)) for words in text]
        top = max(logits)
        total += top + math.log(sum(math.exp(value - top) for value in logits)) - logits[y]
    return total / len(label)
