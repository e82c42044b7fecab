"""FixMatch's unlabelled loss in float64, picture by picture."""

from __future__ import annotations

import math


def chances(logits):
    """Softmax."""
    top = max(logits)
    exp = [math.exp(x - top) for x in logits]
    return [x / sum(exp) for x in exp]


def consistency(weak, strong, threshold):
    """``threshold`` of each class."""
    total = 0.0
    for one, other in zip(weak, strong, strict=True):
        chance = chances(one)
        said = chance.index(max(chance))
        if chance[said] >= threshold[said]:
            total -= math.log(chances(other)[said])
    return total / len(weak)
