"""MoCoOp in float64: the router, the mixture and the three losses as loops over lists of unit rows."""

from __future__ import annotations

import math


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(row):
    top = max(row)
    parts = [math.exp(x - top) for x in row]
    return [part / sum(parts) for part in parts]


def gate(image, router, router_bias):
    """A number for each group."""
    return [dot(w, image) + b for w, b in zip(router, router_bias, strict=True)]


def best(row, top):
    """The groups of the greatest numbers."""
    return sorted(range(len(row)), key=lambda g: -row[g])[:top]


def logits(image, soft, gates, scale, top):
    """``logits[k]`` of one picture by class rows ``soft[g][k]``."""
    chosen = best(gates, top)
    weights = softmax([gates[g] for g in chosen])
    found = []
    for k in range(len(soft[0])):
        mixed = [sum(w * soft[g][k][d] for w, g in zip(weights, chosen, strict=True)) for d in range(len(image))]
        found.append(scale * dot(image, mixed))
    return found


def gate_loss(image, label, hard, gates, top):
    """Of one picture: cross-entropy of the gate against the templates' similarities, the best ones raised by 10."""
    alike = [dot(image, group[label]) for group in hard]
    chosen = best(alike, top)
    wanted = softmax([x + (10 if g in chosen else 0) for g, x in enumerate(alike)])
    return -sum(w * math.log(p) for w, p in zip(wanted, softmax(gates), strict=True))


def text_loss(soft, hard):
    """Mean over groups and classes."""
    parts = []
    for mine, theirs in zip(soft, hard, strict=True):
        for k, row in enumerate(mine):
            parts.append(-math.log(softmax([dot(row, other) for other in theirs])[k]))
    return sum(parts) / len(parts)


def loss(image, label, soft, hard, router, router_bias, scale, top, guide, text):
    """The whole one over a batch."""
    total = 0.0
    for x, k in zip(image, label, strict=True):
        gates = gate(x, router, router_bias)
        total -= math.log(softmax(logits(x, soft, gates, scale, top))[k])
        total += guide * gate_loss(x, k, hard, gates, top)
    return total / len(image) + text * text_loss(soft, hard)
