"""WAD in float64: likeness to each class's labelled pictures, labels, margins, and the loss of one round."""

from __future__ import annotations

import math


def dot(a, b):
    """Inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def told(image, label, free, text):
    """``(pseudo-label, margin)`` of each picture of the pool."""
    found = []
    for x in free:
        like = []
        for k in range(len(text)):
            mine = [dot(x, y) for y, own in zip(image, label, strict=True) if own == k]
            like.append(max(mine) if mine else dot(x, text[k]))
        first, second = sorted(like, reverse=True)[:2]
        found.append((like.index(first), first - second))
    return found


def loss(image, label, free, found, start, weight, bias, *, weigh, trust, ridge):
    """What a round minimises."""

    def cost(x, k):
        logits = [dot(x, w) + b for w, b in zip(weight, bias, strict=True)]
        top = max(logits)
        return top + math.log(sum(math.exp(a - top) for a in logits)) - logits[k]

    mean = sum(margin for _, margin in found) / len(found)
    own = sum(cost(x, k) for x, k in zip(image, label, strict=True)) / len(image)
    pool = sum((margin / mean if weigh else 1.0) * cost(x, k) for x, (k, margin) in zip(free, found, strict=True)) / len(free)
    pull = sum((a - b) ** 2 for w, s in zip(weight, start, strict=True) for a, b in zip(w, s, strict=True))
    return own + trust * pool + ridge / 2 * pull
