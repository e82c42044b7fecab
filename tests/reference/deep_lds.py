"""The loss of low-density separation in float64, one separation a class, picture by picture."""

from __future__ import annotations

import math


def loss(image, label, free, weight, *, strength, cost):
    """At the last stage, of rows as they are."""
    width, classes = len(image[0]), len(weight)
    middle = [sum(x[d] for x in free) / len(free) for d in range(width)]
    total = 0.0
    for k in range(classes):

        def answer(x, k=k):
            return sum(w * (a - m) for w, a, m in zip(weight[k], x, middle, strict=True)) + 2 / classes - 1

        total += sum(w * w for w in weight[k]) / 2
        for x, own in zip(image, label, strict=True):
            total += strength * max(0.0, 1 - (1 if own == k else -1) * answer(x)) ** 2
        for x in free:
            total += cost * strength * len(image) / len(free) * math.exp(-3 * answer(x) ** 2)
    return total
