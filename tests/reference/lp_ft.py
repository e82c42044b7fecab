"""LP-FT's loss in float64, as loops: a linear head on unit rows."""

from __future__ import annotations

import math


def loss(image, weight, bias, label):
    """Mean cross-entropy of ``image @ weight.T + bias``."""
    total = 0.0
    for x, y in zip(image, label, strict=True):
        logits = [sum(a * b for a, b in zip(x, row, strict=True)) + shift for row, shift in zip(weight, bias, strict=True)]
        top = max(logits)
        total += top + math.log(sum(math.exp(value - top) for value in logits)) - logits[y]
    return total / len(label)
